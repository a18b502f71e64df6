"""Which limits could a plan's sizes hold, if nothing got worse? Told before the first sample: where one of them cannot
be held, no range can be called safe, whatever the model does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from heartstrings.behaviours.two_options import TwoOptions
from heartstrings.cells import every_scenario
from heartstrings.plan import Plan
from heartstrings.sizes import tested
from heartstrings.stats.betting import upper_bound

if TYPE_CHECKING:
    from heartstrings.behaviours.base import Behaviour
    from heartstrings.behaviours.suites import Suite


def out_of_reach(plan: Plan, suite: Suite) -> tuple[str, ...]:
    """A sentence for each limit of a share that seldom changes (harm, validity, script, endings) which so few
    situations cannot hold."""
    limits = plan.thresholds
    found: list[str] = []
    for name in plan.effects:
        effect = suite.behaviour(name)
        if effect.ask != "choice" or isinstance(effect, TwoOptions):  # elsewhere every answer is one
            found += _short(plan, suite, effect, "validity", limits.validity_drop)
        if effect.ask == "text":
            found += _short(plan, suite, effect, "script", limits.script_drop)
    for one in suite.harm if plan.samples.harm else ():
        found += _short(plan, suite, one, "harm", limits.harm_rise)
    for one in suite.writing if plan.samples.writing else ():
        found += _short(plan, suite, one, "endings", limits.ends_drop)
    return tuple(found)


def _short(plan: Plan, suite: Suite, one: Behaviour, what: str, limit: float) -> Sequence[str]:
    asked = tested(plan, one)
    situations = len({scenario.group for scenario in every_scenario(plan, suite, one)[-asked:]}) if asked else 0
    bound = upper_bound([0.0] * situations, alpha=plan.thresholds.alpha)
    if bound is None or bound < limit:
        return ()
    needed = situations
    while (upper_bound([0.0] * needed, alpha=plan.thresholds.alpha) or 1.0) >= limit:
        needed += 1
    return (
        f"{one.name}: {situations} situations cannot hold the limit of {what}, {_points(limit)}, even if nothing "
        f"changes ({needed} can), so that `controls` is out of reach",
    )


def _points(limit: float) -> str:
    return f"{math.floor(1000 * limit + 0.5) / 10:g} points"
