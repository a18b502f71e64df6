"""What every plot has in common, and the placing of labels so that they can be read."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float64

from heartstrings.report import palette

FONT = 'system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif'


def plot_text(text: object) -> str:
    """Text for a plot: plotly reads a little HTML in labels, so names from outside are escaped first."""
    return html.escape(str(text), quote=False)


def wrapped(text: str, width: int = 40) -> str:
    """`plot_text` in lines of at most `width` characters: plotly cuts an axis title that is longer than its axis."""
    return "<br>".join(plot_text(line) for line in textwrap.wrap(text, width))


def axis(title: str | None = None, **changes: Any) -> dict[str, Any]:
    """A quiet axis: thin grid, no frame, its title in words."""
    base: dict[str, Any] = {
        "title": {"text": title, "font": {"size": 13, "color": palette.SOFT[0]}, "standoff": 10},
        "gridcolor": palette.GRID[0],
        "linecolor": palette.RULE[0],
        "tickcolor": palette.RULE[0],
        "tickfont": {"size": 12.5, "color": palette.SOFT[0]},
        "ticks": "",
        "zeroline": False,
        "automargin": True,
    }
    return base | changes


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


def figure(
    data: Sequence[Any],
    *,
    x: dict[str, Any],
    y: dict[str, Any],
    narrow: Mapping[str, Any] | None = None,
    **changes: Any,
) -> go.Figure:
    """A plot in the report's style.

    Args:
        x, y: axes, from `axis`.
        narrow: what to change on small screens, as `{"xaxis.title.text": ...}`.
    """
    layout: dict[str, Any] = {
        "template": {},  # None stands for plotly's own, 7 kB a plot
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
        "xaxis": x,
        "yaxis": y,
        "meta": {"narrow": dict(narrow or {})},
    }
    return go.Figure(data=list(data), layout=layout | changes)


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
"""What a small screen takes from a heat map's colour bar: `figure` traces carry it in `meta`."""


def layer_ticks(layers: Sequence[int]) -> dict[str, Any]:
    """Ticks at whole layers only; a few layers get one each."""
    if len(layers) <= 16:
        return {"tickmode": "array", "tickvals": list(layers), "ticktext": [str(layer) for layer in layers]}
    return {"tickmode": "auto", "nticks": 12, "tickformat": "d"}


def place_labels(
    points: Float64[np.ndarray, "word 2"],
    words: Sequence[str],
    *,
    width: float,
    height: float,
    most: int,
    marker: float = 9.0,
    character: float = 6.7,
    line: float = 14.0,
) -> dict[int, str]:
    """Which points get a label, and on which side, so that no label covers a label or a foreign point.

    Greedy: points far from the middle come first, since the outline tells a reader the axes.

    Args:
        points: coordinates in any unit.
        width, height: size of the plotting area in pixels.
        most: never more labels than this.
        marker, character, line: pixels of a point, of a letter's width and of a line's height.

    Returns:
        index of the point -> plotly's `textposition`.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    # The axis range leaves a margin of 8% at each end, as the map does.
    pixels = ((points - low) / span * 0.84 + 0.08) * np.array([width, height])
    middle = np.median(pixels, axis=0)
    order = np.argsort(-np.linalg.norm((pixels - middle) / np.array([width, height]), axis=1), kind="stable")
    taken = np.column_stack([pixels - marker / 2, pixels + marker / 2])
    placed: list[np.ndarray] = []
    sides: dict[int, str] = {}
    for index in order:
        if len(sides) == most:
            break
        x, y = pixels[index]
        wide = character * len(words[index])
        boxes = {
            "top center": (x - wide / 2, y + marker / 2, x + wide / 2, y + marker / 2 + line),
            "bottom center": (x - wide / 2, y - marker / 2 - line, x + wide / 2, y - marker / 2),
            "middle right": (x + marker / 2 + 2, y - line / 2, x + marker / 2 + 2 + wide, y + line / 2),
            "middle left": (x - marker / 2 - 2 - wide, y - line / 2, x - marker / 2 - 2, y + line / 2),
        }
        others = np.delete(taken, index, axis=0)
        for side, box in boxes.items():
            inside = box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height
            if inside and not _overlaps(box, others) and not (placed and _overlaps(box, np.array(placed))):
                placed.append(np.array(box))
                sides[int(index)] = side
                break
    return sides


def _overlaps(box: tuple[float, float, float, float], others: np.ndarray) -> bool:
    left, bottom, right, top = box
    return bool(np.any((others[:, 0] < right) & (others[:, 2] > left) & (others[:, 1] < top) & (others[:, 3] > bottom)))
