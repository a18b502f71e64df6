"""Similarity of two sets of vectors of the same emotions: across layers, corpora and models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float32, Float64
from scipy.stats import rankdata

from heartstrings.geometry._axes import Target, unit
from heartstrings.geometry._spectra import RELATIVE_RANK, centre_gram

Grams = Sequence[Float64[np.ndarray, "emotion emotion"]]
Table = tuple[tuple[float, ...], ...]


def linear_cka(first: Grams, second: Grams) -> Table:
    """Linear centred kernel alignment of every pair (Kornblith et al. 2019, arXiv 1905.00414, section 3).

    <K, L> / (|K| |L|) of the centred Gram matrices: 1 for the same geometry up to rotation and scale,
    whatever the widths. Vectors without any spread give 0.
    """
    return _products([_unit_matrix(centre_gram(k)) for k in first], [_unit_matrix(centre_gram(k)) for k in second])


def similarity_of_similarities(first: Grams, second: Grams) -> Table:
    """Spearman correlation of the emotions' pairwise cosines, for every pair (Kriegeskorte et al. 2008)."""
    return _products([_cosine_ranks(k) for k in first], [_cosine_ranks(k) for k in second])


def cosines(inner: Float64[np.ndarray, "emotion emotion"]) -> Float64[np.ndarray, "emotion emotion"]:
    """Cosines from inner products; rows of length 0 give 0."""
    length = np.sqrt(np.maximum(np.diag(inner), 0.0))
    size = length * length[:, None]
    return np.asarray(np.divide(inner, size, out=np.zeros_like(inner), where=size > 0))


def valence_stability(contrasts: Float32[np.ndarray, "layer emotion width"], valence: Target) -> tuple[float, ...]:
    """Cosine of the valence direction between each two adjacent layers.

    The direction is the minimum-norm least squares solution w = X' (X X')^+ y over the rated emotions
    (van der Ben et al. 2026, arXiv 2606.26987). Empty without ratings.
    """
    if not valence.usable:
        return ()
    directions = []
    for layer in contrasts:
        rows = layer[valence.rated].astype(np.float64)
        rows = rows - rows.mean(0)
        values, axes = np.linalg.eigh(rows @ rows.T)
        inverse = np.divide(1.0, values, out=np.zeros_like(values), where=values > RELATIVE_RANK * values[-1])
        direction = rows.T @ (axes @ (inverse * (axes.T @ valence.values)))
        length = np.linalg.norm(direction)
        directions.append(direction / length if length > 0 else direction)
    return tuple(float(lower @ upper) for lower, upper in pairwise(directions))


def family_cosines(
    inner: Float64[np.ndarray, "emotion emotion"], emotions: Sequence[str], families: Mapping[str, str]
) -> tuple[float | None, float | None]:
    """Mean cosine of two emotions of one family, and of two different families."""
    known = [row for row, emotion in enumerate(emotions) if emotion in families]
    names = np.array([families[emotions[row]] for row in known])
    table = cosines(inner)[np.ix_(known, known)]
    upper = np.triu(np.ones(table.shape, dtype=bool), 1)
    same = names[:, None] == names if len(known) else upper
    within, between = table[upper & same], table[upper & ~same]
    return (float(within.mean()) if len(within) else None, float(between.mean()) if len(between) else None)


def _unit_matrix(matrix: Float64[np.ndarray, "emotion emotion"]) -> Float64[np.ndarray, "cell"]:
    length = np.linalg.norm(matrix)
    return (matrix / length if length > 0 else matrix).ravel()


def _cosine_ranks(inner: Float64[np.ndarray, "emotion emotion"]) -> Float64[np.ndarray, "pair"]:
    table = cosines(inner)
    return unit(rankdata(table[np.triu_indices(len(table), 1)]).astype(np.float64))


def _products(first: Sequence[Float64[np.ndarray, "cell"]], second: Sequence[Float64[np.ndarray, "cell"]]) -> Table:
    table = np.clip(np.stack(first) @ np.stack(second).T, -1.0, 1.0)
    return tuple(tuple(float(x) for x in row) for row in table)
