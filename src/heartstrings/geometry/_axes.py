"""Which component follows a rating: correlations, their intervals, and nulls that repeat the search.

Emotions are not exchangeable: they come in families of feeling, and a component that differs between families
correlates by chance with any rating that does. So the nulls permute a rating in blocks (`shuffles`).

All statistics of one variant are computed for all layers together, because the nulls take the largest value over
layers, and with the same permutations, so that several tests can be combined whatever their dependence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from heartstrings.corpus.lexicon import families
from heartstrings.geometry._spectra import Spectrum
from heartstrings.geometry.results import Axes, Best, Correlation
from heartstrings.stats.nulls import permutation_p

N_COMPONENTS = 10
MIN_RATED = 4
"""With fewer rated emotions no correlation, interval or p is given."""
MIN_FAMILIES = 6
"""With fewer families of feeling nothing is tested: there are too few other orders to compare with."""
LIKE_SIZED = 7
"""Families of like size are permuted in groups of at least this number; seven have 5,040 orders."""


@dataclass(frozen=True, eq=False)
class Target:
    """One rating of the emotions, with its permutations and bootstrap resamples."""

    name: str
    rated: Bool[np.ndarray, "emotion"]
    values: Float64[np.ndarray, "rated"]
    """Ratings of the rated emotions; mean 0, length 1; empty where nothing can be tested."""
    family: Int64[np.ndarray, "rated"]
    """Number of each rated emotion's family of feeling, from 0; empty like `values`."""
    shuffled: Float64[np.ndarray, "rated permutation"]
    """`values` in random orders of the families and within them; mean 0, length 1."""
    resamples: Float64[np.ndarray, "resample rated"]
    """How often each rated emotion was drawn, by bootstrap resample."""

    @property
    def n(self) -> int:
        return int(self.rated.sum())

    @property
    def n_families(self) -> int:
        return len(np.unique(self.family))

    @property
    def usable(self) -> bool:
        return len(self.values) > 0


@dataclass(frozen=True, eq=False)
class Found:
    """All layers of one variant and treatment against one rating."""

    n: int
    n_families: int
    r: Float64[np.ndarray, "layer component"]
    """Signed; NaN where a layer has no such component."""
    p_first: Float64[np.ndarray, "layer"]
    """p of the primary component (1 for valence, 2 for arousal); the null searches the layers."""
    best: Int64[np.ndarray, "layer"]
    """0-based; -1 without any component."""
    p_best: Float64[np.ndarray, "layer"]
    null_best: Float64[np.ndarray, "permutation"]
    null_first: Float64[np.ndarray, "permutation"]


def target(
    name: str,
    ratings: Float64[np.ndarray, "emotion"],
    *,
    permutations: int,
    bootstrap: int,
    seed: int,
    family: Int64[np.ndarray, "emotion"] | None = None,
) -> Target:
    """A rating ready for tests. NaN means not rated; without `family` each emotion is a family of its own."""
    rated = np.isfinite(ratings)
    n = int(rated.sum())
    values = unit(ratings[rated]) if n >= MIN_RATED and np.ptp(ratings[rated]) > 0 else np.zeros(0)
    own = np.arange(len(ratings)) if family is None else family
    blocks = np.unique(own[rated], return_inverse=True)[1].astype(np.int64)[: len(values)]
    rng = np.random.default_rng(seed)
    shuffled = shuffles(values, blocks, permutations, rng)
    draws = rng.integers(0, n, size=(bootstrap, n)) if len(values) else np.zeros((bootstrap, 0), dtype=np.int64)
    resamples = np.zeros((bootstrap, len(values)))
    for row, draw in zip(resamples, draws, strict=True):
        row += np.bincount(draw, minlength=len(values))
    return Target(name, rated, values, blocks, shuffled, resamples)


def family_numbers(emotions: Sequence[str]) -> Int64[np.ndarray, "emotion"]:
    """The family of feeling of every emotion, as a number; a word outside the lexicon is a family of its own."""
    known = families()
    labels = [("family", known[word]) if word in known else ("word", word) for word in emotions]
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    return np.array([numbers[label] for label in labels], dtype=np.int64)


def shuffles(
    values: Float64[np.ndarray, "rated"],
    family: Int64[np.ndarray, "rated"],
    permutations: int,
    rng: np.random.Generator,
) -> Float64[np.ndarray, "rated permutation"]:
    """A rating under block permutation (Winkler et al. 2015, Multi-level block permutation): mean 0, length 1.

    The family means are permuted between families of like size, the differences from the family mean within each
    family, and the sum is the permuted rating. Where each emotion is a family, this is a plain permutation. Families
    of unlike size are not exchangeable: large families determine the first components.
    """
    if not len(values):
        return np.zeros((0, permutations))
    size = np.bincount(family)
    means = np.bincount(family, weights=values) / size
    deviations = values - means[family]
    between = means[_orders(like_sized(size), permutations, rng)][family]
    within = deviations[_orders(family, permutations, rng)]
    both = between + within
    both = both - both.mean(0)
    length = np.linalg.norm(both, axis=0)
    return np.asarray(np.divide(both, length, out=np.zeros_like(both), where=length > 1e-12))


def like_sized(size: Int64[np.ndarray, "family"]) -> Int64[np.ndarray, "family"]:
    """Number of each family's group of like size: from small to large, at least seven families a group. Families of the
    same size stay together, and fewer than seven at the end join the group before."""
    groups: list[list[int]] = []
    for value in np.unique(size):
        same = np.flatnonzero(size == value).tolist()
        if groups and len(groups[-1]) < LIKE_SIZED:
            groups[-1] += same
        else:
            groups.append(same)
    if len(groups) > 1 and len(groups[-1]) < LIKE_SIZED:
        last = groups.pop()
        groups[-1] += last
    out = np.zeros(len(size), dtype=np.int64)
    for number, group in enumerate(groups):
        out[group] = number
    return out


def _orders(
    block: Int64[np.ndarray, "row"], permutations: int, rng: np.random.Generator
) -> Int64[np.ndarray, "row permutation"]:
    """Random orders of rows that keep each within its block: row i takes the value of row out[i]."""
    home = np.argsort(block, kind="stable")
    mixed = np.argsort(block[:, None] + rng.random((len(block), permutations)), axis=0)
    out = np.empty_like(mixed)
    out[home] = mixed
    return out


def unit(column: Float64[np.ndarray, "row"]) -> Float64[np.ndarray, "row"]:
    """Mean 0 and length 1, so that a product of two such columns is Pearson's r."""
    centred: Float64[np.ndarray, "row"] = column - column.mean()
    length = float(np.linalg.norm(centred))
    return centred / length if length > 0 else centred


def unit_rows(rows: Float64[np.ndarray, "*any width"]) -> Float64[np.ndarray, "*any width"]:
    """Rows scaled to length 1; a row of zeros stays as it is."""
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(np.divide(rows, length, out=np.zeros_like(rows), where=length > 0))


def ranks(scores: Float[np.ndarray, "row column"]) -> Float64[np.ndarray, "row column"]:
    """Rank of each column within its row, from 1 for the largest; ties by their order."""
    return np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1, kind="stable") + 1.0


def p_value(observed: float, null: Float64[np.ndarray, "permutation"], *, tie: float = 1e-12) -> float:
    """`permutation_p` of the null values that are at least as large as the observed one.

    Values that differ by `tie` or less count as equal. Where small values are evidence, give both with a minus sign.
    """
    return permutation_p((null >= observed - tie).sum(), len(null))


def search(spectra: Sequence[Spectrum], against: Target, *, first: int) -> Found:
    """Correlate the components of every layer with a rating; `first` is the component fixed in advance, 0-based."""
    n_layers = len(spectra)
    n_kept = min(N_COMPONENTS, max(against.n - 1, 1))
    table = np.full((n_layers, n_kept, len(against.values)), np.nan)
    for row, spectrum in enumerate(spectra):
        for column in range(min(n_kept, spectrum.scores.shape[1])):
            if against.usable:
                scores = unit(spectrum.scores[against.rated, column])
                if np.abs(scores).max() > 0:
                    table[row, column] = scores
    r = table @ against.values if against.usable else np.full((n_layers, n_kept), np.nan)
    n_permutations = against.shuffled.shape[1]
    null_best, null_first = np.zeros(n_permutations), np.zeros(n_permutations)
    there = np.isfinite(r)
    for row in range(n_layers):
        size = np.abs(table[row][there[row]] @ against.shuffled)
        if len(size):
            null_best = np.maximum(null_best, size.max(0))
        if first < n_kept and there[row, first]:
            null_first = np.maximum(null_first, size[int(there[row, :first].sum())])
    best = np.array([int(np.nanargmax(np.abs(x))) if np.isfinite(x).any() else -1 for x in r], dtype=np.int64)
    p_best = np.array([p_value(float(np.abs(r[i, b])), null_best) if b >= 0 else np.nan for i, b in enumerate(best)])
    p_first = np.array(
        [
            p_value(float(np.abs(r[i, first])), null_first) if first < n_kept and there[i, first] else np.nan
            for i in range(n_layers)
        ]
    )
    return Found(against.n, against.n_families, r, p_first, best, p_best, null_best, null_first)


def best_of(axis: Found, row: int) -> Best:
    """The best component of one layer."""
    component = int(axis.best[row])
    if component < 0:
        return Best(component=None, r=None, p=None, n=axis.n)
    r, p = float(np.abs(axis.r[row, component])), float(axis.p_best[row])
    return Best(component=component + 1, r=r, p=p, n=axis.n)


def correlations(spectra: Sequence[Spectrum], against: Target, component: int) -> tuple[Correlation, ...]:
    """One component's |r| with a rating at every layer, with its BCa interval (Efron 1987) and |rho|."""
    nothing = Correlation(r=None, low=None, high=None, n=against.n, spearman=None)
    if not against.usable:
        return (nothing,) * len(spectra)
    rows = [
        row
        for row, spectrum in enumerate(spectra)
        if component < spectrum.scores.shape[1] and np.ptp(spectrum.scores[against.rated, component]) > 0
    ]
    results = [nothing] * len(spectra)
    if not rows:
        return tuple(results)
    scores = np.stack([spectra[row].scores[against.rated, component] for row in rows], axis=1)
    scores = scores * np.sign(against.values @ scores + 1e-300)
    r, low, high = bca(scores, against.values, against.resamples)
    ranks = rankdata(against.values)
    for column, row in enumerate(rows):
        rho = float(unit(rankdata(scores[:, column])) @ unit(ranks))
        bounds = (None, None) if np.isnan(low[column]) else (float(low[column]), float(high[column]))
        results[row] = Correlation(r=float(r[column]), low=bounds[0], high=bounds[1], n=against.n, spearman=abs(rho))
    return tuple(results)


def bca(
    columns: Float64[np.ndarray, "row column"],
    values: Float64[np.ndarray, "row"],
    resamples: Float64[np.ndarray, "resample row"],
    *,
    level: float = 0.95,
) -> tuple[Float64[np.ndarray, "column"], Float64[np.ndarray, "column"], Float64[np.ndarray, "column"]]:
    """Pearson r of every column with `values`, and its bias-corrected and accelerated bootstrap interval.

    Bias correction from the share of resamples under r, acceleration from the jackknife (Efron 1987, Better
    bootstrap confidence intervals, section 6). NaN bounds without resamples.
    """
    n, width = columns.shape
    r = weighted_r(columns, values, np.ones((1, n)))[0]
    low, high = np.full(width, np.nan), np.full(width, np.nan)
    if len(resamples) == 0:
        return r, low, high
    drawn = weighted_r(columns, values, resamples)
    left_out = weighted_r(columns, values, 1.0 - np.eye(n))
    for column in range(width):
        sample = drawn[np.isfinite(drawn[:, column]), column]
        if len(sample) < len(resamples) / 2:
            continue
        below = (np.sum(sample < r[column]) + 0.5 * np.sum(sample == r[column]) + 0.5) / (len(sample) + 1)
        bias = float(ndtri(below))
        knife = left_out[np.isfinite(left_out[:, column]), column]
        away = knife.mean() - knife
        spread = float((away**2).sum())
        lean = float((away**3).sum() / (6 * spread**1.5)) if spread > 0 else 0.0
        tails = bias + ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
        places = ndtr(bias + tails / (1 - lean * tails))
        low[column], high[column] = np.quantile(sample, places)
    return r, np.minimum(low, r), np.maximum(high, r)


def weighted_r(
    columns: Float64[np.ndarray, "row column"],
    values: Float64[np.ndarray, "row"],
    weights: Float64[np.ndarray, "resample row"],
) -> Float64[np.ndarray, "resample column"]:
    """Pearson r of every column with `values` under every set of row weights; NaN where one is constant."""
    scaled = (columns - columns.mean(0)) / np.maximum(columns.std(0), 1e-300)
    other = (values - values.mean()) / max(float(values.std()), 1e-300)
    total = weights.sum(1, keepdims=True)
    mean_x, mean_y = weights @ scaled / total, (weights @ other)[:, None] / total
    var_x = weights @ scaled**2 / total - mean_x**2
    var_y = (weights @ other**2)[:, None] / total - mean_y**2
    both = weights @ (scaled * other[:, None]) / total - mean_x * mean_y
    size = var_x * var_y
    flat = (var_x < 1e-12) | (var_y < 1e-12)
    out: Float64[np.ndarray, "resample column"] = np.where(flat, np.nan, both / np.sqrt(np.where(flat, 1.0, size)))
    return out.clip(-1.0, 1.0)


def axes_of(spectra: Sequence[Spectrum], valence: Target, arousal: Target) -> tuple[Axes, ...]:
    """The four numbers of every layer, for one treatment of the vectors."""
    by_valence, by_arousal = search(spectra, valence, first=0), search(spectra, arousal, first=1)
    pc1, pc2 = correlations(spectra, valence, 0), correlations(spectra, arousal, 1)
    return tuple(
        Axes(
            pc1_valence=pc1[row],
            pc2_arousal=pc2[row],
            best_valence=best_of(by_valence, row),
            best_arousal=best_of(by_arousal, row),
        )
        for row in range(len(spectra))
    )
