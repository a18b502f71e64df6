"""KL(unsteered || steered) of the next-token distribution: the engine's against two plain passes of the model."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

import models
from heartstrings import Intervention, Steering
from heartstrings.core.engine import Message, Score, ScoreRequest
from heartstrings.core.errors import NumericalError
from heartstrings.engines.hf import _score as torch_score
from steered_reference import KINDS, assert_untouched, reference, state_of, steering_of

FAMILIES = ("llama", "gpt2", "gemma2", "gemma3", "gemma4_text", "qwen3_5_text", "gpt_oss", "opt_post_norm")
PROMPTS = (
    "The rain had stopped before she reached the harbour.",
    "A train went by. The cups on the shelf rang, as they did every night at the same hour.",
)
TAILS = (" and the boats lay still on the grey water", " yes", " Nobody had told me that the letter was there.")


def naive(engine: Any, prompt: str, tail: str, steering: Steering | None) -> tuple[np.ndarray, np.ndarray]:
    """(log-probability, divergence) of each token of the tail, in double precision from all logits of both passes."""
    start = engine.tokenizer(prompt)["input_ids"]
    ids = start + engine.tokenizer(tail, add_special_tokens=False)["input_ids"]
    steered = [] if steering is None else [steering]
    before, after = (
        reference(engine, ids, len(start), *some)[len(start) - 1 : -1].double().softmax(dim=-1).numpy()
        for some in ([], steered)
    )
    own = np.log(after[np.arange(len(ids) - len(start)), ids[len(start) :]])
    return own, (before * np.log(before / after)).sum(axis=1)


def one(dose: float, layer: int = 2, seed: int = 4) -> Steering:
    row = np.random.default_rng(seed).normal(size=models.WIDTH).astype(np.float32)
    return Steering((Intervention(layer, row, dose, 5.0),))


def assert_as_naive(engine: Any, request: ScoreRequest, score: Score, tolerance: float = 2e-4) -> None:
    assert score.divergences is not None
    assert isinstance(request.prompt, str)
    found = zip(request.continuations, score.token_logprobs, score.divergences, score.token_ids, strict=True)
    for tail, logprobs, divergence, ids in found:
        own, moved = naive(engine, request.prompt, tail, request.steering)
        assert divergence.shape == logprobs.shape == (len(ids),)
        np.testing.assert_allclose(divergence, moved, rtol=2e-3, atol=tolerance)
        np.testing.assert_allclose(logprobs, own, rtol=1e-3, atol=tolerance)


def sweep(*steerings: Steering | None) -> list[ScoreRequest]:
    return [ScoreRequest(prompt, TAILS, way, divergence=True) for way in steerings for prompt in PROMPTS]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_against_two_plain_passes(family: str, shared: bool) -> None:
    engine = models.engine(family)
    engine.share_trunk = shared
    before = state_of(engine.model)
    requests = sweep(None, one(0.3), one(-0.6), one(0.6), one(0.3, layer=3), steering_of(engine))
    for request, score in zip(requests, engine.score(requests), strict=True):
        assert_as_naive(engine, request, score)
    assert_untouched(engine.model, before)


@pytest.mark.parametrize("positions", KINDS, ids=str)
def test_every_kind_of_positions(positions: Any) -> None:
    engine = models.engine("llama")
    request = ScoreRequest(PROMPTS[0], TAILS, steering_of(engine, positions), divergence=True)
    (score,) = engine.score([request])
    assert_as_naive(engine, request, score)
    assert score.divergences is not None
    if positions == "generated":  # the first token follows on the prompt alone, which is not steered
        assert [float(moved[0]) for moved in score.divergences] == [0.0] * 3
        assert float(score.divergences[0][1]) > 1e-3


def test_unsteered_is_nothing_exactly() -> None:
    """Alone, among steered rows of the same text, and where dose 0 is added."""
    engine = models.engine("llama")
    for ways in ((None, one(0.0)), (None, one(0.4), None, one(0.0), one(-0.4))):
        requests = sweep(*ways)
        for request, score in zip(requests, engine.score(requests), strict=True):
            steered = request.steering is not None and request.steering.interventions[0].dose != 0
            assert score.divergences is not None
            assert all((moved > 0).all() if steered else (moved == 0).all() for moved in score.divergences)


def test_only_where_it_is_asked() -> None:
    engine = models.engine("gpt2")
    requests = [
        replace(each, divergence=number % 3 == 0) for number, each in enumerate(sweep(one(0.2), None, one(0.7)))
    ]
    for request, score in zip(requests, engine.score(requests), strict=True):
        assert (score.divergences is not None) == request.divergence


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma4_text"])
def test_mixed_requests_keep_their_log_probabilities(family: str, shared: bool) -> None:
    """With divergence and without, of one text and of others, in one call: the numbers of each alone."""
    engine = models.engine(family)
    engine.share_trunk = shared
    ways = (None, one(0.2), one(-0.5), one(0.5, layer=1))
    requests = [
        *(ScoreRequest(PROMPTS[0], TAILS, way, divergence=True) for way in ways),
        *(ScoreRequest(PROMPTS[0], TAILS[:2], way) for way in ways),
        ScoreRequest(PROMPTS[1], TAILS[1:], ways[1], divergence=True),
        ScoreRequest(PROMPTS[1], TAILS[:1], ways[2]),
        ScoreRequest("A train", (PROMPTS[0],), ways[2], divergence=True),
    ]
    together = engine.score(requests)
    without = engine.score([replace(request, divergence=False) for request in requests])
    for request, score, bare in zip(requests, together, without, strict=True):
        assert score.token_ids == bare.token_ids
        for mine, theirs in zip(score.token_logprobs, bare.token_logprobs, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-4)
        np.testing.assert_allclose(score.logprobs, bare.logprobs, rtol=0, atol=1e-3)
        assert bare.divergences is None
        if request.divergence:
            assert_as_naive(engine, request, score)


def test_it_grows_with_the_dose_either_way() -> None:
    engine = models.engine("llama")
    for sign in (1, -1):
        doses = (0.05, 0.1, 0.2, 0.4, 0.8)
        scores = engine.score(
            [ScoreRequest(PROMPTS[0], (TAILS[0],), one(sign * dose), divergence=True) for dose in doses]
        )
        means = [float(score.divergences[0].mean()) for score in scores]
        assert all(low < high for low, high in pairwise(means))
        assert means[0] > 0
        # near 0 it grows as the square
        assert means[1] / means[0] == pytest.approx(4, rel=0.5)


def test_a_long_text_in_slabs_and_a_small_batch() -> None:
    """Slabs, and batches that hold two rows, change nothing."""
    engine = models.engine("llama")
    request = ScoreRequest(PROMPTS[0], (" ".join(models.stories(2, seed=1)), TAILS[0]), one(0.3), divergence=True)
    requests = [request, replace(request, steering=one(-0.2)), replace(request, steering=None)]
    whole = engine.score(requests)
    with patch.object(torch_score, "_SLAB_OF_TWO", 7), patch.object(torch_score, "ON_CPU", 40):
        parts = engine.score(requests)
    for each, score, again in zip(requests, whole, parts, strict=True):
        assert score.divergences is not None
        assert again.divergences is not None
        for one_way, other in zip(score.divergences, again.divergences, strict=True):
            np.testing.assert_allclose(one_way, other, rtol=1e-3, atol=1e-5)
        assert_as_naive(engine, each, again)


def test_a_chat() -> None:
    engine = models.engine("llama")
    chat = (Message("user", "What now?"), Message("assistant", "The rain"))
    (score,) = engine.score([ScoreRequest(chat, (" had stopped",), one(0.5), divergence=True)])
    opened = "<|user|>What now?<|end|><|assistant|>The rain"
    (bare,) = engine.score([ScoreRequest(opened, (" had stopped",), one(0.5), divergence=True)])
    assert score.divergences is not None
    assert bare.divergences is not None
    np.testing.assert_allclose(score.divergences[0], bare.divergences[0], rtol=1e-4, atol=1e-6)


def test_in_bfloat16_it_is_a_number_and_not_negative() -> None:
    engine = models.engine("llama")
    engine.model.to(torch.bfloat16)
    for score in engine.score(sweep(one(0.0), one(0.01), one(0.4))):
        assert score.divergences is not None
        assert all((moved >= 0).all() and np.isfinite(moved).all() for moved in score.divergences)


def test_nan_is_named() -> None:
    engine = models.engine("llama")
    with torch.no_grad():
        engine.parts.head.weight[7] = torch.nan
    with pytest.raises(NumericalError, match="NaN or Inf in the scores of continuation 0"):
        engine.score([ScoreRequest(PROMPTS[0], (" yes",), one(0.3), divergence=True)])


@pytest.mark.parametrize("compared", [False, True])
def test_nan_ends_the_call_after_its_batch(compared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = models.engine("llama")
    with torch.no_grad():
        engine.parts.head.weight[7] = torch.nan
    name = "_divergences" if compared else "_log_probabilities"
    plain, batches = getattr(torch_score._Call, name), []

    def counted(call: torch_score._Call, *batch: Any) -> Any:
        batches.append(batch)
        return plain(call, *batch)

    monkeypatch.setattr(torch_score._Call, name, counted)
    monkeypatch.setattr(torch_score, "ON_CPU", 1)
    with pytest.raises(NumericalError):
        engine.score([ScoreRequest(PROMPTS[0], (" yes",), one(dose), divergence=compared) for dose in (0.1, 0.2, 0.3)])
    assert len(batches) == 1
