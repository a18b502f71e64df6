"""docs/gallery: a finished run that README.md quotes, line by line."""

from __future__ import annotations

import json
from pathlib import Path

from heartstrings.plan import Plan
from heartstrings.verdict.results import Verdict
from heartstrings.verdict_summary import _row

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "gallery" / "smollm2"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def squeezed(text: str) -> str:
    return " ".join(text.split())


def test_the_readme_quotes_the_run() -> None:
    verdict = Verdict.model_validate_json((FOLDER / "verdict.json").read_bytes())
    lines = [squeezed(line) for line in README.splitlines()]
    for card in verdict.answers:
        assert squeezed(" ".join([card.behaviour, *_row(card)])) in lines
    quoted = [text.text for card in verdict.answers for text in card.texts if squeezed(text.text)[:40] in squeezed(README)]
    assert len(set(quoted)) >= 3


def test_the_run_is_that_of_make_demo() -> None:
    content = json.loads((FOLDER / "plan.json").read_bytes())
    plan = Plan(**content["plan"])
    assert plan.hash == content["hash"]
    assert (plan.model, plan.suite, plan.directions) == ("smollm2", "text-quick", ("joyful", "desperate"))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "heartstrings run smollm2 --suite text-quick --emotion joyful,desperate --out demo" in makefile


def test_the_report_opens_without_network() -> None:
    page = (FOLDER / "report.html").read_text(encoding="utf-8")
    assert "<title>" in page
    assert 'src="http' not in page
    assert "joyful" in page
