"""The report in headless Chromium: no errors, nothing fetched, every figure drawn, nothing wider than a telephone."""

from __future__ import annotations

from pathlib import Path

import pytest

import report_atlas
from heartstrings.report import render, render_comparison
from heartstrings.report._palette import GRID, PAPER
from heartstrings.report._style import AXIS, FONT
from report_browser import Browser

DRAWN = """
[...document.querySelectorAll('.plot')].map(box => [
  box.id,
  box.querySelectorAll('svg.main-svg').length,
  box.querySelectorAll('.scatterlayer .points path, .scatterlayer .js-line, .heatmaplayer image').length,
])
"""
TOO_WIDE = """
document.documentElement.scrollWidth > innerWidth
  ? [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)
      .map(e => e.tagName + '.' + e.className).slice(0, 5).join(', ') || 'the page'
  : ''
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pages")
    full = report_atlas.full(root / "full")
    blank = report_atlas.full(root / "blank", name="organism:blank", encoded=False)
    return {
        "full": render(full),
        "hostile": render(report_atlas.full(root / "hostile", evil=True)),
        "imported": render(report_atlas.imported(root / "imported")),
        "comparison": render_comparison([full, blank], root / "report.html"),
    }


@pytest.mark.parametrize(
    "name", ["full", *(pytest.param(name, marks=pytest.mark.slow) for name in ("hostile", "imported", "comparison"))]
)
def test_draws_cleanly_in_every_setting(browser: Browser, pages: dict[str, Path], name: str) -> None:
    browser.problems.clear()
    browser.look(width=1280, height=900, dark=False)
    browser.open(pages[name])
    title = browser.evaluate("document.title")
    figures = browser.evaluate(DRAWN)
    assert len(figures) >= 2
    for key, layers, marks in figures:
        assert layers > 0, f"{key} is not drawn"
        assert marks > 0, f"{key} has no marks"
    assert browser.evaluate(TOO_WIDE) == ""
    browser.look(width=390, height=844, dark=True)
    browser.wait("document.querySelector('.plot .main-svg').getBoundingClientRect().width < 391")
    browser.wait("getComputedStyle(document.body).backgroundColor !== 'rgb(252, 252, 250)'")
    assert browser.evaluate(TOO_WIDE) == ""
    assert browser.problems == []
    assert browser.evaluate("document.title") == title != "broken"


def test_plots_follow_the_colour_scheme(browser: Browser, pages: dict[str, Path]) -> None:
    colour = "[...document.querySelectorAll('#depth-valence .js-line')].map(e => getComputedStyle(e).stroke).join()"
    browser.look(width=1280, height=900, dark=False)
    browser.open(pages["full"])
    light = browser.evaluate(colour)
    browser.look(width=1280, height=900, dark=True)
    browser.wait(f"{colour} !== {light!r}")
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == _rgb(PAPER[1])


def test_what_all_plots_share_is_filled_in_under_their_own_values(browser: Browser, pages: dict[str, Path]) -> None:
    browser.look(width=1280, height=900, dark=False)
    browser.open(pages["full"])
    box = "document.getElementById('depth-valence')"
    assert browser.evaluate(f"{box}._fullLayout.xaxis.gridcolor") == GRID[0]
    assert browser.evaluate(f"{box}._fullLayout.xaxis.title.font.size") == AXIS["title"]["font"]["size"]
    assert browser.evaluate(f"{box}._fullLayout.hoverlabel.font.family") == FONT
    assert browser.evaluate(f"{box}._fullLayout.margin.t") == 30
    assert browser.evaluate("document.getElementById('map')._fullLayout.margin.t") == 8, "the plot's own"
    browser.look(width=1280, height=900, dark=True)
    browser.wait(f"{box}._fullLayout.xaxis.gridcolor === '{GRID[1]}'")


def test_a_browser_that_cannot_unpack_the_library_says_so(browser: Browser, pages: dict[str, Path]) -> None:
    source = {"source": "delete window.DecompressionStream"}
    script = browser.call("Page.addScriptToEvaluateOnNewDocument", source)["identifier"]
    browser.problems.clear()
    browser.call("Page.navigate", {"url": pages["full"].resolve().as_uri()})
    browser.wait("document.documentElement?.dataset.drawn === 'no'")
    said = browser.evaluate("document.querySelector('main > .missing').textContent")
    assert "need a newer browser (DecompressionStream is not defined)" in said
    browser.call("Page.removeScriptToEvaluateOnNewDocument", {"identifier": script})
    assert browser.problems == []


def test_buttons_change_the_view(browser: Browser, pages: dict[str, Path]) -> None:
    browser.look(width=1280, height=900, dark=False)
    browser.open(pages["full"])
    title = "document.querySelector('#map .xtitle').textContent"
    assert "component" in browser.evaluate(title)
    browser.evaluate("document.querySelectorAll('button[data-target=map]')[1].click()")
    browser.wait(f"{title}.includes('rated valence')")
    pressed = (
        "[...document.querySelectorAll('button[data-target=map]')].map(b => b.getAttribute('aria-pressed')).join()"
    )
    assert browser.evaluate(pressed).startswith("false,true")


def test_the_test_can_fail(browser: Browser, tmp_path: Path) -> None:
    """A page with an error, an outside picture and a wide box is caught on all three counts."""
    page = tmp_path / "bad.html"
    page.write_text(
        "<!doctype html><html data-drawn=yes><body><div style='width:900px'>wide</div>"
        "<script>setTimeout(() => { throw new Error('no') }); console.error('bad');"
        "new Image().src = 'http://127.0.0.1:9/x.png'</script>"
    )
    browser.problems.clear()
    browser.look(width=390, height=844, dark=False)
    browser.open(page)
    assert browser.evaluate("new Promise(done => setTimeout(() => done(true), 300))")
    kinds = {problem.split(":")[0] for problem in browser.problems}
    assert {"exception", "console error", "request"} <= kinds
    assert browser.evaluate(TOO_WIDE) != ""
    browser.problems.clear()


def _rgb(colour: str) -> str:
    return "rgb({}, {}, {})".format(*(int(colour[i : i + 2], 16) for i in (1, 3, 5)))
