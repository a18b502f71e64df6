"""The report of a verdict as text and in headless Chromium: what it says, what it escapes, what is missing."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_report_browser import DRAWN, TOO_WIDE

import report_verdict as made
from heartstrings.core.errors import InputError
from heartstrings.report import render_overview, render_verdict
from heartstrings.report._costs import panels
from heartstrings.report._dose import dose_ticks
from heartstrings.report._numbers import interval, points, share
from heartstrings.stats.estimate import Estimate
from report_browser import Browser
from report_reader import Reader


class Page(Reader):
    """A written report."""

    def __init__(self, path: Path) -> None:
        self.raw = path.read_text(encoding="utf-8")
        super().__init__(self.raw)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    @property
    def figures(self) -> dict[str, dict[str, object]]:
        found = re.search(r'id="figures-data">(.*?)</script>', self.raw, re.S)
        assert found is not None
        return dict(json.loads(found[1])["figures"])


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("verdicts")
    full, hostile = made.full(root / "full"), made.full(root / "hostile", evil=True)
    bare = made.folder(root / "bare", made.verdict(made.bare(), organism=None), with_plan=False)
    partial = made.folder(root / "partial", made.verdict(made.card(), made.bare()))
    empty = made.folder(root / "empty", made.verdict(organism=None), with_plan=False)
    inert = made.card("calm", gain=0.02, model="organism:inert", answer="encoded, does not control")
    other = made.folder(root / "inert #1", made.verdict(inert, organism="inert"))
    written = {path.name: render_verdict(path) for path in (full, hostile, bare, partial, empty, other)}
    return written | {"overview": render_overview([full, other, empty], root / "report.html")}


def test_the_answer_comes_first(pages: dict[str, Path]) -> None:
    text = Page(pages["full"]).text
    answer = text.index("desperate ● controls −0.6 to 0.3 +38 [+33, +43] .049 12\u2009840".replace("\u2009", " "))
    for later in ("Known truth: emotion is encoded, and steers behaviour", "Dose and response", "What it costs"):
        assert text.index(later) > answer
    assert "not a language model of any use" in text
    assert "Found: desperate: controls; calm: controls." in text


def test_says_every_part(pages: dict[str, Path]) -> None:
    page = Page(pages["full"])
    for words in (
        "Why no effect? desperate on choice Another layer?",
        "Against control directions", "Prompt by prompt", "Which layer", "What it writes", "Everything tested",
        "What these samples can tell", "The plan", made.plan().hash, "12% [6%, 26%] of prompts move against",
        "the least coherent", "Limit: a drop of 5 points.", "Limit: a rise of 0.5 nats a token.", "slope within 0.2",
        "Emotion is encoded: component 1", "These samples can detect", "log-perplexity 3.30", "harm rise 5 points",
    ):  # fmt: skip
        assert words in page.text.replace("\u00a0", " "), words
    assert ("a", {"href": "atlas/report.html"}) in page.elements
    titles = json.dumps(page.figures, ensure_ascii=False)
    assert "dose (fraction of the mean residual norm)" in titles


def test_every_axis_is_named_and_every_figure_described(pages: dict[str, Path]) -> None:
    page = Page(pages["full"])
    for key, spec in page.figures.items():
        for view in spec["views"]:  # type: ignore[attr-defined]
            assert view["layout"]["xaxis"]["title"]["text"], key
            named = view["layout"]["yaxis"].get("title", {}).get("text") or view["layout"]["yaxis"].get("ticktext")
            assert named or view["data"][0]["type"] == "heatmap", key
    plots = [attributes for _, attributes in page.elements if attributes.get("class") == "plot"]
    assert len(plots) == len(page.figures) > 20
    assert all(len(plot["aria-label"] or "") > 30 for plot in plots)


def test_intervals_and_controls_are_drawn_from_the_verdict(pages: dict[str, Path]) -> None:
    card = made.card()
    first, second, _ = Page(pages["full"]).figures["dose-0"]["views"]  # type: ignore[misc]
    line = next(trace for trace in first["data"] if trace.get("name") == "desperate")
    assert line["y"] == pytest.approx([point.estimate.value for point in card.curve.points])
    ends = [point.estimate.high for point in card.curve.points]
    assert [y + up for y, up in zip(line["y"], line["error_y"]["array"], strict=True)] == pytest.approx(ends)
    names = [trace.get("name") for trace in first["data"]]
    assert {"random (40)", "span (40)", "shuffled (40)", "asked, instruct", "usable range"} <= set(names)
    assert {"x0": -0.6, "x1": 0.3}.items() <= first["layout"]["shapes"][0].items()
    inside = next(trace for trace in second["data"] if trace.get("name") == "desperate")
    assert max(map(abs, inside["x"])) == 0.2


def test_costs_hold_each_gate_against_its_limit() -> None:
    found = {panel.title: panel for panel in panels(made.card())}
    assert found["Accuracy, all questions"].edge == pytest.approx(-5.0)
    assert found["Rate of harmful answers"].edge == pytest.approx(2.0)
    assert found["Log-perplexity"].edge == pytest.approx(0.5)
    assert found["Valid answers (choice)"].edge == pytest.approx(-10.0)
    assert found["Tone (stories)"].edge is None
    assert found["Accuracy of sums"].edge is None
    states = {point.dose: point.state for point in found["Accuracy, all questions"].points}
    assert states[1.5] == "fails"
    assert states[0.2] == "holds"
    assert found["Ends properly"].points[0].n == 60


@pytest.mark.parametrize("name", ["full", "hostile", "bare", "partial", "empty", "overview"])
def test_loads_nothing_and_runs_nothing_from_outside(pages: dict[str, Path], name: str) -> None:
    page = Page(pages[name])
    assert "default-src 'none'" in page.raw
    for tag, attributes in page.elements:
        assert tag not in ("img", "iframe", "object", "embed"), tag
        assert not any(key.startswith("on") for key in attributes), attributes
        for key in ("src", "href"):
            assert not (attributes.get(key) or "").startswith(("http", "//", "javascript")), attributes
    assert sum(tag == "script" for tag, _ in page.elements) == 4


def test_plot_labels_cannot_be_markup(pages: dict[str, Path]) -> None:
    page = Page(pages["hostile"])
    assert page.text.count("onerror") > 5
    plots = json.dumps(page.figures)
    assert "<img" not in plots
    assert "<script" not in plots
    assert "&lt;" in plots


def test_missing_is_said_and_never_zero(pages: dict[str, Path]) -> None:
    page = Page(pages["bare"])
    assert "calm ? inconclusive – – – 0" in page.text
    for words in (
        "calm: no curve.", "No costs.", "No limits.", "No controls.", "calm: no slopes by prompt.",
        "No choice of layer.", "No distances.", "No calibration.", "No other choices.",
        "No texts.", "No asking in words.", "There is no plan.json in this run.",
        "choice: no samples of calm", "about 40 more scenarios", "The atlas's sentence is not in this folder.",
    ):  # fmt: skip
        assert words in page.text, words
    assert page.figures == {}
    assert "+0" not in page.text
    assert "[0" not in page.text
    empty = Page(pages["empty"]).text
    assert "nothing was tested" in empty
    assert "Known truth" not in empty


def test_another_plan_is_not_shown(tmp_path: Path) -> None:
    folder = made.folder(tmp_path / "run", made.verdict(made.bare(), plan_hash="0" * 64))
    content = {"hash": made.plan().hash, "plan": made.plan().model_dump(mode="json")}
    (folder / "plan.json").write_text(json.dumps(content))
    text = Page(render_verdict(folder)).text
    assert "the hashes differ" in text
    assert "slope within 0.2" not in text


def test_overview_sets_answers_beside_the_known_truth(pages: dict[str, Path]) -> None:
    page = Page(pages["overview"])
    text = page.text
    assert "calm emotion is encoded, and behaviour ignores it ○ encoded, does not control –" in text
    assert "desperate emotion is encoded, and steers behaviour ● controls −0.6 to 0.3" in text
    assert "empty: no answer." in text
    assert ("a", {"href": "inert%20%231/report.html"}) in page.elements
    assert len(page.figures) == 3


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no verdict\.json"):
        render_verdict(tmp_path)
    (tmp_path / "verdict.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read"):
        render_verdict(tmp_path)
    newer = made.verdict(made.bare(), schema_version=3)
    (tmp_path / "verdict.json").write_text(newer.model_dump_json())
    with pytest.raises(InputError, match="schema version 3"):
        render_verdict(tmp_path)
    with pytest.raises(InputError, match="no verdicts"):
        render_overview([], tmp_path / "report.html")


def test_the_same_verdict_gives_the_same_bytes(pages: dict[str, Path]) -> None:
    before = pages["full"].read_bytes()
    assert render_verdict(pages["full"].parent).read_bytes() == before


def test_needs_no_torch(pages: dict[str, Path]) -> None:
    code = (
        "import sys; from heartstrings.report import render_verdict; render_verdict(sys.argv[1]);"
        "sys.exit(bool({'torch', 'transformers', 'statsmodels'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code, str(pages["full"].parent)], check=True, timeout=60)


def test_words() -> None:
    assert interval(Estimate(value=10.33, low=-9.456, high=0.5), digits=2) == "+10.3 [−9.46,\u00a0+0.5]"
    assert points(Estimate(value=0.384, low=-0.001, high=0.0349)) == "+38 [−0.1,\u00a0+3.5]"
    assert points(Estimate(value=-0.0001, low=None, high=None)) == "0 (no interval)"
    assert points(made.NONE) == share(made.NONE) == interval(made.NONE) == "–"
    assert share(Estimate(value=0.5, low=0.25, high=0.75)) == "50% [25%,\u00a075%]"


def test_ticks_are_tested_doses_with_room_between() -> None:
    ticks = dose_ticks(made.DOSES)["tickvals"]
    assert set(ticks) <= set(made.DOSES)
    assert {0.0, -1.5, 1.5} <= set(ticks)
    assert all(b - a >= 3.0 / 9 for a, b in itertools.pairwise(ticks))


@pytest.mark.parametrize(
    "name",
    [
        "full",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("hostile", "bare", "partial", "empty", "overview")),
    ],
)
def test_draws_cleanly_wide_and_narrow(browser: Browser, pages: dict[str, Path], name: str) -> None:
    browser.problems.clear()
    browser.look(width=1280, height=900, dark=False)
    browser.open(pages[name])
    title = browser.evaluate("document.title")
    figures = browser.evaluate(DRAWN)
    assert bool(figures) == (name not in ("bare", "empty"))
    for key, layers, marks in figures:
        assert layers > 0, f"{key} is not drawn"
        assert marks > 0 or key.startswith("reliability"), f"{key} has no marks"
    assert browser.evaluate(TOO_WIDE) == ""
    if name == "full":
        top = browser.evaluate("document.getElementById('dose-0').getBoundingClientRect().top")
        assert top < 900, "the first figure is below the first screen"
    browser.look(width=390, height=844, dark=True)
    if figures:
        browser.wait("document.querySelector('.plot .main-svg').getBoundingClientRect().width < 391")
    assert browser.evaluate(TOO_WIDE) == ""
    assert browser.problems == []
    assert browser.evaluate("document.title") == title != "broken"
