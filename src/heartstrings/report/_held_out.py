"""The held-out readout in the report: is the true emotion found in texts that the vectors never saw?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from heartstrings.geometry.readout_results import Estimate, HeldOut, ReadoutResult
from heartstrings.geometry.results import Geometry
from heartstrings.report import _maps as maps
from heartstrings.report import _palette as palette
from heartstrings.report._numbers import against_chance
from heartstrings.report._page import Plot
from heartstrings.report._sources import AtlasFiles
from heartstrings.report._style import axis, error_bars, figure, layer_axis, line


def view(atlas: AtlasFiles) -> dict[str, object]:
    """For the template: the plots, and the comparison with words alone; None where there is nothing to show."""
    readout = atlas.readout
    if readout is None or readout.held_out is None:
        return {"held_out": None, "confusion": None, "beside_words": None}
    confusion = readout.held_out.confusion
    kept = [i for i, texts in enumerate(confusion.texts) if texts]
    heat = maps.confusion([[confusion.shares[i][j] for j in kept] for i in kept], [confusion.families[i] for i in kept])
    return {
        "held_out": Plot("held-out", (("", _by_layer(readout.held_out)),), height=430, narrow_height=380),
        "confusion": Plot("confusion", (("", heat),), height=430, narrow_height=380),
        "beside_words": _beside_words(readout, readout.held_out, atlas.geometry),
    }


def _by_layer(held_out: HeldOut) -> go.Figure:
    traces: list[Any] = []
    layers = [ranks.layer for ranks in held_out.layers]
    for attribute, name, colour, symbol in (
        ("top1", "nearest", palette.VALENCE[0], "circle"),
        ("top5", "among five", palette.GREEN[0], "diamond"),
        ("family", "right family", palette.PURPLE[0], "square"),
    ):
        estimates: list[Estimate] = [getattr(ranks, attribute) for ranks in held_out.layers]
        hover = [
            f"layer {layer}, {name}: {against_chance(estimate, percents=True)}"
            for layer, estimate in zip(layers, estimates, strict=True)
        ]
        bars = error_bars([(estimate.value, estimate.low, estimate.high) for estimate in estimates], colour)
        traces.append(
            line(layers, [estimate.value for estimate in estimates], name, colour, hover, symbol=symbol, error_y=bars)
        )
        dotted = {"color": colour, "width": 1, "dash": "dot"}
        chance = [estimate.chance for estimate in estimates]
        traces.append(go.Scatter(x=layers, y=chance, mode="lines", line=dotted, hoverinfo="skip", showlegend=False))
    return figure(
        traces,
        x=layer_axis(layers),
        y=axis("share of stories", rangemode="tozero", tickformat=".0%"),
    )


def _beside_words(
    readout: ReadoutResult, held_out: HeldOut, geometry: Geometry
) -> list[tuple[str, float | None, float | None, float]] | None:
    """Every readout at the shown layer: of the model, from the words of the stories alone, and by guessing."""
    words = readout.words
    if words is None:
        return None
    shown = next(layer_ranks for layer_ranks in held_out.layers if layer_ranks.layer == readout.shown_layer)
    axes = next(
        (row for row in geometry.layers if (row.layer, row.variant) == (readout.shown_layer, readout.variant)), None
    )
    layer = [layer_ranks.layer for layer_ranks in held_out.layers].index(readout.shown_layer)
    model = [emotion.by_layer[layer] for emotion in readout.own]
    alone = [emotion.words for emotion in readout.own if emotion.words is not None]
    ranks = [
        (name, of_model.value, None if of_words is None else of_words.value, of_model.chance)
        for name, of_model, of_words in (
            ("The true emotion is nearest", shown.top1, words.top1),
            ("among five", shown.top5, words.top5),
            ("nearest is of the right family", shown.family, words.family),
        )
    ]
    return [
        *ranks,
        ("AUC of each emotion's own stories, mean", _mean(model), _mean(alone), 0.5),
        ("R² of valence, families held out", axes.readout_valence_r2 if axes else None, words.valence_r2, 0.0),
        ("R² of arousal, families held out", axes.readout_arousal_r2 if axes else None, words.arousal_r2, 0.0),
    ]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
