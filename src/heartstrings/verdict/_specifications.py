"""The specification curve: the effect under every choice that the run's own samples allow (Simonsohn, Simmons and
Nelson 2020, Nat. Hum. Behav. 4:1208-1214). It describes: nothing is corrected, and no answer rests on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np

from heartstrings.experiment.ledger import ControlKind, Kind
from heartstrings.experiment.plan import Plan
from heartstrings.stats.contrasts import LINE, orientation
from heartstrings.stats.estimate import estimate
from heartstrings.stats.intervals import Interval
from heartstrings.stats.nulls import p_value
from heartstrings.verdict.effects import Controls, Fit, Shape, fit, mean_changes
from heartstrings.verdict.measured import Measured
from heartstrings.verdict.results import Specification
from heartstrings.verdict.tables import Column, Table, zero

Changes = Mapping[ControlKind, list[float | None]]
"""Of the controls of each kind, along one contrast; None where one has no value, or was not sampled."""


def specifications(plan: Plan, table: Table, measured: Measured) -> tuple[Specification, ...]:
    """By effect, rising: each searched layer, on the scenarios that chose it; each contrast of the doses at the layer
    that was chosen; and, where coherence fails at a dose, the same contrasts with that dose kept in. Each has a p
    against every kind of controls by itself, all by size whatever sign the plan declares. Empty without a layer."""
    if measured.layer is None:
        return ()
    specs = [*_layers(plan, measured), *_contrasts(measured, measured.fit, _known(measured), collapsed=False)]
    if measured.collapsed & set(plan.compared(measured.behaviour.name)):
        specs += _with_collapsed(plan, table, measured)
    known = [spec for spec in specs if spec.effect.value is not None]
    return tuple(sorted(known, key=lambda spec: (spec.effect.value or 0.0, spec.half, spec.layer, spec.contrast)))


def _layers(plan: Plan, measured: Measured) -> list[Specification]:
    """Every searched layer, the controls at the same one: the outcome at the highest window dose minus that at the
    lowest."""
    width = float(np.ptp(plan.window))
    made = []
    for choice in measured.search:
        changes: dict[ControlKind, list[float | None]] = {}
        for kind, group in measured.controls.items():
            here = {control.name: {at.layer: at.mean for at in control.search.searched} for control in group.each}
            changes[kind] = _padded([means.get(choice.layer) for means in here.values()], group)
        slope = choice.slope
        scaled = Interval(slope.value, slope.low, slope.high).times(width)
        made.append(_made("search", choice.layer, LINE, scaled, changes))
    return made


def _contrasts(measured: Measured, own: Fit, changes: Mapping[str, Changes], *, collapsed: bool) -> list[Specification]:
    layer = -1 if measured.layer is None else measured.layer
    told = own.shape.name if own.shape is not None and not collapsed else None
    return [
        _made(
            "report",
            layer,
            shape.name,
            _alone(own, shape),
            changes[shape.name],
            collapsed=collapsed,
            chosen=shape.name == told,
        )
        for shape in own.shapes
    ]


def _alone(own: Fit, shape: Shape) -> Interval:
    """The change along one contrast, with an interval for it alone; none where its events are too rare for one."""
    if shape.name == LINE:
        return own.effect
    if shape.change.low is None:
        return shape.change
    return shape.alone


def _known(measured: Measured) -> dict[str, Changes]:
    """By contrast, of the controls as they were compared."""
    return {
        shape.name: {
            kind: _padded([control.changes.get(shape.name) for control in group.each], group)
            for kind, group in measured.controls.items()
        }
        for shape in measured.fit.shapes
    }


def _with_collapsed(plan: Plan, table: Table, measured: Measured) -> list[Specification]:
    """Every contrast of all compared doses, of the direction and of its controls, whatever became of the answers."""
    name = measured.behaviour.name
    nothing = zero(plan, table.baseline(name))
    wanted = set(plan.compared(name))

    def cells(kind: Kind, direction: str, layer: int | None) -> dict[float, Column]:
        doses = {} if layer is None else table.doses(name, kind, direction, layer)
        return {dose: column for dose, column in doses.items() if dose in wanted and len(column)}

    own = fit(nothing, cells("direction", measured.direction, measured.layer))
    shapes = tuple(shape.name for shape in own.shapes)
    rows = {
        kind: [mean_changes(nothing, cells(kind, control.name, control.layer), shapes) for control in group.each]
        for kind, group in measured.controls.items()
    }
    changes: dict[str, Changes] = {
        shape: {
            kind: _padded([float(row[at]) for row in rows[kind]], group) for kind, group in measured.controls.items()
        }
        for at, shape in enumerate(shapes)
    }
    return _contrasts(measured, own, changes, collapsed=True)


def _padded(changes: list[float | None], group: Controls) -> list[float | None]:
    """With a missing value for each control that was planned and not sampled: it counts as larger."""
    known = [None if change is None or math.isnan(change) else change for change in changes]
    return known + [None] * (group.planned - len(known))


def _made(
    half: Literal["search", "report"],
    layer: int,
    contrast: str,
    effect: Interval,
    changes: Changes,
    *,
    collapsed: bool = False,
    chosen: bool = False,
) -> Specification:
    turn = float(orientation((contrast,))[0]) or 1.0
    ps = {kind: p_value(effect.value, values) for kind, values in changes.items() if any(v is not None for v in values)}
    return Specification(
        half=half,
        layer=layer,
        contrast=contrast,
        collapsed=collapsed,
        effect=estimate(effect.times(turn)),
        ps={kind: p for kind, p in ps.items() if p is not None},
        chosen=chosen,
    )
