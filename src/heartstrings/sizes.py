"""How many scenarios a plan asks of each behaviour."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heartstrings.behaviours.base import Behaviour
    from heartstrings.behaviours.suites import Suite
    from heartstrings.plan import Plan


def tested(plan: Plan, behaviour: Behaviour) -> int:
    """Scenarios that are reported. Dialogues are dear, so they have a number of their own; no more than there are."""
    samples = plan.samples
    role = "effect" if behaviour.name in plan.effects else behaviour.role
    number = int(getattr(samples, role))
    if behaviour.ask != "dialogue":
        return number
    return min(number, samples.dialogue, getattr(behaviour, "most", number))


def searched(plan: Plan, suite: Suite, behaviour: Behaviour) -> int:
    """Scenarios of an effect behaviour that choose its layers; 0 where another chooses for it."""
    return plan.samples.select if leader(plan, suite, behaviour.name) == behaviour.name else 0


def leader(plan: Plan, suite: Suite, effect: str) -> str:
    """The effect behaviour whose layers this one takes: its own, but a dialogue, or a text that only a judge can grade,
    takes those of the first choice.

    Controls do the same, so that they have searched as much as the direction has."""
    from heartstrings.behaviours.base import Judged

    behaviour = suite.behaviour(effect)
    # When layers are chosen, no judge has read anything yet.
    if behaviour.ask != "dialogue" and not (isinstance(behaviour, Judged) and behaviour.decides):
        return effect
    choices = [name for name in plan.effects if suite.behaviour(name).ask == "choice"]
    return choices[0] if choices else effect
