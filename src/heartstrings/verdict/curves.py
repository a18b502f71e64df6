"""Curves over the dose grid, with the baseline at dose 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from heartstrings.behaviours.base import Behaviour
from heartstrings.stats.intervals import mean_interval
from heartstrings.verdict.results import Curve, DosePoint, Estimate
from heartstrings.verdict.tables import Column, Table, change, estimate

QUANTITIES = {
    "valid": "valid answers",
    "log_perplexity": "log-perplexity of the text under the unsteered model, nats a token",
    "distinct_2": "share of distinct 2-grams",
    "ends": "share of texts that end properly",
}
"""What a curve of a quantity is called, where it is not a behaviour's outcome."""


def curve(baseline: Column, doses: Mapping[float, Column], behaviour: Behaviour, quantity: str = "outcome") -> Curve:
    """One quantity of one behaviour: means at each dose, and changes against the baseline paired by scenario."""
    columns = dict(sorted({**({0.0: baseline} if len(baseline) else {}), **doses}.items()))
    points, changes = [], []
    for dose, column in columns.items():
        mean = mean_interval(column.values(quantity), column.groups)
        points.append(DosePoint(dose=dose, estimate=estimate(mean), n=mean.n, missing=mean.missing))
        if dose in doses and len(baseline):
            moved, _ = change(baseline, column, quantity)
            changes.append(DosePoint(dose=dose, estimate=estimate(moved), n=moved.n, missing=moved.missing))
    return Curve(
        behaviour=behaviour.name,
        outcome_name=QUANTITIES.get(quantity, behaviour.outcome_name),
        points=tuple(points),
        change=tuple(changes),
    )


def costs(
    table: Table, effect: Behaviour, others: Sequence[Behaviour], direction: str, layer: int
) -> tuple[Curve, ...]:
    """Capability and harm, validity of the effect behaviour, coherence and tone of written text."""

    def made(behaviour: Behaviour, quantity: str = "outcome") -> Curve:
        doses = table.doses(behaviour.name, "direction", direction, layer)
        return curve(table.baseline(behaviour.name), doses, behaviour, quantity)

    found = [made(one) for one in others if one.role in ("capability", "harm")]
    found.append(made(effect, "valid"))
    for text in (effect, *(one for one in others if one.role == "writing")):
        baseline = table.baseline(text.name)
        details = [name for name in QUANTITIES if name != "valid" and baseline.has(name)]
        found += [made(text, name) for name in details]
        if text.role == "writing":
            found.append(made(text))
    return tuple(one for one in found if one.points)


def envelope(controls: Sequence[Mapping[float, Column]], baseline: Column) -> tuple[DosePoint, ...]:
    """Mean outcome of the controls at each dose, and the lowest and the highest control."""
    means: dict[float, list[float]] = {}
    for doses in controls:
        for dose, column in doses.items():
            if column.has("outcome"):
                means.setdefault(dose, []).append(float(np.nanmean(column.outcome)))
    if means and baseline.has("outcome"):
        means[0.0] = [float(np.nanmean(baseline.outcome))]
    return tuple(
        DosePoint(
            dose=dose,
            estimate=Estimate(value=float(np.mean(found)), low=min(found), high=max(found)),
            n=len(found),
        )
        for dose, found in sorted(means.items())
    )
