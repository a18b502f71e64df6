"""CKA, similarity of similarities, stability, families, neighbours, clusters, maps, lens."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import spearmanr

import geometry_worlds as worlds
from heartstrings.corpus.lexicon import Ratings, families
from heartstrings.geometry import _axes as axes
from heartstrings.geometry import _clusters as clusters
from heartstrings.geometry import _lens as lens
from heartstrings.geometry import _spectra as spectra
from heartstrings.geometry import similarity


def rows(seed: int, n: int = 20, width: int = 15) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width))


def test_cka_equals_the_definition_and_ignores_rotation_scale_and_width() -> None:
    one, two = rows(1), rows(2, width=40)
    centre = np.eye(20) - 1 / 20
    k, m = centre @ one @ one.T @ centre, centre @ two @ two.T @ centre
    expected = np.trace(k @ m) / np.sqrt(np.trace(k @ k) * np.trace(m @ m))
    found = similarity.linear_cka([one @ one.T], [two @ two.T])[0][0]
    assert found == pytest.approx(expected)
    turn = np.linalg.qr(rows(3, 15, 15))[0]
    same = 3 * one @ turn + 7.0  # rotated, scaled, shifted
    assert similarity.linear_cka([one @ one.T], [same @ same.T])[0][0] == pytest.approx(1.0)


def test_cka_of_vectors_without_spread_is_zero_and_the_table_is_symmetric() -> None:
    grams = [layer @ layer.T for layer in (rows(1), rows(2), np.ones((20, 4)))]
    table = np.array(similarity.linear_cka(grams, grams))
    np.testing.assert_allclose(table, table.T)
    np.testing.assert_allclose(np.diag(table), [1, 1, 0], atol=1e-9)
    np.testing.assert_allclose(table[2], 0, atol=1e-9)


def test_similarity_of_similarities_equals_scipy_on_cosines() -> None:
    one, two = rows(1), rows(1) + 0.8 * rows(2)
    upper = np.triu_indices(20, 1)

    def cosines(x: np.ndarray) -> np.ndarray:
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        return (unit @ unit.T)[upper]

    expected = spearmanr(cosines(one), cosines(two))[0]
    found = similarity.similarity_of_similarities([one @ one.T], [two @ two.T])[0][0]
    assert found == pytest.approx(expected)


def test_stability_is_the_cosine_of_the_bundle_s_own_valence_axis() -> None:
    rated = worlds.ratings()
    partly = Ratings({word: rated.values[word] for word in worlds.names()[:50]}, "planted")
    vectors = worlds.bundle(worlds.planted({"valence": 1.0}, noise=0.5, rated=rated))
    target = axes.target("valence", partly.arrays(vectors.emotions)[0], permutations=9, bootstrap=0, seed=0)
    found = similarity.valence_stability(vectors.raw, target)
    axis = vectors.axis("valence", partly)
    expected = [float(axis.values[i] @ axis.values[i + 1]) for i in range(2)]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    unrated = axes.target("valence", np.full(worlds.N, np.nan), permutations=9, bootstrap=0, seed=0)
    assert similarity.valence_stability(vectors.raw, unrated) == ()


def test_family_cosines_equal_a_loop() -> None:
    x, grouped = rows(4, 6), {"a": "one", "b": "one", "c": "two", "d": "two", "e": "three"}
    within, between = similarity.family_cosines(x @ x.T, list("abcdef"), grouped)
    pairs = {True: [], False: []}  # type: ignore[var-annotated]
    for i in range(5):  # f has no family
        for j in range(i):
            cosine = x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j])
            pairs[grouped["abcde"[i]] == grouped["abcde"[j]]].append(cosine)
    assert within == pytest.approx(np.mean(pairs[True]))
    assert between == pytest.approx(np.mean(pairs[False]))
    assert similarity.family_cosines(x @ x.T, list("uvwxyz"), families()) == (None, None)


def test_neighbours_are_the_largest_cosines() -> None:
    x = rows(5)
    found = clusters.nearest(x @ x.T, worlds.names(20))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosine = unit @ unit.T - 9 * np.eye(20)
    for row, name in enumerate(worlds.names(20)):
        order = np.argsort(-cosine[row])[:5]
        assert [n.emotion for n in found[name]] == [worlds.names(20)[i] for i in order]
        np.testing.assert_allclose([n.cosine for n in found[name]], cosine[row, order])


def test_planted_groups_are_found_by_both_methods() -> None:
    rng = np.random.default_rng(6)
    centres = 5 * np.linalg.qr(rng.normal(size=(20, 20)))[0][:10]
    truth = np.arange(60) % 10
    x = centres[truth] + 0.1 * rng.normal(size=(60, 20))
    full = spectra.spectrum(spectra.gram(x - x.mean(0)), n=60)
    found = clusters.group(full, x @ x.T, worlds.names())
    assert found is not None
    assert found.k == 10
    for labels in (found.labels, found.tree_labels):
        groups = {frozenset(i for i in range(60) if labels[worlds.names()[i]] == label) for label in range(10)}
        assert groups == {frozenset(np.flatnonzero(truth == t).tolist()) for t in range(10)}
    assert found.silhouette == pytest.approx(found.tree_silhouette)
    assert found.silhouette is not None
    assert found.silhouette > 0.9
    assert sorted(found.order) == list(worlds.names())
    # Members of a group are neighbours on the tree.
    order = [int(truth[worlds.names().index(name)]) for name in found.order]
    assert sum(a != b for a, b in pairwise(order)) == 9


@pytest.mark.parametrize("n", [3, 5])
def test_few_or_equal_emotions_have_no_clusters(n: int) -> None:
    x = rows(7, n)
    assert clusters.group(spectra.spectrum(spectra.gram(x - x.mean(0)), n=n), x @ x.T, worlds.names(n)) is None
    same = np.ones((30, 4))
    assert clusters.group(spectra.spectrum(np.zeros((30, 30))), same @ same.T, worlds.names(30)) is None


def test_the_map_grows_with_valence_and_arousal() -> None:
    rated = worlds.ratings()
    raw = worlds.planted({"valence": -3.0, "arousal": -2.0}, layers=1, noise=0.1, rated=rated)[0]
    full = spectra.spectrum(spectra.gram(raw - raw.mean(0)), n=60)
    goals = [
        axes.target(name, column, permutations=9, bootstrap=0, seed=0)
        for name, column in zip(("valence", "arousal"), rated.arrays(worlds.names()), strict=True)
    ]
    drawn = clusters.draw(full, worlds.names(), *goals, layer=0, variant="raw", umap=False, seed=0)
    xs, ys = np.array([p.x for p in drawn.pca]), np.array([p.y for p in drawn.pca])
    valence, arousal = rated.arrays(worlds.names())
    assert np.corrcoef(xs, valence)[0, 1] > 0.98
    assert np.corrcoef(ys, arousal)[0, 1] > 0.95
    assert drawn.umap is None


@pytest.mark.slow
def test_umap_is_drawn_where_it_is_installed() -> None:
    pytest.importorskip("umap")
    raw = worlds.planted({"valence": 3.0}, layers=1)[0]
    full = spectra.spectrum(spectra.gram(raw - raw.mean(0)), n=60)
    none = axes.target("valence", np.full(worlds.N, np.nan), permutations=9, bootstrap=0, seed=0)
    drawn = clusters.draw(full, worlds.names(), none, none, layer=0, variant="raw", umap=True, seed=0)
    assert drawn.umap is not None
    assert len(drawn.umap) == worlds.N
    assert np.isfinite([(p.x, p.y) for p in drawn.umap]).all()


def test_the_lens_equals_sorting_all_logits() -> None:
    matrix, contrasts = rows(8, 50, 12).astype(np.float32), rows(9, 40, 12).astype(np.float32)
    found = lens.logit_lens(
        contrasts, worlds.names(40), lambda states: states @ matrix.T, lambda ids: [f"<{i}>" for i in ids]
    )
    for row, line in enumerate(found):
        order = np.argsort(contrasts[row] @ matrix.T)
        assert line.bottom == tuple(f"<{i}>" for i in order[:8])
        assert line.top == tuple(f"<{i}>" for i in order[::-1][:8])
    assert lens.logit_lens(contrasts[:1], ["x"], lambda states: states @ matrix.T, None)[0].top[0].startswith("#")
