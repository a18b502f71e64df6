"""Against the controls: permutation p-values, Holm's correction, exact sign flips, how many controls a plan needs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from heartstrings.core.errors import InputError
from heartstrings.stats.intervals import Values, as_floats

LEAST_CONTROLS = 32
"""In all, whatever the arithmetic of the correction says."""
TIE = 1e-12
"""Sizes nearer than this, relatively, are ties: they differ by rounding only."""


def at_least(sizes: np.ndarray, size: float | int) -> np.ndarray:
    return np.asarray(sizes >= size * (1 - TIE) - 1e-300)


def permutation_p(larger: int | np.integer, n: int) -> float:
    """(b + 1) / (n + 1), of which b = `larger` of n null values are at least as extreme as the observed one.

    Never 0, and valid at any n: the observed value is one of n + 1 that are exchangeable under the null (Phipson and
    Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9:39)."""
    return float((larger + 1) / (n + 1))


def p_value(observed: float | int | None, null: Values) -> float | None:
    """`permutation_p` of the null values that are at least as large as `observed` in size; ties count against it.

    A missing null value counts as at least as large, since its size is not known. None if there is nothing observed."""
    if observed is None or math.isnan(observed):
        return None
    sizes = np.abs(as_floats(null))
    against = int((np.isnan(sizes) | at_least(sizes, abs(float(observed)))).sum())
    return permutation_p(against, len(sizes))


def holm(ps: Values) -> tuple[float | None, ...]:
    """Holm's step-down correction (1979), in the order given. A missing p stays missing and still counts as a test."""
    from statsmodels.stats.multitest import multipletests

    flat = as_floats(ps)
    if len(flat) == 0:
        return ()
    missing = np.isnan(flat)
    if ((flat < 0) | (flat > 1)).any():
        raise InputError("a p-value outside 0 to 1", "probabilities")
    corrected = multipletests(np.where(missing, 1.0, flat), method="holm")[1]
    return tuple(None if gone else float(p) for gone, p in zip(missing, corrected, strict=True))


def max_t(observed: Values, null: Float64[np.ndarray, "controls behaviours"]) -> tuple[float | None, ...]:
    """p of one direction on each of several behaviours, corrected over them (Westfall and Young 1993, step-down maxT).

    Every control was asked all the behaviours too, so it is compared by its largest value on those that are not yet
    settled: that searches as much as the direction does, whatever the behaviours have to do with one another. To be
    comparable, each value is divided by the largest of the others on its behaviour (the same rule for the direction and
    its controls, so that under the null they stay exchangeable). In units of the root mean square instead, one control
    far out on a noisy behaviour hides a direction that is twice all controls on another, where they are all large. A
    missing null value counts as larger. A missing observed value has no p: the controls that have one there keep their
    chance on it, and one that has none there (perhaps because all are missing) is not held against the direction
    elsewhere. With one behaviour this is `p_value`.

    Args:
        observed: one value a behaviour.
        null: the controls' values; NaN where there is none.
    """
    own = np.abs(as_floats(observed))
    sizes = np.abs(np.asarray(null, dtype=np.float64)).reshape(-1, len(own))
    corrected: list[float | None] = [None] * len(own)
    together = np.vstack([sizes, own])
    ratios = _to_largest_other(np.where(np.isnan(together), 0.0, together))
    sizes = np.where(np.isnan(sizes), np.where(np.isnan(own), 0.0, np.inf), ratios[:-1])
    own = np.where(np.isnan(own), np.nan, ratios[-1])
    order = sorted(np.flatnonzero(~np.isnan(own)).tolist(), key=lambda at: -own[at])
    settled: list[int] = []
    largest = 0.0
    for at in order:
        left = np.delete(sizes, settled, axis=1)
        against = int(at_least(left.max(axis=1), own[at]).sum()) if len(sizes) else 0
        largest = max(largest, permutation_p(against, len(sizes)))
        corrected[at] = largest
        settled.append(at)
    return tuple(corrected)


def _to_largest_other(sizes: Float64[np.ndarray, "rows behaviours"]) -> Float64[np.ndarray, "rows behaviours"]:
    """Each value over the largest of the others in its column; 0 over 0 is 0, anything else over 0 infinite."""
    if len(sizes) < 2:
        return sizes
    second, first = np.sort(sizes, axis=0)[-2:]
    alone = (sizes == first).sum(axis=0) == 1
    other = np.where((sizes == first) & alone, second, first)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sizes == 0, 0.0, sizes / other)


def holm_groups(groups: Sequence[Sequence[float | None]]) -> tuple[tuple[float | None, ...], ...]:
    """Holm's correction over groups of tests whose p-values are corrected within each group already.

    The factor falls by one once *all* of a group are rejected: one that keeps a true null still spends its share of
    alpha. With one test a group this is `holm`."""
    worst = [max((1.0 if p is None else p for p in group), default=1.0) for group in groups]
    order = sorted(range(len(groups)), key=lambda at: worst[at])
    # Steps: the level that all earlier groups need, and the factor from there on.
    steps, needed = [], 0.0
    for place, at in enumerate(order):
        factor = len(groups) - place
        steps.append((needed, factor))
        needed = max(needed, min(1.0, factor * worst[at]))
    corrected: list[tuple[float | None, ...]] = [()] * len(groups)
    for place, at in enumerate(order):
        open_steps = steps[: place + 1]
        corrected[at] = tuple(
            None if p is None else min(1.0, *(max(before, factor * p) for before, factor in open_steps))
            for p in groups[at]
        )
    return tuple(corrected)


def allowed_larger(controls: int, tests: int, alpha: float | int) -> int:
    """The most of `controls` that may be as large as the direction for its p times `tests` to stay under `alpha`.

    -1: not even none, the plan cannot find anything."""
    return math.ceil(alpha * (controls + 1) / tests - 1e-9) - 2


def least_controls(tests: int, alpha: float | int = 0.05, *, signed: bool = False) -> int:
    """Controls of each kind for a direction that beats them all to pass Holm over `tests`.

    The smallest n with tests / (n + 1) < alpha, since the decision asks for a corrected p under alpha. A plan has
    `LEAST_CONTROLS` over all kinds besides.

    Args:
        signed: the tests are one-sided; a control then counts in both of its directions, and so does the direction
            tested: p is at best 1 / (2 n + 2)."""
    if tests < 1 or not 0 < alpha < 1:
        raise InputError(f"{tests} tests at alpha {alpha}", "at least one test and alpha between 0 and 1")
    needed = tests / alpha
    return max(1, math.floor(needed / 2 - 1 + 1e-9) + 1) if signed else math.floor(needed + 1e-9)
