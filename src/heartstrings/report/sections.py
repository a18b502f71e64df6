"""The parts of a single report that come from the geometry: map, depth, components, layers, clusters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heartstrings.geometry.results import AtlasMap, Geometry, LayerGeometry, Position
from heartstrings.report import depth, maps
from heartstrings.report.markup import Html, el, join, table
from heartstrings.report.page import Figure, Section, missing
from heartstrings.report.sources import AtlasFiles
from heartstrings.report.words import (
    FINDINGS,
    NOTHING,
    best,
    correlation,
    finding,
    known,
    layer_ranges,
    listing,
    number,
    p_value,
    percent,
)

VARIANTS = ("raw", "denoised")
CAPTIONS: dict[depth.Rating, str] = {
    "valence": "Solid: raw vectors, with the 95% bootstrap interval over emotions. Dashed: neutral components "
    "projected out. A point inside the grey band is no more than chance gives at a single layer.",
    "arousal": "The same for arousal and component 2. Human sources of arousal ratings agree with each other less "
    "than those of valence do, so even a perfect axis would stay below 1.",
}


def map_section(atlas: AtlasFiles) -> Section:
    """The emotions in the plane of two components, in the plane of the ratings, and by UMAP if it was computed."""
    geometry, shown = atlas.geometry, atlas.geometry.map
    first, second = shown.components
    views = [
        (f"Components {first} and {second}", _plane(atlas, shown.pca, f"component {first}", f"component {second}"))
    ]
    words = tuple(position.emotion for position in shown.pca)
    valence, arousal = atlas.rated(words)
    if np.isfinite(valence).sum() >= 2:
        rated = np.column_stack([valence, arousal])
        plot = maps.plane(
            rated, words, valence, arousal, x_title="rated valence →", y_title="rated arousal →",
            families=[atlas.family(word) for word in words],
        )  # fmt: skip
        views.append(("Ratings", plot))
    if shown.umap is not None:
        views.append(("UMAP", _plane(atlas, shown.umap, "UMAP 1", "UMAP 2")))
    if atlas.ratings_are_those_used:
        colours = f"Colour is the valence rating ({geometry.ratings_source})."
    else:
        colours = (
            f"Colour is valence in {atlas.ratings.source}; the correlations were computed with "
            f"{geometry.ratings_source}, which this atlas does not keep word by word."
        )
    figure = Figure(
        "map",
        f"{len(words)} emotions at layer {shown.layer}",
        tuple(views),
        join(
            _explained(geometry, shown),
            "Each point is the ",
            shown.variant,
            " vector of one emotion; neighbours have similar vectors. Where the model's plane is like that of the "
            "ratings, colours run from left to right. ",
            colours,
            " Point at a dot for its name; not every label fits.",
        ),
        f"Scatter plot of {len(words)} emotion vectors on two components at layer {shown.layer}, coloured by rated "
        f"valence. {geometry.sentence}",
        height=560,
        narrow_height=440,
    )
    return Section("plane", "The plane of the emotions", figure.html(), (figure,))


def _plane(atlas: AtlasFiles, positions: Sequence[Position], x_title: str, y_title: str):  # type: ignore[no-untyped-def]
    words = tuple(position.emotion for position in positions)
    valence, arousal = atlas.rated(words)
    points = np.array([[position.x, position.y] for position in positions], dtype=np.float64)
    families = [atlas.family(word) for word in words]
    return maps.plane(points, words, valence, arousal, x_title=x_title, y_title=y_title, families=families)


def _explained(geometry: Geometry, shown: AtlasMap) -> str:
    row = next((r for r in geometry.layers if r.layer == shown.layer and r.variant == shown.variant), None)
    if row is None or len(row.explained) < max(shown.components):
        return ""
    shares = [percent(row.explained[component - 1]) for component in shown.components]
    return f"The two components hold {shares[0]} and {shares[1]} of the variance between emotions. "


def depth_section(geometry: Geometry) -> Section:
    """|r| by depth for valence and arousal."""
    n = len(depth.layers_of(geometry))
    figures = tuple(
        Figure(
            f"depth-{rating}",
            f"{rating.capitalize()} and component {depth.COMPONENT[rating]}",
            (("", depth.by_depth(geometry, rating)),),
            caption,
            f"Absolute correlation of component {depth.COMPONENT[rating]} with rated {rating} at {n} layers. "
            + _in_words(geometry, depth.ATTRIBUTE[rating]),
            height=380,
            narrow_height=410,
        )
        for rating, caption in CAPTIONS.items()
    )
    corrected = [
        el("li", el("strong", f"Pooling {label}: "), sentence)
        for label, sentence in geometry.corrected_sentences.items()
    ]
    body = join(
        el(
            "p",
            f"How closely the first components follow ratings of {geometry.n_rated} emotions, layer by layer. "
            "A low line alone is no sign of absence: the rating may sit on a later component (next part).",
        ),
        el("div", [figure.html() for figure in figures], class_="grid"),
        el("h3", "With story position taken out") if corrected else None,
        el("ul", corrected) if corrected else None,
    )
    return Section("depth", "By depth", body, figures)


def _in_words(geometry: Geometry, attribute: str) -> str:
    rows = [row for row in depth.of_variant(geometry, "raw") if known(getattr(row, attribute).r)]
    if not rows:
        return "No layer has enough rated emotions."
    best = max(rows, key=lambda row: getattr(row, attribute).r)
    fit = getattr(best, attribute)
    return f"The highest is {correlation(fit.r, fit.low, fit.high)} at layer {best.layer}, n = {fit.n}."


def component_section(geometry: Geometry) -> Section:
    """Which component holds what: the component maps, and what else component 1 follows."""
    variants = [variant for variant in VARIANTS if depth.of_variant(geometry, variant)]
    figures = [
        Figure(
            f"components-{rating}",
            f"{rating.capitalize()} on each component",
            tuple((variant, depth.component_map(geometry, variant, rating)) for variant in variants),
            "Bright: this component of this layer follows the rating. The ring marks the best one; it is filled where "
            "p < .05 against ratings shuffled between and within families of feeling, the search over all components "
            "and layers repeated.",
            f"Heat map of the correlation of each component with {rating}, layer by layer.",
            height=340,
            narrow_height=320,
        )
        for rating in ("valence", "arousal")
    ]
    nuisance = depth.nuisances(geometry)
    if nuisance is None:
        what = missing(
            "No story properties to test against.",
            "These vectors came without their stories, so whether a component follows story length, narrative "
            "person, dialogue or topic cannot be told.",
        )
        tail: list[Figure] = []
    else:
        follows = Figure(
            "nuisances",
            "What component 1 follows",
            (("", nuisance),),
            "Emotion vectors can differ because the stories do. Where a dashed line runs above valence, the first "
            "component is about the stories, not about emotion.",
            "Correlation of component 1 with valence and with properties of the stories, by layer. "
            + _culprits(geometry),
            height=340,
            narrow_height=390,
        )
        tail = [follows]
        what = join(follows.html())
    readout = [row for row in geometry.layers if known(row.readout_valence_r2) or known(row.readout_arousal_r2)]
    if readout:
        linear = Figure(
            "readout-r2",
            "Linear readout",
            (("", depth.readout(geometry)),),
            "Share of the rating's variance that a linear map predicts for emotions it was not fitted on"
            + (", and topics" if _topics_held_out(readout) else "")
            + ". Above 0 the rating is in the vectors, whichever component holds it; below 0 the readout is worse than "
            "guessing the mean.",
            "Cross-validated R squared of a linear readout of valence and arousal, by layer.",
            height=340,
            narrow_height=390,
        )
        tail.append(linear)
        right = linear.html()
    else:
        right = missing("No linear readout.", "Too few rated emotions to hold some out.")
    body = join(
        el("p", _culprits(geometry)),
        el("div", [figure.html() for figure in figures], class_="grid"),
        el("div", el("div", what), el("div", right), class_="grid"),
        _nuisance_table(geometry),
    )
    return Section("components", "On which component", body, (*figures, *tail))


def _topics_held_out(rows: Sequence[LayerGeometry]) -> bool:
    return any(row.readout_valence is not None and row.readout_valence.topics_held_out for row in rows)


def _culprits(geometry: Geometry) -> str:
    """The nuisances that component 1 follows, layer by layer, in one sentence."""
    rows = depth.of_variant(geometry, "raw")
    every = [row.layer for row in rows]
    found: dict[str, list[LayerGeometry]] = {}
    for row in rows:
        if row.first_component_nuisance is not None:
            found.setdefault(row.first_component_nuisance.nuisance, []).append(row)
    if not any(row.nuisances for row in rows):
        return "Without the stories, nothing can be said about what else the components follow."
    if not found:
        return "At no layer does component 1 follow a property of the stories more closely than it follows a rating."
    parts = []
    for nuisance, where in found.items():
        sizes = [row.first_component_nuisance.r for row in where if row.first_component_nuisance]
        span = number(sizes[0]) if len(sizes) == 1 else f"{number(min(sizes))} to {number(max(sizes))}"
        words = "layer" if len(where) == 1 else "layers"
        parts.append(
            f"{NUISANCES[nuisance]} at {words} {layer_ranges([row.layer for row in where], every)} (|r| {span})"
        )
    return f"Component 1 follows {listing(parts)} more closely than it follows a rating."


NUISANCES = {
    "length": "story length",
    "person": "narrative person",
    "dialogue": "the share of dialogue",
    "topic": "the topic",
}


def _nuisance_table(geometry: Geometry) -> Html | None:
    rows = [row for row in geometry.layers if row.nuisances]
    if not rows:
        return None
    body = []
    for row in rows:
        strongest = {
            name: max((fit for fit in row.nuisances if fit.nuisance == name), key=lambda fit: fit.r, default=None)
            for name in NUISANCES
        }
        cells = [
            NOTHING if fit is None else f"{number(fit.r)} on {fit.component} (p {p_value(fit.p)})"
            for fit in strongest.values()
        ]
        culprit = row.first_component_nuisance
        named = NUISANCES[culprit.nuisance] if culprit else "none"
        body.append([f"{row.layer}, {row.variant}", named, *cells])
    titles = [name.capitalize() for name in NUISANCES.values()]
    return el(
        "details",
        el("summary", "Every layer's nuisances in numbers"),
        table(
            "For each property of the stories: the component that follows it most, and how closely (|r|). "
            "For topic, the multiple correlation over stories after removing emotion means.",
            ["Layer", "Component 1 is about", *titles],
            body,
            class_="wide",
        ),
    )


def layer_section(geometry: Geometry) -> Section:
    """The findings, one row a layer and variant: the numbers behind every figure above."""
    findings, checks = [], []
    for row in geometry.layers:
        name = f"{row.layer}, {row.variant}"
        findings.append(
            [
                name,
                finding(row.finding),
                correlation(row.pc1_valence.r, row.pc1_valence.low, row.pc1_valence.high),
                best(row.best_valence),
                number(row.readout_valence_r2),
                correlation(row.pc2_arousal.r, row.pc2_arousal.low, row.pc2_arousal.high),
                best(row.best_arousal),
                number(row.readout_arousal_r2),
            ]
        )
        treatments = (row.standardised, row.row_normalised)
        checks.append(
            [
                name,
                number(row.pc1_valence.spearman),
                *[number(axes.pc1_valence.r) for axes in treatments],
                *[best(axes.best_valence) for axes in treatments],
                number(row.pc1_arousal.r),
                number(row.reliability),
                f"{number(row.family_within)} / {number(row.family_between)}",
                percent(row.explained[0]) if row.explained else NOTHING,
            ]
        )
    legend = el(
        "ul",
        [el("li", finding(name), " ", meaning) for name, (_, _, _, meaning) in FINDINGS.items()],
        class_="legend",
    )
    main = table(
        f"n = {geometry.n_rated} rated emotions. Intervals: 95%, bootstrap over emotions. Best component: number, |r| "
        f"and p over the whole search, {geometry.permutations} permutations. R² linear: held-out emotions.",
        ["Layer", "Valence is", "|r| PC1, valence", "Best component", "R² linear", "|r| PC2, arousal",
         "Best component", "R² linear"],
        findings,
        numeric=(2, 3, 4, 5, 6, 7),
        class_="wide",
    )  # fmt: skip
    more = table(
        "Standardised: every dimension scaled to unit variance over emotions, which shows what a few massive "
        "dimensions hide. Normalised: every emotion's vector scaled to length 1. Reliability: split halves without a "
        "shared topic, Spearman-Brown. Family: mean cosine within and between families of feeling.",
        ["Layer", "Spearman PC1, valence", "PC1 standardised", "PC1 normalised", "Best, standardised",
         "Best, normalised", "|r| PC1, arousal", "Reliability", "Family in / between", "PC1 variance"],
        checks,
        numeric=tuple(range(1, 10)),
        class_="wide",
    )  # fmt: skip
    return Section(
        "layers", "Layer by layer", join(legend, main, el("details", el("summary", "Checks of every layer"), more))
    )


def across_section(geometry: Geometry) -> Section:
    """How layers resemble each other."""
    layers = depth.layers_of(geometry)
    if len(layers) < 2:
        body = missing("One layer only.", "Resemblance between layers needs at least two.")
        return Section("across", "Across layers", body)
    cka = Figure(
        "cka",
        "Resemblance of layers",
        tuple((variant, maps.resemblance(matrix, layers)) for variant, matrix in geometry.cka.items()),
        "Linear CKA of the emotion vectors of every two layers; 1 is the same arrangement up to rotation and scale. "
        "A bright block is a stretch of depth that shares one geometry.",
        "Heat map of linear CKA between layers.",
        height=400,
        narrow_height=330,
    )
    figures = [cka]
    series: dict[str, Sequence[float]] = {variant: values for variant, values in geometry.stability.items() if values}
    if series:
        figures.append(
            Figure(
                "stability",
                "Stability of the valence direction",
                (("", maps.stability(series, layers)),),
                "Cosine of the direction that reads valence at one layer with the one at the next. Near 1 the "
                "direction is carried on unchanged; near 0 the next layer writes valence elsewhere.",
                "Line of the cosine between valence directions of adjacent layers.",
                height=400,
                narrow_height=320,
            )
        )
    return Section(
        "across", "Across layers", el("div", [figure.html() for figure in figures], class_="grid"), tuple(figures)
    )
