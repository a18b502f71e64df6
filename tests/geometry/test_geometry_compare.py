"""Bundles side by side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import geometry_worlds as worlds
from heartstrings.core.errors import InputError
from heartstrings.geometry import Comparison, compare
from heartstrings.geometry.comparison import contrast_cosines, restrict, same_space
from heartstrings.vectors.emotion_vectors import EmotionVectors

RATED = worlds.ratings()


def two() -> tuple[EmotionVectors, EmotionVectors]:
    """The same planted geometry at different noise, from one model."""
    made = worlds.provenance(worlds.model())
    raw = worlds.planted({"valence": 3.0, "arousal": 2.0}, rated=RATED)
    noise = 0.2 * np.random.default_rng(1).normal(size=raw.shape)
    return worlds.bundle(raw, provenance=made), worlds.bundle(raw + noise, provenance=made)


def without(vectors: EmotionVectors, names: set[str]) -> EmotionVectors:
    rows = [row for row, name in enumerate(vectors.emotions) if name not in names]
    return replace(vectors, emotions=tuple(vectors.emotions[row] for row in rows), raw=vectors.raw[:, rows])


def test_one_table_on_common_emotions_by_depth() -> None:
    one, other = two()
    other = without(other, {"word003", "word017"})
    found = compare({"a": one, "b": other}, RATED, permutations=199, bootstrap=50)
    assert (found.n_common, found.n_rated, found.left_out) == (58, 58, {"a": 2, "b": 0})
    assert [row.label for row in found.bundles] == ["a", "b"]
    for row in found.bundles:
        assert row.verdict == "encoded"
        assert [layer.depth for layer in row.layers] == pytest.approx([1 / 3, 2 / 3, 1])
        assert all(layer.finding == "pc1" and layer.pc1_valence.n == 58 for layer in row.layers)
    (pair,) = found.pairs
    assert pair.same_space
    assert pair.cosines is not None
    assert [layer for layer, _ in pair.cosines] == [0, 1, 2]
    assert all(cosine > 0.9 for _, cosine in pair.cosines)
    # The noise differs between layers and not between bundles: the same layer is most alike.
    assert np.argmax(pair.cka, axis=1).tolist() == [0, 1, 2]
    assert pair.best_cka == pytest.approx(np.max(pair.cka))
    assert pair.best_layers[0] == pair.best_layers[1]
    assert Comparison.model_validate_json(found.model_dump_json()) == found


def test_contrasts_are_centred_anew_over_the_common_emotions() -> None:
    one, _ = two()
    kept = restrict(one, one.emotions[:10])
    np.testing.assert_allclose(kept.raw.mean(1), 0, atol=1e-6)
    expected = one.raw[:, :10] - one.raw[:, :10].mean(1, keepdims=True)
    np.testing.assert_allclose(kept.raw, expected, atol=1e-6)


def test_halves_keep_their_gaps_when_restricted() -> None:
    one, _ = two()
    halves = np.stack([one.raw, one.raw])
    halves[0, :, 2] = np.nan
    kept = restrict(replace(one, halves=halves), one.emotions[:10])
    assert kept.halves is not None
    assert np.isnan(kept.halves[0, :, 2]).all()
    assert np.isfinite(kept.halves[1]).all()
    there = [row for row in range(10) if row != 2]
    np.testing.assert_allclose(kept.halves[0][:, there].mean(1), 0, atol=1e-6)


def test_other_weights_are_never_compared_coordinate_by_coordinate() -> None:
    one, other = two()
    base = replace(other, provenance=worlds.provenance(worlds.model(weights="sha256:b")))
    assert same_space(one, other)
    assert not same_space(one, base)
    assert not same_space(one, replace(other, provenance=worlds.provenance(None)))
    (pair,) = compare({"a": one, "b": base}, RATED, permutations=99, bootstrap=0).pairs
    assert pair.cosines is None
    assert pair.best_cka > 0.9


def test_cosines_of_contrasts_equal_a_loop() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 7, 5)).astype(np.float32)
    x[3] = 0
    expected = [0 if i == 3 else x[i] @ y[i] / np.linalg.norm(x[i]) / np.linalg.norm(y[i]) for i in range(7)]
    np.testing.assert_allclose(contrast_cosines(x, y), expected, rtol=1e-5)


def test_what_cannot_be_compared_is_refused() -> None:
    one, other = two()
    with pytest.raises(InputError, match="two or more"):
        compare({"a": one}, RATED)
    strangers = replace(other, emotions=tuple(f"x{name}" for name in other.emotions))
    with pytest.raises(InputError, match="in common"):
        compare({"a": one, "b": strangers}, RATED)
