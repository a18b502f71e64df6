"""Hand grades correct automatic ones: prediction-powered inference with power tuning, over situations.

A judge or a rule grades every text, with errors; a person grades a random sample of them. The mean of the automatic
grades is precise and biased, that of the hand grades is right and imprecise. PPI++ (Angelopoulos, Duchi and Zrnic
2023, arXiv 2311.01453) adds to the first what the sample says of its errors:

    estimate(lambda) = mean of hand grades (sample) + lambda (mean of automatic grades (all) - the same (sample))

It is right for every lambda and for every automatic grader; lambda is the one that makes its variance least (their
section 6, "power tuning"), 0 where the automatic grades say nothing and near 1 where they are nearly right.

Means here are over situations with equal weight, of a contrast of conditions (doses): the mean of one, or the change
between two. A text is drawn for hand grading with the same probability as every other of its condition. The sample is
part of all texts, and a situation has texts under several conditions, so the variance is that of each situation's
influence on the estimate (linearisation of two-phase sampling; Saerndal, Swensson and Wretman 1992, chapter 9).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

from heartstrings.core.errors import InputError
from heartstrings.stats.intervals import (
    LEAST_PAIRS,
    Groups,
    Interval,
    Values,
    _draws,
    as_codes,
    as_floats,
    group_means,
    t_quantile,
)

HALF = 0.5
"""What an unclear automatic grade counts as in a correction. Any constant gives a right estimate; this favours neither
side."""


@dataclass(frozen=True)
class Corrected:
    """An estimate from automatic grades and a sample of hand grades."""

    estimate: Interval
    """`n` counts hand grades that were used, `missing` those of situations that lack a condition."""
    tuning: float | None
    """Lambda, from 0 (hand grades alone) to 1."""
    situations: int
    """Situations with a hand grade, under the condition that has the fewest."""


@dataclass(frozen=True)
class Bounds:
    """The same number with every unclear grade against it, and with every unclear grade for it."""

    low: Interval
    high: Interval


def ppi_mean(
    automatic: Values,
    hand: Values,
    groups: Groups | None = None,
    *,
    level: float | int = 0.95,
    tuning: float | None = None,
    quantile: Literal["t", "normal"] = "t",
) -> Corrected:
    """Mean over situations of the true grade. Arguments and errors: see `ppi_contrast`."""
    zero = np.zeros(len(automatic))
    return ppi_contrast(
        automatic, hand, zero, groups, weights={0.0: 1.0}, level=level, tuning=tuning, quantile=quantile
    )


def ppi_change(
    before: tuple[Values, Values],
    after: tuple[Values, Values],
    groups: Groups | None = None,
    *,
    level: float | int = 0.95,
    tuning: float | None = None,
    quantile: Literal["t", "normal"] = "t",
) -> Corrected:
    """Mean over situations of the true grade after minus before, paired by position.

    Args:
        before: automatic grades and hand grades, one a pair; after: the same.
        groups: the situation of each pair.
    Other arguments and errors: see `ppi_contrast`.
    """
    counts = {len(values) for values in (*before, *after)}
    if len(counts) > 1:
        raise InputError(f"{sorted(counts)} values before and after", "one automatic and one hand grade a pair, twice")
    n = counts.pop()
    own = as_codes(groups, n)
    automatic, hand = (np.concatenate([as_floats(a), as_floats(b)]) for a, b in zip(before, after, strict=True))
    return ppi_contrast(
        automatic,
        hand,
        np.repeat([0.0, 1.0], n),
        np.tile(own, 2),
        weights={0.0: -1.0, 1.0: 1.0},
        level=level,
        tuning=tuning,
        quantile=quantile,
    )


def ppi_contrast(
    automatic: Values,
    hand: Values,
    condition: Values,
    groups: Groups | None = None,
    *,
    weights: Mapping[float, float],
    level: float | int = 0.95,
    tuning: float | None = None,
    quantile: Literal["t", "normal"] = "t",
) -> Corrected:
    """Sum over conditions of a weight times the mean, over situations, of the true grade under that condition.

    The interval is refused (None) under 8 hand-graded situations in any condition of the contrast. Degrees of freedom
    of t: the hand-graded situations of the condition that has the fewest, minus 1. A sample in which few errors were
    seen says too little of those that it did not see (25 texts without an error allow for a share of 11%), so the
    variance is no smaller than with half a text more in each cell of hand by automatic grade (Agresti and Min 2005,
    Stat. Med. 24:729-740, for the difference of two paired rates).

    Args:
        automatic: in [0, 1], one a text; None or NaN: unclear, counted as a half here.
        hand: in [0, 1]; None or NaN: not graded by hand. Those that are must be a random sample of each condition's.
        condition: one number a text, such as its dose. Texts of conditions without a weight take no part.
        groups: the situation of each text; None: each text its own, for a single condition.
        tuning: lambda; None: the one with the least variance. 0: hand grades alone; 1: PPI without tuning.
        quantile: `t`, or `normal` as in the paper, for large samples.
    Raises:
        InputError: grades out of [0, 1], lambda out of [0, 1], columns of different lengths, no weight.
    """
    f, y, where = as_floats(automatic), as_floats(hand), as_floats(condition)
    _check(f, y, where, weights, tuning)
    conditions = [value for value, weight in weights.items() if weight]
    codes, kept, lost = _whole(where, as_codes(groups, len(f)), conditions, y)
    f, y, where = np.where(np.isnan(f), HALF, f)[kept], y[kept], where[kept]
    graded = ~np.isnan(y)
    n, situations = int(graded.sum()), int(codes.max(initial=-1)) + 1
    if any(not (graded & (where == dose)).any() for dose in conditions):
        return Corrected(Interval(None, None, None, n, lost), None, 0)
    everywhere = np.zeros(situations)
    hand_part, automatic_part = np.zeros(situations), np.zeros(situations)
    hand_mean, all_mean, sample_mean = 0.0, 0.0, 0.0
    fewest = situations
    parts: list[tuple[float, np.ndarray, np.ndarray, np.ndarray]] = []
    for dose in conditions:
        weight, here = weights[dose], where == dose
        size = np.bincount(codes[here], minlength=situations)
        everywhere += weight * np.bincount(codes[here], weights=f[here], minlength=situations) / size
        sample = here & graded
        own = codes[sample]
        share = 1 / size[own]  # situations have equal weight, so a text weighs less where a situation has many
        total = share.sum()
        y_mean, f_mean = float(share @ y[sample] / total), float(share @ f[sample] / total)
        hand_mean, sample_mean = hand_mean + weight * y_mean, sample_mean + weight * f_mean
        scale = weight * situations / total
        hand_part += scale * np.bincount(own, weights=share * (y[sample] - y_mean), minlength=situations)
        automatic_part -= scale * np.bincount(own, weights=share * (f[sample] - f_mean), minlength=situations)
        fewest = min(fewest, len(np.unique(own)))
        parts.append((weight, y[sample], f[sample], own))
    all_mean = float(everywhere.mean())
    automatic_part += everywhere - all_mean
    chosen = _least_variance(hand_part, automatic_part) if tuning is None else float(tuning)
    value = hand_mean + chosen * (all_mean - sample_mean)
    if fewest < LEAST_PAIRS:
        return Corrected(Interval(value, None, None, n, lost), chosen, fewest)
    influence = hand_part + chosen * automatic_part
    variance = float((influence**2).sum()) / situations**2 * fewest / (fewest - 1)
    variance += sum(weight**2 * _unseen(ys - chosen * fs, own, chosen) for weight, ys, fs, own in parts)
    reach = _quantile(level, fewest - 1, quantile) * math.sqrt(variance)
    return Corrected(Interval(value, value - reach, value + reach, n, lost), chosen, fewest)


def bounds(
    automatic: Values,
    condition: Values,
    groups: Groups | None = None,
    *,
    weights: Mapping[float, float],
    level: float | int = 0.95,
) -> Bounds:
    """The contrast of automatic grades with every unclear one as 0 and as 1, whichever lowers it, and whichever raises
    it; t over situations. With weight 1 for one condition it is a rate, with -1 and 1 a change.

    The truth lies between the two if the clear grades are right: what unclear texts hide cannot exceed this (Manski
    1989, J. Hum. Resour. 24:343-360, bounds without assumptions on what is missing).

    Args: as of `ppi_contrast`.
    """
    f, where = as_floats(automatic), as_floats(condition)
    _check(f, np.full(len(f), np.nan), where, weights, None)
    positive = np.array([weights.get(float(dose), 0.0) > 0 for dose in where], dtype=bool)
    unclear = np.isnan(f)
    low, high = (np.where(unclear, np.where(positive, up, 1.0 - up), f) for up in (0.0, 1.0))
    return Bounds(*(contrast_mean(grades, where, groups, weights=weights, level=level) for grades in (low, high)))


def contrast_mean(
    values: Values,
    condition: Values,
    groups: Groups | None = None,
    *,
    weights: Mapping[float, float],
    level: float | int = 0.95,
) -> Interval:
    """Mean over situations of a contrast of the values as they are, t over situations; missing values are left out, and
    so is a situation that then lacks a condition. Under 8 situations: no interval."""
    x, where = as_floats(values), as_floats(condition)
    own, missing = as_codes(groups, len(x)), int(np.isnan(x).sum())
    there = ~np.isnan(x)
    conditions = [value for value, weight in weights.items() if weight]
    codes, kept, lost = _whole(where[there], own[there], conditions, x[there])
    x, where = x[there][kept], where[there][kept]
    total = np.zeros(int(codes.max(initial=-1)) + 1)
    if len(total) == 0:
        return Interval(None, None, None, 0, missing + lost)
    for dose in conditions:
        here = where == dose
        total += weights[dose] * group_means(x[here], codes[here])
    value = float(total.mean())
    if len(total) < LEAST_PAIRS:
        return Interval(value, None, None, len(x), missing + lost)
    reach = t_quantile(level, len(total) - 1) * float(total.std(ddof=1)) / math.sqrt(len(total))
    return Interval(value, value - reach, value + reach, len(x), missing + lost)


def _whole(
    where: Float64[np.ndarray, "text"],
    codes: Int64[np.ndarray, "text"],
    conditions: Sequence[float],
    values: Float64[np.ndarray, "text"],
) -> tuple[Int64[np.ndarray, "kept"], np.ndarray, int]:
    """Situations of the texts whose situation has every condition, as 0, 1, ...; which texts these are; and how many
    values of the others are lost."""
    weighed = np.isin(where, conditions)
    whole = set.intersection(*(set(codes[where == dose].tolist()) for dose in conditions))
    kept = weighed & np.isin(codes, sorted(whole))
    lost = int((weighed & ~kept & ~np.isnan(values)).sum())
    own: Int64[np.ndarray, "kept"] = np.unique(codes[kept], return_inverse=True)[1].astype(np.int64)
    return own, kept, lost


def _least_variance(hand: Float64[np.ndarray, "situation"], automatic: Float64[np.ndarray, "situation"]) -> float:
    """Lambda that minimises the variance of hand + lambda automatic, within [0, 1]; 0 where all was graded by hand."""
    spread = float(automatic @ automatic)
    return 0.0 if spread < 1e-18 else min(1.0, max(0.0, -float(hand @ automatic) / spread))


def _unseen(residual: Float64[np.ndarray, "text"], codes: Int64[np.ndarray, "text"], tuning: float) -> float:
    """What the variance of a mean of hand - lambda automatic grows by with half a text more of each kind: only the hand
    grade is 1, only the automatic one is, both are, neither is."""
    means = group_means(residual, codes)
    spread, mean = float(residual.var()), float(means.mean())
    n = _draws(float(means.var(ddof=1)) / len(means), spread, codes, None)
    kinds = np.array([1.0, -tuning, 1.0 - tuning, 0.0])
    smoothed = (n * mean + 0.5 * kinds.sum()) / (n + 2)
    squares = n * spread + n * (mean - smoothed) ** 2 + 0.5 * ((kinds - smoothed) ** 2).sum()
    return max(0.0, float(squares) / (n + 2) ** 2 - spread / n)


def _quantile(level: float | int, degrees: int, kind: str) -> float:
    from scipy.special import ndtri

    return float(ndtri((1 + level) / 2)) if kind == "normal" else t_quantile(level, degrees)


def _check(
    f: np.ndarray, y: np.ndarray, where: np.ndarray, weights: Mapping[float, float], tuning: float | None
) -> None:
    if not len(f) == len(y) == len(where):
        raise InputError(
            f"{len(f)} automatic grades, {len(y)} hand grades, {len(where)} conditions", "one of each a text"
        )
    for name, values in (("automatic", f), ("hand", y)):
        known = values[~np.isnan(values)]
        if len(known) and not (known.min() >= 0 and known.max() <= 1):
            raise InputError(f"{name} grades from {known.min():g} to {known.max():g}", "numbers from 0 to 1, or None")
    if not any(weights.values()):
        raise InputError(f"weights {dict(weights)}", "a weight other than 0 for one condition at least")
    if tuning is not None and not 0 <= tuning <= 1:
        raise InputError(f"lambda {tuning:g}", "a number from 0 to 1, or None for the best one")
