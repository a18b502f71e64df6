"""What a plan would cost, and what it could find, before its first sample."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from heartstrings import stats
from heartstrings.behaviours.base import Dialogue
from heartstrings.behaviours.choices.two_options import TwoOptions
from heartstrings.core.types import Frozen
from heartstrings.engines.hf import checkpoint_folder
from heartstrings.engines.hf.named import local_folder
from heartstrings.experiment._timing import TIME, Timing, time_plan
from heartstrings.experiment.cells import Job, Planned, anywhere, select_jobs, situations, test_jobs
from heartstrings.experiment.plan import Plan, searched_layers
from heartstrings.experiment.run import CHUNK
from heartstrings.experiment.sample_counts import tested
from heartstrings.stats.betting import upper_bound
from heartstrings.stats.contrasts import contrasts

if TYPE_CHECKING:
    from heartstrings.behaviours.base import Behaviour, Request
    from heartstrings.behaviours.roles import Suite
    from heartstrings.core.engine import Engine, Prompt

TOKENS_A_WORD = 1.4
"""Where no tokenizer is at hand. English prose, common vocabularies."""
UNKNOWN_DEPTH = 32
"""Layers of a model whose depth is not known."""
PLANTED = 0.10
"""The effect of interest in the power sentence: 10 points."""
BETWEEN = 0.20
"""Assumed standard deviation over scenarios of their true effects, for answers asked as probabilities."""
BINARY_SD = 0.5
"""Of a sampled answer that is 0 or 1, at its largest; a behaviour with graded texts has a `sample_sd` of its own."""

PEAK, READING, BANDWIDTH, STEP, BATCH = 990e12, 0.4, 1.7e12, 0.03, CHUNK["text"]
"""What GPU-hours assume: bfloat16 peak of an H100 or H200 in FLOP/s, the share of it reached while reading, half the
memory's bytes a second, seconds that a decoding step takes at least, texts decoded together."""

CountTokens = Callable[[Sequence[str]], Sequence[int] | np.ndarray]


class DryRun(Frozen):
    """The size of an experiment."""

    layers: int
    """Searched."""
    cells: int
    samples: int
    choices: int
    """Samples that are scored."""
    texts: int
    """Completions that are generated; a dialogue counts with all the turns it may take."""
    prompt_tokens: int
    new_tokens: int
    """At most, if every text runs to its limit."""
    seconds: float | None
    """Of sampling on this machine as it was during the timing (`experiment._timing`); None without a timing. The atlas,
    the fit of the doses and judges are not part of it."""
    seconds_error: float | None = None
    """Standard error of `seconds`, from the spread between the pieces that were timed."""
    idle_seconds: float | None = None
    """The same on an idle machine, where other processes slowed the timing and the time without them can be told; else
    None."""
    gpu_hours: float | None = None
    """On one large GPU, by arithmetic (`_gpu_hours`); None where the model's size is not known."""
    power: str
    """What these samples can detect, in a sentence."""
    notes: tuple[str, ...]
    """What was assumed."""


def estimate(
    plan: Plan,
    *,
    n_layers: int | None = None,
    suite: Suite,
    tokens: CountTokens | None = None,
    timing: Timing | None = None,
) -> DryRun:
    """Count what a plan asks for. No model is loaded and nothing is sampled.

    Args:
        n_layers: the model's; None: from its configuration where that lies on this machine, else assumed.
        suite: the plan's behaviours.
        tokens: counts the tokens of texts, e.g. an engine's `count_tokens`; None: words times 1.4.
        timing: of the same plan, from `time_plan`.
    """
    notes = []
    depth = n_layers if n_layers is not None else _depth(plan.model)
    if depth is None:
        depth = UNKNOWN_DEPTH if plan.layers == "middle" else max(plan.layers) + 1
        if plan.layers == "middle":
            notes.append(f"the model's depth is not known here: {depth} layers are assumed")
    layers, names = searched_layers(plan, depth), Planned(plan)
    jobs = (
        *select_jobs(plan, suite, names, layers),
        *test_jobs(plan, suite, names, anywhere(plan, names, layers[0])),
    )
    if len(plan.effects) > 1 and len(layers) > 1:
        notes.append("effects are taken to choose the same layers; where they do not, costs are asked at each")
    notes += _on_checks(plan, suite, timing)
    if tokens is None:
        notes.append(f"prompt tokens are an estimate: {TOKENS_A_WORD} a word")
    if plan.fit_doses and plan.dose_factor is None:
        notes.append("all doses are first multiplied by a factor that fits the model, a power of two from 1/16 to 4")
    if plan.early_stopping:
        notes.append(
            "early stopping will save some of the capability and harm samples, which the time does not foresee"
        )
    notes += out_of_reach(plan, suite)
    prompt_tokens, new_tokens = 0, 0
    for job in jobs:
        prompt, new = _tokens(job, tokens or _words)
        prompt_tokens, new_tokens = prompt_tokens + prompt, new_tokens + new
    numbers = {"choice": 0, "text": 0}
    for job in jobs:
        numbers["choice" if job.behaviour.ask == "choice" else "text"] += len(job) * _turns(job)
    notes += _on_time(timing)
    size = _parameters(plan.model)
    if size is None:
        notes.append("GPU-hours are not known: neither weights on this machine nor a size in the model's name")
    else:
        notes.append(
            f"GPU-hours are arithmetic for {size / 1e9:.2g} billion parameters, at most: {READING:.0%} of "
            f"{PEAK / 1e12:.0f} TFLOP/s while reading, {BATCH} texts a batch at {1000 * STEP:.0f} ms a token or more, "
            "every text to its limit"
        )
    return DryRun(
        layers=len(layers),
        cells=sum(len(job.cells) for job in jobs),
        samples=sum(map(len, jobs)),
        choices=numbers["choice"],
        texts=numbers["text"],
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        seconds=None if timing is None else timing.seconds,
        seconds_error=None if timing is None else timing.error,
        idle_seconds=_idle(timing),
        gpu_hours=None if size is None else _gpu_hours(size, prompt_tokens, new_tokens),
        power=power(plan, suite),
        notes=tuple(notes),
    )


def measured(
    plan: Plan, engine: Engine, suite: Suite, *, limit: float = TIME, progress: Callable[[int, int], None] | None = None
) -> DryRun:
    """`estimate` with the model's own depth and tokenizer, and the time that some of the plan's own samples take.

    Args:
        limit: seconds that the timing may take, about.
        progress: called with (seconds gone, seconds in all).
    Raises:
        HeartstringsError: the model fails on the plan's prompts.
    """

    def count(texts: Sequence[str]) -> np.ndarray:
        return np.asarray(engine.count_tokens(texts, max_tokens=2**20))

    def read(requests: Sequence[Request]) -> np.ndarray:
        return count([_text(request.prompt) for request in requests])

    timing = time_plan(plan, engine, suite, tokens=read, limit=limit, progress=progress)
    return estimate(plan, n_layers=engine.info.n_layers, suite=suite, tokens=count, timing=timing)


def power(plan: Plan, suite: Suite) -> str:
    """Which effect the plan's samples can find, and how many scenarios 10 points need; the assumptions in words."""
    if not plan.controlled:
        return "Without controls no effect can be found, only measured."
    plan = plan.spent
    sentences = []
    groups: dict[tuple[str, int, int, float, int, tuple[float, ...], tuple[int, ...]], list[str]] = {}
    for name in plan.effects:
        effect = suite.behaviour(name)
        sd = 0.0 if effect.ask == "choice" else float(getattr(effect, "sample_sd", BINARY_SD))
        asked = tested(plan, effect)
        doses = (*plan.compared(name), 0.0)
        of_kind = plan.comparisons(name)
        groups.setdefault(
            (effect.ask, situations(plan, suite, effect), asked, sd, len(plan.family(name)), doses, of_kind), []
        ).append(name)
    asks = [ask for ask, *_ in groups]
    for (ask, n, asked, sd, family, doses, of_kind), names in sorted(groups.items()):
        spread = stats.sampled_spread(sd, sorted(doses), repeats=plan.samples.repeats, between=BETWEEN)
        design = stats.Design(
            spread, of_kind, len(plan.directions), family, len(contrasts(doses)[0]), plan.thresholds.alpha
        )
        ends = (min(doses), max(doses))
        sentence = stats.summarise(n, design, doses=ends, planted=PLANTED, between=BETWEEN).sentence
        if n < asked:
            sentence += f" The {asked} scenarios count as {n}: those that share a situation are not independent."
        of = f"{ask.capitalize()}s" if asks.count(ask) == 1 else ", ".join(names).capitalize()
        sentences.append(sentence if len(groups) == 1 else f"{of}: {sentence[:1].lower()}{sentence[1:]}")
    return " ".join(sentences)


def out_of_reach(plan: Plan, suite: Suite) -> tuple[str, ...]:
    """Limits that a plan's sample sizes cannot show to hold, even if nothing gets worse: no range can then be called
    safe, whatever the model does. A sentence for each limit of a share that seldom changes (harm, validity, script,
    endings)."""
    plan = plan.spent.at_look(len(plan.looks))
    limits = plan.thresholds
    sentences: list[str] = []
    for name in plan.effects:
        effect = suite.behaviour(name)
        if effect.ask != "choice" or isinstance(effect, TwoOptions):  # elsewhere every answer is one
            sentences += _short(plan, suite, effect, "validity", limits.validity_drop)
        if effect.ask == "text":
            sentences += _short(plan, suite, effect, "script", limits.script_drop)
    for behaviour in suite.harm if plan.samples.harm else ():
        sentences += _short(plan, suite, behaviour, "harm", limits.harm_rise)
    for behaviour in suite.writing if plan.samples.writing else ():
        sentences += _short(plan, suite, behaviour, "endings", limits.ends_drop)
    return tuple(sentences)


def _short(plan: Plan, suite: Suite, behaviour: Behaviour, limit_name: str, limit: float) -> Sequence[str]:
    n_situations = situations(plan, suite, behaviour)
    bound = upper_bound([0.0] * n_situations, alpha=plan.thresholds.alpha)
    if bound is None or bound < limit:
        return ()
    needed = n_situations
    while (upper_bound([0.0] * needed, alpha=plan.thresholds.alpha) or 1.0) >= limit:
        needed += 1
    return (
        f"{behaviour.name}: {n_situations} situations cannot hold the limit of {limit_name}, {100 * limit:g} points, "
        f"even if nothing changes ({needed} can), so that `controls` is out of reach",
    )


def _on_checks(plan: Plan, suite: Suite, timing: Timing | None) -> list[str]:
    """Controls that are asked or not, as the model knows the answers of a behaviour's checks."""
    if not plan.controlled or not any(suite.checks_of(effect) for effect in plan.effects):
        return []
    if timing is None or timing.unclear is None:
        return ["controls are not asked a behaviour whose known answers the model fails: the run is shorter then"]
    if not timing.unclear:
        return []
    return [
        f"the model fails the known answers of {', '.join(timing.unclear)}, so that controls are not asked these: the "
        "time is without them, the numbers of samples are with them"
    ]


def _idle(timing: Timing | None) -> float | None:
    """Seconds on an idle machine, where that differs from the time as measured and is known."""
    if timing is None or not timing.contention.busy or timing.contention.idle is None:
        return None
    return timing.seconds * timing.contention.idle


def _on_time(timing: Timing | None) -> list[str]:
    if timing is None:
        return []
    timed, samples = sum(job.timed for job in timing.jobs), sum(job.samples for job in timing.jobs)
    notes = [f"the time is estimated from {timed:,} of {samples:,} samples, which took {timing.took:.0f} s"]
    contention = timing.contention
    if contention.busy and contention.others is not None:
        notes.append(
            f"other processes kept {contention.others:.1f} of {contention.processors} processors busy and slowed the "
            "timing: the time is for the machine as it is, and shorter when they have ended"
        )
    cut = dict.fromkeys(job.behaviour for job in timing.jobs if job.cut)
    if cut:
        notes.append(f"the time takes every text of {', '.join(cut)} to run to its limit: timing stopped before")
    turns = dict.fromkeys(job.behaviour for job in timing.jobs if job.turns > 1)
    if turns:
        notes.append(f"the time of {', '.join(turns)} is that of first turns, times all the turns that there may be")
    return notes


def _tokens(job: Job, count: CountTokens) -> tuple[int, int]:
    """Prompt tokens and at most so many new ones, of all samples of a job."""
    requests = [job.behaviour.request(scenario, steering=None, seed=0) for scenario in job.scenarios]
    prompt_tokens = np.asarray(count([_text(request.prompt) for request in requests]))
    limit = sum(_limit(request) for request in requests)
    times = len(job.cells) * job.repeats * _turns(job)
    return int(prompt_tokens.sum()) * times, limit * times


def _gpu_hours(size: float, prompt_tokens: int, new_tokens: int) -> float:
    """2 FLOP a parameter and token read; each decoding step reads all weights (2 bytes each) for `BATCH` texts."""
    reading = 2 * size * prompt_tokens / (READING * PEAK)
    writing = new_tokens / BATCH * max(STEP, 2 * size / BANDWIDTH)
    return (reading + writing) / 3600


def _parameters(model: str) -> float | None:
    """How many, from the weights' files on this machine or from the name (`8B`, `E4B`, `410m`)."""
    folder = local_folder(model)
    stored = None if folder is None else checkpoint_folder.parameters(folder)
    if stored is not None:
        return float(stored)
    sizes = re.findall(r"(?<![a-zA-Z0-9.])[eE]?(\d+(?:\.\d+)?)([bBmM])(?![a-zA-Z0-9])", model)
    return float(sizes[-1][0]) * (1e9 if sizes[-1][1] in "bB" else 1e6) if sizes else None


def _turns(job: Job) -> int:
    """Completions of a sample, at most; that later turns have longer prompts is not counted."""
    return job.behaviour.turns if isinstance(job.behaviour, Dialogue) else 1


def _limit(request: Request) -> int:
    return int(getattr(request, "max_new_tokens", 0))


def _text(prompt: Prompt) -> str:
    """Without what a chat template adds."""
    return prompt if isinstance(prompt, str) else "\n".join(message.content for message in prompt)


def _words(texts: Sequence[str]) -> np.ndarray:
    return np.array([round(TOKENS_A_WORD * len(text.split())) for text in texts])


def _depth(model: str) -> int | None:
    """Number of layers from a configuration on this machine."""
    folder = local_folder(model)
    return None if folder is None else checkpoint_folder.depth(folder)
