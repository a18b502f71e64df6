"""Held-out linear readouts: against explicit cross-validation with scikit-learn, and honest about topics."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

import geometry_worlds as worlds
from heartstrings.corpus.lexicon import Ratings
from heartstrings.geometry import _axes as axes
from heartstrings.geometry import _readouts as readouts


def targets(rated: Ratings, n: int, permutations: int = 99) -> list[axes.Target]:
    return [
        axes.target(name, column, permutations=permutations, bootstrap=0, seed=seed)
        for seed, (name, column) in enumerate(zip(("valence", "arousal"), rated.arrays(worlds.names(n)), strict=True))
    ]


def refit(train: np.ndarray, test: np.ndarray, y: np.ndarray, folds: tuple[np.ndarray, ...]) -> np.ndarray:
    """Explicit ridge regression fold by fold; each side centred by its own training emotions."""
    out = np.zeros(len(y))
    for held in folds:
        rest = np.setdiff1d(np.arange(len(y)), held)
        x = train[rest] - train[rest].mean(0)
        penalty = readouts.PENALTY * np.trace(x @ x.T) / len(rest)
        fitted = Ridge(alpha=penalty, fit_intercept=False).fit(x, y[rest] - y[rest].mean())
        out[held] = fitted.predict(test[held] - test[rest].mean(0)) + y[rest].mean()
    return out


@pytest.mark.parametrize("n", [20, 45])
@pytest.mark.parametrize("halves", [False, True])
def test_the_hat_matrix_predicts_what_refitting_predicts(n: int, halves: bool) -> None:
    rng = np.random.default_rng(n)
    one, y = rng.normal(size=(n, 30)), rng.normal(size=n)
    two = one + 0.5 * rng.normal(size=one.shape) + 3.0 if halves else one
    for folds in readouts.splits(np.arange(n), seed=1):
        found = readouts.hat(one @ one.T, two @ one.T, folds) @ y
        np.testing.assert_allclose(found, refit(one, two, y, folds), atol=1e-8)


def test_every_emotion_is_held_out_once_a_repeat() -> None:
    for n, repeats, folds in ((20, 1, 20), (45, 3, 10)):
        parts = readouts.splits(np.arange(n), seed=0)
        assert (len(parts), len(parts[0])) == (repeats, folds)
        for part in parts:
            assert sorted(int(i) for fold in part for i in fold) == list(range(n))


@pytest.mark.parametrize(("n", "n_families", "repeats", "folds"), [(60, 12, 1, 12), (171, 21, 1, 21), (200, 50, 3, 10)])
def test_no_emotion_of_a_held_out_family_is_fitted_on(n: int, n_families: int, repeats: int, folds: int) -> None:
    family = np.random.default_rng(n).permutation(np.arange(n) % n_families)
    parts = readouts.splits(family, seed=0)
    assert (len(parts), len(parts[0])) == (repeats, folds)
    for part in parts:
        assert sorted(int(i) for fold in part for i in fold) == list(range(n))
        for fold in part:
            assert not np.isin(np.delete(family, fold), family[fold]).any()


def test_what_only_tells_families_apart_is_not_read() -> None:
    """Families at random places give every emotion away to a readout that was fitted on its near synonyms."""
    family, honest = np.repeat(np.arange(20), 8), []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        raw = (rng.normal(size=(20, 60))[family] + 0.5 * rng.normal(size=(160, 60))).astype(np.float32)[None]
        rating = rng.normal(size=20)[family] + 0.3 * rng.normal(size=160)
        apart = axes.target("valence", rating, permutations=199, bootstrap=0, seed=0)
        together = axes.target("valence", rating, permutations=199, bootstrap=0, seed=0, family=family)
        fooled = readouts.read(raw, None, [apart])[0]
        assert fooled.results[0] is not None
        assert fooled.results[0].r2 > 0.6
        assert fooled.p[0] == 0.005
        honest.append(readouts.read(raw, None, [together])[0])
    r2 = [one.results[0].r2 for one in honest if one.results[0] is not None and one.results[0].r2 is not None]
    assert len(r2) == 10
    assert np.mean(r2) < 0.05
    assert np.mean([one.p[0] <= 0.05 for one in honest]) <= 0.2


def test_under_six_families_nothing_is_read() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(size=(1, 40, 12)).astype(np.float32)
    for n_families, there in ((5, False), (6, True)):
        goal = axes.target(
            "valence", rng.normal(size=40), permutations=19, bootstrap=0, seed=0, family=np.arange(40) % n_families
        )
        assert (readouts.read(raw, None, [goal])[0].results[0] is not None) == there


@pytest.mark.parametrize("halves", [False, True])
def test_r2_and_its_null_equal_explicit_cross_validation(halves: bool) -> None:
    n, rated = 42, worlds.ratings(42)
    raw = worlds.planted({"valence": 1.0}, n=n, layers=2, noise=0.4, rated=rated).astype(np.float32)
    noise = np.random.default_rng(3).normal(size=(2, *raw.shape))
    pair = (raw + 0.3 * noise).astype(np.float32) if halves else None
    goals = targets(rated, n, permutations=4)
    found = readouts.read(raw, pair, goals, seed=4)[0]

    def explicit(layer: int, y: np.ndarray) -> float:
        sides = [(raw[layer], raw[layer])] if pair is None else [(pair[0, layer], pair[1, layer]),
                                                                 (pair[1, layer], pair[0, layer])]  # fmt: skip
        loss = total = 0.0
        for folds in readouts.splits(np.arange(n), seed=4):
            for train, test in sides:
                loss += ((y - refit(train.astype(float), test.astype(float), y, folds)) ** 2).sum()
                for held in folds:
                    rest = np.setdiff1d(np.arange(n), held)
                    total += ((y[held] - y[rest].mean()) ** 2).sum()
        return 1 - loss / total

    for layer in range(2):
        result = found.results[layer]
        assert result is not None
        assert result.r2 == pytest.approx(explicit(layer, goals[0].values), abs=1e-8)
        assert result.topics_held_out is halves
        assert (result.n, result.folds) == (n, 10)
    null = [max(explicit(layer, order) for layer in range(2)) for order in goals[0].shuffled.T]
    np.testing.assert_allclose(found.null, null, atol=1e-8)
    best = max(result.r2 for result in found.results if result)
    assert found.p.min() == pytest.approx((sum(x >= best - 1e-12 for x in null) + 1) / 5)


def test_a_planted_rating_is_read_and_another_is_not() -> None:
    rated = worlds.ratings()
    raw = worlds.planted({"valence": 2.0}, noise=0.2, rated=rated).astype(np.float32)
    valence, arousal = readouts.read(raw, None, targets(rated, worlds.N))
    assert all(one is not None and one.r2 > 0.9 and one.p == 0.01 for one in valence.results)
    assert all(one is not None and one.r2 < 0.1 and one.p > 0.05 for one in arousal.results)


def test_what_only_one_topic_half_knows_is_not_read() -> None:
    """Valence that sits in one half's stories alone is a matter of their topics; without halves it would pass."""
    rated, rng = worlds.ratings(), np.random.default_rng(0)
    shared = 0.3 * rng.normal(size=(2, 1, worlds.N, worlds.WIDTH))
    confounded = worlds.planted({"valence": 2.0}, layers=1, noise=0.0, rated=rated)
    halves = shared + np.stack([confounded, np.zeros_like(confounded)])
    whole = halves.mean(0).astype(np.float32)
    goals = targets(rated, worlds.N)
    fooled, honest = readouts.read(whole, None, goals)[0], readouts.read(whole, halves.astype(np.float32), goals)[0]
    assert fooled.results[0] is not None
    assert honest.results[0] is not None
    assert fooled.results[0].r2 > 0.8
    assert honest.results[0].r2 < 0.1


def test_emotions_without_both_halves_are_left_out_and_counted() -> None:
    rated = worlds.ratings()
    raw = worlds.planted({"valence": 2.0}, noise=0.2, rated=rated).astype(np.float32)
    halves = np.stack([raw, raw])
    halves[1, :, [4, 9]] = np.nan
    result = readouts.read(raw, halves, targets(rated, worlds.N))[0].results[0]
    assert result is not None
    assert result.n == worlds.N - 2
    assert result.r2 > 0.9


def test_when_most_emotions_lack_a_half_topics_are_not_held_out() -> None:
    rated = worlds.ratings()
    raw = worlds.planted({"valence": 2.0}, noise=0.2, rated=rated).astype(np.float32)
    halves = np.stack([raw, raw])
    halves[1, :, : worlds.N - 10] = np.nan
    result = readouts.read(raw, halves, targets(rated, worlds.N))[0].results[0]
    assert result is not None
    assert not result.topics_held_out
    assert result.n == worlds.N


def test_too_few_emotions_give_none() -> None:
    rated = worlds.ratings(6)
    raw = worlds.planted({"valence": 2.0}, n=6, rated=rated).astype(np.float32)
    found = readouts.read(raw, None, targets(rated, 6))[0]
    assert found.results == (None, None, None)
    assert np.isneginf(found.null).all()


def test_vectors_without_any_spread_read_nothing() -> None:
    rated = worlds.ratings()
    found = readouts.read(np.zeros((1, worlds.N, 8), dtype=np.float32), None, targets(rated, worlds.N))[0]
    assert found.results[0] is not None
    assert found.results[0].r2 == pytest.approx(0.0, abs=1e-9)
    assert found.p[0] == 1.0
