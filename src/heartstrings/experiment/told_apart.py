"""Which effect behaviours does the model not understand? Questions of the same form with a known answer show it.

These questions are asked unsteered. The rule looks at nothing that is steered, so leaving out the controls of such a
behaviour biases no other answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from heartstrings.experiment.plan import Plan
from heartstrings.stats.intervals import LEAST_PAIRS, mean_interval
from heartstrings.stats.understanding import above_chance

if TYPE_CHECKING:
    from heartstrings.behaviours.base import Behaviour
    from heartstrings.behaviours.roles import Suite
    from heartstrings.experiment.ledger import Sample

MARGIN = 0.05
"""A smaller lead over chance does not count, even where it is significant: answers given by habit hardly vary."""
GUESSING = 0.5
"""The chance level of a check that states none."""


def chance_of(behaviour: Behaviour) -> float:
    """Mean outcome of a model that guesses."""
    return float(getattr(behaviour, "chance", GUESSING))


def knows(
    outcomes: Sequence[float] | np.ndarray, groups: Sequence[str], chance: float, alpha: float
) -> tuple[bool, float | None]:
    """Whether the answers are right more often than by chance, by `MARGIN` at least, and the one-sided p.

    Args:
        outcomes: NaN where there is none.
        groups: the cluster of each.
    """
    values = np.asarray(outcomes, dtype=np.float64)
    graded = ~np.isnan(values)
    clusters = [group for group, seen in zip(groups, graded, strict=True) if seen]
    p = above_chance(values[graded], clusters, chance) if clusters else None
    mean = mean_interval(values, groups)
    # Where every answer is equally right there is no p, and none is needed.
    alike = p is None and int(graded.sum()) >= LEAST_PAIRS and np.ptp(values[graded]) == 0
    sure = alike or (p is not None and p < alpha)
    return bool(sure and mean.value is not None and mean.value >= chance + MARGIN), p


def not_told_apart(plan: Plan, suite: Suite, samples: Iterable[Sample]) -> frozenset[str]:
    """Effect behaviours of which a check with a known answer does not hold.

    Args:
        samples: those of the checks, all that were planned, in any order; others are not looked at.
    """
    baseline: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.cell.kind == "baseline":
            baseline.setdefault(sample.cell.behaviour, []).append(sample)
    unclear = set()
    for effect in plan.effects:
        for check in suite.checks_of(effect):
            # In the ledger's order a sum could differ in the last bit.
            rows = sorted(baseline.get(check.name, ()), key=lambda row: (row.scenario, row.repeat))
            outcomes = [np.nan if row.outcome is None else row.outcome for row in rows]
            if (
                rows
                and not knows(outcomes, [row.group for row in rows], chance_of(check), plan.spent.thresholds.alpha)[0]
            ):
                unclear.add(effect)
    return frozenset(unclear)
