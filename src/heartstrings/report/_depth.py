"""Plots by depth: where valence and arousal are, how sure that is, and what else a component follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import plotly.graph_objects as go
from scipy import stats

from heartstrings.geometry.results import Correlation, Geometry, LayerGeometry
from heartstrings.report import _palette as palette
from heartstrings.report._numbers import correlation, known, number, p_value
from heartstrings.report._style import (
    NARROW_BAR,
    TIGHT,
    across,
    axis,
    band,
    colour_bar,
    error_bars,
    figure,
    key,
    layer_axis,
    line,
    plot_text,
)

Rating = Literal["valence", "arousal"]
RATINGS: tuple[Rating, ...] = ("valence", "arousal")
COLOUR = {"valence": palette.VALENCE[0], "arousal": palette.AROUSAL[0]}
BAND = {"valence": palette.VALENCE_BAND[0], "arousal": palette.AROUSAL_BAND[0]}
COMPONENT = {"valence": 1, "arousal": 2}
VARIANTS = (("raw", "solid"), ("denoised", "dash"))


def of_variant(geometry: Geometry, variant: str) -> list[LayerGeometry]:
    return [layer for layer in geometry.layers if layer.variant == variant]


def layers_of(geometry: Geometry) -> list[int]:
    return sorted({layer.layer for layer in geometry.layers})


def expected(row: LayerGeometry, rating: Rating) -> Correlation:
    """The rating's correlation with the component that it is expected on."""
    return row.pc1_valence if rating == "valence" else row.pc2_arousal


def peak(rows: Sequence[LayerGeometry], rating: Rating = "valence") -> LayerGeometry | None:
    """The layer at which the rating follows the component that it is expected on most closely."""
    fitted = [row for row in rows if known(expected(row, rating).r)]
    return max(fitted, key=lambda row: expected(row, rating).r or 0.0, default=None)


def critical_r(n: int) -> float | None:
    """|r| that n pairs without any relation exceed once in twenty; two-sided t test of Pearson's r."""
    if n < 4:
        return None
    t = float(stats.t.ppf(0.975, n - 2))
    return float(t / (n - 2 + t**2) ** 0.5)


def null_band(n: int) -> list[dict[str, Any]]:
    """The band of correlations that chance gives at a single layer, and its edge."""
    limit = critical_r(n)
    if limit is None:
        return []
    edge = across(limit, palette.NULL[0], dash="dot", yref="y")
    return [edge | {"type": "rect", "y0": 0, "fillcolor": palette.NULL_BAND[0], "line": {"width": 0}}, edge]


def by_depth(geometry: Geometry, rating: Rating) -> go.Figure:
    """|r| of the rating with the component people expect it on, by layer, with intervals and the null band."""
    layers = layers_of(geometry)
    colour, few = COLOUR[rating], len(layers) < 3
    traces: list[Any] = []
    for variant, dash in VARIANTS:
        fits = [(row.layer, expected(row, rating)) for row in of_variant(geometry, variant)]
        fits = [(layer, fit) for layer, fit in fits if known(fit.r)]
        if not fits:
            continue
        x = [layer for layer, _ in fits]
        if variant == "raw" and not few:
            traces += band(
                x, [fit.low for _, fit in fits], [fit.high for _, fit in fits], BAND[rating], name="95% interval"
            )
        bars = error_bars([(fit.r, fit.low, fit.high) for _, fit in fits], colour)
        alone: dict[str, Any] = {"mode": "markers", "error_y": bars} if few else {}
        traces.append(
            line(
                x,
                [fit.r for _, fit in fits],
                variant,
                colour,
                [_hover(layer, variant, fit) for layer, fit in fits],
                dash=dash,
                symbol="circle" if variant == "raw" else "circle-open",
                size=9 if few else 6,
                **alone,
            )
        )
    shades = (palette.GREEN[0], palette.PURPLE[0], palette.GREY[0])
    for place, (label, rows) in enumerate(geometry.corrected.items()):
        fits = [(row.layer, expected(row, rating)) for row in rows if row.variant == "raw"]
        fits = [(layer, fit) for layer, fit in fits if known(fit.r)]
        if fits:
            traces.append(
                line(
                    [layer for layer, _ in fits],
                    [fit.r for _, fit in fits],
                    plot_text(f"raw, {label}"),
                    shades[place % 3],
                    [_hover(layer, label, fit) for layer, fit in fits],
                    width=1.5,
                    dash=palette.DASHES[2 + place % 3],
                    symbol=palette.MARKERS[1 + place % 4],
                )
            )
    limit = critical_r(geometry.n_rated)
    if limit is not None:
        traces.append(key(f"chance: 95% below {number(limit)}", palette.NULL[0], opacity=0.35))
    return figure(
        traces,
        x=layer_axis(layers, room=True),
        y=axis(f"|r|, {rating} and component {COMPONENT[rating]}", range=[0, 1.02], dtick=0.2),
        shapes=null_band(geometry.n_rated),
        hovermode="closest",
    )


def _hover(layer: int, label: str, fit: Correlation) -> str:
    return plot_text(f"layer {layer}, {label}") + f"<br>|r| = {correlation(fit)}, n = {fit.n}"


def component_map(geometry: Geometry, variant: str, rating: Rating) -> go.Figure:
    """|r| of every component with a rating, by layer; a ring on each layer's best, filled where p < .05."""
    rows = of_variant(geometry, variant)
    columns: list[tuple[float | None, ...]] = [getattr(row, f"component_{rating}") for row in rows]
    width = max(len(column) for column in columns)
    layers = [row.layer for row in rows]
    heat = go.Heatmap(
        x=layers,
        y=list(range(1, width + 1)),
        z=[
            [round(abs(r), 3) if place < len(column) and known(r := column[place]) else None for column in columns]
            for place in range(width)
        ],
        zmin=0,
        zmax=1,
        colorscale=palette.SEQUENTIAL,
        colorbar=colour_bar("|r|", tickvals=[0, 0.5, 1], ticktext=["0", ".5", "1"]),
        hovertemplate="layer %{x}, component %{y}: |r| %{z:.2f}<extra></extra>",
        meta={"narrow": NARROW_BAR},
        xgap=1,
        ygap=1,
    )
    bests = [(row.layer, getattr(row, f"best_{rating}")) for row in rows]
    bests = [(layer, best) for layer, best in bests if best.component is not None]
    rings = go.Scatter(
        x=[layer for layer, _ in bests],
        y=[best.component for _, best in bests],
        mode="markers",
        marker={
            "symbol": ["circle" if known(best.p) and best.p < 0.05 else "circle-open" for _, best in bests],
            "size": 11,
            "color": "#ffffff",
            "line": {"width": 2, "color": "#101010"},
        },
        hovertext=[
            f"layer {layer}: component {best.component} is the best<br>|r| = {number(best.r)}, "
            f"p = {p_value(best.p)}, n = {best.n}"
            for layer, best in bests
        ],
        hoverinfo="text",
    )
    return figure(
        [heat, rings],
        x=layer_axis(layers, showgrid=False),
        y=axis("component", autorange="reversed", dtick=1, tickformat="d", showgrid=False),
        showlegend=False,
        hovermode="closest",
        margin=TIGHT,
    )


def readout(geometry: Geometry) -> go.Figure:
    """R2 of a cross-validated linear readout of both ratings, by layer."""
    traces = []
    low = 0.0
    for rating in RATINGS:
        for variant, dash in VARIANTS:
            rows = of_variant(geometry, variant)
            scores = [(row.layer, getattr(row, f"readout_{rating}_r2")) for row in rows]
            scores = [(layer, r2) for layer, r2 in scores if known(r2)]
            if not scores:
                continue
            low = min(low, *(r2 for _, r2 in scores))
            traces.append(
                line(
                    [layer for layer, _ in scores],
                    [max(r2, -1.0) for _, r2 in scores],
                    f"{rating}, {variant}",
                    COLOUR[rating],
                    [f"layer {layer}, {rating}, {variant}<br>R² = {number(r2)}" for layer, r2 in scores],
                    dash=dash,
                    symbol="circle" if rating == "valence" else "diamond",
                )
            )
    return figure(
        traces,
        x=layer_axis(layers_of(geometry), room=True),
        y=axis("R², cross-validated", range=[max(low, -1.0) - 0.05, 1.02]),
        shapes=[across(0.0, palette.NULL[0], dash="dot")],
    )


def nuisances(geometry: Geometry) -> go.Figure | None:
    """|r| of component 1 with valence and with each property of the stories, by layer."""
    look = {
        "length": (palette.AROUSAL[0], "dash", "square"),
        "person": (palette.GREEN[0], "dot", "triangle-up"),
        "dialogue": (palette.PURPLE[0], "dashdot", "diamond"),
        "topic": (palette.GREY[0], "longdash", "x"),
    }
    rows = of_variant(geometry, "raw")
    sizes: dict[str, dict[int, float]] = {}
    for row in rows:
        for fit in row.nuisances:
            if fit.component == 1 and known(fit.r):
                by_layer = sizes.setdefault(fit.nuisance, {})
                by_layer[row.layer] = max(abs(fit.r), by_layer.get(row.layer, 0.0))
    if not sizes:
        return None
    valence = {row.layer: row.pc1_valence.r for row in rows if row.pc1_valence.r is not None}
    lines = [(valence, "valence (wanted)", palette.VALENCE[0], "solid", "circle", 2.5)]
    lines += [(sizes[name], name, *look[name], 2.0) for name in sorted(sizes)]
    return figure(
        [
            line(
                list(by_layer),
                list(by_layer.values()),
                name,
                colour,
                [f"layer {layer}, {name}: {number(value)}" for layer, value in by_layer.items()],
                dash=dash,
                symbol=symbol,
                width=width,
                size=7,
            )
            for by_layer, name, colour, dash, symbol, width in lines
        ],
        x=layer_axis(layers_of(geometry), room=True),
        y=axis("|r| with component 1", range=[0, 1.02], dtick=0.2),
    )


def stability(series: dict[str, Sequence[float]], layers: Sequence[int]) -> go.Figure:
    """Cosine of the valence direction at a layer with the one at the next layer."""
    traces = [
        line(
            list(layers[: len(values)]),
            [value if known(value) else None for value in values],
            variant,
            palette.VALENCE[0],
            [f"layers {layers[i]} to {layers[i + 1]}, {variant}: {number(value)}" for i, value in enumerate(values)],
            dash="solid" if variant == "raw" else "dash",
            symbol="circle" if variant == "raw" else "circle-open",
        )
        for variant, values in series.items()
    ]
    smallest = min((float(value) for values in series.values() for value in values if value is not None), default=0.0)
    return figure(
        traces,
        x=layer_axis(layers[:-1], "from this layer to the next"),
        y=axis("cosine of valence directions", range=[min(0.0, smallest) - 0.03, 1.03]),
    )
