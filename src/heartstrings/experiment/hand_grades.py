"""Grades given by hand: which texts of a run are shown, in which order, and `grades.jsonl`, where the grades are kept.

A text is shown with what was asked and nothing else. Its key is a hash that tells neither dose nor direction, and the
order is fixed by the plan's seed: the doses take turns, and within a dose every text is as likely to come early as any
other, so that wherever a person stops, what is graded is a random sample of each dose.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from pydantic import ValidationError

from heartstrings import behaviours, judges
from heartstrings.behaviours.base import Behaviour, Judged, Scenario
from heartstrings.core.checks import first_problem
from heartstrings.core.engine import Message
from heartstrings.core.errors import InputError
from heartstrings.core.storage import cannot_write, locked, write_text
from heartstrings.core.types import Frozen
from heartstrings.experiment.cells import every_scenario
from heartstrings.experiment.ledger import Sample, SampleLedger

if TYPE_CHECKING:
    from heartstrings.behaviours.roles import Suite
    from heartstrings.experiment.plan import Plan

FILE = "grades.jsonl"
SUFFIXES = (".csv", ".jsonl")
"""Of files for grading elsewhere."""

Said: TypeAlias = Literal["1", "0", "unclear", "skip"]
ANSWERS: dict[str, Said] = {"1": "1", "0": "0", "u": "unclear", "unclear": "unclear", "s": "skip", "skip": "skip"}
Decided: TypeAlias = Mapping[str, float | None]
"""By key of the text: 1 or 0; None: unclear by hand, or graded differently by two people."""


class Grade(Frozen):
    """One line of `grades.jsonl`. Of several by one person on one text the last counts."""

    key: str
    behaviour: str
    grade: Said
    grader: str
    time: str
    """UTC, ISO 8601."""


@dataclass(frozen=True)
class Text:
    """One text as a person sees it."""

    key: str
    asked: str
    answered: str


@dataclass(frozen=True)
class Sheet:
    """The texts of one behaviour that may be graded, in the order they are shown."""

    behaviour: Behaviour
    texts: tuple[Text, ...]
    samples: Mapping[str, Sample] = field(repr=False)
    """What lies behind each key: never shown before all is graded."""

    @property
    def question(self) -> str:
        """What is to be decided, in words."""
        counted = f"The outcome is the {self.behaviour.outcome_name}: 1 if this text counts towards it, 0 if not."
        return (
            f"{judges.rubric(self.behaviour.rubric).question} {counted}"
            if isinstance(self.behaviour, Judged)
            else counted
        )


def key_of(sample: Sample) -> str:
    """16 hexadecimal figures. The text is part of it: grades of another run's texts fit none of this run's."""
    cell = sample.cell
    parts = [
        cell.phase,
        cell.behaviour,
        cell.kind,
        cell.direction,
        cell.layer,
        cell.dose,
        sample.scenario,
        sample.repeat,
        sample.text,
    ]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).hexdigest()[:16]


def counts(sample: Sample) -> bool:
    """Whether a sample is one of those that rates are of: a text, graded or unclear, that has not fallen apart."""
    return sample.text is not None and not (sample.outcome is None and sample.valid == 0)


def open_sheet(folder: str | Path, behaviour: str | None = None) -> Sheet:
    """The texts of a behaviour of a run, finished or not: unsteered, and along every direction at the doses that slopes
    are fitted over. Controls are left out.

    Args:
        behaviour: None: the only one that can be graded.
    Raises:
        InputError: no ledger there; no text that can be graded; several behaviours and none chosen, or another one.
    """
    path = Path(folder) / "ledger.sqlite"
    with SampleLedger.read(path) as ledger:
        plan = ledger.plan
        suite = behaviours.suite_of(plan)
        gradeable = {
            candidate.name: (candidate, rows)
            for candidate in suite.all
            if (rows := _gradeable(plan, ledger, candidate))
        }
    if not gradeable:
        raise InputError(
            f"no text in {folder} that can be graded by hand",
            "sampled texts whose outcome is 0 or 1",
            "Choices are graded by the probability of a reply, which has no errors to correct",
        )
    if behaviour is None and len(gradeable) == 1:
        behaviour = next(iter(gradeable))
    if behaviour not in gradeable:
        problem = (
            "several behaviours can be graded" if behaviour is None else f"behaviour {behaviour!r} cannot be graded"
        )
        raise InputError(f"{problem} in {folder}", f"one of {', '.join(gradeable)}", "Name it with --behaviour")
    chosen, rows = gradeable[behaviour]
    return _sheet(plan, suite, chosen, rows)


def _gradeable(plan: Plan, ledger: SampleLedger, behaviour: Behaviour) -> list[Sample]:
    """The texts of a behaviour that a person may grade; none where its outcome is no 0 or 1."""
    if behaviour.ask == "choice" or behaviour.role in ("writing", "cost"):
        return []
    doses = {0.0, *(plan.compared(behaviour.name) if behaviour.name in plan.effects else plan.window)}
    kinds = [ledger.samples(phase="test", behaviour=behaviour.name, kind=kind) for kind in ("baseline", "direction")]
    rows = [sample for sample in chain(*kinds) if counts(sample) and sample.cell.dose in doses]
    outcomes = {sample.outcome for sample in rows} - {None}
    judged = isinstance(behaviour, Judged) and behaviour.decides
    return rows if outcomes <= {0.0, 1.0} and (outcomes or judged) else []


def _sheet(plan: Plan, suite: Suite, behaviour: Behaviour, rows: Sequence[Sample]) -> Sheet:
    scenarios = {scenario.id: scenario for scenario in every_scenario(plan, suite, behaviour)}
    if unknown := next((sample.scenario for sample in rows if sample.scenario not in scenarios), None):
        raise InputError(
            f"the ledger has scenario {unknown}, which {behaviour.name} does not have",
            "a ledger of this version's scenarios",
            "Grade with the version of heartstrings that sampled it",
        )
    samples = {key_of(sample): sample for sample in rows}
    texts = tuple(
        Text(key, asked(scenarios[samples[key].scenario]), str(samples[key].text)) for key in _order(samples, plan.seed)
    )
    return Sheet(behaviour, texts, samples)


def _order(samples: Mapping[str, Sample], seed: int) -> Iterator[str]:
    """Each round has one text of each dose and direction; which one, and the order within the round, are random."""

    def lot(key: str) -> bytes:
        return hashlib.sha256(f"grade {seed} {key}".encode()).digest()

    strata: dict[tuple[str, str, float], list[str]] = {}
    for key in sorted(samples, key=lot):
        cell = samples[key].cell
        strata.setdefault((cell.kind, cell.direction, cell.dose), []).append(key)
    for one_round in zip_longest(*(strata[name] for name in sorted(strata))):
        yield from sorted((key for key in one_round if key is not None), key=lambda key: lot(f"turn {key}"))


def asked(scenario: Scenario) -> str:
    """A scenario's prompt as text."""
    if isinstance(scenario.prompt, str):
        return scenario.prompt
    several = len(scenario.prompt) > 1
    return "\n\n".join(
        f"[{message.role}] {message.content}" if several else message.content
        for message in scenario.prompt
        if isinstance(message, Message)
    )


# The file


def read_grades(folder: str | Path) -> tuple[Grade, ...]:
    """Every line of a run's `grades.jsonl`, in the order they were written; none where there is no file. A last line
    that a crash cut short is left out.

    Raises:
        InputError: any other line that is no grade, with its number.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return ()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", "grades, a line each") from None
    *whole, _ = text.split("\n")
    grades = []
    for number, line in enumerate(whole, start=1):
        try:
            grades.append(Grade.model_validate_json(line))
        except ValidationError as error:
            raise InputError(
                f"{path}, line {number}: {first_problem(error, 'the line')}",
                "a line that `heartstrings grade` wrote",
                "Remove the line, or put it right",
            ) from None
    return tuple(grades)


def decided(folder: str | Path) -> Decided | None:
    """The hand grade of each text of a run, by key; None if there are none."""
    last = {(grade.key, grade.grader): grade.grade for grade in read_grades(folder)}
    said: dict[str, set[Said]] = {}
    for (key, _), answer in last.items():
        if answer != "skip":
            said.setdefault(key, set()).add(answer)
    by_key = {
        key: None if len(answers) > 1 or "unclear" in answers else float(*answers) for key, answers in said.items()
    }
    return by_key or None


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold a run's grades for one person at a time; what a crash cut short is taken off the file first.

    Raises:
        InputError: another process holds them, or the folder cannot be written.
    """
    path = folder / FILE
    with locked(path.with_name(f".{FILE}.writer")):
        if path.is_file():
            content = path.read_bytes()
            if content and not content.endswith(b"\n"):
                os.truncate(path, content.rfind(b"\n") + 1)
        yield


def append(folder: Path, grades: Iterable[Grade]) -> None:
    """Add lines in one write, on the disk before this returns. Within `writing`.

    Raises:
        InputError: the disk is full, or the file cannot be written.
    """
    content = "".join(grade.model_dump_json() + "\n" for grade in grades).encode()
    try:
        handle = os.open(folder / FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            while content:  # a disk that is nearly full takes a part
                content = content[os.write(handle, content) :]
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise cannot_write(folder / FILE, error) from None


class Session:
    """One person's way through a sheet. What was graded before is not asked again.

    Args:
        n: texts to grade, those of before included; skipped ones are replaced by the next.
    Raises:
        InputError: n under 1, or a grader without a name.
    """

    def __init__(self, folder: Path, sheet: Sheet, *, grader: str, n: int) -> None:
        if n < 1:
            raise InputError(f"--n {n}", "1 or more")
        if not grader.strip():
            raise InputError("--grader without a name", "a name or initials")
        self.folder, self.sheet, self.grader = folder, sheet, grader.strip()
        self._said: dict[str, Said] = {}
        """In the order of the last word on each text."""
        for grade in read_grades(folder):
            if grade.grader == self.grader and grade.key in sheet.samples:
                self._note(grade.key, grade.grade)
        self._wanted = n
        self._again: str | None = None
        """The text that `back` went to."""

    def _note(self, key: str, grade: Said) -> None:
        self._said.pop(key, None)
        self._said[key] = grade

    @property
    def graded(self) -> int:
        """Texts with a word of this person, skipped ones not counted."""
        return sum(answer != "skip" for answer in self._said.values())

    @property
    def total(self) -> int:
        """Texts to be graded in all: as many as wanted, or as there are."""
        available = len(self.sheet.texts) - sum(answer == "skip" for answer in self._said.values())
        return max(self.graded, min(self._wanted, available))

    @property
    def left(self) -> tuple[Text, ...]:
        """Those that are still to be graded."""
        open_ = [text for text in self.sheet.texts if text.key not in self._said]
        return tuple(open_[: self.total - self.graded])

    @property
    def current(self) -> Text | None:
        """The text to be graded next; None where all are."""
        if self._again is not None:
            return next(text for text in self.sheet.texts if text.key == self._again)
        return next(iter(self.left), None)

    @property
    def position(self) -> int:
        """The current text's number, from 1."""
        before = list(self._said) if self._again is None else list(self._said)[: list(self._said).index(self._again)]
        return min(1 + sum(self._said[key] != "skip" for key in before), self.total)

    def say(self, grade: Said) -> None:
        """Grade the current text, on the disk at once."""
        text = self.current
        if text is None:
            raise InputError("all is graded", "a text to grade")
        append(self.folder, [self._grade(text.key, grade)])
        self._note(text.key, grade)
        self._again = None

    def back(self) -> bool:
        """Go to the text before; False where there is none."""
        order = list(self._said)
        at = len(order) if self._again is None else order.index(self._again)
        if at == 0:
            return False
        self._again = order[at - 1]
        return True

    def take(self, rows: Sequence[tuple[str, str, Said]]) -> int:
        """Add grades made elsewhere: (key, grader or nothing, grade). Returns how many."""
        grades = [self._grade(key, said, grader) for key, grader, said in rows]
        if grades:
            append(self.folder, grades)
        for grade in grades:
            if grade.grader == self.grader:
                self._note(grade.key, grade.grade)
        return len(grades)

    def _grade(self, key: str, grade: Said, grader: str = "") -> Grade:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return Grade(key=key, behaviour=self.sheet.behaviour.name, grade=grade, grader=grader or self.grader, time=now)


# Grading elsewhere


def export_texts(path: Path, session: Session) -> int:
    """Write the texts that are still to be graded, with an empty `grade`, as CSV or JSONL by the file's ending.

    Raises:
        InputError: another ending, or the file cannot be written.
    """
    _ending("--export", path)
    rows = [{"key": text.key, "asked": text.asked, "answered": text.answered, "grade": ""} for text in session.left]
    if path.suffix == ".csv":
        out = io.StringIO(newline="")
        table = csv.DictWriter(out, ["key", "asked", "answered", "grade"])
        table.writeheader()
        table.writerows(rows)
        write_text(path, out.getvalue())
    else:
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return len(rows)


def read_elsewhere(path: Path, sheet: Sheet) -> list[tuple[str, str, Said]]:
    """(key, grader, grade) of a file with columns `key` and `grade`, and if wanted `grader`; rows without a grade are
    left out. All of it or nothing.

    Raises:
        InputError: no such file, another ending, no such columns, a key that this behaviour has no text of, a grade
            that is none, or a text with two grades; with the row at fault.
    """
    _ending("--import", path)
    grades: dict[tuple[str, str], Said] = {}
    for where, row in _rows(path):
        key, grader, word = (_cell(row.get(name)) for name in ("key", "grader", "grade"))
        if not word:
            continue
        if key not in sheet.samples:
            raise InputError(
                f"{where}: key {key!r} is of no text of {sheet.behaviour.name} in this run",
                "a key that --export wrote",
                "Name another --behaviour, or the run that the texts are of",
            )
        if word.lower() not in ANSWERS:
            raise InputError(f"{where}: grade {word!r}", "1, 0, u (unclear) or s (skip), or nothing")
        said = ANSWERS[word.lower()]
        if grades.setdefault((key, grader), said) != said:
            raise InputError(f"{where}: a second, different grade for key {key}", "one grade a text and grader")
    return [(key, grader, said) for (key, grader), said in grades.items()]


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Each row with the words that say where it stands."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets write a mark first
    except FileNotFoundError:
        raise InputError(f"no file {path}", "a file that --export wrote, with grades") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", "UTF-8") from None
    if path.suffix == ".csv":
        # A cell may be a whole transcript, which is longer than the module's limit.
        limit = csv.field_size_limit(max(len(text), 1))
        try:
            table = csv.DictReader(io.StringIO(text, newline=""), strict=True)
            if not {"key", "grade"} <= set(table.fieldnames or ()):
                raise InputError(f"{path} has columns {', '.join(table.fieldnames or ()) or 'none'}", "key and grade")
            yield from ((f"{path}, row {number}", row) for number, row in enumerate(table, start=2))
        except csv.Error as error:
            raise InputError(f"{path} is no CSV: {error}", "columns key and grade") from None
        finally:
            csv.field_size_limit(limit)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}, line {number} is no JSON: {error}", "an object with key and grade") from None
        if not isinstance(row, dict) or "key" not in row or "grade" not in row:
            raise InputError(f"{path}, line {number} lacks key or grade", "an object with key and grade")
        yield f"{path}, line {number}", row


def _cell(value: object) -> str:
    """As a person would write it: 1.0 of a spreadsheet is 1."""
    if isinstance(value, bool | int | float) and value in (0, 1):
        return str(int(value))
    text = "" if value is None else str(value).strip()
    return {"1.0": "1", "0.0": "0"}.get(text, text)


def _ending(flag: str, path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise InputError(f"{flag} {path}", f"a file that ends in {' or '.join(SUFFIXES)}")
