"""`heartstrings grade`: blind, resumable after a kill, at one with the plan's seed, and taken up by the verdict."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import experiment_world as world
import report_verdict as made
from heartstrings import cli
from heartstrings.behaviours.agents.blackmail import Blackmail
from heartstrings.behaviours.base import Scenario
from heartstrings.behaviours.suites import suite_of
from heartstrings.behaviours.writing._free_answers import FreeMisalignment
from heartstrings.behaviours.writing._free_work import FreePraise
from heartstrings.cli import _console as console
from heartstrings.cli._grade import plain
from heartstrings.core.errors import InputError
from heartstrings.experiment import hand_grades
from heartstrings.experiment.cells import every_scenario
from heartstrings.experiment.ledger import Cell, Kind, Sample, SampleLedger
from heartstrings.experiment.plan import Plan
from heartstrings.experiment.plan_files import freeze
from heartstrings.report import render_verdict
from heartstrings.stats.estimate import Estimate
from heartstrings.verdict import decide
from heartstrings.verdict._hand_graded import _notes
from heartstrings.verdict.results import AnswerCard, HandChange, HandGraded, Verdict

DOSES = (-0.1, 0.0, 0.1)
PRAISE = {-0.1: 0.2, 0.0: 0.4, 0.1: 0.6}
"""True rates."""


def plan(**changes: Any) -> Plan:
    return Plan(
        model="m", suite="chosen", effects=("free-praise",), directions=("calm",), layers=(3,), doses=DOSES,
        samples={"select": 3, "effect": 117}, judges=("http://localhost:1/v1#m",), prompting=False,
        controls={"general": 20, "span": 20, "topic": 0, "natural": 0, "shuffled": 0},
    ).changed(**changes)  # type: ignore[arg-type]  # fmt: skip


SCENARIOS = every_scenario(plan(), suite_of(plan()), FreePraise())[3:]


def truth_of(text: str) -> int:
    """Scripted texts say what they are."""
    return int("lovely" in text)


Where: TypeAlias = tuple[Kind, str, float]
CELLS: tuple[Where, ...] = (("baseline", "", 0.0), ("direction", "calm", -0.1), ("direction", "calm", 0.1))


def row(where: Where, of: Scenario, outcome: float | None, true: bool, number: int) -> Sample:
    kind, direction, dose = where
    cell = Cell(
        phase="test", behaviour=of.id.split("/")[0], kind=kind, direction=direction,
        layer=-1 if kind == "baseline" else 3, dose=dose,
    )  # fmt: skip
    return Sample(
        cell=cell, scenario=of.id, group=of.group, repeat=0, outcome=outcome, valid=1.0,
        text=f"This work is {'lovely' if true else 'flawed'}, no. {number}, {dose * 10 + 5:.0f}.",
        detail={"n_words": 6.0, "log_perplexity": 2.0, "distinct_2": 0.9, "ends": 1.0},
    )  # fmt: skip


def written(sensitivity: float = 0.8, specificity: float = 0.94, unclear: float = 0.0, seed: int = 0) -> list[Sample]:
    """Every reported text of the plan, graded by a scripted judge that errs, along a direction and a control."""
    random = np.random.default_rng(seed)
    rows = []
    for where in (*CELLS, ("general", "general/0", 0.1)):
        for one in SCENARIOS:
            true = bool(random.random() < PRAISE[where[2]])
            said = float(random.random() < (sensitivity if true else 1 - specificity))
            rows.append(row(where, one, None if random.random() < unclear else said, true, random.integers(10**9)))
    return rows


def make(folder: Path, rows: list[Sample] | None = None, **changes: Any) -> Path:
    of = plan(**changes)
    freeze(folder, of)
    with SampleLedger(folder / "ledger.sqlite", of) as ledger:
        ledger.add(written() if rows is None else rows)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make(tmp_path / "run")


def grade(folder: Path, *flags: str, typed: str = "") -> Any:
    return CliRunner().invoke(cli.app, ["grade", str(folder), *flags], input=typed)


def run(*args: str) -> int:
    command = typer.main.get_command(cli.app)
    return console.guarded(lambda: command.main(args=[*args], prog_name="heartstrings", standalone_mode=False))


def refused(folder: Path, capfd: pytest.CaptureFixture[str], *flags: str) -> str:
    capfd.readouterr()
    assert run("grade", str(folder), *flags) == 2
    return " ".join(capfd.readouterr().err.split())


def grades(folder: Path) -> list[hand_grades.Grade]:
    return list(hand_grades.read_grades(folder))


def by_hand(folder: Path, n: int) -> Path:
    """A careful person grades the first n texts."""
    sheet = hand_grades.open_sheet(folder)
    session = hand_grades.Session(folder, sheet, grader="AB", n=n)
    session.take([(one.key, "", "1" if truth_of(one.answered) else "0") for one in session.left])
    return folder


def shown(screen: str) -> list[str]:
    return re.findall(r"This work is \w+, no\. \d+, \d\.", screen)


# One at a time


def test_each_answer_is_saved_and_the_next_session_goes_on(folder: Path) -> None:
    first = grade(folder, "--n", "9", "--grader", "AB", typed="1\n0\nu\nq\n")
    assert first.exit_code == 0
    assert [one.grade for one in grades(folder)] == ["1", "0", "unclear"]
    assert {one.grader for one in grades(folder)} == {"AB"}
    assert "3 of 9 texts are graded" in " ".join(first.output.split())
    assert "sensitivity" not in first.output, "agreement would move the next grade"
    second = grade(folder, "--n", "9", "--grader", "AB", typed="1\n")
    assert len(set(shown(first.output) + shown(second.output))) == 5, "three graded, the fourth shown again, a fifth"
    assert shown(first.output)[3] == shown(second.output)[0]
    sheet = hand_grades.open_sheet(folder)
    assert [one.key for one in grades(folder)] == [one.key for one in sheet.texts[:4]]


def test_back_puts_a_grade_right_and_a_skipped_text_is_replaced(folder: Path) -> None:
    done = grade(folder, "--n", "3", typed="1\nb\n0\ns\n1\n1\n")
    assert done.exit_code == 0
    assert re.findall(r"text (\d) of (\d)", done.output) == [(at, "3") for at in "121223"]
    keys = [one.key for one in hand_grades.open_sheet(folder).texts]
    last = {one.key: one.grade for one in grades(folder)}
    assert last == {keys[0]: "0", keys[1]: "skip", keys[2]: "1", keys[3]: "1"}
    assert "sensitivity" in done.output
    assert hand_grades.decided(folder) == {keys[0]: 0.0, keys[2]: 1.0, keys[3]: 1.0}


def test_back_reaches_an_earlier_session_and_stops_at_its_first_text(folder: Path) -> None:
    grade(folder, "--n", "4", typed="1\nq\n")
    again = grade(folder, "--n", "4", typed="b\nb\n0\nq\n")
    assert "This is the first text." in again.output
    key = hand_grades.open_sheet(folder).texts[0].key
    assert [(one.key, one.grade) for one in grades(folder)] == [(key, "1"), (key, "0")]


def test_nonsense_is_asked_again(folder: Path) -> None:
    done = grade(folder, "--n", "1", typed="yes\n\n2\n1\n")
    assert done.exit_code == 0
    assert done.output.count("is none of 1, 0, u (unclear)") == 3
    assert [one.grade for one in grades(folder)] == ["1"]


def test_nothing_on_the_screen_tells_the_condition_or_the_automatic_grade(folder: Path) -> None:
    flipped = [replace(one, outcome=1.0 - (one.outcome or 0.0)) for one in written()]
    other = make(folder.parent / "flipped", flipped)
    screen = grade(folder, "--n", "40", typed="u\n" * 39 + "q\n").output
    assert len(shown(screen)) == 40
    bare = screen
    for one in hand_grades.open_sheet(folder).texts:
        bare = bare.replace(one.answered, "").replace(one.asked, "")
    for word in ("dose", "calm", "baseline", "direction", "steer", "-0.1", "0.1", "control", "layer"):
        assert word not in bare.lower(), word
    same = grade(other, "--n", "40", typed="u\n" * 39 + "q\n").output
    assert same.replace("flipped", "run") == screen, "with every automatic grade turned round it looks the same"
    by_text = {one.text: one for one in written()}
    cells = {by_text[text].cell.dose for text in shown(screen)}
    assert cells == set(DOSES), "all doses take part, mixed"
    for line in (folder / "grades.jsonl").read_text(encoding="utf-8").splitlines():
        assert set(json.loads(line)) == {"key", "behaviour", "grade", "grader", "time"}
        assert "calm" not in line


def test_wherever_a_person_stops_every_dose_has_had_its_share(folder: Path) -> None:
    sheet = hand_grades.open_sheet(folder)
    assert len(sheet.texts) == 351, "controls are left out"
    for n in (30, 99, 150):
        doses = [sheet.samples[one.key].cell.dose for one in sheet.texts[:n]]
        assert {doses.count(dose) for dose in DOSES} == {n // 3}
    order = [sheet.samples[one.key].cell.dose for one in sheet.texts[:30]]
    assert order[:3] != order[3:6] or order[3:6] != order[6:9], "the doses take turns in no fixed order"


def test_every_text_of_a_dose_is_as_likely_to_be_drawn(tmp_path: Path) -> None:
    """Over 200 seeds; 39 of 117 texts a dose."""
    rows = {hand_grades.key_of(one): one for one in written() if one.cell.kind != "general"}
    hits = dict.fromkeys(rows, 0)
    for seed in range(200):
        for key in list(hand_grades._order(rows, seed))[:117]:
            hits[key] += 1
    assert np.mean(list(hits.values())) == pytest.approx(200 / 3)
    assert np.std(list(hits.values())) == pytest.approx(np.sqrt(200 * 2 / 9), rel=0.15)


def test_another_seed_is_another_choice(tmp_path: Path) -> None:
    orders = [
        [one.key for one in hand_grades.open_sheet(make(tmp_path / name, seed=seed)).texts]
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert orders[0] == orders[1] != orders[2]
    assert set(orders[0]) == set(orders[2])


def test_a_terminal_is_not_moved_by_a_text() -> None:
    assert plain("a\x1b[2Jb\u202ec\td\ne\x07\r") == "a·[2Jb·c\td\ne··"


def test_killed_in_the_middle_it_goes_on_at_the_next_text(folder: Path) -> None:
    """kill -9 with four grades given; a fifth that was cut short in the file is asked again."""
    command = [sys.executable, "-m", "heartstrings", "grade", str(folder), "--n", "12", "--grader", "AB"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(b"1\n0\n1\nu\n")
    process.stdin.flush()
    path = folder / "grades.jsonl"
    until = time.monotonic() + 120
    while not (path.is_file() and path.read_bytes().count(b"\n") == 4):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    with path.open("ab") as file:
        file.write(b'{"key":"0123')
    assert len(grades(folder)) == 4, "a line that was cut short is no grade"
    assert grade(folder, "--n", "12", "--grader", "AB", typed="0\nq\n").exit_code == 0
    keys = [one.key for one in hand_grades.open_sheet(folder).texts]
    assert [one.key for one in grades(folder)] == keys[:5]
    assert [one.grade for one in grades(folder)] == ["1", "0", "1", "unclear", "0"]


def test_a_disk_that_takes_a_part_gets_the_rest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.write
    monkeypatch.setattr(os, "write", lambda handle, content: whole(handle, content[:10]))
    assert grade(folder, "--n", "12", "--grader", "AB", typed="1\n0\nq\n").exit_code == 0
    assert [one.grade for one in grades(folder)] == ["1", "0"]


def test_two_people_at_once_are_refused(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with hand_grades.writing(folder):
        assert "another process" in refused(folder, capfd)


def test_two_people_who_differ_leave_a_text_unclear(folder: Path) -> None:
    assert grade(folder, "--n", "2", "--grader", "AB", typed="1\n0\n").exit_code == 0
    assert grade(folder, "--n", "2", "--grader", "CD", typed="1\n1\n").exit_code == 0
    keys = [one.key for one in hand_grades.open_sheet(folder).texts]
    assert hand_grades.decided(folder) == {keys[0]: 1.0, keys[1]: None}


# Grading elsewhere


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_file_goes_out_blind_and_comes_back_graded(folder: Path, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"texts.{ending}"
    said = json.loads(grade(folder, "--n", "30", "--export", str(path), "--json").stdout)
    assert said == {"file": str(path), "texts": 30}
    text = path.read_text(encoding="utf-8")
    sheet = hand_grades.open_sheet(folder)
    if ending == "csv":
        import csv

        rows: list[dict[str, str]] = list(csv.DictReader(text.splitlines(keepends=True)))
    else:
        rows = [json.loads(line) for line in text.splitlines()]
    assert [row["key"] for row in rows] == [one.key for one in sheet.texts[:30]]
    assert set(rows[0]) == {"key", "asked", "answered", "grade"}
    marks = {row["key"]: str(truth_of(row["answered"])) for row in rows}
    back = tmp_path / "graded.csv"
    lines = [f"{key},{'u' if at == 3 else '' if at == 4 else mark}" for at, (key, mark) in enumerate(marks.items())]
    back.write_text("\ufeffkey,grade\r\n" + "\r\n".join(lines) + "\r\n", encoding="utf-8")
    said = json.loads(grade(folder, "--n", "29", "--import", str(back), "--grader", "EF", "--json").stdout)
    assert (said["graded"], said["of"]) == (29, 29)
    assert [one["side"] for one in said["agreement"]] == ["all", "unsteered", "dose < 0", "dose > 0"]
    everything = said["agreement"][0]
    assert (everything["n"], everything["hand_unclear"]) == (28, 1)
    samples = [sheet.samples[key] for at, key in enumerate(marks) if at not in (3, 4)]
    assert everything["both"] == sum(one.outcome == 1 and truth_of(str(one.text)) == 1 for one in samples)
    assert everything["hand_only"] == sum(one.outcome == 0 and truth_of(str(one.text)) == 1 for one in samples)
    assert {one.grader for one in grades(folder)} == {"EF"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "key,grade\nnone,1\n", "row 2: key 'none' is of no text of free-praise"),
        ("a.csv", "key,grade\nKEY,maybe\n", "row 2: grade 'maybe'"),
        ("a.csv", "key,grade\nKEY,1\nKEY,0\n", "row 3: a second, different grade"),
        ("a.csv", "sample,grade\nKEY,1\n", "has columns sample, grade"),
        ("a.csv", "", "has columns none"),
        ("a.csv", 'key,grade\n"KEY,1\n', "is no CSV"),
        ("a.jsonl", '{"key": "KEY"}\n', "line 1 lacks key or grade"),
        ("a.jsonl", "KEY 1\n", "line 1 is no JSON"),
        ("a.txt", "KEY 1\n", "a file that ends in .csv or .jsonl"),
    ],
)
def test_a_bad_file_is_refused_as_a_whole(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, content: str, said: str
) -> None:
    path = tmp_path / name
    keys = [one.key for one in hand_grades.open_sheet(folder).texts]
    path.write_text(content.replace("KEY", keys[0]), encoding="utf-8")
    assert said in refused(folder, capfd, "--import", str(path))
    assert not (folder / "grades.jsonl").exists()


# Bad input


def test_what_cannot_be_graded_is_told(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "no ledger" in refused(tmp_path / "nowhere", capfd)
    assert "one of free-praise" in refused(folder, capfd, "--behaviour", "tone")
    assert "--n 0" in refused(folder, capfd, "--n", "0")
    assert "--grader without a name" in refused(folder, capfd, "--grader", " ")
    assert "no file" in refused(folder, capfd, "--import", str(tmp_path / "none.csv"))
    assert "one of them" in refused(folder, capfd, "--import", "a.csv", "--export", "b.csv")
    (folder / "grades.jsonl").write_text("nonsense\n")
    assert "grades.jsonl, line 1" in refused(folder, capfd)
    shares = [replace(one, outcome=0.3) for one in written()]
    assert "no text" in refused(make(tmp_path / "shares", shares), capfd)


def test_of_several_behaviours_one_has_to_be_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    mails = Blackmail().scenarios(n=14, seed=0)
    where = Cell(phase="test", behaviour="blackmail", kind="baseline", direction="", layer=-1, dose=0.0)
    rows = written() + [
        Sample(cell=where, scenario=one.id, group=one.group, repeat=0, outcome=0.0, valid=1.0, text="mail", detail={})
        for one in mails
    ]
    both = make(tmp_path / "both", rows, effects=("free-praise", "blackmail"), samples={"dialogue": 14})
    told = refused(both, capfd)
    assert "several behaviours can be graded" in told
    assert "free-praise, blackmail" in told
    assert hand_grades.open_sheet(both, "blackmail").behaviour.name == "blackmail"


def test_answers_that_fell_apart_are_not_shown(tmp_path: Path) -> None:
    rows = written()
    rows[0] = replace(rows[0], outcome=None, valid=0.0)
    rows[1] = replace(rows[1], outcome=None)
    sheet = hand_grades.open_sheet(make(tmp_path / "run", rows))
    assert hand_grades.key_of(rows[0]) not in sheet.samples
    assert hand_grades.key_of(rows[1]) in sheet.samples


def test_grades_of_another_run_fit_no_text_of_this_one(folder: Path, tmp_path: Path) -> None:
    """The same plan, cells and scenarios; other texts."""
    other = make(tmp_path / "other", written(seed=1))
    mine, theirs = hand_grades.open_sheet(folder), hand_grades.open_sheet(other)
    assert not set(mine.samples) & set(theirs.samples)


# The verdict


def weighed(folder: Path) -> tuple[Verdict, AnswerCard]:
    with SampleLedger.read(folder / "ledger.sqlite") as ledger:
        found = decide(
            ledger.plan, ledger, suite_of(ledger.plan), model="m", encoded="not examined",
            grades=hand_grades.decided(folder),
        )  # fmt: skip
    return found, found.answers[0]


def test_without_hand_grades_the_verdict_is_as_it_was(folder: Path) -> None:
    assert weighed(folder)[1].hand_graded == ()


def test_the_verdict_has_the_corrected_change(folder: Path) -> None:
    before = weighed(by_hand(folder, 1))[1]
    assert before.hand_graded[0].n == 1
    assert any("too few to correct" in note for note in before.missing)
    found, card = weighed(by_hand(folder, 180))
    (one,) = card.hand_graded
    assert (one.behaviour, one.n) == ("free-praise", 180)
    assert [side.side for side in one.agreements] == ["all", "unsteered", "dose < 0", "dose > 0"]
    everything = one.agreements[0]
    cells = (everything.both, everything.hand_only, everything.automatic_only, everything.neither)
    assert everything.n == sum(cells) == 180
    for share, truth in ((everything.sensitivity, 0.8), (everything.specificity, 0.94)):
        assert share.low is not None
        assert share.high is not None
        assert share.low <= truth <= share.high
    (change,) = one.changes
    assert change.shape == card.shape == "line"
    assert change.uncorrected.value == pytest.approx(card.effect.value)
    texts = {
        (row.cell.dose, row.scenario): truth_of(str(row.text)) for row in written() if row.cell.kind == "direction"
    }
    true = np.mean([texts[0.1, name] - texts[-0.1, name] for _, name in texts])
    assert change.corrected.low is not None
    assert change.corrected.high is not None
    assert change.corrected.low <= true <= change.corrected.high
    assert change.uncorrected.value is not None
    assert change.uncorrected.value < true
    assert (change.unclear_low, change.unclear_high) == (change.uncorrected, change.uncorrected)
    assert not any("hand grades" in note for note in card.missing)
    (folder / "verdict.json").write_text(found.model_dump_json())
    page = render_verdict(folder).read_text(encoding="utf-8")
    assert "Graded by hand" in page
    assert "Corrected by hand" in page


def test_the_report_of_a_run_without_hand_grades_has_no_such_section(folder: Path) -> None:
    found, _ = weighed(folder)
    (folder / "verdict.json").write_text(found.model_dump_json())
    assert "Graded by hand" not in render_verdict(folder).read_text(encoding="utf-8")


def test_unclear_grades_are_bounded(tmp_path: Path) -> None:
    (one,) = weighed(by_hand(make(tmp_path / "run", written(unclear=0.2)), 120))[1].hand_graded
    (change,) = one.changes
    low, middle, high = change.unclear_low.value, change.uncorrected.value, change.unclear_high.value
    assert low is not None
    assert middle is not None
    assert high is not None
    assert low + 0.15 < middle < high - 0.15
    assert one.agreements[0].automatic_unclear > 10


def test_texts_unclear_by_hand_count_both_ways(folder: Path) -> None:
    def reach(card: AnswerCard) -> float:
        corrected = card.hand_graded[0].changes[0].corrected
        assert corrected.low is not None
        assert corrected.high is not None
        return corrected.high - corrected.low

    clear = reach(weighed(by_hand(folder, 150))[1])
    sheet = hand_grades.open_sheet(folder)
    session = hand_grades.Session(folder, sheet, grader="AB", n=150)
    session.take([(one.key, "", "unclear") for one in sheet.texts[:150:5]])
    assert reach(weighed(folder)[1]) > clear + 0.2


def test_an_answer_that_automatic_grades_alone_hold_up_says_so(tmp_path: Path) -> None:
    """The judge's grades rise with dose and the texts do not: the sentence stands, and `missing` says what is wrong."""
    random = np.random.default_rng(0)
    kinds_of: tuple[Kind, ...] = ("general", "natural")
    controls = [(kind, f"{kind}/{at}", dose) for kind in kinds_of for at in range(40) for dose in (-0.1, 0.1)]
    rows = []
    for where in (*CELLS, *controls):
        rate = 0.4 + (4 * where[2] if where[0] == "direction" else 0.0)
        for one in SCENARIOS:
            said, true = float(random.random() < rate), bool(random.random() < 0.4)
            rows.append(row(where, one, said, true, random.integers(10**9)))
    kinds = {"general": 40, "span": 0, "topic": 0, "natural": 40, "shuffled": 0}
    run_folder = make(tmp_path / "run", rows, controls=kinds)
    _, before = weighed(run_folder)
    assert before.answer == "controls"
    _, after = weighed(by_hand(run_folder, 240))
    assert (after.answer, after.sentence) == (before.answer, before.sentence)
    change = after.hand_graded[0].changes[0].corrected
    assert change.low is not None
    assert change.high is not None
    assert change.low <= 0 <= change.high
    assert change.high < 0.4
    assert before.missing == after.missing[:-1]
    assert "includes 0: `controls` rests on automatic grades alone" in after.missing[-1]


def test_a_denial_that_hand_grades_do_not_bear_out_says_so() -> None:
    """As above, for the answer that there is no effect, and for a gate on harm."""
    none = Estimate(value=0.0, low=-0.01, high=0.01)
    wide = Estimate(value=0.04, low=-0.02, high=0.10)

    def notes(behaviour: str, shape: str, corrected: Estimate, answer: str = "encoded, does not control") -> list[str]:
        change = HandChange(shape=shape, corrected=corrected, uncorrected=none, unclear_low=none, unclear_high=none)
        found = HandGraded(behaviour=behaviour, n=60, agreements=(), changes=(change,))
        card = made.card(answer=answer)
        return _notes(card, found, made.plan())

    assert "does not rule out a change of 5 points" in notes("choice", "line", wide)[0]
    assert notes("choice", "line", none) == []
    assert notes("choice", "line", wide, answer="inconclusive") == []
    gate = next(one for one in made.card().gates if one.name == "harm: harm" and one.dose == 0.2)
    assert gate.state == "holds"
    assert "the limit of 2 points holds for automatic grades alone" in notes("harm", "at 0.2", wide)[0]
    assert notes("harm", "at 0.2", none) == []
    assert "too few to correct" in notes("harm", "at 0.2", Estimate(value=0.0, low=None, high=None))[0]


def test_harm_is_corrected_at_either_end_of_the_window(tmp_path: Path) -> None:
    """Hand grades of a behaviour that is no effect: steered against unsteered."""
    of = plan(suite="standard", effects=("blackmail",), samples={"dialogue": 6, "harm": 76})
    questions = FreeMisalignment().scenarios(n=76, seed=0)
    random = np.random.default_rng(1)
    rows = []
    for where in CELLS:
        for at, one in enumerate(questions):
            true = bool(random.random() < (0.5 if where[2] > 0 else 0.1))
            rows.append(row(where, one, float(true and at % 2), true, at))
    freeze(tmp_path, of)
    with SampleLedger(tmp_path / "ledger.sqlite", of) as ledger:
        ledger.add(rows)
    (one,) = weighed(by_hand(tmp_path, 228))[1].hand_graded
    assert (one.behaviour, one.n) == ("free-misalignment", 228)
    assert [change.shape for change in one.changes] == ["at -0.1", "at 0.1"]
    rates = {dose: np.mean([truth_of(str(r.text)) for r in rows if r.cell.dose == dose]) for dose in DOSES}
    for change, dose in zip(one.changes, (-0.1, 0.1), strict=True):
        assert change.corrected.value == pytest.approx(rates[dose] - rates[0.0]), "all were graded by hand"


def test_every_word_on_the_screen_goes_to_standard_error(folder: Path) -> None:
    done = grade(folder, "--n", "2", "--json", typed="1\n0\n")
    said = json.loads(done.stdout)
    assert (said["graded"], said["of"], said["behaviour"]) == (2, 2, "free-praise")
    assert len(shown(done.stderr)) == 2


def test_no_file_of_hand_grades_is_no_grades(tmp_path: Path) -> None:
    assert hand_grades.decided(tmp_path) is None
    with pytest.raises(InputError):
        hand_grades.open_sheet(tmp_path)


@pytest.mark.slow
def test_the_verdict_of_a_run_takes_them_up(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """From hand grading to the report through the command line, with a real bundle of vectors."""
    bundle = world.make_bundle(world.engine(), tmp_path / "bundle")
    run_folder = make(tmp_path / "run", model=world.MODEL, vectors=bundle)
    assert run("verdict", str(run_folder), "--json") == 0
    assert json.loads(capfd.readouterr().out)["answers"][0]["hand_graded"] == []
    by_hand(run_folder, 150)
    assert run("verdict", str(run_folder), "--json") == 0
    (one,) = json.loads(capfd.readouterr().out)["answers"][0]["hand_graded"]
    assert one["n"] == 150
    assert one["changes"][0]["corrected"]["low"] > 0
    assert "Graded by hand" in (run_folder / "report.html").read_text(encoding="utf-8")
