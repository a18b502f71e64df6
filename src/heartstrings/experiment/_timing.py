"""How long the samples of a plan take on this machine, from a part of them, asked as the experiment asks them.

Requests share prompts and, below the steered layer, blocks. So pieces of the experiment's own chunks are timed:
neighbours of one chunk, through the code that the experiment uses. Each behaviour has its own estimate in each phase,
since the phases differ in layers and doses. The pieces are spread over all scenarios and cells of a job. Its time is a
ratio estimate (Cochran, Sampling Techniques, 3rd edition, 1977, chapter 6): seconds of the pieces, relative to their
size, times the size of the whole job. `_Job.size` is that size; it only has to be roughly proportional to the time.

Directions are random, because a plan may have no vectors yet: the time is that of any direction.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from heartstrings.behaviours.base import Dialogue
from heartstrings.core.engine import GenerateRequest
from heartstrings.core.steering import Intervention, Steering
from heartstrings.core.types import Frozen
from heartstrings.experiment import _contention
from heartstrings.experiment._contention import Contention
from heartstrings.experiment.cells import Chosen, Item, Job, Planned, select_jobs, steered, test_jobs
from heartstrings.experiment.plan import Plan, searched_layers
from heartstrings.experiment.run import CHUNK, Sampling, request_for, worded
from heartstrings.experiment.told_apart import not_told_apart

if TYPE_CHECKING:
    from heartstrings.behaviours.base import Answer, Request
    from heartstrings.behaviours.roles import Suite
    from heartstrings.core.engine import Engine, ScoreRequest
    from heartstrings.experiment.ledger import Cell, Sample

TIME = 60.0
"""Seconds that the timing takes, about. A slow model needs longer: `FIRST` samples of each job are always timed."""
LONGER = 2.0
"""On a busy machine the timing may take so many times longer: until the model has had its part of the processors."""
ENOUGH = 0.05
"""Relative standard error of the whole time at which the timing stops early."""
FIRST, FIRST_TEXTS, FIRST_TOKENS = 8, 2, 4
"""Samples that a job is first timed with; texts, and new tokens of each, where answers are written."""
GROWTH = 4
CHEAPER = 0.9
"""Pieces grow as long as a larger one takes less than this share of the time, for its size."""
UNSHARED = 0.1
"""What a row costs beside the blocks above the steered one, in units of all blocks (`_Job.size`)."""
SPREAD = 0.25
"""Standard deviation of a piece's time per size, relative to the mean, that is assumed before there are several."""
CHECKS = 0.2
"""Share of the time that asking all questions with a known answer may take."""

CountTokens = Callable[[Sequence["Request"]], Sequence[int] | np.ndarray]
Progress = Callable[[int, int], None]


class Timed(Frozen):
    """What one job takes: one behaviour in one phase."""

    behaviour: str
    phase: str
    samples: int
    """All of the job."""
    seconds: float
    """Of all its samples. All turns of a dialogue are included."""
    error: float
    """Standard error of `seconds` from the spread between pieces; 0 where every sample was timed."""
    timed: int
    """Samples that were timed."""
    cut: bool = False
    """Whether texts were stopped before their limit. `seconds` then takes all of them to run to it."""
    turns: int = 1


class Timing(Frozen):
    """What the samples of a plan take on this machine."""

    jobs: tuple[Timed, ...]
    unclear: tuple[str, ...] | None
    """Effect behaviours whose known answers the model fails, so that controls are not asked them; None where the
    questions with a known answer took too long to be asked."""
    took: float
    """Seconds of the timing itself."""
    contention: Contention

    @property
    def seconds(self) -> float:
        """Of all jobs."""
        return sum(job.seconds for job in self.jobs)

    @property
    def error(self) -> float:
        """Standard error of `seconds`; the errors of jobs are taken to be independent."""
        return math.sqrt(sum(job.error**2 for job in self.jobs))


def time_plan(
    plan: Plan,
    engine: Engine,
    suite: Suite,
    *,
    tokens: CountTokens,
    limit: float = TIME,
    progress: Progress | None = None,
) -> Timing:
    """Time pieces of every job of a plan. Texts are not graded, so no code that a model wrote is run.

    Args:
        tokens: counts those of some requests' prompts.
        limit: seconds for all of it, about.
        progress: called with (seconds gone, seconds in all).
    Raises:
        HeartstringsError: the model fails on the plan's prompts.
    """
    clock = _Clock(limit, progress)
    before = _contention.read()
    names, layers = Planned(plan), searched_layers(plan, engine.info.n_layers)
    chosen = _spread(plan, names, layers)
    sampling = _sampling(plan, engine)
    everything = test_jobs(plan, suite, names, chosen)
    make = _Maker(plan, engine, sampling, tokens)
    checks = [make(job) for job in everything if job.behaviour.role == "check"]
    _warm_up([*checks, *(make(job) for job in everything if job.behaviour.role != "check")], layers)
    unclear = _checks(plan, suite, checks, CHECKS * limit)
    sofar = _contention.between(before, _contention.read())
    clock.contended = sofar.busy and sofar.threads == 1 and engine.info.device == "cpu"
    left = {"unclear": unclear or ()}
    other_jobs = [
        make(job)
        for job in (*select_jobs(plan, suite, names, layers, **left), *test_jobs(plan, suite, names, chosen, **left))
        if job.behaviour.role != "check"
    ]
    _first(other_jobs, clock)
    _more([*checks, *other_jobs], clock)
    return Timing(
        jobs=tuple(job.result() for job in (*checks, *other_jobs)),
        unclear=None if unclear is None else tuple(sorted(unclear)),
        took=clock.gone,
        contention=_contention.between(before, _contention.read()),
    )


class _Clock:
    """The time that is left for timing. Seconds in which this process did not run, because others did, do not count
    until the timing takes `LONGER` times its limit."""

    def __init__(self, limit: float, progress: Progress | None, contended: bool = False) -> None:
        self.limit, self.progress, self.contended = limit, progress, contended
        self.start, self.own = time.perf_counter(), time.process_time()

    @property
    def gone(self) -> float:
        return time.perf_counter() - self.start

    @property
    def left(self) -> float:
        ran = min(self.gone, time.process_time() - self.own) if self.contended else self.gone
        return min(self.limit - ran, LONGER * self.limit - self.gone)

    def tell(self) -> None:
        if self.progress is not None:
            done = min(max(self.limit - self.left, 0.0), self.limit)
            self.progress(int(done), round(self.limit))


def _spread(plan: Plan, names: Planned, layers: Sequence[int]) -> Chosen:
    """Directions and controls over all the layers, as a search would choose them, more or less."""
    return {
        (effect, vector): layers[number % len(layers)]
        for effect in plan.effects
        for number, vector in enumerate(steered(plan, names))
    }


@dataclass
class _RandomDirections:
    """In place of a direction set: a random direction for each name, the same at every call."""

    width: int

    def steering(self, cell: Cell, plan: Plan) -> Steering | None:
        """As a direction set gives it."""
        if cell.kind in ("baseline", "prompting"):
            return None
        seed = hashlib.sha256(f"{cell.kind} {cell.direction} {cell.layer}".encode()).digest()[:8]
        draw = np.random.default_rng(int.from_bytes(seed, "big"))
        intervention = Intervention(
            layer=cell.layer,
            direction=draw.standard_normal(self.width).astype(np.float32),
            dose=cell.dose,
            norm=1.0,
            operation=plan.operation,
            site=plan.site,
        )
        return Steering((intervention,), plan.positions)


def _sampling(plan: Plan, engine: Engine) -> Sampling:
    """The experiment's own sampling. It takes chunks and records nothing, so it needs no ledger."""
    directions = cast("Any", _RandomDirections(engine.info.width))
    return Sampling(plan, engine, directions, cast("Any", None), None, total=0)


@dataclass(frozen=True)
class _Maker:
    """Makes the timer of a job."""

    plan: Plan
    engine: Engine
    sampling: Sampling
    tokens: CountTokens

    def __call__(self, job: Job) -> _Job:
        read = self.tokens([job.behaviour.request(scenario, steering=None, seed=0) for scenario in job.scenarios])
        return _Job(self.plan, self.engine, self.sampling, job, np.asarray(read, dtype=np.float64))


@dataclass
class _Job:
    """A job, and what is known of its time."""

    plan: Plan
    engine: Engine
    sampling: Sampling
    job: Job
    tokens: np.ndarray
    """Of each scenario's prompt."""
    piece: int = 0
    """Samples of a piece."""
    limit: int | None = None
    """New tokens of each text; None: as many as the request asks for."""
    pieces: list[tuple[float, float]] = field(default_factory=list)
    """(seconds, size) of the pieces that count."""
    timed: int = 0
    picked: int = 0
    cut: bool = False
    beyond: float = 0.0
    """Seconds of a piece for the tokens after `limit`, if every text that was cut ran to its own limit."""
    factor: float = 1.0
    """What a text takes in a batch of a whole chunk, relative to a batch of `piece`."""
    whole: bool = False
    """Whether every sample was timed, in the order and the chunks of the experiment."""

    @property
    def writes(self) -> bool:
        return self.job.behaviour.ask != "choice"

    @property
    def turns(self) -> int:
        behaviour = self.job.behaviour
        return behaviour.turns if isinstance(behaviour, Dialogue) else 1

    # --- Which samples -------------------------------------------------------------------------------------

    def window(self, n: int) -> list[Item]:
        """The next piece of `n` neighbours of one chunk, or of what the chunk has left.

        The place of its first sample follows a sequence that covers the job evenly in coarse and in fine steps (the R2
        sequence of Roberts, 2018), from a start that depends on the plan and the job.
        """
        cells, chunk = len(self.job.cells) * self.job.repeats, CHUNK[self.job.behaviour.ask]
        key = f"{self.plan.hash} {self.job.behaviour.name} {self.job.cells[0].phase}"
        start = np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")).random(2)
        across, along = (start + self.picked * np.array([0.7548776662, 0.5698402910])) % 1
        self.picked += 1
        first = int(across * len(self.job.scenarios)) * cells + int(along * cells)
        first = first // chunk * chunk + first % chunk // n * n
        end = min(first + n, first // chunk * chunk + chunk, len(self.job))
        return [self.job.item(number) for number in range(first, end)]

    def size(self, items: Sequence[Item] | None = None) -> float:
        """About proportional to the time of some samples, or of all. For choices: prompt tokens times the share of the
        blocks that a row has for itself. For texts: their number, as new tokens take most of the time."""
        if self.writes:
            return float(len(self.job) if items is None else len(items))
        own = {cell: self._own_blocks(cell) for cell in self.job.cells}
        if items is None:
            return float(self.tokens.sum()) * sum(own.values()) * self.job.repeats
        read = dict(zip((scenario.id for scenario in self.job.scenarios), self.tokens.tolist(), strict=True))
        return float(sum(read[item.scenario.id] * own[item.cell] for item in items))

    def _own_blocks(self, cell: Cell) -> float:
        depth = max(1, self.engine.info.n_layers)
        return UNSHARED + (1.0 if cell.layer < 0 else (depth - cell.layer) / depth)

    # --- Timing --------------------------------------------------------------------------------------------

    def time(self, items: Sequence[Item], tokens: int | None = None) -> float:
        """Seconds that some samples take, with at most so many new tokens each. Sets `cut`."""
        self.steer(items)
        start = time.perf_counter()
        if self.writes:
            self.write(items, tokens)
        else:
            self.sampling.take(self.job.behaviour, items)
        return time.perf_counter() - start

    def ask(self, items: Sequence[Item]) -> list[Sample]:
        self.steer(items)
        return self.sampling.take(self.job.behaviour, items)

    def steer(self, items: Sequence[Item]) -> None:
        """The experiment makes the steering of a job's cells once, before its first chunk; so it is not timed."""
        missing = {item.cell for item in items} - set(self.sampling.steerings)
        for cell in missing:
            self.sampling.steerings[cell] = self.sampling.directions.steering(cell, self.plan)

    def write(self, items: Sequence[Item], tokens: int | None) -> None:
        """As `Sampling.take`, without grades, and of a dialogue the first turn only."""
        behaviour, steerings = self.job.behaviour, self.sampling.steerings
        asked = cast(
            "list[GenerateRequest]",
            [request_for(self.plan, behaviour, item, steerings[item.cell]) for item in items],
        )
        limits = [
            request.max_new_tokens if tokens is None else min(tokens, request.max_new_tokens) for request in asked
        ]
        said = self.engine.generate(
            [replace(request, max_new_tokens=n) for request, n in zip(asked, limits, strict=True)]
        )
        self.cut = any(
            answer.finish == "length" and limit < request.max_new_tokens
            for request, limit, answer in zip(asked, limits, said, strict=True)
        )
        if not isinstance(behaviour, Dialogue):
            self._follow_up(items, said)

    def _follow_up(self, items: Sequence[Item], said: Sequence[Answer]) -> None:
        behaviour = self.job.behaviour
        follow_ups = [
            self.sampling.second(behaviour, item, worded(item), answer)
            for item, answer in zip(items, said, strict=True)
        ]
        more: list[ScoreRequest] = [request for request in follow_ups if request is not None]
        if more:
            self.engine.score(more)

    def add(self, n: int | None = None) -> float:
        """Time one more piece; its seconds."""
        items = self.window(n or self.piece)
        seconds = self.time(items, self.limit)
        self.pieces.append(((seconds + (self.beyond if self.cut else 0.0)) * self.factor, self.size(items)))
        self.timed += len(items)
        return seconds

    # --- What it says --------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Of the whole job."""
        if self.whole:
            return sum(seconds for seconds, _ in self.pieces)
        spent, size = map(sum, zip(*self.pieces, strict=True))
        return float(spent / size * self.size() * self.turns)

    @property
    def error(self) -> float:
        """Standard error of `seconds`. With few pieces, `SPREAD` counts as two more."""
        if self.whole:
            return 0.0
        n = len(self.pieces)
        spent, size = map(sum, zip(*self.pieces, strict=True))
        ratio, mean = spent / size, size / n
        residuals = (
            sum(((seconds - ratio * own) / (ratio * mean)) ** 2 for seconds, own in self.pieces) if ratio else 0.0
        )
        variance = (2 * SPREAD**2 + residuals) / (2 + n - 1)
        return self.seconds * math.sqrt(variance / n)

    def result(self) -> Timed:
        return Timed(
            behaviour=self.job.behaviour.name,
            phase=self.job.cells[0].phase,
            samples=len(self.job),
            seconds=self.seconds,
            error=self.error,
            timed=self.timed,
            cut=self.limit is not None,
            turns=self.turns,
        )


def _warm_up(jobs: Sequence[_Job], layers: Sequence[int]) -> None:
    """First calls set things up, and those at a new layer check that blocks may be shared below it."""
    for writes in (False, True):
        first = min((job for job in jobs if job.writes == writes), key=lambda job: job.tokens.min(), default=None)
        if first is None:
            continue
        shortest = first.job.scenarios[int(first.tokens.argmin())]
        scenario_items = [
            Item(cell, shortest, repeat) for cell in first.job.cells for repeat in range(first.job.repeats)
        ]
        for layer in layers:
            items = [item for item in scenario_items if item.cell.layer == layer][:FIRST_TEXTS]
            first.time(items or scenario_items[:FIRST_TEXTS], FIRST_TOKENS)


def _checks(plan: Plan, suite: Suite, checks: Sequence[_Job], limit: float) -> frozenset[str] | None:
    """Ask the questions with a known answer, all of them if the time allows it; then it is known which controls the
    experiment leaves out."""
    samples: list[Sample] = []
    for number, job in enumerate(checks):
        share = limit / (len(checks) - number)
        first = [job.job.item(i) for i in range(min(FIRST, len(job.job)))]
        seconds = job.time(first)
        job.timed = len(first)
        job.pieces = [(seconds, job.size(first))]
        if job.writes or job.seconds > share:
            continue
        items = [job.job.item(i) for i in range(len(job.job))]
        chunk = CHUNK[job.job.behaviour.ask]
        start = time.perf_counter()
        for at in range(0, len(items), chunk):
            samples += job.ask(items[at : at + chunk])
        job.pieces, job.whole, job.timed = [(time.perf_counter() - start, job.size())], True, len(items)
        limit -= job.seconds
    return not_told_apart(plan, suite, samples) if all(job.whole for job in checks) else None


def _first(jobs: Sequence[_Job], clock: _Clock) -> None:
    """Find for each job how large a piece should be, and time the first one.

    All jobs are tried on few samples first: so it is known which of them the time depends on, and these have more
    time for full batches of texts.
    """
    rough = {}
    for number, job in enumerate(jobs):
        if job.writes:
            job.piece, job.limit = min(FIRST_TEXTS, len(job.job)), FIRST_TOKENS
            items = job.window(job.piece)
            seconds = job.time(items, job.limit)
            rough[number] = seconds / FIRST_TOKENS * _most_tokens(job, items) / len(items) * len(job.job) * job.turns
            # A batch of many texts takes hardly longer than one of two.
            rough[number] /= min(GROWTH, len(job.job) / len(items))
        else:
            job.piece = min(FIRST, len(job.job))
            job.add()
            rough[number] = job.seconds
        clock.tell()
    whole = sum(rough.values())
    equal = clock.left / max(1, len(jobs))
    for number, job in enumerate(jobs):
        share = max(equal, clock.left * rough[number] / whole) if whole else equal
        share = min(share, max(0.0, clock.left))
        _size_of_texts(job, share) if job.writes else _size_of_choices(job, share / 2)
        clock.tell()


def _size_of_choices(job: _Job, share: float) -> None:
    """Larger pieces, as long as they take clearly less time for their size: then batches are full."""
    spent, most = 0.0, min(CHUNK[job.job.behaviour.ask], len(job.job))
    seconds, size = job.pieces[-1]
    while job.piece < most and spent + GROWTH * seconds <= share:
        job.piece = min(GROWTH * job.piece, most)
        smaller = job.pieces
        job.pieces = []  # in smaller pieces, less is shared
        before = seconds / size
        spent += job.add()
        seconds, size = job.pieces[-1]
        if seconds / size > CHEAPER * before:
            job.pieces = [*smaller, *job.pieces]
            break
    job.whole = job.piece == len(job.job) and len(job.pieces) == 1


def _size_of_texts(job: _Job, share: float) -> None:
    """First more texts with one new token each, up to a chunk, because a step of many takes hardly longer than of one.
    Then more tokens of each: all of them if the time is enough, else as many as it is enough for.

    Where the time is not enough for a chunk, the time to read prompts and the time of a step are taken to grow linearly
    with the number of texts, from the smallest batch to the largest that was timed and on to a chunk.
    """
    most = min(CHUNK[job.job.behaviour.ask], len(job.job))
    n = min(FIRST_TEXTS, most)
    items = job.window(n)
    small = (n, *_reading_and_step(job, items, job.time(items, 1)))
    seconds, spent, more = small[1], 0.0, float(GROWTH)
    while n < most and (n == small[0] or spent + more * seconds <= share / 3):
        n, before = min(GROWTH * n, most), seconds
        items = job.window(n)
        seconds = job.time(items, 1)
        more, spent = min(max(seconds / before, 1.0), float(GROWTH)), spent + seconds
    reading, step = small[1:] if n == small[0] else _reading_and_step(job, items, seconds)
    limit = _most_tokens(job, items)
    tokens = min(1 + FIRST_TOKENS, limit)
    seconds = reading + step * (tokens - 1)
    spent += seconds
    job.cut = True
    while job.cut and tokens < limit:
        goal = int((share - spent - reading) / step) if step else limit
        if goal < min(limit, 2 * tokens):
            break
        tokens = min(goal, limit)
        seconds = job.time(items, tokens)
        spent += seconds
    job.piece, job.limit = n, tokens if job.cut and tokens < limit else None
    job.beyond = step * (limit - tokens) if job.limit else 0.0
    job.factor = 1.0
    if n < most:
        whole = max(seconds + job.beyond, 1e-9)
        writing = whole - reading
        later = _line(small[0], small[1], n, reading, most)
        later += writing * (_line(small[0], small[2], n, step, most) / step if step else 1.0)
        job.factor = min(1.0, later / most / (whole / n))
    job.pieces = [((seconds + job.beyond) * job.factor, job.size(items))]
    job.timed, job.whole = len(items), len(items) == len(job.job) and job.limit is None and job.turns == 1


def _reading_and_step(job: _Job, items: Sequence[Item], reading: float) -> tuple[float, float]:
    """Seconds until the first token of some texts, as given, and of each further one."""
    tokens = min(1 + FIRST_TOKENS, _most_tokens(job, items))
    return reading, max(0.0, job.time(items, tokens) - reading) / max(1, tokens - 1)


def _line(n: int, value: float, more: int, larger: float, to: int) -> float:
    """On to `to` from two points; no steeper than through the origin, and not falling."""
    slope = (larger - value) / (more - n) if more > n else 0.0
    return larger + min(max(slope, 0.0), larger / more) * (to - more)


def _most_tokens(job: _Job, items: Sequence[Item]) -> int:
    """The largest limit of some texts."""
    asked = [request_for(job.plan, job.job.behaviour, item, None) for item in items]
    return max(request.max_new_tokens for request in cast("list[GenerateRequest]", asked))


def _more(jobs: Sequence[_Job], clock: _Clock) -> None:
    """Further pieces, each of the job where it lowers the error most for its time."""
    while True:
        whole, error = sum(job.seconds for job in jobs), math.sqrt(sum(job.error**2 for job in jobs))
        clock.tell()
        if error <= ENOUGH * whole:
            return
        gains = []
        for job in jobs:
            cost = sum(seconds for seconds, _ in job.pieces) / len(job.pieces)
            if not job.whole and cost <= clock.left:
                n = len(job.pieces)
                gains.append((job.error**2 / (n + 1) / max(cost, 1e-9), job))
        if not gains:
            return
        max(gains, key=lambda gain: gain[0])[1].add()
