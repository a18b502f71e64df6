"""The tokens that all texts of a call begin with are fed once for each steering, and nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import models
from heartstrings import Intervention, Steering
from heartstrings.core.engine import ScoreRequest
from heartstrings.core.steering import Positions, Span
from heartstrings.engines.hf import _stem
from heartstrings.engines.hf._sharing import Shortcut
from heartstrings.engines.hf._steer import RowSteering

OPENING = "The old man at the harbour told them this story one evening. "
ENDS = ("A train went by.", "The rain had stopped before she came.", "Nobody spoke.", "He counted the cups twice.")
TAILS = (" yes, she said, and went home", " no")
POSITIONS: tuple[Positions, ...] = ("all", "prompt", "generated", Span(1, 4), Span(2))


def ways(positions: Positions = "all") -> list[Steering | None]:
    draw = np.random.default_rng(4)
    rows = draw.normal(size=(2, models.WIDTH)).astype(np.float32)
    steered = [
        Steering((Intervention(layer, row, dose, 5.0),), positions)
        for layer, row in zip((1, 2), rows, strict=True)
        for dose in (-0.6, 0.4)
    ]
    return [None, *steered]


def sweep(positions: Positions = "all", opening: str = OPENING, ends: Any = ENDS) -> list[ScoreRequest]:
    return [ScoreRequest(opening + end, TAILS, way) for end in ends for way in ways(positions)]


def values(engine: Any, requests: list[ScoreRequest]) -> np.ndarray:
    return np.concatenate([np.concatenate(score.token_logprobs) for score in engine.score(requests)])


def without(engine: Any, requests: list[ScoreRequest]) -> np.ndarray:
    engine.share_trunk = False
    return values(engine, requests)


@pytest.mark.parametrize("family", models.DECODERS)
def test_a_stem_changes_nothing_or_is_given_up(family: str) -> None:
    engine = models.engine(family)
    scores = values(engine, sweep())
    # Unproven: windows shorter than the texts.
    expected = Shortcut(
        family not in models.RECURRENT, proven=set() if family in (*models.RECURRENT, *models.WINDOWED) else {0}
    )
    assert engine._stems == expected
    again = values(engine, sweep())
    plain = without(engine, sweep())
    np.testing.assert_allclose(scores, plain, rtol=0, atol=1e-4)
    np.testing.assert_allclose(again, plain, rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", models.WINDOWED)
def test_texts_within_the_window_share_a_stem(family: str) -> None:
    engine = models.engine(family)
    short = [ScoreRequest(f"The old {noun}", (" no",), way) for noun in ("man", "cup", "sea", "dog") for way in ways()]
    scores = values(engine, short)
    assert engine._stems == Shortcut(works=True, proven={0})
    np.testing.assert_allclose(scores, without(engine, short), rtol=0, atol=1e-4)


@pytest.mark.parametrize("positions", POSITIONS, ids=str)
def test_steering_before_within_and_after_the_stem(positions: Positions) -> None:
    engine = models.engine("llama")
    scores = values(engine, sweep(positions))
    assert engine._stems == Shortcut(works=True, proven={0})
    np.testing.assert_allclose(scores, without(engine, sweep(positions)), rtol=0, atol=1e-5)


def test_one_prompt_for_all_is_fed_once_but_for_its_last_token() -> None:
    """As premises are: the question is empty, and only the replies differ."""
    engine = models.engine("llama")
    asked = [ScoreRequest(OPENING, (tail,), way) for tail in (" yes", " no", " a cup", " never") for way in ways()]
    scores = values(engine, asked)
    np.testing.assert_allclose(scores, without(engine, asked), rtol=0, atol=1e-5)


def test_fewer_tokens_run_through_the_last_block() -> None:
    engine = models.engine("llama")
    values(engine, sweep())  # what can be shared is found out once
    fed = {}
    for shared in (True, False):
        engine.share_trunk, tokens = shared, []
        handle = engine.parts.blocks[-1].register_forward_pre_hook(
            lambda _, inputs, tokens=tokens: tokens.append(inputs[0].shape[0] * inputs[0].shape[1])
        )
        values(engine, sweep())
        handle.remove()
        fed[shared] = sum(tokens)
    assert fed[True] < 0.5 * fed[False]


def test_a_stem_that_is_too_large_is_left_out_this_time(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = models.engine("llama")
    with monkeypatch.context() as patch:
        patch.setattr(_stem, "LARGEST", 0)
        scores = values(engine, sweep())
        assert engine._stems == Shortcut(works=True, proven=set())
    np.testing.assert_allclose(scores, values(engine, sweep()), rtol=0, atol=1e-5)
    assert engine._stems == Shortcut(works=True, proven={0})


def test_how_long_a_stem_is() -> None:
    texts = [np.array(ids, np.int32) for ids in ([5, 6, 7, 8, 1], [5, 6, 7, 9], [5, 6, 7, 8, 2])]
    row = RowSteering((Intervention(0, np.ones(2, np.float32), 1.0, 1.0),), 0, 9)
    assert _stem.stem_length(texts, 9, [row] * 12, n_fed=60) == 3
    assert _stem.stem_length(texts, 2, [row] * 12, n_fed=60) == 2, "the state of a prompt's last token is needed"
    assert _stem.stem_length(texts, 0, [row] * 12, n_fed=60) == 0
    assert _stem.stem_length(texts, 9, [row] * 12, n_fed=6000) == 0, "little would be saved"
    assert _stem.stem_length(texts, 9, [row, None], n_fed=9) == 0, "no two rows are steered alike"
    late = RowSteering(row.interventions, 3, 9)
    assert _stem.stem_length(texts, 9, [late, None, late], n_fed=9) == 3, "steered after the stem alone"
