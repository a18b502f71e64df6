"""How many scenarios a plan asks of each behaviour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from heartstrings.behaviours.base import Judged

if TYPE_CHECKING:
    from heartstrings.behaviours.base import Behaviour
    from heartstrings.experiment.plan import Plan


@runtime_checkable
class Asked(Protocol):
    """A suite, as far as sizes depend on it."""

    def behaviour(self, name: str) -> Behaviour: ...


def tested(plan: Plan, behaviour: Behaviour) -> int:
    """Scenarios that are reported at the plan's look. Dialogues are expensive, so they have a limit of their own. Never
    more scenarios than exist."""
    samples = plan.samples
    role = "effect" if behaviour.name in plan.effects else behaviour.role
    number = int(getattr(samples, role))
    if behaviour.ask == "dialogue":
        number = min(number, samples.dialogue)
    if role in ("effect", "matched"):
        number = round(number * plan.growth)
    most = getattr(behaviour, "most", None)
    if most is None:
        return number
    if role == "effect" and behaviour.ask != "dialogue" and not follows(plan, behaviour):
        most -= plan.samples.select  # these choose the layers
    elif role == "effect" and plan.look:
        most -= selecting(plan, behaviour)
    return max(0, min(number, int(most)))


def repeats(plan: Plan, behaviour: Behaviour) -> int:
    """Completions a scenario: a choice is scored once, as its answer has no chance in it."""
    return plan.samples.repeats if behaviour.ask != "choice" else 1


def follows(plan: Plan, behaviour: Behaviour) -> bool:
    """Whether an effect behaviour takes the layers of another that is asked too (its attribute `follows`)."""
    return getattr(behaviour, "follows", None) in plan.effects


def selecting(plan: Plan, behaviour: Behaviour) -> int:
    """Scenarios that choose layers, of a behaviour that chooses its own; of dialogues, which are few, at most
    those that are not reported."""
    if behaviour.ask != "dialogue" or (most := getattr(behaviour, "most", None)) is None:
        return plan.samples.select
    # Layers are chosen once: a later look adds nothing to what chose them.
    return max(0, min(plan.samples.select, int(most) - tested(plan.at_look(0), behaviour)))


def searched(plan: Plan, suite: Asked, behaviour: Behaviour) -> int:
    """Scenarios of an effect behaviour that choose its layers; 0 where another chooses for it."""
    return selecting(plan, behaviour) if leader(plan, suite, behaviour.name) == behaviour.name else 0


def leader(plan: Plan, suite: Asked, effect: str) -> str:
    """The effect behaviour whose layers this one takes: its own, but a dialogue, or a text that only a judge can grade,
    takes those of the first choice.

    Controls do the same, so that they have searched as much as the direction has."""
    behaviour = suite.behaviour(effect)
    if follows(plan, behaviour):
        return str(getattr(behaviour, "follows", effect))
    # When layers are chosen, no judge has read anything yet.
    if behaviour.ask != "dialogue" and not (isinstance(behaviour, Judged) and behaviour.decides):
        return effect
    choices = [name for name in plan.effects if suite.behaviour(name).ask == "choice"]
    return leader(plan, suite, choices[0]) if choices else effect  # a choice may follow another one
