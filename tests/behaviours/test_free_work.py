"""Praise and harshness in free text: what is asked, what a judge makes of it, whose layers they take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heartstrings.behaviours.base import Behaviour, Judged
from heartstrings.behaviours.suites import every_behaviour, suite, suite_of
from heartstrings.behaviours.writing._free_work import FreeHarshness, FreePraise
from heartstrings.core.engine import Completion, Score
from heartstrings.core.errors import InputError
from heartstrings.experiment.judging import judge_samples
from heartstrings.experiment.ledger import Cell, Sample, SampleLedger
from heartstrings.experiment.plan import Plan
from heartstrings.experiment.sample_counts import leader, searched
from heartstrings.judges import JudgeCache, known_cases
from heartstrings.judges._opening import open_judge
from judge_server import judging, truthful, wanted

pytest.importorskip("httpx")

BOTH = (FreePraise(), FreeHarshness())


@pytest.mark.parametrize("behaviour", BOTH, ids=lambda one: one.name)
def test_scenarios(behaviour: FreePraise) -> None:
    assert isinstance(behaviour, Behaviour)
    assert isinstance(behaviour, Judged)
    every = behaviour.scenarios(n=120, seed=3)
    assert len({one.id for one in every}) == len({one.prompt for one in every}) == 120
    assert len({one.group for one in every}) == len({one.group for one in every[:40]}) == 40
    assert behaviour.scenarios(n=7, seed=3) == every[:7]
    assert [one.prompt for one in every] == [one.prompt for one in FreePraise().scenarios(n=120, seed=3)]
    assert every_behaviour()[behaviour.name] == behaviour
    with pytest.raises(InputError, match="0 to 120"):
        behaviour.scenarios(n=121, seed=3)


@pytest.mark.parametrize("behaviour", BOTH, ids=lambda one: one.name)
def test_no_outcome_without_a_judge(behaviour: FreePraise) -> None:
    (scenario,) = behaviour.scenarios(n=1, seed=0)
    text = "A fine start. The sums need work."
    said = Score((-3.0,), (np.array([-1.0, -2.0], np.float32),), ((1, 2),), 9)
    grade = behaviour.grade(scenario, Completion(text, (1, 2), "eos", 9, 0), said)
    assert (grade.outcome, grade.valid, grade.text) == (None, 1.0, text)
    assert grade.detail["log_perplexity"] == 1.5
    case = behaviour.case(scenario, None, text, grade.detail)
    assert case is not None
    assert (case.asked, case.answered) == (scenario.prompt[0].content, text)
    short = behaviour.grade(scenario, Completion("No.", (1,), "eos", 9, 0))
    assert short.valid == 0
    assert behaviour.case(scenario, None, "No.", short.detail) is None


def plan(*effects: str, url: str = "http://localhost:1/v1") -> Plan:
    return Plan(
        model="m", suite="chosen", effects=effects, directions=("calm",), layers=(2, 3), doses=(-0.1, 0.0, 0.1),
        judges=(f"{url}#m",),
    )  # type: ignore[arg-type]  # fmt: skip


def test_layers_are_those_of_the_first_choice() -> None:
    of = plan("free-praise", "praise", "harshness")
    chosen = suite_of(of)
    assert [leader(of, chosen, name) for name in of.effects] == ["praise", "praise", "harshness"]
    assert searched(of, chosen, FreePraise()) == 0
    alone = plan("free-praise")
    assert leader(alone, suite_of(alone), "free-praise") == "free-praise"
    assert "free-praise" not in [one.name for one in suite("standard").effects]


def test_each_has_its_own_rubric_and_the_judge_decides(tmp_path: Path) -> None:
    known = (*known_cases("praise"), *known_cases("harshness"))
    tried, by_text = truthful(known), {one.case.answered for one in known}

    def say(text: str, message: str) -> str:
        if text in by_text:
            return tried(text, message)
        return wanted(message, {"praise": 90 if "fine" in text else 10, "harshness": 90 if "lazy" in text else 10})

    written = ("A fine piece of work.", "This is lazy and you know it.", "The sums do not add up.")
    truth = {"free-praise": [1.0, 0.0, 0.0], "free-harshness": [0.0, 1.0, 0.0]}
    with judging(say=say) as server:
        of = plan("free-praise", "free-harshness", url=server.url)
        with SampleLedger(tmp_path / "l.sqlite", of) as ledger:
            for behaviour in BOTH:
                where = Cell(phase="test", behaviour=behaviour.name, kind="baseline", direction="", layer=-1, dose=0.0)
                ledger.add(
                    Sample(cell=where, scenario=scenario.id, group=scenario.group, repeat=0, outcome=None, valid=1.0,
                           text=text, detail={"n_words": 5.0})
                    for scenario, text in zip(behaviour.scenarios(n=3, seed=of.seed), written, strict=True)
                )  # fmt: skip
            judge = open_judge(of.judges, engine=None, cache=JudgeCache())
            report = judge_samples(of, ledger, suite_of(of), judge)
            for behaviour in BOTH:
                found = {row.text: row.outcome for row in ledger.samples(behaviour=behaviour.name)}
                assert [found[text] for text in written] == truth[behaviour.name]
    assert {one.rubric for one in report.tried} == {"praise", "harshness"}
