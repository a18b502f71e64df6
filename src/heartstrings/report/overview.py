"""Verdicts on several models side by side: the answers as a table, small multiples of dose and response."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from heartstrings.core.errors import InputError
from heartstrings.report._dose import divergence, dose_plot
from heartstrings.report._page import render_page, write
from heartstrings.report._side_by_side import labels, link
from heartstrings.report.verdict_files import VerdictFiles, read_verdict


def render_overview(folders: Sequence[str | Path], out: str | Path) -> Path:
    """Write one HTML file that sets the verdicts of several runs side by side, and return its path.

    Raises:
        InputError: no folder given, or one whose `verdict.json` cannot be read.
    """
    if not folders:
        raise InputError("no verdicts to show side by side", "at least one folder written by `heartstrings run`")
    out = Path(out)
    return write(out, page([read_verdict(folder) for folder in folders], out))


def page(runs: Sequence[VerdictFiles], out: Path) -> str:
    """The document as text; `out` is where it will be written: links to the single reports are relative to it."""
    names = labels([files.name for files in runs], [files.folder for files in runs])
    shown = []
    for number, (name, files) in enumerate(zip(names, runs, strict=True)):
        plots = [
            (card, dose_plot(f"run-{number}-{place}", card, window=files.window, plain=True))
            for place, card in enumerate(files.verdict.answers)
        ]
        shown.append((name, files, link(files.folder / "report.html", out), plots))
    return render_page("overview.html", {"runs": runs, "labels": names, "shown": shown, "divergence": divergence})
