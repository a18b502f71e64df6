"""The report of a screen: where steering could matter, beside how well the predictions agree with steering."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from heartstrings.corpus.lexicon import built_in_ratings
from heartstrings.experiment.screen_results import DESCRIPTIVE, CheckedCell, Screen, ScreenedBehaviour
from heartstrings.report import _palette as palette
from heartstrings.report._numbers import signed
from heartstrings.report._page import Plot, render_page, write
from heartstrings.report._style import (
    NARROW_BAR,
    TIGHT,
    axis,
    band,
    colour_bar,
    dots,
    figure,
    layer_axis,
    line,
    plot_text,
)

FILE = "screen.html"
SHOWN = 5
"""Emotions of each behaviour in the table."""
ROW = 16
"""CSS pixels of an emotion in the heat map."""
KIND_STYLES = {
    "topic": (palette.AROUSAL, palette.AROUSAL_BAND, "dash"),
    "natural": (palette.GREY, palette.NULL_BAND, "dot"),
}
DRAWN = {
    "evenly": ("emotion, drawn evenly", palette.VALENCE[0], "circle"),
    "by size": ("emotion, drawn by size", palette.GREEN[0], "diamond"),
    "control": ("control", palette.AROUSAL[0], "x"),
}


def render_screen(folder: str | Path) -> Path:
    """Write `screen.html` beside `screen.json`, and return its path.

    Raises:
        InputError: there is no screen, or it cannot be read.
    """
    return write(Path(folder) / FILE, page(Screen.load(folder)))


def page(screen: Screen) -> str:
    """The document as text."""
    order = by_valence(screen.emotions)
    height = max(360, ROW * len(order) + 70)
    views = tuple((short(behaviour), heat_map(screen, behaviour, order)) for behaviour in screen.behaviours)
    checked = [behaviour for behaviour in screen.behaviours if behaviour.check]
    view: dict[str, object] = {
        "screen": screen,
        "descriptive": DESCRIPTIVE,
        "strongest": [(behaviour, screen.strongest(behaviour.name)[:SHOWN]) for behaviour in screen.behaviours],
        "maps": Plot("maps", views, height=height, narrow_height=height),
        "bands": Plot(
            "bands",
            tuple((short(behaviour), by_layer(screen, behaviour)) for behaviour in screen.behaviours),
            height=400,
        ),
        "calibration": Plot(
            "calibration",
            tuple((short(behaviour), calibration(screen, behaviour)) for behaviour in checked),
            height=440,
        )
        if checked
        else None,
        "checked": checked,
    }
    return render_page("screen.html", view)


def short(behaviour: ScreenedBehaviour) -> str:
    """A behaviour's name on a button."""
    return behaviour.name.removeprefix("vignette-").replace("-", " ")


def by_valence(emotions: tuple[str, ...]) -> list[int]:
    """Columns in the order of rated valence, unpleasant first; those without a rating at the end."""
    rated = built_in_ratings().values
    return sorted(range(len(emotions)), key=lambda at: (emotions[at] not in rated, rated.get(emotions[at], (0.0,))[0]))


def heat_map(screen: Screen, behaviour: ScreenedBehaviour, order: list[int]) -> go.Figure:
    """Predicted changes of every emotion at every layer. A dot: larger than 95% of the controls of every kind there."""
    names = [plot_text(screen.emotions[column]) for column in order]
    z = [[round(row[column], 2) for row in behaviour.predicted] for column in order]
    limit = max((abs(value) for row in z for value in row), default=0.0) or 1.0
    layers = list(screen.layers)
    more = [
        [
            " · ".join(f"{counts[row][column]} {kind}" for kind, counts in behaviour.larger.items())
            for row in range(len(layers))
        ]
        for column in order
    ]
    heat = go.Heatmap(
        z=z,
        x=layers,
        y=names,
        zmin=-limit,
        zmax=limit,
        colorscale=palette.DIVERGING_FLAT,
        colorbar=colour_bar("points", tickformat="+.2g", lenmode="pixels", len=260, y=1, yanchor="top"),
        text=more if behaviour.larger else None,
        hovertemplate="%{y}, layer %{x}: %{z:+.2f} points"
        + (f"<br>at least as large, of {screen.controls:,} each: %{{text}}" if behaviour.larger else "")
        + "<extra></extra>",
        meta={"narrow": NARROW_BAR | {"colorbar.len": 200}},
    )
    over = [
        (layer, names[place])
        for place, column in enumerate(order)
        for row, layer in enumerate(layers)
        if behaviour.bands and all(abs(behaviour.predicted[row][column]) > kind.most[row] for kind in behaviour.bands)
    ]
    traces: list[Any] = [heat]
    if over:
        marks = {"size": 4, "color": palette.INK[0]}
        traces.append(
            go.Scatter(
                x=[at for at, _ in over],
                y=[name for _, name in over],
                mode="markers",
                marker=marks,
                hoverinfo="skip",
                showlegend=False,
                meta={"narrow": {"marker.size": 2.5}},
            )
        )
    return figure(
        traces, x=layer_axis(layers, title="layer", showgrid=False),
        y=axis(None, type="category", showgrid=False, tickmode="array", tickvals=names, ticktext=names,
               tickfont={"size": 11}, range=[-0.5, len(names) - 0.5]),
        margin=TIGHT, showlegend=False, narrow={"yaxis.tickfont.size": 9},
    )  # fmt: skip


def by_layer(screen: Screen, behaviour: ScreenedBehaviour) -> go.Figure:
    """The largest prediction of any emotion at each layer, over the sizes of the controls."""
    layers = list(screen.layers)
    traces: list[Any] = []
    for kind in behaviour.bands:
        colour, fill, dash = KIND_STYLES[kind.kind]
        words = f"{kind.kind} controls, 95%"
        traces += band(
            layers,
            [0.0] * len(layers),
            list(kind.most),
            fill[0],
            name=words,
            edge={"width": 1, "color": colour[0], "dash": dash},
        )
        traces.append(
            go.Scatter(
                x=layers,
                y=list(kind.largest),
                mode="markers",
                name=f"{kind.kind}, largest",
                hoverinfo="skip",
                marker={"size": 6, "symbol": "line-ew-open", "color": colour[0]},
            )
        )
    tops = [max(range(len(row)), key=lambda at, row=row: abs(row[at])) for row in behaviour.predicted]  # type: ignore[misc]
    sizes = [abs(row[top]) for row, top in zip(behaviour.predicted, tops, strict=True)]
    hover = [
        plot_text(f"layer {layer}: {screen.emotions[top]} {signed(row[top], 2)} points")
        for layer, row, top in zip(layers, behaviour.predicted, tops, strict=True)
    ]
    traces.append(line(layers, sizes, "largest of the emotions", palette.VALENCE[0], hover))
    return figure(
        traces,
        x=layer_axis(layers, room=True),
        y=axis("size of the prediction, points", rangemode="tozero"),
        narrow={"yaxis.title.text": "points"},
    )


def calibration(screen: Screen, behaviour: ScreenedBehaviour) -> go.Figure:
    """Exact changes over predictions at the screen's own dose; on the line they are the same."""
    at = screen.checked_doses.index(screen.dose)
    ends = [0.0]
    traces: list[Any] = []
    for how, (words, colour, symbol) in DRAWN.items():
        cells = [cell for cell in behaviour.check if cell.drawn == how and cell.exact[at] is not None]
        x, y = [cell.predicted for cell in cells], [cell.exact[at] or 0.0 for cell in cells]
        ends += [*x, *y]
        if cells:
            traces.append(
                dots(
                    x,
                    y,
                    [_hover(cell, at) for cell in cells],
                    {"size": 9, "color": colour, "symbol": symbol},
                    name=words,
                )
            )
    limit = 1.08 * max(map(abs, ends)) or 1.0
    diagonal = {
        "type": "line",
        "x0": -limit,
        "x1": limit,
        "y0": -limit,
        "y1": limit,
        "layer": "below",
        "line": {"color": palette.GREY[0], "width": 1, "dash": "dash"},
    }
    return figure(
        traces,
        x=axis("predicted change, points", range=[-limit, limit], zeroline=True, zerolinecolor=palette.RULE[0]),
        y=axis("change when steered, points", range=[-limit, limit], zeroline=True, zerolinecolor=palette.RULE[0]),
        shapes=[diagonal],
        showlegend=True,
        narrow={"yaxis.title.text": "steered, points"},
    )


def _hover(cell: CheckedCell, at: int) -> str:
    return plot_text(
        f"{cell.direction}, layer {cell.layer}: predicted {signed(cell.predicted, 2)}, "
        f"steered {signed(cell.exact[at], 2)} points"
    )
