"""Reports: one self-contained HTML file from an atlas or a verdict, or from several side by side."""

from __future__ import annotations

from heartstrings.report.comparison import render_comparison
from heartstrings.report.overview import render_overview
from heartstrings.report.single import render
from heartstrings.report.verdict_page import render_verdict

__all__ = ["render", "render_comparison", "render_overview", "render_verdict"]
