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

    def harmless(one: str) -> bool:
        return one in "\n\t" or (unicodedata.category(one) not in ("Cc", "Cs") and one not in _TURNS)

    return "".join(one if harmless(one) else "·" for one in text)


_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def _read() -> str | None:
    """One answer in small letters; None at the end of the input."""
    console.err.print(f"{KEYS}: ", end="", markup=False, highlight=False)
    line = sys.stdin.readline()
    return line.strip().lower() if line else None


def tell(found: Grading, given: Given, json: bool) -> None:
    """How far the grading is; once all is graded, the agreement with the automatic grades."""
    session = found.session
    if found.exported is not None:
        _tell_of_export(given["export_file"], found.exported, json)
        return
    if json:
        agreement = None if found.agreement is None else [one.model_dump() for one in found.agreement]
        console.emit_json({
            "behaviour": session.sheet.behaviour.name, "grader": session.grader, "graded": session.graded,
            "of": session.total, "agreement": agreement, "file": str(found.file),
        })  # fmt: skip
        return
    if found.agreement is None:
        console.say(
            f"{session.graded} of {session.total} texts are graded. The same command goes on; how far the grades agree "
            "is shown when all are done, as knowing it would move the next grade."
        )
    else:
        _table(found.agreement, session)
        console.say(f"With these grades the verdict is made again by: heartstrings verdict {session.folder}")
    console.out.print(str(found.file), highlight=False)


def _tell_of_export(path: Path, written: int, json: bool) -> None:
    if json:
        console.emit_json({"file": str(path), "texts": written})
        return
    console.say(f"{written} texts. Fill in the column grade with 1, 0, u or s, and read it with --import")
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
