"""Curves over the dose grid, with the baseline at dose 0, and their bands, which hold at all doses together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64

from heartstrings.behaviours.base import Behaviour
from heartstrings.experiment.ledger import CONTROL_KINDS, ControlKind
from heartstrings.stats.bands import joint_level
from heartstrings.stats.betting import bounded_change
from heartstrings.stats.estimate import Estimate
from heartstrings.stats.intervals import LEAST_PAIRS, Interval, mean_interval, means_by, paired_change
from heartstrings.stats.slopes import LEAST_EVENTS
from heartstrings.verdict.results import ControlCost, Curve, DosePoint
from heartstrings.verdict.tables import Column, Pairs, Table, change, pairs

QUANTITIES = {
    "valid": "valid answers",
    "log_perplexity": "log-perplexity of the text under the unsteered model, nats a token",
    "distinct_2": "share of distinct 2-grams",
    "ends": "share of texts that end properly",
    "same_script": "share of letters in the script of the openings",
    "coverage": "share of words that the lexicon of tone rates",
    "tone_unnamed": "tone of the text without the 171 emotion words",
    "mass": "probability on the words that are rated",
    "log_loss": "log-loss of fixed text, nats a token",
    "kl": "divergence from the unsteered model on neutral prose, nats a token",
}
"""What a curve of a quantity is called, where it is not a behaviour's outcome."""


def curve(baseline: Column, doses: Mapping[float, Column], behaviour: Behaviour, quantity: str = "outcome") -> Curve:
    """One quantity of one behaviour: means at each dose, and changes against the baseline paired by scenario."""
    columns = dict(sorted({**({0.0: baseline} if len(baseline) else {}), **doses}.items()))
    points, changes = [], []
    for dose, column in columns.items():
        points.append(DosePoint.at(dose, mean_interval(column.values(quantity), column.groups)))
        if dose in doses and len(baseline):
            changes.append(DosePoint.at(dose, change(baseline, column, quantity)))
    return Curve(
        behaviour=behaviour.name,
        outcome_name=QUANTITIES.get(quantity, behaviour.outcome_name),
        points=tuple(points),
        change=tuple(changes),
    )


def costs(
    table: Table, effect: Behaviour, others: Sequence[Behaviour], direction: str, layer: int
) -> tuple[Curve, ...]:
    """Capability and harm, log-loss and divergence, validity of the effect behaviour, coherence and tone of text."""

    def made(behaviour: Behaviour, quantity: str = "outcome") -> Curve:
        doses = table.doses(behaviour.name, "direction", direction, layer)
        return curve(table.baseline(behaviour.name), doses, behaviour, quantity)

    curves = [made(behaviour) for behaviour in others if behaviour.role in ("capability", "harm")]
    curves += [
        made(behaviour, name)
        for behaviour in others
        if behaviour.role == "cost"
        for name in ("log_loss", "kl")
        if table.baseline(behaviour.name).has(name)
    ]
    if table.baseline(effect.name).has("valid") or not len(table.baseline(effect.name)):
        curves.append(made(effect, "valid"))
    for text in (effect, *(behaviour for behaviour in others if behaviour.role == "writing")):
        baseline = table.baseline(text.name)
        details = [name for name in QUANTITIES if name != "valid" and baseline.has(name)]
        curves += [made(text, name) for name in details]
        if text.role == "writing":
            curves.append(made(text))
    return tuple(cost for cost in curves if cost.points)


def divergences(
    table: Table, others: Sequence[Behaviour], direction: str, window: Sequence[float]
) -> tuple[ControlCost, ...]:
    """Divergence of every control on neutral prose, each at its own layer (their mean, where it has several)."""
    asked = [behaviour for behaviour in others if behaviour.role == "cost" and table.baseline(behaviour.name).has("kl")]
    control_costs = []
    for kind in CONTROL_KINDS:
        points = []
        for dose in window:
            means = [
                float(np.mean(values))
                for behaviour in asked
                for name in table.names(behaviour.name, kind)
                if (kind != "shuffled" or name.partition(":")[2] == direction)
                and (values := _means(table, behaviour, kind, name, dose))
            ]
            if means:
                mean = Estimate(value=float(np.mean(means)), low=min(means), high=max(means))
                points.append(DosePoint(dose=dose, estimate=mean, n=len(means)))
        if points:
            control_costs.append(ControlCost(kind=kind, points=tuple(points)))
    return tuple(control_costs)


def _means(table: Table, behaviour: Behaviour, kind: ControlKind, name: str, dose: float) -> list[float]:
    columns = [
        table.doses(behaviour.name, kind, name, layer).get(dose)
        for layer in table.layers("test", behaviour.name, kind, name)
    ]
    return [mean for column in columns if column is not None and (mean := column.mean("kl")) is not None]


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
            estimate=Estimate(value=float(np.mean(outcomes)), low=min(outcomes), high=max(outcomes)),
            n=len(outcomes),
        )
        for dose, outcomes in sorted(means.items())
    )


def banded(curve: Curve, baseline: Column, doses: Mapping[float, Column], *, seed: int) -> Curve:
    """The curve of an outcome with its band; without one where no dose has a change."""
    parts = {dose: pairs(baseline, column, "outcome") for dose, column in sorted(doses.items()) if len(baseline)}
    parts = {dose: part for dose, part in parts.items() if (~np.isnan(part[0] - part[1])).any()}
    if not parts:
        return curve
    moved = together(list(parts.values()), seed=seed)
    return curve.model_copy(update={"band": tuple(map(DosePoint.at, parts, moved))})


def together(parts: Sequence[Pairs], *, seed: int) -> list[Interval]:
    """Mean change at each dose, with intervals that hold at all of them together at 95%.

    Each is the package's interval of a paired change, at the level that `joint_level` finds. Of 0/1 outcomes a change
    may be so rare that fewer than ten situations show any: neither resampling nor Newcombe's interval knows what was
    not seen (simulated, 100 situations of which one in 35 flips, one way: .85). Then all are taken at Bonferroni's
    level, and a dose whose changes are rare has the bound that bets on them (`heartstrings.stats.betting`)."""
    changes = _changes(parts)
    rates = all(np.isin(values[~np.isnan(values)], (0.0, 1.0)).all() for part in parts for values in part[:2])
    rare = rates & ((np.abs(np.nan_to_num(changes)) > 0).sum(axis=0) < LEAST_EVENTS)
    level = joint_level(changes, rare=bool(rare.any()), seed=seed)
    enough = (~np.isnan(changes)).sum(axis=0) >= LEAST_PAIRS
    return [
        bounded_change(*part, alpha=(1 - level) / 2) if seldom and has_pairs else paired_change(*part, level=level)
        for part, seldom, has_pairs in zip(parts, rare.tolist(), enough.tolist(), strict=True)
    ]


def _changes(parts: Sequence[Pairs]) -> Float64[np.ndarray, "situation dose"]:
    """Mean change of each situation at each dose; NaN where it has no whole pair."""
    situations = sorted({group for part in parts for group in part[2]})
    place = {group: at for at, group in enumerate(situations)}
    changes = np.full((len(situations), len(parts)), np.nan)
    for at, (before, after, groups) in enumerate(parts):
        own = np.array([place[group] for group in groups], dtype=np.int64)
        changes[:, at] = means_by(after - before, own, len(situations))
    return changes
