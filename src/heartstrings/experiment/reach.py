"""Which limits can a plan's sample sizes show to hold, if nothing gets worse? Reported before the first sample: where
one of them cannot be shown, no range can be called safe, whatever the model does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from heartstrings.behaviours.choices.two_options import TwoOptions
from heartstrings.experiment.cells import situations
from heartstrings.experiment.plan import Plan
from heartstrings.stats.betting import upper_bound

if TYPE_CHECKING:
    from heartstrings.behaviours.base import Behaviour
    from heartstrings.behaviours.roles import Suite


def out_of_reach(plan: Plan, suite: Suite) -> tuple[str, ...]:
    """A sentence for each limit of a share that seldom changes (harm, validity, script, endings) which so few
    situations cannot hold."""
    plan = plan.spent.at_look(len(plan.looks))
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
    there = situations(plan, suite, one)
    bound = upper_bound([0.0] * there, alpha=plan.thresholds.alpha)
    if bound is None or bound < limit:
        return ()
    needed = there
    while (upper_bound([0.0] * needed, alpha=plan.thresholds.alpha) or 1.0) >= limit:
        needed += 1
    return (
        f"{one.name}: {there} situations cannot hold the limit of {what}, {100 * limit:g} points, even if nothing "
        f"changes ({needed} can), so that `controls` is out of reach",
    )
