"""docs/gallery: a finished run on a real model, which docs/results.md quotes."""

from __future__ import annotations

import html
import json
import re
import sys
from pathlib import Path

from heartstrings.experiment.plan_files import frozen
from heartstrings.verdict.results import Verdict

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))
from results_table import both, claims, reasons, table  # noqa: E402

FOLDER = ROOT / "docs" / "gallery" / "smollm2-text"
AGAIN = ROOT / "docs" / "gallery" / "smollm2-text-seed1"
FOUR = ROOT / "docs" / "gallery" / "smollm2-text-four"
TODAY, FOUR_TODAY, CALM, WORDS = (
    ROOT / "docs" / "gallery" / name for name in ("smollm2", "smollm2-four", "smollm2-calm", "smollm2-words")
)
"""Under the rules of 30 November and after."""


def verdict(folder: Path = FOLDER) -> Verdict:
    return Verdict.model_validate_json((folder / "verdict.json").read_bytes())


def test_the_results_page_quotes_the_run() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert table(verdict()) in page
    assert reasons(verdict()) in page
    assert table(verdict(AGAIN)) in page
    assert table(verdict(FOUR)) in page
    today = verdict(TODAY)
    for part in (table(today), claims(today), reasons(today), both(verdict(), today)):
        assert part in page
    four = verdict(FOUR_TODAY)
    for part in (table(four), claims(four), both(verdict(FOUR), four)):
        assert part in page
    calm = verdict(CALM)
    assert table(calm) in page
    assert claims(calm) in page
    assert table(verdict(WORDS)) in page
    fit = verdict().doses
    assert fit is not None
    assert fit.sentence.rstrip(".") in " ".join(page.split())


def test_with_another_seed_every_declared_answer_is_the_same() -> None:
    """What docs/results.md says of the second run."""

    def answers(found: Verdict) -> dict[tuple[str, str], tuple[object, ...]]:
        return {
            (card.behaviour, card.direction): (card.answer, card.range, card.layer, (card.effect.value or 0) > 0)
            for card in found.answers
        }

    first, again = answers(verdict()), answers(verdict(AGAIN))
    assert set(again) == {(what, along) for what in ("feels", "tone") for along in ("joyful", "desperate")}
    assert again == {key: first[key] for key in again}


def test_what_was_found_on_arousal_was_declared_and_asked_again_with_another_seed() -> None:
    found = {(card.behaviour, card.direction): card.layer for card in verdict(FOUR_TODAY).answers}
    plan, (again,) = frozen(CALM), verdict(CALM).answers
    assert (plan.confirm, plan.lowers, plan.seed) == (("feels-arousal",), ("calm",), 1)
    assert (again.answer, again.layer) == ("controls", found["feels-arousal", "calm"])
    assert (again.effect.high or 0) < 0


def test_the_run_is_that_of_the_page_and_names_no_machine() -> None:
    for folder, seed in ((FOLDER, 0), (AGAIN, 1)):
        content = json.loads((folder / "plan.json").read_bytes())
        plan = frozen(folder)
        assert plan.hash == content["hash"] == verdict(folder).plan_hash
        assert plan.seed == seed
        assert (plan.model, plan.suite, plan.directions, plan.vectors) == (
            "smollm2", "text", ("joyful", "desperate"), None
        )  # fmt: skip
    for folder in (TODAY, FOUR_TODAY, CALM, WORDS):
        assert frozen(folder).hash == verdict(folder).plan_hash
    for file in (file for folder in (FOLDER, AGAIN, FOUR, TODAY, FOUR_TODAY, CALM, WORDS) for file in folder.iterdir()):
        assert "/tmp/" not in file.read_text(encoding="utf-8"), file.name
        assert "/home/" not in file.read_text(encoding="utf-8"), file.name


def test_the_report_is_complete_in_itself_and_of_the_verdict_beside_it() -> None:
    text = (TODAY / "report.html").read_text(encoding="utf-8")
    assert len(text.encode("utf-8")) < 2_000_000
    assert verdict(TODAY).plan_hash in text
    body = text.partition("<body>")[2].partition('<script type="application/json"')[0]
    assert all(card.sentence in html.unescape(body) for card in verdict(TODAY).answers)
    assert re.findall(r'(?:src|href)="(?!#|data:,")([^"]*)', text.partition('<script type="application/json"')[0]) == []
