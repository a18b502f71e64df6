"""The plotly.js inside the reports: the published file, every trace type that they use, and reports under 2 MB."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from importlib import resources
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs_version
from test_report_verdict import Page

import report_atlas
import report_verdict as made
from heartstrings.report import render, render_comparison, render_overview, render_verdict
from heartstrings.report._page import plotly_js

STATIC = resources.files("heartstrings.report") / "static"
RECORD = json.loads((STATIC / "plotly.json").read_text(encoding="utf-8"))
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("plotly")
    atlas, run = report_atlas.full(root / "atlas"), made.full(root / "run")
    return [
        render(atlas), render_verdict(run), render_comparison([atlas, atlas], root / "atlases.html"),
        render_overview([run, run], root / "runs.html"),
    ]  # fmt: skip


def test_the_file_is_the_published_one() -> None:
    content = (STATIC / RECORD["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == RECORD["sha256"]
    assert f"v{RECORD['version']}\n" in content[:300].decode()
    assert "Permission is hereby granted, free of charge" in (STATIC / "plotly-LICENSE").read_text(encoding="utf-8")


def test_it_reads_what_the_installed_plotly_py_writes() -> None:
    """plotly.py writes JSON for the plotly.js that it contains; our build must be of the same major version."""
    assert RECORD["version"].split(".")[0] == get_plotlyjs_version().split(".")[0]


def trace_types(page: Path) -> set[str]:
    figures = Page(page).figures
    return {one.get("type", "scatter") for spec in figures.values() for view in spec["views"] for one in view["data"]}  # type: ignore[attr-defined]


def test_it_has_every_trace_type_that_the_reports_use(pages: list[Path]) -> None:
    """Each trace module in the file states its own name."""
    there = set(re.findall(r'moduleType:"trace",name:"([a-z0-9]+)"', plotly_js()))
    used = set.union(*map(trace_types, pages))
    assert used == {"scatter", "heatmap", "histogram"}
    assert used <= there
    assert not there & {"scatter3d", "choropleth", "sankey"}, "the partial build, not the whole library"


def test_a_report_is_small(pages: list[Path]) -> None:
    for page in pages:
        assert page.stat().st_size < 1_100_000, page
    assert len(gzip.compress(plotly_js().encode())) < 520_000
    assert (ROOT / "docs" / "gallery" / "smollm2" / "report.html").stat().st_size < 2_000_000
