"""How long the samples of a plan take on this machine, from some of them, asked as the experiment asks them.

Requests share prompts and, below the steered layer, blocks; so what is timed are parts of real chunks, steered along
random directions: the time is that of any direction. The parts grow until a chunk is full or the time is up.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, cast

import numpy as np

from heartstrings.behaviours.base import Compared, Dialogue
from heartstrings.core.engine import GenerateRequest, ScoreRequest
from heartstrings.core.steering import Intervention, Steering
from heartstrings.core.types import Frozen
from heartstrings.experiment.cells import Chosen, Item, Job, Planned, steered, test_jobs
from heartstrings.experiment.ledger import CLAIM_KINDS, CONTROL_KINDS
from heartstrings.experiment.plan import Plan, searched_layers
from heartstrings.experiment.run import CHUNK, request_for, worded

if TYPE_CHECKING:
    from heartstrings.behaviours.base import Answer, Request
    from heartstrings.behaviours.roles import Suite
    from heartstrings.core.engine import Engine
    from heartstrings.experiment.ledger import Cell

TIME = 15.0
"""Seconds that all timing takes, about: of what is left, each behaviour has an equal share. Two samples of each are
timed however long they take."""
GROWTH = 4
CountTokens = Callable[[Sequence["Request"]], Sequence[int] | np.ndarray]
FIRST, FIRST_TOKENS = 2, 4
"""Samples, and new tokens of each, that a behaviour begins with."""


class Timed(Frozen):
    """What one behaviour's samples take."""

    sample: float
    """Seconds of one, all turns of a dialogue included."""
    prompt_tokens: float | None
    """Mean tokens of the prompts that were timed, where they are only read: others take time in proportion. None where
    answers are written, which takes the most of their time."""
    cut: bool = False
    """Whether texts were stopped before their limit; `sample` then has all of them run to it."""
    turns: int = 1

    def seconds(self, prompt_tokens: float) -> float:
        """Of a sample whose prompt has so many tokens."""
        return self.sample if not self.prompt_tokens else self.sample * prompt_tokens / self.prompt_tokens


def time_behaviours(
    plan: Plan, engine: Engine, suite: Suite, *, tokens: CountTokens, limit: float = TIME
) -> dict[str, Timed]:
    """Each behaviour of a plan by its name. Grading is not timed, and no code that a model wrote is run.

    Args:
        tokens: counts those of some requests' prompts.
        limit: seconds for all of it, about.
    Raises:
        HeartstringsError: the model fails on the plan's prompts.
    """
    names = Planned(plan)
    layers = searched_layers(plan, engine.info.n_layers)
    jobs = {job.behaviour.name: job for job in test_jobs(plan, suite, names, _spread(plan, names, layers))}
    askings = [_Asking(plan, engine, _usual_first(job, tokens)) for job in jobs.values()]
    _warm_up(askings, layers)
    end = time.perf_counter() + limit
    found: dict[str, Timed] = {}
    for number, (name, asking) in enumerate(zip(jobs, askings, strict=True)):
        share = (end - time.perf_counter()) / (len(jobs) - number)
        found[name] = _texts(asking, share) if asking.writes else _choices(asking, share, tokens)
    return found


def _spread(plan: Plan, names: Planned, layers: Sequence[int]) -> Chosen:
    """Directions and controls over all the layers, as a search would choose them, more or less."""
    return {
        (effect, one): layers[number % len(layers)]
        for effect in plan.effects
        for number, one in enumerate(steered(plan, names))
    }


def _usual_first(job: Job, tokens: CountTokens) -> Job:
    """Beginning with the scenario whose prompt is the nearest to the mean length: a chunk may hold no other."""
    read = np.asarray(tokens([job.behaviour.request(one, steering=None, seed=0) for one in job.scenarios]))
    first = int(np.abs(read - read.mean()).argmin())
    return job.of((*job.scenarios[first:], *job.scenarios[:first]), job.cells)


@dataclass
class _Asking:
    """A chunk of a job, and how to ask some of it."""

    plan: Plan
    engine: Engine
    job: Job
    spent: float = 0.0
    """Seconds of all calls."""
    steerings: dict[Cell, Steering | None] = field(default_factory=dict)
    items: list[Item] = field(init=False)

    def __post_init__(self) -> None:
        size = CHUNK[self.job.behaviour.ask]
        # The chunk in the middle of a scenario: of many cells, the first are few and of other kinds.
        start = len(self.job.cells) * self.job.repeats // 2 // size * size
        self.items = list(islice(self.job.items(), start, start + size))

    @property
    def writes(self) -> bool:
        return self.job.behaviour.ask != "choice"

    def some(self, n: int) -> list[Item]:
        """From the middle: the first are the unsteered ones."""
        start = (len(self.items) - n) // 2 if n < len(self.items) else 0
        return self.items[start : start + n]

    def requests(self, items: Sequence[Item]) -> list[Request]:
        return [request_for(self.plan, self.job.behaviour, item, self.steering(item.cell)) for item in items]

    def steering(self, cell: Cell) -> Steering | None:
        """As a direction set would give it, along a random direction."""
        if cell.kind in ("baseline", "prompting"):
            return None
        if cell not in self.steerings:
            seed = hashlib.sha256(f"{cell.kind} {cell.direction} {cell.layer}".encode()).digest()[:8]
            draw = np.random.default_rng(int.from_bytes(seed, "big"))
            one = Intervention(
                layer=cell.layer, direction=draw.standard_normal(self.engine.info.width).astype(np.float32),
                dose=cell.dose, norm=1.0, operation=self.plan.operation, site=self.plan.site,
            )  # fmt: skip
            self.steerings[cell] = Steering((one,), self.plan.positions)
        return self.steerings[cell]

    def __call__(self, n: int, tokens: int | None = None) -> tuple[float, bool]:
        """Seconds that n samples take with at most so many new tokens each, and whether that cut any text."""
        items = self.some(n)
        requests = self.requests(items)
        start = time.perf_counter()
        answers, cut = self.answers(requests, tokens)
        more = [self.second(item, answer) for item, answer in zip(items, answers, strict=True)]
        if any(more):
            self.engine.score([one for one in more if one is not None])
        seconds = time.perf_counter() - start
        self.spent += seconds
        return seconds, cut

    def answers(self, requests: Sequence[Request], tokens: int | None) -> tuple[Sequence[Answer], bool]:
        if not self.writes:
            return self.engine.score(cast("Sequence[ScoreRequest]", requests)), False
        asked = cast("Sequence[GenerateRequest]", requests)
        limits = [one.max_new_tokens if tokens is None else min(tokens, one.max_new_tokens) for one in asked]
        said = self.engine.generate([replace(one, max_new_tokens=n) for one, n in zip(asked, limits, strict=True)])
        cut = [
            answer.finish == "length" and limit < one.max_new_tokens
            for one, limit, answer in zip(asked, limits, said, strict=True)
        ]
        return said, any(cut)

    def second(self, item: Item, answer: Answer) -> ScoreRequest | None:
        """What grading needs beside the answer, as in the experiment."""
        behaviour = self.job.behaviour
        if isinstance(behaviour, Compared):
            return behaviour.against(worded(item), steering=self.steering(item.cell))
        if isinstance(behaviour, Dialogue) or item.cell.kind in (*CONTROL_KINDS, *CLAIM_KINDS):
            return None
        return behaviour.follow_up(worded(item), answer)


def _warm_up(askings: Sequence[_Asking], layers: Sequence[int]) -> None:
    """First calls set things up, and those at a new layer check that blocks may be shared below it."""
    for writes, at in [*((False, layer) for layer in layers), (True, layers[0])]:
        first = next((one for one in askings if one.writes == writes), None)
        if first is not None:
            items = islice((item for item in first.job.items() if item.cell.layer == at), FIRST)
            first.answers(first.requests(list(items)), FIRST_TOKENS)


def _choices(asking: _Asking, share: float, tokens: CountTokens) -> Timed:
    n = FIRST
    seconds, _ = asking(n)
    more = float(GROWTH)  # what a step is expected to multiply the time by; what the last one did, from then on
    while n < len(asking.items) and asking.spent + more * seconds <= share:
        n, before = min(GROWTH * n, len(asking.items)), seconds
        seconds, _ = asking(n)
        more = _clamped(seconds / before)
    read = tokens(asking.requests(asking.some(n)))
    return Timed(sample=seconds / len(read), prompt_tokens=float(np.mean(read)))


def _texts(asking: _Asking, share: float) -> Timed:
    """First more texts, as a step of many takes hardly longer than of one; then more tokens of each."""
    n, tokens, more = FIRST, FIRST_TOKENS, float(GROWTH)
    seconds, cut = asking(n, tokens)
    while n < len(asking.items) and asking.spent + more * seconds <= share / 2:
        n, before = min(GROWTH * n, len(asking.items)), seconds
        seconds, cut = asking(n, tokens)
        more = _clamped(seconds / before)
    asked = cast("list[GenerateRequest]", asking.requests(asking.some(n)))
    limit = max(one.max_new_tokens for one in asked)
    step = seconds / tokens  # with what reading the prompt takes: more than a token does
    while cut and (tokens == FIRST_TOKENS or asking.spent + GROWTH * seconds <= share):
        before, shorter = seconds, tokens
        tokens = min(GROWTH * tokens, limit)
        seconds, cut = asking(n, tokens)
        step = max(0.0, seconds - before) / (tokens - shorter)
    if cut:
        seconds += step * (limit - tokens)
    behaviour = asking.job.behaviour
    turns = behaviour.turns if isinstance(behaviour, Dialogue) else 1
    return Timed(sample=seconds / len(asked) * turns, prompt_tokens=None, cut=cut, turns=turns)


def _clamped(more: float) -> float:
    return min(max(more, 1.0), float(GROWTH))
