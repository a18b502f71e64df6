"""The report as text: what it says, what it escapes, how it is written."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

import report_atlas
from heartstrings.core.errors import InputError
from heartstrings.geometry.results import Correlation
from heartstrings.report import _page as page_module
from heartstrings.report import _palette as palette
from heartstrings.report import render, render_comparison
from heartstrings.report._depth import critical_r
from heartstrings.report._labels import place_labels
from heartstrings.report._numbers import correlation, layer_ranges, number, p_value
from heartstrings.report._page import json_for_script
from heartstrings.report._sources import read_atlas
from heartstrings.report.comparison import linear_cka
from report_reader import Reader


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report_atlas.full(tmp_path_factory.mktemp("report") / "planted")


@pytest.fixture(scope="module")
def text(atlas: Path) -> str:
    return render(atlas).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report_atlas.full(tmp_path_factory.mktemp("report") / "evil", evil=True)


def test_says_every_part(text: str, atlas: Path) -> None:
    said = " ".join(Reader(text).words)
    geometry = read_atlas(atlas).geometry
    assert geometry.sentence.split(". ")[0] in said
    for word in ("The plane of the emotions", "By depth", "On which component", "Layer by layer", "Across layers",
                 "Emotions that lie together", "Read from texts held out", "Which words the vectors raise",
                 "The texts", "Provenance", "Nothing here says what a model feels"):  # fmt: skip
        assert word in said
    for row in geometry.layers:
        assert correlation(row.pc1_valence) in said
    assert "emotion word: 2" in re.sub(r"\s+", " ", said)


def test_loads_nothing_from_outside(text: str) -> None:
    """No element names an address; only the anchors of the page itself and an empty icon."""
    for tag, attributes in Reader(text).elements:
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith("#") or value == "data:,", (tag, value)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_scripts_are_named_by_hash(text: str) -> None:
    """The page's own script, and plotly.js, which that script unpacks."""
    policy = next(a["content"] for t, a in Reader(text).elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "unsafe-inline" not in policy.split("style-src")[0]
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    packed = re.findall(r'<script type="application/gzip" id="plotly-data">(.*?)</script>', text, flags=re.DOTALL)
    assert len(scripts) == len(packed) == 1
    for script in (*scripts, gzip.decompress(base64.b64decode(packed[0])).decode("utf-8")):
        assert page_module._hash(script) in policy
    assert policy.count("sha256-") == 2


def test_figures_have_words_for_those_who_cannot_see_them(text: str) -> None:
    plots = [a for _, a in Reader(text).elements if a.get("class") == "plot"]
    assert len(plots) >= 10
    assert all(plot.get("role") == "img" and len(plot.get("aria-label") or "") > 20 for plot in plots)
    tables = sum(tag == "table" for tag, _ in Reader(text).elements)
    assert tables == sum(tag == "caption" for tag, _ in Reader(text).elements)


def test_hostile_names_stay_text(hostile: Path, tmp_path: Path) -> None:
    text = render(hostile).read_text(encoding="utf-8")
    assert "</script><script>document" not in text
    assert "<img" not in text
    elements = [tag for tag, _ in Reader(text).elements]
    assert elements.count("script") == 4
    assert "b" not in elements
    assert not any(name.startswith("on") for _, attributes in Reader(text).elements for name in attributes)
    both = render_comparison([hostile, hostile], tmp_path / "both.html").read_text(encoding="utf-8")
    assert "<img" not in both


def test_plot_labels_cannot_be_markup_or_templates(hostile: Path) -> None:
    """Plotly reads a little HTML in labels, so names reach it escaped."""
    text = render(hostile).read_text(encoding="utf-8")
    data = re.search(r'id="figures-data">(.*?)</script>', text, flags=re.DOTALL)
    assert data
    figures = json.dumps(json.loads(data.group(1)), ensure_ascii=False)
    assert "<img" not in figures
    assert "<script" not in figures
    assert "<b>" not in figures
    assert "&lt;b&gt;bold" in figures


def test_missing_parts_are_named_with_their_reason(tmp_path: Path) -> None:
    text = render(report_atlas.imported(tmp_path / "imported")).read_text(encoding="utf-8")
    said = " ".join(Reader(text).words)
    for words in ("No story properties to test against.", "No held-out readout.", "No logit lens.", "One layer only.",
                  "The stories are not here."):  # fmt: skip
        assert words in said
    assert "stories pooled" not in said
    assert "Families mistaken" not in said


def test_damaged_parts_are_said_to_be_damaged(tmp_path: Path, atlas: Path) -> None:
    folder = Path(shutil.copytree(atlas, tmp_path / "a"))
    (folder / "readout.json").write_text("{")
    (folder / "vectors" / "from50" / "vectors.safetensors").write_bytes(b"nothing")
    said = " ".join(Reader(render(folder).read_text(encoding="utf-8")).words)
    assert "readout.json cannot be read" in said
    assert "The bundle of vectors cannot be used" in said


def test_refusals(tmp_path: Path, atlas: Path) -> None:
    with pytest.raises(InputError, match="no atlas folder"):
        render(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no geometry\.json"):
        render(tmp_path / "empty")
    (tmp_path / "empty" / "geometry.json").write_text('{"schema_version": 99}')
    with pytest.raises(InputError, match="schema version 1"):
        render(tmp_path / "empty")
    with pytest.raises(InputError, match="no atlas to compare"):
        render_comparison([], tmp_path / "x.html")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "geometry.json"]


def test_a_failed_write_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "report.html"
    page_module.write(target, "old")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page_module.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        page_module.write(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_same_atlas_gives_the_same_bytes(atlas: Path) -> None:
    assert render(atlas).read_bytes() == render(atlas).read_bytes()


def test_comparison_links_labels_and_truth(tmp_path: Path) -> None:
    first = report_atlas.full(tmp_path / "one" / "a", name="organism:steerable")
    second = report_atlas.full(tmp_path / "one" / "b", name="organism:blank", encoded=False)
    render(first)
    page = render_comparison([first, second], tmp_path / "both.html").read_text(encoding="utf-8")
    reader = Reader(page)
    links = [attributes.get("href") for tag, attributes in reader.elements if tag == "a"]
    assert "one/a/report.html" in links
    assert "one/b/report.html" not in links
    said = " ".join(reader.words)
    assert "emotion is not encoded" in said
    assert "says nothing of a large model" in said
    assert "organism:blank" in said


def test_organism_notice_stands_beside_the_answer(tmp_path: Path) -> None:
    folder = report_atlas.full(tmp_path / "inert", name="organism:inert")
    said = re.sub(r"\s+", " ", " ".join(Reader(render(folder).read_text(encoding="utf-8")).words))
    assert "Known truth: emotion is encoded, and behaviour ignores it. Found: encoded." in said


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.834, ".83"), (-0.051, "−.05"), (1.0, "1.00"), (-0.001, ".00"), (None, "–"), (float("nan"), "–")],
)
def test_number(value: float | None, written: str) -> None:
    assert number(value) == written


def test_words() -> None:
    assert correlation(Correlation(r=0.834, low=0.7, high=0.9, n=40)) == ".83 [.70, .90]"
    assert correlation(Correlation(r=0.5, low=None, high=None, n=3)) == ".50"
    assert correlation(Correlation(r=None, low=0.1, high=0.2, n=0)) == "–"
    assert p_value(1 / 2001) == ".0005"
    assert p_value(0.0421) == ".042"
    assert layer_ranges([0, 1, 2, 5], [0, 1, 2, 3, 5]) == "0 to 2, 5"
    assert layer_ranges([8, 14, 22], [8, 14, 18, 22]) == "8 to 14, 22"


def test_templates_escape_all_but_their_own_markup() -> None:
    macros = page_module._environment().get_template("macros.html").make_module({"page": page_module.Page()})
    said = str(macros.row(["<b>", macros.chip("●", "<i>", 'x" onclick="y'), 1], (2,)))  # type: ignore[attr-defined]
    assert '<th scope="row">&lt;b&gt;</th>' in said
    assert '<span class="chip x&#34; onclick=&#34;y"><span aria-hidden="true">●</span> &lt;i&gt;</span>' in said
    assert '<td class="number">1</td>' in said
    assert "<" not in json_for_script(["</script>", "<!--"])
    assert json.loads(json_for_script({"a": "</script><!-- \u2028"})) == {"a": "</script><!-- \u2028"}


def test_a_template_cannot_name_what_is_not_there() -> None:
    with pytest.raises(UndefinedError, match="'files' is undefined"):
        page_module.render_page("verdict.html", {})


def test_a_tables_label_is_the_first_sentence_of_its_caption() -> None:
    label = page_module._label
    assert label("n = 5. More.") == "Table: n = 5"
    assert label(Markup("a &lt; b\nand c. More.")) == "Table: a < b and c"
    assert label("x" * 200) == "Table: " + "x" * 120


def test_critical_r_is_that_of_the_null() -> None:
    """Against brute force: about 5% of unrelated samples of 60 exceed it."""
    limit = critical_r(60)
    assert limit is not None
    x, y = np.random.default_rng(0).normal(size=(2, 4000, 60))
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    r = (x * y).sum(1) / np.sqrt((x**2).sum(1) * (y**2).sum(1))
    assert 0.04 < (np.abs(r) > limit).mean() < 0.06


def test_linear_cka_against_its_definition() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(20, 7)), rng.normal(size=(20, 4))
    centre = np.eye(20) - 1 / 20
    gram_a, gram_b = centre @ a @ a.T @ centre, centre @ b @ b.T @ centre
    naive = np.trace(gram_a @ gram_b) / np.sqrt(np.trace(gram_a @ gram_a) * np.trace(gram_b @ gram_b))
    assert linear_cka(a, b) == pytest.approx(naive)
    assert linear_cka(a, 3 * a @ np.linalg.qr(rng.normal(size=(7, 7)))[0]) == pytest.approx(1)


def test_labels_never_overlap() -> None:
    points = np.random.default_rng(2).normal(size=(120, 2))
    words = [f"emotion{i}" for i in range(120)]
    sides = place_labels(points, words, width=900.0, height=500.0, most=50)
    assert 20 <= len(sides) <= 50
    low, span = points.min(0), np.ptp(points, axis=0)
    pixels = ((points - low) / span * 0.84 + 0.08) * np.array([900, 500])
    boxes = []
    for index, side in sides.items():
        x, y, wide = *pixels[index], 6.7 * len(words[index])
        left = {"middle right": x + 6.5, "middle left": x - 6.5 - wide}.get(side, x - wide / 2)
        bottom = {"top center": y + 4.5, "bottom center": y - 18.5}.get(side, y - 7)
        boxes.append((left, bottom, left + wide, bottom + 14))
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            assert a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3]


def test_every_light_colour_has_one_dark_partner() -> None:
    lights = [light for light, _ in palette.ALL.values()]
    assert len(set(lights)) == len(lights)


@pytest.mark.parametrize("which", [0, 1])
def test_text_colours_stand_out(which: int) -> None:
    """WCAG AA: 4.5 to 1 for every colour that words are written in."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    paper = luminance(palette.PAPER[which])
    for name in ("ink", "soft", "link", "valence", "arousal", "purple", "green", "grey"):
        other = luminance(palette.ALL[name][which])
        ratio = (max(paper, other) + 0.05) / (min(paper, other) + 0.05)
        assert ratio >= 4.5, (name, ratio)
