"""What components follow that is not emotion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import geometry_worlds as worlds
from heartstrings.geometry import _nuisance as nuisance
from heartstrings.geometry import _spectra as spectra
from heartstrings.geometry.results import NuisanceFit


def spectrum(raw: np.ndarray) -> spectra.Spectrum:
    return spectra.spectrum(spectra.gram(spectra.treat(raw.astype(np.float32), "plain")))


def test_length_is_named_on_the_component_it_was_put_on() -> None:
    length = np.random.default_rng(1).integers(80, 300, worlds.N).astype(float)
    raw = worlds.planted({"length": 4.0, "valence": 2.0}, layers=1, noise=0.2, length=length)[0]
    facts = nuisance.emotion_facts(worlds.table(length=length.astype(int)), worlds.N, permutations=499, seed=0)
    assert [fact.name for fact in facts] == ["length", "person", "dialogue"]
    fits = nuisance.emotion_fits(spectrum(raw), facts)
    first = {fit.nuisance: fit for fit in fits if fit.component == 1}
    assert first["length"].r > 0.98
    assert first["length"].p == 1 / 500
    assert first["length"].n == worlds.N
    assert first["person"].r < 0.4
    named = nuisance.first_component(fits, 0.05, 0.1)
    assert named == first["length"]
    assert nuisance.first_component(fits, 0.9999, 0.1) is None, "component 1 follows valence more closely"
    assert nuisance.first_component(fits, 0.1, 0.9999) is None, "component 1 follows arousal more closely"


def test_means_over_stories_are_what_is_correlated() -> None:
    table = worlds.table(seed=3)
    person = table.person.copy()
    person[:6] = np.nan  # every story of the first emotion has no pronoun
    person[7] = np.nan
    facts = nuisance.emotion_facts(replace(table, person=person), worlds.N, permutations=99, seed=0)
    known = next(fact for fact in facts if fact.name == "person")
    means = np.array([np.nanmean(person[table.emotion == row]) for row in range(1, worlds.N)])
    assert not known.known[0]
    raw = worlds.planted({}, layers=1, noise=1.0)[0]
    found = spectrum(raw)
    fits = nuisance.emotion_fits(found, [known])
    for fit in fits:
        r = abs(np.corrcoef(found.scores[1:, fit.component - 1], means)[0, 1])
        assert fit.r == pytest.approx(r, abs=1e-6)
        assert fit.n == worlds.N - 1


def test_a_nuisance_that_does_not_vary_is_left_out() -> None:
    table = worlds.table()
    same = replace(table, words=np.full(len(table), 100, dtype=np.int32))
    assert "length" not in {fact.name for fact in nuisance.emotion_facts(same, worlds.N, permutations=99, seed=0)}


def fit(r: float, *, p: float = 0.001, component: int = 1, kind: str = "length", level: str = "emotion") -> NuisanceFit:
    return NuisanceFit.model_validate(
        {"component": component, "nuisance": kind, "r": r, "p": p, "n": 60, "level": level}
    )


@pytest.mark.parametrize(
    ("fits", "named"),
    [
        ([fit(0.49)], None),
        ([fit(0.51)], 0),
        ([fit(0.51, p=0.06)], None),
        ([fit(0.9, component=2)], None),
        ([fit(0.6), fit(0.8, kind="person")], 1),
        ([fit(0.9, kind="topic", level="story")], None),
        ([fit(0.6, kind="topic")], None),
        ([fit(0.75, kind="topic")], 0),
    ],
)
def test_the_rule_that_names_the_first_component(fits: list[NuisanceFit], named: int | None) -> None:
    assert nuisance.first_component(fits, 0.2, 0.3) == (None if named is None else fits[named])


def topic_scores(table, effect: float, *, spread: float = 0.0, seed: int = 0) -> np.ndarray:  # type: ignore[no-untyped-def]
    """[layer story component]: component 1 has a topic effect, component 2 none."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(1, len(table), 2))
    scores[0, :, 0] += effect * rng.normal(size=len(table.topics))[table.topic]
    scores[0] += spread * rng.normal(size=(worlds.N, 2))[table.emotion]
    return scores.astype(np.float32)


def test_topic_within_emotions_equals_a_naive_eta_squared_corrected_for_chance() -> None:
    table = worlds.table(stories=12, topics=6)
    scores = topic_scores(table, 1.0, spread=2.0, seed=1)
    fits = {f.component: f for f in nuisance.topic_fits(scores, table, seed=0)[0]}
    assert all(f.level == "story" for f in fits.values()), "crossed: topic cannot make emotions differ"
    rest = scores[0, :, 0].astype(float)
    for row in range(worlds.N):
        rest[table.emotion == row] -= rest[table.emotion == row].mean()
    between = sum((table.topic == t).sum() * rest[table.topic == t].mean() ** 2 for t in range(6))
    eta = between / (rest**2).sum()
    chance = 5 / (len(table) - worlds.N)
    assert fits[1].r == pytest.approx(np.sqrt((eta - chance) / (1 - chance)), abs=0.01)
    assert fits[1].p == 1 / 200
    assert fits[2].r < 0.15
    assert fits[2].p > 0.01


def test_topics_drawn_for_each_emotion_explain_the_differences_they_make() -> None:
    """Emotions differ by nothing but the two topics each was given."""
    table = worlds.table(stories=8, topics=2, crossed=False)
    fits = nuisance.topic_fits(topic_scores(table, 3.0, seed=1), table, seed=0)[0]
    named = {(f.component, f.level): f for f in fits}
    assert named[1, "emotion"].r > 0.85
    assert named[2, "emotion"].r < 0.5
    other = nuisance.topic_fits(topic_scores(table, 1.0, spread=5.0, seed=1), table, seed=0)[0]
    assert next(f for f in other if (f.component, f.level) == (1, "emotion")).r < 0.35


def test_topic_cannot_be_tested_with_one_topic_an_emotion() -> None:
    table = worlds.table(stories=4, topics=1, crossed=False)
    assert nuisance.topic_fits(topic_scores(table, 1.0), table, seed=0) == ((),)


def test_p_of_topic_is_uniform_without_an_effect() -> None:
    table = worlds.table(stories=6, topics=3)
    scores = np.random.default_rng(4).normal(size=(30, len(table), 5)).astype(np.float32)
    ps = np.array([f.p for row in nuisance.topic_fits(scores, table, seed=0) for f in row])
    assert abs((ps <= 0.05).mean() - 0.05) < 0.06
    assert abs((ps <= 0.5).mean() - 0.5) < 0.15
