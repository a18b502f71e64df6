"""Clusters and nearest neighbours of emotions, and a map of them in two dimensions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from heartstrings.core.errors import MissingExtra
from heartstrings.core.types import Variant
from heartstrings.geometry._axes import Target, unit
from heartstrings.geometry._spectra import Spectrum
from heartstrings.geometry.results import AtlasMap, Clusters, Neighbour, Position
from heartstrings.geometry.similarity import cosines

K = 10


def group(
    spectrum: Spectrum,
    inner: Float64[np.ndarray, "emotion emotion"],
    emotions: Sequence[str],
    *,
    k: int = K,
    seed: int = 0,
) -> Clusters | None:
    """k-means (10 starts) on the component scores and average linkage on cosine distance, cut at the same k.

    `spectrum` must hold all components, so that distances are those of the full vectors. With fewer than
    3 k emotions, k is a third of their number; None under 6 emotions or without any spread.
    """
    from scipy.cluster.hierarchy import fcluster, leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform
    from sklearn.cluster import KMeans

    k = min(k, len(emotions) // 3)
    distinct = len(np.unique(spectrum.scores.round(12), axis=0)) if spectrum.scores.shape[1] else 1
    if k < 2 or distinct < k:
        return None
    scale = float(np.abs(spectrum.scores).max())
    labels = KMeans(k, n_init=10, random_state=seed).fit(spectrum.scores / scale).labels_.astype(np.int64)
    apart = np.clip(1.0 - cosines(inner), 0.0, 2.0)
    np.fill_diagonal(apart, 0.0)
    flat = squareform(apart, checks=False)
    tree = optimal_leaf_ordering(linkage(flat, method="average"), flat)
    cut = fcluster(tree, k, criterion="maxclust").astype(np.int64)
    return Clusters(
        k=k,
        labels=_named(labels, emotions),
        silhouette=_silhouette(labels, apart),
        order=tuple(emotions[leaf] for leaf in leaves_list(tree).tolist()),
        tree_labels=_named(cut, emotions),
        tree_silhouette=_silhouette(cut, apart),
    )


def nearest(
    inner: Float64[np.ndarray, "emotion emotion"], emotions: Sequence[str], n: int = 5
) -> dict[str, tuple[Neighbour, ...]]:
    """The n emotions of largest cosine, nearest first."""
    table = cosines(inner)
    np.fill_diagonal(table, -np.inf)
    n = min(n, len(emotions) - 1)
    order = np.argsort(-table, axis=1, kind="stable")[:, :n]
    return {
        emotion: tuple(Neighbour(emotion=emotions[other], cosine=float(table[row, other])) for other in order[row])
        for row, emotion in enumerate(emotions)
    }


def draw(
    spectrum: Spectrum,
    emotions: Sequence[str],
    valence: Target,
    arousal: Target,
    *,
    layer: int,
    variant: Variant,
    umap: bool,
    seed: int,
) -> AtlasMap:
    """Components 1 and 2, with signs so that x grows with valence and y with arousal; a UMAP if asked for."""
    flat = np.zeros((len(emotions), 2))
    flat[:, : spectrum.scores.shape[1]] = spectrum.scores[:, :2]
    for column, against in ((0, valence), (1, arousal)):
        if against.usable and unit(flat[against.rated, column]) @ against.values < 0:
            flat[:, column] *= -1
    return AtlasMap(
        layer=layer,
        variant=variant,
        components=(1, 2),
        pca=_positions(flat, emotions),
        umap=_umap(spectrum, emotions, seed) if umap else None,
    )


def _umap(spectrum: Spectrum, emotions: Sequence[str], seed: int) -> tuple[Position, ...] | None:
    if len(emotions) < 10 or spectrum.scores.shape[1] < 3:
        return None
    try:
        # It warns about its compiler, and that a fixed seed makes it run on one core.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from umap import UMAP

            model = UMAP(n_neighbors=min(15, len(emotions) - 1), min_dist=0.2, metric="cosine", random_state=seed)
            flat = np.asarray(model.fit_transform(spectrum.scores), dtype=np.float64)
    except ImportError:
        raise MissingExtra("A UMAP", "umap") from None
    return _positions(flat, emotions)


def _positions(flat: Float64[np.ndarray, "emotion 2"], emotions: Sequence[str]) -> tuple[Position, ...]:
    return tuple(
        Position(emotion=emotion, x=float(x), y=float(y)) for emotion, (x, y) in zip(emotions, flat, strict=True)
    )


def _silhouette(labels: Int64[np.ndarray, "emotion"], apart: Float64[np.ndarray, "emotion emotion"]) -> float | None:
    """Mean silhouette on cosine distance (Rousseeuw 1987); None unless there are at least two clusters."""
    from sklearn.metrics import silhouette_score

    if not 2 <= len(np.unique(labels)) < len(labels):
        return None
    return float(silhouette_score(apart, labels, metric="precomputed"))


def _named(labels: Int64[np.ndarray, "emotion"], emotions: Sequence[str]) -> dict[str, int]:
    """Clusters numbered from 0, the biggest first, ties by their first emotion."""
    kinds, starts, counts = np.unique(labels, return_index=True, return_counts=True)
    rank = {int(kinds[place]): number for number, place in enumerate(np.lexsort((starts, -counts)))}
    return {emotion: rank[int(label)] for emotion, label in zip(emotions, labels, strict=True)}
