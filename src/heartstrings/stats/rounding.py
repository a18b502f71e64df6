"""Rounding error against statistical noise, extrapolated from a sample of texts to all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from heartstrings.core.errors import InputError

LEFT_OUT = 0.1
"""Share of the estimates with the largest errors that is left out at each layer."""


@dataclass(frozen=True)
class ErrorShare:
    """Rounding error over noise, both of the estimates from all texts."""

    ratio: Float64[np.ndarray, "layer"]
    shared: Float64[np.ndarray, "layer"]
    """The part of it that comes from errors which all texts share."""


def error_share(
    exact: Float64[np.ndarray, "half layer estimate width"],
    rounded: Float64[np.ndarray, "half layer estimate width"],
    *,
    growth: float,
) -> ErrorShare:
    """Root mean square of the rounding error over that of the statistical noise, at each layer.

    With h1 and h2 the estimates in float32 from two halves of a sample, and d1 and d2 their rounding errors:

    - |h1 - h2|^2 / 4 is the squared noise of the estimate from the whole sample (split-half);
    - |d1 - d2|^2 / 4 is the squared rounding error that differs from text to text;
    - d1 . d2 is the squared rounding error that all texts share: independent errors cancel in its mean.

    With `growth` times as many texts the first two are divided by `growth`, and the third stays:

        ratio^2 = (d1 . d2 + |d1 - d2|^2 / 4 / growth) / (|h1 - h2|^2 / 4 / growth)

    Each of the three is averaged over the estimates of a layer before the division. The tenth of the estimates with the
    largest errors (`LEFT_OUT`) is not in the average of errors: where the norm of one token is close to the limit
    for attention sinks, rounding decides whether the token is pooled, and this one token would dominate a small sample.
    A shared part below 0 is chance and counts as 0.

    Args:
        exact: estimates (an emotion's contrast, for example) in float32, from each half of the sample.
        rounded: the same in the lower precision.
        growth: number of texts in the work over number in the sample.
    Raises:
        InputError: other than two halves, or no estimate.
    """
    if exact.shape[0] != 2 or not exact.shape[2]:
        raise InputError(f"estimates of shape {exact.shape}", "two halves, with one estimate or more")
    error = rounded - exact
    noise = _square(exact[0] - exact[1]).mean(-1) / 4 / growth
    n_kept = exact.shape[2] - math.floor(LEFT_OUT * exact.shape[2])
    kept = np.argsort(_square(error).sum(0), axis=-1, kind="stable")[:, :n_kept]
    own = np.take_along_axis(_square(error[0] - error[1]), kept, axis=-1).mean(-1) / 4 / growth
    shared = np.maximum(np.take_along_axis((error[0] * error[1]).sum(-1), kept, axis=-1).mean(-1), 0.0)
    return ErrorShare(_root_of_ratio(shared + own, noise), _root_of_ratio(shared, noise))


def _square(rows: Float64[np.ndarray, "*many width"]) -> Float64[np.ndarray, "*rest"]:
    squares: np.ndarray = (rows**2).sum(-1)
    return squares


def _root_of_ratio(error: Float64[np.ndarray, "layer"], noise: Float64[np.ndarray, "layer"]) -> np.ndarray:
    """Where there is no noise, any error is infinitely large against it, and no error is 0."""
    quotient = np.full(noise.shape, np.inf)
    np.divide(error, noise, out=quotient, where=noise > 0)
    ratio: np.ndarray = np.sqrt(np.where(error > 0, quotient, 0.0))
    return ratio
