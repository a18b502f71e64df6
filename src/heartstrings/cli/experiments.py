"""The verbs of the verdict: run, plan, evaluate, verdict, steer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from heartstrings import behaviours, experiment, integrations, judges, workflows
from heartstrings.cli import console, verdict_summary
from heartstrings.cli.console import bars, parse_doses, parse_whole_numbers, warn
from heartstrings.cli.flags import (
    Config,
    Device,
    Dtype,
    Json,
    Layers,
    MinWords,
    Model,
    Neutral,
    Offset,
    Overwrite,
    Permutations,
    RatingsFlag,
    Revision,
    Stories,
    TokenBudget,
    WeightingFlag,
    checked,
)
from heartstrings.core.errors import InputError

Settings = Annotated[
    str | None,
    typer.Option("--settings", help="quick: a first look; full: what a verdict should rest on. Default: full."),
]
PlanFile = Annotated[Path | None, typer.Option("--plan", help="TOML file of a plan, instead of --settings.")]
Vectors = Annotated[Path | None, typer.Option("--vectors", help="A bundle, an atlas or a run, instead of a new atlas.")]
Emotions = Annotated[
    str | None, typer.Option("--emotion", help="Emotions or blends, with commas: desperate,calm,0.5*joyful-sad.")
]
SuiteName = Annotated[
    str | None,
    typer.Option("--suite", help="What is asked: quick, standard or full; chat, agents; organism. See docs/suites.md."),
]
Behaviours = Annotated[
    str | None,
    typer.Option("--behaviour", help="What steering is meant to move, with commas: reward-hacking,pushback."),
]
Judges = Annotated[
    list[str] | None,
    typer.Option("--judge", help="Who grades free text: self, or URL#MODEL of an endpoint. Several: a panel."),
]
JudgeCalls = Annotated[int | None, typer.Option("--judge-calls", help="At most so many requests to each judge.")]
JudgeMoney = Annotated[float | None, typer.Option("--judge-money", help="At most so much money for each judge.")]
JudgePrices = Annotated[
    str | None, typer.Option("--judge-prices", help="Of a million tokens, read and written: 0.15,0.60.")
]
Doses = Annotated[str | None, typer.Option("--dose", help="Such as -0.1,0,0.1 or -0.1:0.1:5 (first, last, how many).")]
Topics = Annotated[
    int, typer.Option("--topics", help="With --stories self: topics that the model writes on, 1 to 100.")
]
SampleSeed = Annotated[int, typer.Option("--seed", help="Seed of scenarios, controls and sampling.")]
Looks = Annotated[
    str | None,
    typer.Option("--looks", help="Scenarios at later looks, such as 80,160: planned now, taken with --continue."),
]
OutFolder = Annotated[Path, typer.Option("--out", help="Folder to write, and to go on from.")]

ORGANISMS = ("organism:steerable", "organism:entangled", "organism:inert", "organism:blank")


def run(
    models: Annotated[
        list[str] | None, typer.Argument(help="Models. Default: the four organisms, with quick settings.")
    ] = None,
    out: OutFolder = Path("run"),
    settings: Settings = None,
    plan: PlanFile = None,
    vectors: Vectors = None,
    stories: Stories = None,
    topics: Topics = 10,
    neutral: Neutral = None,
    emotion: Emotions = None,
    suite: SuiteName = None,
    behaviour: Behaviours = None,
    dose: Doses = None,
    layers: Layers = None,
    judge: Judges = None,
    judge_calls: JudgeCalls = None,
    judge_money: JudgeMoney = None,
    judge_prices: JudgePrices = None,
    offset: Offset = 50,
    weighting: WeightingFlag = "story",
    ratings: RatingsFlag = None,
    min_words: MinWords = 40,
    permutations: Permutations = 2000,
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = None,
    token_budget: TokenBudget = None,
    seed: SampleSeed = 0,
    looks: Looks = None,
    go_on: Annotated[
        bool, typer.Option("--continue", help="Take the next look that the plan has: more scenarios, then the verdict.")
    ] = False,
    overwrite: Overwrite = False,
    json: Json = False,
    config: Config = None,
) -> int:
    """From a model's name to a verdict: atlas, choice of layer, experiment, report. Resumable at any moment."""
    checked("--weighting", weighting, ("story", "token"))
    names = list(models or ([] if plan else ORGANISMS))
    plans = workflows.plans_for(
        names, _preset(settings or ("full" if models or plan else "quick")), plan=plan,
        **_changes(vectors, emotion, suite, behaviour, dose, layers, judge, revision, dtype, seed, plan, looks),
    )  # fmt: skip
    atlas = workflows.AtlasSettings(
        stories=stories, generate_topics=topics, neutral=neutral, offset=offset, weighting=weighting, ratings=ratings,  # type: ignore[arg-type]
        min_words=min_words, revision=revision, dtype=dtype, device=device, token_budget=token_budget,
        permutations=permutations, overwrite=overwrite,
    )  # fmt: skip
    budget = _budget(judge_calls, judge_money, judge_prices)
    if len(plans) == 1:
        done = workflows.run_model(
            next(iter(plans.values())), out, atlas, budget=budget, go_on=go_on, progress=bars(json)
        )
        verdict_summary.verdicts([(done.verdict, done.folder)], done.report, json=json)
        return 0
    runs, report = workflows.run_models(plans, out, atlas, budget=budget, go_on=go_on, progress=bars(json))
    verdict_summary.verdicts([(one.verdict, one.folder) for one in runs.values()], report, json=json)
    return 0


def plan(
    model: Annotated[str | None, typer.Argument(help="Model. With --plan, the plan's own.")] = None,
    settings: Settings = None,
    plan: PlanFile = None,
    vectors: Vectors = None,
    emotion: Emotions = None,
    suite: SuiteName = None,
    behaviour: Behaviours = None,
    dose: Doses = None,
    layers: Layers = None,
    judge: Judges = None,
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = None,
    seed: SampleSeed = 0,
    looks: Looks = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run/--no-model", help="Load the model to count tokens and time; or only the plan.")
    ] = True,
    out: Annotated[Path | None, typer.Option("--out", help="TOML file to write the plan to.")] = None,
    json: Json = False,
    config: Config = None,
) -> int:
    """What an experiment would cost and which effect it could find, before its first sample."""
    if model is None and plan is None:
        raise InputError("neither a model nor a plan", "a model, or --plan FILE")
    (found,) = workflows.plans_for(
        [] if model is None else [model], _preset(settings or "full"), plan=plan,
        **_changes(vectors, emotion, suite, behaviour, dose, layers, judge, revision, dtype, seed, plan, looks),
    ).values()  # fmt: skip
    engine = None
    if dry_run:
        with bars(json)(f"loading {found.model}"):
            engine = workflows.open_model(found.model, revision=found.revision, dtype=found.dtype, device=device)
    counted = workflows.estimate(found, engine=engine)
    if out is not None:
        experiment.write_plan(out, found)
    verdict_summary.dry_run(found, counted, written=out, json=json)
    return 0


def evaluate(
    model: Annotated[str | None, typer.Argument(help="Model. With --plan, the plan's own.")] = None,
    out: OutFolder = Path("evaluation"),
    settings: Settings = None,
    plan: PlanFile = None,
    vectors: Vectors = None,
    stories: Stories = None,
    topics: Topics = 10,
    neutral: Neutral = None,
    emotion: Emotions = None,
    suite: SuiteName = None,
    behaviour: Behaviours = None,
    dose: Doses = None,
    layers: Layers = None,
    controls: Annotated[
        bool, typer.Option("--controls/--no-controls", help="Ask control directions too, as a verdict needs.")
    ] = False,
    judge: Judges = None,
    judge_calls: JudgeCalls = None,
    judge_money: JudgeMoney = None,
    judge_prices: JudgePrices = None,
    offset: Offset = 50,
    min_words: MinWords = 40,
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = None,
    token_budget: TokenBudget = None,
    seed: SampleSeed = 0,
    parquet: Annotated[Path | None, typer.Option("--parquet", help="Also write every sample to this file.")] = None,
    json: Json = False,
    config: Config = None,
) -> int:
    """Measure behaviours at some doses; print the mean outcome of every cell. No verdict, so no controls unless asked.

    Without vectors the atlas is made first. With --behaviour only that is asked, and the questions that match it.
    """
    if model is None and plan is None:
        raise InputError("neither a model nor a plan", "a model, or --plan FILE")
    if behaviour is not None and suite is None and plan is None:
        suite = behaviours.CHOSEN
    changes = _changes(vectors, emotion, suite, behaviour, dose, layers, judge, revision, dtype, seed, plan)
    if plan is None and not controls:
        changes["controls"] = dict.fromkeys(experiment.CONTROL_KINDS, 0)
        changes["claims"] = {"mixture": 0, "other": 0, "stripped": False}
    (found,) = workflows.plans_for(
        [] if model is None else [model], _preset(settings or "full"), plan=plan, **changes
    ).values()
    atlas = workflows.AtlasSettings(
        stories=stories, generate_topics=topics, neutral=neutral, offset=offset, min_words=min_words,
        revision=revision, dtype=dtype, device=device, token_budget=token_budget,
    )  # fmt: skip
    budget = _budget(judge_calls, judge_money, judge_prices)
    means = workflows.evaluate(found, out, atlas, budget=budget, parquet=parquet, progress=bars(json))
    verdict_summary.cells(means, out / workflows.LEDGER, json=json)
    return 0


def verdict(
    folder: Annotated[Path, typer.Argument(help="Folder of a run or an evaluation.")],
    json: Json = False,
    config: Config = None,
) -> int:
    """Weigh the samples of a run again: `verdict.json` and the report. Works on an unfinished run, and says so."""
    done = workflows.weigh_again(folder)
    verdict_summary.verdicts([(done.verdict, done.folder)], done.report, json=json)
    return 0


def logs(
    folder: Annotated[Path, typer.Argument(help="Folder of a run or an evaluation.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the logs.")] = Path("logs"),
    controls: Annotated[bool, typer.Option("--controls", help="The control directions too: many logs.")] = False,
    json: Json = False,
    config: Config = None,
) -> int:
    """Write a run's samples as Inspect logs, one a cell, for `inspect view`."""
    with bars(json)("writing logs"):
        written = integrations.write_logs(folder, out, controls=controls)
    if json:
        console.emit_json({"logs": [str(path) for path in written]})
        return 0
    console.say(f"{len(written)} logs. Look at them with: inspect view --log-dir {out}")
    console.out.print(str(out), highlight=False)
    return 0


def steer(
    model: Model,
    prompt: Annotated[str, typer.Argument(help="What to say to the model.")],
    vectors: Annotated[Path, typer.Option("--vectors", help="A bundle, an atlas or a run.")],
    emotion: Annotated[str, typer.Option("--emotion", help="An emotion or a blend, such as '0.5*joyful - sad'.")],
    dose: Annotated[str, typer.Option("--dose", help="Such as 0.1, or -0.1,0,0.1, or -0.1:0.1:5.")] = "-0.1,0,0.1",
    layers: Annotated[str | None, typer.Option(help="Such as 14 or 12,14. Default: the run's, else 2/3 deep.")] = None,
    operation: Annotated[str, typer.Option(help="add, clamp or ablate.")] = "add",
    positions: Annotated[str, typer.Option(help="all, prompt or generated.")] = "all",
    plain: Annotated[bool, typer.Option("--plain", help="No chat template: go on from the text as it is.")] = False,
    max_new_tokens: Annotated[int, typer.Option(help="At most this many tokens a text.")] = 128,
    temperature: Annotated[float, typer.Option(help="0: the likeliest token each time.")] = 1.0,
    samples: Annotated[int, typer.Option(help="Texts a dose.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the sampling; the same at every dose.")] = 0,
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = None,
    json: Json = False,
    config: Config = None,
) -> int:
    """Texts at several doses side by side, in one batch. Warns where a run found no safe range."""
    checked("--operation", operation, ("add", "clamp", "ablate"))
    checked("--positions", positions, ("all", "prompt", "generated"))
    side_by_side = workflows.steered_texts(
        model, prompt, vectors=vectors, direction=emotion, doses=parse_doses(dose),
        layers=None if layers is None else parse_whole_numbers("--layers", layers), operation=operation,  # type: ignore[arg-type]
        positions=positions, plain=plain, max_new_tokens=max_new_tokens, temperature=temperature,  # type: ignore[arg-type]
        samples=samples, seed=seed, revision=revision, dtype=dtype, device=device, progress=bars(json),
    )  # fmt: skip
    for note in side_by_side.notes:
        warn(note)
    verdict_summary.texts(side_by_side, json=json)
    return 0


def _budget(calls: int | None, money: float | None, prices: str | None) -> judges.Budget | None:
    if calls is None and money is None and prices is None:
        return None
    read, written = 0.0, 0.0
    if prices is not None:
        try:
            read, written = (float(part) for part in prices.split(","))
        except ValueError:
            raise InputError(f"--judge-prices {prices!r}", "two numbers with a comma, such as 0.15,0.60") from None
    return judges.Budget(calls, money, read, written)


def _preset(name: str) -> str:
    return checked("--settings", name, ("quick", "full"))


def _changes(
    vectors: Path | None, emotion: str | None, suite: str | None, behaviour: str | None, dose: str | None,
    layers: str | None, judge: list[str] | None, revision: str | None, dtype: str, seed: int, plan: Path | None,
    looks: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The flags that were given, under the names that a plan has."""
    changes: dict[str, Any] = {
        "vectors": vectors,
        "directions": None if emotion is None else _names(emotion),
        "suite": suite,
        "effects": None if behaviour is None else tuple(name.replace("_", "-") for name in _names(behaviour)),
        "doses": None if dose is None else parse_doses(dose),
        "layers": None if layers is None else parse_whole_numbers("--layers", layers),
        "judges": tuple(judge) if judge else None,
        "revision": revision,
        # With a plan at hand its own values count, unless a flag says otherwise.
        "dtype": None if plan and dtype == "auto" else dtype,
        "seed": None if plan and seed == 0 else seed,
        "looks": None if looks is None else parse_whole_numbers("--looks", looks),
    }
    return {name: value for name, value in changes.items() if value is not None}


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
