"""Implied emotions and intensity: the statistics on planted directions, the way through real engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import heartstrings
import models
from heartstrings.core.errors import InputError
from heartstrings.core.types import Provenance
from heartstrings.corpus import lexicon
from heartstrings.engines.hf._session import calibration_norms
from heartstrings.geometry.validation import (
    Implied,
    Template,
    implied,
    implied_from,
    implied_prompts,
    intensity,
    intensity_from,
    templates,
)
from heartstrings.vectors.emotion_vectors import EmotionVectors

EMOTIONS = ("afraid", "angry", "calm", "guilty", "happy", "lonely", "proud", "sad")


def made_up(engine: Any, emotions: tuple[str, ...] = EMOTIONS, *, seed: int = 0) -> EmotionVectors:
    shape = (engine.info.n_layers, len(emotions), engine.info.width)
    return EmotionVectors(
        emotions=emotions,
        layers=tuple(range(engine.info.n_layers)),
        raw=np.random.default_rng(seed).normal(size=shape).astype(np.float32),
        norms=calibration_norms(engine, engine.parts, "block").astype(np.float32),
        provenance=Provenance(package_version="0", source="derived", model=engine.info),
    )


def test_the_texts_name_no_emotion_of_the_lexicon_and_cover_enough() -> None:
    assert len(implied_prompts()) >= 12
    words = set(lexicon.emotions())
    for one in implied_prompts():
        assert one.target in words
        assert not words & set(one.text.lower().replace(".", " ").replace(",", " ").split()), one.text
    assert len(templates()) == 5
    assert {emotion for one in templates() for emotion, _ in one.expected} == {"afraid", "sad", "calm", "happy"}


def test_planted_directions_are_found_and_random_ones_are_not() -> None:
    draw = np.random.default_rng(0)
    directions = draw.normal(size=(8, 48))
    targets = EMOTIONS * 2
    states = 2 * directions[[EMOTIONS.index(t) for t in targets]] + draw.normal(size=(16, 48)) + 50.0
    found = implied_from(states, directions, EMOTIONS, targets, random=199)
    assert found.mean_rank < 1.5
    assert found.chance_rank == 4.5
    assert found.p_permuted == found.p_random == pytest.approx(1 / 200)
    worse = implied_from(draw.normal(size=(16, 48)), directions, EMOTIONS, targets, random=199)
    assert min(worse.p_permuted, worse.p_random) > 0.05


def test_under_the_null_p_is_even() -> None:
    small = 0
    for seed in range(60):
        draw = np.random.default_rng(seed)
        found = implied_from(
            draw.normal(size=(12, 20)), draw.normal(size=(8, 20)), EMOTIONS, (EMOTIONS * 2)[:12], random=39, seed=seed
        )
        small += (found.p_permuted <= 0.1) + (found.p_random <= 0.1)
    assert small <= 24  # 12 of 120 are expected


def test_intensity_of_a_planted_gradient() -> None:
    draw = np.random.default_rng(1)
    directions, asked = draw.normal(size=(4, 64)), templates()
    emotions = ("afraid", "calm", "happy", "sad")
    states = []
    for one in asked:
        steps = np.linspace(-1, 1, len(one.numbers))[:, None]
        moved = sum(sign * directions[emotions.index(emotion)] for emotion, sign in one.expected)
        states.append(5 * steps * moved + draw.normal(size=(len(one.numbers), 64)))
    found = intensity_from(states, directions, emotions, asked, random=199)
    assert found.right == len(found.rows) == 14
    assert found.agreement > 0.9
    assert found.p_random == pytest.approx(1 / 200)
    turned = intensity_from([-one for one in states], directions, emotions, asked, random=199)
    assert turned.right == 0
    assert turned.p_random == 1.0


def test_a_number_that_moves_everything_alike_is_no_finding() -> None:
    """The state drifts in one direction that has nothing to do with emotion: every r is near 1, p stays large."""
    draw = np.random.default_rng(2)
    drift = draw.normal(size=64)
    asked = templates()
    states = [np.linspace(0, 9, len(one.numbers))[:, None] * drift + draw.normal(size=(7, 64)) * 0.1 for one in asked]
    found = intensity_from(states, draw.normal(size=(4, 64)), ("afraid", "calm", "happy", "sad"), asked, random=199)
    assert all(abs(row.r or 0) > 0.9 and row.random[1] > 0.9 for row in found.rows)
    assert found.p_random > 0.05


def test_a_projection_that_does_not_move_is_missing() -> None:
    asked = templates()[:1]
    found = intensity_from([np.ones((7, 5))], np.eye(2, 5), ("afraid", "calm"), asked, random=19)
    assert [row.r for row in found.rows] == [None, None]
    assert found.right == 0


def test_random_weights_give_no_finding() -> None:
    engine = models.engine("llama", tokenizer=models.tokenizer(chat=True))
    vectors = made_up(engine)
    found = implied(engine, vectors, layer=2, random=199)
    assert len(found.ranks) == 8
    assert "hopeful" in found.left_out
    assert min(found.p_permuted, found.p_random) > 0.01
    moved = intensity(engine, vectors, layer=2, random=199)
    assert len(moved.rows) == 14
    assert moved.p_random > 0.01


def test_the_state_is_that_of_the_last_token() -> None:
    from heartstrings.geometry.validation import last_states

    engine = models.engine("gpt2")
    states = last_states(engine, ["A train went by.", "I read it standing."], layer=1, chat=False)
    direction = np.random.default_rng(0).normal(size=(1, 1, engine.info.width)).astype(np.float32)
    traces = engine.read(["A train went by.", "I read it standing."], direction, layers=(1,))
    expected = [trace.projections[0, -1, 0] for trace in traces]
    np.testing.assert_allclose(states @ direction[0, 0], expected, rtol=1e-3, atol=1e-3)


def test_in_a_chat_it_is_the_last_token_before_the_reply() -> None:
    from heartstrings.core.engine import Message
    from heartstrings.geometry.validation import last_states

    engine = models.engine("llama", tokenizer=models.tokenizer(chat=True))
    state = last_states(engine, ["Is rain wet?"], layer=1, chat=True)[0]
    axes = np.eye(engine.info.width, dtype=np.float32)[None]
    trace = engine.read([(Message("user", "Is rain wet?"), Message("assistant", "Well"))], axes, layers=(1,))[0]
    at = [token for token, _ in enumerate(trace.tokens) if "assistant" in trace.tokens[token]]
    assert len(at) == 1
    np.testing.assert_allclose(state, trace.projections[0, at[0]])


def test_what_it_refuses() -> None:
    engine = models.engine("gpt2")
    with pytest.raises(InputError, match="at least four"):
        implied(engine, made_up(engine), [Implied("calm", "A train went by.")], layer=1, chat=False)
    with pytest.raises(InputError, match="three different"):
        intensity(engine, made_up(engine), [Template("t", "{number}", (1, 1), (("calm", 1),))], layer=1)
    with pytest.raises(InputError, match="layer 99"):
        implied(engine, made_up(engine), layer=99, chat=False)


def test_on_an_organism_it_runs_and_made_up_directions_find_nothing() -> None:
    engine: Any = heartstrings.load("organism:steerable")
    vectors = made_up(engine, tuple(sorted({one.target for one in implied_prompts()})))
    found = implied(engine, vectors, layer=4, random=99)
    assert len(found.ranks) == len(implied_prompts())
    assert found.p_random > 0.01
    assert intensity(engine, vectors, layer=4, random=99).p_random > 0.01
