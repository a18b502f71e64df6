"""A bound on a mean change that holds at any sample size, also where no change was seen: bets against the mean.

Changes of independent situations lie in [-1, 1]. Is their mean `delta` or more? A gambler who bets a fixed share of
what may be lost on "less" has capital prod(1 + bet (delta - x)) after all of them. Its expectation is at most 1 if the
mean is `delta` or more, whatever the law of the changes; so capital of 1 / alpha happens with probability alpha at most
(Markov). The bound is the largest `delta` that is not refuted (Waudby-Smith and Ramdas 2024, J. R. Stat. Soc. B
86:1-27, with bets that do not change).

A t interval cannot do this: where one request in twenty flips and none was drawn, it has no width. The price is that
changes which vary are bounded 1.5 to 2 times as far out as by t.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64, Int64

from heartstrings.core.errors import InputError
from heartstrings.stats.intervals import Groups, Interval, Values, as_floats, group_means, whole_pairs

BETS: tuple[tuple[float, float], ...] = ((1.0, 0.8), *((2.0**-k, 0.04) for k in range(1, 6)))
"""(share of the largest possible bet, weight). Most of the capital bets all: best where nothing changes at all. The
rest is for changes that vary: a smaller bet survives them."""


def upper_bound(changes: Values, *, alpha: float | int = 0.05) -> float | None:
    """One-sided upper bound of the mean of independent changes in [-1, 1], at level 1 - alpha.

    Of n changes that are all 0 it is 1 - (0.8 alpha)^(1 / n): 10 points at 31, 5 points at 63, 2 points at 160. None
    for no changes.

    Raises:
        InputError: a change out of bounds, or missing.
    """
    x = as_floats(changes)
    if not 0 < alpha < 1 or np.isnan(x).any() or (np.abs(x) > 1 + 1e-9).any():
        raise InputError(f"changes of up to {np.nanmax(np.abs(x), initial=0.0):g}", "numbers between -1 and 1")
    if len(x) == 0:
        return None
    from scipy.optimize import brentq

    values, counts = np.unique(np.minimum(x, 1), return_counts=True)  # most changes are 0
    almost, given = 1 - 1e-12, (values, counts, -math.log(alpha))
    if _beyond(almost, *given) <= 0:
        return 1.0
    return float(brentq(_beyond, -1.0, almost, args=given, xtol=1e-13))  # rises with the mean that is bet against


def _beyond(
    delta: float, values: Float64[np.ndarray, "n"], counts: Int64[np.ndarray, "n"], wanted: float | int
) -> float:
    """Log capital of bets against a mean of `delta` or more, less what refutes it."""
    shares, weights = np.array(BETS).T
    factors = 1 + shares[:, None] / (1 - delta) * (delta - values)
    with np.errstate(divide="ignore"):
        capital = np.log(weights) + np.log(np.maximum(factors, 0.0)) @ counts
    return float(np.logaddexp.reduce(capital)) - wanted


def bounded_change(
    before: Values, after: Values, groups: Groups | None = None, *, alpha: float | int = 0.05
) -> Interval:
    """Mean of after minus before, paired by position, outcomes in [0, 1], with a bound on either side, each at
    1 - alpha.

    Situations (`groups`) have equal weight. Pairs with a missing value are left out and counted."""
    first, second, own, missing = whole_pairs(before, after, groups)
    if len(first) == 0:
        return Interval(None, None, None, 0, missing)
    means = group_means(second - first, own)
    high, low = upper_bound(means, alpha=alpha), upper_bound(-means, alpha=alpha)
    assert high is not None
    assert low is not None
    return Interval(float(means.mean()), -low, high, len(first), missing)
