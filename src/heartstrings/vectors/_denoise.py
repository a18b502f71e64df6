"""Denoising: the principal components of neutral texts, which are projected out of contrasts."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64

from heartstrings.core.errors import InputError
from heartstrings.vectors.activations import Activations, PositionMeans
from heartstrings.vectors.emotion_vectors import project_out

FEWEST_NEUTRAL_TEXTS = 3
"""With fewer texts, their components do not describe neutral text in general."""


def neutral_components(
    activations: Float64[np.ndarray, "text width"], variance: float = 0.5
) -> Float32[np.ndarray, "component width"]:
    """The top K principal components of neutral activations, K the fewest that explain `variance` of it.

    Sofroniew et al. 2026 (arXiv 2604.07729). Orthonormal rows; their sign makes the largest entry positive.

    Args:
        activations: one pooled vector a neutral text.
        variance: share of the variance to explain, above 0 and at most 1.

    Raises:
        InputError: the activations do not differ at all.
    """
    centred = activations - activations.mean(0)
    _, sizes, basis = np.linalg.svd(centred, full_matrices=False)
    power = sizes**2
    if power.sum() == 0:
        raise InputError(
            "all neutral texts give the same activations",
            "neutral texts that differ",
            "Give other neutral texts, or none (--no-neutral)",
        )
    share = np.cumsum(power) / power.sum()
    # With a small tolerance, so that rounding does not add a component where the share is exactly reached.
    k = int(np.searchsorted(share, variance - 1e-9)) + 1
    top = basis[: min(k, len(sizes))]
    largest = np.abs(top).argmax(1)
    sign = np.sign(top[np.arange(len(top)), largest])
    return np.asarray((top * sign[:, None]).astype(np.float32))


def neutral_basis(
    store: Activations, rule: int, positions: PositionMeans | None, variance: float = 0.5
) -> tuple[tuple[Float32[np.ndarray, "_ width"], ...], int]:
    """(components, one array a layer; how many neutral texts the rule set aside).

    Layer by layer, so that memory holds one layer of the neutral texts.

    Raises:
        InputError: fewer than three neutral texts are long enough for the rule.
    """
    n_used = sum(len(batch.indices) for batch in store.pooled(rule, positions))
    if n_used < FEWEST_NEUTRAL_TEXTS:
        pooling = store.poolings[rule]
        needed = pooling.start + 1 if pooling.stop is None else pooling.stop
        raise InputError(
            f"{n_used} of {store.n_texts} neutral texts have the {needed} tokens that pooling {pooling.label} needs",
            f"at least {FEWEST_NEUTRAL_TEXTS}",
            "Give longer or more neutral texts, a smaller --offset, or leave denoising out with --no-neutral",
        )
    bases = []
    for layer in range(len(store.layers)):
        rows = np.concatenate([batch.vectors[:, layer] for batch in store.pooled(rule, positions)])
        bases.append(neutral_components(rows.astype(np.float64), variance))
    return tuple(bases), store.n_texts - n_used


def denoise(
    contrasts: Float32[np.ndarray, "layer emotion width"], basis: tuple[Float32[np.ndarray, "_ width"], ...]
) -> Float32[np.ndarray, "layer emotion width"]:
    """Contrasts without their part in the neutral components, layer by layer."""
    return np.stack([project_out(rows, axes) for rows, axes in zip(contrasts, basis, strict=True)])
