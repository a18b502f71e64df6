"""Mixtures of story topics as controls: contrasts against a naive mean, when there are none, seeds, a verdict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import experiment_world as world
from heartstrings import organisms
from heartstrings.behaviours.suites import suite
from heartstrings.core.errors import InputError
from heartstrings.core.types import Pooling, Weighting
from heartstrings.corpus import Corpus, Story
from heartstrings.experiment.cells import Planned
from heartstrings.experiment.cells import cells as cells_of
from heartstrings.experiment.controls import (
    LEAST_TOPICS,
    DirectionSet,
    StoryActivations,
    direction_set,
    read_story_activations,
)
from heartstrings.experiment.ledger import SampleLedger
from heartstrings.experiment.plan import Plan, searched_layers
from heartstrings.experiment.run import run_experiment
from heartstrings.vectors.activations import Activations, PositionMeans
from heartstrings.vectors.bundle import load as load_bundle
from heartstrings.vectors.emotion_vectors import EmotionVectors, project_out
from heartstrings.vectors.extraction import extract
from heartstrings.verdict import decide
from numpy_engine import POOLINGS, NumpyEngine, corpus, neutral


def made(
    out: Path, stories: Corpus | None = None, weighting: Weighting = "story"
) -> list[tuple[EmotionVectors, StoryActivations]]:
    """Bundles of every pooling with the stories that they were made from."""
    extract(
        NumpyEngine(), stories or corpus(), out=out, neutral=neutral(30), calibration=neutral(4), poolings=POOLINGS,
        token_budget=120, weighting=weighting, keep_activations=True,
    )  # fmt: skip
    found = []
    for pooling in POOLINGS:
        vectors = EmotionVectors.load(out / pooling.label)
        kept = read_story_activations(out, vectors)
        assert kept is not None
        found.append((vectors, kept))
    return found


def plan(topic: int = 40, general: int = 40, **changes: Any) -> Plan:
    values: dict[str, Any] = {
        "model": "m", "directions": ("calm",), "layers": (0, 2), "seed": 3, "effects": ("choice",),
        "controls": {"general": general, "span": 0, "topic": topic, "natural": 0, "shuffled": 0},
    }  # fmt: skip
    return Plan(**{**values, **changes})


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[EmotionVectors, StoryActivations]:
    return made(tmp_path_factory.mktemp("kept"))[0]


@pytest.fixture(scope="module")
def found(both: tuple[EmotionVectors, StoryActivations]) -> DirectionSet:
    return direction_set(plan(), both[0], layers=(0, 2), stories=both[1])


# The contrasts


@pytest.mark.parametrize("weighting", ["story", "token"])
def test_against_a_naive_mean(tmp_path: Path, weighting: Weighting) -> None:
    """Of every pooling, raw and denoised, in layers of another order; topics of uneven numbers of stories."""
    for vectors, stories in made(tmp_path, corpus(n_topics=5, n_each=2), weighting):
        stories = replace(stories, topic=np.where(stories.topic == 4, 3, stories.topic))
        assert vectors.provenance.pooling is not None
        centred = vectors.provenance.pooling.rule == "centred"
        states, tokens = np.zeros((len(stories), 3, vectors.width)), np.ones((len(stories), 3))
        for batch in stories.store.pooled(stories.rule, stories.store.position_means() if centred else None):
            for row, vector, count in zip(batch.indices, batch.vectors, batch.weights, strict=True):
                at = int(np.flatnonzero(stories.rows == row)[0])
                states[at], tokens[at] = vector, count if weighting == "token" else 1
        for variant in vectors.variants:
            got = stories.topic_contrasts((2, 0), variant)
            assert got.shape == (4, 2, vectors.width)
            for column, layer in enumerate((2, 0)):
                means = np.stack([
                    sum(states[i, layer] * tokens[i, layer] for i in np.flatnonzero(stories.topic == topic))
                    / sum(tokens[i, layer] for i in np.flatnonzero(stories.topic == topic))
                    for topic in range(4)
                ])  # fmt: skip
                rows = (means - means.mean(0)).astype(np.float32)
                if variant == "denoised":
                    assert vectors.neutral_basis is not None
                    rows = project_out(rows, vectors.neutral_basis[layer])
                np.testing.assert_allclose(got[:, column], rows, atol=1e-5)


def test_position_means_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Activations] = []
    plain = Activations.position_means

    def counted(store: Activations) -> PositionMeans:
        read.append(store)
        return plain(store)

    bundles = zip(POOLINGS, made(tmp_path), strict=True)
    stories = next(kept for pooling, (_, kept) in bundles if pooling.rule == "centred")
    monkeypatch.setattr(Activations, "position_means", counted)
    for _ in range(2):
        assert list(stories.batches())
    assert len(read) == 1


def test_with_emotions_for_topics_they_are_the_bundles_vectors(both: tuple[EmotionVectors, StoryActivations]) -> None:
    """An identity: contrasts of topics are made as those of emotions are. They sum to nothing."""
    vectors, stories = both
    got = stories.topic_contrasts((0, 2), "raw")
    np.testing.assert_allclose(got.sum(0), 0, atol=1e-9)
    turned = replace(stories, topic=stories.emotion)
    np.testing.assert_allclose(
        turned.topic_contrasts(vectors.layers, "raw").transpose(1, 0, 2), vectors.contrasts("raw"), atol=1e-5
    )


def test_layers_that_were_not_kept(both: tuple[EmotionVectors, StoryActivations]) -> None:
    vectors, stories = both
    with pytest.raises(InputError, match="no activations of layer 7 were kept"):
        stories.topic_contrasts((0, 7), "raw")
    bare = replace(stories, vectors=replace(vectors, denoised=None, neutral_basis=None, story_scores=None))
    with pytest.raises(InputError, match="without a neutral basis"):
        bare.topic_contrasts((0,), "denoised")


# When there are none


def test_topics_have_to_be_fully_crossed(both: tuple[EmotionVectors, StoryActivations], found: DirectionSet) -> None:
    _, stories = both
    assert (stories.n_crossed_topics, LEAST_TOPICS) == (4, 4)
    assert found.kinds == ("general", "topic")
    assert found.controls("topic", "calm") == tuple(f"topic/{number}" for number in range(40))

    def kinds(some: StoryActivations | None) -> tuple[str, ...]:
        return replace(found, stories=some).kinds

    cell = (stories.emotion == 1) & (stories.topic == 2)
    assert cell.sum() == 2
    # One story of a cell elsewhere: still one there. Both: joyful is no more told of topic 2.
    moved = stories.topic.copy()
    moved[np.flatnonzero(cell)[0]] = 3
    assert replace(stories, topic=moved).n_crossed_topics == 4
    moved[cell] = 3
    uncrossed = replace(stories, topic=moved)
    assert uncrossed.crossed  # for shuffled labels two emotions a topic are enough
    assert uncrossed.n_crossed_topics == 0
    assert kinds(uncrossed) == kinds(None) == ("general",)
    assert replace(found, stories=uncrossed).controls("topic", "calm") == ()
    fewer = replace(stories, topic=np.where(stories.topic == 3, 0, stories.topic))
    assert fewer.n_crossed_topics == 3
    assert kinds(fewer) == ("general",)
    assert replace(found, plan=plan(topic=0)).kinds == ("general",)
    with pytest.raises(InputError, match="a topic control without the stories' activations"):
        replace(found, stories=None, _topic_contrasts={}).vector("topic", "topic/0", 2)


def test_a_corpus_that_lacks_one_cell(tmp_path: Path) -> None:
    """The same from files: topic 1 has no sad story."""
    some = [one for one in corpus().stories if (one.emotion, one.topic) != ("sad", "topic 1")]
    more = [Story("sad", "topic 0", "sa1 sa2 sa3 sa4 w1 w2 w3 sa5 sa6 w4 w5 w6", author="a generator")] * 2
    ((vectors, stories), *_) = made(tmp_path, Corpus((*some, *more), author="a generator", source="tests"))
    assert stories.n_crossed_topics == 0
    assert direction_set(plan(), vectors, layers=(2,), stories=stories).kinds == ("general",)


# Seeds


def test_control_7_is_the_same_however_many_there_are(
    both: tuple[EmotionVectors, StoryActivations], found: DirectionSet
) -> None:
    vectors, stories = both
    fewer = direction_set(plan(20, 20, directions=("joyful",)), vectors, layers=(2,), stories=stories)
    for number in (0, 7, 19):
        one, scale = found.vector("topic", f"topic/{number}", 2)
        assert scale == 1.0
        np.testing.assert_allclose(fewer.vector("topic", f"topic/{number}", 2)[0], one, atol=1e-12)
    other = direction_set(plan(seed=4), vectors, layers=(0, 2), stories=stories)
    rows = [one.vector("topic", f"topic/{number}", 2)[0] for one in (found, other) for number in range(20)]
    cosine = np.stack(rows) @ np.stack(rows).T - np.eye(40)
    assert np.abs(cosine).max() < 1 - 1e-9
    again = np.array([found.vector("topic", f"topic/{k}", 0)[0] @ found.vector("topic", f"topic/{k}", 2)[0]
                      for k in range(40)])  # fmt: skip
    assert np.abs(again).max() < 1 - 1e-6


def test_they_are_mixtures_of_the_contrasts(found: DirectionSet) -> None:
    """Unit vectors within the span of the topics' contrasts, with independent normal weights of all topics."""
    stories = found.stories
    assert stories is not None
    contrasts = stories.topic_contrasts((2,), found.plan.variant)[:, 0]
    drawn = np.stack([found.vector("topic", name, 2)[0] for name in found.controls("topic", "calm")])
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1, atol=1e-12)
    weights = np.linalg.lstsq(contrasts.T, drawn.T, rcond=None)[0].T
    np.testing.assert_allclose(weights @ contrasts, drawn, atol=1e-6)
    assert np.linalg.matrix_rank(drawn, tol=1e-5) == 3  # four topics minus their mean
    naive = found._draws("topic", 7, 2).standard_normal(4) @ contrasts
    np.testing.assert_allclose(drawn[7], naive / np.linalg.norm(naive), atol=1e-9)


@pytest.mark.parametrize("name", ["topic", "topic/", "topic/07", "topic/7:calm", "general/7", "topic/40"])
def test_names_that_are_none(found: DirectionSet, name: str) -> None:
    with pytest.raises(InputError, match=r"topic control called|topic control 40"):
        found.vector("topic", name, 2)


# An experiment


@pytest.fixture(scope="module")
def engine() -> Any:
    return world.engine()


@pytest.fixture(scope="module")
def crossed(engine: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight emotions, each told of the same five topics."""
    out = tmp_path_factory.mktemp("crossed") / "out"
    every = organisms.stories(per_emotion=5)
    some = tuple(story for story in every.stories if story.emotion in world.EMOTIONS)
    assert len({(one.emotion, one.topic) for one in some}) == len(some) == 40
    extract(
        engine, Corpus(some, author=every.author, source=every.source), out=out, neutral=organisms.neutral(n=24),
        poolings=(Pooling(start=50),), keep_activations=True,
    )  # fmt: skip
    return out


def small(**changes: Any) -> Plan:
    return world.plan(controls={"general": 20, "span": 0, "topic": 20, "natural": 0, "shuffled": 0}, **changes)


def directions(of: Plan, bundle: Path, *, stories: bool = True) -> DirectionSet:
    vectors = load_bundle(bundle)
    kept = read_story_activations(bundle, vectors) if stories else None
    return direction_set(of, vectors, layers=searched_layers(of, len(vectors.layers)), stories=kept)


def test_a_plan_of_them_is_asked_and_the_verdict_counts_them(engine: Any, crossed: Path, tmp_path: Path) -> None:
    of, asked = small(), suite("organism")
    made_of = directions(of, crossed)
    assert made_of.kinds == ("general", "topic")
    planned = cells_of(of, asked, Planned(of), layers=of.layers)
    assert sum(cell.kind == "topic" for cell in planned) == 20 * (2 * 2 + 2)  # searched, then at the window's ends
    with SampleLedger(tmp_path / "l.sqlite", of) as ledger:
        run_experiment(of, engine, made_of, ledger)
        select = ledger.samples(phase="select", behaviour="choice", kind="topic")
        test = ledger.samples(phase="test", behaviour="choice", kind="topic")
        assert len({row.cell.direction for row in test}) == 20
        assert {row.cell.layer for row in select} == {2, 3}
        assert len(select) == 20 * 2 * 2 * of.samples.select
        assert len(test) == 20 * 2 * of.samples.effect
        assert ledger.samples(phase="test", kind="span") == []
        (card,) = decide(of, ledger, asked, model=of.model, encoded="encoded").answers
    groups = {group.kind: group for group in card.controls}
    assert list(groups) == ["general", "topic"]
    assert len(groups["topic"].slopes) == len(groups["general"].slopes) == 20
    assert groups["topic"].p >= 1 / 21
    assert card.p_uncorrected == max(group.p for group in groups.values())
    assert not any("topic" in words for words in card.missing)


def test_without_the_stories_they_are_missed(engine: Any, crossed: Path, tmp_path: Path) -> None:
    of = small(layers=(2,)).changed(controls={"general": 40, "span": 0, "topic": 20, "natural": 0, "shuffled": 0})
    asked = suite("organism")
    without = directions(of, crossed, stories=False)
    assert without.kinds == ("general",)
    with SampleLedger(tmp_path / "l.sqlite", of) as ledger:
        run_experiment(of, engine, without, ledger)
        (card,) = decide(of, ledger, asked, model=of.model, encoded="encoded").answers
    assert [group.kind for group in card.controls] == ["general"]
    assert [words for words in card.missing if "topic" in words] == [
        "choice: topic controls were not sampled: they need the stories' activations, with topics that have every "
        "emotion"
    ]
    too_few = small(layers=(2,))
    with SampleLedger(tmp_path / "m.sqlite", too_few) as ledger, pytest.raises(InputError, match="20 controls"):
        run_experiment(too_few, engine, directions(too_few, crossed, stories=False), ledger)


# Directions with the covariance of neutral texts


def test_natural_controls_have_the_covariance_of_the_neutral_texts(
    both: tuple[EmotionVectors, StoryActivations], tmp_path: Path
) -> None:
    vectors, stories = both
    rows = stories.neutral_deviations((2,), "raw")
    assert rows is not None
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-5)
    few = replace(stories, store=replace(stories.store, directory=tmp_path / ".work" / "stories"))
    extract(
        NumpyEngine(), corpus(), out=tmp_path, neutral=neutral(11), calibration=neutral(4), poolings=POOLINGS,
        token_budget=120, keep_activations=True,
    )  # fmt: skip
    assert few.neutral_deviations((2,), "raw") is None  # eleven texts give mixtures that are nearly one direction
    clean = stories.neutral_deviations((2,), "denoised")
    assert clean is not None
    assert vectors.neutral_basis is not None
    assert np.abs(clean[:, 0] @ vectors.neutral_basis[2].T).max() < 1e-4
    many = direction_set(
        plan().changed(controls={"natural": 3000}, variant="raw"), vectors, layers=(2,), stories=stories
    )  # fmt: skip
    assert many.kinds == ("general", "topic", "natural")
    drawn = np.stack([many.vector("natural", name, 2)[0] for name in many.controls("natural", "calm")])
    expected = rows[:, 0].T @ rows[:, 0]
    axes = np.linalg.eigh(expected)[1][:, ::-1]
    spread = ((drawn @ axes) ** 2).mean(axis=0)
    assert spread[0] > 2 * spread[3]  # what varies most in neutral text varies most here
    assert np.corrcoef(spread, np.linalg.eigvalsh(expected)[::-1])[0, 1] > 0.95


def test_without_neutral_texts_there_are_none(both: tuple[EmotionVectors, StoryActivations], tmp_path: Path) -> None:
    vectors, stories = both
    alone = replace(stories, store=replace(stories.store, directory=tmp_path / "stories"))
    assert alone.neutral_deviations((2,), "raw") is None
    found = direction_set(plan().changed(controls={"natural": 40}), vectors, layers=(2,), stories=alone)
    assert found.kinds == ("general", "topic")
    with pytest.raises(InputError, match="neutral texts' activations"):
        found.vector("natural", "natural/0", 2)
