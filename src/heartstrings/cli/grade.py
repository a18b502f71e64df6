"""The verb of hand grading: one text at a time, blind, or a file to be graded elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heartstrings import experiment, verdict
from heartstrings.cli import console
from heartstrings.cli.flags import Config, Json
from heartstrings.cli.verdict_summary import rate
from heartstrings.core.errors import InputError

if TYPE_CHECKING:
    from heartstrings.experiment.hand_grades import Session, Text
    from heartstrings.verdict.results import Agreement

KEYS = "1, 0, u (unclear), s (skip), b (back), q (quit)"


def grade(
    folder: Annotated[Path, typer.Argument(help="Folder of a run or an evaluation, finished or not.")],
    behaviour: Annotated[str | None, typer.Option(help="Whose texts. Default: the only one with texts.")] = None,
    n: Annotated[int, typer.Option("--n", help="Texts to grade in all, those of earlier sessions included.")] = 100,
    grader: Annotated[str, typer.Option(help="Your name or initials.")] = "hand",
    import_file: Annotated[
        Path | None, typer.Option("--import", help="CSV or JSONL with key and grade, from --export.")
    ] = None,
    export_file: Annotated[
        Path | None, typer.Option("--export", help="CSV or JSONL to write the texts to, for grading elsewhere.")
    ] = None,
    json: Json = False,
    config: Config = None,
) -> int:
    """Grade a run's texts by hand, without seeing dose or automatic grade; then see how the two agree. Resumable."""
    if import_file is not None and export_file is not None:
        raise InputError("--import and --export together", "one of them")
    sheet = experiment.open_sheet(folder, behaviour)
    session = experiment.Session(folder, sheet, grader=grader, n=n)
    if export_file is not None:
        written = experiment.export_texts(export_file, session)
        _tell_of_export(export_file, written, json=json)
        return 0
    with experiment.writing(folder):
        session = experiment.Session(folder, sheet, grader=grader, n=n)  # a crash's last line is gone by now
        if import_file is not None:
            session.take(experiment.read_elsewhere(import_file, sheet))
        else:
            _ask(session)
    _tell(session, json=json)
    return 0


def _ask(session: Session) -> None:
    """Until all is graded, or the person has had enough."""
    if session.current is None:
        return
    console.say(session.sheet.question)
    while (text := session.current) is not None:
        _show(text, session)
        while (word := _read()) not in experiment.ANSWERS:
            if word in ("q", "quit", None):
                return
            if word not in ("b", "back"):
                console.say(f"{word!r} is none of {KEYS}")
            elif session.back():
                break
            else:
                console.say("This is the first text.")
        else:
            session.say(experiment.ANSWERS[word])


def _show(text: Text, session: Session) -> None:
    console.err.rule(f"text {session.position} of {session.total}")
    for title, words in (("Asked", text.asked), ("Answered", text.answered)):
        console.err.print(f"{title}:", style="bold")
        console.err.print(experiment.plain(words), markup=False, highlight=False, emoji=False)
        console.err.print()


def _read() -> str | None:
    """One answer in small letters; None at the end of the input."""
    console.err.print(f"{KEYS}: ", end="", markup=False, highlight=False)
    line = sys.stdin.readline()
    return line.strip().lower() if line else None


def _tell_of_export(path: Path, written: int, *, json: bool) -> None:
    if json:
        console.emit_json({"file": str(path), "texts": written})
        return
    console.say(f"{written} texts. Fill in the column grade with 1, 0, u or s, and read it with --import")
    console.out.print(str(path), highlight=False)


def _tell(session: Session, *, json: bool) -> None:
    """Where it stands; once all is graded, the agreement with the automatic grades."""
    path, done = session.folder / experiment.FILE, not session.left
    found: Sequence[Agreement] = (
        verdict.agreements(session.sheet.samples.values(), experiment.decided(session.folder) or {}) if done else ()
    )
    if json:
        console.emit_json({
            "behaviour": session.sheet.behaviour.name, "grader": session.grader, "graded": session.graded,
            "of": session.total, "agreement": [one.model_dump() for one in found] if done else None, "file": str(path),
        })  # fmt: skip
        return
    if not done:
        console.say(
            f"{session.graded} of {session.total} texts are graded. The same command goes on; how far the grades agree "
            "is shown when all are done, as knowing it would move the next grade."
        )
    else:
        _table(found, session)
        console.say(f"With these grades the verdict is weighed by: heartstrings verdict {session.folder}")
    console.out.print(str(path), highlight=False)


def _table(found: Sequence[Agreement], session: Session) -> None:
    rows = [
        [one.side, str(one.n), str(one.both), str(one.hand_only), str(one.automatic_only), str(one.neither),
         f"{one.automatic_unclear}, {one.hand_unclear}",
         *(rate(each.value, each.low, each.high) for each in (one.sensitivity, one.specificity)),
         "–" if one.kappa.value is None else f"{one.kappa.value:.2f}" if one.kappa.low is None else
         f"{one.kappa.value:.2f} [{one.kappa.low:.2f}, {one.kappa.high:.2f}]"]
        for one in found
    ]  # fmt: skip
    console.show(
        f"{session.sheet.behaviour.name}: automatic grades against hand grades",
        ["texts", "graded", "both 1", "hand 1 only", "automatic 1 only", "both 0", "unclear: automatic, hand",
         "sensitivity, %", "specificity, %", "kappa"],
        rows, caption="95% intervals over situations; kappa: Cohen's",
    )  # fmt: skip
