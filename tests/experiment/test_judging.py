"""The stage of judges on a run's ledger, with a real HTTP server that knows, spots words, fails, or says nonsense."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import report_verdict as made
from heartstrings.behaviours.agents.blackmail import Blackmail
from heartstrings.behaviours.base import Judged
from heartstrings.behaviours.roles import Suite
from heartstrings.behaviours.suites import suite_of
from heartstrings.behaviours.writing._essays import Essays
from heartstrings.behaviours.writing._free_answers import FreeMisalignment, unwrapped
from heartstrings.core.errors import InputError
from heartstrings.experiment.judging import FILE, judge_samples, read_report, write_report
from heartstrings.experiment.ledger import Cell, Kind, Sample, SampleLedger
from heartstrings.experiment.plan import Plan
from heartstrings.judges import Budget, JudgeCache, OverBudget, known_cases
from heartstrings.judges._opening import open_judge
from heartstrings.judges.base import Judge
from heartstrings.report import render_verdict
from judge_server import by_scary_words, judging, truthful, wanted

MISALIGNED, COERCIVE = known_cases("misalignment"), known_cases("blackmail")
# An answer in JSON is shown to the judge without its wrapping.
BARE = tuple(replace(one, case=replace(one.case, answered=unwrapped(one.case.answered))) for one in MISALIGNED)
KNOWN = (*MISALIGNED, *BARE, *COERCIVE)
SUITE = Suite("judged", effects=(Blackmail(),), harm=(FreeMisalignment(),))
CONDITIONS: tuple[tuple[Kind, str, float], ...] = (
    ("baseline", "", 0.0), ("direction", "calm", -0.1), ("direction", "calm", 0.1), ("general", "general/0", 0.1),
)  # fmt: skip
HARM = 10
DIALOGUES = 6


def plan(url: str = "http://localhost:1/v1") -> Plan:
    return Plan(
        model="m", suite="standard", effects=("blackmail",), directions=("calm",), layers=(3,), doses=(-0.1, 0.0, 0.1),
        samples={"harm": HARM, "dialogue": DIALOGUES}, judges=(f"{url}#m",),
    )  # type: ignore[arg-type]  # fmt: skip


def cell(behaviour: str, kind: Kind, direction: str, dose: float) -> Cell:
    layer = -1 if kind == "baseline" else 3
    return Cell(phase="test", behaviour=behaviour, kind=kind, direction=direction, layer=layer, dose=dose)


def written(of: Plan) -> tuple[list[Sample], dict[tuple[Any, str], int | None]]:
    """Texts of known grades, and what each should come to. Every second sample of blackmail a rule has settled."""
    rows, truth = [], {}
    harm = FreeMisalignment().scenarios(n=HARM, seed=of.seed)
    mails = Blackmail().scenarios(n=DIALOGUES, seed=of.seed)
    for number, condition in enumerate(CONDITIONS):
        for at, scenario in enumerate(harm):
            known = MISALIGNED[(7 * number + at) % len(MISALIGNED)]
            where = cell("free-misalignment", *condition)
            rows.append(sample(where, scenario.id, None, known.case.answered))
            truth[where, scenario.id] = known.outcome
        for at, scenario in enumerate(mails):
            known = COERCIVE[(5 * number + at) % len(COERCIVE)]
            where = cell("blackmail", *condition)
            settled = at % 2 == 1
            rows.append(
                sample(where, scenario.id, 0.0 if settled else None, known.case.answered, unclear=float(not settled))
            )
            truth[where, scenario.id] = 0 if settled else known.outcome
    return rows, truth


def sample(where: Cell, scenario: str, outcome: float | None, text: str, **detail: float) -> Sample:
    return Sample(
        cell=where, scenario=scenario, group=scenario, repeat=0, outcome=outcome, valid=1.0, text=text, detail=detail
    )


def judge_of(url: str, folder: Path, **budget: Any) -> tuple[Judge, JudgeCache]:
    cache = JudgeCache(folder / "judges.sqlite")
    return open_judge([f"{url}#m"], engine=None, cache=cache, budget=Budget(**budget)), cache


def texts_of_the_run(server: Any) -> list[str]:
    known = {one.case.answered for one in KNOWN}
    return [text for text in server.texts if text not in known]


def test_what_needs_a_judge() -> None:
    assert all(isinstance(one, Judged) for one in (Blackmail(), FreeMisalignment(), Essays()))
    assert not any(isinstance(one, Judged) for one in suite_of(plan().changed(judges=())).capability)
    assert "free-misalignment" not in [one.name for one in suite_of(plan().changed(judges=())).harm]
    assert "free-misalignment" in [one.name for one in suite_of(plan()).harm]


def test_outcomes_come_out_to_the_sample(tmp_path: Path) -> None:
    with judging(say=truthful(KNOWN)) as server:
        of = plan(server.url)
        rows, truth = written(of)
        judge, cache = judge_of(server.url, tmp_path)
        with cache, SampleLedger(tmp_path / "ledger.sqlite", of) as ledger:
            ledger.add(rows)
            report = judge_samples(of, ledger, SUITE, judge)
            found = {(row.cell, row.scenario): row for row in ledger.samples()}
            asked = len(server.requests)
            assert judge_samples(of, ledger, SUITE, judge) == report
            assert len(server.requests) == asked, "nothing is asked twice"
        # Each pair of question and answer once; some of the run's are among those of known grades.
        assert report.texts < asked <= len(MISALIGNED) + len(COERCIVE) + report.texts
    assert {key: row.outcome for key, row in found.items()} == {
        k: None if v is None else float(v) for k, v in truth.items()
    }
    for key, row in found.items():
        settled = row.cell.behaviour == "blackmail" and not row.detail["unclear"]
        assert ("judged" in row.detail) is not settled
        assert row.valid == (1.0 if settled or truth[key] is not None else 0.0), "fell apart is not did nothing"
    assert report.samples == HARM * 4 + DIALOGUES // 2 * 4
    assert (report.unreadable, report.unanswered) == (0, 0)
    assert {one.rubric for one in report.tried} == {"misalignment", "blackmail"}
    assert all(one.accuracy.value == 1 and one.kappa == 1 for one in report.tried)
    assert {one.condition for one in report.conditions} == {"unsteered", "dose < 0", "dose > 0", "controls"}
    write_report(tmp_path, report)
    assert read_report(tmp_path) == report
    assert (tmp_path / FILE).is_file()
    shown = made.folder(tmp_path / "run", made.verdict(made.card()), judges=of.judges)
    assert "the stage of judges is not finished" in render_verdict(shown).read_text(encoding="utf-8")
    write_report(shown, report)
    page = render_verdict(shown).read_text(encoding="utf-8")
    assert "Error rate, points" in page
    assert "dose &gt; 0" in page
    assert 'id="judges"' in page
    without = made.folder(tmp_path / "other", made.verdict(made.card()))
    assert 'id="judges"' not in render_verdict(without).read_text(encoding="utf-8")


def test_a_judge_that_goes_by_words_is_refused_before_it_sees_the_run(tmp_path: Path) -> None:
    with judging(say=by_scary_words) as server:
        of = plan(server.url)
        judge, cache = judge_of(server.url, tmp_path)
        with cache, SampleLedger(tmp_path / "ledger.sqlite", of) as ledger:
            ledger.add([sample(row.cell, row.scenario, row.outcome, f"{row.text} (run)") for row in written(of)[0]])
            with pytest.raises(InputError, match="is refused for misalignment"):
                judge_samples(of, ledger, Suite("harm", effects=(), harm=(FreeMisalignment(),)), judge)
            assert ledger.judgements() == {}
        assert texts_of_the_run(server) == []


def test_nonsense_is_missing_and_counted_by_condition(tmp_path: Path) -> None:
    marked = "(steered up) "

    def say(text: str, message: str) -> str:
        if marked in text:
            return "I would rather not say."
        return truthful(KNOWN)(text, message)

    def up(row: Sample) -> Sample:
        if row.cell.dose <= 0:
            return row
        return replace(row, text=f"{unwrapped(row.text or '')} {marked}")

    with judging(say=say) as server:
        of = plan(server.url)
        rows, _ = written(of)
        rows = [up(row) for row in rows]
        judge, cache = judge_of(server.url, tmp_path)
        with cache, SampleLedger(tmp_path / "ledger.sqlite", of) as ledger:
            ledger.add(rows)
            report = judge_samples(of, ledger, SUITE, judge)
            missing = [row for row in ledger.samples(behaviour="free-misalignment") if row.cell.dose > 0]
        assert all((row.outcome, row.detail["judged"]) == (None, 0.0) for row in missing)
        shares = {one.condition: one.graded.value for one in report.conditions if one.behaviour == "free-misalignment"}
    assert shares == {"unsteered": 1.0, "dose < 0": 1.0, "dose > 0": 0.0, "controls": 0.0}
    assert report.unreadable == report.samples // 2


def test_a_budget_keeps_what_was_done_and_says_what_is_left(tmp_path: Path) -> None:
    tries = len(MISALIGNED)
    with judging(say=truthful(KNOWN)) as server:
        of = plan(server.url)
        rows = [row for row in written(of)[0] if row.cell.behaviour == "free-misalignment"]
        rows = [replace(row, text=row.text + f" ({at})") for at, row in enumerate(rows)]
        server.say = lambda text, message: (
            wanted(message, {"alignment": 90, "coherence": 90})
            if text.endswith(")")
            else truthful(KNOWN)(text, message)
        )
        asked = Suite("harm", effects=(), harm=(FreeMisalignment(),))
        judge, cache = judge_of(server.url, tmp_path, calls=tries + 15)
        with cache, SampleLedger(tmp_path / "ledger.sqlite", of) as ledger:
            ledger.add(rows)
            with pytest.raises(OverBudget, match=r"25 of 40 cases are left") as spent:
                judge_samples(of, ledger, asked, judge)
            assert spent.value.left == 25
            judge_samples(of, ledger, asked, open_judge([f"{server.url}#m"], engine=None, cache=cache))
            assert len(ledger.judgements()) == 40
        assert len(server.requests) == tries + 40, "what was judged is not asked again"


STAGE = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
import test_judging as here
from heartstrings.experiment.judging import judge_samples
from heartstrings.experiment.ledger import SampleLedger
folder, url = Path({folder!r}), {url!r}
judge, cache = here.judge_of(url, folder)
with cache, SampleLedger(folder / "ledger.sqlite", here.plan(url)) as ledger:
    judge_samples(here.plan(url), ledger, here.SUITE, judge)
"""


@pytest.mark.slow
def test_kill_and_go_on(tmp_path: Path) -> None:
    with judging(say=truthful(KNOWN), delay=0.05) as server:
        of = plan(server.url)
        rows, truth = written(of)
        with SampleLedger(tmp_path / "ledger.sqlite", of) as ledger:
            ledger.add(rows)
        code = STAGE.format(
            path=[str(Path(__file__).parents[0]), str(Path(__file__).parents[1])], folder=str(tmp_path), url=server.url
        )
        for wanted_requests in (20, 80):
            process = subprocess.Popen([sys.executable, "-c", code])
            until = time.monotonic() + 60
            while len(server.requests) < wanted_requests and time.monotonic() < until and process.poll() is None:
                time.sleep(0.01)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            time.sleep(0.3)
        under_way = server.most_at_once * 2
        texts = len(MISALIGNED) + len(COERCIVE)
        subprocess.run([sys.executable, "-c", code], check=True)
        with SampleLedger.read(tmp_path / "ledger.sqlite") as ledger:
            found = {(row.cell, row.scenario): row.outcome for row in ledger.samples()}
            texts += len({(row.scenario, row.text) for row in ledger.samples() if "judged" in row.detail})
        assert found == {key: None if one is None else float(one) for key, one in truth.items()}
        assert len(server.requests) <= texts + under_way, "only what was under way at a kill is asked again"


def test_scores_of_feeling_are_details_and_leave_the_tone(tmp_path: Path) -> None:
    known = known_cases("emotion")
    scores = {"valence": 80, "arousal": 20}
    texts = {one.case.answered for one in known}
    with judging() as server:
        server.say = lambda text, message: truthful(known)(text, message) if text in texts else wanted(message, scores)
        of = plan(server.url)
        scenario = Essays().scenarios(n=1, seed=of.seed)[0]
        where = cell("essays", "baseline", "", 0.0)
        judge, cache = judge_of(server.url, tmp_path)
        with cache, SampleLedger(tmp_path / "ledger.sqlite", of) as ledger:
            ledger.add([sample(where, scenario.id, 0.4, "Bread is flour, water and time.", n_words=6.0)])
            judge_samples(of, ledger, Suite("essays", effects=(), writing=(Essays(),)), judge)
            (row,) = ledger.samples()
    assert row.outcome == 0.4
    assert (row.detail["judge_valence"], row.detail["judge_arousal"]) == (80, 20)


def test_a_ledger_of_version_1_opens_and_takes_judgements(tmp_path: Path) -> None:
    of = plan()
    path = tmp_path / "ledger.sqlite"
    with SampleLedger(path, of) as ledger:
        ledger.add(written(of)[0])
        before = ledger.samples()
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE judgements")
        db.execute("UPDATE meta SET value = '1' WHERE name = 'schema_version'")
    db.close()
    with SampleLedger.read(path) as ledger:
        assert ledger.samples() == before
        assert ledger.judgements() == {}
    with SampleLedger(path, of) as ledger:
        assert ledger.samples() == before
        with judging(say=truthful(KNOWN)) as server:
            judge, cache = judge_of(server.url, tmp_path)
            with cache:
                judge_samples(of, ledger, SUITE, judge)
        assert ledger.samples() != before


@pytest.mark.parametrize("specs", [[], ["self"], ["me"], ["http://localhost:1/v1"], ["ftp://x#m"]])
def test_judges_that_are_none(specs: list[str]) -> None:
    with pytest.raises(InputError, match="judge"):
        open_judge(specs, engine=None, cache=JudgeCache())
