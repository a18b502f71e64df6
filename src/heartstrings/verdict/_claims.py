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
    "mixture": "mixtures of emotions", "other": "other emotions", "stripped": "beyond valence and arousal",
}  # fmt: skip
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
        (one.behaviour.name, one.direction): [] for family in every for one in family.own
    }
    for family in every:
        asked = family.plan  # with the controls that these behaviours were compared with
        beside: tuple[tuple[ClaimName, tuple[ControlKind, ...]], ...]
        beside = (("any push", ANY_PUSH), ("natural text", NATURAL_KINDS))
        for name, kinds in beside:
            there = tuple(kind for kind in kinds if getattr(plan.controls, kind))
            if there:
                _add(plan, made, family, name, {id(one): _by_controls(one, there) for one in family.found}, there)
        if set(family.members) != set(plan.declared):
            continue
        for kind, beyond in BEYOND.items():
            if getattr(plan.claims, kind):
                compared = {id(one): _by_claim(asked, table, one, kind) for one in family.found}
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
            rows = [compared[id(one)] for one in group]
            number = max((len(row.tops) for row in rows if row), default=0)
            by_kind = [
                step_down([row.tops[at] if row else None for row in rows], [row is not None for row in rows])
                for at in range(number)
            ]
        sides = max((row.sides for one in group if (row := compared[id(one)])), default=1)
        groups.append((group, [_worst(ps, sides) for ps in zip(*by_kind, strict=True)] or [None] * len(group)))
    corrected = holm_groups([ps for _, ps in groups])
    for (group, _), ps in zip(groups, corrected, strict=True):
        for one, p in zip(group, ps, strict=True):
            if one.behaviour.name in family.members:
                made[one.behaviour.name, one.direction].append(_claim(name, compared[id(one)], p))


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
    for number, one in enumerate(own):
        if one.state == "missing":
            left_out = plan.control_round and number and not reached
            made.append(one.model_copy(update={"state": "not reached"}) if left_out else one)
            reached = False
            continue
        shown = reached and one.p is not None and one.p < plan.thresholds.alpha
        made.append(one.model_copy(update={"state": "shown" if shown else "not shown" if reached else "not reached"}))
        reached = shown
    return tuple(made)


def _by_controls(one: Measured, kinds: Sequence[ControlKind]) -> _Compared | None:
    """Against controls that were measured already."""
    groups = [one.controls[kind] for kind in kinds if kind in one.controls]
    return _Compared(tuple(group.tops for group in groups)) if groups and one.p is not None else None


def _by_claim(plan: Plan, table: Table, one: Measured, kind: ClaimKind) -> _Compared | None:
    """None where it was not sampled to the end, or nothing can be fitted."""
    if kind == "stripped":
        return _stripped(plan, table, one)
    names = control_names(plan, table, one.behaviour, kind, one.direction)
    if kind == "other":
        own = {f"{kind}/{name}" for name in rivals([name.partition("/")[2] for name in names], (one.direction,))}
        names = [name for name in names if name in own]
    if not names or not one.fit.shapes or one.fit.shape is None:
        return None
    found = compare(plan, table, one.behaviour, kind, names, one.fit)
    if found.whole < len(names):
        return None
    sign, told = plan.sign(one.behaviour.name, one.direction), one.fit.shape
    if kind == "mixture":
        return _Compared((tops(found, plan.claims.mixture, sign).along(told.name),))
    # An emotion has a sign of its own, and its reverse is no emotion. Without a declared sign the side is the data's.
    seen = sign or int(np.sign((told.change.value or 0.0) * float(orientation((told.name,))[0]))) or 1
    return _Compared((ranked_tops(found, seen).along(told.name),), sides=1 if sign else 2)


def _stripped(plan: Plan, table: Table, one: Measured) -> _Compared | None:
    """The direction without valence and arousal, held against the natural controls as the direction itself is."""
    behaviour, name = one.behaviour, f"stripped/{one.direction}"
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
    sign = plan.sign(behaviour.name, one.direction)
    compared = []
    for kind in NATURAL_KINDS:
        if getattr(plan.controls, kind) and (names := control_names(plan, table, behaviour, kind, one.direction)):
            found = compare(plan, table, behaviour, kind, names, own)
            compared.append(tops(found, int(getattr(plan.controls, kind)), sign))
    own = own.against(compared)
    if own.shape is None or not compared:
        return None
    return _Compared(tuple(each.along(own.shape.name) for each in compared), shown=own)


def _worst(ps: Sequence[float | None], sides: int) -> float | None:
    known = [p for p in ps if p is not None]
    return min(1.0, sides * max(known)) if len(known) == len(ps) and known else None
