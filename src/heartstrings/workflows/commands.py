"""What Heartstrings does, one public function a command: `heartstrings.run(...)` is `heartstrings run ...`.

Every function returns values and prints nothing. `progress`, where there is one, is called as
progress(title, done, total) while the work goes on. Options are defined in `heartstrings.workflows.options`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from heartstrings import behaviours, core, corpus, experiment, formats, judges, vectors, workflows
from heartstrings.core.errors import InputError
from heartstrings.workflows import options as given
from heartstrings.workflows.options import chosen, takes
from heartstrings.workflows.values import (
    Progress,
    checked,
    doses_of,
    names_of,
    path_of,
    prices_of,
    silent,
    whole_numbers,
)

if TYPE_CHECKING:
    from heartstrings.corpus import Corpus, Writer
    from heartstrings.experiment.dry_run import DryRun
    from heartstrings.experiment.hand_grades import Session
    from heartstrings.experiment.plan import Plan
    from heartstrings.experiment.screen_results import Screen
    from heartstrings.geometry import Comparison, Geometry
    from heartstrings.judges import Budget
    from heartstrings.vectors.emotion_vectors import EmotionVectors
    from heartstrings.verdict.pool_results import PoolReport
    from heartstrings.workflows.atlas import Atlas, Atlases, AtlasSettings
    from heartstrings.workflows.grading import Grading
    from heartstrings.workflows.info import ModelFacts
    from heartstrings.workflows.run import CellMean, Run, Runs
    from heartstrings.workflows.selftest import SelfTest
    from heartstrings.workflows.side_by_side import SideBySide


# From a model's name to a verdict


@takes(given.RunOptions)
def run(
    models: given.Models = None,
    out: given.Out = "run",
    *,
    progress: Progress = silent,
    **options: Unpack[given.RunOptions],
) -> "Run | Runs":
    """From a model to a verdict.

    Atlas, choice of layer, experiment, report. Resumable at any moment.

    Returns:
        A `Run` for one model, `Runs` for several.
    Raises:
        HeartstringsError: any input that cannot be used; `out` keeps what was finished.
    """
    plans, engines = workflows.plans_of(models, options, default=workflows.ORGANISMS)
    settings, budget, go_on = _atlas_settings(options), _budget(options), options["go_on"]
    if len(plans) > 1:
        return workflows.run_models(
            plans, Path(out), settings, engines=engines, budget=budget, go_on=go_on, progress=progress
        )
    ((model, plan),) = plans.items()
    return workflows.run_model(
        plan, Path(out), settings, engine=engines.get(model), budget=budget, go_on=go_on, progress=progress
    )


@dataclass(frozen=True)
class Planned:
    """A plan, and what it would cost and could find."""

    plan: "Plan"
    estimate: "DryRun"


@takes(given.PlanOptions)
def plan(
    model: given.PlannedModel = None, *, progress: Progress = silent, **options: Unpack[given.PlanOptions]
) -> Planned:
    """What an experiment would cost, and which effect it could find.

    Raises:
        InputError: neither a model nor a plan, or a plan that cannot be run.
    """
    if not 0 < options["timing"] < float("inf"):
        raise InputError(f"--timing {options['timing']:g}", "seconds, more than 0", "Give 60, for example")
    model_plan, engine = _one_plan(model, options)
    if options["dry_run"] and engine is None:
        engine = workflows.opened(
            model_plan.model,
            revision=model_plan.revision,
            dtype=model_plan.dtype,
            device=options["device"],
            progress=progress,
        )
    estimate = workflows.estimate(
        model_plan, engine=engine if options["dry_run"] else None, timing=options["timing"], progress=progress
    )
    if options["out"] is not None:
        experiment.write_plan(options["out"], model_plan)
    return Planned(model_plan, estimate)


@dataclass(frozen=True)
class Evaluation:
    """What was measured, without a verdict."""

    folder: Path
    plan: "Plan"
    cells: "tuple[CellMean, ...]"
    """Mean outcome of the baseline, of every direction at every dose, and of asking in words."""

    @property
    def ledger(self) -> Path:
        """The file with every sample."""
        return self.folder / workflows.LEDGER


@takes(given.EvaluateOptions)
def evaluate(
    model: given.PlannedModel = None,
    out: given.Out = "evaluation",
    *,
    progress: Progress = silent,
    **options: Unpack[given.EvaluateOptions],
) -> Evaluation:
    """Measure behaviours at some doses, without a verdict.

    Gives the mean outcome of every cell. There are no controls unless they are asked for. Without vectors the atlas is
    made first. With a behaviour only that one is asked, with the questions that match it.

    Raises:
        HeartstringsError: any input that cannot be used; `out` keeps what was finished.
    """
    planned = options["plan"] is not None or workflows.is_plan(model)
    if options["behaviour"] is not None and options["suite"] is None and not planned:
        options["suite"] = behaviours.CHOSEN
    changes: dict[str, Any] = {}
    if not planned and not options["controls"]:
        changes["controls"] = dict.fromkeys(experiment.CONTROL_KINDS, 0)
        changes["claims"] = {"mixture": 0, "other": 0, "stripped": False}
    model_plan, engine = _one_plan(model, options, **changes)
    parquet = options["parquet"]
    cells = workflows.evaluate(
        model_plan,
        Path(out),
        _atlas_settings(options),
        engine=engine,
        budget=_budget(options),
        parquet=None if parquet is None else Path(parquet),
        progress=progress,
    )
    return Evaluation(Path(out), model_plan, tuple(cells))


@takes()
def decide(folder: given.Folder) -> "Run":
    """Make the verdict and the report of a run again from its samples.

    No model is loaded. Works on an unfinished run, and says what is missing.

    Raises:
        InputError: no ledger there.
    """
    return workflows.weigh_again(Path(folder))


@takes(given.PoolOptions)
def pool(folder: given.Finished, *, progress: Progress = silent, **options: Unpack[given.PoolOptions]) -> "PoolReport":
    """Compare a finished run's directions with many more controls.

    A gradient screens them; some are drawn and run.

    Of declared behaviours that are answered by scored options. It changes no answer. Resumable at any moment.

    Raises:
        InputError: no finished run there, or one without a behaviour that can be screened.
    """
    return workflows.run_pool(Path(folder), progress=progress, **options)


@takes(given.ScreenOptions)
def screen(
    model: given.Model,
    out: given.Out = "screen",
    *,
    progress: Progress = silent,
    **options: Unpack[given.ScreenOptions],
) -> "Screen":
    """Predict where steering could matter.

    First-order effects of all emotions and 1,000 controls of each kind, at all layers, from one backward pass a prompt.

    Some cells are also steered, to see how well the predictions agree. Nothing is concluded from the screen alone.
    The report is OUT/screen.html. Resumable.

    Raises:
        InputError: options that cannot be used, a behaviour that samples text, or a model without a gradient.
    """
    return workflows.run_screen(model, Path(out), workflows.ScreenSettings(**options), progress=progress)


@takes(given.GradeOptions)
def grade(
    folder: given.Graded, *, ask: "Callable[[Session], object] | None" = None, **options: Unpack[given.GradeOptions]
) -> "Grading":
    """Grade a run's texts by hand, without seeing the dose.

    Nor is the automatic grade shown. At the end you see how the two agree. Resumable.

    Returns:
        How far the grading is. `ask` is called with the session and grades one text after the other
        (`session.current`, `session.say`); without it, and without files, nothing is graded.
    Raises:
        InputError: no text that can be graded, or a file of grades that cannot be used.
    """
    taken, written = options["import_file"], options["export_file"]
    return workflows.grade_texts(
        Path(folder),
        behaviour=options["behaviour"],
        n=options["n"],
        grader=options["grader"],
        ask=ask,
        import_file=None if taken is None else Path(taken),
        export_file=None if written is None else Path(written),
    )


# Texts, vectors and geometry


def stories(source: "str | PathLike[str] | Corpus | None" = None, *, min_words: int | None = None) -> "Corpus":
    """Stories to extract vectors from.

    Args:
        source: a JSONL file, a Hugging Face data set id (`owner/name[@revision]`), or `organism:KIND` for the
            organisms' own stories. None: the 480 stories that ship with the package.
        min_words: stories from a file or data set go through the filters of `clean`, this one among them; None takes
            them as they are.
    Raises:
        InputError: a file or data set that cannot be used.
    """
    return workflows.stories_of(source, min_words=min_words)


@takes(given.GenerateOptions)
def generate_stories(
    model: given.Writer, out: given.Out, *, progress: Progress = silent, **options: Unpack[given.GenerateOptions]
) -> "Corpus":
    """Have a model write stories, for every emotion on every topic.

    Resumable: no finished call is made again.

    The folder then has the file stories.jsonl, and also neutral.jsonl if neutral dialogues were asked for.

    Raises:
        HeartstringsError: options out of range, a model or an endpoint that cannot be used, or no usable story.
    """
    known, number = corpus.topics(), options["topics"]
    if not 1 <= number <= len(known):
        raise InputError(f"--topics {number}", f"1 to {len(known)}")
    emotions = names_of(options["emotions"])
    if emotions == ():
        raise InputError(f"--emotions {options['emotions']!r}", "one or more emotions, or none named for all of them")
    asked = corpus.StoryPlan(
        emotions=corpus.emotions() if emotions is None else emotions,
        topics=known[:number],
        stories=options["per_topic"],
        per_call=options["per_call"],
        words=options["words"],
        temperature=options["temperature"],
        seed=options["seed"],
        max_calls=options["max_calls"],
    )
    name, out, writer = workflows.name_of(model), Path(out), _writer(model, options, progress)
    story_corpus = corpus.generate_stories(asked, writer, out, partial(progress, f"{name} writes stories"))
    if options["neutral"]:
        corpus.generate_neutral(asked, writer, out, partial(progress, f"{name} writes neutral dialogues"))
    return story_corpus


def _writer(model: Any, options: given.GenerateOptions, progress: Progress) -> "Writer":
    if options["endpoint"] is None:
        return corpus.EngineWriter(workflows.opened(model, progress=progress, **chosen(given.Loading, options)))
    return corpus.EndpointWriter(
        options["endpoint"],
        workflows.name_of(model),
        key_variable=options["key_variable"],
        concurrency=options["concurrency"],
    )


@takes(given.ExtractOptions)
def extract(
    model: given.Model,
    stories: given.StorySource = None,
    *,
    out: given.Out,
    progress: Progress = silent,
    **options: Unpack[given.ExtractOptions],
) -> "EmotionVectors":
    """Emotion vectors of a model from stories. Resumable: call it again after any interruption.

    `heartstrings.vectors.extract` is the level below: several pooling rules in one pass over the texts.

    Raises:
        InputError: stories or options that cannot be used, or `out` holds something made from other inputs.
    """
    rule, start, stop = options["pooling"], options["offset"], options["stop"]
    checked("--pooling", rule, ("from", "window", "centred"))
    if (rule == "window") != (stop is not None):
        raise InputError("--stop and --pooling window go together", "both or neither")
    if start < 0 or (stop is not None and stop <= start):
        raise InputError(f"--offset {start} --stop {stop}", "0 <= offset < stop")
    checked("--weighting", options["weighting"], ("story", "token"))
    checked("--site", options["site"], ("block", "attention", "mlp"))
    texts = workflows.material(
        workflows.name_of(model),
        stories=stories,
        neutral=options["neutral"],
        no_neutral=options["no_neutral"],
        min_words=options["min_words"] if options["clean"] else None,
    )
    auto = options["dtype"] == "auto" and isinstance(model, str | PathLike)
    engine = workflows.opened(model, progress=progress, **chosen(given.Loading, options))
    pooling = core.Pooling.model_validate({"rule": rule, "start": start, "stop": stop})
    how: Any = {name: options[name] for name in ("token_budget", "max_tokens", "seed", "site", "overwrite")}
    how["layers"] = workflows.layers_of(options["layers"], engine.info.n_layers)
    report = partial(progress, f"reading {len(texts.corpus)} stories")
    with workflows.reader(engine, texts.corpus, Path(out), auto=auto, pooling=pooling, progress=progress, **how) as (
        read_by,
        precision,
    ):
        bundles = vectors.extract(
            read_by,
            texts.corpus,
            out=out,
            neutral=texts.neutral,
            poolings=(pooling,),
            keep_activations=options["keep_activations"],
            precision=precision,
            reliability=options["reliability"],
            progress=report,
            **chosen(given.Weighting, options) | how,
        )
    return next(iter(bundles.values()))


@takes(given.AtlasOptions)
def atlas(
    models: given.AtlasModels = None,
    out: given.Out = "atlas",
    *,
    progress: Progress = silent,
    **options: Unpack[given.AtlasOptions],
) -> "Atlas | Atlases":
    """From models and stories to vectors, geometry and a report.

    Each story's mean activations stay in OUT/vectors/.work, for the shuffled controls of `run --vectors OUT`: 95 MB
    for smollm2 and the default stories, in proportion to stories x layers x width.

    Returns:
        An `Atlas` of one model, `Atlases` of several.
    Raises:
        HeartstringsError: any input that cannot be used; nothing half-written stays behind.
    """
    if options["generate"]:
        if options["stories"] not in (None, workflows.SELF):
            raise InputError(f"--generate and --stories {options['stories']}", "one of them")
        options["stories"] = workflows.SELF
    settings = workflows.AtlasSettings(**{name: value for name, value in options.items() if name != "generate"})  # type: ignore[arg-type]
    named = workflows.models_of(models or "organism:steerable")
    for _, engine in named:
        if engine is not None:
            workflows.check_loaded(engine, **chosen(given.Loading, options))
    if len(named) == 1:
        ((name, engine),) = named
        return workflows.run_atlas(name, Path(out), settings, engine=engine, progress=progress)
    if len(dict(named)) < len(named):
        raise InputError("a model is named twice", "each model once")
    return workflows.run_atlases(dict(named), Path(out), settings, progress=progress)


@takes(given.GeometryOptions)
def analyse(
    vectors: given.Vectors,
    *,
    progress: Progress = silent,
    warn: "Callable[[str], object] | None" = None,
    **options: Unpack[given.GeometryOptions],
) -> "Geometry":
    """Where valence and arousal lie among the vectors of a bundle.

    Components, readouts, nuisances, similarities.

    Returns:
        The geometry. `warn` is called with each note on where the vectors come from, such as a mismatch with `model`
        that `force` accepts.
    Raises:
        InputError: no bundle there, or ratings of other emotions. BundleError: vectors of another model than `model`.
    """
    model, out = options["model"], options["out"]
    engine = None if model is None else workflows.opened(model, device=options["device"], progress=progress)
    emotion_vectors = workflows.vectors_of(
        vectors, for_model=None if engine is None else engine.info, force=options["force"]
    )
    if warn is not None:
        for note in emotion_vectors.provenance.notes:
            warn(note)
    return workflows.analyse_bundle(
        emotion_vectors,
        engine=engine,
        out=None if out is None else Path(out),
        progress=progress,
        **chosen(given.Statistics, options),
        seed=options["seed"],
    )


@takes(given.CompareOptions)
def compare(
    bundles: given.Bundles, *, progress: Progress = silent, **options: Unpack[given.CompareOptions]
) -> "Comparison":
    """Compare two or more bundles: corpora, models, base and instruct.

    Raises:
        InputError: fewer than two bundles, one named twice, or ratings of other emotions.
    """
    out = options["out"]
    return workflows.compare_bundles(
        bundles,
        out=None if out is None else Path(out),
        progress=progress,
        **chosen(given.Statistics, options),
        seed=options["seed"],
    )


@takes(given.SteerOptions)
def steer(
    model: given.Model,
    prompt: given.Prompt,
    *,
    vectors: given.SteeringVectors,
    emotion: given.Emotion,
    progress: Progress = silent,
    **options: Unpack[given.SteerOptions],
) -> "SideBySide":
    """Write texts at several doses side by side, in one batch.

    Notes say where a run found no safe range.

    Returns:
        The texts. To steer requests or code of your own, see `make_steering` and `model.steered(...)`.
    Raises:
        InputError: an unknown emotion, layer or operation. BundleError: vectors of another model.
    """
    checked("--operation", options["operation"], ("add", "clamp", "ablate"))
    checked("--positions", options["positions"], ("all", "prompt", "generated"))
    how: Any = {name: value for name, value in options.items() if name not in ("dose", "layers")}
    return workflows.steered_texts(
        model,
        prompt,
        vectors=vectors,
        direction=emotion,
        doses=doses_of(options["dose"]),
        layers=whole_numbers("--layers", options["layers"]),
        progress=progress,
        **how,
    )


# Files


@takes(given.ImportOptions)
def import_vectors(
    files: given.Files, out: given.OptionalOut = None, **options: Unpack[given.ImportOptions]
) -> "EmotionVectors":
    """Read vectors that another tool wrote, and write them as a bundle.

    Returns:
        The vectors. Without `out` no bundle is written.
    Raises:
        InputError, NumericalError, BundleError: damaged, of an unknown kind, or no full block of vectors.
        MissingExtra: GGUF without the `gguf` package.
    """
    how: Any = {name: value for name, value in options.items() if name not in ("emotions", "overwrite")}
    if out is not None and (Path(out) / "bundle.json").exists() and not options["overwrite"]:
        raise InputError(f"{out} already holds a bundle", "a new folder", "Choose another --out, or --overwrite")
    several = [files] if isinstance(files, str | PathLike) else files
    imported = formats.import_vectors([fspath(file) for file in several], emotions=names_of(options["emotions"]), **how)
    if out is not None:
        imported.save(out)
    return imported


@takes(given.ExportOptions)
def export_vectors(vectors: given.Vectors, out: given.OutFile, **options: Unpack[given.ExportOptions]) -> Path:
    """Write directions in the format of another steering tool.

    Returns:
        The file.
    Raises:
        InputError: unknown format, emotion, layer or variant; a dose without norms; several directions in a format
            that holds one. MissingExtra: GGUF without the `gguf` package.
    """
    emotion_vectors = workflows.vectors_of(vectors)
    how: Any = {name: value for name, value in options.items() if name != "layers"}
    checked("--variant", options["variant"], emotion_vectors.variants)
    layers = workflows.layers_of(options["layers"], max(emotion_vectors.layers) + 1)
    return formats.export_vectors(emotion_vectors, out, layers=layers, **how)


@takes()
def info(what: given.What, *, progress: Progress = silent) -> "Geometry | EmotionVectors | ModelFacts":
    """What an atlas, a bundle or a model is, and where it comes from.

    Of a model that lies on this machine the files are read and nothing is loaded. A GGUF file that was not opened
    before is dequantised first; a model from the hub is loaded.

    Raises:
        InputError: none of these. ModelError: a model that cannot be loaded.
    """
    path_of("what", what)
    return workflows.describe(fspath(what), progress=progress)


@takes(given.SelfTestOptions)
def selftest(
    model: given.Model, *, progress: Progress = silent, **options: Unpack[given.SelfTestOptions]
) -> "SelfTest":
    """Check that your own model is read and steered as documented.

    Takes seconds to minutes.

    Blocks, hidden states, dose 0, the size and place of a steered change, and that a KV cache, padding and other rows
    of a batch change nothing: each check compares with one text in one pass, within a tolerance for the dtype.

    Raises:
        ModelError: a model that cannot be loaded or taken apart.
    """
    return workflows.check_model(model, progress=progress, **options)


# What several of them need


def _one_plan(model: Any, options: Any, **changes: Any) -> "tuple[Plan, Any]":
    plans, engines = workflows.plans_of(model, options, **changes)
    if len(plans) > 1:
        raise InputError(f"{len(plans)} models", "one model at a time")
    ((name, model_plan),) = plans.items()
    return model_plan, engines.get(name)


def _atlas_settings(options: Any) -> "AtlasSettings":
    """Those of the atlas that an experiment makes; its `layers` and `seed` are the plan's and not among them."""
    groups = (given.Source, given.Reading, given.Writing, given.Weighting, given.Statistics, given.Loading)
    settings = {name: value for group in groups for name, value in chosen(group, options).items()}
    return workflows.AtlasSettings(**settings)


def _budget(options: Any) -> "Budget | None":
    calls, money, prices = (options[name] for name in ("judge_calls", "judge_money", "judge_prices"))
    if calls is None and money is None and prices is None:
        return None
    return judges.Budget(calls, money, *prices_of(prices))
