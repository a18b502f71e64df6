"""From a model's name to a verdict: atlas, choice of layer, experiment, verdict and report, resumable throughout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heartstrings import behaviours, engines, experiment, geometry, judges, organisms, report, stats, vectors, verdict
from heartstrings.core.errors import InputError
from heartstrings.core.storage import write_text
from heartstrings.engines.hf.named import has_template
from heartstrings.experiment.looks import VERDICT, look_of, next_look
from heartstrings.experiment.plan import Plan, searched_layers
from heartstrings.experiment.plan_directions import check_against_vectors, check_emotions
from heartstrings.experiment.plan_files import freeze, frozen, preset
from heartstrings.vectors.bundle import main_bundle
from heartstrings.workflows.atlas import AtlasSettings, Progress, known_emotions, no_story, open_model, run_atlas, slug

if TYPE_CHECKING:
    from heartstrings.core.engine import Engine
    from heartstrings.experiment.controls import DirectionSet
    from heartstrings.experiment.dose_fit import DoseFit
    from heartstrings.experiment.dry_run import DryRun
    from heartstrings.experiment.ledger import Kind, Sample, SampleLedger
    from heartstrings.judges import Budget
    from heartstrings.vectors.emotion_vectors import EmotionVectors
    from heartstrings.verdict.results import Encoded, Verdict

LEDGER, ATLAS, JUDGED = "ledger.sqlite", "atlas", "judges.sqlite"
"""What a run's folder holds, besides `plan.json` and `report.html`; `judges.sqlite` has every raw answer of judges."""


@dataclass(frozen=True)
class Run:
    """One model's run, finished."""

    folder: Path
    verdict: Verdict
    report: Path


@dataclass(frozen=True)
class Prepared:
    """All that an experiment needs, once its vectors exist."""

    plan: Plan
    """With its doses fitted, where they are to be."""
    engine: Engine
    vectors: EmotionVectors
    directions: DirectionSet
    vectors_folder: Path
    """A bundle, or an atlas that holds one."""


def run_model(
    plan: Plan,
    out: Path,
    atlas: AtlasSettings,
    *,
    budget: Budget | None = None,
    go_on: bool = False,
    progress: Progress,
) -> Run:
    """One model from stories to verdict, in `out`. The same call after an interruption goes on where it stopped.

    Args:
        plan: with `vectors` None, an atlas is made first, in `out/atlas`.
        atlas: settings of that atlas.
        budget: of each judge behind an endpoint.
        go_on: to the next look that the plan has (`heartstrings.experiment.looks`).
    Raises:
        HeartstringsError: any input that cannot be used; `out` keeps what was finished.
    """
    if not plan.controlled:
        raise InputError(
            "a run without controls", "control directions, since a verdict compares with them",
            "Raise the numbers under [controls], or measure without a verdict: heartstrings evaluate",
        )  # fmt: skip
    ready = sampled(plan, out, atlas, budget=budget, go_on=go_on, progress=progress)
    return conclude(out, ready, progress=progress)


def sampled(
    plan: Plan,
    out: Path,
    atlas: AtlasSettings,
    *,
    budget: Budget | None = None,
    go_on: bool = False,
    progress: Progress,
) -> Prepared:
    """The atlas where there are no vectors, then every sample of the plan, graded.

    Without stories those that ship with the package are read, or an organism's own; with `self` the model writes some.
    """
    check_readable(plan)
    experiment.check_scenarios(plan, behaviours.suite_of(plan))
    if plan.vectors is None:
        # An emotion that no story is about is told before the model loads.
        known = known_emotions(plan.model, atlas)
        try:
            check_emotions(plan, known)
        except InputError as error:
            raise no_story(plan.directions, known) or error from None
    freeze(out, plan)
    if go_on:
        next_look(out, plan)
    with progress(f"loading {plan.model}"):
        engine = open_model(plan.model, revision=plan.revision, dtype=plan.dtype, device=atlas.device)
    experiment.check_template(
        plan, behaviours.suite_of(plan), plan.model, template=engine.info.template_hash is not None
    )
    if plan.vectors is None:
        run_atlas(plan.model, out / ATLAS, atlas, progress=progress, engine=engine)
    ready = with_fitted_doses(prepare(plan, engine, out), out, progress=progress)
    ready = replace(ready, plan=look_of(out, ready.plan))
    if plan.judges:
        _try_judges(ready.plan, engine, out, budget=budget, progress=progress)
    sample(ready, out, progress=progress)
    if plan.judges:
        judge(ready.plan, engine, out, budget=budget, progress=progress)
    return ready


def _try_judges(plan: Plan, engine: Engine, out: Path, *, budget: Budget | None, progress: Progress) -> None:
    """A judge that gets known texts wrong is told before hours of sampling, not after; the report says why."""
    try:
        with progress(f"trying {', '.join(plan.judges)}"):
            judge(plan, engine, out, budget=budget, only_try=True, progress=progress)
    except experiment.Refused as refused:
        experiment.SampleLedger(
            out / LEDGER, plan
        ).close()  # a report needs one, with samples of an earlier run or without
        report = weigh_again(out).report
        raise InputError(refused.found, refused.expected, f"{refused.fix}. How it did is in {report}") from None


def judge(
    plan: Plan, engine: Engine, out: Path, *, budget: Budget | None = None, only_try: bool = False, progress: Progress
) -> None:
    """What the plan's judges say of the texts in `out` that no rule could grade; their report is `out/judges.json`.

    Args:
        only_try: on texts of known grades alone; the answers are in the cache, so that they are not asked again.
    """
    with judges.JudgeCache(out / JUDGED) as cache:
        who = judges.open_judge(plan.judges, engine=engine, cache=cache, budget=budget, seed=plan.seed)
        try:
            if only_try:
                experiment.try_judge(plan, behaviours.suite_of(plan), who)
                return
            with experiment.SampleLedger(out / LEDGER, plan) as ledger, progress(f"judging {plan.model}") as report:
                experiment.write_report(
                    out, experiment.judge_samples(plan, ledger, behaviours.suite_of(plan), who, progress=report)
                )
        except experiment.Refused as refused:
            experiment.write_report(out, refused.report)
            raise


def run_models(
    plans: Mapping[str, Plan],
    out: Path,
    atlas: AtlasSettings,
    *,
    budget: Budget | None = None,
    go_on: bool = False,
    progress: Progress,
) -> tuple[dict[str, Run], Path]:
    """Several models, each in a folder of its own, and one report that shows them side by side."""
    folders = {model: out / slug(model) for model in plans}
    if len(set(folders.values())) < len(folders):
        raise InputError("two models would share a folder", fix="Run them one at a time, each with its own --out")
    runs = {
        model: run_model(plan, folders[model], atlas, budget=budget, go_on=go_on, progress=progress)
        for model, plan in plans.items()
    }
    with progress("comparing"):
        page = report.render_overview(list(folders.values()), out / "report.html")
    return runs, page


def prepare(plan: Plan, engine: Engine, out: Path) -> Prepared:
    """The vectors of the plan, or of the atlas in `out`, and every direction that will be steered along."""
    folder = plan.vectors or out / ATLAS
    bundle = main_bundle(folder)
    emotion_vectors = vectors.EmotionVectors.load(bundle, for_model=engine.info)
    check_against_vectors(plan, emotion_vectors)
    layers = searched_layers(plan, engine.info.n_layers)
    stories = experiment.read_story_activations(bundle, emotion_vectors)
    return Prepared(
        plan,
        engine,
        emotion_vectors,
        experiment.direction_set(plan, emotion_vectors, layers=layers, stories=stories),
        folder,
    )


def with_fitted_doses(ready: Prepared, out: Path, *, progress: Progress) -> Prepared:
    """The same with the doses that the model bears, where the plan is to find them. They are found once: from then on
    the plan frozen in `out` has them, and `out/doses.json` what was measured."""
    plan = ready.plan
    if not plan.fit_doses or plan.dose_factor is not None:
        return ready
    there = frozen(out)
    if there.dose_factor is None:
        with progress(f"fitting doses to {plan.model}") as report:
            fit = experiment.fit_doses(plan, ready.engine, ready.directions, ready.directions.layers, progress=report)
        experiment.write_doses(out, fit)
        there = plan.fitted(fit.factor)
        freeze(out, there)
    return replace(ready, plan=there)


def sample(ready: Prepared, out: Path, *, progress: Progress) -> None:
    """Every sample of the plan that the ledger in `out` does not have yet."""
    plan = ready.plan
    with experiment.SampleLedger(out / LEDGER, plan) as ledger, progress(f"sampling {plan.model}") as report:
        experiment.run_experiment(plan, ready.engine, ready.directions, ledger, progress=report)


def conclude(out: Path, ready: Prepared, *, progress: Progress) -> Run:
    """The verdict on what the ledger in `out` holds, and its report."""
    plan = ready.plan
    with progress(f"weighing {plan.model}"), experiment.SampleLedger.read(out / LEDGER) as ledger:
        verdict = weigh(
            plan, ledger, ready.vectors_folder,
            doses=experiment.read_doses(out, plan), story_coherence=ready.directions.story_coherence,
        )  # fmt: skip
    return Run(out, verdict, write_verdict(out, verdict))


def weigh(
    plan: Plan,
    ledger: SampleLedger,
    vectors_folder: Path,
    *,
    doses: DoseFit | None = None,
    story_coherence: Any = None,
) -> Verdict:
    """The verdict alone, with what the atlas found about encoding, how the doses were found, and the hand
    grades beside the ledger."""
    encoded: Encoded = "not examined"
    p = None
    if (vectors_folder / "geometry.json").is_file():
        analysis = geometry.Geometry.model_validate_json((vectors_folder / "geometry.json").read_bytes())
        encoded, p = analysis.verdict, analysis.encoded_p
    return verdict.decide(
        plan, ledger, behaviours.suite_of(plan), model=plan.model, encoded=encoded, encoded_p=p,
        doses=doses, story_coherence=story_coherence, organism=organism_kind(plan.model),
        weights_hash=ledger.fact("weights"), vectors_hash=ledger.fact("directions"),
        grades=experiment.decided(ledger.path.parent),
        own=verdict.own_encodings(plan.directions, verdict.read_own(vectors_folder)),
    )  # fmt: skip


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
    budget: Budget | None = None,
    parquet: Path | None = None,
    progress: Progress,
) -> list[CellMean]:
    """The experiment alone: the reported half of every cell that is no control.

    Args:
        plan: with `vectors` None, an atlas is made first, in `out/atlas`.
        parquet: file to write every sample to.
    """
    sampled(plan, out, atlas, budget=budget, progress=progress)
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
        found = stats.mean_interval([one.outcome for one in graded], [one.group for one in graded])
        valid = [one.valid for one in samples if one.valid is not None]
        share = sum(valid) / len(valid) if valid else None
        means.append(
            CellMean(behaviour, direction, layer, dose, found.value, found.low, found.high, share, len(graded))
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
        verdict = weigh(
            plan,
            ledger,
            vectors_folder,
            doses=experiment.read_doses(folder, plan),
            story_coherence=directions.story_coherence,
        )
    return Run(folder, verdict, write_verdict(folder, verdict))


def estimate(plan: Plan, *, engine: Engine | None = None) -> DryRun:
    """What the plan would cost and could find. Without an engine the time is not known."""
    asked = behaviours.suite_of(plan)
    return experiment.estimate(plan, suite=asked) if engine is None else experiment.measured(plan, engine, asked)


def plans_for(models: Sequence[str], settings: str, *, plan: Path | None = None, **changes: Any) -> dict[str, Plan]:
    """One plan a model, from a preset or a file, with the changes given on the command line.

    Where neither a suite nor a behaviour is named, an organism is asked what it can read, a model without a chat
    template the suite `text`, and a chat model the one that goes with the settings: `quick`, or `standard` for `full`.
    """
    if len(set(models)) < len(models):
        raise InputError("a model is named twice", "each model once")
    given = {name: value for name, value in changes.items() if value is not None}
    if plan is not None:
        base = experiment.load_plan(plan)
        return {model: base.changed(model=model, **given) for model in models or [base.model]}
    return {model: preset(settings, model, **_with_suite(model, settings, given)) for model in models}


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
    theirs = {one.name for one in behaviours.suite("organism").all} & set(plan.effects)
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
