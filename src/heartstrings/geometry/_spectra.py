"""Principal components of contrasts, from the small matrix [emotion emotion] instead of the wide one.

An atlas has few emotions and many dimensions, so the eigenvectors of the Gram matrix X X' (X centred over
emotions) give the same scores as an SVD of X at a fraction of the cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64

Treatment = Literal["plain", "standardised", "row_normalised"]
TREATMENTS: tuple[Treatment, ...] = ("plain", "standardised", "row_normalised")

RELATIVE_RANK = 1e-12
"""Eigenvalues under this share of the largest are rounding, not components."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Components of one layer: `scores` have the component's own length, largest entry positive."""

    scores: Float64[np.ndarray, "emotion component"]
    explained: Float64[np.ndarray, "component"]


def treat(contrasts: Float32[np.ndarray, "emotion width"], how: Treatment) -> Float64[np.ndarray, "emotion width"]:
    """Contrasts in float64, centred over emotions, after the treatment.

    `standardised` divides each dimension by its standard deviation over emotions (constant dimensions stay
    0). `row_normalised` divides each emotion's contrast by its length first.
    """
    wide = contrasts.astype(np.float64)
    if how == "row_normalised":
        length = np.linalg.norm(wide, axis=1, keepdims=True)
        wide = np.divide(wide, length, out=np.zeros_like(wide), where=length > 0)
    centred: Float64[np.ndarray, "emotion width"] = wide - wide.mean(0)
    if how == "standardised":
        spread = centred.std(0)
        # Dimensions that were projected out come back from float32 as rounding noise, not as signal.
        real = spread > 1e-6 * spread.max(initial=0.0)
        centred = np.divide(centred, spread, out=np.zeros_like(centred), where=real)
    return centred


def gram(rows: Float64[np.ndarray, "emotion width"]) -> Float64[np.ndarray, "emotion emotion"]:
    """Inner products of all rows with all rows."""
    return np.asarray(rows @ rows.T)


def centre_gram(inner: Float64[np.ndarray, "emotion emotion"]) -> Float64[np.ndarray, "emotion emotion"]:
    """The Gram matrix the rows would have after subtracting their mean."""
    means = inner.mean(0)
    return np.asarray(inner - means - means[:, None] + means.mean())


def spectrum(inner: Float64[np.ndarray, "emotion emotion"], n: int = 10) -> Spectrum:
    """The first `n` components (fewer where fewer exist) from the Gram matrix of centred rows."""
    values, axes = np.linalg.eigh(inner)
    values, axes = np.maximum(values[::-1], 0.0), axes[:, ::-1]
    real = int((values > RELATIVE_RANK * values[0]).sum()) if values[0] > 0 else 0
    kept = min(n, real, len(inner) - 1)
    scores = axes[:, :kept] * np.sqrt(values[:kept])
    if kept:
        scores = scores * np.sign(scores[np.abs(scores).argmax(0), np.arange(kept)])
    total = float(values.sum())
    return Spectrum(scores, values[:kept] / total if total > 0 else np.zeros(0))
