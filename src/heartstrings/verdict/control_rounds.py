"""Controls in rounds: after how many of them no answer could change any more.

Controls decide one thing: whether an effect that is shown exceeds theirs. Where the interval of a direction's effect
includes 0, or the effect is too small to matter, the answer does not depend on them. Elsewhere, each control that moves
the behaviour as far raises the least p that is still possible: (b + 1) / (n + 1) with b such controls of n in all. The
first few controls often raise it over alpha, and sampling then stops (Besag and Clifford 1991, Biometrika 78:301-304).
A test that was stopped is never passed, so stopping adds no false alarm. One that can still be passed goes on to the
last control.

Behaviours whose p-values are corrected over one another need the same controls, so they stop together: those that the
plan declares, and all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from heartstrings.behaviours.base import Judged
from heartstrings.experiment.ledger import CONTROL_KINDS
from heartstrings.experiment.plan import Plan
from heartstrings.stats.nulls import holm_groups
from heartstrings.verdict._understood import understood
from heartstrings.verdict.effects import at_doses
from heartstrings.verdict.measured import Measured, measure, p_of_kind
from heartstrings.verdict.tables import Suite, Table


@dataclass(frozen=True)
class Family:
    """Effect behaviours that stop together."""

    members: tuple[str, ...]
    plan: Plan
    """With as many controls as these were compared with."""
    found: tuple[Measured, ...]
    """Every direction on the members, and on whatever else their p is corrected over."""
    stopped: bool
    """Fewer controls are compared than there are in the experiment's plan."""

    def of(self, direction: str) -> list[Measured]:
        """What the p of one direction is corrected over."""
        return [measured for measured in self.found if measured.direction == direction]

    @property
    def own(self) -> tuple[Measured, ...]:
        """Of the members alone."""
        return tuple(measured for measured in self.found if measured.behaviour.name in self.members)


def families(plan: Plan, table: Table, suite: Suite) -> tuple[Family, ...]:
    """The declared behaviours of a plan and its others, each measured with the controls that it was compared with."""
    measurer, last = Measurer(plan, table, suite), plan.rounds[-1]
    plan_families = []
    for members in members_of(plan):
        stop = stop_of(measurer, members, last, {})
        number = last if stop is None else stop
        measurements = measurer.family(members, number)
        if not number and last:
            # Controls that nothing depends on are not missing.
            measurements = tuple(
                replace(measured, gaps=tuple(gap for gap in measured.gaps if gap.part not in ("kind", "controls")))
                for measured in measurements
            )
        asked = plan if number == last else plan.with_first(number)
        plan_families.append(Family(members, asked, measurements, stopped=number < last))
    return tuple(plan_families)


def members_of(plan: Plan) -> tuple[tuple[str, ...], ...]:
    """Effect behaviours that stop together."""
    undeclared = tuple(name for name in plan.effects if name not in plan.declared)
    return tuple(members for members in (plan.declared, undeclared) if members)


def stop_of(
    measurer: Measurer, members: tuple[str, ...], asked: int, known: dict[tuple[tuple[str, ...], int], bool]
) -> int | None:
    """The first round, up to `asked` controls of each kind, after which no answer of these behaviours could change with
    more; None: there was none yet.

    Args:
        known: what was found for earlier rounds; it is filled.
    """
    plan = measurer.plan
    for number in plan.rounds if plan.control_round else ():
        if number > asked:
            break
        key = (members, number)
        if key not in known:
            known[key] = _decided(measurer, members, number)
        if known[key]:
            return number
    return None


def _decided(measurer: Measurer, members: tuple[str, ...], number: int) -> bool:
    """Whether more than the first `number` controls of each kind could change no answer of these behaviours."""
    plan, suite = measurer.plan, measurer.suite
    if any(isinstance(behaviour, Judged) and behaviour.decides for behaviour in map(suite.behaviour, members)):
        return False  # their outcomes come after sampling
    measurements = measurer.family(members, number)
    own = [measured for measured in measurements if measured.behaviour.name in members]
    if any(gap.part in ("effect", "check") for measured in own for gap in measured.gaps):
        return False
    moving = {id(measured) for measured in own if _moves(measurer, measured)}
    if not moving:
        return True
    if not number or any(gap.part in ("kind", "controls") for measured in measurements for gap in measured.gaps):
        return False
    groups = [
        [measured for measured in measurements if measured.direction == direction] for direction in plan.directions
    ]
    least = holm_groups([_least_p(plan, group) for group in groups])
    return all(
        p is not None and p >= plan.thresholds.alpha
        for group, ps in zip(groups, least, strict=True)
        for measured, p in zip(group, ps, strict=True)
        if id(measured) in moving
    )


def _moves(measurer: Measurer, measured: Measured) -> bool:
    """Whether the answer depends on controls: the question is understood, and there is an effect that matters."""
    plan, table = measurer.plan, measurer.table
    answered = table.baseline(measured.behaviour.name).mean("valid")
    if understood(measured.checks) is False or (answered is not None and answered < plan.thresholds.least_valid):
        return False
    if measured.fit.shape is None or not measured.fit.shape.change.excludes_zero:
        return False
    changes = at_doses(
        plan, table, measured.behaviour, measured.direction, measured.layer, measured.collapsed, measured.fit
    )
    return not (changes and all(change.within(plan.thresholds.smallest_effect) for change in changes))


def _least_p(plan: Plan, group: Sequence[Measured]) -> list[float | None]:
    """The least p of one direction that is possible with all of the plan's controls, on each of some behaviours: if no
    control that has not been asked exceeds it."""
    signed = all(controls.signed for measured in group for controls in measured.controls.values())
    worst: list[float | None] = [None] * len(group)
    for kind in CONTROL_KINDS:
        sampled = max((measured.controls[kind].planned for measured in group if kind in measured.controls), default=0)
        if not sampled:
            continue
        whole = getattr(plan.controls, kind)
        now, then = (2 * n + 1 if signed else n for n in (sampled, whole))
        for at, p in enumerate(p_of_kind(group, kind)):
            least = None if p is None or group[at].p is None else p * (now + 1) / (then + 1)
            if least is not None:
                worst[at] = max(least, worst[at] or 0.0)
    return worst


class Measurer:
    """Measures behaviours with the first controls, each once."""

    def __init__(self, plan: Plan, table: Table, suite: Suite) -> None:
        self.plan, self.table, self.suite = plan, table, suite
        self._known: dict[tuple[str, str, int], Measured] = {}

    def family(self, members: Sequence[str], number: int) -> tuple[Measured, ...]:
        """Every direction on each behaviour that the p of the members is corrected over, in the plan's order."""
        plan = self.plan if number >= self.plan.rounds[-1] else self.plan.with_first(number)
        over = set(self.plan.family(members[0]))
        measurements = []
        for name in self.plan.effects:
            for direction in self.plan.directions:
                key = (name, direction, number)
                if name in over and key not in self._known:
                    self._known[key] = measure(plan, self.table, self.suite, name, direction)
                if name in over:
                    measurements.append(self._known[key])
        return tuple(measurements)
