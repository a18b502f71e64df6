"""Emotion vectors: algebra, expressions, axes, components, validation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import jaxtyping
import numpy as np
import pytest

from heartstrings.core.errors import InputError, NumericalError
from heartstrings.core.types import Provenance
from heartstrings.corpus.lexicon import Ratings
from heartstrings.vectors.emotion_vectors import Direction, EmotionVectors, StoryTable, components, mean, project_out

NAMES = ("joyful", "sad", "at ease", "on edge", "worn out", "self-confident", "grief-stricken", "grief")


def made(n_layers: int = 2, width: int = 20, names: tuple[str, ...] = NAMES, seed: int = 0) -> EmotionVectors:
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=(n_layers, len(names), width)).astype(np.float32)
    raw -= raw.mean(1, keepdims=True)
    basis = tuple(np.linalg.qr(rng.normal(size=(width, 3)))[0].T.astype(np.float32).copy() for _ in range(n_layers))
    halves = rng.normal(size=(2, n_layers, len(names), width)).astype(np.float32)
    halves[1, :, 2] = np.nan
    return EmotionVectors(
        emotions=names, layers=tuple(range(4, 4 + n_layers)), raw=raw,
        denoised=np.stack([project_out(rows, axes) for rows, axes in zip(raw, basis, strict=True)]),
        neutral_basis=basis, halves=halves, norms=np.full(n_layers, 7, dtype=np.float32),
        provenance=Provenance(package_version="0", source="derived", model=None),
    )  # fmt: skip


@pytest.fixture
def untyped() -> Iterator[None]:
    """As users run it: without the type checks of the tests, which would come first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def vectors() -> EmotionVectors:
    return made()


@pytest.mark.parametrize(
    ("expression", "weights"),
    [
        ("joyful", {"joyful": 1}),
        ("0.5*joyful - sad", {"joyful": 0.5, "sad": -1}),
        ("joyful*0.5-sad", {"joyful": 0.5, "sad": -1}),
        ("-sad", {"sad": -1}),
        ("- -sad", {"sad": 1}),
        ("at ease - on edge", {"at ease": 1, "on edge": -1}),
        ("2*(worn  out + sad)/4", {"worn out": 0.5, "sad": 0.5}),
        ("self-confident-grief-stricken", {"self-confident": 1, "grief-stricken": -1}),
        ("grief-sad", {"grief": 1, "sad": -1}),
        ("'at ease' + \"grief-stricken\"", {"at ease": 1, "grief-stricken": 1}),
        ("joyful - (sad - grief)", {"joyful": 1, "sad": -1, "grief": 1}),
        ("joyful - sad - grief", {"joyful": 1, "sad": -1, "grief": -1}),
        (".5e1*joyful + (1 + 2)*sad", {"joyful": 5, "sad": 3}),
    ],
)
def test_expressions_are_the_weighted_sums_they_say(vectors, expression, weights):
    expected = sum(w * vectors.raw[:, NAMES.index(name)].astype(np.float64) for name, w in weights.items())
    found = vectors.direction(expression)
    np.testing.assert_allclose(found.values, expected, atol=1e-12)
    # The name it gives itself is an expression for the same thing.
    np.testing.assert_allclose(vectors.direction(found.name).values, expected, atol=1e-12)
    np.testing.assert_array_equal(vectors.direction(expression, layer=5).at(), found.at(5))


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("joyfull", "Did you mean joyful"),
        ("Joyful", "Did you mean joyful"),
        ("joyful - selfconfident", "Did you mean self-confident"),
        ("'at  ease'x", "cannot read"),
        ("qqqq", "The names are"),
        ("", "an empty expression"),
        ("2", "is a number"),
        ("joyful*sad", "not an emotion times an emotion"),
        ("joyful/sad", "a number to divide by"),
        ("joyful/0", "divisor other than zero"),
        ("joyful + 1", "not to numbers"),
        ("joyful sad", "an operator"),
        ("0.5joyful", "cannot read|no emotion"),
        ("joyful +", "a number, an emotion"),
        ("(joyful", "closing parenthesis"),
        ("'joyful", "closing quotation"),
        ("__import__('os')", "cannot read"),
        ("joyful; sad", "cannot read"),
    ],
)
def test_what_is_no_expression_is_refused(vectors, expression, message):
    with pytest.raises(InputError, match=message):
        vectors.direction(expression)


def test_arithmetic_on_directions(vectors):
    joyful, sad = vectors["joyful"], vectors["sad"]
    a, b = joyful.values, sad.values
    np.testing.assert_allclose((0.5 * joyful - sad).values, 0.5 * a - b)
    np.testing.assert_allclose((joyful / np.float32(4) + 2 * -sad).values, a / 4 - 2 * b)
    np.testing.assert_allclose(mean([joyful, sad]).values, (a + b) / 2)
    np.testing.assert_allclose(joyful.norm(), np.sqrt((a**2).sum(1)))
    naive = [a[i] @ b[i] / np.sqrt(a[i] @ a[i]) / np.sqrt(b[i] @ b[i]) for i in range(2)]
    np.testing.assert_allclose(joyful.cosine(sad), naive)
    np.testing.assert_allclose(joyful.cosine(joyful), 1)
    # A vector is its part along another and its part orthogonal to it.
    along, across = joyful.project(sad), joyful.orthogonal_to(sad)
    np.testing.assert_allclose((along + across).values, a, atol=1e-12)
    np.testing.assert_allclose(across.cosine(sad), 0, atol=1e-12)
    # The span of two names given thrice is still their span.
    rest = joyful.orthogonal_to(sad, vectors["at ease"], 2 * sad - vectors["at ease"])
    np.testing.assert_allclose(rest.cosine(sad), 0, atol=1e-12)
    np.testing.assert_allclose(rest.cosine(vectors["at ease"]), 0, atol=1e-12)


def test_arithmetic_refuses_what_does_not_match(vectors):
    other = made(width=21)["joyful"]
    for work in (lambda d: d + other, lambda d: d - other, lambda d: d.cosine(other), lambda d: mean([d, other])):
        with pytest.raises(InputError, match="width 21"):
            work(vectors["sad"])
    with pytest.raises(InputError, match="no directions"):
        mean([])
    with pytest.raises(InputError, match="divided by zero"):
        vectors["sad"] / 0
    with pytest.raises(NumericalError, match="all zeros at layer 4"):
        (vectors["sad"] - vectors["sad"]).unit()
    with pytest.raises(NumericalError, match="NaN"):
        Direction("x", (0,), np.array([[np.nan]]))


def test_selection_by_name_layer_and_variant(vectors):
    found = vectors.vector("worn out", layer=5, variant="denoised")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, vectors.denoised[1, 4])
    assert vectors.select(["sad", "joyful"]) == (1, 0)
    with pytest.raises(InputError, match="Did you mean grief"):
        vectors.vector("greif", layer=4)
    with pytest.raises(InputError, match=r"no layer 3.*\[4, 5\]"):
        vectors.vector("sad", layer=3)
    with pytest.raises(InputError, match="no layer was named"):
        vectors.vector("sad")
    only_raw = replace(vectors, denoised=None, neutral_basis=None)
    assert (only_raw.variants, only_raw.k, vectors.k) == (("raw",), None, (3, 3))
    with pytest.raises(InputError, match="no denoised"):
        only_raw.vector("sad", layer=4, variant="denoised")


def test_denoised_halves_lie_outside_the_neutral_components(vectors):
    halves = vectors.halves_of("denoised")
    for layer, basis in enumerate(vectors.neutral_basis):
        inside = np.abs(halves[:, layer] @ basis.T)
        assert np.nanmax(inside) < 1e-5
    assert np.isnan(halves[1, :, 2]).all()
    assert np.isfinite(halves[0]).all()
    assert vectors.halves_of("raw") is vectors.halves


@pytest.mark.parametrize("variant", ["raw", "denoised"])
@pytest.mark.parametrize("width", [4, 40])
def test_the_axis_is_the_minimum_norm_least_squares_direction(width, variant):
    vectors = made(width=width)
    values = {name: (v, v * v) for name, v in zip(NAMES, np.linspace(-0.9, 0.8, len(NAMES)), strict=True)}
    ratings = Ratings(values, source="test", estimated=frozenset(["sad"]))
    rated = [i for i, name in enumerate(NAMES) if name != "sad"]
    target = np.array([values[NAMES[i]][0] for i in rated])
    axis = vectors.axis("valence", ratings, variant=variant)
    for row in range(2):
        x = vectors.contrasts(variant)[row, rated].astype(np.float64)
        w = np.linalg.pinv(x - x.mean(0), rcond=1e-5) @ (target - target.mean())
        np.testing.assert_allclose(axis.values[row], w / np.linalg.norm(w), atol=1e-6)
    if width == 40:
        # With more dimensions than emotions the fit is exact, so projections order the emotions by rating.
        projected = vectors.contrasts(variant)[0, rated] @ axis.at(4)
        assert (np.argsort(projected) == np.argsort(target)).all()
    assert np.allclose(axis.norm(), 1)


def test_an_axis_needs_ratings_that_differ(vectors):
    few = Ratings({"joyful": (1.0, 1.0), "sad": (-1.0, 0.0)}, source="test")
    with pytest.raises(InputError, match="2 of 8 emotions"):
        vectors.axis("valence", few)
    with pytest.raises(InputError, match="arousal rating"):
        vectors.axis("arousal", Ratings(dict.fromkeys(NAMES, (0.1, 0.5)), source="test"))


def test_components_are_those_of_the_covariance_matrix():
    rows = np.random.default_rng(5).normal(size=(9, 6)).astype(np.float32) * np.arange(1, 7)
    rows = rows.astype(np.float32)
    scores, basis, explained = components(rows, n=4)
    centred = rows.astype(np.float64) - rows.astype(np.float64).mean(0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    np.testing.assert_allclose(explained, values[::-1][:4] / values.sum(), rtol=1e-9)
    np.testing.assert_allclose(np.abs((basis * axes.T[::-1][:4]).sum(1)), 1, rtol=1e-9)
    np.testing.assert_allclose(scores, centred @ basis.T, atol=1e-9)
    assert (scores[np.abs(scores).argmax(0), range(4)] > 0).all()


def test_components_know_how_many_there_are():
    rows = np.random.default_rng(5).normal(size=(4, 50)).astype(np.float32)
    assert components(rows)[0].shape == (4, 3)
    assert components(np.ones((4, 5), dtype=np.float32))[2].shape == (0,)
    assert np.isclose(components(rows)[2].sum(), 1)
    with pytest.raises(InputError, match="at least two"):
        components(rows[:1])


@pytest.mark.usefixtures("untyped")
def test_bundles_of_nonsense_are_refused(vectors):
    def holes(array, at):
        array = array.copy()
        array[at] = np.nan
        return array

    wrong = [
        ({"emotions": (*NAMES[:-1], "sad")}, "sad occurs twice"),
        ({"layers": (4, 4)}, "layer 4 occurs twice"),
        ({"layers": (-1, 4)}, "layer -1"),
        ({"emotions": NAMES[:-1]}, "shape"),
        ({"emotions": (*NAMES[:-1], "")}, "empty"),
        ({"denoised": vectors.denoised[:, :, :5]}, "`denoised` of shape"),
        ({"norms": np.ones(3, dtype=np.float32)}, "`norms` of shape"),
        ({"raw": holes(vectors.raw, (0, 1, 2))}, r"`raw` holds NaN.*\[0, 1, 2\]"),
        ({"halves": holes(vectors.halves, (0, 0, 0, 3))}, "`halves` holds NaN"),
        ({"neutral_basis": vectors.neutral_basis[:1]}, "1 layers"),
        ({"neutral_basis": tuple(2 * rows for rows in vectors.neutral_basis)}, "not orthonormal"),
        ({"counts": (1, 2)}, "`counts` has 2"),
        ({"story_scores": np.zeros((2, 2, 1, 1), dtype=np.float32)}, "without a story table"),
    ]
    for changes, message in wrong:
        with pytest.raises((InputError, NumericalError), match=message):
            replace(vectors, **changes)


@pytest.mark.usefixtures("untyped")
def test_a_story_table_has_one_row_a_story():
    columns = {
        "emotion": np.zeros(2, dtype=np.int16), "topic": np.zeros(2, dtype=np.int32), "topics": ("a",),
        "half": np.array([0, 1], dtype=np.int8), "n_tokens": np.ones(2, dtype=np.int32),
        "words": np.ones(2, dtype=np.int32), "person": np.zeros(2, dtype=np.float32),
        "dialogue": np.zeros(2, dtype=np.float32),
    }  # fmt: skip
    assert len(StoryTable(**columns)) == 2
    for changes, message in [
        ({"words": np.ones(3, dtype=np.int32)}, "different length"),
        ({"topic": np.array([0, 1], dtype=np.int32)}, "a topic it does not name"),
        ({"half": np.array([0, 2], dtype=np.int8)}, "half other than"),
    ]:
        with pytest.raises(InputError, match=message):
            StoryTable(**{**columns, **changes})
