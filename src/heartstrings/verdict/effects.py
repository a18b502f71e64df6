"""How far a direction moves a behaviour: itself, its controls, matched questions, prompt by prompt."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from heartstrings.behaviours.base import Behaviour
from heartstrings.layer_choice import LayerSearch, choose_layer
from heartstrings.ledger import Kind, Sample
from heartstrings.plan import Plan
from heartstrings.sizes import selecting
from heartstrings.stats.intervals import Interval, difference, mean_interval, wilson
from heartstrings.stats.nulls import p_value
from heartstrings.stats.slopes import effect, logistic_slope, logistic_slopes, slopes_by_group
from heartstrings.verdict.curves import envelope
from heartstrings.verdict.gates import collapses
from heartstrings.verdict.results import ControlGroup, ControlKind, DosePoint, LayerChoice, Reliability
from heartstrings.verdict.tables import EMPTY, NOTHING, Column, Table, estimate, planned, whole, zero


@dataclass(frozen=True)
class Fit:
    """What the doses of the slope window say of one direction on one behaviour."""

    doses: tuple[float, ...]
    """Those fitted, 0 among them."""
    effect: Interval
    """Change between the outermost of them, as a fraction; mean over scenarios."""
    slope: Interval
    """Log-odds per unit of dose."""
    per_dose: Float64[np.ndarray, "scenarios"]
    """Each scenario's least-squares slope, outcome per unit of dose."""
    clusters: tuple[str, ...]
    """Of each scenario."""

    @property
    def width(self) -> float:
        return max(self.doses) - min(self.doses) if self.doses else 0.0

    @property
    def changes(self) -> Float64[np.ndarray, "clusters"]:
        """Change between the ends of the window, averaged within clusters: independent values."""
        found: dict[str, list[float]] = {}
        for cluster, slope in zip(self.clusters, self.per_dose.tolist(), strict=True):
            found.setdefault(cluster, []).append(slope * self.width)
        return np.array([np.mean(values) for values in found.values()], dtype=np.float64)


NO_FIT = Fit((), NOTHING, NOTHING, np.zeros(0), ())


def fit(baseline: Column, doses: Mapping[float, Column]) -> Fit:
    """Slopes over these doses and the baseline at 0."""
    columns = {dose: column for dose, column in sorted({**doses, 0.0: baseline}.items()) if column.has("outcome")}
    if len(columns) < 2:
        return NO_FIT
    dose = np.concatenate([np.full(len(column), value) for value, column in columns.items()])
    outcome = np.concatenate([column.outcome for column in columns.values()])
    scenarios = [name for column in columns.values() for name in column.scenarios]
    groups = [name for column in columns.values() for name in column.groups]
    cluster_of = dict(zip(scenarios, groups, strict=True))
    names, slopes = slopes_by_group(dose, outcome, scenarios)
    clusters = tuple(cluster_of[str(name)] for name in names)
    width = max(columns) - min(columns)
    if len(set(cluster_of.values())) == len(cluster_of):
        moved = effect(dose, outcome, scenarios, width=width)
    else:
        moved = mean_interval(slopes * width, clusters, as_rate=False)
    return Fit(tuple(columns), moved, logistic_slope(dose, outcome, groups), slopes, clusters)


def within(
    plan: Plan,
    table: Table,
    behaviour: str,
    direction: str,
    layer: int | None,
    sides: tuple[float | None, float | None],
    collapsed: Collection[float],
) -> Interval | None:
    """The effect between the ends of a range that is narrower than the slope window, mean over scenarios.

    Args:
        sides: the ends of the range, the negative one first; None: not even the smallest dose.
    Returns: None where there is no range, or where it has the whole window in it.
    """
    low, high = sides
    if layer is None or low is None or high is None or (low <= plan.window[0] and high >= plan.window[-1]):
        return None
    doses = table.doses(behaviour, "direction", direction, layer)
    inside = {dose: column for dose, column in doses.items() if low <= dose <= high and dose not in collapsed}
    return fit(zero(plan, table.baseline(behaviour)), inside).effect


def find_layer(plan: Plan, table: Table, behaviour: str, kind: Kind, direction: str) -> tuple[int | None, LayerSearch]:
    """The layer that a direction or control is reported at; where nothing was searched, the only one there is."""
    search = choose_layer(table.select(behaviour, kind, direction))
    if search.searched:
        return search.layer, search
    if isinstance(plan.layers, tuple) and len(plan.layers) == 1:
        return plan.layers[0], search
    found = table.layers("test", behaviour, kind, direction)
    return (found[0] if len(found) == 1 and not table.searched(behaviour) else None), search


def layer_choices(search: LayerSearch, table: Table, behaviour: str, direction: str) -> tuple[LayerChoice, ...]:
    """Each searched layer with its slope on the select half, outcome per unit of dose, and the outcomes it rests on."""
    baseline = table.select(behaviour, "baseline", "")
    rows = table.select(behaviour, "direction", direction)
    return tuple(
        LayerChoice(
            layer=one.layer,
            slope=estimate(mean_interval(one.changes / one.width, one.groups, as_rate=False)),
            chosen=one.layer == search.layer,
            points=_points([*baseline, *(row for row in rows if row.cell.layer == one.layer)]),
        )
        for one in search.searched
    )


def _points(rows: Sequence[Sample]) -> tuple[DosePoint, ...]:
    points = []
    for dose in sorted({row.cell.dose for row in rows}):
        mine = [row for row in rows if row.cell.dose == dose]
        mean = mean_interval([row.outcome for row in mine], [row.group for row in mine])
        points.append(DosePoint(dose=dose, estimate=estimate(mean), n=mean.n, missing=mean.missing))
    return tuple(points)


def searched_whole(plan: Plan, table: Table, behaviour: Behaviour, rows: Sequence[Sample]) -> bool:
    """Whether the layer search of one direction is finished: both outermost doses at every layer."""
    layers = table.searched(behaviour.name)
    ends = {min(plan.window), max(plan.window)}
    repeats = plan.samples.repeats if behaviour.ask != "choice" else 1
    expected = selecting(plan, behaviour) * repeats
    counts: dict[tuple[int, float], int] = {}
    for row in rows:
        key = (row.cell.layer, row.cell.dose)
        counts[key] = counts.get(key, 0) + 1
    return all(counts.get((layer, dose), 0) >= expected for layer in layers for dose in ends)


@dataclass(frozen=True)
class Controls:
    """One kind of control directions."""

    group: ControlGroup
    slopes: Mapping[str, float]
    """By name of the control, NaN where it could not be fitted. Controls that were never sampled are not here."""
    effects: Float64[np.ndarray, "controls"]
    """Mean change between the ends of the direction's window, each at its own layer; those that could be fitted."""
    planned: int
    whole: int
    """Controls whose every cell is finished."""
    short: int
    """Samples that the emptiest cell of a control lacks, of those sampled at all."""
    samples: int
    """Rows, those of the layer search among them."""


def controls(
    plan: Plan, table: Table, behaviour: Behaviour, kind: ControlKind, direction: str, own: Fit
) -> Controls | None:
    """All controls of one kind beside a direction, on the doses that the direction was fitted on.

    None: the plan asks for none, or none was sampled. A control's dose that fails the validity gate is left out,
    as a direction's is. One that cannot be fitted counts as at least as large."""
    wanted = int(getattr(plan.controls, kind))
    names = [
        name for name in table.names(behaviour.name, kind) if kind != "shuffled" or name.partition(":")[2] == direction
    ]
    if not wanted or not names:
        return None
    names.sort(key=_number)
    baseline = table.baseline(behaviour.name)
    nothing = zero(plan, baseline)
    expected = planned(plan, behaviour)
    cells: list[Mapping[float, Column]] = []
    finished = short = samples = 0
    for name in names:
        layer, _ = find_layer(plan, table, behaviour.name, kind, name)
        doses = table.doses(behaviour.name, kind, name, layer) if layer is not None else {}
        searched = table.select(behaviour.name, kind, name)
        samples += len(searched) + sum(len(column) for column in doses.values())
        complete = searched_whole(plan, table, behaviour, searched)
        lacking = expected - min(len(doses.get(dose, EMPTY)) for dose in plan.window)
        finished += complete and lacking <= 0
        short = max(short, lacking)
        cells.append({dose: column for dose, column in doses.items() if dose in own.doses and len(column)})
    limit = plan.thresholds.validity_drop
    kept = [
        {dose: column for dose, column in doses.items() if not collapses(baseline, column, limit)} for doses in cells
    ]
    slopes = _slopes(nothing, kept, own.doses)
    effects = np.array([_mean_effect(nothing, doses, own.width) for doses in kept], dtype=np.float64)
    known = slopes[~np.isnan(slopes)]
    null = np.concatenate([known, np.full(max(0, wanted - len(known)), np.nan)])
    p = p_value(own.slope.value, null)
    group = ControlGroup(
        kind=kind,
        slopes=tuple(known.tolist()),
        p=1.0 if p is None else p,
        envelope=envelope(cells, nothing),
    )
    by_name = dict(zip(names, slopes.tolist(), strict=True))
    return Controls(group, by_name, effects[~np.isnan(effects)], wanted, finished, short, samples)


def matched(
    plan: Plan, table: Table, behaviours: Sequence[Behaviour], direction: str, layer: int, own: Fit
) -> tuple[Interval, bool | None, Interval, bool]:
    """The same direction on the content-matched control questions.

    Returns: the largest effect on them; whether the direction's exceeds every one of them; the difference of the two
    sizes for that largest; whether all cells are finished. Independent samples, Welch."""
    if plan.samples.matched == 0 or not behaviours:
        return NOTHING, None, NOTHING, True
    finished, exceeds = True, []
    largest, gap = NOTHING, NOTHING
    for one in behaviours:
        baseline, doses = table.baseline(one.name), table.doses(one.name, "direction", direction, layer)
        expected = planned(plan, one)
        cells = [baseline, *(doses.get(dose, EMPTY) for dose in plan.window)]
        finished = finished and all(whole(cell, expected) for cell in cells)
        found = fit(zero(plan, baseline), {dose: column for dose, column in doses.items() if dose in own.doses})
        if found.effect.value is None or own.effect.value is None:
            continue
        # A direction whose doses were partly left out is compared over the same width.
        scale = own.width / found.width
        apart = difference(_sized(own.changes), _sized(found.changes * scale))
        exceeds.append(apart.low is not None and apart.low > 0)
        if largest.value is None or abs(found.effect.value * scale) > abs(largest.value):
            largest, gap = found.effect.times(scale), apart
    return largest, all(exceeds) if len(exceeds) == len(behaviours) else None, gap, finished


def reliability(
    own: Fit, coherence: Callable[[str, int], float | None] | None, direction: str, layer: int
) -> Reliability:
    """Prompt by prompt. A prompt that does not move at all is counted, and not as moving against."""
    mean = float(own.per_dose.mean())
    against = int((own.per_dose * np.sign(mean) < -1e-12).sum()) if mean else 0
    share = wilson(against, len(own.per_dose)) if mean else NOTHING
    return Reliability(
        slopes=tuple(own.per_dose.tolist()),
        against=estimate(share),
        story_coherence=None if coherence is None else coherence(direction, layer),
    )


def control_spread(groups: Collection[Controls], own: Fit) -> float:
    """Standard deviation of what controls truly do (of the kind where it is largest), sampling error taken out."""
    n = max(1, len(own.per_dose))
    error = float(np.var(own.changes, ddof=1)) / n if len(own.changes) > 1 else 0.0
    found = [float(np.var(one.effects, ddof=1)) - error for one in groups if len(one.effects) > 1]
    return float(np.sqrt(max([0.0, *found])))


def _sized(changes: Float64[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
    """Signed so that their mean is positive."""
    return changes if changes.mean() >= 0 else -changes


def _slopes(
    baseline: Column, controls: Sequence[Mapping[float, Column]], doses: Sequence[float]
) -> Float64[np.ndarray, "controls"]:
    """Logistic slope of each control over its doses and the baseline; NaN without a steered dose."""
    if not controls or not doses:
        return np.full(len(controls), np.nan)
    count, total = np.zeros((len(controls), len(doses))), np.zeros((len(controls), len(doses)))
    for row, columns in enumerate(controls):
        for at, dose in enumerate(doses):
            column = baseline if dose == 0 else columns.get(dose)
            if column is not None:
                count[row, at] = np.count_nonzero(~np.isnan(column.outcome))
                total[row, at] = np.nansum(column.outcome)
    return logistic_slopes(np.asarray(doses, dtype=np.float64), count, total)


def _mean_effect(baseline: Column, doses: Mapping[float, Column], width: float) -> float:
    """Mean over scenarios of least-squares slope times width; NaN without a steered dose."""
    columns = {dose: column for dose, column in {**doses, 0.0: baseline}.items() if column.has("outcome")}
    if len(columns) < 2:
        return float("nan")
    dose = np.concatenate([np.full(len(column), value) for value, column in columns.items()])
    outcome = np.concatenate([column.outcome for column in columns.values()])
    names = [name for column in columns.values() for name in column.scenarios]
    _, slopes = slopes_by_group(dose, outcome, names)
    return float(slopes.mean()) * width if len(slopes) else float("nan")


def _number(name: str) -> tuple[int, str]:
    digits = name.partition("/")[2].partition(":")[0]
    return (int(digits) if digits.isdigit() else 0, name)
