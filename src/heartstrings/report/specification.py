"""The specification curve: the effect and p under every choice that the samples allow."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from heartstrings.report import palette
from heartstrings.report.distance import SHORT, SYMBOLS
from heartstrings.report.dose import BANDS, bars
from heartstrings.report.markup import el, join
from heartstrings.report.page import Figure, Section, missing
from heartstrings.report.style import axis, figure, log_axis, plot_text
from heartstrings.report.verdict_files import VerdictFiles
from heartstrings.report.verdict_words import MINUS, points, scaled
from heartstrings.report.words import p_value
from heartstrings.stats.contrasts import LINE
from heartstrings.verdict.results import AnswerCard, Specification

TITLE = "Other choices"
HALVES = {"search": "scenarios: layer search", "report": "scenarios: the others"}
ROW = 19
"""Pixels of a row of the matrix."""
TOP = 290
"""Pixels of what stands above and below the matrix."""


def specification_section(files: VerdictFiles) -> Section:
    """One curve an answer."""
    figures, without = [], []
    for place, card in enumerate(files.verdict.answers):
        if card.specifications:
            figures.append(_figure(f"specifications-{place}", files.title(card), card))
        else:
            without.append(files.title(card))
    body = join(
        el(
            "p",
            "Would another choice have told another story? Each column is one way to look at these samples: a layer of "
            "the search, a contrast of the doses, with or without doses at which the text falls apart. Above: the "
            "effect with its 95% interval (above 0: pushing along the direction raises the outcome); in the middle: "
            "its p against each kind of controls alone; below: the choices. Nothing is corrected for looking so often, "
            "and no answer rests on it. The layer that was chosen looks best on the scenarios that chose it.",
        )
        if figures
        else None,
        el("div", [one.html() for one in figures], class_="grid" if len(figures) > 1 else "solo") if figures else None,
        missing("No other choices.", f"No effect was computed for: {', '.join(without)}.") if without else None,
        missing("No other choices.", "This verdict holds no answer.") if not files.verdict.answers else None,
    )
    return Section("specifications", TITLE, body, tuple(figures))


def choices(found: tuple[Specification, ...]) -> list[tuple[str, list[int]]]:
    """Rows of the matrix, from above: what is chosen, and in which columns. What all columns share is left out."""
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
    """The line, single doses from the lowest, the rest."""
    if contrast.startswith("at "):
        return 1, float(contrast.removeprefix("at ")), contrast
    return (0 if contrast == LINE else 2), 0.0, contrast


def _figure(name: str, title: str, card: AnswerCard) -> Figure:
    found = card.specifications
    rows = choices(found)
    columns = list(range(len(found)))
    told = [at for at, one in enumerate(found) if one.chosen]
    estimates = [scaled(one.effect, 100.0) for one in found]
    effects = go.Scatter(
        x=columns, y=[one.value for one in estimates], error_y=bars(estimates, palette.VALENCE[0]), mode="markers",
        marker={
            "size": [12 if at in told else 7 for at in columns], "color": palette.VALENCE[0],
            "symbol": ["star" if at in told else "circle" for at in columns],
        },
        hovertext=[plot_text(f"{_words(one)}: {points(one.effect)} points") for one in found], hoverinfo="text",
        showlegend=False,
    )  # fmt: skip
    traces: list[Any] = [effects]
    kinds = list(dict.fromkeys(kind for one in found for kind in one.ps))
    for number, kind in enumerate(kinds):
        aside = 0.24 * (number - (len(kinds) - 1) / 2)  # equal p of two kinds stand side by side
        mine = [(at, one.ps[kind]) for at, one in enumerate(found) if kind in one.ps]
        traces.append(
            go.Scatter(
                x=[round(at + aside, 2) for at, _ in mine], y=[round(p, 4) for _, p in mine], yaxis="y2",
                mode="markers", name=f"p, {SHORT[kind]}",
                marker={"size": 7, "color": BANDS[kind][0][0], "symbol": SYMBOLS[kind], "opacity": 0.85},
                hovertext=[f"{SHORT[kind]}: p = {p_value(p)}" for _, p in mine], hoverinfo="text",
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
    across = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "layer": "below"}
    shapes: list[dict[str, Any]] = [
        across | {"yref": "y", "y0": 0, "y1": 0, "line": {"color": palette.NULL[0], "width": 1}},
        across | {"yref": "y2", "y0": 0.05, "y1": 0.05,
                  "line": {"color": palette.AROUSAL[0], "width": 1.5, "dash": "dash"}},
        *({"type": "rect", "yref": "paper", "y0": 0, "y1": 1, "x0": at - 0.45, "x1": at + 0.45, "layer": "below",
           "fillcolor": palette.GREEN_BAND[0], "line": {"width": 0}} for at in told),
    ]  # fmt: skip
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
        shapes=shapes,
        hovermode="closest",
        narrow={"yaxis3.tickfont.size": 11, "yaxis.title.text": "points"},
    )  # fmt: skip
    up = sum((one.effect.value or 0.0) > 0 for one in found)
    small = sum(bool(one.ps) and max(one.ps.values()) < 0.05 for one in found)
    caption = (
        f"{len(found)} ways to look: {up} give an effect above 0, {small} a p under .05 against every kind of controls "
        "(dashed: .05)." + (" Star, green: what the answer speaks of." if told else "")
    )
    alt = f"Specification curve of {card.direction}. {caption} " + "; ".join(
        f"{_words(one)}: {points(one.effect)}" for one in found[:: max(1, len(found) - 1)]
    )
    return Figure(name, title, (("", plot),), caption, alt, height, height)


def _words(one: Specification) -> str:
    kept = ", collapsed doses kept" if one.collapsed else ""
    return (
        f"layer {one.layer}, {'layer search' if one.half == 'search' else 'reported scenarios'}, {one.contrast}{kept}"
    )
