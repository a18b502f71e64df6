"""A prompt is fed once for all its continuations, and nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import models
from heartstrings import Intervention, Steering
from heartstrings.core.engine import ScoreRequest
from heartstrings.engines.hf._sharing import Shortcut

PROMPTS = ("The rain had stopped before she reached the harbour.", "A train went by.")
TAILS = (" yes, she said, and went home", " no", " no, he", " never, they said")


def sweep(positions: Any = "all", prompts: Any = PROMPTS, tails: Any = TAILS) -> list[ScoreRequest]:
    row = np.random.default_rng(4).normal(size=models.WIDTH).astype(np.float32)
    steered = [Steering((Intervention(2, row, dose, 5.0),), positions=positions) for dose in (-0.6, 0.2, 0.6)]
    return [ScoreRequest(prompt, tails, one) for one in (None, *steered) for prompt in prompts]


def values(engine: Any, requests: list[ScoreRequest]) -> np.ndarray:
    return np.concatenate([np.concatenate(score.token_logprobs) for score in engine.score(requests)])


@pytest.mark.parametrize("family", models.DECODERS)
def test_sharing_changes_nothing_or_is_given_up(family: str) -> None:
    engine = models.engine(family)
    found = values(engine, sweep())
    # Unproven: windows shorter than the texts, which a mask from outside would overrule, so no tree is made.
    expected = Shortcut(
        family not in models.RECURRENT, proven=set() if family in (*models.RECURRENT, *models.WINDOWED) else {0}
    )
    assert engine._branches == expected
    engine.share_trunk = False
    np.testing.assert_allclose(found, values(engine, sweep()), rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", models.WINDOWED)
def test_texts_within_the_window_are_shared(family: str) -> None:
    engine = models.engine(family)
    short = sweep(prompts=("The old harbour",), tails=(" no", " never"))
    found = values(engine, short)
    assert engine._branches == Shortcut(works=True, proven={0})
    engine.share_trunk = False
    np.testing.assert_allclose(found, values(engine, short), rtol=0, atol=1e-4)


@pytest.mark.parametrize("positions", ["all", "prompt", "generated"])
def test_each_continuation_is_steered_at_its_own_tokens(positions: str) -> None:
    engine = models.engine("llama")
    found = values(engine, sweep(positions))
    assert engine._branches == Shortcut(works=True, proven={0})
    engine.share_trunk = False
    np.testing.assert_allclose(found, values(engine, sweep(positions)), rtol=0, atol=1e-5)
    for request in sweep(positions):
        alone = [engine.score([ScoreRequest(request.prompt, (tail,), request.steering)])[0] for tail in TAILS]
        together = engine.score([request])[0]
        np.testing.assert_allclose(together.logprobs, [one.logprobs[0] for one in alone], rtol=0, atol=1e-4)
