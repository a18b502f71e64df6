"""Rows of one prompt share the blocks before the first steered one while it is read, and write the same texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import models
from heartstrings import Intervention, Steering
from heartstrings.core.engine import Completion, GenerateRequest
from steered_reference import assert_untouched, state_of

PROMPTS = ("The rain had stopped before she reached the harbour, and nobody was there.", "A train went by.")
"""Of different lengths: the shorter one is padded."""


def sweep(layers: tuple[int, ...] = (2,), site: Any = "block", **more: Any) -> list[GenerateRequest]:
    row = np.random.default_rng(4).normal(size=models.WIDTH).astype(np.float32)
    doses = (-0.6, -0.2, 0.2, 0.6)
    steered = [Steering((Intervention(layer, row, dose, 5.0, site=site),)) for layer in layers for dose in doses]
    return [
        GenerateRequest(prompt, max_new_tokens=8, seed=seed, steering=one, **more)
        for seed, one in enumerate((None, *steered))
        for prompt in PROMPTS
    ]


def texts(found: list[Completion]) -> list[tuple[int, ...]]:
    return [one.token_ids for one in found]


def rows_through(engine: Any, block: int, requests: list[GenerateRequest]) -> list[int]:
    """Rows of each pass through one block's first matrix, over prompts alone."""
    seen: list[int] = []

    def count(_: Any, inputs: Any) -> None:
        if inputs[0].shape[1] > 1:
            seen.append(len(inputs[0]))

    handle = engine.parts.blocks[block].mlp.register_forward_pre_hook(count)
    try:
        engine.generate(requests)
    finally:
        handle.remove()
    return seen


@pytest.mark.parametrize("site", ["block", "attention", "mlp"])
def test_the_blocks_below_run_once_a_prompt(site: str) -> None:
    engine = models.engine("llama")
    engine.generate(sweep((1, 2), site))  # the comparison with the plain way is behind it now
    more = 1 if site == "block" else 0
    for block in range(4):
        # Rows that are steered at block 1, then those of block 2 with the unsteered ones: a group each.
        own = [2 if block < layer + more else number for layer, number in ((1, 8), (2, 10))]
        assert rows_through(engine, block, sweep((1, 2), site)) == own


@pytest.mark.parametrize("family", models.DECODERS)
def test_sharing_changes_no_text_or_is_given_up(family: str) -> None:
    engine = models.engine(family)
    engine.model.generation_config.eos_token_id = None
    engine.tokenizer.eos_token = None
    before = state_of(engine.model)
    forwards = [block.__dict__.get("forward") for block in engine.parts.blocks]
    requests = [*sweep((1, 2), temperature=0), *sweep((2,), temperature=0.8)]
    found = engine.generate(requests)
    given_up = family.startswith(("gemma4", "qwen3_5"))
    assert engine._prefills.works == (not given_up), "kept keys of other blocks, or states of recurrent ones"
    assert engine._prefills.proven == (set() if given_up else {2, 3})
    engine.share_trunk = False
    assert texts(found) == texts(engine.generate(requests))
    assert [block.__dict__.get("forward") for block in engine.parts.blocks] == forwards
    assert_untouched(engine.model, before)


def test_prompts_that_are_all_different_are_fed_as_they_are() -> None:
    engine = models.engine("llama")
    requests = [GenerateRequest(text, max_new_tokens=4, seed=0) for text in models.stories(5, words=(3, 30), seed=3)]
    engine.generate(requests)
    assert not engine._prefills.proven
    assert engine._prefills.works


def test_steering_of_what_is_written_alone_shares_too() -> None:
    engine = models.engine("llama")
    row = np.random.default_rng(1).normal(size=models.WIDTH).astype(np.float32)
    requests = [
        GenerateRequest(PROMPTS[0], max_new_tokens=8, seed=0, temperature=0,
                        steering=Steering((Intervention(1, row, dose, 5.0),), positions="generated"))
        for dose in (-0.5, -0.1, 0.1, 0.5)
    ]  # fmt: skip
    found = engine.generate(requests)
    assert engine._prefills.proven == {2}
    engine.share_trunk = False
    assert texts(found) == texts(engine.generate(requests))
    assert len(set(texts(found))) > 1


def test_a_block_that_leaves_something_behind_is_noticed() -> None:
    """The last block adds the second one's input, which is not there where that block was skipped."""
    engine = models.engine("llama")
    blocks, kept = engine.parts.blocks, {}
    blocks[1].mlp.register_forward_hook(lambda _, inputs, output: kept.update(seen=inputs[0]))
    blocks[3].register_forward_hook(
        lambda _, inputs, output: output + (kept["seen"] if kept["seen"].shape == output.shape else 0)
    )
    found = engine.generate(sweep(temperature=0))
    assert not engine._prefills.works
    engine.share_trunk = False
    assert texts(found) == texts(engine.generate(sweep(temperature=0)))


def test_interrupted_in_the_shared_blocks() -> None:
    engine = models.engine("llama")
    before, expected = state_of(engine.model), texts(engine.generate(sweep()))
    norm = engine.parts.final_norm

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    norm.forward = interrupt
    with pytest.raises(KeyboardInterrupt):
        engine.generate(sweep())
    del norm.forward
    assert not any("forward" in block.__dict__ for block in engine.parts.blocks)
    assert_untouched(engine.model, before)
    assert texts(engine.generate(sweep())) == expected


def test_in_bfloat16() -> None:
    engine = models.engine("llama")
    engine.model.to(torch.bfloat16)
    engine.generate(sweep())
    assert engine._prefills.works
    assert engine._prefills.proven == {3}
