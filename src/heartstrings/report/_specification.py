"""The specification curve: the effect and p under every choice that the samples allow."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from heartstrings.report import _palette as palette
from heartstrings.report._dose import bars, scaled
from heartstrings.report._kinds import KINDS
from heartstrings.report._numbers import MINUS, p_value, points
from heartstrings.report._page import Plot
from heartstrings.report._style import across, axis, dots, figure, log_axis, plot_text, upright
from heartstrings.stats.contrasts import LINE
from heartstrings.verdict.results import AnswerCard, Specification

HALVES = {"search": "scenarios: layer search", "report": "scenarios: the others"}
ROW = 19
"""Pixels of a row of the matrix."""
TOP = 290
"""Pixels of everything above and below the matrix."""


def choices(found: tuple[Specification, ...]) -> list[tuple[str, list[int]]]:
    """Rows of the matrix from the top: a choice, and its columns. Choices that all columns share are left out."""
    rows: list[tuple[str, list[int]]] = []

    def row(name: str, chosen: list[bool]) -> None:
        columns = [at for at, one in enumerate(chosen) if one]
        if columns and len(columns) < len(found):
            rows.append((name, columns))

    for half, name in HALVES.items():
        row(name, [one.half == half for one in found])
    for layer in sorted({one.layer for one in found}):
        row(f"layer {layer}", [one.layer == layer for one in found])
    for contrast in sorted({one.contrast for one in found}, key=_order):
        words = "straight line" if contrast == LINE else contrast.replace("at -", f"at {MINUS}")
        row(words, [one.contrast == contrast for one in found])
    row("collapsed doses kept", [one.collapsed for one in found])
    return rows


def _order(contrast: str) -> tuple[int, float, str]:
    """The straight line comes first, then single doses in order, then the others."""
    if contrast.startswith("at "):
        return 1, float(contrast.removeprefix("at ")), contrast
    return (0 if contrast == LINE else 2), 0.0, contrast


def specification_plot(name: str, card: AnswerCard) -> Plot | None:
    """The curve of one answer: effects above, p in the middle, the matrix of choices below."""
    found = card.specifications
    if not found:
        return None
    rows = choices(found)
    columns = list(range(len(found)))
    told = [at for at, one in enumerate(found) if one.chosen]
    estimates = [scaled(one.effect) for one in found]
    stars = {
        "size": [12 if at in told else 7 for at in columns], "color": palette.VALENCE[0],
        "symbol": ["star" if at in told else "circle" for at in columns],
    }  # fmt: skip
    traces: list[Any] = [
        dots(
            columns, [one.value for one in estimates],
            [plot_text(f"{in_words(one)}: {points(one.effect)} points") for one in found], stars,
            error_y=bars(estimates, palette.VALENCE[0]), showlegend=False,
        )
    ]  # fmt: skip
    kinds = list(dict.fromkeys(kind for one in found for kind in one.ps))
    for number, kind in enumerate(kinds):
        aside = 0.24 * (number - (len(kinds) - 1) / 2)  # equal p of two kinds stand side by side
        mine = [(at, one.ps[kind]) for at, one in enumerate(found) if kind in one.ps]
        look = KINDS[kind]
        traces.append(
            dots(
                [round(at + aside, 2) for at, _ in mine], [round(p, 4) for _, p in mine],
                [f"{look.short}: p = {p_value(p)}" for _, p in mine],
                {"size": 7, "color": look.colour, "symbol": look.symbol, "opacity": 0.85},
                yaxis="y2", name=f"p, {look.short}",
            )
        )  # fmt: skip
    traces.append(
        go.Scatter(
            x=[at for _, here in rows for at in here],
            y=[len(rows) - 1 - place for place, (_, here) in enumerate(rows) for _ in here],
            yaxis="y3", mode="markers", marker={"size": 7, "color": palette.INK[0]}, hoverinfo="skip", showlegend=False,
        )
    )  # fmt: skip
    least = min((p for one in found for p in one.ps.values()), default=0.05)
    height = TOP + ROW * max(1, len(rows))
    share = ROW * max(1, len(rows)) / height
    middle = share + 0.03 + (0.97 - share) * 0.36
    behind = {"layer": "below", "fillcolor": palette.GREEN_BAND[0], "line": {"width": 0}}
    plot = figure(
        traces,
        x=axis("ways to look, by effect", showticklabels=False, showgrid=False, anchor="y3",
               range=[-0.7, len(found) - 0.3]),
        y=axis("effect, points", domain=[middle + 0.04, 1], nticks=5),
        yaxis2=log_axis("p", min(least / 2, 0.02), 1.4, most=4, domain=[share + 0.03, middle]),
        yaxis3=axis(
            None, domain=[0, share], tickmode="array", tickvals=list(range(len(rows))),
            ticktext=[plot_text(words) for words, _ in reversed(rows)], range=[-0.6, max(1, len(rows)) - 0.4],
        ),
        shapes=[
            across(0.0, palette.NULL[0], yref="y"),
            across(0.05, palette.AROUSAL[0], width=1.5, dash="dash", yref="y2"),
            *(upright(at - 0.45, at + 0.45, **behind) for at in told),
        ],
        hovermode="closest",
        narrow={"yaxis3.tickfont.size": 11, "yaxis.title.text": "points"},
    )  # fmt: skip
    return Plot(name, (("", plot),), height, height)


def in_words(one: Specification) -> str:
    """What was chosen: `layer 3, reported scenarios, line`."""
    kept = ", collapsed doses kept" if one.collapsed else ""
    return (
        f"layer {one.layer}, {'layer search' if one.half == 'search' else 'reported scenarios'}, {one.contrast}{kept}"
    )
