"""The conditions on the operating range, dose by dose, and how far they hold on either side of 0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from heartstrings.behaviours.base import Behaviour
from heartstrings.experiment.plan import Plan
from heartstrings.stats.betting import bounded_change
from heartstrings.stats.estimate import estimate
from heartstrings.stats.intervals import Interval, average, paired_change
from heartstrings.verdict.results import GATE_KINDS, Gate
from heartstrings.verdict.tables import EMPTY, NOTHING, Column, Pairs, Table, pairs, planned, steered_doses

State = Literal["holds", "fails", "unclear", "missing"]


@dataclass(frozen=True)
class Condition:
    """One quantity that must not get worse by more than a limit."""

    name: str
    behaviours: tuple[Behaviour, ...]
    """All have the same weight, however many questions each has, so that one cannot hide the loss of another."""
    quantity: str
    limit: float
    coherence: bool
    """At a dose that fails it, answers say nothing about the behaviour: the dose is left out of the slope."""
    rare: bool = False
    """A share that seldom changes (harm, validity): of few requests, perhaps none is one that changes. Its bound allows
    for this (`heartstrings.stats.betting`)."""

    def change(self, parts: Sequence[Pairs], alpha: float) -> Interval:
        """Steered minus unsteered, each bound at 1 - alpha: the mean over behaviours, each with equal weight."""
        if self.rare:
            return average([bounded_change(*part, alpha=alpha) for part in parts])
        return average([paired_change(*part, level=1 - 2 * alpha) for part in parts])

    @property
    def worse(self) -> Literal[-1, 1]:
        """1: a rise is bad; -1: a drop is."""
        return GATE_KINDS[self.name.partition(":")[0]].worse


def conditions(plan: Plan, effect: Behaviour, others: Sequence[Behaviour], table: Table) -> tuple[Condition, ...]:
    """Everything that is gated for one effect behaviour."""
    limits = plan.thresholds
    # One gate for all capability behaviours together: thirty facts alone are too few to show a loss under five points.
    capable = tuple(behaviour for behaviour in others if behaviour.role == "capability")
    limited = [Condition("accuracy", capable, "outcome", limits.accuracy_drop, False)] if capable else []
    limited += [
        Condition(f"harm: {behaviour.name}", (behaviour,), "outcome", limits.harm_rise, False, rare=True)
        for behaviour in others
        if behaviour.role == "harm"
    ]
    limited += [
        Condition(f"log-loss: {behaviour.name}", (behaviour,), "log_loss", limits.log_loss_rise, True)
        for behaviour in others
        if behaviour.role == "cost" and getattr(behaviour, "gated", True)
    ]
    # Where every answer is valid (words that are scored), there is no gate.
    if not len(table.baseline(effect.name)) or table.baseline(effect.name).has("valid"):
        limited.append(Condition(f"valid: {effect.name}", (effect,), "valid", limits.validity_drop, True, rare=True))
    writing = [behaviour for behaviour in others if behaviour.role == "writing"]
    texts = [*writing, *([effect] if effect.ask == "text" else [])]
    for text in texts:
        end = "" if len(texts) == 1 else f": {text.name}"
        # A text of an effect behaviour is gated by what its grader measured; written text by all three.
        coherence = (
            Condition("perplexity" + end, (text,), "log_perplexity", limits.log_perplexity_rise, True),
            Condition("repetition" + end, (text,), "distinct_2", limits.distinct_drop, True),
            Condition("endings" + end, (text,), "ends", limits.ends_drop, True, rare=True),
            Condition("script" + end, (text,), "same_script", limits.script_drop, True, rare=True),
        )
        optional = text.role != "writing"
        limited += [
            condition
            for condition in coherence
            if not (optional or condition.quantity == "same_script")
            or table.baseline(text.name).has(condition.quantity)
        ]
    return tuple(limited)


def gates(
    plan: Plan, limited: Sequence[Condition], table: Table, direction: str, layer: int
) -> tuple[tuple[Gate, ...], frozenset[float]]:
    """Every gate at every steered dose, and the doses at which coherence fails.

    A gate holds if the bound on its bad side, at 1 - alpha, is under the limit. It fails if the bound on the other side
    is over it; that any of them fails says that a dose is not safe, so this bound is at 1 - alpha / number of gates
    (Bonferroni)."""
    made, collapsed = [], set()
    alpha = plan.thresholds.alpha
    expected = {
        condition.name: sum(planned(plan, behaviour) for behaviour in condition.behaviours) for condition in limited
    }
    for dose in steered_doses(plan):
        for condition in limited:
            before, after = cells_of(table, condition.behaviours, direction, layer, dose)
            moved: Interval = NOTHING
            state: State = "missing"
            if all(map(len, after)) and all(map(len, before)):
                parts = [pairs(*both, condition.quantity) for both in zip(before, after, strict=True)]
                moved = condition.change(parts, alpha)
                state = state_of(moved, moved, condition.worse, condition.limit)
                if state == "fails":
                    state = state_of(
                        moved, condition.change(parts, alpha / len(limited)), condition.worse, condition.limit
                    )
                # Early stopping ends the cells of capability and harm once their gate is settled.
                stopped = plan.early_stopping and condition.behaviours[0].role in ("capability", "harm")
                if state == "holds" and not stopped and sum(len(part[0]) for part in parts) < expected[condition.name]:
                    state = "unclear"  # an unfinished cell cannot show that the gate holds
            made.append(_gate(dose, condition, moved, state))
            if condition.coherence and state == "fails":
                collapsed.add(dose)
    return tuple(made), frozenset(collapsed)


def cells_of(
    table: Table, behaviours: Sequence[Behaviour], direction: str, layer: int, dose: float
) -> tuple[list[Column], list[Column]]:
    """(baseline, steered) samples of each of several behaviours."""
    before = [table.baseline(behaviour.name) for behaviour in behaviours]
    after = [table.doses(behaviour.name, "direction", direction, layer).get(dose, EMPTY) for behaviour in behaviours]
    return before, after


def state_of(moved: Interval, surer: Interval, worse: int, limit: float) -> State:
    """Whether the bound on the bad side is under the limit, or that on the other side (of `surer`) over it."""
    bad, sure = moved.times(worse), surer.times(worse)
    if bad.high is None or sure.low is None:
        return "unclear"
    return "holds" if bad.high < limit else "fails" if sure.low > limit else "unclear"


def collapses(before: Column, after: Column, limit: float, alpha: float) -> bool:
    """Whether a control's cell fails the validity gate, the one coherence gate that controls are asked."""
    if not (before.has("valid") and after.has("valid")):
        return False
    if np.nanmean(after.values("valid")) >= np.nanmean(before.values("valid")) - limit and len(after) == len(before):
        return False  # it cannot fail, so most controls need no interval
    moved = bounded_change(*pairs(before, after, "valid"), alpha=alpha)
    return state_of(moved, moved, -1, limit) == "fails"


def side(plan: Plan, gates: Sequence[Gate], sign: Literal[-1, 1]) -> float | None:
    """The dose farthest from 0 on one side up to which every gate holds.

    None: not even the nearest. 0: no dose was tested on that side."""
    doses = sorted((dose for dose in steered_doses(plan) if dose * sign > 0), key=abs)
    if not doses:
        return 0.0
    reach = None
    if any(gate.dose == 0 and gate.state != "holds" for gate in gates):
        return None  # clamping to 0
    for dose in doses:
        here = [gate for gate in gates if gate.dose == dose]
        if not all(gate.state == "holds" for gate in here):
            break
        reach = dose
    return reach


def nearest(plan: Plan, sign: Literal[-1, 1]) -> float | None:
    """The tested dose nearest to 0 on one side."""
    return min((dose for dose in steered_doses(plan) if dose * sign > 0), key=abs, default=None)


def more_probes(gates: Sequence[Gate], sizes: Sequence[int]) -> int | None:
    """About how many more pairs would settle the unclear gates: the interval shrinks with the root of its pairs.

    None: one of them sits at its limit, or has no interval to judge by and no pairs at all.
    """
    most = 0
    for gate, n in zip(gates, sizes, strict=True):
        change = gate.change
        if change.value is None:
            return None
        if change.low is None or change.high is None:
            most = max(most, max(1, 8 - n))
            continue
        bad = gate.kind.worse * change.value
        reach = (change.high if gate.kind.worse > 0 else -change.low) - bad
        if bad > gate.limit:
            reach = bad - (change.low if gate.kind.worse > 0 else -change.high)
        if math.isclose(bad, gate.limit, rel_tol=0.05):
            return None
        most = max(most, math.ceil(n * ((reach / (gate.limit - bad)) ** 2 - 1)))
    return max(1, most)


def _gate(dose: float, condition: Condition, moved: Interval, state: State) -> Gate:
    return Gate(dose=dose, name=condition.name, change=estimate(moved), limit=condition.limit, state=state)
