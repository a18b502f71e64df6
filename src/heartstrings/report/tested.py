"""Everything that was tested, with corrected p; the choice of layer; each slope among its controls'."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from heartstrings.report import palette
from heartstrings.report.dose import BANDS
from heartstrings.report.markup import Child, Html, el, join, table
from heartstrings.report.page import Figure, Section, missing
from heartstrings.report.style import NARROW_BAR, axis, colour_bar, figure
from heartstrings.report.verdict_files import VerdictFiles
from heartstrings.report.verdict_words import FIRM, KINDS, answer, dose, finite, interval, points, share
from heartstrings.report.words import NOTHING, count, number, p_value
from heartstrings.stats.estimate import Estimate
from heartstrings.verdict.results import AnswerCard, LayerChoice

NAMES = {"general": "random", "span": "within the span", "topic": "story topics", "natural": "natural text",
         "shuffled": "shuffled labels"}  # fmt: skip


def tested_section(files: VerdictFiles) -> Section:
    """The table of everything tested."""
    cards = files.verdict.answers
    if not cards:
        return Section("tested", "Everything tested", missing("Nothing was tested.", "This verdict holds no answer."))
    kinds = [kind for kind in KINDS if any(group.kind == kind for card in cards for group in card.controls)]
    behaviours = len({card.behaviour for card in cards}) > 1
    head = [
        "Direction", *(["Behaviour"] if behaviours else []), "Layer", "Answer", "Slope, log-odds a unit of dose",
        "Effect, points", "Matched questions, points", *(f"p, {NAMES[kind]}" for kind in kinds),
        "p, corrected", "Samples",
    ]  # fmt: skip
    rows: list[list[Child]] = []
    for card in cards:
        by_kind = {group.kind: group for group in card.controls}
        cells: list[Child] = [card.direction]
        if behaviours:
            cells.append(card.behaviour)
        cells += [
            f"{card.layer},{FIRM}{card.site}" if card.layer >= 0 else NOTHING,
            answer(card),
            interval(card.slope, digits=2),
            points(card.told) + card.told_where,
            points(card.matched),
        ]
        for kind in kinds:
            group = by_kind.get(kind)  # type: ignore[call-overload]
            cells.append(NOTHING if group is None else f"{p_value(group.p)} (n{FIRM}={FIRM}{len(group.slopes)})")
        cells += [p_value(card.p), count(card.samples)]
        rows.append(cells)
    shift = 1 if behaviours else 0
    grid = table(
        "One line a test. p = (b + 1) / (n + 1), b of n control directions with a slope at least as large, each "
        "after its own choice of layer. Corrected: each control at its largest over the behaviours (those declared "
        "beforehand over one another), the largest p of the kinds, Holm over the directions. Intervals are 95%.",
        head,
        rows,
        numeric=tuple(range(3 + shift, len(head))),
        class_="tested",
    )
    body = join(grid, _prompting(files), _preferences(files))
    return Section("tested", "Everything tested", body)


def _prompting(files: VerdictFiles) -> Html:
    rows = [
        [
            files.title(card),
            f"{one.emotion}, {one.form}",
            share(one.outcome),
            points(one.change),
            points(card.told) + card.told_where,
        ]
        for card in files.verdict.answers
        for one in card.prompting
    ]
    if not rows:
        return missing("No asking in words.", "The emotion was not asked for in a prompt as a baseline.")
    return table(
        "The unsteered model, asked for the emotion in an instruction or a first-person sentence: what steering "
        "has to be compared with.",
        ["Direction", "Asked for", "Outcome", "Change, points", "Steering's effect, points"],
        rows,
        numeric=(2, 3, 4),
    )


def _preferences(files: VerdictFiles) -> Html | None:
    rows = [
        [f"{files.title(card)}, dose {dose(one.dose)}", one.item, interval(one.strength, digits=2), str(one.n)]
        for card in files.verdict.answers
        for one in card.preferences
    ]
    if not rows:
        return None
    return el(
        "details",
        el("summary", "Preferences between activities"),
        table(
            "Bradley-Terry log-strength from pairwise choices, mean 0, with 95% intervals.",
            ["Direction", "Activity", "Strength", "Pairs"],
            rows,
            numeric=(2, 3),
        ),
    )


def controls_section(files: VerdictFiles) -> Section:
    """Slopes of the controls with the direction's own marked."""
    figures = [
        _strip(f"controls-{place}", files.title(card), card)
        for place, card in enumerate(files.verdict.answers)
        if any(group.slopes for group in card.controls)
    ]
    without = [files.title(card) for card in files.verdict.answers if not any(g.slopes for g in card.controls)]
    body = join(
        el(
            "p",
            "Each mark is the slope of one control direction, at the layer that the same search chose for it. The "
            "line is the tested direction's slope, with its 95% interval shaded. Shuffled vectors keep their own "
            "length.",
        ),
        el("div", [one.html() for one in figures], class_="grid") if figures else None,
        missing("No controls.", f"No control direction was fitted for: {', '.join(without)}.") if without else None,
        missing("No controls.", "This verdict holds no answer.") if not files.verdict.answers else None,
    )
    return Section("controls", "Against control directions", body, tuple(figures))


def _strip(name: str, title: str, card: AnswerCard) -> Figure:
    traces: list[Any] = []
    groups = [group for group in card.controls if group.slopes]
    for row, group in enumerate(groups):
        colour = BANDS[group.kind][0][0]
        # A fixed, even spread keeps equal slopes apart; its height means nothing.
        spread = 0.3 * np.sin(np.arange(len(group.slopes)) * 2.4)
        traces.append(
            go.Scatter(
                x=list(group.slopes),
                y=np.round(row + spread, 3).tolist(),
                mode="markers",
                marker={"size": 7, "color": colour, "opacity": 0.75, "symbol": palette.MARKERS[row]},
                hovertext=[f"{KINDS[group.kind]}: {number(slope)}" for slope in group.slopes],
                hoverinfo="text",
                showlegend=False,
            )
        )
    shapes: list[dict[str, Any]] = []
    place = {"yref": "paper", "y0": 0, "y1": 1}
    own = card.slope
    if finite(own.low) and finite(own.high):
        shapes.append(
            place | {"type": "rect", "x0": own.low, "x1": own.high, "layer": "below",
                     "fillcolor": palette.VALENCE_BAND[0], "line": {"width": 0}}
        )  # fmt: skip
    if finite(own.value):
        line = {"color": palette.VALENCE[0], "width": 2.5}
        shapes.append(place | {"type": "line", "x0": own.value, "x1": own.value, "line": line})
    # Shapes do not widen an automatic range; an unseen mark at each end does.
    ends = [value for value in (own.low, own.value, own.high) if finite(value)]
    traces.append(
        go.Scatter(x=ends, y=[0] * len(ends), mode="markers", marker={"opacity": 0}, hoverinfo="skip", showlegend=False)
    )
    plot = figure(
        traces,
        x=axis("slope, log-odds a unit of dose", nticks=8),
        y=axis(
            None, tickmode="array", tickvals=list(range(len(groups))),
            ticktext=[f"{NAMES[g.kind]}<br>n = {len(g.slopes)}, p {p_value(g.p)}" for g in groups],
            range=[-0.6, len(groups) - 0.4], showgrid=False,
        ),
        shapes=shapes,
        showlegend=False,
        margin={"l": 8, "r": 14, "t": 10, "b": 8},
        hovermode="closest",
        narrow={"yaxis.tickfont.size": 11},
    )  # fmt: skip
    if finite(own.value):
        caption = f"{card.direction}: {interval(own, digits=2)}"
    else:
        caption = f"{card.direction}: no slope could be fitted"
    alt = f"Strips of control slopes. {caption}. " + "; ".join(
        f"{KINDS[g.kind]}: {number(min(g.slopes))} to {number(max(g.slopes))}, p {p_value(g.p)}" for g in groups
    )
    return Figure(name, title, (("", plot),), f"{caption}.", alt, 110 + 70 * len(groups), 110 + 70 * len(groups))


def layers_section(files: VerdictFiles) -> Section:
    """Outcome by layer and dose, as far as the search looked; a frame around the layer that was chosen."""
    figures = [
        _layers(f"layers-{place}", files.title(card), card)
        for place, card in enumerate(files.verdict.answers)
        if any(finite(point.estimate.value) for one in card.layers for point in one.points)
    ]
    if not figures:
        where = sorted({card.layer for card in files.verdict.answers if card.layer >= 0})
        why = f"Only layer {', '.join(map(str, where))} was in the plan." if where else "Nothing was searched."
        return Section("layer-choice", "Which layer", missing("No choice of layer.", why))
    body = join(
        el(
            "p",
            "On the scenarios set aside for the choice, at the outermost doses of the slope window and unsteered; "
            "everything else in this report is from the others. The framed layer was chosen: there the outcome "
            "changed most between the two doses. Controls went through the same search.",
        ),
        el("div", [one.html() for one in figures], class_="grid" if len(figures) > 1 else "solo"),
    )
    return Section("layer-choice", "Which layer", body, tuple(figures))


def _layers(name: str, title: str, card: AnswerCard) -> Figure:
    """Heat map of the outcome, layers up and doses across."""
    doses = sorted({point.dose for one in card.layers for point in one.points})
    found = [{point.dose: point.estimate for point in one.points} for one in card.layers]
    z = [
        [_percent(one[value].value) if value in one else None for value in doses] for one in found
    ]  # fmt: skip
    heat = go.Heatmap(
        x=[dose(value) for value in doses], y=[str(one.layer) for one in card.layers], z=z, zmin=0, zmax=100,
        colorscale=palette.DIVERGING_FLAT, colorbar=colour_bar("%"), texttemplate="%{z:.0f}%", xgap=2, ygap=2,
        hovertext=[
            [
                f"layer {layer.layer}, dose {dose(value)}: {share(one[value])}" if value in one else ""
                for value in doses
            ]
            for layer, one in zip(card.layers, found, strict=True)
        ],
        hoverinfo="text", meta={"narrow": {**NARROW_BAR, "showscale": False}},
    )  # fmt: skip
    frames: list[dict[str, Any]] = [
        # Cells of a category axis are one wide, the first around 0. Dark with light inside shows on any colour.
        {"type": "rect", "x0": -0.48, "x1": len(doses) - 0.52, "y0": y - 0.46, "y1": y + 0.46,
         "line": {"color": colour[0], "width": width}}
        for y, one in enumerate(card.layers) for colour, width in ((palette.INK, 6), (palette.PAPER, 2)) if one.chosen
    ]  # fmt: skip
    height = 130 + 46 * len(card.layers)
    plot = figure(
        [heat],
        x=axis("dose (fraction of the mean residual norm)", type="category", showgrid=False),
        y=axis("layer", type="category", showgrid=False),
        showlegend=False,
        shapes=frames,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        hovermode="closest",
    )
    moved = [f"layer {one.layer} {points(_window(one))}" for one in card.layers]
    caption = f"{card.direction}: {card.curve.outcome_name}. Change across the window, points: {'; '.join(moved)}."
    chosen = ", ".join(str(one.layer) for one in card.layers if one.chosen) or "none"
    alt = f"Heat map of the outcome by layer and dose. {caption} Chosen: {chosen}."
    return Figure(name, title, (("", plot),), caption, alt, height, height)


def _window(one: LayerChoice) -> Estimate:
    """The slope times the width of the window it was measured over."""
    width = max(point.dose for point in one.points) - min(point.dose for point in one.points)
    scaled = {name: None if value is None else value * width for name, value in one.slope.model_dump().items()}
    return Estimate(**scaled)


def _percent(value: float | None) -> float | None:
    return None if value is None or not finite(value) else round(100.0 * value, 1)
