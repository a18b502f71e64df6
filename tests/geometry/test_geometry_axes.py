"""Components and their correlations: against naive references, and honest under the null."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap, pearsonr, spearmanr

import geometry_worlds as worlds
from heartstrings.corpus.lexicon import built_in_ratings, emotions
from heartstrings.geometry import _axes as axes
from heartstrings.geometry import _spectra as spectra
from heartstrings.vectors.emotion_vectors import components


def drawn(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("n", "width"), [(30, 200), (30, 12), (5, 5)])
def test_components_from_the_small_matrix_equal_those_of_an_svd(n: int, width: int) -> None:
    contrasts = drawn(1, (n, width)) * np.linspace(3, 0.5, width, dtype=np.float32)
    scores, _, explained = components(contrasts, 10)
    found = spectra.spectrum(spectra.gram(spectra.treat(contrasts, "plain")), 10)
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)
    np.testing.assert_allclose(found.explained, explained, atol=1e-8)


def test_the_spectrum_does_not_depend_on_the_basis_of_the_residual_stream() -> None:
    contrasts = drawn(2, (20, 15))
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(15, 15)))[0]
    one = spectra.spectrum(spectra.gram(spectra.treat(contrasts, "plain")))
    two = spectra.spectrum(spectra.gram(spectra.treat((contrasts @ turn).astype(np.float32), "plain")))
    np.testing.assert_allclose(one.scores, two.scores, atol=1e-4)


def test_identical_vectors_have_no_components() -> None:
    found = spectra.spectrum(spectra.gram(spectra.treat(np.ones((6, 8), dtype=np.float32), "plain")))
    assert found.scores.shape == (6, 0)
    assert found.explained.shape == (0,)


def test_standardising_and_row_normalising_do_what_they_say() -> None:
    contrasts = drawn(4, (25, 10)) * np.array([1000, *[1] * 9], dtype=np.float32)
    contrasts[:, 3] = 7  # constant: nothing to standardise
    treated = spectra.treat(contrasts, "standardised")
    np.testing.assert_allclose(treated.std(0), [1, 1, 1, 0, 1, 1, 1, 1, 1, 1], atol=1e-9)
    lengths = contrasts / np.linalg.norm(contrasts, axis=1, keepdims=True)
    np.testing.assert_allclose(spectra.treat(contrasts, "row_normalised"), lengths - lengths.mean(0), atol=1e-6)


def test_r_of_resamples_equals_r_of_the_rows_drawn() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(12, 3)), rng.normal(size=12)
    rows = rng.integers(0, 12, size=(6, 12))
    weights = np.stack([np.bincount(row, minlength=12) for row in rows]).astype(float)
    found = axes.weighted_r(x, y, weights)
    for resample, row in enumerate(rows):
        for column in range(3):
            assert found[resample, column] == pytest.approx(pearsonr(x[row, column], y[row])[0], abs=1e-10)


def test_the_bca_interval_agrees_with_scipy() -> None:
    rng = np.random.default_rng(6)
    y = rng.normal(size=40)
    x = 0.8 * y + 0.6 * rng.normal(size=40)
    weights = rng.multinomial(40, np.full(40, 1 / 40), size=20000).astype(float)
    r, low, high = axes.bca(x[:, None], y, weights)
    reference = bootstrap((x, y), lambda a, b: pearsonr(a, b)[0], paired=True, vectorized=False, method="BCa",
                          n_resamples=999, rng=np.random.default_rng(7)).confidence_interval  # fmt: skip
    assert r[0] == pytest.approx(pearsonr(x, y)[0])
    assert low[0] == pytest.approx(reference.low, abs=0.03)
    assert high[0] == pytest.approx(reference.high, abs=0.03)


@pytest.mark.slow
def test_the_interval_covers_the_true_r_nearly_as_often_as_it_says() -> None:
    rng = np.random.default_rng(8)
    rho, n, inside = 0.6, 40, 0
    for _ in range(400):
        y = rng.normal(size=n)
        x = rho * y + np.sqrt(1 - rho**2) * rng.normal(size=n)
        weights = rng.multinomial(n, np.full(n, 1 / n), size=600).astype(float)
        _, low, high = axes.bca(x[:, None], y, weights)
        inside += bool(low[0] <= rho <= high[0])
    assert 0.90 <= inside / 400 <= 0.985


FAMILY = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9])


def test_a_permuted_rating_is_family_means_and_residuals_each_in_its_block() -> None:
    """Taken apart again: the means are the families' own, moved; the rest never leaves its family."""
    rating = np.random.default_rng(11).normal(size=len(FAMILY))
    # All families change places here: seven of two emotions, and three of three that are too few for a group.
    target = axes.target("valence", rating, permutations=200, bootstrap=0, seed=0, family=FAMILY)
    size = np.bincount(FAMILY)
    means = np.bincount(FAMILY, weights=target.values) / size
    rest = target.values - means[FAMILY]
    homes = np.zeros((10, 10), dtype=int)
    for column in target.shuffled.T:
        # The column was moved and stretched to mean 0 and length 1: undo it by the residuals, which only moved.
        found = np.bincount(FAMILY, weights=column) / size
        apart = column - found[FAMILY]
        stretch = np.linalg.norm(apart) / np.linalg.norm(rest)
        for family in range(10):
            np.testing.assert_allclose(np.sort(apart[family == FAMILY] / stretch), np.sort(rest[family == FAMILY]))
        moved = found / stretch
        shift = np.sort(means).mean() - moved.mean()
        np.testing.assert_allclose(np.sort(moved + shift), np.sort(means), atol=1e-9)
        for family in range(10):
            homes[family, int(np.abs(means - moved[family] - shift).argmin())] += 1
    np.testing.assert_allclose(target.shuffled.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(target.shuffled, axis=0), 1)
    assert homes.min() >= 5  # 20 expected


def test_families_change_places_with_families_of_like_size() -> None:
    sizes = np.array([2, 3, 3, 4, 5, 5, 5, 6, 6, 7, 8, 8, 9, 9, 10, 10, 12, 14, 14, 15, 16])  # the lexicon's
    assert axes.like_sized(sizes).tolist() == [0] * 7 + [1] * 7 + [2] * 7
    assert axes.like_sized(sizes[::-1]).tolist() == [2] * 7 + [1] * 7 + [0] * 7
    assert axes.like_sized(np.repeat([1, 2, 3, 4, 5], [8, 7, 3, 1, 1])).tolist() == [0] * 8 + [1] * 12
    assert axes.like_sized(np.repeat([1, 2, 3], [7, 4, 1])).tolist() == [0] * 12
    assert axes.like_sized(np.ones(30, dtype=np.int64)).tolist() == [0] * 30
    family = np.repeat(np.arange(21), sizes)
    rating = 10.0 * axes.like_sized(sizes)[family] + np.arange(21)[family] % 7  # no rest within families
    moved = axes.target("valence", rating, permutations=50, bootstrap=0, seed=0, family=family).shuffled
    third = axes.like_sized(sizes)[family]
    for column in moved.T:
        assert column[third == 0].max() < column[third == 1].min()
        assert column[third == 1].max() < column[third == 2].min()


def test_without_families_the_permutation_is_a_plain_one() -> None:
    target = axes.target("valence", np.arange(12.0), permutations=300, bootstrap=0, seed=0)
    np.testing.assert_allclose(np.sort(target.shuffled, axis=0), np.sort(target.values)[:, None].repeat(300, 1))
    assert len(np.unique(target.shuffled[0].round(9))) == 12
    assert target.n_families == 12


def test_words_outside_the_lexicon_are_a_family_each() -> None:
    numbers = axes.family_numbers(["afraid", "xyzzy", "terrified", "joyful", "plugh", "fear"])
    assert numbers[0] == numbers[2]
    assert len(set(numbers.tolist())) == 5


def families_at_random(seed: int, share: float, names: tuple[str, ...]) -> tuple[axes.Target, axes.Found]:
    """One layer in which families lie at random places, against the built-in valence."""
    rng, family = np.random.default_rng([12, seed]), axes.family_numbers(names)
    spread = np.arange(1, 97) ** -0.5
    places = rng.normal(size=(family.max() + 1, 96))[family]
    raw = (np.sqrt(share) * places + np.sqrt(1 - share) * rng.normal(size=(len(names), 96))) * spread
    valence = built_in_ratings().arrays(names)[0]
    target = axes.target("valence", valence, permutations=199, bootstrap=0, seed=seed, family=family)
    layer = spectra.spectrum(spectra.gram(spectra.treat(raw.astype(np.float32), "plain")))
    return target, axes.search([layer], target, first=0)


def test_families_at_random_places_are_not_taken_for_valence() -> None:
    """About 5 of 100 lexica with the real sizes of families; against permuted words it would be most of them."""
    ps, plain = [], []
    for seed in range(200):
        target, found = families_at_random(seed, 0.2, emotions())
        ps.append(found.p_best[0])
        plain.append(np.abs(found.r).max() > 3.2 / np.sqrt(target.n))  # beyond p = .014 after ten components
    assert np.mean(np.array(ps) <= 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    assert np.mean(plain) > 0.5


def naive_search(spectra_: list[spectra.Spectrum], rating: np.ndarray, orders: np.ndarray, first: int):
    """Loops and numpy's own correlation."""
    rated = np.isfinite(rating)

    def r(scores: np.ndarray, values: np.ndarray) -> float:
        return abs(float(np.corrcoef(scores[rated], values)[0, 1]))

    table = [[r(layer.scores[:, c], rating[rated]) for c in range(layer.scores.shape[1])] for layer in spectra_]
    best_null, first_null = [], []
    for column in orders.T:
        all_r = [[r(layer.scores[:, c], column) for c in range(layer.scores.shape[1])] for layer in spectra_]
        best_null.append(max(max(row) for row in all_r))
        first_null.append(max(row[first] for row in all_r))
    best_p = [(sum(x >= max(row) - 1e-12 for x in best_null) + 1) / (len(best_null) + 1) for row in table]
    first_p = [(sum(x >= row[first] - 1e-12 for x in first_null) + 1) / (len(first_null) + 1) for row in table]
    return table, best_p, first_p


@pytest.mark.parametrize("first", [0, 1])
def test_the_search_equals_a_naive_one_with_the_same_permutations(first: int) -> None:
    rating = np.random.default_rng(9).uniform(-1, 1, 24)
    rating[[3, 11]] = np.nan
    layers = [spectra.spectrum(spectra.gram(spectra.treat(drawn(seed, (24, 30)), "plain")), 5) for seed in (1, 2, 3)]
    target = axes.target("valence", rating, permutations=60, bootstrap=10, seed=0)
    found = axes.search(layers, target, first=first)
    table, best_p, first_p = naive_search(layers, rating, target.shuffled, first)
    np.testing.assert_allclose(np.abs(found.r)[:, :5], table, atol=1e-10)
    np.testing.assert_allclose(found.p_best, best_p)
    np.testing.assert_allclose(found.p_first, first_p)
    assert found.n == 22
    for row in range(3):
        one = axes.correlations(layers, target, first)[row]
        assert one.r == pytest.approx(table[row][first])
        rated = np.isfinite(rating)
        rho = spearmanr(layers[row].scores[rated, first], rating[rated])[0]
        assert one.spearman == pytest.approx(abs(rho))
        assert one.low is not None
        assert one.high is not None
        assert one.low <= one.r <= one.high
        best = axes.best_of(found, row)
        assert best.component == 1 + int(np.argmax(table[row]))
        assert best.r == pytest.approx(max(table[row]))


def test_a_layer_without_components_is_none_and_not_zero() -> None:
    flat = spectra.spectrum(np.zeros((12, 12)))
    full = spectra.spectrum(spectra.gram(spectra.treat(drawn(1, (12, 6)), "plain")))
    target = axes.target("valence", np.linspace(-1, 1, 12), permutations=50, bootstrap=50, seed=0)
    found = axes.search([flat, full], target, first=0)
    assert axes.best_of(found, 0) == axes.Best(component=None, r=None, p=None, n=12)
    assert np.isnan(found.p_first[0])
    assert axes.correlations([flat, full], target, 0)[0].r is None
    assert axes.best_of(found, 1).r is not None


@pytest.mark.parametrize("rating", [np.full(8, np.nan), np.zeros(8), np.array([1.0, -1, 0.5, *[np.nan] * 5])])
def test_too_few_or_equal_ratings_give_none(rating: np.ndarray) -> None:
    layer = spectra.spectrum(spectra.gram(spectra.treat(drawn(1, (8, 6)), "plain")))
    target = axes.target("valence", rating, permutations=50, bootstrap=50, seed=0)
    assert not target.usable
    assert axes.correlations([layer], target, 0)[0].r is None
    assert axes.best_of(axes.search([layer], target, first=0), 0).p is None


def test_p_is_never_zero_and_counts_ties() -> None:
    assert axes.p_value(2.0, np.array([0.1, 0.2, 0.3])) == 0.25
    assert axes.p_value(0.2, np.array([0.1, 0.2, 0.3])) == 0.75
    assert axes.p_value(-1.0, np.array([0.1, 0.2, 0.3])) == 1.0


def test_p_of_the_search_is_uniform_without_any_relation() -> None:
    rng = np.random.default_rng(10)
    best, first = [], []
    for seed in range(200):
        layers = [
            spectra.spectrum(spectra.gram(spectra.treat(rng.normal(size=(20, 25)).astype(np.float32), "plain")), 6)
            for _ in range(3)
        ]
        target = axes.target("valence", rng.uniform(-1, 1, 20), permutations=99, bootstrap=0, seed=seed)
        found = axes.search(layers, target, first=0)
        best.append(found.p_best.min())
        first.append(found.p_first.min())
    for ps in (np.array(best), np.array(first)):
        # The smallest p over layers is that of the whole search: uniform on 1/100 ... 1.
        for level in (0.05, 0.2, 0.5, 0.8):
            share, error = (ps <= level + 1e-9).mean(), np.sqrt(level * (1 - level) / len(ps))
            assert abs(share - level) < 3.5 * error, (level, share)


def test_a_planted_component_is_found_with_its_size() -> None:
    rated = worlds.ratings()
    raw = worlds.planted({"valence": 3.0, "arousal": 1.5}, noise=0.1, rated=rated)
    layers = [spectra.spectrum(spectra.gram(spectra.treat(layer.astype(np.float32), "plain"))) for layer in raw]
    valence, arousal = rated.arrays(worlds.names())
    target = axes.target("valence", valence, permutations=199, bootstrap=200, seed=0)
    assert all(one.r > 0.98 for one in axes.correlations(layers, target, 0))
    found = axes.search(layers, axes.target("arousal", arousal, permutations=199, bootstrap=0, seed=0), first=1)
    assert [axes.best_of(found, row).component for row in range(3)] == [2, 2, 2]
    assert (found.p_first == 1 / 200).all()
