"""Linear readouts of a rating from vectors, tested on emotions, and topics, that they were not fitted on.

Ridge regression in its kernel form. The penalty depends only on the vectors, so the held-out predictions are one fixed
matrix times the ratings. Each permutation of the null is one product, and repeats the whole cross-validation exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from heartstrings.geometry._axes import MIN_FAMILIES, Target, p_value, shuffles, unit
from heartstrings.geometry.results import Readout

FOLDS, REPEATS, LEAVE_ONE_OUT_BELOW = 10, 3, 40
MIN_READ = 8
"""With fewer emotions no readout is attempted."""
PENALTY = 1.0
"""The ridge penalty in units of the mean eigenvalue of the training kernel."""


Kernels = tuple[tuple[Float64[np.ndarray, "kept kept"], Float64[np.ndarray, "kept kept"]], ...]
"""One layer, for each direction of the readout: inner products of the vectors that are fitted on, and of those that are
predicted for (rows) with them (columns)."""


@dataclass(frozen=True, eq=False)
class Reading:
    """All layers of one variant read for one rating."""

    results: tuple[Readout | None, ...]
    p: Float64[np.ndarray, "layer"]
    null: Float64[np.ndarray, "permutation"]
    """Largest r2 over the layers, a permutation; -inf where nothing was read."""


def splits(family: Int64[np.ndarray, "emotion"], *, seed: int) -> tuple[tuple[Int64[np.ndarray, "test"], ...], ...]:
    """Held-out emotions, whole families at a time: near synonyms of a held-out emotion must not be fitted on.

    Repeats of 10 random folds of families; one repeat of single families where there are under 40, as in the
    lexicon (21).
    """
    names = np.unique(family)
    if len(names) < LEAVE_ONE_OUT_BELOW:
        return (tuple(np.flatnonzero(family == name).astype(np.int64) for name in names),)
    rng = np.random.default_rng(seed)
    return tuple(
        tuple(
            np.flatnonzero(np.isin(family, part)).astype(np.int64)
            for part in np.array_split(rng.permutation(names), FOLDS)
        )
        for _ in range(REPEATS)
    )


def hat(
    train: Float64[np.ndarray, "emotion emotion"],
    cross: Float64[np.ndarray, "emotion emotion"],
    folds: Sequence[Int64[np.ndarray, "_"]],
    *,
    penalty: float = PENALTY,
) -> Float64[np.ndarray, "emotion emotion"]:
    """H such that H y are the held-out ridge predictions of y.

    Args:
        train: inner products of the vectors that are fitted on, e.g. from topic half A.
        cross: inner products of the vectors that are predicted for (rows, e.g. from topic half B) with those
            fitted on (columns).
        folds: held-out emotions; both sides are centred by the mean over the other emotions.
        penalty: in units of the mean eigenvalue of the centred training kernel.
    """
    n = len(train)
    out = np.zeros((n, n))
    for test in folds:
        fitted = np.setdiff1d(np.arange(n), test)
        kernel, between = train[np.ix_(fitted, fitted)], cross[np.ix_(test, fitted)]
        mean = kernel.mean(0)
        centred = kernel - mean - mean[:, None] + mean.mean()
        # The predicted side has its own mean, that of the training emotions in its own half.
        base = cross[np.ix_(fitted, fitted)].mean(0)
        between = between - base
        between = between - between.mean(1, keepdims=True)
        ridge = penalty * float(np.trace(centred)) / len(fitted)
        if ridge > 0:
            weights = np.linalg.solve(centred + ridge * np.eye(len(fitted)), between.T).T
            out[np.ix_(test, fitted)] = weights - weights.mean(1, keepdims=True)
        out[np.ix_(test, fitted)] += 1.0 / len(fitted)
    return out


def mean_hat(n: int, folds: Sequence[Int64[np.ndarray, "_"]]) -> Float64[np.ndarray, "emotion emotion"]:
    """H of the baseline: every held-out emotion is predicted by the mean of the training emotions."""
    out = np.zeros((n, n))
    for test in folds:
        fitted = np.setdiff1d(np.arange(n), test)
        out[np.ix_(test, fitted)] = 1.0 / len(fitted)
    return out


def readable(
    halves: Float32[np.ndarray, "half layer emotion width"] | None, rated: Bool[np.ndarray, "emotion"]
) -> Bool[np.ndarray, "emotion"]:
    """Rated emotions that have vectors from both topic halves (or all rated ones without halves)."""
    if halves is None:
        return rated
    return np.asarray(np.isfinite(halves[..., 0]).all(axis=(0, 1)) & rated)


def read(
    contrasts: Float32[np.ndarray, "layer emotion width"],
    halves: Float32[np.ndarray, "half layer emotion width"] | None,
    targets: Sequence[Target],
    *,
    seed: int = 0,
) -> tuple[Reading, ...]:
    """Cross-validated readouts of every layer for several ratings of the same emotions.

    With topic halves, fitted on one half's vectors of the training emotions and tested on the other half's
    of the held-out ones, both ways; else on the plain contrasts.
    """
    rated = targets[0].rated
    if any((other.rated != rated).any() for other in targets):
        raise ValueError("ratings of different emotions; expected one set of rated emotions")
    kept = readable(halves, rated)
    if halves is not None and kept.sum() < max(MIN_READ, 0.5 * rated.sum()):
        halves, kept = None, rated
    pairs = [_kernels(layer, None if halves is None else halves[:, row], kept) for row, layer in enumerate(contrasts)]
    return read_kernels(pairs, targets, kept, topics_held_out=halves is not None, seed=seed)


def read_kernels(
    pairs: Sequence[Kernels],
    targets: Sequence[Target],
    kept: Bool[np.ndarray, "emotion"],
    *,
    topics_held_out: bool,
    seed: int = 0,
) -> tuple[Reading, ...]:
    """`read` from inner products, one entry a layer.

    Args:
        pairs: of the `kept` emotions alone.
        kept: emotions that are read, all of them rated.
    """
    n, n_layers, rated = int(kept.sum()), len(pairs), targets[0].rated
    if n < MIN_READ or not all(target.usable for target in targets):
        return tuple(_nothing(n_layers, target) for target in targets)
    within = kept[rated]
    family = targets[0].family[within]
    if len(np.unique(family)) < MIN_FAMILIES:
        return tuple(_nothing(n_layers, target) for target in targets)
    parts = splits(family, seed=seed)
    base = _quadratic([mean_hat(n, folds) for folds in parts])
    orders = [_orders(target, within, seed) for target in targets]
    actual = [unit(target.values[within]) for target in targets]
    bottom = [_form(base, column) for column in orders]
    null = [np.full(column.shape[1], -np.inf) for column in orders]
    r2_and_r: list[list[tuple[float, float]]] = [[] for _ in targets]
    for layer in pairs:
        hats = [hat(train, cross, folds) for folds in parts for train, cross in layer]
        loss, predict = _quadratic(hats), np.mean(hats, axis=0)
        for at, y in enumerate(actual):
            r2 = 1 - float(y @ loss @ y) / float(y @ base @ y)
            said = predict @ y
            r2_and_r[at].append((r2, float(unit(said) @ y)))
            null[at] = np.maximum(null[at], 1 - _form(loss, orders[at]) / bottom[at])
    return tuple(_reading(r2_and_r[at], null[at], n, len(parts[0]), topics_held_out) for at in range(len(targets)))


def _kernels(
    contrasts: Float32[np.ndarray, "emotion width"],
    halves: Float32[np.ndarray, "half emotion width"] | None,
    kept: Bool[np.ndarray, "emotion"],
) -> Kernels:
    if halves is None:
        rows = contrasts[kept].astype(np.float64)
        inner = rows @ rows.T
        return ((inner, inner),)
    first, second = halves[0, kept].astype(np.float64), halves[1, kept].astype(np.float64)
    across = second @ first.T
    return (first @ first.T, across), (second @ second.T, across.T)


def _quadratic(hats: Sequence[Float64[np.ndarray, "n n"]]) -> Float64[np.ndarray, "n n"]:
    """Q with y'Qy = squared held-out error of y, averaged over repeats and directions."""
    errors = [np.eye(len(h)) - h for h in hats]
    return np.asarray(np.mean([error.T @ error for error in errors], axis=0))


def _form(
    matrix: Float64[np.ndarray, "n n"], columns: Float64[np.ndarray, "n permutation"]
) -> Float64[np.ndarray, "permutation"]:
    return np.asarray(np.einsum("np,np->p", columns, matrix @ columns))


def _orders(target: Target, within: Bool[np.ndarray, "rated"], seed: int) -> Float64[np.ndarray, "n permutation"]:
    """The shared permutations; orders of its own where some rated emotions lack a half."""
    if within.all():
        return target.shuffled
    family = np.unique(target.family[within], return_inverse=True)[1].astype(np.int64)
    rng = np.random.default_rng(seed + 1)
    return shuffles(unit(target.values[within]), family, target.shuffled.shape[1], rng)


def _reading(
    r2_and_r: Sequence[tuple[float, float]],
    null: Float64[np.ndarray, "permutation"],
    n: int,
    folds: int,
    topics_held_out: bool,
) -> Reading:
    p = np.array([p_value(r2, null) for r2, _ in r2_and_r])
    results = tuple(
        Readout(r2=r2, r=r, p=float(chance), n=n, folds=folds, topics_held_out=topics_held_out)
        for (r2, r), chance in zip(r2_and_r, p, strict=True)
    )
    return Reading(results, p, null)


def _nothing(n_layers: int, target: Target) -> Reading:
    return Reading((None,) * n_layers, np.full(n_layers, np.nan), np.full(target.shuffled.shape[1], -np.inf))
