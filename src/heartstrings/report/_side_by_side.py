"""What reports on several folders share: names that differ, and links to the single reports."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote


def labels(names: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Names of models. Equal names get the folder's name added, and then a number if they are still equal."""
    longer = [
        name if names.count(name) == 1 else f"{name} ({folder.name})"
        for name, folder in zip(names, folders, strict=True)
    ]
    return [name if longer.count(name) == 1 else f"{name} {place}" for place, name in enumerate(longer, start=1)]


def link(report: Path, beside: Path) -> str | None:
    """Relative address of a report for a link in the file `beside`; None where it does not exist, or is that file."""
    if not report.is_file() or report.resolve() == beside.resolve():
        return None
    return quote(Path(os.path.relpath(report.resolve(), beside.resolve().parent)).as_posix())
