"""Why no effect? Sentences from numbers that the verdict has, and none where an effect was shown."""

from __future__ import annotations

import pytest

from heartstrings.stats.estimate import Estimate
from heartstrings.verdict._curves import QUANTITIES
from heartstrings.verdict._why import why
from heartstrings.verdict.results import AnswerCard, ControlCost, ControlKind, Curve, DosePoint, LayerChoice
from verdict_worlds import Questionnaire, World, card, judge, plan

NOTHING = World(effect={"desperate": 0.0})


def divergence(value: float) -> Curve:
    points = tuple(
        DosePoint(dose=dose, estimate=Estimate(value=value * abs(dose) / 0.2, low=None, high=None), n=12)
        for dose in (-1.0, -0.2, 0.0, 0.2, 1.0)
    )
    return Curve(behaviour="prose", outcome_name=QUANTITIES["kl"], points=points, change=())


def beside(kind: ControlKind, low: float, mean: float) -> ControlCost:
    at = Estimate(value=mean, low=low, high=2 * mean)
    return ControlCost(kind=kind, points=tuple(DosePoint(dose=dose, estimate=at, n=40) for dose in (-0.2, 0.2)))


def pushed(own: float) -> AnswerCard:
    controls = (beside("general", 0.02, 0.03), beside("topic", 0.04, 0.05))
    return card(NOTHING).model_copy(update={"costs": (divergence(own),), "control_costs": controls})


def test_what_other_layers_did() -> None:
    found = card(NOTHING, plan(layers=(2, 3, 4)))
    assert found.answer == "encoded, does not control"
    (layers,) = found.why
    assert layers.startswith("Another layer? On the scenarios that chose the layer, 2 by ")
    assert layers.count("points (95% interval") == 3
    assert found.why == why(found, [found], plan(layers=(2, 3, 4)), leader="choice")


def test_a_layer_s_change_is_between_the_two_doses_that_were_compared() -> None:
    slope = Estimate(value=2.0, low=1.0, high=None)
    at = Estimate(value=0.5, low=None, high=None)
    points = tuple(DosePoint(dose=dose, estimate=at, n=8) for dose in (0.0, 0.05, 0.1))
    change = LayerChoice(layer=2, slope=slope, chosen=True, points=points).change
    assert (change.value, change.low, change.high) == (pytest.approx(0.1), pytest.approx(0.05), None)
    assert LayerChoice(layer=2, slope=slope, chosen=True).change.value is None


def test_an_interval_that_is_not_known_is_not_said() -> None:
    found = card(NOTHING, plan(layers=(2, 3, 4)))
    unknown = tuple(
        one.model_copy(update={"slope": one.slope.model_copy(update={"low": None, "high": None})})
        for one in found.layers
    )
    (layers,) = why(found.model_copy(update={"layers": unknown}), [], plan(layers=(2, 3, 4)), leader="choice")
    assert "interval" not in layers
    assert "points" in layers


def test_a_layer_that_another_question_chose_is_said() -> None:
    (layers,) = why(card(NOTHING), [], plan(layers=(2, 3)), leader="feels")
    assert layers == "Another layer? The layer was chosen on feels; this question was asked at no other."


def test_a_push_that_reaches_the_predictions_and_one_that_is_lost() -> None:
    (there,) = why(pushed(0.06), [], plan(), leader="choice")
    assert there == (
        "Lost on the way? At dose 0.2 the push changes what the model predicts on neutral prose by 0.06 nats a token "
        "(general controls 0.03 nats, topic controls 0.05 nats), so it is not lost on the way."
    )
    (gone,) = why(pushed(0.01), [], plan(), leader="choice")
    assert gone.endswith("less than any control: later layers take it out.")


def test_what_the_direction_does_move() -> None:
    moving = card(World(effect={"desperate": 0.7}))
    assert moving.why == ()
    other = moving.model_copy(update={"behaviour": "tone"})
    (said,) = why(card(NOTHING), [other], plan(), leader="choice")
    assert said.startswith("Does it move anything? desperate moves tone by 70 points (95% interval")
    assert why(card(NOTHING), [other.model_copy(update={"p": 0.2})], plan(), leader="choice") == ()
    assert why(card(NOTHING), [other.model_copy(update={"direction": "calm"})], plan(), leader="choice") == ()


def test_nobody_asks_why_of_an_effect_or_of_samples_that_are_missing() -> None:
    assert card(World(effect={"desperate": 0.7}), plan(layers=(2, 3, 4))).why == ()
    unfinished = judge(NOTHING, keep=lambda row: row.cell.dose != 0.2, suite=Questionnaire())
    assert unfinished.answers[0].answer == "inconclusive"
    assert unfinished.answers[0].why == ()
