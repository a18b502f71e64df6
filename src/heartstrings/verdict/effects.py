"""How far a direction moves a behaviour: the direction, its controls, matched questions, single prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from heartstrings.behaviours.base import Behaviour
from heartstrings.experiment.layer_choice import LayerSearch, choose_layer
from heartstrings.experiment.ledger import CONTROL_KINDS, ControlKind, Kind, Sample
from heartstrings.experiment.plan import Plan
from heartstrings.experiment.sample_counts import repeats, selecting
from heartstrings.stats.contrasts import LINE, contrasts, in_units, largest, orientation
from heartstrings.stats.estimate import estimate
from heartstrings.stats.intervals import (
    Interval,
    as_codes,
    difference,
    group_means,
    mean_interval,
    means_by,
    t_quantile,
    wilson,
)
from heartstrings.stats.nulls import p_value
from heartstrings.stats.slopes import LEAST_EVENTS, effect, logistic_slope, logistic_slopes, slopes_by_group
from heartstrings.verdict._curves import envelope
from heartstrings.verdict._gates import collapses
from heartstrings.verdict.results import ControlGroup, DosePoint, LayerChoice, Reliability
from heartstrings.verdict.tables import EMPTY, NOTHING, Column, Table, change, planned, steered_doses, whole, zero


@dataclass(frozen=True)
class Shape:
    """One contrast of the doses (`heartstrings.stats.contrasts`)."""

    name: str
    change: Interval
    """Mean over situations, as a fraction; its interval holds together with the other contrasts' (Bonferroni)."""
    alone: Interval
    """The same change, its interval for this contrast by itself."""


@dataclass(frozen=True)
class Fit:
    """What the doses of the slope window say of one direction on one behaviour."""

    doses: tuple[float, ...]
    """Those fitted, 0 among them."""
    effect: Interval
    """Change between the outermost of them along a straight line, as a fraction; mean over situations."""
    slope: Interval
    """Log-odds per unit of dose."""
    per_dose: Float64[np.ndarray, "scenarios"]
    """Each scenario's least-squares slope, outcome per unit of dose."""
    clusters: tuple[str, ...]
    """Of each scenario."""
    shapes: tuple[Shape, ...] = ()
    """The line first."""
    shape: Shape | None = None
    """The one that the answer speaks of (`told`)."""

    @property
    def width(self) -> float:
        return max(self.doses) - min(self.doses) if self.doses else 0.0

    @property
    def changes(self) -> Float64[np.ndarray, "clusters"]:
        """Change between the ends of the window, averaged within clusters: independent values."""
        by_cluster: dict[str, list[float]] = {}
        for cluster, slope in zip(self.clusters, self.per_dose.tolist(), strict=True):
            by_cluster.setdefault(cluster, []).append(slope * self.width)
        return np.array([np.mean(values) for values in by_cluster.values()], dtype=np.float64)

    def against(self, compared: Sequence[Tops]) -> Fit:
        """The same fit, with the contrast to tell chosen against its controls."""
        ps = {shape.name: [kind_tops.along(shape.name).p for kind_tops in compared] for shape in self.shapes}
        worst = {name: max((1.0 if p is None else p for p in some), default=1.0) for name, some in ps.items()}
        return replace(self, shape=told(self.shapes, worst))


def told(shapes: Sequence[Shape], ps: Mapping[str, float]) -> Shape | None:
    """The contrast that an answer speaks of, so that the effect told is the one that exceeds the controls.

    Of the contrasts whose interval excludes 0, those with the least p are left. Of these it is the line, unless another
    is more than twice as far from 0 in its own half-widths. Where no interval excludes 0, it is the line.

    Args:
        ps: against the controls, by contrast; empty where there are none.
    """
    shown = [shape for shape in shapes if shape.change.excludes_zero]
    if not shown:
        return shapes[0] if shapes else None
    least = min(ps.get(shape.name, 1.0) for shape in shown)
    best = [shape for shape in shown if ps.get(shape.name, 1.0) <= least]
    surest = max(best, key=_sureness)
    return next((shape for shape in best if shape.name == LINE and 2 * _sureness(shape) >= _sureness(surest)), surest)


def _sureness(shape: Shape) -> float:
    """How many of its half-widths a contrast is away from 0."""
    return abs(shape.change.value or 0.0) / max(shape.change.half_width or 0.0, 1e-12)


NO_FIT = Fit((), NOTHING, NOTHING, np.zeros(0), ())


def fit(baseline: Column, doses: Mapping[float, Column]) -> Fit:
    """Slopes and contrasts over these doses and the baseline at 0."""
    columns = _with_outcomes(baseline, doses)
    if len(columns) < 2:
        return NO_FIT
    dose = np.concatenate([np.full(len(column), value) for value, column in columns.items()])
    outcome = np.concatenate([column.outcome for column in columns.values()])
    scenarios = [name for column in columns.values() for name in column.scenarios]
    groups = [name for column in columns.values() for name in column.groups]
    cluster_of = dict(zip(scenarios, groups, strict=True))
    names, slopes = slopes_by_group(dose, outcome, scenarios)
    clusters = tuple(cluster_of[str(name)] for name in names)
    moved = effect(dose, outcome, scenarios, situation=groups, width=max(columns) - min(columns))
    shapes = _shapes(columns, moved)
    slope = logistic_slope(dose, outcome, groups)
    return Fit(tuple(columns), moved, slope, slopes, clusters, shapes, told(shapes, {}))


def _with_outcomes(baseline: Column, doses: Mapping[float, Column]) -> dict[float, Column]:
    """By dose, rising, the baseline at 0; those without an outcome left out."""
    return {dose: column for dose, column in sorted({**doses, 0.0: baseline}.items()) if column.has("outcome")}


def _shapes(columns: Mapping[float, Column], line: Interval) -> tuple[Shape, ...]:
    """Every contrast of these doses, with intervals that hold together."""
    names, weights = contrasts(tuple(columns))
    table, clusters = _curves(columns)
    level = 1 - 0.05 / max(1, len(names))
    seen = np.concatenate([column.outcome for column in columns.values()])
    seen = seen[~np.isnan(seen)]
    rare = bool(np.isin(seen, (0.0, 1.0)).all()) and min(seen.sum(), len(seen) - seen.sum()) < LEAST_EVENTS
    shapes = []
    for name, values in zip(names, _contrasted(table, weights).T, strict=True):
        there = ~np.isnan(values)
        own = [cluster for cluster, known in zip(clusters, there, strict=True) if known]
        change = mean_interval(values[there], own, level=level, as_rate=False)
        alone = mean_interval(values[there], own, as_rate=False)
        if rare:  # so few events allow one interval, and no search over several contrasts
            change = line if name == LINE else Interval(change.value, None, None, change.n)
        shapes.append(Shape(name, change, alone))
    return tuple(shapes)


def _curves(columns: Mapping[float, Column]) -> tuple[Float64[np.ndarray, "scenario dose"], list[str]]:
    """Mean outcome of each scenario at each dose (NaN where there is none), and the scenarios' clusters."""
    rows: dict[str, str] = {}
    for column in columns.values():
        rows.update(zip(column.scenarios, column.groups, strict=True))
    place = {name: at for at, name in enumerate(rows)}
    means = np.full((len(rows), len(columns)), np.nan)
    for at, column in enumerate(columns.values()):
        own = np.array([place[name] for name in column.scenarios], dtype=np.int64)
        means[:, at] = means_by(column.outcome, own, len(rows))
    return means, list(rows.values())


def _contrasted(
    table: Float64[np.ndarray, "scenario dose"], weights: Float64[np.ndarray, "contrast dose"]
) -> Float64[np.ndarray, "scenario contrast"]:
    """NaN where a dose of the contrast has no outcome."""
    known = ~np.isnan(table)
    values = np.where(known, table, 0.0) @ weights.T
    lacking = (~known).astype(float) @ (weights != 0).T.astype(float) > 0
    contrasted: Float64[np.ndarray, "scenario contrast"] = np.where(lacking, np.nan, values)
    return contrasted


def within(
    plan: Plan,
    table: Table,
    behaviour: str,
    direction: str,
    layer: int | None,
    sides: tuple[float | None, float | None],
    collapsed: Collection[float],
    shape: Shape | None,
) -> Interval | None:
    """The effect within a range that is narrower than the slope window, mean over situations: along the contrast of the
    answer where the range's doses have it, else between its ends.

    Args:
        sides: the ends of the range, the negative one first; None: not even the smallest dose.
    Returns: None where there is no range, or where it has the whole window in it.
    """
    low, high = sides[0] or 0.0, sides[1] or 0.0
    if layer is None or low == high or (low <= plan.window[0] and high >= plan.window[-1]):
        return None
    doses = table.doses(behaviour, "direction", direction, layer)
    inside = {dose: column for dose, column in doses.items() if low <= dose <= high and dose not in collapsed}
    fitted = fit(zero(plan, table.baseline(behaviour)), inside)
    same = [contrast.change for contrast in fitted.shapes if shape is not None and contrast.name == shape.name != LINE]
    return same[0] if same else fitted.effect


def at_doses(
    plan: Plan,
    table: Table,
    behaviour: Behaviour,
    direction: str,
    layer: int | None,
    collapsed: Collection[float],
    own: Fit,
) -> tuple[Interval, ...]:
    """The changes that must all be small before an effect is denied: at every coherent dose up to the ends of the slope
    window, and between its ends, each with both bounds at 1 - alpha (two one-sided tests, Schuirmann 1987; all must
    hold, so nothing is corrected). Empty where a dose is not finished, or where no interval can be given."""
    level = 1 - 2 * plan.thresholds.alpha
    baseline = table.baseline(behaviour.name)
    doses = {} if layer is None else table.doses(behaviour.name, "direction", direction, layer)
    reach = [dose for dose in steered_doses(plan) if abs(dose) <= max(map(abs, plan.window)) and dose not in collapsed]
    if not reach or not all(whole(doses.get(dose, EMPTY), planned(plan, behaviour)) for dose in reach):
        return ()
    line, degrees = own.effect, len(own.changes) - 1
    if line.value is not None and line.low is not None and line.high is not None and degrees > 0:
        share = t_quantile(level, degrees) / t_quantile(0.95, degrees)
        below, above = line.value - line.low, line.high - line.value
        line = Interval(line.value, line.value - share * below, line.value + share * above, line.n)
    return (line, *(change(baseline, doses[dose], "outcome", level=level) for dose in reach))


def find_layer(plan: Plan, table: Table, behaviour: str, kind: Kind, direction: str) -> tuple[int | None, LayerSearch]:
    """The layer that a direction or control is reported at; where nothing was searched, the only one there is."""
    search = choose_layer(table.select(behaviour, kind, direction))
    if search.searched:
        return search.layer, search
    if isinstance(plan.layers, tuple) and len(plan.layers) == 1:
        return plan.layers[0], search
    layers = table.layers("test", behaviour, kind, direction)
    return (layers[0] if len(layers) == 1 and not table.searched(behaviour) else None), search


def layer_choices(search: LayerSearch, table: Table, behaviour: str, direction: str) -> tuple[LayerChoice, ...]:
    """Each searched layer with its slope on the select half, outcome per unit of dose, and the outcomes it rests on."""
    baseline = table.select(behaviour, "baseline", "")
    rows = table.select(behaviour, "direction", direction)
    return tuple(
        LayerChoice(
            layer=layer_change.layer,
            slope=estimate(
                mean_interval(layer_change.changes / layer_change.width, layer_change.groups, as_rate=False)
            ),
            chosen=layer_change.layer == search.layer,
            points=_points([*baseline, *(row for row in rows if row.cell.layer == layer_change.layer)]),
        )
        for layer_change in search.searched
    )


def _points(rows: Sequence[Sample]) -> tuple[DosePoint, ...]:
    points = []
    for dose in sorted({row.cell.dose for row in rows}):
        mine = [row for row in rows if row.cell.dose == dose]
        points.append(DosePoint.at(dose, mean_interval([row.outcome for row in mine], [row.group for row in mine])))
    return tuple(points)


def searched_whole(plan: Plan, table: Table, behaviour: Behaviour, rows: Sequence[Sample]) -> bool:
    """Whether the layer search of one direction is finished: both outermost doses at every layer."""
    layers = table.searched(behaviour.name)
    ends = {min(plan.window), max(plan.window)}
    expected = selecting(plan, behaviour) * repeats(plan, behaviour)
    counts: dict[tuple[int, float], int] = {}
    for row in rows:
        key = (row.cell.layer, row.cell.dose)
        counts[key] = counts.get(key, 0) + 1
    return all(counts.get((layer, dose), 0) >= expected for layer in layers for dose in ends)


@dataclass(frozen=True)
class Tops:
    """The largest contrast of a direction, and of what it is compared with, in units of the root mean square of that
    contrast over both (`heartstrings.stats.contrasts.in_units`)."""

    own: float
    """NaN where it has none."""
    each: Mapping[str, float]
    """Every contrast of the direction."""
    others: Mapping[str, float]
    """By name; NaN where a control could not be fitted. Controls that were never sampled are not here. One-sided, each
    control is here in both directions, and the tested direction reversed: under the null its sign is as good as its
    opposite."""
    expected: int
    """How many others there will be, once all controls are sampled."""

    def along(self, contrast: str) -> Tops:
        """One contrast of the direction against the largest of every other: p is corrected for the choice of it."""
        return replace(self, own=self.each.get(contrast, math.nan))

    @property
    def p(self) -> float | None:
        lacking = np.full(max(0, self.expected - len(self.others)), np.nan)
        return p_value(self.own, np.concatenate([list(self.others.values()), lacking]))


@dataclass(frozen=True)
class ControlEffect:
    """What one control did at the doses that the tested direction was fitted on, at its own layer."""

    name: str
    layer: int | None
    search: LayerSearch
    changes: Mapping[str, float]
    """Mean change by contrast; NaN for those that its doses do not have."""


@dataclass(frozen=True)
class Controls:
    """One kind of control directions."""

    group: ControlGroup
    sized: Tops
    """By size, whatever the sign."""
    signed: Tops | None
    """With the sign that the plan declares for the direction; None: it declares none."""
    planned: int
    whole: int
    """Controls whose every cell is finished."""
    short: int
    """Samples that the emptiest cell of a control lacks, of those sampled at all."""
    samples: int
    """Rows, those of the layer search among them."""
    each: tuple[ControlEffect, ...]
    """Every control that was sampled."""

    @property
    def tops(self) -> Tops:
        """With the declared sign, where there is one."""
        return self.signed or self.sized

    @property
    def compared(self) -> int:
        """Values that the direction is compared with, once all controls are sampled."""
        return self.tops.expected

    def changes(self, contrast: str) -> Float64[np.ndarray, "controls"]:
        """Mean change along one contrast, each control at its own layer; those that could be fitted."""
        known = np.array([control.changes.get(contrast, math.nan) for control in self.each], dtype=np.float64)
        return known[~np.isnan(known)]

    def along(self, contrast: str) -> Controls:
        """With the p of one contrast of the direction."""
        sized, signed = self.sized.along(contrast), self.signed and self.signed.along(contrast)
        p = (signed or sized).p
        group = self.group.model_copy(update={"p": 1.0 if p is None else p})
        return replace(self, group=group, sized=sized, signed=signed)


@dataclass(frozen=True)
class Comparison:
    """Some control directions compared with a tested direction, at the doses that it was fitted on."""

    each: tuple[ControlEffect, ...]
    cells: tuple[Mapping[float, Column], ...]
    kept: tuple[Mapping[float, Column], ...]
    """Without the doses at which the share of valid answers falls, which are left out of a direction's fit too."""
    changes: Float64[np.ndarray, "direction contrast"]
    """The tested direction's mean change by contrast, then each control's; NaN where it cannot be fitted."""
    shapes: tuple[str, ...]
    """Names of the contrasts."""
    least: float
    """The smallest effect that matters, a fraction."""
    whole: int
    short: int
    samples: int

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(control.name for control in self.each)


def compare(plan: Plan, table: Table, behaviour: Behaviour, kind: Kind, names: Sequence[str], own: Fit) -> Comparison:
    """Some directions of one kind compared with a tested direction."""
    baseline = table.baseline(behaviour.name)
    nothing = zero(plan, baseline)
    expected = planned(plan, behaviour)
    limit, alpha = plan.thresholds.validity_drop, plan.thresholds.alpha
    cells: list[Mapping[float, Column]] = []
    layers: list[tuple[int | None, LayerSearch]] = []
    finished = short = samples = 0
    for name in names:
        layers.append(find_layer(plan, table, behaviour.name, kind, name))
        layer = layers[-1][0]
        doses = table.doses(behaviour.name, kind, name, layer) if layer is not None else {}
        searched = table.select(behaviour.name, kind, name)
        samples += len(searched) + sum(len(column) for column in doses.values())
        complete = searched_whole(plan, table, behaviour, searched)
        lacking = expected - min(len(doses.get(dose, EMPTY)) for dose in plan.compared(behaviour.name))
        finished += complete and lacking <= 0
        short = max(short, lacking)
        cells.append({dose: column for dose, column in doses.items() if dose in own.doses and len(column)})
    kept = [
        {dose: column for dose, column in doses.items() if not collapses(baseline, column, limit, alpha)}
        for doses in cells
    ]
    shapes = tuple(shape.name for shape in own.shapes)
    mine = [np.nan if shape.change.value is None else shape.change.value for shape in own.shapes]
    rows = [mine, *(mean_changes(nothing, doses, shapes) for doses in kept)]
    changes = np.array(rows, dtype=np.float64).reshape(len(rows), len(shapes))
    least = plan.thresholds.smallest_effect
    each = tuple(
        ControlEffect(name, layer, search, dict(zip(shapes, row, strict=True)))
        for name, (layer, search), row in zip(names, layers, changes[1:].tolist(), strict=True)
    )
    return Comparison(each, tuple(cells), tuple(kept), changes, shapes, least, finished, short, samples)


def controls(
    plan: Plan, table: Table, behaviour: Behaviour, kind: ControlKind, direction: str, own: Fit
) -> Controls | None:
    """All controls of one kind beside a direction, on the doses that the direction was fitted on.

    None: the plan asks for none, or none was sampled. A control's dose that fails the validity gate is left out,
    as a direction's is. One that cannot be fitted counts as at least as large."""
    wanted = int(getattr(plan.controls, kind))
    names = control_names(plan, table, behaviour, kind, direction)
    if not wanted or not names:
        return None
    comparison = compare(plan, table, behaviour, kind, names, own)
    nothing = zero(plan, table.baseline(behaviour.name))
    slopes = _slopes(nothing, comparison.kept, own.doses)
    sized = tops(comparison, wanted, 0)
    sign = plan.sign(behaviour.name, direction)
    signed = tops(comparison, wanted, sign) if sign else None
    p = (signed or sized).p
    group = ControlGroup(
        kind=kind,
        slopes=tuple(slopes[~np.isnan(slopes)].tolist()),
        p=1.0 if p is None else p,
        envelope=envelope(comparison.cells, nothing),
    )
    return Controls(
        group, sized, signed, wanted, comparison.whole, comparison.short, comparison.samples, comparison.each
    )


def control_names(plan: Plan, table: Table, behaviour: Behaviour, kind: Kind, direction: str) -> list[str]:
    """The controls of one kind that were sampled beside a direction, by their number; of those that the plan asks."""
    names = [
        name for name in table.names(behaviour.name, kind) if kind != "shuffled" or name.partition(":")[2] == direction
    ]
    if kind in CONTROL_KINDS:
        names = [name for name in names if _number(name)[0] < getattr(plan.controls, kind)]
    return sorted(names, key=_number)


def tops(comparison: Comparison, wanted: int, sign: int) -> Tops:
    """With a declared sign (1 or -1), each control in both of its directions; without one (0) by size."""
    if not sign:
        return _tops(comparison, wanted, None)
    signs = sign * orientation(comparison.shapes)
    forward = _tops(comparison, 2 * wanted + 1, signs)
    back = largest(in_units(comparison.changes, -signs, least=comparison.least)).tolist()
    others = {f"{name} reversed": top for name, top in zip(comparison.names, back[1:], strict=True)}
    return replace(forward, others={**forward.others, **others, "reversed": back[0]})


def ranked_tops(comparison: Comparison, sign: int) -> Tops:
    """With this sign, each of the others in its own direction only: they have a sign of their own."""
    return _tops(comparison, len(comparison.names), sign * orientation(comparison.shapes))


def _tops(comparison: Comparison, expected: int, signs: Float64[np.ndarray, "contrast"] | None) -> Tops:
    scaled = in_units(comparison.changes, signs, least=comparison.least)
    top = largest(scaled).tolist()
    each = dict(zip(comparison.shapes, scaled[0].tolist(), strict=True))
    return Tops(top[0], each, dict(zip(comparison.names, top[1:], strict=True)), expected)


def matched(
    plan: Plan, table: Table, behaviours: Sequence[Behaviour], direction: str, layer: int, own: Fit
) -> tuple[Interval, bool | None, Interval, bool]:
    """The same direction on the content-matched control questions, by the contrast that its effect is told in.

    Returns: the largest effect on them; whether the direction's exceeds every one of them; the difference of the two
    sizes for that largest; whether all cells are finished. Independent samples."""
    if plan.samples.matched == 0 or not behaviours:
        return NOTHING, None, NOTHING, True
    finished, exceeds = True, []
    most, gap = NOTHING, NOTHING
    for behaviour in behaviours:
        baseline, doses = table.baseline(behaviour.name), table.doses(behaviour.name, "direction", direction, layer)
        expected = planned(plan, behaviour)
        cells = [baseline, *(doses.get(dose, EMPTY) for dose in {*plan.window, *own.doses} - {0.0})]
        finished = finished and all(whole(cell, expected) for cell in cells)
        fitted = fit(zero(plan, baseline), {dose: column for dose, column in doses.items() if dose in own.doses})
        same = [shape for shape in fitted.shapes if own.shape is not None and shape.name == own.shape.name]
        if not same or same[0].change.value is None or own.shape is None:
            continue
        # A direction whose doses were partly left out is compared over the same width.
        other = same[0].alone.times(own.width / fitted.width if same[0].name == LINE else 1.0)
        between = difference(_sized(own.shape.alone), _sized(other))
        exceeds.append(between.low is not None and between.low > 0)
        if most.value is None or abs(other.value or 0.0) > abs(most.value):
            most, gap = other, between
    return most, all(exceeds) if len(exceeds) == len(behaviours) else None, gap, finished


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
    error = float(np.var(own.changes, ddof=1)) / len(own.changes) if len(own.changes) > 1 else 0.0
    lines = [group.changes(LINE) for group in groups]
    variances = [float(np.var(line, ddof=1)) - error for line in lines if len(line) > 1]
    return float(np.sqrt(max([0.0, *variances])))


def _sized(change: Interval) -> Interval:
    """Signed so that its value is positive."""
    return change if (change.value or 0.0) >= 0 else change.times(-1)


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


def mean_changes(
    baseline: Column, doses: Mapping[float, Column], wanted: Sequence[str]
) -> Float64[np.ndarray, "contrast"]:
    """Mean over situations of some contrasts of a control's doses; NaN for those that its doses do not have."""
    columns = _with_outcomes(baseline, doses)
    names, weights = contrasts(tuple(columns))
    if not names:
        return np.full(len(wanted), np.nan)
    table, clusters = _curves(columns)
    codes, by_name = as_codes(clusters, len(clusters)), {}
    for name, values in zip(names, _contrasted(table, weights).T, strict=True):
        there = ~np.isnan(values)
        by_name[name] = float(group_means(values[there], codes[there]).mean()) if there.any() else math.nan
    return np.array([by_name.get(name, math.nan) for name in wanted], dtype=np.float64)


def _number(name: str) -> tuple[int, str]:
    digits = name.partition("/")[2].partition(":")[0]
    return (int(digits) if digits.isdigit() else 0, name)
