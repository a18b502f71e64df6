"""What is preferred without steering and at both ends of the slope window, from the pairwise choices."""

from __future__ import annotations

from heartstrings.behaviours.choices.strengths import strengths
from heartstrings.core.errors import InputError, NumericalError
from heartstrings.experiment.cells import every_scenario
from heartstrings.experiment.plan import Plan
from heartstrings.stats.estimate import estimate
from heartstrings.verdict.results import Strength
from heartstrings.verdict.tables import Column, Suite, Table

RESAMPLES = 100


class Preferences:
    """Strengths by cell; the unsteered ones, which all directions share, are fitted once."""

    def __init__(self, plan: Plan, table: Table, suite: Suite) -> None:
        self._plan, self._table = plan, table
        asked = [one for one in suite.matched if len(table.baseline(one.name))]
        scenarios = {one.name: every_scenario(plan, suite, one) for one in asked}
        self._pairs = {
            name: {one.id: one for one in found if {"first", "second"} <= set(one.data)}
            for name, found in scenarios.items()
        }
        self._baseline = {
            name: self._fit(name, table.baseline(name), 0.0) for name, pairs in self._pairs.items() if pairs
        }

    def of(self, direction: str, layer: int) -> tuple[Strength, ...]:
        """One entry an activity and dose, by behaviour, dose and activity; empty where no choice is between pairs."""
        ends = (self._plan.window[0], self._plan.window[-1])
        found: list[Strength] = []
        for name, baseline in self._baseline.items():
            cells = self._table.doses(name, "direction", direction, layer)
            steered = [one for dose in ends if dose in cells for one in self._fit(name, cells[dose], dose)]
            found += sorted((*baseline, *steered), key=lambda one: (one.dose, one.item))
        return tuple(found)

    def _fit(self, name: str, column: Column, dose: float) -> list[Strength]:
        pairs = self._pairs[name]
        rows = [row for row in column.rows if row.scenario in pairs]
        try:
            found = strengths(
                [pairs[row.scenario] for row in rows], [row.outcome for row in rows], resamples=RESAMPLES,
                seed=self._plan.seed,
            )  # fmt: skip
        except (InputError, NumericalError):
            return []  # too few pairs to link all activities, or none yet
        return [Strength(item=item, dose=dose, strength=estimate(one), n=one.n) for item, one in found.items.items()]
