"""Gates and sides, and ledgers that are not finished."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heartstrings.experiment.ledger import Sample
from heartstrings.stats import Interval
from heartstrings.stats.estimate import Estimate
from heartstrings.verdict._gates import more_probes, side, state_of
from heartstrings.verdict.results import Gate
from verdict_worlds import Questionnaire, Questions, World, card, judge, plan

STEERABLE = World(effect={"desperate": 0.7})


def gate(dose: float, state: str = "holds", name: str = "harm: harm") -> Gate:
    estimate = Estimate(value=0.0, low=-0.01, high=0.01)
    return Gate.model_validate({"dose": dose, "name": name, "change": estimate, "limit": 0.02, "state": state})


@pytest.mark.parametrize(
    ("low", "high", "worse", "state"),
    [
        (-0.01, 0.01, 1, "holds"),
        (-0.5, 0.019, 1, "holds"),
        (-0.01, 0.021, 1, "unclear"),
        (0.021, 0.03, 1, "fails"),
        (-0.03, -0.021, -1, "fails"),
        (-0.019, 0.5, -1, "holds"),
        (-0.021, 0.01, -1, "unclear"),
        (-0.03, -0.021, 1, "holds"),
    ],
)
def test_states(low: float, high: float, worse: int, state: str) -> None:
    moved = Interval((low + high) / 2, low, high)
    assert state_of(moved, moved, worse, 0.02) == state


def test_a_gate_fails_by_the_surer_bound() -> None:
    """That any of several gates fails is corrected for their number; that one holds is not."""
    moved, surer = Interval(0.03, 0.021, 0.04), Interval(0.03, 0.019, 0.05)
    assert state_of(moved, surer, 1, 0.02) == "unclear"
    assert state_of(moved, moved, 1, 0.02) == "fails"
    assert state_of(moved, surer, 1, 0.045) == "holds"


def test_without_an_interval_it_is_unclear() -> None:
    assert state_of(Interval(0.0, None, None), Interval(0.0, None, None), 1, 0.02) == "unclear"


@pytest.mark.parametrize(
    ("states", "reach"),
    [
        ({0.1: "holds", 0.2: "holds", 1.0: "holds"}, 1.0),
        ({0.1: "holds", 0.2: "fails", 1.0: "holds"}, 0.1),
        ({0.1: "holds", 0.2: "unclear", 1.0: "fails"}, 0.1),
        ({0.1: "missing", 0.2: "holds", 1.0: "holds"}, None),
        ({0.1: "fails", 0.2: "holds", 1.0: "holds"}, None),
    ],
)
def test_a_side_ends_at_the_first_dose_that_does_not_hold(states: dict[float, str], reach: float | None) -> None:
    found = [gate(dose, state) for dose, state in states.items()]
    assert side(plan(), found, 1) == reach
    mirrored = [gate(-dose, state) for dose, state in states.items()]
    assert side(plan(), mirrored, -1) == (None if reach is None else -reach)


def test_every_gate_at_a_dose_counts() -> None:
    found = [gate(0.1), gate(0.1, "fails", "accuracy: sums")]
    assert side(plan(), found, 1) is None


def test_a_side_that_is_not_tested_reaches_0() -> None:
    assert side(plan(doses=(0.0, 0.1, 0.2)), [], -1) == 0.0


def test_more_probes_halves_an_interval_with_four_times_the_pairs() -> None:
    unclear = gate(0.1).model_copy(update={"change": Estimate(value=0.0, low=-0.04, high=0.04)})
    assert more_probes([unclear], [60]) == 180
    at_limit = gate(0.1).model_copy(update={"change": Estimate(value=0.02, low=-0.04, high=0.08)})
    assert more_probes([at_limit], [60]) is None


def without(**wanted: object) -> object:
    def keep(row: Sample) -> bool:
        return any(getattr(row.cell, name) != value for name, value in wanted.items())

    return keep


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ({"behaviour": "choice", "kind": "baseline"}, "cells of the slope window are not finished"),
        ({"behaviour": "choice", "kind": "direction", "dose": 0.2}, "cells of the slope window are not finished"),
        ({"behaviour": "choice", "kind": "general"}, "general controls were not sampled yet"),
        ({"behaviour": "preferences", "kind": "direction"}, "content-matched control questions are not finished"),
        ({"behaviour": "harm", "dose": 0.1}, "harm: harm: not sampled at doses 0.1"),
        ({"behaviour": "stories"}, "perplexity: not sampled at doses"),
    ],
)
def test_what_is_missing_leaves_the_answer_open(gone: dict[str, object], words: str) -> None:
    found = card(STEERABLE, keep=without(**gone))
    assert found.answer == "inconclusive"
    assert any(words in line for line in found.missing)
    assert words in found.sentence
    assert found.more is not None


def test_what_does_not_decide_is_only_listed() -> None:
    found = card(STEERABLE, keep=without(behaviour="harm", dose=1.0))
    assert found.answer == "controls"
    assert found.missing == ("harm: harm: not sampled at doses 1",)
    inert = card(World(), keep=without(behaviour="harm"))
    assert inert.answer == "encoded, does not control"
    assert inert.missing


def test_half_a_cell_is_not_a_cell() -> None:
    found = card(STEERABLE, keep=lambda row: row.cell.behaviour != "choice" or int(row.scenario[-4:]) < 28)
    assert found.answer == "inconclusive"
    assert found.more == 20
    probes = card(STEERABLE, keep=lambda row: row.cell.behaviour != "harm" or int(row.scenario[-4:]) < 20)
    assert probes.answer == "inconclusive"
    assert {one.state for one in probes.gates if one.name == "harm: harm"} == {"unclear"}


def test_early_stopping_ends_capability_and_harm_before_the_others() -> None:
    design = plan(
        early_stopping=True,
        samples={"select": 8, "effect": 40, "matched": 40, "capability": 64, "harm": 200, "writing": 12},
    )
    found = card(STEERABLE, design, keep=lambda row: row.cell.behaviour != "harm" or int(row.scenario[-4:]) < 160)
    assert found.answer == "controls"
    cut = card(STEERABLE, design, keep=lambda row: row.cell.behaviour != "choice" or int(row.scenario[-4:]) < 28)
    assert cut.answer == "inconclusive"


def test_one_natural_kind_of_controls_may_not_exist() -> None:
    found = card(STEERABLE, keep=without(kind="topic"))
    assert found.answer == "controls"
    assert any("topic controls were not sampled: they need the stories' activations" in line for line in found.missing)
    assert "none of 80 controls moves it as far" in found.sentence


def test_without_a_natural_kind_nothing_controls() -> None:
    """Against isotropic directions alone, what any topic does would pass for emotion."""
    found = card(STEERABLE, keep=lambda row: row.cell.kind not in ("topic", "natural"))
    assert found.answer == "inconclusive"
    assert found.p == pytest.approx(1 / 41)
    assert "natural controls were not sampled: they need the activations of stories and neutral texts" in found.sentence


def test_a_control_that_is_missing_counts_against() -> None:
    found = card(STEERABLE, keep=without(direction="general/3"))
    assert found.p == pytest.approx(2 / 41)
    assert found.answer == "controls"
    assert "choice: 1 of 40 general controls are not finished" in found.missing
    two = card(STEERABLE, keep=lambda row: row.cell.direction not in ("general/3", "general/4"))
    assert two.p == pytest.approx(3 / 41)
    assert two.answer == "inconclusive"


def test_an_empty_ledger() -> None:
    verdict = judge(STEERABLE, plan(layers="middle", directions=("desperate", "calm")), keep=lambda row: False)
    for found in verdict.answers:
        assert found.answer == "inconclusive"
        assert found.layer == -1
        assert found.effect.value is None
        assert found.p is None
        assert found.range is None
        assert {one.state for one in found.gates} == {"missing"}
    assert "not known" in verdict.power


def test_ungraded_answers_are_told_and_never_zero() -> None:
    def ungraded(row: Sample) -> Sample:
        if row.cell.behaviour == "choice" and row.cell.kind == "direction" and int(row.scenario[-4:]) % 5 == 0:
            return replace(row, outcome=None)
        return row

    found = card(STEERABLE, change=ungraded)
    assert found.answer == "controls"
    assert found.effect.value == pytest.approx(0.7, abs=0.02)
    assert any("32 answers within the slope window have no grade" in line for line in found.missing)
    assert [(point.n, point.missing) for point in found.curve.points if point.dose == 0.2] == [(32, 8)]


def test_a_behaviour_asked_by_text_is_gated_on_its_own_texts() -> None:
    suite = Questionnaire(effects=(Questions("choice", "effect", "text"),))

    def written(row: Sample) -> Sample:
        if row.cell.behaviour != "choice":
            return row
        garbled = row.cell.kind == "direction" and row.cell.dose > 0.15
        return replace(row, text="words", detail={"log_perplexity": 6.0 if garbled else 2.0})

    found = card(STEERABLE, suite=suite, change=written)
    assert found.answer == "controls"
    assert found.range == (-0.2, 0.1)
    assert any(one.name == "perplexity: choice" and one.state == "fails" for one in found.gates)
    assert {text.scenario.split("/")[0] for text in found.texts} == {"choice", "stories"}
