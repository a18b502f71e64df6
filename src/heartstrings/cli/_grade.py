"""Hand grading at a terminal: one text at a time, without what produced it."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from heartstrings import experiment
from heartstrings.cli import _console as console
from heartstrings.cli._summary import Given
from heartstrings.cli._verdict_summary import rate

if TYPE_CHECKING:
    from heartstrings.experiment.hand_grades import Session, Text
    from heartstrings.verdict.results import Agreement
    from heartstrings.workflows.grading import Grading

KEYS = "1, 0, u (unclear), s (skip), b (back), q (quit)"


def ask(session: Session) -> None:
    """Asks for one grade after the other, until all texts are graded or the person has had enough."""
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
        console.err.print(plain(words), markup=False, highlight=False, emoji=False)
        console.err.print()


def plain(text: str) -> str:
    """A text as a terminal may show it: a dot for what would move the cursor, change colours or turn the writing."""

    def harmless(character: str) -> bool:
        return character in "\n\t" or (unicodedata.category(character) not in ("Cc", "Cs") and character not in _TURNS)

    return "".join(character if harmless(character) else "·" for character in text)


_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def _read() -> str | None:
    """One answer in small letters; None at the end of the input."""
    console.err.print(f"{KEYS}: ", end="", markup=False, highlight=False)
    line = sys.stdin.readline()
    return line.strip().lower() if line else None


def tell(grading: Grading, given: Given, json: bool) -> None:
    """How far the grading is; once all is graded, the agreement with the automatic grades."""
    session = grading.session
    if grading.exported is not None:
        _tell_of_export(given["export_file"], grading.exported, json)
        return
    if json:
        agreements = None if grading.agreement is None else [agreement.model_dump() for agreement in grading.agreement]
        console.emit_json(
            {
                "behaviour": session.sheet.behaviour.name,
                "grader": session.grader,
                "graded": session.graded,
                "of": session.total,
                "agreement": agreements,
                "file": str(grading.file),
            }
        )
        return
    if grading.agreement is None:
        console.say(
            f"{session.graded} of {session.total} texts are graded. The same command goes on; how far the grades agree "
            "is shown when all are done, as knowing it would move the next grade."
        )
    else:
        _table(grading.agreement, session)
        console.say(f"With these grades the verdict is made again by: heartstrings verdict {session.folder}")
    console.out.print(str(grading.file), highlight=False)


def _tell_of_export(path: Path, written: int, json: bool) -> None:
    if json:
        console.emit_json({"file": str(path), "texts": written})
        return
    console.say(f"{written} texts. Fill in the column grade with 1, 0, u or s, and read it with --import")
    console.out.print(str(path), highlight=False)


def _table(agreements: Sequence[Agreement], session: Session) -> None:
    rows = [
        [agreement.side, str(agreement.n), str(agreement.both), str(agreement.hand_only),
         str(agreement.automatic_only), str(agreement.neither),
         f"{agreement.automatic_unclear}, {agreement.hand_unclear}",
         *(rate(estimate.value, estimate.low, estimate.high)
           for estimate in (agreement.sensitivity, agreement.specificity)),
         "–" if agreement.kappa.value is None else f"{agreement.kappa.value:.2f}" if agreement.kappa.low is None else
         f"{agreement.kappa.value:.2f} [{agreement.kappa.low:.2f}, {agreement.kappa.high:.2f}]"]
        for agreement in agreements
    ]  # fmt: skip
    console.show(
        f"{session.sheet.behaviour.name}: automatic grades against hand grades",
        ["texts", "graded", "both 1", "hand 1 only", "automatic 1 only", "both 0", "unclear: automatic, hand",
         "sensitivity, %", "specificity, %", "kappa"],
        rows, caption="95% intervals over situations; kappa: Cohen's",
    )  # fmt: skip
