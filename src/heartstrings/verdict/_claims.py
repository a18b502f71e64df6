"""Claims beyond the answer: what a direction's effect exceeds, each with a p of its own.

In a fixed order, each at alpha only where all before it are shown (a fixed sequence, Maurer, Hothorn and Lehmacher
1995), so that the claims of one answer together err as often as one would. Over behaviours and directions each claim is
corrected by itself. The first two are what the answer `controls` rests on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heartstrings.experiment.claim_directions import rivals
from heartstrings.experiment.ledger import NATURAL_KINDS, ClaimKind, ControlKind
from heartstrings.experiment.plan import Plan
from heartstrings.stats.contrasts import orientation
from heartstrings.stats.estimate import estimate
from heartstrings.stats.nulls import holm_groups
from heartstrings.verdict._gates import collapses
from heartstrings.verdict.control_rounds import Family
from heartstrings.verdict.effects import (
    Fit,
    Tops,
    compare,
    control_names,
    find_layer,
    fit,
    ranked_tops,
    searched_whole,
    tops,
)
from heartstrings.verdict.measured import Measured, p_of_kind, step_down
from heartstrings.verdict.results import Claim, ClaimName
from heartstrings.verdict.tables import EMPTY, Table, planned, whole, zero

ANY_PUSH: tuple[ControlKind, ...] = ("general", "span")
BEYOND: dict[ClaimKind, ClaimName] = {
    "mixture": "mixtures of emotions",
    "other": "other emotions",
    "stripped": "beyond valence and arousal",
}
"""Claims beyond the controls, in their order, by what is sampled for them."""


@dataclass(frozen=True)
class _Compared:
    """One claim about one behaviour and direction, before the correction."""

    tops: tuple[Tops, ...]
    """One a kind of control; the worst counts."""
    sides: int = 1
    """2: the side was taken from the data."""
    shown: Fit | None = None
    """Of another direction than the tested one."""


def claims(plan: Plan, table: Table, every: Sequence[Family]) -> dict[tuple[str, str], tuple[Claim, ...]]:
    """The claims of every behaviour and direction. Those beyond the controls are asked of declared behaviours alone."""
    made: dict[tuple[str, str], list[Claim]] = {
        (measured.behaviour.name, measured.direction): [] for family in every for measured in family.own
    }
    for family in every:
        asked = family.plan  # with the controls that these behaviours were compared with
        control_claims: tuple[tuple[ClaimName, tuple[ControlKind, ...]], ...]
        control_claims = (("any push", ANY_PUSH), ("natural text", NATURAL_KINDS))
        for name, kinds in control_claims:
            planned_kinds = tuple(kind for kind in kinds if getattr(plan.controls, kind))
            if planned_kinds:
                _add(
                    plan,
                    made,
                    family,
                    name,
                    {id(measured): _by_controls(measured, planned_kinds) for measured in family.found},
                    planned_kinds,
                )
        if set(family.members) != set(plan.declared):
            continue
        for kind, beyond in BEYOND.items():
            if getattr(plan.claims, kind):
                compared = {id(measured): _by_claim(asked, table, measured, kind) for measured in family.found}
                _add(plan, made, family, beyond, compared)
    return {key: _in_order(plan, own) for key, own in made.items()}


def _add(
    plan: Plan,
    made: dict[tuple[str, str], list[Claim]],
    family: Family,
    name: ClaimName,
    compared: Mapping[int, _Compared | None],
    kinds: Sequence[ControlKind] = (),
) -> None:
    """A claim of each, its p corrected over behaviours of a family (step-down) and over directions (Holm)."""
    groups = []
    for direction in plan.directions:
        group = family.of(direction)
        if kinds:
            by_kind = [p_of_kind(group, kind) for kind in kinds]
        else:
            rows = [compared[id(measured)] for measured in group]
            number = max((len(row.tops) for row in rows if row), default=0)
            by_kind = [
                step_down([row.tops[at] if row else None for row in rows], [row is not None for row in rows])
                for at in range(number)
            ]
        sides = max((row.sides for measured in group if (row := compared[id(measured)])), default=1)
        groups.append((group, [_worst(ps, sides) for ps in zip(*by_kind, strict=True)] or [None] * len(group)))
    corrected = holm_groups([ps for _, ps in groups])
    for (group, _), ps in zip(groups, corrected, strict=True):
        for measured, p in zip(group, ps, strict=True):
            if measured.behaviour.name in family.members:
                made[measured.behaviour.name, measured.direction].append(_claim(name, compared[id(measured)], p))


def _claim(name: ClaimName, compared: _Compared | None, p: float | None) -> Claim:
    if compared is None or p is None:
        return Claim(name=name, compared=0, rank=None, p_uncorrected=None, p=None, state="missing")
    alone = [tops.p for tops in compared.tops]
    larger = [
        sum(bool(np.isnan(other)) or abs(other) >= abs(tops.own) for other in tops.others.values())
        for tops in compared.tops
    ]
    shown = None if compared.shown is None or compared.shown.shape is None else compared.shown.shape
    return Claim(
        name=name,
        compared=sum(tops.expected for tops in compared.tops),
        rank=1 + sum(larger),
        p_uncorrected=_worst(alone, compared.sides),
        p=p,
        state="not shown",
        effect=None if shown is None else estimate(shown.change),
    )


def _in_order(plan: Plan, own: Sequence[Claim]) -> tuple[Claim, ...]:
    """Each is shown only if all before it are. With controls in rounds, one that is not reached
    need not be asked."""
    reached, made = True, []
    for number, claim in enumerate(own):
        if claim.state == "missing":
            left_out = plan.control_round and number and not reached
            made.append(claim.model_copy(update={"state": "not reached"}) if left_out else claim)
            reached = False
            continue
        shown = reached and claim.p is not None and claim.p < plan.thresholds.alpha
        made.append(claim.model_copy(update={"state": "shown" if shown else "not shown" if reached else "not reached"}))
        reached = shown
    return tuple(made)


def _by_controls(measured: Measured, kinds: Sequence[ControlKind]) -> _Compared | None:
    """Against controls that were measured already."""
    groups = [measured.controls[kind] for kind in kinds if kind in measured.controls]
    return _Compared(tuple(group.tops for group in groups)) if groups and measured.p is not None else None


def _by_claim(plan: Plan, table: Table, measured: Measured, kind: ClaimKind) -> _Compared | None:
    """None where it was not sampled to the end, or nothing can be fitted."""
    if kind == "stripped":
        return _stripped(plan, table, measured)
    names = control_names(plan, table, measured.behaviour, kind, measured.direction)
    if kind == "other":
        own = {f"{kind}/{name}" for name in rivals([name.partition("/")[2] for name in names], (measured.direction,))}
        names = [name for name in names if name in own]
    if not names or not measured.fit.shapes or measured.fit.shape is None:
        return None
    comparison = compare(plan, table, measured.behaviour, kind, names, measured.fit)
    if comparison.whole < len(names):
        return None
    sign, told = plan.sign(measured.behaviour.name, measured.direction), measured.fit.shape
    if kind == "mixture":
        return _Compared((tops(comparison, plan.claims.mixture, sign).along(told.name),))
    # An emotion has a sign of its own, and its reverse is no emotion. Without a declared sign the side is the data's.
    seen = sign or int(np.sign((told.change.value or 0.0) * float(orientation((told.name,))[0]))) or 1
    return _Compared((ranked_tops(comparison, seen).along(told.name),), sides=1 if sign else 2)


def _stripped(plan: Plan, table: Table, measured: Measured) -> _Compared | None:
    """The direction without valence and arousal, held against the natural controls as the direction itself is."""
    behaviour, name = measured.behaviour, f"stripped/{measured.direction}"
    layer, _ = find_layer(plan, table, behaviour.name, "stripped", name)
    if layer is None or not searched_whole(plan, table, behaviour, table.select(behaviour.name, "stripped", name)):
        return None
    doses = table.doses(behaviour.name, "stripped", name, layer)
    expected = planned(plan, behaviour)
    if not all(whole(doses.get(dose, EMPTY), expected) for dose in plan.compared(behaviour.name)):
        return None
    baseline, limits = table.baseline(behaviour.name), plan.thresholds
    kept = {
        dose: column
        for dose, column in doses.items()
        if not collapses(baseline, column, limits.validity_drop, limits.alpha)
    }
    own = fit(zero(plan, baseline), kept)
    if not own.shapes:
        return None
    sign = plan.sign(behaviour.name, measured.direction)
    compared = []
    for kind in NATURAL_KINDS:
        if getattr(plan.controls, kind) and (names := control_names(plan, table, behaviour, kind, measured.direction)):
            comparison = compare(plan, table, behaviour, kind, names, own)
            compared.append(tops(comparison, int(getattr(plan.controls, kind)), sign))
    own = own.against(compared)
    if own.shape is None or not compared:
        return None
    return _Compared(tuple(kind_tops.along(own.shape.name) for kind_tops in compared), shown=own)


def _worst(ps: Sequence[float | None], sides: int) -> float | None:
    known = [p for p in ps if p is not None]
    return min(1.0, sides * max(known)) if len(known) == len(ps) and known else None
