"""Put a finished run into docs/gallery: its plan, its verdict, and its report.

    python bench/gallery.py RUN NAME

A report carries the plotting library, which is most of its five megabytes, so that it opens without a network. The copy
in the gallery takes the same bytes from the library's own server instead, held against their checksum.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import sys
from pathlib import Path

from plotly.offline import get_plotlyjs, get_plotlyjs_version

from heartstrings.report.page import _hash, _plotly_js

GALLERY = Path(__file__).resolve().parents[1] / "docs" / "gallery"


def small(report: str) -> str:
    """A report without the library."""
    inline, policy = f"<script>{_plotly_js()}</script>", _hash(_plotly_js())
    if report.count(inline) != 1 or report.count(policy) != 1:
        raise SystemExit(
            "the report was written with another version of Plotly: render it again (heartstrings verdict)"
        )
    checksum = f"sha256-{base64.b64encode(hashlib.sha256(get_plotlyjs().encode()).digest()).decode()}"
    server = "https://cdn.plot.ly/"
    there = f"{server}plotly-{get_plotlyjs_version()}.min.js"
    script = f'<script src="{there}" integrity="{checksum}" crossorigin="anonymous"></script>'
    return report.replace(inline, script).replace(policy, f"{server} '{checksum}'")


def main() -> None:
    run, name = Path(sys.argv[1]), sys.argv[2]
    out = GALLERY / name
    out.mkdir(parents=True, exist_ok=True)
    for file in ("plan.json", "verdict.json"):
        shutil.copyfile(run / file, out / file)
    report = (run / "report.html").read_text(encoding="utf-8")
    (out / "report.html").write_text(small(report), encoding="utf-8")
    print(out)


if __name__ == "__main__":
    main()
