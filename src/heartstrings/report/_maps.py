"""Plots of one layer: the plane of the emotions, their cosines, and how layers resemble each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float64

from heartstrings.report import _palette as palette
from heartstrings.report._labels import place_labels
from heartstrings.report._numbers import number
from heartstrings.report._style import NARROW_BAR, TIGHT, axis, colour_bar, dots, figure, plot_text

WIDE = (1000.0, 520.0)
NARROW = (310.0, 380.0)


def plane(
    points: Float64[np.ndarray, "emotion 2"],
    words: Sequence[str],
    valence: Float64[np.ndarray, "emotion"],
    arousal: Float64[np.ndarray, "emotion"],
    *,
    x_title: str,
    y_title: str,
    families: Sequence[str],
) -> go.Figure:
    """The emotions as points, coloured by rated valence; unrated ones are hollow. Axes are not to scale."""
    keep = np.isfinite(points).all(axis=1)
    points, valence, arousal = points[keep], valence[keep], arousal[keep]
    names = [word for word, kept in zip(words, keep, strict=True) if kept]
    groups = [group for group, kept in zip(families, keep, strict=True) if kept]
    rated = np.isfinite(valence)
    hover = [
        f"{plot_text(name)}<br>{plot_text(groups[i])}"
        f"<br>rated valence {number(float(valence[i]))}, arousal {number(float(arousal[i]))}"
        for i, name in enumerate(names)
    ]
    traces: list[Any] = []
    if rated.any():
        limit = float(np.nanmax(np.abs(valence)))
        scale = {
            "color": valence[rated].round(3).tolist(),
            "cmin": -limit,
            "cmax": limit,
            "colorscale": palette.DIVERGING_POINTS,
            "colorbar": colour_bar("rated valence", tickvals=[-limit, 0, limit], ticktext=["low", "middle", "high"]),
            "line": {"width": 0.7, "color": palette.SOFT[0]},
        }
        traces.append(_points(points, hover, rated, name="rated", marker=scale))
    if not rated.all():
        hollow = {"color": palette.SOFT[0], "symbol": "circle-open"}
        traces.append(_points(points, hover, ~rated, name="unrated", marker=hollow))
    for screen, (width, height), most in (("wide", WIDE, 70), ("narrow", NARROW, 22)):
        sides = place_labels(points, names, width=width, height=height, most=most)
        traces.append(
            go.Scatter(
                x=[float(points[i, 0]) for i in sides],
                y=[float(points[i, 1]) for i in sides],
                text=[plot_text(names[i]) for i in sides],
                textposition=list(sides.values()),
                # The markers are invisible: Plotly keeps a label away only from markers of the same trace.
                mode="markers+text",
                marker={"size": 10, "opacity": 0},
                textfont={"size": 12, "color": palette.INK[0]},
                hoverinfo="skip",
                showlegend=False,
                cliponaxis=False,
                meta={"only": screen},
            )
        )
    return figure(
        traces,
        x=axis(x_title, **_quiet(points[:, 0])),
        y=axis(y_title, **_quiet(points[:, 1])),
        showlegend=False,
        hovermode="closest",
        dragmode="zoom",
        margin=TIGHT,
    )


def _points(
    points: np.ndarray, hover: Sequence[str], which: np.ndarray, *, name: str, marker: dict[str, Any]
) -> go.Scatter:
    texts = [text for text, kept in zip(hover, which, strict=True) if kept]
    return dots(
        points[which, 0].tolist(),
        points[which, 1].tolist(),
        texts,
        {"size": 9} | marker,
        name=name,
        showlegend=False,
        meta={"narrow": {"marker.showscale": False, "marker.size": 7}},
    )


def _quiet(values: np.ndarray) -> dict[str, Any]:
    """No tick labels, since component scores have no meaningful unit, and the margin that `place_labels` assumes."""
    low, high = float(values.min()), float(values.max())
    air = 0.08 / 0.84 * ((high - low) or 1.0)
    return {
        "showticklabels": False,
        "range": [low - air, high + air],
        "zeroline": True,
        "zerolinecolor": palette.RULE[0],
        "zerolinewidth": 1,
        "nticks": 6,
    }


def cosines(matrix: Float64[np.ndarray, "emotion emotion"], words: Sequence[str]) -> go.Figure:
    """Cosine of every pair of emotion vectors, in the order of the tree."""
    names = [plot_text(word) for word in words]
    labels = {"tickmode": "array", "tickvals": list(range(len(words))), "ticktext": names, "tickfont": {"size": 11}}
    return _square(
        np.round(matrix, 3).tolist(),
        names,
        " · ",
        "cosine",
        palette.DIVERGING_FLAT,
        (-1.0, 1.0),
        labels if len(words) <= 40 else {"showticklabels": False},
        narrow={"xaxis.showticklabels": False, "yaxis.showticklabels": False},
        meta={"narrow": NARROW_BAR},
    )


def resemblance(
    matrix: Sequence[Sequence[float]], labels: Sequence[object], *, title: str | None = "layer"
) -> go.Figure:
    """Linear CKA of every pair of layers or bundles; 1 is the same geometry up to rotation and scale."""
    names = [plot_text(label) for label in labels]
    named = any(isinstance(label, str) for label in labels)
    step = max(1, len(names) // 10)
    return _square(
        [[round(float(value), 3) if np.isfinite(value) else None for value in row] for row in matrix],
        names,
        " and ",
        "CKA",
        palette.SEQUENTIAL,
        (0.0, 1.0),
        {"tickmode": "array", "tickvals": list(range(0, len(names), step)), "ticktext": names[::step]},
        title=title,
        narrow={"xaxis.showticklabels": False} if named else None,
        texttemplate="%{z:.2f}" if len(names) <= 8 else None,
        textfont={"size": 11.5},
        meta={"narrow": {"showscale": False} if named else NARROW_BAR},
    )


def _square(
    z: Sequence[Sequence[float | None]],
    names: Sequence[str],
    between: str,
    quantity: str,
    scale: Any,
    ends: tuple[float, float],
    ticks: dict[str, Any],
    *,
    title: str | None = None,
    narrow: dict[str, Any] | None = None,
    **changes: Any,
) -> go.Figure:
    """A square heat map of every pair."""
    heat = go.Heatmap(
        z=z,
        zmin=ends[0],
        zmax=ends[1],
        colorscale=scale,
        colorbar=colour_bar(quantity),
        hovertext=[[f"{a}{between}{b}" for b in names] for a in names],
        hovertemplate=f"%{{hovertext}}<br>{quantity} %{{z:.2f}}<extra></extra>",
        **changes,
    )
    side = axis(title, constrain="domain", showgrid=False, **ticks)
    return figure([heat], x=side, y=side | {"autorange": "reversed", "scaleanchor": "x"}, margin=TIGHT, narrow=narrow)


def confusion(shares: Sequence[Sequence[float | None]], labels: Sequence[str]) -> go.Figure:
    """Share of held-out stories of each family (row) that are read as each family (column)."""
    names = [plot_text(label) for label in labels]
    heat = go.Heatmap(
        z=[[None if value is None else round(float(value), 3) for value in row] for row in shares],
        x=names,
        y=names,
        zmin=0,
        zmax=max((value for row in shares for value in row if value is not None), default=1.0),
        colorscale=palette.SEQUENTIAL,
        colorbar=colour_bar("share of the row", tickformat=".0%"),
        hovertemplate="%{y} read as %{x}: %{z:.0%}<extra></extra>",
        texttemplate="%{z:.0%}" if len(names) <= 20 else None,
        textfont={"size": 10.5},
        meta={"narrow": {"showscale": False, "texttemplate": ""}},
    )
    return figure(
        [heat],
        x=axis("read as", showgrid=False, type="category", tickangle=-40),
        y=axis("written about", autorange="reversed", showgrid=False, type="category"),
        margin=TIGHT,
        narrow={"xaxis.tickfont.size": 10, "yaxis.tickfont.size": 10},
    )
