"""One behaviour and direction measured: what the decision and its card are made from, and p over several of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heartstrings.behaviours.base import Behaviour
from heartstrings.experiment.ledger import CONTROL_KINDS, ControlKind
from heartstrings.experiment.plan import Plan
from heartstrings.stats.importance import hierarchical_fdr
from heartstrings.stats.intervals import Interval
from heartstrings.stats.nulls import LEAST_CONTROLS, max_t
from heartstrings.verdict import _missing as missing
from heartstrings.verdict._gates import conditions, gates
from heartstrings.verdict._understood import checks, understood
from heartstrings.verdict.effects import (
    NO_FIT,
    Controls,
    Fit,
    Tops,
    control_spread,
    controls,
    find_layer,
    fit,
    layer_choices,
    matched,
)
from heartstrings.verdict.results import Check, Gate, LayerChoice
from heartstrings.verdict.tables import Suite, Table, zero


@dataclass(frozen=True)
class Measured:
    """One behaviour and direction, before the correction over the plan."""

    behaviour: Behaviour
    others: tuple[Behaviour, ...]
    """Capability, harm, cost and writing."""
    matched_by: tuple[Behaviour, ...]
    direction: str
    layer: int | None
    search: tuple[LayerChoice, ...]
    fit: Fit
    controls: dict[ControlKind, Controls]
    matched: Interval
    exceeds: bool | None
    gap: Interval
    gates: tuple[Gate, ...]
    collapsed: frozenset[float]
    gaps: tuple[missing.Gap, ...]
    p: float | None
    control_sd: float
    checks: tuple[Check, ...]
    """Whether the model tells the options apart."""

    @property
    def spread(self) -> float:
        """Standard deviation over scenarios of the change between the ends of the window."""
        changes = self.fit.changes
        return float(np.std(changes, ddof=1)) if len(changes) > 1 else 0.0


def measure(plan: Plan, table: Table, suite: Suite, name: str, direction: str) -> Measured:
    """Everything but the decision."""
    behaviour = suite.behaviour(name)
    others = tuple(
        other
        for other in (*suite.capability, *suite.harm, *suite.cost, *suite.writing)
        if getattr(plan.samples, other.role) and other.name != name
    )
    layer, search = find_layer(plan, table, name, "direction", direction)
    gated, collapsed = gates(
        plan, conditions(plan, behaviour, others, table), table, direction, -1 if layer is None else layer
    )
    own = NO_FIT
    if layer is not None:
        doses = table.doses(name, "direction", direction, layer)
        kept = {dose: doses[dose] for dose in plan.compared(name) if dose in doses and dose not in collapsed}
        own = fit(zero(plan, table.baseline(name)), kept)
    compared = {
        kind: group for kind in CONTROL_KINDS if (group := controls(plan, table, behaviour, kind, direction, own))
    }
    own = own.against([group.tops for group in compared.values()])
    if own.shape is not None:
        compared = {kind: group.along(own.shape.name) for kind, group in compared.items()}
    matched_by = suite.matched_of(name) if plan.samples.matched else ()
    same, exceeds, gap, finished = matched(plan, table, matched_by, direction, -1 if layer is None else layer, own)
    gaps = missing.effect_gaps(plan, table, behaviour, direction, layer)
    known = checks(plan, table, suite, behaviour)
    gaps += missing.check_gaps(plan, table, suite.checks_of(name))
    unclear = understood(known) is False
    other_gaps = missing.matched_gaps(plan, matched_by, finished=finished)
    other_gaps += missing.gate_gaps(plan, gated, others, behaviour)
    gaps += missing.not_needed(behaviour, other_gaps) if unclear else other_gaps
    gaps += missing.control_gaps(plan, behaviour, compared, others=any(gap.part for gap in gaps), unclear=unclear)
    p = max((group.group.p for group in compared.values()), default=None)
    if not own.shapes or sum(len(group.group.slopes) for group in compared.values()) < LEAST_CONTROLS:
        p = None
        if own.shapes and plan.controlled and not unclear:
            gaps.append(missing.Gap("controls", f"{name}: fewer than {LEAST_CONTROLS} controls could be fitted"))
    return Measured(
        behaviour, others, matched_by, direction, layer, layer_choices(search, table, name, direction), own, compared,
        same, exceeds, gap, gated, collapsed, tuple(gaps), p, control_spread(compared.values(), own), known,
    )  # fmt: skip


def corrected(of_direction: Sequence[Measured]) -> tuple[float | None, ...]:
    """p of one direction on some effect behaviours, corrected over them: the largest over kinds of controls."""
    kinds = [kind for kind in CONTROL_KINDS if any(kind in measured.controls for measured in of_direction)]
    by_kind = [p_of_kind(of_direction, kind) for kind in kinds]
    return tuple(
        None if measured.p is None else max((1.0 if p is None else p for p in ps), default=None)
        for measured, ps in zip(
            of_direction, zip(*by_kind, strict=True) if by_kind else [()] * len(of_direction), strict=True
        )
    )


def p_of_kind(of_direction: Sequence[Measured], kind: ControlKind) -> tuple[float | None, ...]:
    """p of one direction on some effect behaviours against one kind of controls, corrected over the behaviours."""
    # One-sided only where all are: a control has to be the same in every column.
    signed = all(group.signed for measured in of_direction for group in measured.controls.values())
    asked = [measured.controls.get(kind) for measured in of_direction]
    tops = [None if group is None else group.tops if signed else group.sized for group in asked]
    return step_down(tops, [measured.p is not None for measured in of_direction])


def step_down(tops: Sequence[Tops | None], counted: Sequence[bool]) -> tuple[float | None, ...]:
    """p on each of some behaviours, corrected over them (`max_t`). A control is one direction in all behaviours, so it
    is told from the others by its name.

    Args:
        tops: a behaviour's; None: nothing was compared there.
        counted: whether the direction has a value there.
    """
    compared = [behaviour_tops for behaviour_tops in tops if behaviour_tops]
    if not compared:
        return (None,) * len(tops)
    names = sorted({name for behaviour_tops in compared for name in behaviour_tops.others})
    null = np.full((max(len(names), *(behaviour_tops.expected for behaviour_tops in compared)), len(tops)), np.nan)
    for column, behaviour_tops in enumerate(tops):
        for row, name in enumerate(names):
            null[row, column] = behaviour_tops.others.get(name, np.nan) if behaviour_tops else np.nan
    own = [
        behaviour_tops.own if behaviour_tops and has else None
        for behaviour_tops, has in zip(tops, counted, strict=True)
    ]
    return max_t(own, null)


def discoveries(plan: Plan, measurements: Sequence[Measured]) -> dict[tuple[str, str], bool]:
    """Whether each behaviour and direction that no one declared is a discovery, at a rate of alpha.

    One group a direction (`hierarchical_fdr`), from uncorrected p. No answer depends on it: their p holds for
    all behaviours together, which is stricter than a list of what to look at next needs. Empty where the plan declares
    nothing, as then the experiment is about every behaviour.
    """
    undeclared = [measured for measured in measurements if measured.behaviour.name not in plan.declared]
    groups = [[measured for measured in undeclared if measured.direction == direction] for direction in plan.directions]
    if not undeclared:
        return {}
    discovered = hierarchical_fdr([[measured.p for measured in group] for group in groups], plan.thresholds.alpha).found
    return {
        (measured.behaviour.name, measured.direction): made
        for group, of_group in zip(groups, discovered, strict=True)
        for measured, made in zip(group, of_group, strict=True)
    }
