"""Rows of one text share the blocks before the first steered one, and nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import models
from heartstrings import Intervention, Steering
from heartstrings.core.engine import ScoreRequest
from heartstrings.engines.hf._sharing import Shortcut
from steered_reference import assert_untouched, state_of

PROMPTS = ("The rain had stopped before she reached the harbour.", "A train went by.")


def sweep(layer: int = 2, site: Any = "block", tails: tuple[str, ...] = (" yes", " no")) -> list[ScoreRequest]:
    row = np.random.default_rng(4).normal(size=models.WIDTH).astype(np.float32)
    doses = (-0.6, -0.2, 0.0, 0.2, 0.6)
    steered = [Steering((Intervention(layer, row, dose, 5.0, site=site),)) for dose in doses]
    return [ScoreRequest(prompt, tails, one) for one in (None, *steered) for prompt in PROMPTS]


def values(engine: Any, requests: list[ScoreRequest]) -> np.ndarray:
    return np.concatenate([np.concatenate(score.token_logprobs) for score in engine.score(requests)])


def rows_through(engine: Any, block: int, requests: list[ScoreRequest]) -> list[int]:
    """Rows of each pass through one block's first matrix: hooks on the block itself would not see what is skipped."""
    seen: list[int] = []
    module = engine.parts.blocks[block].mlp
    handle = module.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    try:
        engine.score(requests)
    finally:
        handle.remove()
    return seen


@pytest.mark.parametrize("site", ["block", "attention", "mlp"])
def test_the_blocks_below_run_once_a_text(site: str) -> None:
    engine = models.engine("llama")
    engine.score(sweep(site=site))  # the comparison with the plain way is behind it now
    last_shared = 2 if site == "block" else 1
    for block in range(4):
        # Five ways: dose 0 is the baseline; two replies of one token each share a row with them.
        first = 1 if block <= last_shared else 5
        assert rows_through(engine, block, sweep(site=site, tails=("a", "b"))) == [2 * first]


@pytest.mark.parametrize("family", models.DECODERS)
def test_sharing_changes_nothing_or_is_given_up(family: str) -> None:
    engine = models.engine(family)
    before = state_of(engine.model)
    forwards = [block.__dict__.get("forward") for block in engine.parts.blocks]
    found = values(engine, sweep())
    assert engine._trunks.works == (not family.startswith("gemma4")), "gemma4's last blocks reuse earlier keys"
    engine.share_trunk = False
    np.testing.assert_allclose(found, values(engine, sweep()), rtol=0, atol=1e-4)
    assert [block.__dict__.get("forward") for block in engine.parts.blocks] == forwards
    assert_untouched(engine.model, before)


def test_a_block_that_leaves_something_behind_is_noticed() -> None:
    """The last block adds the second one's output: skipping that one must not go unnoticed, nor be tried again."""
    engine = models.engine("llama")
    blocks, kept = engine.parts.blocks, {}
    blocks[1].register_forward_hook(lambda _, inputs, output: kept.update(seen=inputs[0]))
    blocks[3].register_forward_hook(lambda _, inputs, output: output + kept["seen"][: len(output)].roll(1, dims=1))
    found = values(engine, sweep(tails=(" yes, she", " no, he")))
    engine.share_trunk = False
    np.testing.assert_allclose(found, values(engine, sweep(tails=(" yes, she", " no, he"))), rtol=0, atol=1e-4)


def test_interrupted_in_the_trunk() -> None:
    engine = models.engine("llama")
    before, expected = state_of(engine.model), values(engine, sweep())
    norm = engine.parts.final_norm
    forward = norm.forward

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    norm.forward = interrupt
    with pytest.raises(KeyboardInterrupt):
        engine.score(sweep())
    norm.forward = forward
    del norm.forward
    assert not any("forward" in block.__dict__ for block in engine.parts.blocks)
    assert_untouched(engine.model, before)
    assert np.array_equal(expected, values(engine, sweep()))


def test_in_bfloat16() -> None:
    engine = models.engine("llama")
    model = engine.model.to(torch.bfloat16)
    found = values(engine, sweep())
    assert engine._trunks == Shortcut(works=True, proven={3})
    engine.share_trunk = False
    np.testing.assert_allclose(found, values(engine, sweep()), rtol=0, atol=0.5)
    assert model.dtype == torch.bfloat16
