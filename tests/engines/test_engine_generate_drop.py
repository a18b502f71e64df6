"""Rows that are done leave a generation batch: the others write what they would have written anyway."""

from __future__ import annotations

import numpy as np
import pytest

import models
from heartstrings.core.engine import GenerateRequest
from heartstrings.core.steering import Intervention, Span, Steering
from heartstrings.engines.hf import _generate as torch_generate

LENGTHS = (1, 2, 3, 3, 9, 4, 24, 17)


def requests() -> list[GenerateRequest]:
    """Of uneven prompts and limits; every other one steered, one of them on generated tokens only."""
    direction = np.random.default_rng(0).normal(size=models.WIDTH).astype(np.float32)
    steered = [
        None,
        Steering((Intervention(1, direction, 0.3, 2.0),)),
        None,
        Steering((Intervention(1, direction, -0.4, 2.0),), positions="generated"),
        Steering((Intervention(2, direction, 0.5, 2.0),), positions=Span(0, 3)),
    ]
    texts = models.stories(len(LENGTHS), words=(3, 30), seed=3)
    return [
        GenerateRequest(text, max_new_tokens=length, seed=n, steering=steered[n % len(steered)])
        for n, (text, length) in enumerate(zip(texts, LENGTHS, strict=True))
    ]


@pytest.mark.parametrize("family", models.DECODERS)
def test_dropping_rows_changes_no_text(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = models.engine(family)
    engine.model.generation_config.eos_token_id = None
    engine.tokenizer.eos_token = None
    sizes: list[int] = []
    choose = torch_generate._choose

    def watched(logits, rows):
        sizes.append(len(rows))
        return choose(logits, rows)

    monkeypatch.setattr(torch_generate, "_choose", watched)
    dropped = engine.generate(requests())
    shrank = sizes[-1] < sizes[0]
    assert [len(one.token_ids) for one in dropped] == list(LENGTHS)
    monkeypatch.setattr(torch_generate, "_worth_dropping", lambda going, live, cache: False)
    kept = engine.generate(requests())
    assert [one.token_ids for one in dropped] == [one.token_ids for one in kept]
    # Recurrent states cannot be cut; everything else is.
    assert shrank == (not family.startswith("qwen3_5")), family
