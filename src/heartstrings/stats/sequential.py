"""A confidence sequence: an interval that is valid at every n, so a run may be checked after each sample and stopped.

Hedged betting on the mean of bounded values (Waudby-Smith and Ramdas 2024, J. R. Stat. Soc. B 86:1-27, theorem 3 with
the predictable plug-in bets of their equation 26). For each candidate mean a gambler bets against it, on too low and
on too high; capital of 1 / alpha refutes the candidate, which happens to the true mean with probability at most alpha,
ever (Ville). Chosen over the empirical Bernstein sequence of the same paper, which is simpler and about as wide as
possible at the few dozen samples of a cell. No library that we require has either.
"""

from __future__ import annotations

import math

import numpy as np

from heartstrings.core.errors import InputError
from heartstrings.stats.intervals import Interval, Values, as_floats

GRID = 1000
"""Candidate means; bounds are rounded outward to the grid, so that it costs width (a thousandth), never coverage."""
SHARE = 0.5
"""The largest share of its capital that a gambler stakes."""


def confidence_bounds(
    values: Values, *, low: float | int = 0.0, high: float | int = 1.0, alpha: float | int = 0.05, running: bool = True
) -> np.ndarray:
    """Bounds [n, 2] of the mean after each value, valid at all n together with probability 1 - alpha.

    Args: low, high: what every value must lie between (NaN is not allowed: its place in the order matters);
    running: intersect with the bounds before, valid too and never wider. Where that leaves nothing (then the sequence
    has failed, or the mean has drifted), the bounds at that n alone are given."""
    flat = as_floats(values)
    if not low < high or not 0 < alpha < 1:
        raise InputError(f"bounds {low} and {high}, alpha {alpha}", "low < high and alpha between 0 and 1")
    if np.isnan(flat).any() or (flat < low).any() or (flat > high).any():
        raise InputError("a value missing or out of bounds", f"values between {low:g} and {high:g}")
    x = (flat - low) / (high - low)
    n = len(x)
    if n == 0:
        return np.empty((0, 2))
    means = np.linspace(0.0, 1.0, GRID + 1)
    up, down = _capital(x, means, alpha)
    wealth = np.maximum(up, down) - math.log(2)  # half of the capital on each side
    single = _ends(wealth < -math.log(alpha), means)
    if running:
        joint = _ends(np.maximum.accumulate(wealth, axis=0) < -math.log(alpha), means)
        lost = np.isnan(joint[:, 0])
        single = np.where(lost[:, None], single, joint)
    at = np.cumsum(x) / np.arange(1, n + 1)
    single = np.where(np.isnan(single), at[:, None], single)
    return low + single * (high - low)


def _capital(x: np.ndarray, means: np.ndarray, alpha: float | int) -> tuple[np.ndarray, np.ndarray]:
    """Log capital [n, candidate] of betting that the mean is higher, and lower. Bets know the past only."""
    n = len(x)
    t = np.arange(1, n + 1)
    centre = (0.5 + np.cumsum(x)) / (t + 1)
    variance = (0.25 + np.cumsum((x - centre) ** 2)) / (t + 1)
    before = np.concatenate([[0.25], variance[:-1]])
    bet = np.sqrt(2 * np.log(2 / alpha) / (before * t * np.log1p(t)))[:, None]
    with np.errstate(divide="ignore"):
        most_up, most_down = SHARE / means, SHARE / (1 - means)
    gap = x[:, None] - means
    up = np.cumsum(np.log1p(np.minimum(bet, most_up) * gap), axis=0)
    down = np.cumsum(np.log1p(-np.minimum(bet, most_down) * gap), axis=0)
    return up, down


def _ends(kept: np.ndarray, means: np.ndarray) -> np.ndarray:
    """[n, 2]: first and last candidate kept, one step outward; NaN where none is."""
    some = kept.any(axis=1)
    first = np.maximum(kept.argmax(axis=1) - 1, 0)
    last = np.minimum(len(means) - kept[:, ::-1].argmax(axis=1), len(means) - 1)
    ends = np.stack([means[first], means[last]], axis=1)
    ends[~some] = np.nan
    return ends


def confidence_sequence(
    values: Values, *, low: float | int = 0.0, high: float | int = 1.0, alpha: float | int = 0.05
) -> Interval:
    """Mean so far with bounds that are valid whenever one chooses to stop: the last of `confidence_bounds`, running.

    Missing values are left out (valid if what makes a value missing does not depend on it) and counted."""
    flat = as_floats(values)
    there = flat[~np.isnan(flat)]
    if len(there) == 0:
        return Interval(None, None, None, 0, len(flat))
    bounds = confidence_bounds(there, low=low, high=high, alpha=alpha)[-1]
    return Interval(float(there.mean()), float(bounds[0]), float(bounds[1]), len(there), len(flat) - len(there))
