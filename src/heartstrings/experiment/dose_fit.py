"""How hard a model can be pushed: all doses of a plan times a power of two, chosen by what they cost.

A dose is a share of the mean residual norm, and models differ in how much of it they tolerate: the same dose moves the
next-token distribution on neutral prose by 0.06 nats a token in one model and by 1 in another, whose texts fall apart
at every dose of the plan. The factor is chosen before any question is asked. It is read from that divergence alone, at
every layer that is searched, and is the same for directions and controls, so that it favours no answer.

The Kullback-Leibler divergence from the unsteered model is the rise in log-loss that steering brings on text of the
model's own. On a few fixed texts it is far less noisy than the rise on the texts themselves, which can even fall; and
it grows as the square of a small dose, so that one measurement tells the next factor to try.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from heartstrings.behaviours.text.prose import Prose
from heartstrings.core.errors import InputError
from heartstrings.core.storage import write_text
from heartstrings.core.types import Frozen
from heartstrings.experiment.ledger import Cell
from heartstrings.experiment.plan import Plan

if TYPE_CHECKING:
    from heartstrings.behaviours.base import Scenario
    from heartstrings.core.engine import Engine
    from heartstrings.experiment.controls import DirectionSet

FILE = "doses.json"
"""What was measured, in a run's folder."""
NAMES = {
    1 / 16: "a sixteenth of the plan's",
    1 / 8: "an eighth of the plan's",
    1 / 4: "a quarter of the plan's",
    1 / 2: "half the plan's",
    1.0: "the plan's own",
    2.0: "twice the plan's",
    4.0: "four times the plan's",
}
FACTORS = tuple(NAMES)
"""Powers of two: doses multiplied by them, and divided again, keep every bit."""
SHARE = 0.5
"""Of the plan's limit on a rise of log-loss, so that there is room: other texts cost other amounts."""
TEXTS = 4

Progress = Callable[[int, int], None]


class Cost(Frozen):
    """What one end of the slope window costs along one direction at one layer."""

    layer: int
    direction: str
    dose: float
    kl: float
    """KL(unsteered || steered) of the next token, mean over neutral prose, nats a token."""


class Step(Frozen):
    """One factor that was tried."""

    factor: float
    costs: tuple[Cost, ...]

    @property
    def worst(self) -> Cost:
        """Of all searched layers, directions and both ends."""
        return max(self.costs, key=lambda cost: cost.kl)

    @property
    def ends(self) -> str:
        """The doses that were tried: `-0.1 and 0.1`."""
        return " and ".join(f"{dose:g}" for dose in sorted({cost.dose for cost in self.costs}))


class DoseFit(Frozen):
    """The factor, and how it was found."""

    factor: float
    limit: float
    """Nats a token that the worst end of the window may cost."""
    steps: tuple[Step, ...]
    """In the order they were tried."""

    @property
    def chosen(self) -> Step:
        """The step of the factor."""
        return next(step for step in self.steps if step.factor == self.factor)

    @property
    def sentence(self) -> str:
        """For a reader of the verdict."""
        step, worst = self.chosen, self.chosen.worst
        said = (
            f"The doses are {NAMES[self.factor]}: at the ends of the slope window ({step.ends}) steering moves the "
            f"next token of neutral prose by up to {worst.kl:.2g} nats ({worst.direction} at {worst.dose:g}, "
            f"layer {worst.layer})"
        )
        if not self.within:
            return f"{said}. That is over the {self.limit:g} wanted, and no smaller doses were tried."
        first = self.steps[0].worst.kl
        own = "" if self.factor >= 1 else f"; at the plan's own doses it is {first:.2g}"
        return f"{said}, where {self.limit:g} are allowed{own}."

    @property
    def within(self) -> bool:
        """Whether the limit is kept; if not, the smallest factor costs too much as well."""
        return self.chosen.worst.kl <= self.limit


def fit_doses(
    plan: Plan,
    engine: Engine,
    directions: DirectionSet,
    layers: Sequence[int],
    *,
    progress: Progress | None = None,
) -> DoseFit:
    """The largest factor whose slope window moves neutral prose by at most SHARE of `thresholds.log_loss_rise`.

    Both ends of the window are tried along every direction at every layer that is searched; the worst of them counts.

    Args:
        plan: with the doses that are to be multiplied.
        progress: called with (steps done, steps that may be needed).
    Raises:
        NumericalError: NaN or Inf in the model.
    """
    limit = SHARE * plan.thresholds.log_loss_rise
    texts = Prose().scenarios(n=Prose().most, seed=plan.seed)[-TEXTS:]  # others than those that the gate rests on
    steps: dict[int, Step] = {}

    def worst(at: int) -> float:
        if at not in steps:
            costs = _costs(plan.times(FACTORS[at]), engine, directions, layers, texts)
            steps[at] = Step(factor=FACTORS[at], costs=costs)
            if progress is not None:
                progress(len(steps), len(steps) + 1)
        return steps[at].worst.kl

    at = FACTORS.index(1.0)
    while worst(at) > limit and at > 0:
        at = max(0, at - max(1, math.ceil(math.log(worst(at) / limit, 4))))
    while at + 1 < len(FACTORS) and 4 * worst(at) <= limit and worst(at + 1) <= limit:
        at += 1
    if progress is not None:
        progress(len(steps), len(steps))
    return DoseFit(factor=FACTORS[at], limit=limit, steps=tuple(steps.values()))


def write_doses(folder: Path, fit: DoseFit) -> None:
    """`doses.json` in a run's folder."""
    write_text(folder / FILE, fit.model_dump_json(indent=1) + "\n")


def read_doses(folder: Path, plan: Plan) -> DoseFit | None:
    """What was measured in a run's folder; None where the plan fits no doses, or came with them fitted.

    Raises:
        InputError: a damaged file, or one of other doses than the plan's.
    """
    path = folder / FILE
    if plan.dose_factor is None or not path.is_file():
        return None
    try:
        fit = DoseFit.model_validate_json(path.read_bytes())
    except ValidationError:
        raise InputError(f"{path} is damaged", "what a run wrote", "Restore it, or delete it") from None
    if fit.factor != plan.dose_factor:
        raise InputError(
            f"{path} has doses times {fit.factor:g}", f"the plan's, times {plan.dose_factor:g}", "Restore it"
        )
    return fit


def _costs(
    plan: Plan, engine: Engine, directions: DirectionSet, layers: Sequence[int], texts: Sequence[Scenario]
) -> tuple[Cost, ...]:
    """Both ends of the window, along every direction at every layer, in one batch."""
    prose = Prose()
    cells = [
        Cell(phase="select", behaviour=prose.name, kind="direction", direction=name, layer=layer, dose=dose)
        for layer, name, dose in product(layers, plan.directions, sorted({plan.window[0], plan.window[-1]}))
    ]
    asked = list(product(cells, texts))
    requests = [prose.request(text, steering=directions.steering(cell, plan), seed=0) for cell, text in asked]
    answers = engine.score(requests)
    moved = [prose.grade(text, answer).detail["kl"] for (_, text), answer in zip(asked, answers, strict=True)]
    means = np.array(moved).reshape(len(cells), len(texts)).mean(axis=1)
    return tuple(
        Cost(layer=cell.layer, direction=cell.direction, dose=cell.dose, kl=float(mean))
        for cell, mean in zip(cells, means, strict=True)
    )
