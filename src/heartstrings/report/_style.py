"""What all plots have in common, and the traces that several of them use."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from heartstrings.report import _palette as palette
from heartstrings.report._numbers import known

FONT = 'system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif'
TIGHT = {"l": 8, "r": 8, "t": 8, "b": 8}
LAYOUT: dict[str, Any] = {
    "font": {"family": FONT, "size": 13, "color": palette.INK[0]},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "margin": {"l": 8, "r": 14, "t": 30, "b": 8},
    "legend": {
        "orientation": "h",
        "x": 0,
        "xanchor": "left",
        "y": 1.0,
        "yanchor": "bottom",
        "font": {"size": 12.5, "color": palette.INK[0]},
        "bgcolor": "rgba(0,0,0,0)",
        "itemclick": "toggle",
        "traceorder": "normal",
    },
    "hoverlabel": {
        "bgcolor": palette.RAISED[0],
        "bordercolor": palette.RULE[0],
        "font": {"family": FONT, "size": 13, "color": palette.INK[0]},
        "align": "left",
    },
    "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": palette.GREY[0], "activecolor": palette.INK[0]},
}
AXIS: dict[str, Any] = {
    "title": {"font": {"size": 13, "color": palette.SOFT[0]}, "standoff": 10},
    "gridcolor": palette.GRID[0],
    "linecolor": palette.RULE[0],
    "tickcolor": palette.RULE[0],
    "tickfont": {"size": 12.5, "color": palette.SOFT[0]},
    "ticks": "",
    "zeroline": False,
    "automargin": True,
}
"""`LAYOUT` and `AXIS` are the style of every plot. The page holds them once, and the script adds them to every
plot, where the plot does not set a value itself. Repeated in every plot they would be a quarter of the file."""


def plot_text(text: object) -> str:
    """Text for a plot: Plotly reads a little HTML in labels, so names from outside are escaped first."""
    return html.escape(str(text), quote=False)


def wrapped(text: str, width: int = 40) -> str:
    """`plot_text` in lines of at most `width` characters: Plotly cuts an axis title that is longer than its axis."""
    return "<br>".join(plot_text(line) for line in textwrap.wrap(text, width))


def axis(title: str | None = None, **changes: Any) -> dict[str, Any]:
    """What is particular to one axis; `AXIS` is filled in by the script."""
    return ({"title": {"text": title}} if title is not None else {}) | changes


def log_axis(title: str, low: float, high: float, *, most: int = 7, **changes: Any) -> dict[str, Any]:
    """A logarithmic axis from `low` to `high`, with as many ticks at round numbers as there are, up to `most`."""
    bottom, top = math.log10(low), math.log10(high)
    decades = range(math.floor(bottom), math.ceil(top) + 1)
    for parts in (range(1, 10), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [part * 10.0**decade for decade in decades for part in parts]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= most:
            break
    shown = {"tickmode": "array", "tickvals": ticks, "ticktext": [f"{tick:.6g}" for tick in ticks]}
    return axis(title, type="log", range=[bottom, top], **shown) | changes


def layer_axis(layers: Sequence[int], title: str = "layer", *, room: bool = False, **changes: Any) -> dict[str, Any]:
    """Ticks at whole layers only; a few layers get one each.

    Args:
        room: leave a little space at both ends, so that a single layer stands in the middle.
    """
    if len(layers) <= 16:
        ticks: dict[str, Any] = {
            "tickmode": "array",
            "tickvals": list(layers),
            "ticktext": [str(layer) for layer in layers],
        }
    else:
        ticks = {"tickmode": "auto", "nticks": 12, "tickformat": "d"}
    if room:
        span = max(layers) - min(layers)
        air = 0.5 if span < 12 else span * 0.03
        ticks["range"] = [min(layers) - air, max(layers) + air]
    return axis(title, **ticks, **changes)


def figure(
    data: Sequence[Any],
    *,
    x: dict[str, Any],
    y: dict[str, Any],
    narrow: Mapping[str, Any] | None = None,
    **changes: Any,
) -> go.Figure:
    """A plot without the common style, which the script fills in.

    Args:
        x, y: axes, from `axis`.
        narrow: what to change on small screens, as `{"xaxis.title.text": ...}`.
    """
    # Without a template, plotly.py adds its default one, 7 kB for each plot.
    layout: dict[str, Any] = {"template": {}, "xaxis": x, "yaxis": y, "meta": {"narrow": dict(narrow or {})}}
    return go.Figure(data=list(data), layout=layout | changes)


def error_bars(ends: Iterable[tuple[float | None, float | None, float | None]], colour: str) -> dict[str, Any]:
    """Error bars of (value, low, high); a point without an interval has none."""
    known_ends = [(value or 0.0, low, high) for value, low, high in ends]
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - value if known(high) else 0.0 for value, _, high in known_ends],
        "arrayminus": [value - low if known(low) else 0.0 for value, low, _ in known_ends],
        "color": colour,
        "thickness": 1.4,
        "width": 3,
    }


def line(
    x: Sequence[Any],
    y: Sequence[Any],
    name: str | None,
    colour: str,
    hover: Sequence[str],
    *,
    dash: str | None = None,
    symbol: str | None = None,
    width: float = 2.0,
    size: int = 6,
    **changes: Any,
) -> go.Scatter:
    """A line with markers and a text for each point under the mouse."""
    shape: dict[str, Any] = {"color": colour, "width": width} | ({"dash": dash} if dash else {})
    marker: dict[str, Any] = {"size": size, "color": colour} | ({"symbol": symbol} if symbol else {})
    look: dict[str, Any] = {"mode": "lines+markers", "line": shape, "marker": marker} | changes
    return go.Scatter(x=x, y=y, name=name, hovertext=hover, hoverinfo="text", **look)


def dots(
    x: Sequence[Any], y: Sequence[Any], hover: Sequence[str], marker: dict[str, Any], **changes: Any
) -> go.Scatter:
    """Markers, with a text for each under the mouse."""
    return go.Scatter(x=x, y=y, mode="markers", marker=marker, hovertext=hover, hoverinfo="text", **changes)


def band(
    x: Sequence[Any],
    low: Sequence[Any],
    high: Sequence[Any],
    fill: str,
    *,
    edge: dict[str, Any] | None = None,
    name: str | None = None,
    **changes: Any,
) -> list[go.Scatter]:
    """The space between two lines, filled; it has one entry in the legend."""
    shared: dict[str, Any] = {"x": x, "mode": "lines", "line": edge or {"width": 0}, "hoverinfo": "skip"} | changes
    return [
        go.Scatter(y=high, showlegend=False, **shared),
        go.Scatter(y=low, fill="tonexty", fillcolor=fill, name=name, **shared),
    ]


def key(name: str, colour: str, **changes: Any) -> go.Scatter:
    """An entry in the legend for a shape, which has none of its own."""
    mark = {"symbol": "square", "size": 12, "color": colour} | changes
    return go.Scatter(x=[None], y=[None], mode="markers", marker=mark, name=name)


def across(y: float, colour: str, *, width: float = 1.0, dash: str | None = None, **changes: Any) -> dict[str, Any]:
    """A horizontal line behind the whole plot."""
    look = {"color": colour, "width": width} | ({"dash": dash} if dash else {})
    shape = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "layer": "below", "line": look}
    return shape | changes


def upright(x0: float, x1: float, **changes: Any) -> dict[str, Any]:
    """A rectangle from the bottom to the top of the plot, or a line where `x0` is `x1`."""
    kind = "line" if x0 == x1 else "rect"
    return {"type": kind, "yref": "paper", "y0": 0, "y1": 1, "x0": x0, "x1": x1} | changes


def colour_bar(title: str, **changes: Any) -> dict[str, Any]:
    return {
        "title": {"text": title, "side": "right", "font": {"size": 12.5, "color": palette.SOFT[0]}},
        "thickness": 10,
        "outlinewidth": 0,
        "ticks": "",
        "tickfont": {"size": 12, "color": palette.SOFT[0]},
        "len": 0.7,
    } | changes


NARROW_BAR = {"colorbar.title.text": "", "colorbar.thickness": 8, "colorbar.len": 0.9}
"""What changes in the colour bar of a heat map on a small screen: the trace carries it in `meta`."""
