"""The report of one model: one HTML file from one atlas folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from heartstrings.geometry.results import Correlation, Geometry, LayerGeometry, Position
from heartstrings.report import _depth as depth
from heartstrings.report import _held_out as held_out
from heartstrings.report import _maps as maps
from heartstrings.report._numbers import known
from heartstrings.report._page import Plot, render_page, write
from heartstrings.report._sources import AtlasFiles, read_atlas


def render(atlas_dir: str | Path) -> Path:
    """Write `report.html` into an atlas folder and return its path.

    The file holds everything it needs, and asks no network for anything.

    Raises:
        InputError: no folder, or no readable `geometry.json` in it.
    """
    atlas = read_atlas(atlas_dir)
    return write(atlas.folder / "report.html", page(atlas))


def page(atlas: AtlasFiles) -> str:
    """The document as text."""
    geometry = atlas.geometry
    raw = depth.of_variant(geometry, "raw")
    view: dict[str, object] = {
        "atlas": atlas,
        "geometry": geometry,
        "raw": raw,
        "peak": depth.peak(raw),
        "answer": re.split(r"(?<=\.)\s+(?=[A-Z])", geometry.sentence),
        "plane": _plane(atlas),
        "by_depth": [_by_depth(geometry, rating) for rating in depth.RATINGS],
        "components": [(rating, _components(geometry, rating)) for rating in depth.RATINGS],
        "culprits": _culprits(raw),
        "nuisances": _one("nuisances", depth.nuisances(geometry), height=340, narrow_height=390),
        "readout_r2": _readout(geometry),
        "layers": depth.layers_of(geometry),
        "cosines": _cosines(atlas),
        "visible": visible,
        "flat": flat,
    }
    return render_page("atlas.html", view | _across(geometry) | held_out.view(atlas))


def _one(key: str, plot: go.Figure | None, **size: Any) -> Plot | None:
    return None if plot is None else Plot(key, (("", plot),), **size)


def _plane(atlas: AtlasFiles) -> Plot:
    """The emotions in three views: two components, the two ratings, and UMAP if it was computed."""
    shown = atlas.geometry.map
    words = tuple(position.emotion for position in shown.pca)
    first, second = shown.components

    def plane(positions: Sequence[Position], x_title: str, y_title: str) -> go.Figure:
        emotions = tuple(position.emotion for position in positions)
        points = np.array([[position.x, position.y] for position in positions], dtype=np.float64)
        return drawn(points, emotions, x_title, y_title)

    def drawn(points: np.ndarray, emotions: tuple[str, ...], x_title: str, y_title: str) -> go.Figure:
        families = [atlas.family(word) for word in emotions]
        return maps.plane(points, emotions, *atlas.rated(emotions), x_title=x_title, y_title=y_title, families=families)

    views = [(f"Components {first} and {second}", plane(shown.pca, f"component {first}", f"component {second}"))]
    rated = np.column_stack(atlas.rated(words))
    if np.isfinite(rated[:, 0]).sum() >= 2:
        views.append(("Ratings", drawn(rated, words, "rated valence →", "rated arousal →")))
    if shown.umap is not None:
        views.append(("UMAP", plane(shown.umap, "UMAP 1", "UMAP 2")))
    return Plot("map", tuple(views), height=560, narrow_height=440)


@dataclass(frozen=True)
class ByDepth:
    """A rating and its expected component. `layer` and `fit` are of the layer with the highest correlation."""

    rating: str
    component: int
    plot: Plot
    layer: int | None
    fit: Correlation | None


def _by_depth(geometry: Geometry, rating: depth.Rating) -> ByDepth:
    top = depth.peak(depth.of_variant(geometry, "raw"), rating)
    plot = Plot(f"depth-{rating}", (("", depth.by_depth(geometry, rating)),), height=380, narrow_height=410)
    layer, fit = (None, None) if top is None else (top.layer, depth.expected(top, rating))
    return ByDepth(rating, depth.COMPONENT[rating], plot, layer, fit)


def _components(geometry: Geometry, rating: depth.Rating) -> Plot:
    views = tuple(
        (variant, depth.component_map(geometry, variant, rating))
        for variant, _ in depth.VARIANTS
        if depth.of_variant(geometry, variant)
    )
    return Plot(f"components-{rating}", views, height=340, narrow_height=320)


def _culprits(raw: Sequence[LayerGeometry]) -> dict[str, list[LayerGeometry]]:
    """The properties of stories that component 1 follows more closely than a rating, each with its layers."""
    culprits: dict[str, list[LayerGeometry]] = {}
    for row in raw:
        if row.first_component_nuisance is not None:
            culprits.setdefault(row.first_component_nuisance.nuisance, []).append(row)
    return culprits


def _readout(geometry: Geometry) -> Plot | None:
    there = any(known(r2) for row in geometry.layers for r2 in (row.readout_valence_r2, row.readout_arousal_r2))
    return _one("readout-r2", depth.readout(geometry) if there else None, height=340, narrow_height=390)


def _across(geometry: Geometry) -> dict[str, object]:
    """Plots of how similar the layers are; None with one layer only."""
    layers = depth.layers_of(geometry)
    if len(layers) < 2:
        return {"cka": None, "stability": None}
    series: dict[str, Sequence[float]] = {variant: values for variant, values in geometry.stability.items() if values}
    views = tuple((variant, maps.resemblance(matrix, layers)) for variant, matrix in geometry.cka.items())
    turn = depth.stability(series, layers) if series else None
    return {"cka": Plot("cka", views, narrow_height=330), "stability": _one("stability", turn, narrow_height=320)}


def _cosines(atlas: AtlasFiles) -> Plot | None:
    geometry, vectors = atlas.geometry, atlas.vectors
    if geometry.clusters is None or vectors is None:
        return None
    order = geometry.clusters.order
    contrasts = vectors.contrasts(geometry.shown_variant)[vectors.layers.index(geometry.shown_layer)]
    rows = contrasts[list(vectors.select(order))].astype(np.float64)
    size = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, size, out=np.zeros_like(rows), where=size > 0)
    return _one("cosines", maps.cosines(unit @ unit.T, order), height=560, narrow_height=340, classes="square")


def visible(token: str) -> str:
    """A token with its white space and control characters made visible."""
    named = {"\n": "⏎", "\t": "⇥", " ": "·"}
    return (
        "".join(named.get(sign, sign if sign.isprintable() else f"\\u{ord(sign):04x}") for sign in token) or "(empty)"
    )


def flat(
    fields: Mapping[str, Any], prefix: str = "", *, nested: Callable[[str], bool] = {"model", "pooling"}.__contains__
) -> Iterator[tuple[str, Any]]:
    """Label and value of every field. A mapping whose key is `nested` gives one row for each of its own fields."""
    for key, value in fields.items():
        label = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, Mapping) and nested(key):
            yield from flat(value, f"{label}: ", nested=nested)
        else:
            yield label, value
