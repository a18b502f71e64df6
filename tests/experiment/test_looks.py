"""Planned looks: the same run gone on with, alpha spent, and no look that was not planned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import experiment_world as world
from heartstrings.behaviours.suites import SUITES, suite_of
from heartstrings.cli import _console as console
from heartstrings.core.errors import InputError
from heartstrings.experiment import cells
from heartstrings.experiment import sample_counts as sizes
from heartstrings.experiment.ledger import SampleLedger
from heartstrings.experiment.looks import look_of, next_look, told
from heartstrings.experiment.plan import Plan
from heartstrings.experiment.plan_files import load_plan, preset, write_plan
from heartstrings.verdict.results import Verdict
from heartstrings.workflows import run as pipeline
from heartstrings.workflows.atlas import AtlasSettings

MANY = {"general": 60, "span": 60, "topic": 0, "natural": 0, "shuffled": 0}


def planned(*looks: int, **changes: object) -> Plan:
    return world.plan(controls=MANY, looks=looks, **changes)


def test_alpha_is_spent_in_equal_parts() -> None:
    plan = planned(8, 16)
    assert plan.spent.thresholds.alpha == pytest.approx(0.05 / 3)
    assert plan.at_look(2).hash == plan.hash != planned(8).hash
    assert plan.thresholds.alpha == 0.05
    assert world.plan().spent == world.plan()
    # Three looks at one direction need p under .0167: 60 controls of a kind.
    with pytest.raises(InputError, match=r"controls.general = 20: .* not under alpha = 0.0167"):
        world.plan(looks=(8, 16))
    text = preset("full", "m", suite="text", directions=("joyful", "desperate"), looks=(80,))
    assert (text.controls.topic, text.claims.mixture) == (80, 40), "as many as the looks need"


@pytest.mark.parametrize("looks", [(4,), (3,), (8, 8), (16, 8)])
def test_looks_rise(looks: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"looks = .* after samples.effect = 4"):
        planned(*looks)


@pytest.mark.parametrize("name", sorted(SUITES))
def test_a_later_look_reports_the_scenarios_of_the_first_and_more(name: str) -> None:
    """Of every behaviour of every suite; those that choose layers stay the same."""
    plan = preset("full", "m", suite=name, samples={"effect": 8, "matched": 8, "select": 4, "dialogue": 8}, looks=(12,))
    suite = suite_of(plan)
    for behaviour in (*suite.effects, *suite.matched):
        if behaviour.role == "matched":
            first = cells.every_scenario(plan, suite, behaviour)
            later = cells.every_scenario(plan.at_look(1), suite, behaviour)
            assert later[: len(first)] == first
            assert len(later) >= len(first)
            continue
        (half, rest), (again, more) = (cells._halves(plan.at_look(at), suite, behaviour) for at in (0, 1))
        assert half == again
        assert more[: len(rest)] == rest
        assert len(more) == sizes.tested(plan.at_look(1), behaviour) > len(rest)
        assert not {one.group for one in half} & {one.group for one in more}
        assert sizes.selecting(plan.at_look(1), behaviour) == sizes.selecting(plan, behaviour)


def test_scenarios_that_the_last_look_lacks_are_told_at_the_start() -> None:
    plan = preset("full", "m", suite="chat", effects=("praise",), samples={"effect": 8, "select": 4}, looks=(4000,))
    with pytest.raises(InputError, match=r"behaviour 'praise' (gave|has) "):
        cells.check_scenarios(plan, suite_of(plan))


def test_the_folder_knows_its_look(tmp_path: Path) -> None:
    plan = planned(8, 16)
    assert look_of(tmp_path, plan) == plan
    with pytest.raises(InputError, match="has no verdict of look 1 yet"):
        next_look(tmp_path, plan)
    for number in (1, 2):
        (tmp_path / "verdict.json").write_text(f'"of look {number}"')
        assert next_look(tmp_path, plan) == plan.at_look(number) == look_of(tmp_path, plan)
        assert (tmp_path / f"verdict-look{number}.json").read_text() == f'"of look {number}"'
    with pytest.raises(InputError, match="has 3 looks, and all are taken"):
        next_look(tmp_path, plan)
    (tmp_path / "look.json").unlink()
    with pytest.raises(InputError, match="has one look"):
        next_look(tmp_path, world.plan())
    for damaged in ('{"look": 9}', "[]", "{"):
        (tmp_path / "look.json").write_text(damaged)
        with pytest.raises(InputError, match=r"look\.json"):
            look_of(tmp_path, plan)


def test_what_is_told() -> None:
    assert told(world.plan()) == ()
    (first,), (second,) = told(planned(8)), told(planned(8).at_look(1))
    assert first.startswith(
        "Look 1 of 2 (4 scenarios): alpha 0.05 is spent in equal parts, so that p must be under 0.025"
    )
    assert second.startswith("Look 2 of 2 (8 scenarios)")
    assert second.endswith("Earlier answers: verdict-look1.json.")


@pytest.mark.slow
def test_a_run_is_gone_on_with(tmp_path: Path) -> None:
    """Through the pipeline, from a plan's file: the second look keeps all samples of the first and adds to them."""
    bundle = world.make_bundle(world.engine(), tmp_path / "bundle")
    file, out = tmp_path / "plan.toml", tmp_path / "run"
    write_plan(file, planned(8, vectors=next(bundle.glob("*/bundle.json"), bundle / "x").parent, layers=(2, 3)))
    plan = load_plan(file)
    bars = console.bars(True)
    first = pipeline.run_model(plan, out, AtlasSettings(), progress=bars)
    assert (first.verdict.look, first.verdict.looks) == (1, 2)
    with SampleLedger.read(out / "ledger.sqlite") as ledger:
        before = {repr(row) for row in ledger.samples()}
    # The same call again is the same look.
    again = pipeline.run_model(plan, out, AtlasSettings(), progress=bars)
    assert again.verdict.answers == first.verdict.answers
    second = pipeline.run_model(plan, out, AtlasSettings(), go_on=True, progress=bars)
    assert (second.verdict.look, second.verdict.plan_hash) == (2, first.verdict.plan_hash)
    with SampleLedger.read(out / "ledger.sqlite") as ledger:
        after = {repr(row) for row in ledger.samples()}
    assert before < after
    kept = Verdict.model_validate_json((out / "verdict-look1.json").read_bytes())
    assert kept.answers == first.verdict.answers
    assert json.loads((out / "look.json").read_text())["look"] == 2
    assert pipeline.weigh_again(out).verdict.answers == second.verdict.answers
    assert "Look 2 of 2" in (out / "report.html").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="all are taken"):
        pipeline.run_model(plan, out, AtlasSettings(), go_on=True, progress=bars)
