"""docs/gallery: a finished run on a real model, which docs/results.md quotes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from heartstrings.plan import Plan
from heartstrings.verdict.results import Verdict

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bench"))
from results_table import reasons, table  # noqa: E402

FOLDER = ROOT / "docs" / "gallery" / "smollm2-text"


def verdict() -> Verdict:
    return Verdict.model_validate_json((FOLDER / "verdict.json").read_bytes())


def test_the_results_page_quotes_the_run() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert table(verdict()) in page
    assert reasons(verdict()) in page


def test_the_run_is_that_of_the_page_and_names_no_machine() -> None:
    content = json.loads((FOLDER / "plan.json").read_bytes())
    plan = Plan(**content["plan"])
    assert plan.hash == content["hash"] == verdict().plan_hash
    assert (plan.model, plan.suite, plan.directions, plan.vectors) == (
        "smollm2", "text", ("joyful", "desperate"), None
    )  # fmt: skip
    for file in FOLDER.iterdir():
        assert "/tmp/" not in file.read_text(encoding="utf-8"), file.name
        assert "/home/" not in file.read_text(encoding="utf-8"), file.name
