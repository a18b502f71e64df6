"""Steering a request at a time: positions, units, company, refusals, and a model that is left as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import models
from heartstrings import Intervention, Steering
from heartstrings.core.engine import GenerateRequest, Message, ScoreRequest
from heartstrings.core.errors import HeartstringsError, InputError, ModelError, NumericalError
from heartstrings.core.steering import Characters, Positions, Span
from heartstrings.engines.hf import _score as torch_score
from heartstrings.engines.hf.engine import TorchEngine
from steered_reference import assert_untouched, state_of

PROMPTS = ("The rain had stopped.", "A train went by. " * 4, "He counted the coins twice, put them back.")
TAILS = (" yes, said she", " no")
DRAW = np.random.default_rng(7).normal(size=(6, models.WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def llama() -> TorchEngine:
    engine: TorchEngine = models.engine("llama")
    engine.model.generation_config.eos_token_id = None
    engine.tokenizer.eos_token = None
    return engine


def push(positions: Positions = "all", *, layer: int = 1, dose: float = 0.5, row: int = 0, **more: Any) -> Steering:
    return Steering((Intervention(layer, DRAW[row], dose, 5.0, **more),), positions)


def scores(engine: TorchEngine, *requests: ScoreRequest) -> list[np.ndarray]:
    return [np.concatenate(score.token_logprobs) for score in engine.score(requests)]


def one(engine: TorchEngine, steering: Steering | None, prompt: Any = PROMPTS[0]) -> np.ndarray:
    return scores(engine, ScoreRequest(prompt, TAILS, steering))[0]


# --- company ------------------------------------------------------------------------------------------------

ENGINE: TorchEngine = models.engine("qwen3")
PLACES: tuple[Positions, ...] = ("all", "prompt", "generated", Span(1, 3), Span(2))


def any_steering(draw: np.random.Generator) -> Steering | None:
    chain = [
        Intervention(
            int(draw.integers(4)),
            DRAW[draw.integers(6)],
            float(draw.choice([-0.8, -0.1, 0.0, 0.3])),
            5.0,
            ("add", "clamp", "ablate")[draw.integers(3)],
            ("block", "attention", "mlp")[draw.integers(3)],
        )
        for _ in range(draw.integers(4))
    ]
    return Steering(tuple(chain), PLACES[draw.integers(5)]) if chain else None


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 8), budget=st.sampled_from([8192, 60]))
def test_alone_or_in_any_company(seed: int, size: int, budget: int) -> None:
    draw = np.random.default_rng(seed)
    requests = [ScoreRequest(PROMPTS[draw.integers(3)], TAILS, any_steering(draw)) for _ in range(size)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_score, "ON_CPU", budget)
        together = scores(ENGINE, *requests)
        patch.setattr(ENGINE, "share_trunk", False)
        for request, found in zip(requests, together, strict=True):
            np.testing.assert_allclose(found, scores(ENGINE, request)[0], rtol=0, atol=1e-4)


def test_a_seed_gives_the_same_text_in_any_steered_batch(llama: TorchEngine) -> None:
    requests = [
        GenerateRequest(PROMPTS[n % 3], max_new_tokens=8, seed=n, steering=steering)
        for n, steering in enumerate((None, push(), push("prompt", layer=2), push("generated", dose=-0.7), None))
    ]
    together = llama.generate(requests)
    for request, found in zip(requests, together, strict=True):
        assert llama.generate([request])[0].token_ids == found.token_ids
    unsteered = llama.generate([replace(request, steering=None) for request in requests])
    assert [a.token_ids == b.token_ids for a, b in zip(unsteered, together, strict=True)][::4] == [True, True]
    assert unsteered[3].token_ids[0] == together[3].token_ids[0], "its first token is drawn before any is generated"
    assert sum(a.token_ids != b.token_ids for a, b in zip(unsteered, together, strict=True)) >= 2


def test_rows_that_are_not_steered_keep_their_bits(llama: TorchEngine) -> None:
    """What the neighbour is steered by does not reach a row's last bit."""
    llama.share_trunk = False
    try:
        quiet = ScoreRequest(PROMPTS[0], (" yes",))
        loud = [ScoreRequest(PROMPTS[0], (" yes",), push(dose=dose)) for dose in (0.1, 900.0)]
        first, second = (scores(llama, quiet, other)[0] for other in loud)
        assert np.array_equal(first, second)
    finally:
        del llama.share_trunk


# --- units and positions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2.0, 1e-3])
@pytest.mark.parametrize("operation", ["add", "clamp", "ablate"])
def test_a_direction_s_length_does_not_count(llama: TorchEngine, scale: float, operation: Any) -> None:
    plain = push(operation=operation)
    scaled = Steering((replace(plain.interventions[0], direction=DRAW[0] * np.float32(scale)),))
    found, expected = one(llama, scaled), one(llama, plain)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0 if scale == 2 else 1e-5)
    assert not np.allclose(expected, one(llama, None), atol=1e-3)


def test_dose_times_norm_is_what_counts(llama: TorchEngine) -> None:
    double = Steering((replace(push().interventions[0], dose=1.0, norm=2.5),))
    assert np.array_equal(one(llama, double), one(llama, push()))
    assert np.array_equal(one(llama, push(dose=0.0)), one(llama, None))


def test_positions_name_the_same_tokens(llama: TorchEngine) -> None:
    n_prompt = len(llama.tokenizer(PROMPTS[0])["input_ids"])
    n_all = n_prompt + len(llama.tokenizer(TAILS[0], add_special_tokens=False)["input_ids"])
    same: list[tuple[Positions, Positions]] = [
        ("all", Span(0)),
        ("all", Span(0, n_all)),
        ("prompt", Span(0, n_prompt)),
        ("generated", Span(n_prompt)),
    ]
    for named, span in same:
        assert np.array_equal(one(llama, push(named)), one(llama, push(span)))
    different = [one(llama, push(positions)).tobytes() for positions in ("all", "prompt", "generated", Span(1, 2))]
    assert len(set(different)) == 4


def test_characters_are_those_of_the_rendered_text(llama: TorchEngine) -> None:
    offsets = llama.tokenizer(PROMPTS[0], return_offsets_mapping=True)["offset_mapping"]
    start = PROMPTS[0].index("stopped")
    inside = [n for n, (a, b) in enumerate(offsets) if a < start + 7 and b > start]
    span = Span(inside[0], inside[-1] + 1)
    assert np.array_equal(one(llama, push(Characters(start, start + 7))), one(llama, push(span)))
    chat = (Message("user", "Did the train go by?"),)
    text = "<s><|user|>Did the train go by?<|end|><|assistant|><|quiet|>"
    at = text.index("train")
    tokens = llama.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    inside = [n for n, (a, b) in enumerate(tokens) if a < at + 5 and b > at]
    assert np.array_equal(
        one(llama, push(Characters(at, at + 5)), chat), one(llama, push(Span(inside[0], inside[-1] + 1)), chat)
    )


# --- refusals -----------------------------------------------------------------------------------------------

WIDE = Steering((Intervention(1, np.ones(models.WIDTH + 1, np.float32), 0.1, 5.0),))
BAD: dict[str, tuple[Steering, str]] = {
    "width": (WIDE, "width 33.*Expected 32"),
    "layer": (push(layer=4), "layer 4.*from 0 to 3"),
    "span": (push(Span(400)), "tokens 400 to the end"),
    "span end": (push(Span(1, 400)), "tokens 1 to 399"),
    "characters": (push(Characters(3, 900)), "characters 3 to 899"),
    "overflow": (push(dose=1e38), "float32 cannot hold"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused_before_anything_runs(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = models.engine("llama")

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the model should not run")

    monkeypatch.setattr(engine.model.model, "forward", never)
    steering, words = BAD[case]
    with pytest.raises(HeartstringsError, match=words) as caught:
        engine.score([ScoreRequest(PROMPTS[0], (" yes",)), ScoreRequest(PROMPTS[1], TAILS, steering)])
    assert "request 1" in str(caught.value)
    with pytest.raises(HeartstringsError, match=words):
        engine.generate([GenerateRequest(PROMPTS[0]), GenerateRequest(PROMPTS[1], max_new_tokens=4, steering=steering)])


def test_positions_without_a_token_that_is_fed_are_refused(llama: TorchEngine) -> None:
    """A text's last token is predicted and never fed: steering it would be the baseline in disguise."""
    with pytest.raises(InputError, match="steers no token"):
        llama.score([ScoreRequest(PROMPTS[0], ("a", "b"), push("generated"))])
    with pytest.raises(InputError, match="steers no token"):
        llama.generate([GenerateRequest(PROMPTS[0], max_new_tokens=1, steering=push("generated"))])


def test_a_site_that_is_not_there_is_refused() -> None:
    engine = models.engine("llama")
    block = engine.parts.blocks[1]
    block.other_name, block.mlp = block.mlp, None
    del block._modules["mlp"]
    with pytest.raises(ModelError, match="has no mlp sublayer"):
        engine.score([ScoreRequest(PROMPTS[0], TAILS, push(site="mlp"))])


# --- did it move? -------------------------------------------------------------------------------------------

VERBS: dict[str, Callable[[TorchEngine, Steering], Any]] = {
    "score": lambda engine, steering: engine.score([ScoreRequest(PROMPTS[0], TAILS, steering)]),
    "generate": lambda engine, steering: engine.generate(
        [GenerateRequest(PROMPTS[0], max_new_tokens=3, steering=steering)]
    ),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_block_whose_output_is_not_what_flows_on(verb: str) -> None:
    engine = models.engine("llama")
    kept: dict[str, torch.Tensor] = {}
    blocks = engine.parts.blocks
    blocks[1].register_forward_hook(lambda _, inputs, output: kept.update(own=output))
    blocks[2].register_forward_pre_hook(lambda _, inputs: (kept["own"], *inputs[1:]))
    with pytest.raises(ModelError, match="did not move the residual as asked"):
        VERBS[verb](engine, push())
    VERBS[verb](engine, push(layer=2))


@pytest.mark.parametrize("verb", VERBS)
def test_a_module_that_does_not_run(verb: str) -> None:
    engine = models.engine("llama")
    attention = engine.parts.blocks[1].self_attn
    engine.parts.blocks[1].forward = lambda hidden_states, **_: hidden_states
    with pytest.raises(ModelError, match="it did not run"):
        VERBS[verb](engine, push(site="attention"))
    assert not attention._forward_hooks


def test_float16_that_overflows_is_an_error() -> None:
    engine = models.engine("llama")
    engine.model.to(torch.float16)
    with pytest.raises(NumericalError, match="NaN or Inf"):
        engine.score([ScoreRequest(PROMPTS[0], TAILS, push(dose=1e6))])


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_left_as_it_was_after_exceptions(verb: str, error: type[BaseException]) -> None:
    engine = models.engine("llama")
    before, expected = state_of(engine.model), one(engine, push())
    calls = 0
    run = engine.parts.blocks[3].mlp.forward

    def interrupted(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise error
        return run(*given, **named)

    engine.parts.blocks[3].mlp.forward = interrupted
    engine._trunks.works = False  # its comparison with the plain way may swallow a block's own failure
    with pytest.raises(error):
        VERBS[verb](engine, push())
    del engine.parts.blocks[3].mlp.forward
    engine._trunks.works = True
    assert_untouched(engine.model, before)
    assert np.array_equal(one(engine, push()), expected)
