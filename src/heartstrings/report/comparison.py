"""Several atlases side by side: one table, one figure by fractional depth, one by resemblance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from heartstrings.core.errors import InputError
from heartstrings.geometry import similarity
from heartstrings.report import _maps as maps
from heartstrings.report import _palette as palette
from heartstrings.report._depth import null_band, of_variant, peak
from heartstrings.report._numbers import known, number
from heartstrings.report._page import Plot, render_page, write
from heartstrings.report._side_by_side import labels, link
from heartstrings.report._sources import AtlasFiles, read_atlas
from heartstrings.report._style import axis, error_bars, figure, line, plot_text

CURVES = (
    ("Valence", "pc1_valence", "|r|, valence and component 1"),
    ("Arousal", "pc2_arousal", "|r|, arousal and component 2"),
    ("Valence, best component", "best_valence", "|r|, valence and its best component"),
)


def render_comparison(atlas_dirs: Sequence[str | Path], out: str | Path) -> Path:
    """Write one HTML file that sets several atlases side by side, and return its path.

    Raises:
        InputError: no atlas given, or one that cannot be read.
    """
    if not atlas_dirs:
        raise InputError("no atlas to compare", "at least one folder written by `heartstrings atlas`")
    out = Path(out)
    return write(out, page([read_atlas(folder) for folder in atlas_dirs], out))


def page(atlases: Sequence[AtlasFiles], out: Path) -> str:
    """The document as text; `out` is where it will be written: links to the single reports are relative to it."""
    names = labels([atlas.name for atlas in atlases], [atlas.folder for atlas in atlases])
    named = list(zip(names, atlases, strict=True))
    views = tuple((button, _curves(named, attribute, title)) for button, attribute, title in CURVES)
    common, agreement = _agreement(named)
    view: dict[str, object] = {
        "atlases": atlases,
        "labels": names,
        "shown": [(name, atlas, link(atlas.folder / "report.html", out)) for name, atlas in named],
        "of_variant": of_variant,
        "peak": peak,
        "curves": Plot("curves", views, height=440, narrow_height=400),
        "undrawn": [name for name, atlas in named if atlas.depth(0) is None],
        "common": common,
        "agreement": agreement,
    }
    return render_page("comparison.html", view)


def _curves(named: Sequence[tuple[str, AtlasFiles]], attribute: str, title: str) -> go.Figure:
    traces = []
    for place, (label, atlas) in enumerate(named):
        fits = [(row.layer, getattr(row, attribute)) for row in of_variant(atlas.geometry, "raw")]
        fits = [(layer, fit) for layer, fit in fits if known(fit.r)]
        if atlas.depth(0) is None:
            continue
        colour = palette.SERIES[place % len(palette.SERIES)][0]
        whole = fits and all(known(getattr(fit, "low", None)) and known(fit.high) for _, fit in fits)
        bars: dict[str, Any] = (
            {"error_y": error_bars([(fit.r, fit.low, fit.high) for _, fit in fits], colour)} if whole else {}
        )
        traces.append(
            line(
                [atlas.depth(layer) for layer, _ in fits],
                [fit.r for _, fit in fits],
                plot_text(label),
                colour,
                [plot_text(f"{label}, layer {layer}: |r| {number(fit.r)}, n = {fit.n}") for layer, fit in fits],
                dash=palette.DASHES[place % len(palette.DASHES)],
                size=7,
                symbol=palette.MARKERS[place % len(palette.MARKERS)],
                **bars,
            )
        )
    return figure(
        traces,
        x=axis("fractional depth", range=[-0.01, 1.03], dtick=0.2),
        y=axis(title, range=[0, 1.02], dtick=0.2),
        shapes=null_band(min(atlas.geometry.n_rated for _, atlas in named))[:1],
        narrow={"yaxis.title.text": "|r|"},
    )


def _agreement(named: Sequence[tuple[str, AtlasFiles]]) -> tuple[tuple[str, ...] | None, Plot | None]:
    """The emotions that all bundles share (None with fewer than two bundles), and a plot of linear CKA on them."""
    have = [(name, atlas.geometry.shown_layer, atlas.vectors) for name, atlas in named if atlas.vectors is not None]
    if len(have) < 2:
        return None, None
    common = tuple(sorted(set.intersection(*(set(vectors.emotions) for _, _, vectors in have))))
    if len(common) < 4:
        return common, None
    shown = [
        vectors.raw[vectors.layers.index(layer)][list(vectors.select(common))].astype(np.float64)
        for _, layer, vectors in have
    ]
    matrix = [[linear_cka(a, b) for b in shown] for a in shown]
    heat = maps.resemblance(matrix, [name for name, _, _ in have], title=None)
    return common, Plot("agreement-cka", (("", heat),), height=420, narrow_height=360, classes="square")


def linear_cka(a: np.ndarray, b: np.ndarray) -> float:
    """Linear CKA of two centred matrices with the same rows (Kornblith et al. 2019, section 3)."""
    return similarity.linear_cka([a @ a.T], [b @ b.T])[0][0]
