"""From a model's name to a verdict: atlas, choice of layer, experiment, verdict and report, resumable throughout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heartstrings import (
    behaviours,
    corpus,
    engines,
    experiment,
    geometry,
    judges,
    organisms,
    report,
    stats,
    vectors,
    verdict,
)
from heartstrings.core.errors import InputError
from heartstrings.core.storage import write_text
from heartstrings.engines.hf.named import has_template
from heartstrings.experiment.looks import VERDICT, look_of, next_look
from heartstrings.experiment.plan import Plan, searched_layers
from heartstrings.experiment.plan_directions import check_against_vectors, check_emotions
from heartstrings.experiment.plan_files import freeze, frozen, preset
from heartstrings.vectors.bundle import main_bundle
from heartstrings.workflows.atlas import (
    Atlas,
    AtlasSettings,
    check_loaded,
    folders_of,
    name_of,
    no_story,
    opened,
    run_atlas,
)
from heartstrings.workflows.values import Progress, checked, doses_of, names_of, path_of, silent, whole_numbers

if TYPE_CHECKING:
    from heartstrings.behaviours.roles import Suite
    from heartstrings.core.engine import Engine
    from heartstrings.experiment.controls import DirectionSet
    from heartstrings.experiment.dry_run import DryRun
    from heartstrings.experiment.ledger import Kind, Sample, SampleLedger
    from heartstrings.geometry import Geometry
    from heartstrings.geometry.readout_results import OwnEmotion
    from heartstrings.judges import Budget
    from heartstrings.vectors.emotion_vectors import EmotionVectors
    from heartstrings.verdict.results import Encoded, Verdict

LEDGER, ATLAS, JUDGED = "ledger.sqlite", "atlas", "judges.sqlite"
"""What a run's folder holds, besides `plan.json` and `report.html`; `judges.sqlite` has every raw answer of judges."""
ORGANISMS = ("organism:steerable", "organism:entangled", "organism:inert", "organism:blank")


@dataclass(frozen=True)
class Run:
    """One model's run, finished."""

    folder: Path
    verdict: Verdict
    report: Path


@dataclass(frozen=True)
class Runs:
    """Several models' runs, by model, and one report on all of them."""

    runs: Mapping[str, Run]
    report: Path


@dataclass(frozen=True)
class Encoding:
    """What an atlas found about encoding, as far as a verdict needs it."""

    encoded: Encoded = "not examined"
    p: float | None = None
    own: tuple[OwnEmotion, ...] = ()
    """The emotions that were read for themselves."""


@dataclass(frozen=True)
class Prepared:
    """All that an experiment needs, once its vectors exist."""

    plan: Plan
    """With its doses fitted, where they are to be."""
    engine: Engine
    suite: Suite
    vectors: EmotionVectors
    directions: DirectionSet
    encoding: Encoding


def run_model(
    plan: Plan,
    out: Path,
    atlas: AtlasSettings,
    *,
    engine: Engine | None = None,
    budget: Budget | None = None,
    go_on: bool = False,
    progress: Progress = silent,
) -> Run:
    """One model from stories to verdict, in `out`. The same call after an interruption goes on where it stopped.

    Args:
        plan: with `vectors` None, an atlas is made first, in `out/atlas`.
        atlas: settings of that atlas.
        engine: the model, where it is loaded already.
        budget: of each judge behind an endpoint.
        go_on: to the next look that the plan has (`heartstrings.experiment.looks`).
    Raises:
        HeartstringsError: any input that cannot be used; `out` keeps what was finished.
    """
    if not plan.controlled:
        raise InputError(
            "a run without controls",
            "control directions, since a verdict compares with them",
            "Raise the numbers under [controls], or measure without a verdict: heartstrings evaluate",
        )
    ready = sampled(plan, out, atlas, engine=engine, budget=budget, go_on=go_on, progress=progress)
    return conclude(out, ready, progress=progress)


def sampled(
    plan: Plan,
    out: Path,
    atlas: AtlasSettings,
    *,
    engine: Engine | None = None,
    budget: Budget | None = None,
    go_on: bool = False,
    progress: Progress = silent,
) -> Prepared:
    """The atlas where there are no vectors, then every sample of the plan, graded.

    Without stories those that ship with the package are read, or an organism's own; with `self` the model writes some.
    """
    check_readable(plan)
    suite = behaviours.suite_of(plan)
    experiment.check_scenarios(plan, suite)
    texts = None
    if plan.vectors is None:
        # An emotion that no story is about is told before the model loads.
        if not atlas.writes:
            texts = atlas.material(plan.model)
        known = corpus.emotions() if texts is None else texts.corpus.emotions
        try:
            check_emotions(plan, known)
        except InputError as error:
            raise no_story(plan.directions, known) or error from None
    freeze(out, plan)
    if go_on:
        next_look(out, plan)
    auto = engine is None and plan.dtype == "auto"
    if engine is None:
        engine = opened(plan.model, revision=plan.revision, dtype=plan.dtype, device=atlas.device, progress=progress)
    experiment.check_template(plan, suite, plan.model, template=engine.info.template_hash is not None)
    made = None
    if plan.vectors is None:
        made = run_atlas(plan.model, out / ATLAS, atlas, progress=progress, engine=engine, texts=texts, auto=auto)
    ready = with_fitted_doses(prepare(plan, engine, out, suite=suite, atlas=made), out, progress=progress)
    ready = replace(ready, plan=look_of(out, ready.plan))
    if plan.judges:
        _try_judges(ready, out, budget=budget, progress=progress)
    sample(ready, out, progress=progress)
    if plan.judges:
        judge(ready, out, budget=budget, progress=progress)
    return ready


def _try_judges(ready: Prepared, out: Path, *, budget: Budget | None, progress: Progress) -> None:
    """Tries the judges on known texts before hours of sampling; for one that fails, the error names the report."""
    progress(f"trying {', '.join(ready.plan.judges)}", 0, None)
    try:
        judge(ready, out, budget=budget, only_try=True, progress=progress)
    except experiment.Refused as refused:
        # A report needs a ledger, with samples of an earlier run or without.
        experiment.SampleLedger(out / LEDGER, ready.plan).close()
        report = weigh_again(out).report
        raise InputError(refused.found, refused.expected, f"{refused.fix}. How it did is in {report}") from None


def judge(
    ready: Prepared, out: Path, *, budget: Budget | None = None, only_try: bool = False, progress: Progress = silent
) -> None:
    """What the plan's judges say of the texts in `out` that no rule could grade; their report is `out/judges.json`.

    Args:
        only_try: on texts of known grades alone; the answers are in the cache, so that they are not asked again.
    """
    plan, suite = ready.plan, ready.suite
    with judges.JudgeCache(out / JUDGED) as cache:
        who = judges.open_judge(plan.judges, engine=ready.engine, cache=cache, budget=budget, seed=plan.seed)
        try:
            if only_try:
                experiment.try_judge(plan, suite, who)
                return
            with experiment.SampleLedger(out / LEDGER, plan) as ledger:
                judge_report = experiment.judge_samples(
                    plan, ledger, suite, who, progress=partial(progress, f"judging {plan.model}")
                )
            experiment.write_report(out, judge_report)
        except experiment.Refused as refused:
            experiment.write_report(out, refused.report)
            raise


def run_models(
    plans: Mapping[str, Plan],
    out: Path,
    atlas: AtlasSettings,
    *,
    engines: Mapping[str, Engine | None],
    budget: Budget | None = None,
    go_on: bool = False,
    progress: Progress = silent,
) -> Runs:
    """Several models, each in a folder of its own, and one report that shows them side by side."""
    folders = folders_of(plans, out)
    runs = {
        model: run_model(
            plan, folders[model], atlas, engine=engines.get(model), budget=budget, go_on=go_on, progress=progress
        )
        for model, plan in plans.items()
    }
    progress("comparing", 0, None)
    return Runs(runs, report.render_overview(list(folders.values()), out / "report.html"))


def prepare(
    plan: Plan, engine: Engine, out: Path, *, suite: Suite | None = None, atlas: Atlas | None = None
) -> Prepared:
    """The vectors of the plan, or of the atlas in `out`, and every direction that will be steered along.

    Args:
        suite: the plan's behaviours, where they are made already.
        atlas: the one in `out`, where it was just made; else it is read.
    """
    folder = plan.vectors or out / ATLAS
    bundle = main_bundle(folder)
    emotion_vectors = vectors.EmotionVectors.load(bundle, for_model=engine.info) if atlas is None else atlas.vectors
    check_against_vectors(plan, emotion_vectors)
    stories = experiment.read_story_activations(bundle, emotion_vectors)
    layers = searched_layers(plan, engine.info.n_layers)
    return Prepared(
        plan,
        engine,
        behaviours.suite_of(plan) if suite is None else suite,
        emotion_vectors,
        experiment.direction_set(plan, emotion_vectors, layers=layers, stories=stories),
        read_encoding(folder) if atlas is None else encoding_of(atlas.geometry, atlas.readout.own),
    )


def read_encoding(folder: Path) -> Encoding:
    """What the atlas in a folder found about encoding; a bundle alone does not tell."""
    file = folder / "geometry.json"
    atlas_geometry = geometry.Geometry.model_validate_json(file.read_bytes()) if file.is_file() else None
    return encoding_of(atlas_geometry, verdict.read_own(folder))


def encoding_of(geometry: Geometry | None, own: tuple[OwnEmotion, ...]) -> Encoding:
    """The part of an atlas's results that a verdict needs."""
    return Encoding(own=own) if geometry is None else Encoding(geometry.verdict, geometry.encoded_p, own)


def with_fitted_doses(ready: Prepared, out: Path, *, progress: Progress) -> Prepared:
    """The same with doses that are fitted to the model, if the plan asks for it. They are fitted once: from then on the
    plan in `out` holds them, and `out/doses.json` what was measured."""
    plan = ready.plan
    if not plan.fit_doses or plan.dose_factor is not None:
        return ready
    there = frozen(out)
    if there.dose_factor is None:
        fit = experiment.fit_doses(
            plan,
            ready.engine,
            ready.directions,
            ready.directions.layers,
            progress=partial(progress, f"fitting doses to {plan.model}"),
        )
        experiment.write_doses(out, fit)
        there = plan.fitted(fit.factor)
        freeze(out, there)
    return replace(ready, plan=there)


def sample(ready: Prepared, out: Path, *, progress: Progress) -> None:
    """Every sample of the plan that the ledger in `out` does not have yet."""
    with experiment.SampleLedger(out / LEDGER, ready.plan) as ledger:
        experiment.run_experiment(
            ready.plan,
            ready.engine,
            ready.directions,
            ledger,
            suite=ready.suite,
            still_open=verdict.Open(ready.plan, ready.suite, ledger),
            progress=partial(progress, f"sampling {ready.plan.model}"),
        )


def conclude(out: Path, ready: Prepared, *, progress: Progress) -> Run:
    """The verdict on what the ledger in `out` holds, and its report."""
    progress(f"weighing {ready.plan.model}", 0, None)
    with experiment.SampleLedger.read(out / LEDGER) as ledger:
        answers = weigh(ready.plan, ledger, ready.encoding, suite=ready.suite, directions=ready.directions)
    return Run(out, answers, write_verdict(out, answers))


def weigh(
    plan: Plan,
    ledger: SampleLedger,
    encoding: Encoding,
    *,
    suite: Suite | None = None,
    directions: DirectionSet | None = None,
) -> Verdict:
    """The verdict alone, with what the atlas found about encoding; how the doses were found and the hand grades are
    read from the ledger's folder."""
    folder = ledger.path.parent
    return verdict.decide(
        plan,
        ledger,
        behaviours.suite_of(plan) if suite is None else suite,
        model=plan.model,
        encoded=encoding.encoded,
        encoded_p=encoding.p,
        own=verdict.own_encodings(plan.directions, encoding.own),
        doses=experiment.read_doses(folder, plan),
        organism=organism_kind(plan.model),
        story_coherence=None if directions is None else directions.story_coherence,
        weights_hash=ledger.fact("weights"),
        vectors_hash=ledger.fact("directions"),
        grades=experiment.decided(folder),
    )


def write_verdict(out: Path, verdict: Verdict) -> Path:
    """`verdict.json` and the report in `out`; returns the report's path."""
    write_text(out / VERDICT, verdict.model_dump_json(indent=1) + "\n")
    return report.render_verdict(out)


@dataclass(frozen=True)
class CellMean:
    """The outcomes of one cell, for a table."""

    behaviour: str
    direction: str
    layer: int
    dose: float
    mean: float | None
    low: float | None
    high: float | None
    valid: float | None
    n: int


def evaluate(
    plan: Plan,
    out: Path,
    atlas: AtlasSettings,
    *,
    engine: Engine | None = None,
    budget: Budget | None = None,
    parquet: Path | None = None,
    progress: Progress = silent,
) -> list[CellMean]:
    """The experiment alone: the reported half of every cell that is no control.

    Args:
        plan: with `vectors` None, an atlas is made first, in `out/atlas`.
        parquet: file to write every sample to.
    """
    sampled(plan, out, atlas, engine=engine, budget=budget, progress=progress)
    with experiment.SampleLedger.read(out / LEDGER) as ledger:
        if parquet is not None:
            ledger.export_parquet(parquet)
        return cell_means(ledger)


def cell_means(ledger: SampleLedger) -> list[CellMean]:
    """Mean outcome and its 95% interval over scenarios, for baseline, directions and prompting."""
    kinds: tuple[Kind, ...] = ("baseline", "direction", "prompting")
    cells: dict[tuple[str, str, int, float], list[Sample]] = {}
    for kind in kinds:
        for sample in ledger.samples(phase="test", kind=kind):
            cell = sample.cell
            cells.setdefault((cell.behaviour, cell.direction, cell.layer, cell.dose), []).append(sample)
    means = []
    for (behaviour, direction, layer, dose), samples in sorted(cells.items()):
        graded = [sample for sample in samples if sample.outcome is not None]
        interval = stats.mean_interval([sample.outcome for sample in graded], [sample.group for sample in graded])
        valid = [sample.valid for sample in samples if sample.valid is not None]
        share = sum(valid) / len(valid) if valid else None
        means.append(
            CellMean(behaviour, direction, layer, dose, interval.value, interval.low, interval.high, share, len(graded))
        )
    return means


def weigh_again(folder: Path) -> Run:
    """The verdict on whatever a folder's ledger holds by now; no model is loaded, and nothing is sampled.

    Raises:
        InputError: no ledger there.
    """
    with experiment.SampleLedger.read(folder / LEDGER) as ledger:
        plan = look_of(folder, ledger.plan)
        vectors_folder = plan.vectors or folder / ATLAS
        bundle = main_bundle(vectors_folder)
        emotion_vectors = vectors.EmotionVectors.load(bundle)
        stories = experiment.read_story_activations(bundle, emotion_vectors)
        directions = experiment.direction_set(plan, emotion_vectors, layers=emotion_vectors.layers, stories=stories)
        answers = weigh(plan, ledger, read_encoding(vectors_folder), directions=directions)
    return Run(folder, answers, write_verdict(folder, answers))


def estimate(plan: Plan, *, engine: Engine | None = None, timing: float = 60.0, progress: Progress = silent) -> DryRun:
    """What the plan would cost and could find. Without an engine the time is not known.

    Args:
        timing: seconds that measuring the time may take, about.
    """
    asked = behaviours.suite_of(plan)
    if engine is None:
        return experiment.estimate(plan, suite=asked)
    return experiment.measured(
        plan, engine, asked, limit=timing, progress=partial(progress, "timing some of the samples")
    )


def plans_of(
    models: str | Engine | Plan | Sequence[str | Engine] | None,
    asked: Mapping[str, Any],
    *,
    default: Sequence[str] = (),
    **changes: Any,
) -> tuple[dict[str, Plan], dict[str, Engine | None]]:
    """The plans that the options of `run`, `plan` and `evaluate` ask for, and the models that are loaded already.

    Args:
        models: one model or several; or a plan, as if it were the option `plan`.
        asked: the options, under their names.
        default: models that are taken where neither a model nor a plan is given, with quick settings.
        changes: further fields of the plan.
    Raises:
        InputError: neither a model nor a plan; a value that no plan can have.
    """
    plan = models if isinstance(models, Plan) else asked["plan"]
    named = [] if models is None or isinstance(models, Plan) else models_of(models)
    for _, engine in named:
        if engine is not None:
            check_loaded(engine, **{name: asked[name] for name in ("revision", "dtype", "device")})
    if not named and plan is None:
        if not default:
            raise InputError("neither a model nor a plan", "a model, or --plan FILE")
        named = [(name, None) for name in default]
    settings = asked["settings"] or ("quick" if plan is None and models is None else "full")
    effects = names_of(asked["behaviour"])
    judge = asked["judge"]
    given = {
        "vectors": None if not asked["vectors"] else path_of("vectors", asked["vectors"]),
        "directions": names_of(asked["emotion"]),
        "suite": asked["suite"],
        "effects": None if effects is None else tuple(name.replace("_", "-") for name in effects),
        "doses": None if asked["dose"] is None else doses_of(asked["dose"]),
        "layers": whole_numbers("--layers", asked["layers"]),
        "judges": ((judge,) if isinstance(judge, str) else tuple(judge)) if judge else None,
        "revision": asked["revision"],
        # With a plan its own values count, unless an option says otherwise.
        "dtype": None if plan and asked["dtype"] == "auto" else _dtype(asked["dtype"], asked["device"]),
        "seed": None if plan and asked["seed"] == 0 else asked["seed"],
        "looks": whole_numbers("--looks", asked.get("looks")),
    } | changes
    plans = plans_for(
        [name for name, _ in named], checked("--settings", settings, ("quick", "full")), plan=plan, **given
    )
    engines = dict(named)
    return {name: _as_loaded(plan, engines.get(name)) for name, plan in plans.items()}, engines


def _dtype(asked: str, device: str | None) -> str:
    """A frozen plan says in which precision its samples are taken, so `fast` becomes what it means on this machine."""
    return engines.fast_dtype(device) if asked == "fast" else asked


def _as_loaded(plan: Plan, engine: Engine | None) -> Plan:
    """The plan, with the dtype and the revision of the model, where it is loaded already."""
    if engine is None:
        return plan
    dtype = engine.info.dtype if engine.info.dtype in ("float32", "bfloat16", "float16") else "auto"
    return plan.changed(dtype=dtype, revision=engine.info.revision)


def is_plan(given: object) -> bool:
    """Whether this is a plan, and no model."""
    return isinstance(given, Plan)


def models_of(models: str | Engine | Sequence[str | Engine]) -> list[tuple[str, Engine | None]]:
    """One model or several by name, each with the model itself where it is loaded already."""
    several: Sequence[Any] = models if isinstance(models, list | tuple) else [models]
    return [(name_of(model), None if isinstance(model, str | PathLike) else model) for model in several]


def plans_for(
    models: Sequence[str], settings: str, *, plan: Plan | str | Path | None = None, **changes: Any
) -> dict[str, Plan]:
    """One plan a model, from a preset, a plan, its file, or the folder of a run, with the changes given.

    Where neither a suite nor a behaviour is named, an organism is asked what it can read, a model without a chat
    template the suite `text`, and a chat model the one that goes with the settings: `quick`, or `standard` for `full`.
    """
    if len(set(models)) < len(models):
        raise InputError("a model is named twice", "each model once")
    given = {name: value for name, value in changes.items() if value is not None}
    if plan is None:
        return {model: preset(settings, model, **_with_suite(model, settings, given)) for model in models}
    if not isinstance(plan, Plan):
        plan = _from_run(path) if (path := path_of("plan", plan)).is_dir() else experiment.load_plan(path)
    return {model: _changed(plan, model=model, **given) for model in models or [plan.model]}


def _from_run(folder: Path) -> Plan:
    """The plan that a run's folder was begun with. Its vectors may be named from where the run was started; if they are
    not there, they are looked for from the run's folder and from the folder around it."""
    plan = frozen(folder)
    if plan.vectors is None or plan.vectors.exists():
        return plan
    near = [place / plan.vectors for place in (folder, folder.absolute().parent)]
    return next((plan.changed(vectors=path) for path in near if path.exists()), plan)


def _changed(plan: Plan, **given: Any) -> Plan:
    """The plan with other values. Doses that were fitted to another model, other vectors or other doses are not kept:
    a run fits them again."""
    fitted_to = ("model", "revision", "vectors", "doses")
    changes = any(name in given and given[name] != getattr(plan, name) for name in fitted_to)
    return (plan.unfitted if changes else plan).changed(**given)


def _with_suite(model: str, settings: str, given: Mapping[str, Any]) -> dict[str, Any]:
    if {"suite", "effects"} & set(given) or organisms.is_organism(model):
        return dict(given)
    if has_template(model, given.get("revision")) is False:
        return {"suite": "text-quick" if settings == "quick" else "text", **given}
    return {"suite": "quick" if settings == "quick" else "standard", **given}


def check_readable(plan: Plan) -> None:
    """The organisms' questions are in their own small language: no other model is asked them.

    Raises:
        InputError: some of these are asked of another model.
    """
    theirs = {behaviour.name for behaviour in behaviours.suite("organism").all} & set(plan.effects)
    if theirs and not organisms.is_organism(plan.model):
        raise InputError(
            f"{', '.join(sorted(theirs))}: a question in the organisms' small language, asked of {plan.model}",
            "a behaviour that this model can read, such as activities-anchored (its preferences), feels or tone",
            "Change --behaviour, or name a --suite",
        )


def organism_kind(model: str) -> str | None:
    """The kind that an organism's own card states, to be shown beside the answer; never used for it."""
    import json

    folder = engines.local_folder(model)
    card = None if folder is None else folder / "organism.json"
    if card is None or not card.is_file():
        return None
    kind = json.loads(card.read_text(encoding="utf-8")).get("kind")
    return str(kind) if kind is not None else None
