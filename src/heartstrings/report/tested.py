"""Everything that was tested, with corrected p; the choice of layer; each slope among its controls'."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from heartstrings.report import palette
from heartstrings.report.dose import BANDS
from heartstrings.report.markup import Child, Html, el, join, table
from heartstrings.report.page import Figure, Section, missing
from heartstrings.report.style import NARROW_BAR, axis, colour_bar, figure, plot_text
from heartstrings.report.verdict_files import VerdictFiles
from heartstrings.report.verdict_words import FIRM, KINDS, answer, dose, finite, interval, points, share
from heartstrings.report.words import NOTHING, count, number, p_value
from heartstrings.verdict.results import AnswerCard

NAMES = {"general": "random", "span": "within the span", "shuffled": "shuffled labels"}


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
        "p, Holm", "Samples",
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
            points(card.effect),
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
        "after its own choice of layer; the largest p of the kinds is corrected by Holm over the whole plan. "
        "Intervals are 95%.",
        head,
        rows,
        numeric=tuple(range(3 + shift, len(head))),
        class_="tested",
    )
    body = join(grid, _prompting(files), _preferences(files))
    return Section("tested", "Everything tested", body)


def _prompting(files: VerdictFiles) -> Html:
    rows = [
        [files.title(card), f"{one.emotion}, {one.form}", share(one.outcome), points(one.change), points(card.effect)]
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
    """Heat map of the change at each searched layer; a ring on the one that was chosen."""
    cards = [card for card in files.verdict.answers if any(finite(one.slope.value) for one in card.layers)]
    layers = sorted({one.layer for card in cards for one in card.layers})
    if not cards:
        where = sorted({card.layer for card in files.verdict.answers if card.layer >= 0})
        why = f"Only layer {', '.join(map(str, where))} was in the plan." if where else "Nothing was searched."
        return Section("layer-choice", "Which layer", missing("No choice of layer.", why))
    found = [{one.layer: one for one in card.layers} for card in cards]
    z = [[_per(one[layer].slope.value) if layer in one else None for layer in layers] for one in found]
    largest = max(abs(value) for line in z for value in line if value is not None) or 1.0
    names = [plot_text(files.title(card)) for card in cards]
    few = len(layers) <= 12
    heat = go.Heatmap(
        x=[str(layer) for layer in layers], y=names, z=z, zmin=-largest, zmax=largest,
        colorscale=palette.DIVERGING_FLAT, colorbar=colour_bar("points for 0.1 of dose"),
        texttemplate="%{z:.1f}" if few else None, xgap=2, ygap=2,
        hovertext=[
            [f"layer {layer}: {interval(one[layer].slope, 10.0)}" if layer in one else "" for layer in layers]
            for one in found
        ],
        hoverinfo="text", meta={"narrow": {**NARROW_BAR, "showscale": False}},
    )  # fmt: skip
    chosen = [
        (str(one.layer), name) for card, name in zip(cards, names, strict=True) for one in card.layers if one.chosen
    ]
    frames: list[dict[str, Any]] = [
        # Cells of a category axis are one wide, the first around 0. Dark with light inside shows on any colour.
        {"type": "rect", "x0": x - 0.48, "x1": x + 0.48, "y0": y - 0.46, "y1": y + 0.46,
         "line": {"color": colour[0], "width": width}}
        for y, card in enumerate(cards) for x, layer in enumerate(layers)
        for colour, width in ((palette.INK, 6), (palette.PAPER, 2))
        if any(one.chosen and one.layer == layer for one in card.layers)
    ]  # fmt: skip
    height = 120 + 56 * len(cards)
    plot = figure(
        [heat],
        x=axis("layer", type="category", showgrid=False, categoryorder="array", categoryarray=[str(v) for v in layers]),
        y=axis(None, type="category", showgrid=False, autorange="reversed"),
        showlegend=False,
        shapes=frames,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        hovermode="closest",
    )
    picked = "; ".join(f"{name} layer {layer}" for layer, name in chosen) or "none chosen"
    drawn = Figure(
        "layer-heat", "Change of the outcome by layer", (("", plot),),
        "On the scenarios set aside for the choice, at the outermost doses of the slope window; everything else in "
        "this report is from the others. The framed layer was chosen. Controls went through the same search.",
        f"Heat map of the change of the outcome by direction and layer. Chosen: {picked}.",
        height, height,
    )  # fmt: skip
    return Section("layer-choice", "Which layer", drawn.html(), (drawn,))


def _per(value: float | None) -> float | None:
    """Points for 0.1 of dose."""
    return None if value is None or not finite(value) else round(10.0 * value, 3)
