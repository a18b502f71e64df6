"""What must not change a verdict, and what must change it in one way only."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from heartstrings.experiment.ledger import Cell, Sample
from heartstrings.verdict import _examples as examples
from heartstrings.verdict import decide
from heartstrings.verdict.results import AnswerCard
from heartstrings.verdict.tables import Column
from verdict_worlds import Ledger, Questionnaire, Questions, World, card, judge, plan, rows

WORLDS = {
    "steerable": World(effect={"desperate": 0.7}),
    "weak": World(effect={"desperate": 0.1}, between=0.2),
    "spilling": World(effect={"desperate": -0.5}, harm=lambda dose: max(0.0, dose)),
}


@pytest.mark.parametrize("name", WORLDS)
def test_the_order_of_rows_changes_nothing(name: str) -> None:
    design, suite = plan(layers=(2, 3), doses=(-0.2, -0.1, 0.0, 0.1, 0.2)), Questionnaire()
    made = rows(WORLDS[name], design, suite, seed=5)
    first = decide(design, Ledger(made), suite, model="m", encoded="encoded")
    random = np.random.default_rng(0)
    again = decide(
        design, Ledger([made[i] for i in random.permutation(len(made))]), suite, model="m", encoded="encoded"
    )
    assert again.model_dump_json() == first.model_dump_json()


def turned(row: Sample) -> Sample:
    """The same sample of the opposite direction."""
    if row.cell.dose == 0:
        return row
    return replace(row, cell=row.cell.model_copy(update={"dose": -row.cell.dose}))


@pytest.mark.parametrize("name", WORLDS)
def test_the_opposite_direction_is_the_mirror_image(name: str) -> None:
    design = plan(doses=(-1.0, -0.2, -0.1, 0.0, 0.1, 0.2, 1.0))
    one, other = card(WORLDS[name], design, seed=2), card(WORLDS[name], design, seed=2, change=turned)
    assert other.answer == one.answer
    assert other.p == one.p
    for name in ("effect", "slope"):
        a, b = getattr(one, name), getattr(other, name)
        assert (b.value, b.low, b.high) == pytest.approx((-a.value, -a.high, -a.low), rel=1e-6, abs=1e-9)
    assert other.range == (None if one.range is None else (-one.range[1], -one.range[0]))


def test_doses_in_another_unit_change_the_slope_and_nothing_else() -> None:
    """Twice the norm: half the doses for the same steering."""
    world = WORLDS["steerable"]
    design = plan(doses=(-0.2, -0.1, 0.0, 0.1, 0.2))
    half = plan(doses=(-0.1, -0.05, 0.0, 0.05, 0.1), slope_within=0.1)
    suite = Questionnaire()
    made = rows(world, design, suite)
    halved = [replace(row, cell=row.cell.model_copy(update={"dose": row.cell.dose / 2})) for row in made]
    one = decide(design, Ledger(made), suite, model="m", encoded="encoded").answers[0]
    other = decide(half, Ledger(halved), suite, model="m", encoded="encoded").answers[0]
    assert (other.answer, other.p, other.more) == (one.answer, one.p, one.more)
    assert other.effect.value == pytest.approx(one.effect.value)
    assert other.slope.value == pytest.approx(2 * (one.slope.value or 0))
    assert other.range == (-0.1, 0.1)


def test_the_answer_does_not_know_the_organism() -> None:
    design, suite = plan(), Questionnaire()
    ledger = Ledger(rows(WORLDS["steerable"], design, suite))
    plain = decide(design, ledger, suite, model="m", encoded="encoded")
    named = decide(design, ledger, suite, model="m", encoded="encoded", organism="blank")
    assert named.organism == "blank"
    assert named.answers == plain.answers


def scenarios_of(found: AnswerCard, dose: float) -> set[str]:
    return {text.scenario for text in found.texts if text.dose == dose}


def test_texts_are_of_the_same_scenarios_with_the_worst_marked() -> None:
    found = card(WORLDS["steerable"])
    doses = {text.dose for text in found.texts}
    assert doses == {-1.0, -0.2, -0.1, 0.0, 0.1, 0.2, 1.0}
    for dose in doses:
        assert {"stories/0000", "stories/0001"} <= scenarios_of(found, dose)
        here = [text for text in found.texts if text.dose == dose]
        worst = [text for text in here if text.worst]
        assert len(worst) == 1
        assert worst[0].log_perplexity == max(text.log_perplexity or 0.0 for text in here)
        assert all(text.prompt == f"Question {int(text.scenario[-4:])}?" for text in here)


def test_the_clearest_scenario_moves_most_the_way_the_mean_does() -> None:
    def column(outcomes: dict[str, float | None]) -> Column:
        cell = Cell(phase="test", behaviour="tone", kind="direction", direction="calm", layer=1, dose=0.1)
        rows = [
            Sample(cell=cell, scenario=name, repeat=0, group=name, outcome=value, valid=None, text="x", detail={})
            for name, value in outcomes.items()
        ]
        return Column(rows)

    low = column({"a": 0.5, "b": 0.9, "c": 0.9, "d": 0.1, "e": None})
    high = column({"a": 0.4, "b": 0.2, "c": 0.1, "d": 0.9, "e": 0.0})
    columns = {-0.2: high, -0.1: low, 0.0: low, 0.1: high, 0.2: low}
    assert examples._clearest(columns, (-0.1, 0.1)) == "c"
    assert examples._clearest({-0.1: high, 0.1: low}, (-0.1, 0.1)) == "c"
    assert examples._clearest({0.1: low}, (-0.1, 0.1)) is None


def test_curves_hold_the_baseline_and_every_dose() -> None:
    found = card(WORLDS["steerable"])
    assert [point.dose for point in found.curve.points] == [-1.0, -0.2, -0.1, 0.0, 0.1, 0.2, 1.0]
    assert [point.dose for point in found.curve.change] == [-1.0, -0.2, -0.1, 0.1, 0.2, 1.0]
    assert all(point.n == 40 for point in found.curve.points)
    names = {(curve.behaviour, curve.outcome_name) for curve in found.costs}
    assert ("sums", "accuracy of sums") in names
    assert ("choice", "valid answers") in names
    assert ("stories", "tone") in names
    assert len(names) == 7
    for group in found.controls:
        assert [point.dose for point in group.envelope] == [-0.2, -0.1, 0.0, 0.1, 0.2]


def test_prompting_is_compared_with_the_plain_question() -> None:
    from heartstrings.experiment.ledger import Cell

    design, suite = plan(), Questionnaire()
    made = rows(WORLDS["steerable"], design, suite)
    plain = [row for row in made if row.cell.kind == "baseline" and row.cell.behaviour == "choice"]
    for name, rise in (("instruct:desperate", 0.2), ("first-person:desperate", 0.1), ("instruct:calm", -0.1)):
        cell = Cell(phase="test", behaviour="choice", kind="prompting", direction=name, layer=-1, dose=0.0)
        made += [replace(row, cell=cell, outcome=(row.outcome or 0.0) + rise) for row in plain]
    found = decide(design, Ledger(made), suite, model="m", encoded="encoded").answers[0]
    assert [(one.form, one.emotion) for one in found.prompting] == [
        ("first-person", "desperate"),
        ("instruct", "desperate"),
    ]
    assert found.prompting[1].change.value == pytest.approx(0.2)


def test_a_full_ledger_takes_seconds() -> None:
    design = plan(
        directions=("desperate", "calm"),
        layers=(1, 2, 3, 4, 5),
        doses=(-1.5, -1.0, -0.6, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.6, 1.0, 1.5),
        samples={"select": 16, "effect": 40, "matched": 40, "capability": 60, "harm": 80, "writing": 12},
    )
    suite = Questionnaire()
    made = rows(World(effect={"desperate": 0.5, "calm": -0.4}), design, suite)
    assert len(made) > 40_000
    start = time.process_time()
    verdict = decide(design, Ledger(made), suite, model="m", encoded="encoded")
    assert time.process_time() - start < 10  # about 2 s; runtime type checks and busy machines take more
    assert [one.answer for one in verdict.answers] == ["controls", "controls"]
    assert verdict.answers[0].samples > 15_000


def test_power_names_the_plan() -> None:
    verdict = judge(WORLDS["weak"])
    assert "40 scenarios, 120 comparisons" in verdict.power


def test_preferences_at_both_ends_and_without_steering() -> None:
    """Without steering all are liked alike; pushed up, knitting is chosen wherever it stands, pushed down, never."""
    suite = Questionnaire(matched=(Questions("preferences", "matched", pairs=True),))
    pairs = {one.id: one.data for one in suite.matched[0].scenarios(n=40, seed=0)}

    def liked(row: Sample) -> Sample:
        if row.cell.behaviour != "preferences":
            return row
        pull = (pairs[row.scenario]["second"] == "knit") - (pairs[row.scenario]["first"] == "knit")
        return replace(row, outcome=0.5 + 2 * pull * row.cell.dose)

    found = card(WORLDS["steerable"], suite=suite, change=liked)
    assert {one.dose for one in found.preferences} == {-0.2, 0.0, 0.2}
    assert len(found.preferences) == 15
    strength = {(one.item, one.dose): one.strength for one in found.preferences}
    assert abs(strength["knit", 0.0].value or 0.0) < 0.05
    assert (strength["knit", 0.2].low or 0.0) > 0.5
    assert (strength["knit", -0.2].high or 0.0) < -0.5
    assert card(WORLDS["steerable"]).preferences == ()


def test_a_verdict_of_before_is_read() -> None:
    """The gallery's is of version 1: no shapes, and the answers it gave then."""
    from pathlib import Path

    from heartstrings.verdict.results import Verdict

    folder = Path(__file__).resolve().parents[2] / "docs" / "gallery" / "smollm2-text"
    found = Verdict.model_validate_json((folder / "verdict.json").read_bytes())
    assert found.schema_version == 1
    assert {card.shape for card in found.answers} == {"line"}
    assert all(card.told == card.effect and card.told_where == "" for card in found.answers)
