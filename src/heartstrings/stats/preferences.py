"""Strengths from pairwise choices: Bradley-Terry with a term for the place, intervals, Elo.

P(second is chosen) = 1 / (1 + exp(strength[first] - strength[second] - position)). `position` is what a uniform shift
(`always the second`) moves; the strengths, anchored at mean 0, are free of it. Bradley & Terry 1952; the term for
the place: Davidson & Beaver 1977, as a logit that adds.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from heartstrings.core.errors import InputError, NumericalError
from heartstrings.stats.intervals import Groups, Interval, Values, as_floats

PENALTY = 0.01
"""Half of this times the sum of squared strengths, in logits: keeps the strength of an item that always wins finite."""
ELO_SCALE = 400 / math.log(10)
"""Elo points a logit: 400 points are odds of ten to one."""


@dataclass(frozen=True)
class Strengths:
    """Strengths in logits with mean 0 (or Elo points round a mean), and the pull of the second place."""

    items: Mapping[str, Interval]
    position: Interval
    """Logits (or Elo points) for whichever item stands second; 0: the place does not matter."""
    n: int
    """Comparisons."""
    missing: int


def bradley_terry(
    first: Sequence[str],
    second: Sequence[str],
    won: Values,
    *,
    groups: Groups | None = None,
    penalty: float | int = PENALTY,
    resamples: int = 200,
    seed: int = 0,
) -> Strengths:
    """Strengths by penalised maximum likelihood, 95% percentile intervals from a bootstrap over groups.

    Args:
        first, second: the items in first and second place of each comparison.
        won: 1 where the second won, 0 where the first did, or a probability; None or NaN is missing.
        groups: comparisons that share one are drawn together; by default each comparison is its own.
        penalty: on squared strengths, above 0; the position is free but for a hundredth of it.
        resamples: of the bootstrap; 0 gives values without intervals. Fewer than 8 groups give none either.
    Raises:
        InputError: unequal lengths, an item against itself, a value outside [0, 1], no comparison, items in
            halves that were never compared. NumericalError: the optimiser does not settle.
    """
    values = as_floats(won)
    if not len(first) == len(second) == len(values):
        raise InputError(f"{len(first)} first, {len(second)} second items, {len(values)} outcomes", "one of each a row")
    if groups is not None and len(groups) != len(values):
        raise InputError(f"{len(groups)} groups of {len(values)} comparisons", "one label a comparison")
    for a, b in zip(first, second, strict=True):
        if a == b:
            raise InputError(f"{a!r} compared with itself", "two different items")
    there = ~np.isnan(values)
    if ((values[there] < 0) | (values[there] > 1)).any():
        raise InputError("an outcome outside 0 to 1", "the probability that the second wins")
    if not there.any() or penalty <= 0:
        raise InputError(f"{int(there.sum())} comparisons, penalty {penalty}", "one at least, and a penalty above 0")
    names = sorted({*first, *second})
    row = {name: at for at, name in enumerate(names)}
    first_indices = np.array([row[name] for name in first], np.int64)[there]
    second_indices = np.array([row[name] for name in second], np.int64)[there]
    values = values[there]
    _connected(names, first_indices, second_indices)
    best = _fit(first_indices, second_indices, values, len(names), float(penalty))
    labels: Sequence[Hashable] = range(len(there)) if groups is None else list(groups)
    codes = [label for label, kept in zip(labels, there, strict=True) if kept]
    members: dict[Hashable, list[int]] = {}
    for at, label in enumerate(codes):
        members.setdefault(label, []).append(at)
    low = high = None
    if resamples and len(members) >= 8:
        rng, pools = np.random.default_rng(seed), [np.array(rows) for rows in members.values()]
        drawn = []
        for _ in range(resamples):
            rows = np.concatenate([pools[at] for at in rng.integers(len(pools), size=len(pools))])
            drawn.append(
                _fit(first_indices[rows], second_indices[rows], values[rows], len(names), float(penalty), start=best)
            )
        low, high = np.quantile(drawn, (0.025, 0.975), axis=0)

    def interval(at: int) -> Interval:
        n = int(((first_indices == at) | (second_indices == at)).sum()) if at < len(names) else len(values)
        if low is None or high is None:
            return Interval(float(best[at]), None, None, n)
        return Interval(float(best[at]), float(low[at]), float(high[at]), n)

    items = {name: interval(at) for at, name in enumerate(names)}
    return Strengths(items, interval(len(names)), len(values), int((~there).sum()))


def elo(strengths: Strengths, *, mean: float | int = 1500) -> Strengths:
    """The same in Elo points round `mean`; the position stays a difference, round 0."""
    moved = {}
    for name, strength in strengths.items.items():
        scaled = strength.times(ELO_SCALE)
        value, low, high = (None if end is None else mean + end for end in (scaled.value, scaled.low, scaled.high))
        moved[name] = Interval(value, low, high, scaled.n, scaled.missing)
    return Strengths(moved, strengths.position.times(ELO_SCALE), strengths.n, strengths.missing)


def _fit(
    first: Int64[np.ndarray, "row"],
    second: Int64[np.ndarray, "row"],
    won: Float64[np.ndarray, "row"],
    n: int,
    penalty: float,
    start: Float64[np.ndarray, "parameter"] | None = None,
) -> Float64[np.ndarray, "parameter"]:
    """Strengths with mean 0, then the position. The penalty alone centres them: only differences are in the data.

    Newton's method; a step that does not lower the loss, which is convex, is halved."""
    weights = np.r_[np.full(n, penalty), penalty / 100]
    best = np.zeros(n + 1) if start is None else np.array(start)
    for _ in range(100):
        step, promised = _newton(best, first, second, won, weights)
        if not np.isfinite(promised):
            break
        if promised < 1e-12:
            best -= step
            best[:n] -= best[:n].mean()
            return np.asarray(best)
        now, share = _loss(best, first, second, won, weights), 1.0
        while _loss(best - share * step, first, second, won, weights) > now and share > 1e-6:
            share /= 2
        best -= share * step
    raise NumericalError("the strengths do not settle", "comparisons that bear on every item")


def _logits(at: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.asarray(at[second] - at[first] + at[-1])


def _loss(at: np.ndarray, first: np.ndarray, second: np.ndarray, won: np.ndarray, weights: np.ndarray) -> float:
    logit = _logits(at, first, second)
    return float((np.logaddexp(0, logit) - won * logit).sum() + 0.5 * (weights * at**2).sum())


def _newton(
    at: np.ndarray, first: np.ndarray, second: np.ndarray, won: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, float]:
    """The step to the minimum of the parabola that the loss resembles here, and twice how far down that is."""
    from scipy.special import expit

    n = len(at) - 1
    chance = np.asarray(expit(_logits(at, first, second)))
    slope = np.r_[_by_item(first, second, chance - won, n), (chance - won).sum()] + weights * at
    bend = chance * (1 - chance)
    joint = np.bincount(first * n + second, bend, n * n).reshape(n, n)
    hessian = np.diag(weights)
    hessian[:n, :n] += np.diag(joint.sum(0) + joint.sum(1)) - joint - joint.T
    hessian[:n, n] = hessian[n, :n] = _by_item(first, second, bend, n)
    hessian[n, n] += bend.sum()
    step = np.linalg.solve(hessian, slope)
    return step, float(step @ slope)


def _by_item(first: np.ndarray, second: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """Sum over comparisons in which an item stands second, less those in which it stands first."""
    return np.asarray(np.bincount(second, values, n) - np.bincount(first, values, n))


def _connected(names: Sequence[str], first: np.ndarray, second: np.ndarray) -> None:
    """Strengths compare only within a connected set of comparisons."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(first)), (first, second)), shape=(len(names), len(names)))
    count, part = connected_components(graph, directed=False)
    if count > 1:
        apart = [name for name, at in zip(names, part, strict=True) if at != part[0]]
        raise InputError(
            f"{', '.join(apart[:5])} never compared with {names[0]}",
            "comparisons that link all items",
            "Ask more pairs, or leave these items out",
        )
