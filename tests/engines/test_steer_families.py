"""Per-row steering of every decoder family against a naive single row: no padding, cache, trunk or company."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import models
from heartstrings import Intervention, Steering
from heartstrings.core.engine import GenerateRequest, ScoreRequest
from heartstrings.core.steering import Positions, Span
from heartstrings.engines.hf.engine import TorchEngine
from steered_reference import assert_untouched, reference, state_of

PROMPTS = ("The rain had stopped before she reached the harbour.", "A train", "He counted the coins twice. " * 3)
TAILS = (" yes", " the cups on the shelf", "?")
POSITIONS: tuple[Positions, ...] = ("all", "prompt", Span(1, 4), Span(2), "generated")
NEW = 5


def mixed(seed: int = 0) -> list[Steering | None]:
    """Each operation at each site, layers, doses and positions in turn; several at once; none."""
    draw = np.random.default_rng(seed)
    made: list[Steering | None] = [None]
    for number, operation in enumerate(("add", "clamp", "ablate") * 3):
        site = ("block", "attention", "mlp")[number // 3]
        row = draw.normal(size=models.WIDTH).astype(np.float32)
        one = Intervention(number % 4, row, float(draw.normal()) / 2, 5.0, operation, site)
        made.append(Steering((one,), POSITIONS[number % 4]))
    rows = draw.normal(size=(4, models.WIDTH)).astype(np.float32)
    several = (
        Intervention(2, rows[0], 0.6, 5.0),
        Intervention(2, rows[1], 0.2, 5.0, "clamp"),
        Intervention(1, rows[2], -0.5, 5.0, "add", "mlp"),
        Intervention(3, rows[3], 0.0, 5.0, "ablate"),
    )
    return [*made, Steering(several), Steering(several, "generated")]


def expected_score(engine: TorchEngine, prompt: str, tail: str, steering: Steering | None) -> np.ndarray:
    start = engine.tokenizer(prompt)["input_ids"]
    end = engine.tokenizer(tail, add_special_tokens=False)["input_ids"]
    logits = reference(engine, start + end, len(start), *([] if steering is None else [steering])).float()
    picked: np.ndarray = logits.log_softmax(-1)[range(len(start) - 1, len(start) + len(end) - 1), end].numpy()
    return picked


def reaches(steering: Steering | None, tail: str) -> bool:
    """A single token is predicted and not fed, so it cannot be steered as generated."""
    return steering is None or steering.positions != "generated" or len(tail) > 4


@pytest.mark.parametrize("family", models.DECODERS)
def test_scores_of_one_mixed_batch(family: str) -> None:
    engine = models.engine(family)
    before = state_of(engine.model)
    asked = [
        (prompt, tuple(tail for tail in TAILS if reaches(steering, tail)), steering)
        for steering in mixed()
        for prompt in PROMPTS
    ]
    got = engine.score([ScoreRequest(*one) for one in asked])
    engine.share_trunk = False
    plain = engine.score([ScoreRequest(*one) for one in asked])
    for (prompt, tails, steering), score, other in zip(asked, got, plain, strict=True):
        for index, tail in enumerate(tails):
            expected = expected_score(engine, prompt, tail, steering)
            np.testing.assert_allclose(score.token_logprobs[index], expected, rtol=0, atol=1e-4)
            np.testing.assert_allclose(other.token_logprobs[index], expected, rtol=0, atol=1e-4)
    assert_untouched(engine.model, before)


@pytest.mark.parametrize("family", models.DECODERS)
def test_greedy_completions_of_one_mixed_batch(family: str) -> None:
    """Token for token the naive ones, and the cached path's own choice is the most likely of the uncached one."""
    engine = models.engine(family)
    engine.model.generation_config.eos_token_id = None
    engine.tokenizer.eos_token = None
    before = state_of(engine.model)
    asked = [(prompt, steering) for steering in mixed(seed=1) for prompt in PROMPTS[:2]]
    got = engine.generate(
        [GenerateRequest(p, max_new_tokens=NEW, temperature=0, steering=steering) for p, steering in asked]
    )
    moved = 0
    for (prompt, steering), completion in zip(asked, got, strict=True):
        start = engine.tokenizer(prompt)["input_ids"]
        ids = start + list(completion.token_ids)
        logits = reference(engine, ids, len(start), *([] if steering is None else [steering]))
        picked = logits[len(start) - 1 : -1]
        chosen = picked.gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
        assert len(completion.token_ids) == NEW
        # Where two logits tie within rounding either choice is right; nowhere else.
        assert float((picked.amax(dim=1) - chosen).max()) < 1e-4
        moved += steering is not None and completion.token_ids != got[PROMPTS.index(prompt)].token_ids
    assert moved >= 2
    assert_untouched(engine.model, before)


@pytest.mark.parametrize("family", models.DECODERS)
def test_log_probabilities_through_the_cache_are_those_of_scoring(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every logit of the cached, left-padded path, step by step, against the naive row."""
    from heartstrings.engines.hf import _generate as torch_generate

    engine: Any = models.engine(family)
    engine.model.generation_config.eos_token_id = None
    engine.tokenizer.eos_token = None
    seen: list[torch.Tensor] = []
    choose = torch_generate._choose

    def spy(logits: Any, rows: Any) -> Any:
        seen.append(logits.clone()[np.argsort([row.number for row in rows])])
        return choose(logits, rows)

    monkeypatch.setattr(torch_generate, "_choose", spy)
    asked = [(PROMPTS[number % 2], steering) for number, steering in enumerate(mixed(seed=2))]
    got = engine.generate([GenerateRequest(p, max_new_tokens=NEW, seed=3, steering=s) for p, s in asked])
    for row, ((prompt, steering), completion) in enumerate(zip(asked, got, strict=True)):
        start = engine.tokenizer(prompt)["input_ids"]
        ids = start + list(completion.token_ids)
        logits = reference(engine, ids, len(start), *([] if steering is None else [steering]))[len(start) - 1 : -1]
        found = torch.stack([step[row] for step in seen])
        torch.testing.assert_close(found.log_softmax(-1), logits.float().log_softmax(-1), rtol=0, atol=1e-4)
