"""Claims in the report: a row each, in their order, with what is not there left empty."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_verdict_claims import asked, small

from heartstrings.report import render_verdict
from verdict_worlds import World, judge


def shown(tmp_path: Path, world: World) -> str:
    verdict = judge(world, asked())
    (tmp_path / "verdict.json").write_text(verdict.model_dump_json(), encoding="utf-8")
    return render_verdict(tmp_path).read_text(encoding="utf-8")


@pytest.fixture
def section(tmp_path: Path) -> str:
    world = World(effect={"desperate": 0.4}, mixture=0.5, others=small(), stripped={"desperate": 0.2})
    page = shown(tmp_path, world)
    return page.partition("What the effect exceeds</h2>")[2].partition("</section>")[0]


def test_every_claim_has_a_row_in_order(section: str) -> None:
    words = ["not just any push", "text varies anyway", "random mixtures", "other families", "without its valence"]
    places = [section.index(word) for word in words]
    assert places == sorted(places)
    assert section.count(">shown<") == 2
    assert section.count(">not shown<") == 1
    assert section.count(">not reached<") == 2
    assert ">1 of 41<" in section, "the rank among other emotions"


def test_a_verdict_without_claims_has_no_such_section(tmp_path: Path) -> None:
    verdict = judge(World(effect={"desperate": 0.4}))
    bare = verdict.model_copy(
        update={"answers": tuple(card.model_copy(update={"claims": ()}) for card in verdict.answers)}
    )
    (tmp_path / "verdict.json").write_text(bare.model_dump_json(), encoding="utf-8")
    assert "What the effect exceeds" not in render_verdict(tmp_path).read_text(encoding="utf-8")
