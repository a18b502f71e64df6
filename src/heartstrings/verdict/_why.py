"""Why no effect? What the samples say of a direction that was not shown to move a behaviour.

Three things could be wrong with the push and not with the question: another layer would do it, later layers take it out
again, or the direction moves nothing at all. Each is answered from numbers that the verdict has already.
"""

from __future__ import annotations

from collections.abc import Sequence

from heartstrings.experiment.plan import Plan
from heartstrings.stats.estimate import Estimate
from heartstrings.verdict._curves import QUANTITIES
from heartstrings.verdict._sentence import change_words
from heartstrings.verdict.results import AnswerCard


def why(card: AnswerCard, others: Sequence[AnswerCard], plan: Plan, *, leader: str) -> tuple[str, ...]:
    """Up to three sentences: layers, output, other questions.

    Args:
        others: answers of the same plan.
        leader: the behaviour whose search chose this card's layer.
    """
    found = (_layers(card, plan, leader), _output(card), _elsewhere(card, others, plan))
    return tuple(one for one in found if one)


def _layers(card: AnswerCard, plan: Plan, leader: str) -> str:
    """What the searched layers did on the half that chose."""
    if card.layers:
        each = []
        for one in card.layers:
            doses = [point.dose for point in one.points]
            width = max(doses) - min(doses) if doses else 0.0
            change = {name: None if value is None else value * width for name, value in one.slope}
            each.append(f"{one.layer} by {change_words(Estimate(**change))}")
        return f"Another layer? On the scenarios that chose the layer, {', '.join(each)}."
    if leader != card.behaviour and plan.layers != (card.layer,):
        return f"Another layer? The layer was chosen on {leader}; this question was asked at no other."
    return ""


def _output(card: AnswerCard) -> str:
    """Whether the push is still there in the predictions: divergence beside that of the controls."""
    own = {
        point.dose: point.estimate.value
        for curve in card.costs
        if curve.outcome_name == QUANTITIES["kl"]
        for point in curve.points
    }
    dose = max((point.dose for kind in card.control_costs for point in kind.points), default=0.0)
    beside = {
        kind.kind: (point.estimate.value, point.estimate.low)
        for kind in card.control_costs
        for point in kind.points
        if point.dose == dose
    }
    moved = own.get(dose)
    lowest = [low for _, low in beside.values() if low is not None]
    if moved is None or not lowest:
        return ""
    controls = ", ".join(f"{kind} controls {_nats(value)}" for kind, (value, _) in beside.items())
    smallest = min(lowest)
    so = "less than any control: later layers take it out" if moved < smallest else "so it is not lost on the way"
    return (
        f"Lost on the way? At dose {dose:g} the push changes what the model predicts on neutral prose by "
        f"{_nats(moved)} a token ({controls}), {so}."
    )


def _elsewhere(card: AnswerCard, others: Sequence[AnswerCard], plan: Plan) -> str:
    """Behaviours that the same direction does move, more than controls."""
    moved = [
        f"{one.behaviour} by {change_words(one.told)}"
        for one in others
        if one.direction == card.direction
        and one.behaviour != card.behaviour
        and one.p is not None
        and one.p < plan.thresholds.alpha
        and one.told.low is not None
        and one.told.high is not None
        and (one.told.low > 0 or one.told.high < 0)
    ]
    return f"Does it move anything? {card.direction} moves {' and '.join(moved)}." if moved else ""


def _nats(value: float | None) -> str:
    return "not known" if value is None else f"{value:.2g} nats"
