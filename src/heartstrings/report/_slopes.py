"""Slopes: each direction's among those of its controls, prompt by prompt, and layer by layer of the search."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from heartstrings.report import _palette as palette
from heartstrings.report._dose import DOSE
from heartstrings.report._kinds import KINDS
from heartstrings.report._numbers import dose, known, number, p_value, share
from heartstrings.report._page import Plot
from heartstrings.report._style import NARROW_BAR, TIGHT, axis, colour_bar, dots, figure, upright
from heartstrings.stats.estimate import Estimate
from heartstrings.verdict.results import AnswerCard

PER = 0.1
"""Slopes by prompt are shown in points for this much of a dose: 100 * PER times the change per unit of dose."""


def control_plot(name: str, card: AnswerCard) -> Plot | None:
    """Slopes of the controls, a strip for each kind, with the direction's own marked."""
    groups = [group for group in card.controls if group.slopes]
    if not groups:
        return None
    traces: list[Any] = []
    for row, group in enumerate(groups):
        # A fixed spread keeps equal slopes apart; the height has no meaning.
        spread = 0.3 * np.sin(np.arange(len(group.slopes)) * 2.4)
        colour = KINDS[group.kind].colour
        traces.append(
            dots(
                list(group.slopes),
                np.round(row + spread, 3).tolist(),
                [f"{KINDS[group.kind].words}: {number(slope)}" for slope in group.slopes],
                {"size": 7, "color": colour, "opacity": 0.75, "symbol": KINDS[group.kind].symbol},
                showlegend=False,
            )
        )
    shapes: list[dict[str, Any]] = []
    own = card.slope
    if known(own.low) and known(own.high):
        shaded = {"layer": "below", "fillcolor": palette.VALENCE_BAND[0], "line": {"width": 0}}
        shapes.append(upright(own.low, own.high, **shaded))
    if known(own.value):
        shapes.append(upright(own.value, own.value, line={"color": palette.VALENCE[0], "width": 2.5}))
    # Shapes do not extend an automatic axis range, but invisible markers do.
    ends = [value for value in (own.low, own.value, own.high) if known(value)]
    traces.append(
        go.Scatter(x=ends, y=[0] * len(ends), mode="markers", marker={"opacity": 0}, hoverinfo="skip", showlegend=False)
    )
    labels = [f"{KINDS[group.kind].name}<br>n = {len(group.slopes)}, p {p_value(group.p)}" for group in groups]
    plot = figure(
        traces,
        x=axis("slope, log-odds a unit of dose", nticks=8),
        y=axis(
            None,
            tickmode="array",
            tickvals=list(range(len(groups))),
            ticktext=labels,
            range=[-0.6, len(groups) - 0.4],
            showgrid=False,
        ),
        shapes=shapes,
        showlegend=False,
        margin={"l": 8, "r": 14, "t": 10, "b": 8},
        hovermode="closest",
        narrow={"yaxis.tickfont.size": 11},
    )
    return Plot(name, (("", plot),), 110 + 70 * len(groups), 110 + 70 * len(groups))


def prompt_slopes(card: AnswerCard) -> np.ndarray:
    """Each prompt's own slope within the slope window, in points for `PER` of dose."""
    slopes = card.reliability.slopes if card.reliability else ()
    return np.asarray([100 * PER * slope for slope in slopes if known(slope)])


def prompt_plot(name: str, card: AnswerCard) -> Plot | None:
    """A histogram of the slopes prompt by prompt; None where too few samples carry a grade."""
    values = prompt_slopes(card)
    if not len(values):
        return None
    largest = float(np.abs(values).max()) or 1.0
    # One bin edge is at 0, so that no bar mixes positive and negative slopes.
    step = largest / 10
    mean = float(values.mean())
    left = float(np.floor(values.min() / step) * step) if values.min() < 0 else 0.0
    histogram = go.Histogram(
        x=np.round(values, 4).tolist(),
        xbins={"start": min(left, 0.0), "end": largest * 1.05, "size": step},
        autobinx=False,
        marker={"color": palette.VALENCE[0], "line": {"color": palette.PAPER[0], "width": 1}},
        hovertemplate="%{x}: %{y} prompts<extra></extra>",
    )
    plot = figure(
        [histogram],
        x=axis("slope, points for 0.1 of dose", nticks=9),
        y=axis("prompts", rangemode="tozero", nticks=6, tickformat="d"),
        shapes=[
            upright(0.0, 0.0, line={"color": palette.INK[0], "width": 1.5}),
            upright(mean, mean, line={"color": palette.AROUSAL[0], "width": 2, "dash": "dash"}),
        ],
        showlegend=False,
        bargap=0,
        margin={"l": 8, "r": 14, "t": 10, "b": 8},
    )
    return Plot(name, (("", plot),), 260, 260, classes="small")


def layer_plot(name: str, card: AnswerCard) -> Plot | None:
    """Heat map of the outcome by searched layer and dose, with a frame around the chosen layer."""
    curves = [{point.dose: point.estimate for point in layer.points} for layer in card.layers]
    if not any(known(estimate.value) for curve in curves for estimate in curve.values()):
        return None
    doses = sorted({value for curve in curves for value in curve})
    nothing = Estimate(value=None, low=None, high=None)
    cells = [[curve.get(value, nothing) for value in doses] for curve in curves]
    heat = go.Heatmap(
        x=[dose(value) for value in doses],
        y=[str(layer.layer) for layer in card.layers],
        z=[[round(100.0 * estimate.value, 1) if known(estimate.value) else None for estimate in row] for row in cells],
        zmin=0,
        zmax=100,
        colorscale=palette.DIVERGING_FLAT,
        colorbar=colour_bar("%"),
        texttemplate="%{z:.0f}%",
        xgap=2,
        ygap=2,
        hoverinfo="text",
        meta={"narrow": {**NARROW_BAR, "showscale": False}},
        hovertext=[
            [
                f"layer {layer.layer}, dose {dose(at)}: {share(estimate)}"
                for at, estimate in zip(doses, row, strict=True)
            ]
            for layer, row in zip(card.layers, cells, strict=True)
        ],
    )
    frames: list[dict[str, Any]] = [
        # Cells of a category axis have width 1; the first is centred at 0. A dark frame with a light line in it is
        # visible on every colour.
        {
            "type": "rect",
            "x0": -0.48,
            "x1": len(doses) - 0.52,
            "y0": y - 0.46,
            "y1": y + 0.46,
            "line": {"color": colour[0], "width": width},
        }
        for y, layer in enumerate(card.layers)
        for colour, width in ((palette.INK, 6), (palette.PAPER, 2))
        if layer.chosen
    ]
    height = 130 + 46 * len(card.layers)
    plot = figure(
        [heat],
        x=axis(DOSE, type="category", showgrid=False),
        y=axis("layer", type="category", showgrid=False),
        showlegend=False,
        shapes=frames,
        margin=TIGHT,
        hovermode="closest",
    )
    return Plot(name, (("", plot),), height, height)
