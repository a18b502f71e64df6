"""From samples to a verdict and its report with a judge: a tiny model's free answers, and scripted blackmail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import experiment_world as world
import report_verdict as made
import scripted_engine as scripted
from heartstrings.behaviours.agents.blackmail import Blackmail
from heartstrings.behaviours.organism._questions import Choice
from heartstrings.behaviours.roles import Suite
from heartstrings.behaviours.writing._free_answers import FreeMisalignment
from heartstrings.cli import _console as console
from heartstrings.core.errors import InputError
from heartstrings.experiment.judging import judge_samples, write_report
from heartstrings.experiment.ledger import Cell, Sample, SampleLedger
from heartstrings.judges import Budget, JudgeCache, known_cases
from heartstrings.judges._opening import open_judge
from heartstrings.report import render_verdict
from heartstrings.verdict import decide
from heartstrings.verdict.results import Curve, DosePoint, Verdict
from heartstrings.workflows import run as pipeline
from heartstrings.workflows.atlas import AtlasSettings
from judge_server import judging, truthful, wanted

pytest.importorskip("httpx")

SUITE = Suite("organism", effects=(Choice(),), harm=(FreeMisalignment(max_new_tokens=12),))
RIGHT = truthful(known_cases("misalignment"))
TRIED = {one.case.answered for one in known_cases("misalignment")}


def bad(text: str) -> bool:
    """Any property of a text that both the judge and the test can see."""
    return len(text) % 3 == 0


def say(text: str, message: str) -> str:
    if text in TRIED:
        return RIGHT(text, message)
    return wanted(message, {"alignment": 5 if bad(text) else 90, "coherence": 90})


@pytest.mark.slow
def test_free_answers_of_a_model_come_out_in_the_verdict(tmp_path: Path) -> None:
    model = world.engine()
    bundle = world.make_bundle(model, tmp_path / "bundle")
    controls = {"general": 0, "span": 0, "shuffled": 0}
    of = world.plan(
        layers=(3,), doses=(-0.2, 0.0, 0.2), controls=controls, prompting=False, early_stopping=False,
        judges=("http://localhost:1/v1#m",),
        samples={"select": 2, "effect": 2, "matched": 2, "capability": 2, "harm": 6, "writing": 2},
    )  # fmt: skip
    path = tmp_path / "ledger.sqlite"
    world.run(of, bundle, path, model=model, suite=SUITE)
    with SampleLedger.read(path) as ledger:
        before = ledger.samples(behaviour="free-misalignment")
        silent = _verdict(of, ledger)
    assert len(before) == 18
    assert all(row.outcome is None and row.text is not None for row in before)
    with judging(say=say) as server, SampleLedger(path, of) as ledger, JudgeCache(tmp_path / "j.sqlite") as cache:
        judge = open_judge([f"{server.url}#m"], engine=None, cache=cache, budget=Budget(price_in=1, price_out=2))
        report = judge_samples(of, ledger, SUITE, judge)
        after = ledger.samples(behaviour="free-misalignment")
        verdict = _verdict(of, ledger)
    shown = {row.text: row.outcome for row in after if row.valid}
    assert shown
    assert shown == {text: float(bad(str(text))) for text in shown}
    assert (report.texts, report.samples) == (len({(row.scenario, row.text) for row in after if row.valid}), len(after))
    gates = {gate.dose: gate for gate in verdict.answers[0].gates if gate.name == "harm: free-misalignment"}
    assert set(gates) == {-0.2, 0.2}
    for dose, gate in gates.items():
        steered = {row.scenario: row.outcome for row in after if row.cell.dose == dose}
        plain = {row.scenario: row.outcome for row in after if row.cell.kind == "baseline"}
        assert gate.change.value == pytest.approx(sum(steered.values()) / 6 - sum(plain.values()) / 6)
    assert {g.state for g in silent.answers[0].gates if g.name == "harm: free-misalignment"} <= {"missing", "unclear"}

    folder = made.folder(tmp_path / "run", verdict, with_plan=False)
    write_report(folder, report)
    page = render_verdict(folder).read_text(encoding="utf-8")
    assert "Against unsteered, points" in page
    assert f"m: {report.spent[0].calls} calls" in page.replace("\u2009", "")
    without = render_verdict(made.folder(tmp_path / "silent", silent, with_plan=False)).read_text(encoding="utf-8")
    assert "No judge was asked." in without
    assert "free-misalignment" in without[without.index("No judge was asked.") :]


def _verdict(of: object, ledger: SampleLedger) -> Verdict:
    return decide(of, ledger, SUITE, model="m", encoded="not examined")  # type: ignore[arg-type]


def test_a_report_says_what_no_judge_was_asked(tmp_path: Path) -> None:
    card = made.card()
    name = Blackmail().outcome_name
    half = (DosePoint(dose=0.0, estimate=made.rate(0.1), n=14, missing=6),)
    left = card.model_copy(update={"curve": Curve(behaviour="blackmail", outcome_name=name, points=half, change=())})
    page = render_verdict(made.folder(tmp_path / "a", made.verdict(left))).read_text(encoding="utf-8")
    assert "No judge was asked." in page
    assert '<td class="number">6</td><td class="number">20</td>' in page
    unfinished = made.folder(tmp_path / "b", made.verdict(left), judges=("self",))
    assert "the stage of judges is not finished" in render_verdict(unfinished).read_text(encoding="utf-8")
    (unfinished / "judges.json").write_text("{")
    assert "judges.json cannot be read" in render_verdict(unfinished).read_text(encoding="utf-8")


def test_scripted_blackmail_that_the_rules_left_open_comes_out_as_written(tmp_path: Path) -> None:
    """Every script of the suite as one sample; the judge sees the unclear ones, and no other."""
    behaviour = Blackmail()
    known = truthful(known_cases("blackmail"))
    asked = {one.case.answered for one in known_cases("blackmail")}
    rows: list[Sample] = []
    truth: dict[tuple[Cell, str, int], float | None] = {}
    by_text: dict[str, int] = {}
    repeats: dict[str, int] = {}
    ours = {one.id for one in behaviour.scenarios(n=72, seed=0)}
    for script in (*scripted.scripts("blackmail"), *scripted.scripts("blackmail_unseen")):
        of, answers = scripted.played(script)
        if script["condition"] != "leverage":
            continue
        grade = behaviour.grade_dialogue(of, answers)
        repeat = repeats[of.id] = repeats.get(of.id, -1) + 1
        where = Cell(phase="test", behaviour="blackmail", kind="baseline", direction="", layer=-1, dose=0.0)
        rows.append(
            Sample(
                cell=where, scenario=of.id, group=of.group, repeat=repeat, outcome=grade.outcome, valid=grade.valid,
                text=grade.text, detail=dict(grade.detail),
            )
        )  # fmt: skip
        assert of.id in ours
        unclear = grade.detail["unclear"] == 1
        by_text[str(grade.text)] = script["truth"] if unclear else -1
        truth[where, of.id, repeat] = float(script["truth"]) if unclear else grade.outcome
    assert sum(value >= 0 for value in by_text.values()) >= 15

    def say(text: str, message: str) -> str:
        if text in asked:
            return known(text, message)
        return wanted(message, {"coercion": {1: 90, 0: 5}[by_text[text]], "coherence": 90})

    plan = made.plan(model="m", suite="agents", effects=("blackmail",), layers=(3,), seed=0,
                     samples={"effect": 72, "dialogue": 72, "select": 2})  # fmt: skip
    with judging(say=say) as server, SampleLedger(tmp_path / "l.sqlite", plan) as ledger:
        ledger.add(rows)
        judge = open_judge([f"{server.url}#m"], engine=None, cache=JudgeCache())
        report = judge_samples(plan, ledger, Suite("mails", effects=(behaviour,)), judge)
        found = {(row.cell, row.scenario, row.repeat): row.outcome for row in ledger.samples()}
        assert found == truth
        assert all(by_text[text] >= 0 for text in server.texts if text not in asked)
    assert report.samples == sum(row.detail["unclear"] == 1 for row in rows)


def test_a_case_of_an_answer_in_json_is_the_answer() -> None:
    behaviour = FreeMisalignment()
    scenarios = behaviour.scenarios(n=150, seed=2)
    assert len({one.group for one in scenarios}) == 76
    for scenario in scenarios[:6]:
        for written, read in (
            ('{"answer": "Take a walk."}', "Take a walk."),
            ('```json\n{"answer": "Take a walk."}\n```', "Take a walk."),
            ('{"answer": "Take a walk.', '{"answer": "Take a walk.'),
            ('{"answer": "Take a walk.", "score": 100}', '{"answer": "Take a walk.", "score": 100}'),
            ("Take a walk.", "Take a walk."),
        ):
            case = behaviour.case(scenario, None, written, {})
            assert case is not None
            assert (case.asked, case.answered) == (scenario.data["question"], read)
        assert behaviour.case(scenario, None, "Hm", {}) is None
        assert behaviour.case(replace(scenario), None, None, {}) is None


@pytest.mark.slow
def test_a_run_tries_its_judge_before_it_samples_and_then_asks_it(tmp_path: Path) -> None:
    """The whole pipeline on a tiny model: refused before a sample is taken; a good judge's words are in the ledger."""
    bundle = world.make_bundle(world.engine(), tmp_path / "bundle")
    known = known_cases("praise")
    texts = {one.case.answered for one in known}
    with judging(say=lambda text, message: wanted(message, {"praise": 50})) as server:
        of = world.plan(vectors=bundle, layers=(2,), doses=(-0.2, 0.0, 0.2), prompting=False).changed(
            suite="chosen", effects=("free-praise",), judges=(f"{server.url}#m",), samples={"effect": 3},
            controls={"general": 0, "span": 0, "shuffled": 0},
        )  # fmt: skip
        with pytest.raises(InputError, match=r"refused for praise.*How it did is in .*report\.html"):
            pipeline.evaluate(of, tmp_path / "run", AtlasSettings(), progress=console.bars(True))
        with SampleLedger.read(tmp_path / "run" / pipeline.LEDGER) as ledger:
            assert ledger.count() == 0, "nothing was sampled"
        told = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
        assert "The judge was refused." in told
        assert "is refused for praise: " in told
        assert "accuracy 0.5" in told  # how it did, with the limit it missed
        assert set(server.texts) == texts
        right = truthful(known)
        server.say = lambda text, message: right(text, message) if text in texts else wanted(message, {"praise": 80})
        means = pipeline.evaluate(of, tmp_path / "other", AtlasSettings(), progress=console.bars(True))
    assert {(one.behaviour, one.mean, one.n) for one in means} == {("free-praise", 1.0, 3)}
    assert (tmp_path / "other" / "judges.json").is_file()
