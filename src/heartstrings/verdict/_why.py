"""Why no effect? What the samples say of a direction that was not shown to move a behaviour.

Three things could be wrong with the push and not with the question: another layer would do it, later layers take it out
again, or the direction moves nothing at all. Each is answered from numbers that the verdict has already.
"""

from __future__ import annotations

from collections.abc import Sequence

from heartstrings.experiment.plan import Plan
from heartstrings.verdict._curves import QUANTITIES
from heartstrings.verdict._sentence import change_words
from heartstrings.verdict.results import AnswerCard


def why(card: AnswerCard, others: Sequence[AnswerCard], plan: Plan, *, leader: str) -> tuple[str, ...]:
    """Up to three sentences: layers, output, other questions.

    Args:
        others: answers of the same plan.
        leader: the behaviour whose search chose this card's layer.
    """
    sentences = (_layers(card, plan, leader), _output(card), _elsewhere(card, others, plan))
    return tuple(sentence for sentence in sentences if sentence)


def _layers(card: AnswerCard, plan: Plan, leader: str) -> str:
    """What the searched layers did on the half that chose."""
    if card.layers:
        moves = [f"{choice.layer} by {change_words(choice.change)}" for choice in card.layers]
        return f"Another layer? On the scenarios that chose the layer, {', '.join(moves)}."
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
    dose = max((point.dose for cost in card.control_costs for point in cost.points), default=0.0)
    by_kind = {
        cost.kind: (point.estimate.value, point.estimate.low)
        for cost in card.control_costs
        for point in cost.points
        if point.dose == dose
    }
    moved = own.get(dose)
    lowest = [low for _, low in by_kind.values() if low is not None]
    if moved is None or not lowest:
        return ""
    controls = ", ".join(f"{kind} controls {_nats(value)}" for kind, (value, _) in by_kind.items())
    smallest = min(lowest)
    so = "less than any control: later layers take it out" if moved < smallest else "so it is not lost on the way"
    return (
        f"Lost on the way? At dose {dose:g} the push changes what the model predicts on neutral prose by "
        f"{_nats(moved)} a token ({controls}), {so}."
    )


def _elsewhere(card: AnswerCard, others: Sequence[AnswerCard], plan: Plan) -> str:
    """Behaviours that the same direction does move, more than controls."""
    moved = [
        f"{other.behaviour} by {change_words(other.told)}"
        for other in others
        if other.direction == card.direction
        and other.behaviour != card.behaviour
        and other.p is not None
        and other.p < plan.thresholds.alpha
        and other.told.low is not None
        and other.told.high is not None
        and (other.told.low > 0 or other.told.high < 0)
    ]
    return f"Does it move anything? {card.direction} moves {' and '.join(moved)}." if moved else ""


def _nats(value: float | None) -> str:
    return "not known" if value is None else f"{value:.2g} nats"
