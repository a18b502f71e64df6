"""Grading a run's texts by hand: from a function that is asked, or from files that were filled in elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heartstrings import verdict
from heartstrings.core.errors import InputError
from heartstrings.experiment.hand_grades import (
    FILE,
    Session,
    decided,
    export_texts,
    open_sheet,
    read_elsewhere,
    writing,
)

if TYPE_CHECKING:
    from heartstrings.verdict.results import Agreement


@dataclass(frozen=True)
class Grading:
    """How far grading by hand has come."""

    session: Session
    """Texts, grades and what is left."""
    exported: int | None = None
    """Texts written to a file, where that was asked for."""
    agreement: tuple[Agreement, ...] | None = None
    """Between hand grades and automatic grades. None until all texts are graded: knowing it would influence the next
    grade."""

    @property
    def file(self) -> Path:
        """Where the grades are."""
        return self.session.folder / FILE


def grade_texts(
    folder: Path,
    *,
    behaviour: str | None = None,
    n: int = 100,
    grader: str = "hand",
    import_file: Path | None = None,
    export_file: Path | None = None,
    ask: Callable[[Session], object] | None = None,
) -> Grading:
    """See `heartstrings.grade`."""
    if import_file is not None and export_file is not None:
        raise InputError("--import and --export together", "one of them")
    sheet = open_sheet(folder, behaviour)
    if export_file is not None:
        session = Session(folder, sheet, grader=grader, n=n)
        return Grading(session, exported=export_texts(export_file, session))
    with writing(folder):
        # Read under the lock: the last line of a process that was killed is gone by now.
        session = Session(folder, sheet, grader=grader, n=n)
        if import_file is not None:
            session.take(read_elsewhere(import_file, sheet))
        elif ask is not None:
            ask(session)
    if session.left:
        return Grading(session)
    return Grading(session, agreement=tuple(verdict.agreements(sheet.samples.values(), decided(folder) or {})))
