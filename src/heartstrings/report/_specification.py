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


def choices(specifications: tuple[Specification, ...]) -> list[tuple[str, list[int]]]:
    """Rows of the matrix from the top: a choice, and its columns. Choices that all columns share are left out."""
    rows: list[tuple[str, list[int]]] = []

    def row(name: str, chosen: list[bool]) -> None:
        columns = [at for at, holds in enumerate(chosen) if holds]
        if columns and len(columns) < len(specifications):
            rows.append((name, columns))

    for half, name in HALVES.items():
        row(name, [specification.half == half for specification in specifications])
    for layer in sorted({specification.layer for specification in specifications}):
        row(f"layer {layer}", [specification.layer == layer for specification in specifications])
    for contrast in sorted({specification.contrast for specification in specifications}, key=_order):
        words = "straight line" if contrast == LINE else contrast.replace("at -", f"at {MINUS}")
        row(words, [specification.contrast == contrast for specification in specifications])
    row("collapsed doses kept", [specification.collapsed for specification in specifications])
    return rows


def _order(contrast: str) -> tuple[int, float, str]:
    """The straight line comes first, then single doses in order, then the others."""
    if contrast.startswith("at "):
        return 1, float(contrast.removeprefix("at ")), contrast
    return (0 if contrast == LINE else 2), 0.0, contrast


def specification_plot(name: str, card: AnswerCard) -> Plot | None:
    """The curve of one answer: effects above, p in the middle, the matrix of choices below."""
    specifications = card.specifications
    if not specifications:
        return None
    rows = choices(specifications)
    columns = list(range(len(specifications)))
    told = [at for at, specification in enumerate(specifications) if specification.chosen]
    estimates = [scaled(specification.effect) for specification in specifications]
    stars = {
        "size": [12 if at in told else 7 for at in columns],
        "color": palette.VALENCE[0],
        "symbol": ["star" if at in told else "circle" for at in columns],
    }
    traces: list[Any] = [
        dots(
            columns,
            [estimate.value for estimate in estimates],
            [
                plot_text(f"{in_words(specification)}: {points(specification.effect)} points")
                for specification in specifications
            ],
            stars,
            error_y=bars(estimates, palette.VALENCE[0]),
            showlegend=False,
        )
    ]
    kinds = list(dict.fromkeys(kind for specification in specifications for kind in specification.ps))
    for number, kind in enumerate(kinds):
        aside = 0.24 * (number - (len(kinds) - 1) / 2)  # equal p of two kinds stand side by side
        mine = [
            (at, specification.ps[kind]) for at, specification in enumerate(specifications) if kind in specification.ps
        ]
        look = KINDS[kind]
        traces.append(
            dots(
                [round(at + aside, 2) for at, _ in mine],
                [round(p, 4) for _, p in mine],
                [f"{look.short}: p = {p_value(p)}" for _, p in mine],
                {"size": 7, "color": look.colour, "symbol": look.symbol, "opacity": 0.85},
                yaxis="y2",
                name=f"p, {look.short}",
            )
        )
    traces.append(
        go.Scatter(
            x=[at for _, here in rows for at in here],
            y=[len(rows) - 1 - place for place, (_, here) in enumerate(rows) for _ in here],
            yaxis="y3",
            mode="markers",
            marker={"size": 7, "color": palette.INK[0]},
            hoverinfo="skip",
            showlegend=False,
        )
    )
    least = min((p for specification in specifications for p in specification.ps.values()), default=0.05)
    height = TOP + ROW * max(1, len(rows))
    share = ROW * max(1, len(rows)) / height
    middle = share + 0.03 + (0.97 - share) * 0.36
    behind = {"layer": "below", "fillcolor": palette.GREEN_BAND[0], "line": {"width": 0}}
    plot = figure(
        traces,
        x=axis(
            "ways to look, by effect",
            showticklabels=False,
            showgrid=False,
            anchor="y3",
            range=[-0.7, len(specifications) - 0.3],
        ),
        y=axis("effect, points", domain=[middle + 0.04, 1], nticks=5),
        yaxis2=log_axis("p", min(least / 2, 0.02), 1.4, most=4, domain=[share + 0.03, middle]),
        yaxis3=axis(
            None,
            domain=[0, share],
            tickmode="array",
            tickvals=list(range(len(rows))),
            ticktext=[plot_text(words) for words, _ in reversed(rows)],
            range=[-0.6, max(1, len(rows)) - 0.4],
        ),
        shapes=[
            across(0.0, palette.NULL[0], yref="y"),
            across(0.05, palette.AROUSAL[0], width=1.5, dash="dash", yref="y2"),
            *(upright(at - 0.45, at + 0.45, **behind) for at in told),
        ],
        hovermode="closest",
        narrow={"yaxis3.tickfont.size": 11, "yaxis.title.text": "points"},
    )
    return Plot(name, (("", plot),), height, height)


def in_words(specification: Specification) -> str:
    """What was chosen: `layer 3, reported scenarios, line`."""
    kept = ", collapsed doses kept" if specification.collapsed else ""
    return (
        f"layer {specification.layer}, {'layer search' if specification.half == 'search' else 'reported scenarios'}, "
        f"{specification.contrast}{kept}"
    )
