"""Controls in rounds: no answer and no error rate may depend on what was not asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from heartstrings.core.errors import InputError
from heartstrings.experiment.ledger import CONTROL_KINDS, Sample
from heartstrings.experiment.plan import Plan
from heartstrings.verdict import Open
from heartstrings.verdict.control_rounds import families
from heartstrings.verdict.tables import Table
from verdict_worlds import Ledger, Questionnaire, Questions, World, judge, plan, rows

SAMPLES = {"select": 2, "effect": 20, "matched": 4, "capability": 40, "harm": 80, "writing": 12}
TWO = Questionnaire(effects=(Questions("choice", "effect"), Questions("praise", "effect")))
OUTSIDE = World(effect={"desperate": 0.4}, control=0.02, between=0.005)
NOTHING = World(effect={"desperate": 0.0}, between=0.005)
AS_CONTROLS = World(effect={"desperate": 0.2}, control=0.3, between=0.005)


def asked(**changes: Any) -> Plan:
    values: dict[str, Any] = {
        "control_round": 16, "controls": {"general": 0, "topic": 40, "natural": 40}, "samples": SAMPLES,
        "doses": (-0.2, 0.0, 0.2), "thresholds": {"validity_drop": 0.3},
    }  # fmt: skip
    return plan(**{**values, **changes})


def after(world: World, design: Plan, suite: Questionnaire | None = None, seed: int = 0) -> list[int]:
    """After how many controls of each kind each family of behaviours stops."""
    suite = suite or Questionnaire()
    found = families(design, Table(rows(world, design, suite, seed)), suite)
    return [max(count for _, count in family.plan.controls) for family in found]


def number(row: Sample) -> int:
    return int(row.cell.direction.partition("/")[2])


def test_rounds_begin_with_none_and_end_with_all():
    assert asked().rounds == (0, 16, 32, 40)
    assert asked(control_round=0).rounds == (0, 40)
    assert asked(controls={"general": 0, "topic": 0, "natural": 0}).rounds == (0,)
    assert dict(asked().with_first(16).controls) == {"general": 0, "span": 0, "topic": 16, "natural": 16, "shuffled": 0}
    with pytest.raises(InputError, match="24 controls in the first round"):
        asked(control_round=12)


def test_a_plan_without_rounds_asks_all_at_once():
    assert after(AS_CONTROLS, asked(control_round=0)) == [40]


def test_an_effect_outside_its_controls_is_compared_with_all():
    found = judge(OUTSIDE, asked()).answers[0]
    assert after(OUTSIDE, asked()) == [40]
    assert found.answer == "controls"
    assert found.p == pytest.approx(1 / 41)
    assert found == judge(OUTSIDE, asked(control_round=0)).answers[0]


def test_without_an_effect_no_control_is_needed():
    assert after(NOTHING, asked()) == [0]
    found, whole = judge(NOTHING, asked()).answers[0], judge(NOTHING, asked(control_round=0)).answers[0]
    assert found.answer == whole.answer == "encoded, does not control"
    assert found.sentence == whole.sentence
    assert found.controls == ()
    assert found.p is None
    assert "choice: 0 of 40 topic and 0 of 40 natural controls were asked, as no more could change the answer" in (
        found.missing
    )
    assert not any("no control directions" in words for words in found.missing)


def test_a_noisy_effect_is_inconclusive_without_controls_too():
    noisy = World(effect={"desperate": 0.0}, between=0.3)
    found = judge(noisy, asked()).answers[0]
    assert after(noisy, asked()) == [0]
    assert found.answer == "inconclusive"
    assert "samples" not in found.sentence.split("changes")[0]
    assert found.sentence.startswith("Inconclusive: steering along desperate")


def test_an_effect_that_the_first_controls_reach_stops_there():
    found = judge(AS_CONTROLS, asked()).answers[0]
    assert after(AS_CONTROLS, asked()) == [16]
    assert found.answer in ("inconclusive", "moves, not specifically")
    assert found.p is not None
    assert found.p >= 0.05
    assert [len(group.slopes) for group in found.controls] == [16, 16]


@pytest.mark.parametrize("world", [OUTSIDE, NOTHING, AS_CONTROLS])
def test_what_was_not_asked_changes_nothing(world: World):
    """A ledger that stopped gives the verdict of one that has every control."""
    design = asked()
    (stop,) = after(world, design)
    short = judge(world, design, keep=lambda row: row.cell.kind not in CONTROL_KINDS or number(row) < stop)
    assert short.answers == judge(world, design).answers


def test_behaviours_stop_with_their_family():
    """What is declared goes on by itself; what is not is compared over all behaviours."""
    design = asked(suite="chosen", effects=("choice", "praise"), confirm=("choice",))
    suite = Questionnaire(effects=TWO.effects)
    assert after(OUTSIDE, design, suite) == [40, 40], "both are moved"
    made = rows(OUTSIDE, design, suite)
    flat = [
        row for row in rows(NOTHING, design, suite) if row.cell.behaviour == "praise"
    ] + [row for row in made if row.cell.behaviour != "praise"]  # fmt: skip
    found = families(design, Table(flat), suite)
    assert [(family.members, family.stopped) for family in found] == [(("choice",), False), (("praise",), True)]
    still_open = Open(design, suite, Ledger(flat))
    assert still_open.undecided(0) == {"choice"}
    assert still_open.undecided(40) == {"choice"}
    undeclared = Open(design.changed(confirm=("praise",)), suite, Ledger(flat))
    assert undeclared.undecided(0) == {"choice", "praise"}, "choice is corrected over both"
    assert undeclared.undecided(40) == {"choice"}


def test_a_run_goes_on_where_controls_are_missing():
    """Controls that were never sampled do not look like controls that exceed."""
    design = asked()
    some = [
        row for row in rows(OUTSIDE, design, Questionnaire()) if row.cell.kind not in CONTROL_KINDS or number(row) < 9
    ]
    assert Open(design, Questionnaire(), Ledger(some)).undecided(16) == {"choice"}
    found = judge(OUTSIDE, design, keep=lambda row: row.cell.kind not in CONTROL_KINDS or number(row) < 9).answers[0]
    assert any("31 of 40 topic controls are not finished" in words for words in found.missing)


def test_claims_are_asked_in_their_order():
    design = asked(
        confirm=("choice",), raises=("desperate",), claims={"mixture": 40, "other": 40, "stripped": True},
    )  # fmt: skip
    shown = World(effect={"desperate": 0.4}, control=0.02, between=0.005)
    suite = Questionnaire()

    def reached(world: World) -> list[bool]:
        still_open = Open(design, suite, Ledger(rows(world, design, suite)))
        return [still_open.reached("mixture"), still_open.reached("other")]

    assert reached(shown) == [True, True]
    assert reached(shown.but(mixture=0.6)) == [True, False]
    assert reached(AS_CONTROLS) == [False, False]
    left_out = judge(shown.but(mixture=0.6), design, keep=lambda row: row.cell.kind != "other").answers[0]
    states = {claim.name: claim.state for claim in left_out.claims}
    assert states["other emotions"] == states["beyond valence and arousal"] == "not reached"
    unfinished = judge(shown, design, keep=lambda row: row.cell.kind != "other").answers[0]
    assert {claim.name: claim.state for claim in unfinished.claims}["other emotions"] == "missing"


def test_rounds_lose_no_answer_and_add_none():
    """A direction drawn like its controls: with rounds it is shown exactly where it is shown without."""
    random = np.random.default_rng(1)
    stops, design = [], asked(samples=SAMPLES | {"effect": 8, "matched": 2, "capability": 20, "harm": 20})
    for seed in range(12):
        world = World(effect={"desperate": float(random.normal(0, 0.12))}, control=0.12, between=0.02)
        stop, whole = (judge(world, design.changed(control_round=n), seed=seed).answers[0] for n in (16, 0))
        assert (stop.p is not None and stop.p < 0.05) == (whole.p is not None and whole.p < 0.05)
        assert stop.answer.startswith("controls") == whole.answer.startswith("controls")
        stops += after(world, design, seed=seed)
    assert np.mean(stops) < 20, "most are settled by the first round"
