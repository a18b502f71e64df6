"""Intervals: of a rate, of a mean over clusters, of a paired change, of a difference.

Everything is at 95% unless `level` says otherwise, on fractions (0 to 1) or in the unit of the values. None and NaN
are missing: left out pairwise, counted, never taken for 0. Where the data do not allow an
interval, `low` and `high` are None and `value` is still given.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from heartstrings.core.errors import InputError

Values: TypeAlias = Sequence[Any] | np.ndarray
"""One number a sample; None or NaN where it is missing."""
Groups: TypeAlias = Sequence[Hashable] | np.ndarray
"""One label a sample; samples with the same label are not independent (a scenario, a topic)."""

PAIR = " | "
"""Between the two names of a group that is a pair (`activities:cook | swim`): it is not independent of other pairs
that have one of them."""
LEAST_PAIRS = 8
"""A paired change of fewer independent pairs has no interval: a valid one would be too wide to use."""


@dataclass(frozen=True)
class Interval:
    """A value and its confidence interval; None is `could not be computed`."""

    value: float | None
    low: float | None
    high: float | None
    n: int = 0
    """Samples (or pairs) it was made from."""
    missing: int = 0
    """Samples (or pairs) left out because a value was missing."""

    @property
    def half_width(self) -> float | None:
        """Half of high minus low."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    @property
    def excludes_zero(self) -> bool:
        """True if the whole interval lies on one side of 0; False without an interval."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def within(self, limit: float | int) -> bool:
        """Equivalence: the whole interval lies strictly between -limit and limit; False without an interval."""
        return self.low is not None and self.high is not None and -limit < self.low and self.high < limit

    def times(self, factor: float | int) -> Interval:
        """In another unit; a negative factor turns the interval round."""
        ends = [None if end is None else end * factor for end in (self.low, self.high)]
        low, high = ends if factor >= 0 else ends[::-1]
        value = None if self.value is None else self.value * factor
        return Interval(value, low, high, self.n, self.missing)


def as_floats(values: Values) -> np.ndarray:
    """Float64 [n]; None becomes NaN. InputError for infinities and for anything but a flat list of numbers."""
    flat = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
    if flat.ndim != 1:
        raise InputError(f"values of shape {flat.shape}", "one number a sample")
    if np.isinf(flat).any():
        raise InputError("an infinite value among the samples", "finite numbers, or None where one is missing")
    return flat


def as_codes(groups: Groups | None, n: int) -> np.ndarray:
    """Integer labels [n], numbered in order of appearance; None: every sample is its own group."""
    if groups is None:
        return np.arange(n)
    if len(groups) != n:
        raise InputError(f"{len(groups)} groups for {n} values", "one group a value")
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(label, len(seen)) for label in groups], dtype=np.int64)


def t_quantile(level: float | int, degrees: float | int) -> float:
    """Two-sided critical value of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + level) / 2))


def _score(rate: float | int, n: float | int, level: float | int) -> tuple[float, float]:
    """Wilson's bounds (1927) for a rate of `n` draws; written here because libraries ask for a whole n, and an
    effective n is not whole.

    At a rate of 0 or 1 the outer bound is that rate exactly."""
    from scipy.special import ndtri

    z2 = float(ndtri((1 + level) / 2)) ** 2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    reach = math.sqrt(z2 * (rate * (1 - rate) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return (0.0 if rate <= 0 else max(0.0, centre - reach)), (1.0 if rate >= 1 else min(1.0, centre + reach))


def _counts(k: int, n: int) -> None:
    if n < 0 or not 0 <= k <= n:
        raise InputError(f"{k} successes of {n}", "0 <= k <= n")


def wilson(k: int, n: int, *, level: float | int = 0.95) -> Interval:
    """Rate k/n with Wilson's score interval (1927; recommended by Brown, Cai, DasGupta 2001). Of nothing: all None."""
    _counts(k, n)
    return Interval(None, None, None) if n == 0 else Interval(k / n, *_score(k / n, n, level), n=n)


def clopper_pearson(k: int, n: int, *, level: float | int = 0.95) -> Interval:
    """Rate k/n with the exact interval of Clopper and Pearson (1934): covers at least `level`, wider than Wilson's."""
    from scipy.stats import binomtest

    _counts(k, n)
    if n == 0:
        return Interval(None, None, None)
    bounds = binomtest(k, n).proportion_ci(level, method="exact")
    return Interval(k / n, float(bounds.low), float(bounds.high), n=n)


def _is_binary(*arrays: np.ndarray) -> bool:
    return all(bool(np.isin(array, (0.0, 1.0)).all()) for array in arrays)


def group_means(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Mean of each group that has a value."""
    _, own = np.unique(codes, return_inverse=True)
    means: np.ndarray = np.bincount(own, weights=values) / np.bincount(own)
    return means


def _items(groups: Groups | None, codes: np.ndarray) -> np.ndarray | None:
    """[group, 2]: the two items of each group that has a value, as numbers; None unless all of them are pairs."""
    if groups is None or not all(isinstance(label, str) and PAIR in label for label in groups):
        return None
    labels = list(dict.fromkeys(groups))
    parts = [str(labels[code]).rpartition(":")[2].partition(PAIR)[::2] for code in np.unique(codes)]
    return as_codes([item for pair in parts for item in pair], 2 * len(parts)).reshape(-1, 2)


def _variance(means: np.ndarray, items: np.ndarray | None) -> tuple[float, int]:
    """Of the mean over groups, and its degrees of freedom.

    Groups that are pairs of items are not independent where they share one. Their variance is dyadic-robust: the sum of
    the products of residuals over all pairs of groups that share an item (Aronow, Samii and Assenova 2015, Political
    Analysis 23:564-577, section 3), times I / (I - 1) for I items; that of independent groups at least, which it falls
    below by chance alone."""
    n = len(means)
    alone = float(means.var(ddof=1)) / n if n > 1 else 0.0
    if items is None or n < 2:
        return alone, n - 1
    residuals, count = means - means.mean(), int(items.max()) + 1
    sums = np.bincount(items.ravel(), weights=np.repeat(residuals, 2), minlength=count)
    shared = float((sums**2).sum() - (residuals**2).sum()) / n**2 * count / (count - 1)
    return max(alone, shared), min(n, count) - 1


def means_by(values: np.ndarray, codes: np.ndarray, n: int) -> np.ndarray:
    """[n]: mean of the values with each number under n; NaN where there is none. NaN among the values takes no part."""
    there = ~np.isnan(values)
    count = np.bincount(codes[there], minlength=n)
    total = np.bincount(codes[there], weights=values[there], minlength=n)
    means: np.ndarray = np.divide(total, count, out=np.full(n, np.nan), where=count > 0)
    return means


def _draws(variance: float | int, single: float | int, codes: np.ndarray, items: np.ndarray | None) -> float:
    """Independent draws that the mean over groups is worth, groups with equal weight.

    The variance of one draw over that of the mean; between the number of groups (members all agree; of pairs, those
    that can have no item in common) and what independent members are worth. Where nothing varies it is the number of
    groups: nothing shows that its members are independent."""
    counts = np.unique(codes, return_counts=True)[1]
    fewest, most = float(len(counts)), float(len(counts) ** 2 / (1 / counts).sum())
    fewest = fewest if items is None else min(fewest, (int(items.max()) + 1) // 2)
    return fewest if variance <= 0 or single <= 0 else min(max(single / variance, fewest), most)


def mean_interval(
    values: Values, groups: Groups | None = None, *, level: float | int = 0.95, as_rate: bool = True
) -> Interval:
    """Mean over groups of each group's mean, with t over the groups: G - 1 degrees of freedom.

    Right also for groups of uneven size and spread: t over group means errs on the safe side whatever their variances
    (Ibragimov and Mueller 2010, J. Bus. Econ. Stat. 28:453-468, for levels of 92% and more). Groups that are pairs of
    items (`PAIR`) get a variance that knows which share one, and one degree of freedom less than items. Values that are
    all 0 or 1 get Wilson's interval on the effective number of draws instead, since t shrinks to nothing where all
    agree; `as_rate` False: never. Fewer than two groups: no interval (but for ungrouped rates)."""
    flat = as_floats(values)
    there = ~np.isnan(flat)
    codes = as_codes(groups, len(flat))[there]
    flat, missing = flat[there], int((~there).sum())
    n = len(flat)
    if n == 0:
        return Interval(None, None, None, 0, missing)
    means = group_means(flat, codes)
    mean = float(means.mean())
    rate = _is_binary(flat) and as_rate
    if len(means) < 2 and (groups is not None or not rate):
        return Interval(mean, None, None, n, missing)
    items = _items(groups, codes)
    variance, degrees = _variance(means, items)
    if rate:
        draws = _draws(variance, mean * (1 - mean), codes, items)
        return Interval(mean, *_score(mean, draws, level), n=n, missing=missing)
    reach = t_quantile(level, degrees) * math.sqrt(variance)
    return Interval(mean, mean - reach, mean + reach, n, missing)


def newcombe_paired(
    both: float | int, first: float | int, second: float | int, neither: float | int, *, level: float | int = 0.95
) -> Interval:
    """Rate of the first minus rate of the second, paired: method 10 of Newcombe (1998, Stat. Med. 17:2635-2650).

    Args: pairs positive in both, in the first only, in the second only, in neither; an effective number may be broken.
    The score intervals of the two rates are squared and added, with phi, corrected for continuity, as correlation."""
    n = both + first + second + neither
    if n <= 0 or min(both, first, second, neither) < 0:
        raise InputError(f"a table of {both}, {first}, {second}, {neither} pairs", "counts, not all of them 0")
    p1, p2 = (both + first) / n, (both + second) / n
    (low1, high1), (low2, high2) = _score(p1, n, level), _score(p2, n, level)
    cross = both * neither - first * second
    corrected = max(cross - n / 2, 0.0) if cross > 0 else cross
    margins = (both + first) * (second + neither) * (both + second) * (first + neither)
    phi = corrected / math.sqrt(margins) if margins > 0 else 0.0
    down = math.sqrt(max(0.0, (p1 - low1) ** 2 - 2 * phi * (p1 - low1) * (high2 - p2) + (high2 - p2) ** 2))
    up = math.sqrt(max(0.0, (high1 - p1) ** 2 - 2 * phi * (high1 - p1) * (p2 - low2) + (p2 - low2) ** 2))
    change = p1 - p2
    return Interval(change, max(-1.0, change - down), min(1.0, change + up), n=round(n))


def whole_pairs(before: Values, after: Values, groups: Groups | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """(before, after, groups as numbers, how many pairs lack a value) of the pairs that have both."""
    first, second = as_floats(before), as_floats(after)
    if len(first) != len(second):
        raise InputError(f"{len(first)} values before and {len(second)} after", "pairs")
    codes = as_codes(groups, len(first))
    there = ~(np.isnan(first) | np.isnan(second))
    return first[there], second[there], codes[there], int((~there).sum())


def paired_change(
    before: Values, after: Values, groups: Groups | None = None, *, level: float | int = 0.95
) -> Interval:
    """Mean of after minus before, paired by position; groups have equal weight.

    All values 0 or 1: Newcombe's method 10, on the effective number of pairs where several share a group. Else t over
    the groups of the differences. Under 8 groups with a whole pair: no interval."""
    first, second, codes, missing = whole_pairs(before, after, groups)
    n = len(first)
    if n == 0:
        return Interval(None, None, None, 0, missing)
    change = second - first
    means = group_means(change, codes)
    value, items = float(means.mean()), _items(groups, codes)
    variance, degrees = _variance(means, items)
    if len(means) < LEAST_PAIRS:
        return Interval(value, None, None, n, missing)
    if not _is_binary(first, second):  # straight to t: differences that happen to be 0 or 1 are no rates
        reach = t_quantile(level, degrees) * math.sqrt(variance)
        return Interval(value, value - reach, value + reach, n, missing)
    draws = _draws(variance, float(change.var()), codes, items)
    cells = [group_means((second == a) & (first == b), codes).mean() for a, b in ((1, 1), (1, 0), (0, 1), (0, 0))]
    interval = newcombe_paired(*(float(cell) * draws for cell in cells), level=level)
    return Interval(value, interval.low, interval.high, n, missing)


def average(parts: Sequence[Interval]) -> Interval:
    """Mean of independent estimates, each with equal weight: the squares of their distances to either bound are added
    (Zou and Donner 2008, Stat. Med. 27:1693-1702, as Newcombe does for two). No interval where one has none."""
    n, missing = sum(part.n for part in parts), sum(part.missing for part in parts)
    values = [part.value for part in parts if part.value is not None]
    if not parts or len(values) < len(parts):
        return Interval(None, None, None, n, missing)
    value = float(np.mean(values))
    lows = [part.low for part in parts if part.low is not None]
    highs = [part.high for part in parts if part.high is not None]
    if len(lows) < len(parts) or len(highs) < len(parts):
        return Interval(value, None, None, n, missing)
    down = float(np.linalg.norm(np.subtract(values, lows))) / len(parts)
    up = float(np.linalg.norm(np.subtract(highs, values))) / len(parts)
    return Interval(value, value - down, value + up, n, missing)


def difference(first: Interval, second: Interval) -> Interval:
    """The first minus the second, independent estimates (`average`)."""
    return average((first, second.times(-1))).times(2)
