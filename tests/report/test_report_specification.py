"""What the report draws of how an answer could have come out otherwise: every number in it is the verdict's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_report_verdict import Page

import report_verdict as made
from heartstrings.report import _palette as palette
from heartstrings.report import render_verdict
from heartstrings.report._specification import choices
from heartstrings.report._style import log_axis
from heartstrings.stats.estimate import Estimate
from heartstrings.verdict.results import Push, Specification, Verdict


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return Page(render_verdict(made.full(tmp_path_factory.mktemp("verdict") / "full")))


def plot(page: Page, key: str, view: int = 0) -> Any:
    return page.figures[key]["views"][view]  # type: ignore[index]


def trace(view: Any, name: str) -> Any:
    return next(one for one in view["data"] if one.get("name") == name)


def test_each_direction_stands_at_its_divergence(page: Page) -> None:
    card = made.card()
    view = plot(page, "distance-0")
    own = trace(view, "desperate")
    assert own["x"] == pytest.approx([0.08])
    assert own["y"] == pytest.approx([38.0])
    assert own["error_y"]["array"] == pytest.approx([5.0])
    span = [push for push in card.pushes if push.kind == "span" and push.kl is not None]
    drawn = trace(view, "span (39)")
    assert drawn["x"] == pytest.approx([push.kl for push in span], rel=1e-3)
    assert drawn["y"] == pytest.approx([100 * (push.change or 0.0) for push in span], abs=0.01)
    assert "At equal divergence p = .049, the largest over the kinds of controls; 3 without a number" in page.text
    assert view["layout"]["xaxis"]["type"] == "log"


def test_the_dotted_lines_have_the_directions_ratio(page: Page) -> None:
    line = trace(plot(page, "distance-0"), "same ratio")
    ratios = [y / x**0.5 for x, y in zip(line["x"], line["y"], strict=True)]
    assert ratios == pytest.approx([38.0 / 0.08**0.5] * len(ratios), rel=2e-3)


def test_an_even_contrast_has_a_ratio_to_the_divergence_itself(tmp_path: Path) -> None:
    even = made.card().model_copy(update={"shape": "both sides", "shown": made.estimate(0.38, 0.05)})
    page = Page(render_verdict(made.folder(tmp_path / "run", made.verdict(even))))
    line = trace(plot(page, "distance-0"), "same ratio")
    assert [y / x for x, y in zip(line["x"], line["y"], strict=True)] == pytest.approx(
        [475.0] * len(line["x"]), rel=2e-3
    )
    assert plot(page, "distance-0")["layout"]["yaxis"]["title"]["text"] == "change, points (both sides)"


def test_the_band_stands_behind_the_intervals(page: Page) -> None:
    card = made.card()
    view = plot(page, "dose-0", 2)
    names = [one.get("name") for one in view["data"]]
    band, line = "band of 95%, all doses together", "intervals of 95%, each dose by itself"
    assert names.index(band) < names.index(line)
    low = dict(zip(trace(view, band)["x"], trace(view, band)["y"], strict=True))
    assert low[0.0] == 0.0
    for point in card.curve.band:
        assert low[point.dose] == pytest.approx(100 * (point.estimate.low or 0.0))
    assert "a band that holds at all doses together" in page.text


def test_observed_p_stand_at_their_last_rank(page: Page) -> None:
    view = plot(page, "calibration-p")
    ps = made.calibration()[0].ps
    drawn = trace(view, "topics against natural text (40)")
    assert drawn["y"] == pytest.approx(sorted(set(ps)), abs=1e-5)
    assert drawn["x"] == pytest.approx([sum(p <= one + 1e-9 for p in ps) / 41 for one in sorted(set(ps))], abs=1e-5)
    own = trace(view, "tested directions (2)")
    assert own["x"] == pytest.approx([1 / 3, 2 / 3], abs=1e-5)
    assert own["y"] == pytest.approx([0.0244, 0.0244])
    band = trace(view, "95% by chance")
    inside = [low for x, low in zip(band["x"], band["y"], strict=True) if x < 0.9]
    assert all(low <= x for x, low in zip(band["x"], inside, strict=False) if x > 1 / 41)
    assert "40 p-values share 40 controls" in page.text


def test_the_matrix_says_what_every_column_is(page: Page) -> None:
    found = made.card().specifications
    rows = dict(choices(found))
    for at, one in enumerate(found):
        here = {name for name, columns in rows.items() if at in columns}
        wanted = {
            "scenarios: layer search" if one.half == "search" else "scenarios: the others", f"layer {one.layer}",
            "straight line" if one.contrast == "line" else one.contrast.replace("-", "−"),
            *(["collapsed doses kept"] if one.collapsed else []),
        }  # fmt: skip
        assert here == wanted
    view = plot(page, "specifications-0")
    effects, *_, dots = view["data"]
    assert effects["y"] == pytest.approx([100 * (one.effect.value or 0.0) for one in found])
    assert effects["y"] == sorted(effects["y"])
    assert effects["marker"]["symbol"].count("star") == 1
    shown = set(zip(dots["x"], dots["y"], strict=True))
    assert shown == {(at, len(rows) - 1 - row) for row, columns in enumerate(rows.values()) for at in columns}
    p = trace(view, "p, span")
    assert p["y"] == pytest.approx([one.ps["span"] for one in found], abs=1e-4)
    assert [round(x) for x in p["x"]] == list(range(len(found)))


def test_what_all_columns_share_has_no_row() -> None:
    alone = Specification(
        half="report", layer=3, contrast="line", collapsed=False, effect=made.NONE, ps={}, chosen=True
    )
    other = alone.model_copy(update={"contrast": "at -0.1", "chosen": False})
    assert choices((alone, other)) == [("straight line", [0]), ("at −0.1", [1])]


def test_several_sections_say_that_they_decide_nothing(page: Page) -> None:
    assert "This is a description; no answer depends on it." in page.text
    assert "Nothing is corrected for the number of columns, and no answer depends on it." in page.text
    assert "several behaviours share the controls too, so it is approximate" in page.text


def test_hashes_stand_in_the_plan(page: Page, tmp_path: Path) -> None:
    assert "weights hash weights-sha256:" + "a" * 64 in page.text
    assert "vectors hash (directions and controls) " + "b" * 64 in page.text
    assert made.plan().hash in page.text
    lacking = Page(render_verdict(made.folder(tmp_path / "run", made.verdict(made.card()))))
    assert "weights hash not recorded" in lacking.text


def test_a_verdict_without_the_new_fields_renders(tmp_path: Path) -> None:
    new = {"pushes": (), "p_at_equal_kl": None, "specifications": ()}
    card = made.card()
    old = card.model_copy(update={**new, "curve": card.curve.model_copy(update={"band": ()})})
    content = made.verdict(old).model_dump(mode="json")
    for name in ("calibration", "weights_hash", "vectors_hash"):
        del content[name]
    folder = made.folder(tmp_path / "run", Verdict.model_validate(content))
    page = Page(render_verdict(folder))
    for words in ("No distances.", "No calibration.", "No other choices.", "weights hash not recorded"):
        assert words in page.text
    assert len(page.figures["dose-0"]["views"]) == 2  # type: ignore[arg-type]


def test_a_control_alone_or_a_direction_without_divergence_is_no_scatter(tmp_path: Path) -> None:
    card = made.card()
    own, *controls = card.pushes
    lost = card.model_copy(update={"pushes": (own.model_copy(update={"kl": None}), *controls), "p_at_equal_kl": None})
    alone = card.model_copy(
        update={"direction": "calm", "pushes": (Push(kind="direction", name="calm", kl=1, change=1),)}
    )
    text = Page(render_verdict(made.folder(tmp_path / "run", made.verdict(lost, alone)))).text
    assert "for the direction and its controls: desperate, calm." in text


def test_logarithmic_ticks_are_round_and_few() -> None:
    for low, high in ((0.03, 0.08), (0.02, 1.05), (1e-5, 3.0), (0.051, 0.052)):
        ticks = log_axis("", low, high)["tickvals"]
        assert len(ticks) <= 7
        assert all(low <= tick <= high for tick in ticks)
    assert log_axis("", 0.03, 0.08)["ticktext"] == ["0.03", "0.04", "0.05", "0.06", "0.07", "0.08"]


def test_every_colour_has_a_dark_partner(page: Page) -> None:
    known = {*palette.swap()}
    for key in ("distance-0", "calibration-p", "specifications-0"):
        for one in plot(page, key)["data"]:
            for colour in (one["marker"]["color"] if "marker" in one else None, one.get("line", {}).get("color")):
                assert colour is None or colour in known, (key, colour)


def test_numbers_that_are_missing_are_not_drawn_as_zero(tmp_path: Path) -> None:
    card = made.card()
    bare = tuple(
        one.model_copy(update={"effect": Estimate(value=one.effect.value, low=None, high=None), "ps": {}})
        for one in card.specifications
    )
    folder = made.folder(tmp_path / "run", made.verdict(card.model_copy(update={"specifications": bare})))
    view = plot(Page(render_verdict(folder)), "specifications-0")
    assert len(view["data"]) == 2  # no p at all
    assert set(view["data"][0]["error_y"]["array"]) == {0.0}
