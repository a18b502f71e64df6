"""Several atlases side by side: one table, one figure by fractional depth, one by resemblance."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import plotly.graph_objects as go

from heartstrings.core.errors import InputError
from heartstrings.geometry import similarity
from heartstrings.geometry.results import Geometry, LayerGeometry
from heartstrings.report import maps, palette
from heartstrings.report.depth import critical_r, of_variant
from heartstrings.report.markup import Child, el, join, table
from heartstrings.report.page import Figure, Section, assemble, missing, write
from heartstrings.report.single import HONEST, KNOWN_TRUTH, footer
from heartstrings.report.sources import AtlasFiles, read_atlas
from heartstrings.report.style import axis, figure, plot_text
from heartstrings.report.words import (
    FINDINGS,
    NOTHING,
    best,
    correlation,
    finding,
    known,
    layer_ranges,
    number,
    p_value,
)

ORGANISMS = (
    "An organism is not a language model of any use. Each is a tiny transformer trained on generated stories so that "
    "its answer is known; it calibrates the instrument, and what it shows says nothing of a large model."
)
VERDICTS = {
    "encoded": ("✓", "encoded", "yes"),
    "not encoded": ("×", "not encoded", "no"),
    "inconclusive": ("?", "inconclusive", "no"),
}


def render_comparison(atlas_dirs: Sequence[str | Path], out: str | Path) -> Path:
    """Write one HTML file that sets several atlases side by side, and return its path.

    Raises:
        InputError: no atlas given, or one that cannot be read.
    """
    if not atlas_dirs:
        raise InputError("no atlas to compare", "at least one folder written by `heartstrings atlas`")
    out = Path(out)
    atlases = [read_atlas(folder) for folder in atlas_dirs]
    return write(out, page(atlases, out))


def page(atlases: Sequence[AtlasFiles], out: Path) -> str:
    """The document as text; `out` is where it will stand, for the links to the single reports."""
    labels = _labels(atlases)
    sections = [
        _summary(atlases, labels, out),
        _depth(atlases, labels),
        _layers(atlases, labels),
        _resemblance(atlases, labels),
    ]
    organisms = any(atlas.organism for atlas in atlases)
    header = join(
        el("p", "Emotion atlas, side by side", class_="kicker"),
        el("h1", ", ".join(labels) if len(", ".join(labels)) < 90 else f"{len(labels)} models"),
        el("p", _answer(atlases, labels), class_="answer"),
        el("div", el("p", ORGANISMS), class_="notice", role="note") if organisms else None,
        el("p", HONEST, class_="note"),
    )
    return assemble(title="Emotion atlas, side by side", header=header, sections=sections, footer=footer())


def _labels(atlases: Sequence[AtlasFiles]) -> list[str]:
    """Model names, made different by folder and pooling where two are the same."""
    names = [atlas.name for atlas in atlases]
    labels = [
        name if names.count(name) == 1 else f"{name} ({atlas.folder.name})"
        for name, atlas in zip(names, atlases, strict=True)
    ]
    return [
        label if labels.count(label) == 1 else f"{label} {number_}" for number_, label in enumerate(labels, start=1)
    ]


def _answer(atlases: Sequence[AtlasFiles], labels: Sequence[str]) -> str:
    parts = []
    for verdict, words in (
        ("encoded", "Emotion is encoded in"),
        ("not encoded", "not encoded in"),
        ("inconclusive", "undecided for"),
    ):
        named = [label for atlas, label in zip(atlases, labels, strict=True) if atlas.geometry.verdict == verdict]
        if named:
            parts.append(f"{words} {', '.join(named)}")
    text = "; ".join(parts) + "."
    return text[0].upper() + text[1:]


def peak(geometry: Geometry) -> LayerGeometry | None:
    """The raw layer whose first component follows valence most closely."""
    rows = [row for row in of_variant(geometry, "raw") if known(row.pc1_valence.r)]
    return max(rows, key=lambda row: row.pc1_valence.r or 0.0, default=None)


def _summary(atlases: Sequence[AtlasFiles], labels: Sequence[str], out: Path) -> Section:
    organisms = any(atlas.organism for atlas in atlases)
    rows: list[list[Child]] = []
    for atlas, label in zip(atlases, labels, strict=True):
        geometry, top = atlas.geometry, peak(atlas.geometry)
        sign, words, style = VERDICTS[geometry.verdict]
        raw = of_variant(geometry, "raw")
        every = [row.layer for row in raw]
        where: list[Child] = []
        for name in FINDINGS:
            layers = [row.layer for row in raw if row.finding == name]
            if layers:
                where.append(el("div", finding(name), f" {layer_ranges(layers, every)}", class_="together"))
        cells: list[Child] = [
            _link(atlas, label, out),
            el("span", el("span", sign, aria_hidden="true"), " ", words, class_=f"chip {style}"),
        ]
        if organisms:
            cells.append(KNOWN_TRUTH.get(atlas.organism or "", NOTHING))
        if top is None:
            cells += [NOTHING, NOTHING, NOTHING]
        else:
            fit = top.pc1_valence
            cells += [correlation(fit.r, fit.low, fit.high), str(top.layer), p_value(top.pc1_valence_p)]
        cells += [str(geometry.n_rated), join(where)]
        rows.append(cells)
    head = ["Model", "Emotion is", *(["Known truth"] if organisms else []), "|r| PC1, valence", "at layer", "p", "n",
            "Valence by layer, raw"]  # fmt: skip
    first = 3 if organisms else 2
    body = join(
        table(
            "The layer whose first component follows valence most closely, with its 95% interval; p repeats the "
            "search over layers. The highest of several layers is always flattering: read it with the whole curve.",
            head,
            rows,
            numeric=(first, first + 1, first + 2, first + 3),
        ),
        el(
            "ul",
            [
                el("li", el("strong", label), ": ", atlas.geometry.sentence)
                for atlas, label in zip(atlases, labels, strict=True)
            ],
            class_="sentences",
        ),
    )
    return Section("summary", "The answers", body)


def _link(atlas: AtlasFiles, label: str, out: Path) -> Child:
    report = atlas.folder / "report.html"
    if not report.is_file():
        return label
    relative = os.path.relpath(report.resolve(), out.resolve().parent)
    return el("a", label, href=Path(relative).as_posix().replace("%", "%25").replace("#", "%23").replace("?", "%3F"))


def fractional_depth(atlas: AtlasFiles) -> dict[int, float] | None:
    """Layer -> (layer + 1) / n_layers of the model; None where the model's depth is not known."""
    model = atlas.vectors.provenance.model if atlas.vectors else None
    if model is None:
        return None
    return {row.layer: (row.layer + 1) / model.n_layers for row in atlas.geometry.layers}


def _depth(atlases: Sequence[AtlasFiles], labels: Sequence[str]) -> Section:
    views = tuple(
        (name, _curves(atlases, labels, attribute, title))
        for name, attribute, title in (
            ("Valence", "pc1_valence", "|r|, valence and component 1"),
            ("Arousal", "pc2_arousal", "|r|, arousal and component 2"),
            ("Valence, best component", "best_valence", "|r|, valence and its best component"),
        )
    )
    lost = [label for atlas, label in zip(atlases, labels, strict=True) if fractional_depth(atlas) is None]
    unknown = f" Not drawn, since the depth of the model is not known: {', '.join(lost)}." if lost else ""
    curve = Figure(
        "curves",
        "By fractional depth",
        views,
        "One line a model, raw vectors, from the first block (left) to the last (right), with 95% intervals where a "
        "single component is fixed in advance. Inside the grey band is chance at a single layer." + unknown,
        "Lines of the correlation between components and ratings by fractional depth, one for each of: "
        + ", ".join(labels),
        height=440,
        narrow_height=400,
    )
    return Section("depth", "By depth", curve.html(), (curve,))


def _curves(atlases: Sequence[AtlasFiles], labels: Sequence[str], attribute: str, title: str) -> go.Figure:
    traces = []
    for place, (atlas, label) in enumerate(zip(atlases, labels, strict=True)):
        depths = fractional_depth(atlas)
        if depths is None:
            continue
        rows = [row for row in of_variant(atlas.geometry, "raw") if known(getattr(row, attribute).r)]
        fits = [getattr(row, attribute) for row in rows]
        colour = palette.SERIES[place % len(palette.SERIES)][0]
        trace = {
            "x": [depths[row.layer] for row in rows],
            "y": [fit.r for fit in fits],
            "name": plot_text(label),
            "mode": "lines+markers",
            "line": {"color": colour, "width": 2, "dash": palette.DASHES[place % len(palette.DASHES)]},
            "marker": {"size": 7, "symbol": palette.MARKERS[place % len(palette.MARKERS)], "color": colour},
            "hovertext": [
                plot_text(f"{label}, layer {row.layer}: |r| {number(fit.r)}, n = {fit.n}")
                for row, fit in zip(rows, fits, strict=True)
            ],
            "hoverinfo": "text",
        }
        if fits and hasattr(fits[0], "low") and all(known(fit.low) and known(fit.high) for fit in fits):
            trace["error_y"] = {
                "type": "data",
                "symmetric": False,
                "array": [fit.high - fit.r for fit in fits],
                "arrayminus": [fit.r - fit.low for fit in fits],
                "color": colour,
                "thickness": 1,
                "width": 2,
            }
        traces.append(go.Scatter(trace))
    limit = critical_r(min(atlas.geometry.n_rated for atlas in atlases))
    band = {"xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": limit, "layer": "below", "type": "rect"}
    band |= {"fillcolor": palette.NULL_BAND[0], "line": {"width": 0}}
    return figure(
        traces,
        x=axis("fractional depth", range=[-0.01, 1.03], dtick=0.2),
        y=axis(title, range=[0, 1.02], dtick=0.2),
        shapes=[band] if limit is not None else [],
        narrow={"yaxis.title.text": "|r|"},
    )


def _layers(atlases: Sequence[AtlasFiles], labels: Sequence[str]) -> Section:
    rows = []
    for atlas, label in zip(atlases, labels, strict=True):
        depths = fractional_depth(atlas)
        for row in of_variant(atlas.geometry, "raw"):
            rows.append(
                [
                    f"{label}, {row.layer}",
                    number(depths[row.layer]) if depths else NOTHING,
                    finding(row.finding),
                    correlation(row.pc1_valence.r, row.pc1_valence.low, row.pc1_valence.high),
                    best(row.best_valence),
                    number(row.readout_valence_r2),
                    correlation(row.pc2_arousal.r, row.pc2_arousal.low, row.pc2_arousal.high),
                ]
            )
    head = [
        "Model, layer",
        "Depth",
        "Valence is",
        "|r| PC1, valence",
        "Best component",
        "R² linear",
        "|r| PC2, arousal",
    ]
    grid = table("Every layer of every model, raw vectors.", head, rows, numeric=(1, 3, 4, 5, 6), class_="wide")
    return Section("layers", "Layer by layer", grid)


def _resemblance(atlases: Sequence[AtlasFiles], labels: Sequence[str]) -> Section:
    title = "Do the models agree?"
    have = [(atlas, label) for atlas, label in zip(atlases, labels, strict=True) if atlas.vectors is not None]
    if len(have) < 2:
        lost = "; ".join(
            f"{label}: {atlas.absent.get('vectors', '')}" for atlas, label in zip(atlases, labels, strict=True)
        )
        return Section("agreement", title, missing("No resemblance between models.", f"It needs two bundles. {lost}"))
    common = _common([atlas for atlas, _ in have])
    if len(common) < 4:
        return Section(
            "agreement",
            title,
            missing("No resemblance between models.", f"They share {len(common)} emotions; at least four are needed."),
        )
    shown = [_shown(atlas, common) for atlas, _ in have]
    matrix = [[linear_cka(a, b) for b in shown] for a in shown]
    where = [f"{label}, layer {atlas.geometry.shown_layer}" for atlas, label in have]
    figure_ = Figure(
        "agreement-cka",
        f"Linear CKA on {len(common)} shared emotions",
        (("", maps.resemblance(matrix, [label for _, label in have], title="")),),
        "At each model's shown layer (" + "; ".join(where) + "), raw vectors. 1 is the same arrangement of the "
        "emotions up to rotation and scale; models of different width can be compared.",
        "Heat map of linear CKA between models.",
        height=420,
        narrow_height=360,
        classes="square",
    )
    return Section("agreement", title, figure_.html(), (figure_,))


def _common(atlases: Sequence[AtlasFiles]) -> tuple[str, ...]:
    sets = [set(atlas.vectors.emotions) for atlas in atlases if atlas.vectors]
    return tuple(sorted(set.intersection(*sets)))


def _shown(atlas: AtlasFiles, emotions: tuple[str, ...]) -> np.ndarray:
    assert atlas.vectors is not None
    layer = atlas.vectors.layers.index(atlas.geometry.shown_layer)
    rows: np.ndarray = atlas.vectors.raw[layer][list(atlas.vectors.select(emotions))].astype(np.float64)
    return rows


def linear_cka(a: np.ndarray, b: np.ndarray) -> float:
    """Linear CKA of two centred matrices with the same rows (Kornblith et al. 2019, section 3)."""
    return similarity.linear_cka([a @ a.T], [b @ b.T])[0][0]
