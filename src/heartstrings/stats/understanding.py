"""Does a model answer the content of a question, or only its form? Tests on unsteered answers, outcomes in [0, 1]."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from heartstrings.core.errors import InputError
from heartstrings.stats.intervals import Groups, Values, as_codes, as_floats, group_means

FEWEST_CLUSTERS = 3
ROUNDING = 1e-12
"""A standard deviation under this is rounding: outcomes lie between 0 and 1."""


@dataclass(frozen=True)
class Layout:
    """Analysis of variance of pairs by orders; None is `could not be computed`."""

    f: float | None
    """Mean square between pairs over the residual one."""
    df_pairs: int
    df_residual: int
    p: float | None
    """Probability of an F at least as large if no question differs from another beyond its order."""
    n: int
    """Pairs that have an outcome in every order."""
    missing: int
    """Pairs left out because an outcome is missing."""


def two_way(outcomes_by_pair: Float[np.ndarray, "pair order"]) -> Layout:
    """The layout x_io = mean + pair_i + order_o + residual_io, I pairs in O orders, one outcome each; NaN is missing.

    F = [O sum_i (x_i. - x..)^2 / (I - 1)] / [sum_io (x_io - x_i. - x_.o + x..)^2 / ((I - 1) (O - 1))], on I - 1 and
    (I - 1) (O - 1) degrees of freedom (Fisher 1925). Position enters as `order_o` and, where the habit differs from
    question to question, as residual: it only makes F smaller. No F of fewer than two pairs or orders, nor where the
    residual does not vary. Pairs of which an outcome is missing are left out and counted.

    Raises:
        InputError: an infinite outcome.
    """
    if np.isinf(outcomes_by_pair).any():
        raise InputError("an infinite outcome", "finite numbers, or NaN where one is missing")
    whole = outcomes_by_pair[~np.isnan(outcomes_by_pair).any(axis=1)].astype(np.float64)
    pairs, orders = whole.shape
    missing = len(outcomes_by_pair) - pairs
    if pairs < 2 or orders < 2:
        return Layout(None, max(0, pairs - 1), max(0, (pairs - 1) * (orders - 1)), None, pairs, missing)
    of_pair = whole.mean(axis=1) - whole.mean()
    residual = whole - whole.mean(axis=1, keepdims=True) - whole.mean(axis=0) + whole.mean()
    df_pairs, df_residual = pairs - 1, (pairs - 1) * (orders - 1)
    between = orders * float((of_pair**2).sum()) / df_pairs
    within = float((residual**2).sum()) / df_residual
    if within <= ROUNDING**2:
        return Layout(None, df_pairs, df_residual, None, pairs, missing)
    from scipy.stats import f

    return Layout(
        between / within, df_pairs, df_residual, float(f.sf(between / within, df_pairs, df_residual)), pairs, missing
    )


def content_beyond_position(outcomes_by_pair: Float[np.ndarray, "pair order"]) -> float | None:
    """p of `two_way`: small where questions differ from one another in the same way in every order.

    A model that answers by position or by habit alone is under 0.05 in about 5 of 100 runs, or fewer. None as there. It
    looks for differences: a model that likes the target equally in every question is found by `above_chance` only.
    """
    return two_way(outcomes_by_pair).p


def above_chance(outcomes: Values, clusters: Groups | None = None, chance: float | int = 0.5) -> float | None:
    """One-sided p that the mean is over `chance`: Student's t on cluster means.

    t = (mean_g m_g - chance) / (s / sqrt(G)) on G - 1 degrees of freedom, m_g the mean of a cluster's outcomes, s their
    standard deviation; each cluster counts once, however many outcomes it has. None and NaN are left out. None for
    fewer than three clusters, and where the m_g do not vary (all right as well as all wrong): t is not defined there.

    Raises:
        InputError: not one cluster an outcome, an infinite outcome, or a chance that is not between 0 and 1.
    """
    if not 0 < chance < 1:
        raise InputError(f"chance = {chance}", "a number between 0 and 1 (a fraction, not percent)")
    flat = as_floats(outcomes)
    there = ~np.isnan(flat)
    means = group_means(flat[there], as_codes(clusters, len(flat))[there])
    if len(means) < FEWEST_CLUSTERS or means.std(ddof=1) <= ROUNDING:
        return None
    from scipy.special import stdtr

    t = (means.mean() - chance) / (means.std(ddof=1) / math.sqrt(len(means)))
    return float(stdtr(len(means) - 1, -t))
