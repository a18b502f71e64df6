"""What the geometry stage reports: frozen values that serialise to one JSON object (docs/geometry.md).

Conventions: components are counted from 1; a number that could not be computed is None, never 0; every
correlation carries the number of emotions it rests on (rated and not estimated).
"""

from __future__ import annotations

from typing import Literal

from heartstrings.core.notebook import html_table
from heartstrings.core.types import Frozen, Variant

SCHEMA_VERSION = 1

Finding = Literal["pc1", "other component", "linear only", "absent"]
Nuisance = Literal["length", "person", "dialogue", "topic"]
Level = Literal["emotion", "story"]


class Correlation(Frozen):
    """A component's sign-free correlation with ratings.

    `r` is |Pearson r|; `low` and `high` bound, at 95%, the r in the direction observed (BCa bootstrap over
    emotions, the component's scores held fixed), so `low` may be negative. `spearman` is |rho|.
    """

    r: float | None
    low: float | None
    high: float | None
    n: int
    spearman: float | None = None


class Best(Frozen):
    """The component that correlates most among the first ones, with what the search costs.

    `p` comes from a null that permutes the ratings over the emotions and takes the largest |r| over all
    components **and** all layers of the variant: p = (b + 1) / (permutations + 1).
    """

    component: int | None
    r: float | None
    p: float | None
    n: int


class Axes(Frozen):
    """The same four numbers under another treatment of the vectors' dimensions."""

    pc1_valence: Correlation
    pc2_arousal: Correlation
    best_valence: Best
    best_arousal: Best


class Readout(Frozen):
    """A linear readout predicted for emotions it was not fitted on (and, when `topics_held_out`, topics too).

    `r2` = 1 - SSE / SST with the training mean as baseline: negative when worse than guessing the mean.
    `p` comes from a null that permutes the ratings and takes the largest r2 over the layers of the variant.
    """

    r2: float | None
    r: float | None
    p: float | None
    n: int
    folds: int
    topics_held_out: bool


class NuisanceFit(Frozen):
    """How closely a component follows something that is not emotion.

    Length (words), person and dialogue: |Pearson r| of the component's scores with the emotions' means. Topic at
    level `story`: root of the share of the variance within emotions; at level `emotion`: root of the share of the
    variance between emotions that the draw of topics explains. `p` is a permutation p for this component and
    nuisance, without correction for their number.
    """

    component: int
    nuisance: Nuisance
    r: float
    p: float
    n: int
    level: Level


class LayerGeometry(Frozen):
    """One layer of one variant."""

    layer: int
    variant: Variant
    explained: tuple[float, ...]
    """Share of the variance over emotions on each of the first components."""
    pc1_valence: Correlation
    pc2_arousal: Correlation
    pc1_arousal: Correlation
    best_valence: Best
    best_arousal: Best
    pc1_valence_p: float | None
    """p of component 1 alone; its null repeats the search over the layers of the variant."""
    pc2_arousal_p: float | None
    component_valence: tuple[float | None, ...]
    """|r| with valence of each of the first components: the row of the component map."""
    component_arousal: tuple[float | None, ...]
    standardised: Axes
    """After scaling each dimension to unit variance over emotions: what a few massive dimensions hide."""
    row_normalised: Axes
    """After scaling each emotion's vector to unit length: what a few long vectors hide."""
    readout_valence_r2: float | None
    readout_arousal_r2: float | None
    readout_valence: Readout | None
    readout_arousal: Readout | None
    nuisances: tuple[NuisanceFit, ...]
    first_component_nuisance: NuisanceFit | None
    """What component 1 follows, when it follows that more closely than valence and arousal."""
    family_within: float | None
    """Mean cosine of two emotions of one family (and of two families, below)."""
    family_between: float | None
    reliability: float | None
    """Mean split-half reliability of the emotions' vectors (Spearman-Brown)."""
    finding: Finding


class Position(Frozen):
    """An emotion on a two-dimensional map."""

    emotion: str
    x: float
    y: float


class AtlasMap(Frozen):
    """Emotions in two dimensions at the shown layer. `pca` is signed so that x grows with valence and y with
    arousal where ratings are known; `umap` only when asked for."""

    layer: int
    variant: Variant
    components: tuple[int, int]
    pca: tuple[Position, ...]
    umap: tuple[Position, ...] | None


class Clusters(Frozen):
    """k-means labels (0-based, biggest cluster first); leaves of the hierarchical tree in order; silhouettes."""

    k: int
    labels: dict[str, int]
    silhouette: float | None
    order: tuple[str, ...]
    tree_labels: dict[str, int]
    tree_silhouette: float | None


class Neighbour(Frozen):
    """A near emotion and the cosine of the two contrasts."""

    emotion: str
    cosine: float


class LensRow(Frozen):
    """What an emotion's contrast says through the final norm and the unembedding."""

    emotion: str
    top: tuple[str, ...]
    bottom: tuple[str, ...]


class Geometry(Frozen):
    """The geometry of one bundle. `layers` holds every layer of every variant, raw first."""

    schema_version: int = SCHEMA_VERSION
    model: str
    bundle_hash: str | None
    pooling: str | None
    ratings_source: str
    n_emotions: int
    n_rated: int
    permutations: int
    detectable_r: float | None
    """The |r| that this n and this search would call significant in 80 of 100 samples."""
    encoded: bool
    encoded_p: float | None
    """Smallest p over routes, layers and variants, corrected for all of that search."""
    verdict: Literal["encoded", "not encoded", "inconclusive"]
    sentence: str
    """The whole finding in plain words."""
    notes: tuple[str, ...]
    """What could not be computed, and why."""
    shown_layer: int
    shown_variant: Variant
    layers: tuple[LayerGeometry, ...]
    cka: dict[Variant, tuple[tuple[float, ...], ...]]
    """Linear CKA of the contrasts of every two layers, in the order of the layers."""
    rsa: dict[Variant, tuple[tuple[float, ...], ...]]
    """Spearman correlation of the pairwise cosines of every two layers."""
    stability: dict[Variant, tuple[float, ...]]
    """Cosine of the valence direction at layers l and l+1, for each adjacent pair."""
    map: AtlasMap
    clusters: Clusters | None
    nearest: dict[str, tuple[Neighbour, ...]]
    lens: tuple[LensRow, ...] | None
    corrected: dict[str, tuple[LayerGeometry, ...]]
    """The layers under other poolings, by pooling label."""
    corrected_sentences: dict[str, str]

    def _repr_html_(self) -> str:
        """What a notebook shows: where valence and arousal lie, layer by layer."""

        def number(value: float | None) -> str:
            return "–" if value is None else f"{value:.2f}"

        rows = [
            (
                f"{layer.layer} ({layer.variant})",
                number(layer.pc1_valence.r),
                number(layer.pc2_arousal.r),
                number(layer.best_valence.r),
                number(layer.readout_valence_r2),
                layer.finding,
            )
            for layer in self.layers
        ]
        columns = ("block", "|r| PC1, valence", "|r| PC2, arousal", "|r| best, valence", "R² readout", "finding")
        return html_table(f"Geometry of {self.model}: valence is {self.verdict}", columns, rows, note=self.sentence)


class ComparedLayer(Frozen):
    """One layer of one bundle in a comparison."""

    layer: int
    variant: Variant
    depth: float | None
    """Fractional depth: (layer + 1) / n_layers of the model; None when the model's depth is not known."""
    pc1_valence: Correlation
    pc2_arousal: Correlation
    best_valence: Best
    best_arousal: Best
    readout_valence_r2: float | None
    finding: Finding


class Compared(Frozen):
    """One bundle of a comparison, on the emotions all bundles share."""

    label: str
    model: str
    corpus_author: str | None
    pooling: str | None
    width: int
    n_layers: int | None
    verdict: Literal["encoded", "not encoded", "inconclusive"]
    sentence: str
    layers: tuple[ComparedLayer, ...]


class Pair(Frozen):
    """Two bundles against each other, on common emotions, raw contrasts."""

    first: str
    second: str
    first_layers: tuple[int, ...]
    second_layers: tuple[int, ...]
    cka: tuple[tuple[float, ...], ...]
    """Linear CKA, [layer of first][layer of second]."""
    rsa: tuple[tuple[float, ...], ...]
    same_space: bool
    """True when both come from the same weights, so that vectors can be compared coordinate by coordinate."""
    cosines: tuple[tuple[int, float], ...] | None
    """(layer, mean over emotions of the cosine of the two contrasts), only in the same space."""
    best_cka: float
    best_layers: tuple[int, int]


class Comparison(Frozen):
    """Two bundles or more: corpora, models, base against instruct."""

    schema_version: int = SCHEMA_VERSION
    ratings_source: str
    n_common: int
    n_rated: int
    common: tuple[str, ...]
    left_out: dict[str, int]
    """label -> emotions of that bundle that not all bundles have."""
    bundles: tuple[Compared, ...]
    pairs: tuple[Pair, ...]
