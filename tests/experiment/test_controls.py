"""Control directions: seeds, lengths, spans, shuffled labels against a naive loop, names, refusals, one organism."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heartstrings.core.errors import InputError
from heartstrings.core.types import Pooling, Provenance, Weighting
from heartstrings.corpus import Corpus, Story
from heartstrings.experiment.controls import (
    DirectionSet,
    StoryActivations,
    direction_set,
    read_story_activations,
)
from heartstrings.experiment.ledger import Cell, Kind
from heartstrings.experiment.plan import Plan
from heartstrings.vectors.emotion_vectors import EmotionVectors, project_out
from heartstrings.vectors.extraction import extract
from numpy_engine import POOLINGS, NumpyEngine, corpus, neutral

FROM = POOLINGS[0]
BLEND = "0.5*joyful - worn out"


def made(out: Path, stories: Corpus | None = None, *, weighting: Weighting = "story", **more: Any) -> Path:
    """Bundles of every pooling and what they were made from; returns their folder."""
    extract(
        NumpyEngine(), stories or corpus(), out=out, neutral=neutral(), calibration=neutral(4), poolings=POOLINGS,
        token_budget=120, weighting=weighting, keep_activations=True, **more,
    )  # fmt: skip
    return out


def loaded(folder: Path, pooling: Pooling = FROM) -> tuple[EmotionVectors, StoryActivations]:
    vectors = EmotionVectors.load(folder / pooling.label)
    stories = read_story_activations(folder, vectors)
    assert stories is not None
    return vectors, stories


def plan(general: int = 40, span: int = 40, shuffled: int = 40, **changes: Any) -> Plan:
    values: dict[str, Any] = {
        "model": "m", "directions": ("calm", BLEND), "layers": (0, 2), "seed": 3, "effects": ("choice",),
        "controls": {"general": general, "span": span, "topic": 0, "natural": 0, "shuffled": shuffled},
    }  # fmt: skip
    return Plan(**{**values, **changes})


def cell(kind: Kind, name: str, layer: int = 2, dose: float = 0.2) -> Cell:
    return Cell(phase="test", behaviour="choice", kind=kind, direction=name, layer=layer, dose=dose)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("kept"))


@pytest.fixture(scope="module")
def found(folder: Path) -> DirectionSet:
    vectors, stories = loaded(folder)
    return direction_set(plan(), vectors, layers=(0, 2), stories=stories)


# The stories' own activations


@pytest.mark.parametrize("weighting", ["story", "token"])
def test_the_stories_own_labels_give_the_bundle_s_vectors(tmp_path: Path, weighting: Weighting) -> None:
    place = made(tmp_path, weighting=weighting)
    for pooling in POOLINGS:
        vectors, stories = loaded(place, pooling)
        for variant in vectors.variants:
            again = stories.contrasts(stories.emotion[None], np.eye(4), vectors.layers, variant)[0]
            np.testing.assert_allclose(again.transpose(1, 0, 2), vectors.contrasts(variant), atol=1e-5)


def test_the_two_weightings_differ(tmp_path: Path) -> None:
    """Otherwise the test above would not tell them apart."""
    pairs = [loaded(made(tmp_path / one, weighting=one), POOLINGS[0])[0].raw for one in ("story", "token")]
    assert np.abs(pairs[0] - pairs[1]).max() > 1e-3


@pytest.mark.parametrize("weighting", ["story", "token"])
def test_shuffled_contrasts_against_a_loop(tmp_path: Path, weighting: Weighting) -> None:
    """In every layer, with other labels, for a blend whose factors do not sum to 0; sinks included."""
    vectors, stories = loaded(made(tmp_path, weighting=weighting))
    labels = stories.shuffled(np.random.default_rng(0))
    factors = np.array([[0.0, 1.0, 0.0, 0.0], [0.5, 0.0, 2.0, -1.0]])
    states, weights = np.zeros((len(stories), len(vectors.layers), vectors.width)), np.zeros((len(stories), 3))
    for batch in stories.store.pooled(stories.rule):
        for row, vector, tokens in zip(batch.indices, batch.vectors, batch.weights, strict=True):
            at = int(np.flatnonzero(stories.rows == row)[0])
            states[at], weights[at] = vector, tokens if weighting == "token" else 1
    for variant in vectors.variants:
        got = stories.contrasts(labels[None], factors, (2, 0), variant)[0]
        for column, layer in enumerate((2, 0)):
            means = np.stack(
                [np.average(states[labels == e, layer], axis=0, weights=weights[labels == e, layer]) for e in range(4)]
            )
            rows = (means - means.mean(0)).astype(np.float32)
            if variant == "denoised":
                assert vectors.neutral_basis is not None
                rows = project_out(rows, vectors.neutral_basis[layer])
            np.testing.assert_allclose(got[:, column], factors @ rows, atol=1e-5)


def test_labels_move_within_topics_only_and_every_emotion_keeps_its_number(folder: Path) -> None:
    _, stories = loaded(folder)
    assert stories.crossed
    labels = stories.shuffled(np.random.default_rng(1))
    assert (labels != stories.emotion).mean() > 0.5
    for topic in np.unique(stories.topic):
        rows = stories.topic == topic
        np.testing.assert_array_equal(np.sort(labels[rows]), np.sort(stories.emotion[rows]))


def test_without_crossed_topics_labels_move_over_all_stories(folder: Path) -> None:
    _, stories = loaded(folder)
    own = replace(stories, topic=stories.emotion)  # a topic an emotion: within them nothing could move
    assert not own.crossed
    labels = own.shuffled(np.random.default_rng(1))
    assert (labels != own.emotion).any()
    np.testing.assert_array_equal(np.sort(labels), np.sort(own.emotion))


def test_the_number_of_arrangements_is_what_counting_gives(folder: Path) -> None:
    _, stories = loaded(folder)
    assert stories.arrangements > 1e9
    emotion, topic = np.array([0, 0, 1, 1, 2]), np.array([0, 0, 0, 1, 1])
    few = replace(stories, emotion=emotion, topic=topic, rows=np.arange(5))
    distinct = {
        first + second
        for first, second in itertools.product(
            itertools.permutations(emotion[:3].tolist()), itertools.permutations(emotion[3:].tolist())
        )
    }
    assert few.arrangements == len(distinct) == 6


def test_nothing_kept_or_of_another_model_is_none(folder: Path, tmp_path: Path) -> None:
    vectors, _ = loaded(folder)
    assert read_story_activations(tmp_path, vectors) is None
    assert read_story_activations(folder / FROM.label, vectors) is not None  # the bundle's own folder does as well
    assert read_story_activations(folder, replace(vectors, stories=None, story_scores=None)) is None
    model = vectors.provenance.model
    assert model is not None
    for changes in ({"model": model.model_copy(update={"weights_hash": "sha256:other"})}, {"site": "mlp"},
                    {"pooling": Pooling(start=6)}):  # fmt: skip
        other = replace(vectors, provenance=vectors.provenance.model_copy(update=changes))
        assert read_story_activations(folder, other) is None


def test_other_stories_are_refused(folder: Path, tmp_path: Path) -> None:
    vectors, _ = loaded(folder)
    place = made(tmp_path / "fewer", corpus(n_topics=3))
    with pytest.raises(InputError, match=r"24 pooled stories, the bundle 32"):
        read_story_activations(place, vectors)
    # As many stories, other words: seen as soon as a control is made from them.
    texts = [Story(one.emotion, one.topic, one.text + " more w1 w2", author="x") for one in corpus().stories]
    other = read_story_activations(made(tmp_path / "o", Corpus(tuple(texts), author="x", source="t")), vectors)
    with pytest.raises(InputError, match="do not give the bundle's vectors"):
        direction_set(plan(), vectors, layers=(2,), stories=other).vector("shuffled", "shuffled/0:calm", 2)
    torn = tmp_path / "torn"
    shutil.copytree(folder, torn)
    (torn / ".work" / "stories" / "manifest.json").write_text('{"poolings": [')
    with pytest.raises(InputError, match=r"manifest\.json cannot be read"):
        read_story_activations(torn, vectors)


# Seeds


@pytest.mark.parametrize("kind", ["general", "span", "shuffled"])
def test_a_control_is_the_same_whatever_else_is_asked(folder: Path, found: DirectionSet, kind: Kind) -> None:
    vectors, stories = loaded(folder)
    names = found.controls(kind, "calm")
    assert len(names) == 40
    fewer = direction_set(plan(20, 20, 20, directions=("calm",)), vectors, layers=(2,), stories=stories)
    assert fewer.controls(kind, "calm") == names[:20]
    for name in (names[0], names[19]):
        vector, scale = found.vector(kind, name, 2)
        again, scale_again = fewer.vector(kind, name, 2)
        np.testing.assert_allclose(again, vector, atol=1e-12)
        assert scale_again == pytest.approx(scale, rel=1e-12)
    other = direction_set(plan(seed=4), vectors, layers=(0, 2), stories=stories)
    rows = [found.vector(kind, name, 2)[0] for name in names] + [other.vector(kind, name, 2)[0] for name in names[:20]]
    cosine = np.stack(rows) @ np.stack(rows).T - np.eye(60)
    assert cosine.max() < 1 - 1e-6  # 40 numbers and another seed: all differ


def test_isotropic_controls_of_two_layers_and_kinds_are_independent(found: DirectionSet) -> None:
    pairs = [
        found.vector(a, f"{a}/{n}", x)[0] @ found.vector(b, f"{b}/{n}", y)[0]
        for a, x, b, y in (("general", 0, "general", 2), ("general", 2, "span", 2), ("span", 0, "span", 2))
        for n in range(40)
    ]
    assert abs(np.mean(pairs)) < 4 / np.sqrt(12 * len(pairs))
    assert np.abs(pairs).max() < 0.95


def test_general_controls_are_isotropic_and_span_ones_within_the_span(folder: Path) -> None:
    vectors, _ = loaded(folder)
    many = direction_set(plan(1000, 1000), vectors, layers=(2,), stories=None)
    general = np.stack([many.vector("general", name, 2)[0] for name in many.controls("general", "calm")])
    np.testing.assert_allclose(np.linalg.norm(general, axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(general.T @ general / len(general), np.eye(12) / 12, atol=0.02)
    basis = many.span(2)
    assert len(basis) == 3  # four emotions minus their mean
    np.testing.assert_allclose(basis @ basis.T, np.eye(3), atol=1e-10)
    span = np.stack([many.vector("span", name, 2)[0] for name in many.controls("span", "calm")])
    np.testing.assert_allclose(span @ basis.T @ basis, span, atol=1e-10)
    inside = span @ basis.T
    np.testing.assert_allclose(inside.T @ inside / len(span), np.eye(3) / 3, atol=0.05)
    assert vectors.neutral_basis is not None
    assert np.abs(span @ vectors.neutral_basis[2].T).max() < 1e-5  # denoised vectors span denoised controls


def test_a_span_control_does_not_depend_on_the_basis(found: DirectionSet) -> None:
    """The SVD of another machine may turn the basis."""
    turned = replace(found, _spans={2: np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0] @ found.span(2)})
    np.testing.assert_allclose(turned.vector("span", "span/5", 2)[0], found.vector("span", "span/5", 2)[0], atol=1e-10)


# Shuffled labels


def test_one_shuffle_serves_all_layers_and_directions(found: DirectionSet) -> None:
    """The shuffle of a blend is the blend of the shuffles, at its own length."""
    vectors = found.vectors
    for layer, number in ((0, 0), (2, 0), (2, 17)):
        rows = {}
        for name in ("joyful", "worn out", BLEND):
            unit, scale = found.vector("shuffled", f"shuffled/{number}:{name}", layer)
            real = vectors.direction(name, layer=layer, variant="denoised").norm()[0]
            rows[name] = unit * scale * real
        np.testing.assert_allclose(rows[BLEND], 0.5 * rows["joyful"] - rows["worn out"], atol=1e-6)
    stories = found.stories
    assert stories is not None
    labels = stories.shuffled(found._draws("shuffled", 17, 0))
    expected = stories.contrasts(labels[None], np.eye(4)[[vectors.row("worn out")]], (2,), "denoised")[0, 0, 0]
    np.testing.assert_allclose(rows["worn out"], expected, atol=1e-6)


def relabelled(vectors: EmotionVectors, stories: StoryActivations, labels: np.ndarray) -> DirectionSet:
    """The same stories as if these labels were theirs, with the vectors that they give."""
    raw = stories.contrasts(labels[None], np.eye(4), vectors.layers, "raw")[0].transpose(1, 0, 2).astype(np.float32)
    own = replace(vectors, raw=raw, denoised=None, neutral_basis=None, story_scores=None, halves=None)
    return direction_set(plan(variant="raw"), own, layers=(2,), stories=replace(stories, vectors=own, emotion=labels))


def test_vectors_of_shuffled_labels_are_exchangeable_with_shuffles(folder: Path) -> None:
    """Without information in the labels a real vector is as long as its shuffled controls; with it, longer."""
    vectors, stories = loaded(folder)

    def scales(labels: np.ndarray) -> np.ndarray:
        of = relabelled(vectors, stories, labels)
        return np.array([of.vector("shuffled", name, 2)[1] for name in of.controls("shuffled", "calm")])

    null = [scales(stories.shuffled(np.random.default_rng(seed))) for seed in range(40)]
    assert 0.9 < np.exp(np.mean(np.log(null))) < 1.12
    above = [(one < 1).mean() for one in null]  # where the real one ranks: uniform
    assert 0.35 < np.mean(above) < 0.65
    assert np.std(above) > 0.2
    real = scales(stories.emotion)
    assert (real < 1).all()
    assert np.median(real) < 0.8


# Names and cells


def test_kinds_and_names(found: DirectionSet) -> None:
    assert found.kinds == ("general", "span", "shuffled")
    assert found.controls("span", "calm") == found.controls("span", BLEND)
    assert found.controls("shuffled", BLEND)[1] == f"shuffled/1:{BLEND}"
    assert found.controls("baseline", "calm") == found.controls("direction", "calm") == ()
    without = replace(found, stories=None)
    assert without.kinds == ("general", "span")
    assert without.controls("shuffled", "calm") == ()
    assert replace(found, plan=plan(general=0)).kinds == ("span", "shuffled")


@pytest.mark.parametrize("name", ["at ease", "grief/stricken: 7", "shuffled/3", "self-confident", "über"])
def test_emotions_with_odd_names(folder: Path, name: str) -> None:
    vectors, stories = loaded(folder)
    odd = replace(vectors, emotions=("calm", "joyful", name, "worn out"))
    expression = f"'{name}' - 0.5*calm"
    sets = direction_set(plan(directions=(expression,)), odd, layers=(2,), stories=replace(stories, vectors=odd))
    plain = direction_set(plan(directions=("sad - 0.5*calm",)), vectors, layers=(2,), stories=stories)
    np.testing.assert_array_equal(
        sets.vector("shuffled", f"shuffled/4:{expression}", 2)[0],
        plain.vector("shuffled", "shuffled/4:sad - 0.5*calm", 2)[0],
    )
    steering = sets.steering(cell("direction", expression), sets.plan)
    assert steering is not None
    assert steering.interventions[0].label == expression


@pytest.mark.parametrize(
    ("kind", "name"),
    [("general", "general"), ("general", "general/"), ("general", "general/x"), ("general", "general/-1"),
     ("general", "general/1:calm"), ("general", "span/1"), ("general", "general/01"), ("general", "general/²"),
     ("shuffled", "shuffled/1"), ("shuffled", "shuffled/1:"), ("span", ""), ("span", "span/40")],
)  # fmt: skip
def test_names_that_are_none(found: DirectionSet, kind: Kind, name: str) -> None:
    with pytest.raises(InputError, match=r"control called|one of the plan's 40"):
        found.vector(kind, name, 2)


def test_what_a_cell_becomes(found: DirectionSet) -> None:
    of = found.plan
    assert (
        found.steering(Cell(phase="test", behaviour="c", kind="baseline", direction="", layer=-1, dose=0.0), of) is None
    )
    told = Cell(phase="test", behaviour="c", kind="prompting", direction="instruct:calm", layer=-1, dose=0.0)
    assert found.steering(told, of) is None
    norms = found.vectors.norms
    assert norms is not None
    names: list[tuple[Kind, str]] = [("direction", BLEND), ("general", "general/0"), ("span", "span/3")]
    for kind, name in names:
        for layer in (0, 2):
            steering = found.steering(cell(kind, name, layer), of)
            assert steering is not None
            (one,) = steering.interventions
            assert (one.layer, one.dose, one.norm, one.label) == (layer, 0.2, float(norms[layer]), name)
            assert (one.operation, one.site, steering.positions) == ("add", "block", "all")
            assert np.linalg.norm(one.direction) == pytest.approx(1, abs=1e-6)
            np.testing.assert_allclose(one.direction, found.vector(kind, name, layer)[0], atol=1e-7)
    own = found.vectors.direction(BLEND, layer=2, variant="denoised")
    assert found.vector("direction", BLEND, 2)[0] @ own.unit().values[0] == pytest.approx(1)


@pytest.mark.parametrize("operation", ["add", "clamp"])
def test_a_shuffled_control_moves_by_its_own_length(found: DirectionSet, operation: str) -> None:
    of = found.plan.changed(operation=operation, positions="generated")
    for number in (0, 9):
        steering = found.steering(cell("shuffled", f"shuffled/{number}:calm", dose=-0.2), of)
        assert steering is not None
        (one,) = steering.interventions
        scale = found.vector("shuffled", one.label, 2)[1]
        assert one.dose == pytest.approx(-0.2 * scale)
        assert scale != pytest.approx(1, abs=1e-3)
        assert (one.operation, steering.positions) == (operation, "generated")


# Coherence of the stories


def test_story_coherence_against_a_loop(found: DirectionSet) -> None:
    vectors, stories = found.vectors, found.stories
    assert stories is not None
    assert vectors.centre is not None
    assert vectors.neutral_basis is not None
    for expression, signs in (("calm", {"calm": 1}), (BLEND, {"joyful": 1, "worn out": -1})):
        direction = found.vector("direction", expression, 2)[0]
        cosines = []
        for batch in stories.store.pooled(stories.rule):
            for row, vector in zip(batch.indices, batch.vectors[:, 2], strict=True):
                name = vectors.emotions[stories.emotion[np.flatnonzero(stories.rows == row)[0]]]
                if name in signs:
                    rest = project_out((vector - vectors.centre[2])[None], vectors.neutral_basis[2])[0]
                    cosines.append(signs[name] * (rest @ direction) / np.linalg.norm(rest))
        assert found.story_coherence(expression, 2) == pytest.approx(np.mean(cosines), abs=1e-5)
    assert found.story_coherence(BLEND, 1) is not None  # a layer that is not steered at
    assert replace(found, stories=None).story_coherence("calm", 2) is None


def test_the_opposite_is_as_coherent_and_shuffled_labels_are_less(folder: Path, found: DirectionSet) -> None:
    vectors, stories = loaded(folder)
    real = found.story_coherence("calm", 2)
    assert found.story_coherence("-calm", 2) == pytest.approx(real)
    assert real is not None
    own = relabelled(vectors, stories, stories.emotion).story_coherence("calm", 2)
    none = [
        relabelled(vectors, stories, stories.shuffled(np.random.default_rng(seed))).story_coherence("calm", 2)
        for seed in range(10)
    ]
    assert own is not None
    assert own > max(one for one in none if one is not None)


# Refusals


def test_refusals(folder: Path, found: DirectionSet) -> None:
    vectors, stories = loaded(folder)

    def refused(match: str, own: EmotionVectors = vectors, layers: tuple[int, ...] = (2,), **changes: Any) -> None:
        with pytest.raises(InputError, match=match):
            direction_set(plan(**changes), own, layers=layers, stories=stories)

    refused("no norms", own=replace(vectors, norms=None))
    refused(r"no emotion 'clam'.*Did you mean calm", directions=("clam",))
    refused("no vectors of layer 7", layers=(2, 7))
    refused("of site block, a plan of site mlp", site="mlp")
    assert vectors.denoised is not None
    twins = vectors.denoised.copy()
    twins[:, 0] = twins[:, 1]
    refused("cancels at layer 2", own=replace(vectors, denoised=twins), directions=("calm - joyful",))
    refused("no denoised vectors", own=replace(vectors, denoised=None, neutral_basis=None, story_scores=None))
    with pytest.raises(InputError, match="no layer 7"):
        found.vector("general", "general/0", 7)
    with pytest.raises(InputError, match="no layer 7"):
        found.steering(cell("direction", "calm", 7), found.plan)
    with pytest.raises(InputError, match="without the stories' activations"):
        replace(found, stories=None, _shuffles={}).vector("shuffled", "shuffled/0:calm", 2)
    few = replace(stories, emotion=np.array([0, 1, 0, 1]), topic=np.array([0, 0, 1, 1]), rows=np.arange(4))
    with pytest.raises(InputError, match="40 shuffled controls; labels can be shuffled within their topics in 3 other"):
        direction_set(plan(), vectors, layers=(2,), stories=few)


def test_bundles_of_other_makers_have_no_shuffles() -> None:
    rows = np.random.default_rng(0).normal(size=(3, 4, 12)).astype(np.float32)
    imported = EmotionVectors(
        emotions=("calm", "joyful", "sad", "worn out"), layers=(0, 1, 2), raw=rows, norms=np.ones(3, np.float32),
        provenance=Provenance(package_version="1", source="imported", model=None),
    )  # fmt: skip
    sets = direction_set(plan(variant="raw"), imported, layers=(0, 2), stories=None)
    assert sets.kinds == ("general", "span")
    assert [len(sets.span(layer)) for layer in (0, 2)] == [4, 4]  # as they come: nobody said that they are centred
    assert sets.story_coherence("calm", 2) is None


# A real model


def test_an_organism_end_to_end(tmp_path: Path) -> None:
    import experiment_world as world
    from heartstrings import organisms
    from heartstrings.core.engine import ScoreRequest

    engine = world.engine()
    told = organisms.stories(per_emotion=2)
    some = tuple(story for story in told.stories if story.emotion in world.EMOTIONS[:4])
    out = tmp_path / "v"
    extract(
        engine, Corpus(some, author=told.author, source=told.source), out=out, neutral=organisms.neutral(n=12),
        calibration=organisms.neutral(n=6), layers=(3,), keep_activations=True,
    )  # fmt: skip
    vectors = EmotionVectors.load(out)
    stories = read_story_activations(out, vectors)
    of = plan(directions=("desperate",), model=world.MODEL, layers=(3,))
    sets = direction_set(of, vectors, layers=(3,), stories=stories)
    assert sets.kinds == ("general", "span", "shuffled")
    cells = [cell("direction", "desperate", 3)] + [
        cell(kind, sets.controls(kind, "desperate")[0], 3) for kind in sets.kinds
    ]
    requests = [ScoreRequest("The rain had stopped", (" and", " but"), sets.steering(one, of)) for one in cells]
    plain = engine.score([ScoreRequest("The rain had stopped", (" and", " but"))])[0].logprobs
    moved = [np.abs(np.array(score.logprobs) - plain).max() for score in engine.score(requests)]
    assert min(moved) > 1e-3
    coherence = sets.story_coherence("desperate", 3)
    assert coherence is not None
    assert 0.3 < coherence < 1
