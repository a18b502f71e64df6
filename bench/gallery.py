"""Put a finished run into docs/gallery: its plan, its verdict, and its report.

    python bench/gallery.py RUN NAME

The report is rendered again from the run's files. The atlas stays with the run, so the copy does not link to it.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

from heartstrings.report._page import write
from heartstrings.report.verdict_files import read_verdict
from heartstrings.report.verdict_page import page

GALLERY = Path(__file__).resolve().parents[1] / "docs" / "gallery"


def main() -> None:
    run, name = Path(sys.argv[1]), sys.argv[2]
    out = GALLERY / name
    out.mkdir(parents=True, exist_ok=True)
    for file in ("plan.json", "verdict.json"):
        shutil.copyfile(run / file, out / file)
    print(write(out / "report.html", page(replace(read_verdict(run), atlas=out / "atlas"))))


if __name__ == "__main__":
    main()
