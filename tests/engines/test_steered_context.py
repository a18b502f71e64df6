"""`with engine.steered(...)`: plain transformers calls against a naive reference, a row at a time without cache."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from transformers import StaticCache, pipeline

import heartstrings
import models
from heartstrings import Intervention, Steering, corpus
from heartstrings.core.engine import GenerateRequest, ScoreRequest
from heartstrings.core.errors import HeartstringsError, InputError
from heartstrings.core.steering import Characters, Positions, Span
from heartstrings.engines.hf._session import calibration_norms
from heartstrings.engines.hf.engine import TorchEngine
from heartstrings.engines.hf.run import cache_argument, cache_of
from heartstrings.vectors import extract
from heartstrings.vectors.algebra import Direction
from interop_support import bundle
from steered_reference import (
    KINDS,
    NEW,
    PROMPTS,
    assert_as_reference,
    assert_untouched,
    generated,
    padded,
    reference,
    state_of,
    steering_of,
)


@pytest.fixture(scope="module")
def llama() -> TorchEngine:
    engine: TorchEngine = models.engine("llama")
    return engine


@pytest.mark.parametrize("family", models.DECODERS)
def test_every_family_generates_as_the_reference(family: str) -> None:
    """A left-padded batch with a cache, greedy; every kind of positions."""
    engine = models.engine(family)
    before = state_of(engine.model)
    unsteered = generated(engine)
    for positions in KINDS:
        steering = steering_of(engine, positions)
        with engine.steered(steering) as said:
            assert said is steering
            result = generated(engine)
        assert_as_reference(engine, result, steering)
        assert max(float((a - b).abs().max()) for a, b in zip(result.logits, unsteered.logits, strict=True)) > 1e-2
    assert_untouched(engine.model, before)
    again = generated(engine)
    assert all(torch.equal(a, b) for a, b in zip(unsteered.logits, again.logits, strict=True))


@pytest.mark.parametrize("positions", KINDS)
@pytest.mark.parametrize("way", ["sampled", "several", "beams"])
def test_ways_to_generate(llama: TorchEngine, way: str, positions: Positions) -> None:
    steering = steering_of(llama, positions)
    torch.manual_seed(5)
    if way == "sampled":
        with llama.steered(steering):
            result = generated(llama, do_sample=True, temperature=1.5)
        assert_as_reference(llama, result, steering)
        return
    settings: dict[str, Any] = {"num_beams": 3} if way == "beams" else {"do_sample": True}
    with llama.steered(steering):
        result = generated(llama, num_return_sequences=2, output_scores=True, **settings)
    width = max(map(len, PROMPTS))
    for row in range(2 * len(PROMPTS)):
        prompt = PROMPTS[row // 2]
        ids = prompt + result.sequences[row, width:].tolist()
        logits = reference(llama, ids, len(prompt), steering)[len(prompt) - 1 : -1]
        if way == "beams":
            each = torch.log_softmax(logits, dim=1).gather(1, torch.tensor(ids[len(prompt) :])[:, None])
            assert float(result.sequences_scores[row]) == pytest.approx(float(each.sum()) / NEW, abs=1e-4)
        else:
            torch.testing.assert_close(torch.stack([step[row] for step in result.logits]), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", ["left", "right", "none"])
def test_a_single_forward_call(llama: TorchEngine, side: str) -> None:
    """All of it is prompt; padding on either side is not counted."""
    for positions in ("all", "prompt", Span(1, 3), Span(5)):
        steering = steering_of(llama, positions)
        batch = padded()
        if side == "right":
            batch = {
                name: torch.stack(
                    [
                        row.roll(-int((mask == 0).sum()))
                        for row, mask in zip(value, padded()["attention_mask"], strict=True)
                    ]
                )
                for name, value in batch.items()
            }
        if side == "none":
            batch = {"input_ids": torch.tensor(PROMPTS[:1])}
        with llama.steered(steering), torch.no_grad():
            found = llama.model(**batch).logits
        for row, prompt in enumerate(PROMPTS[: len(found)]):
            real = batch["attention_mask"][row].bool() if side != "none" else slice(None)
            expected = reference(llama, prompt, len(prompt), steering)
            torch.testing.assert_close(found[row][real], expected, rtol=1e-4, atol=1e-4)


def test_padding_keeps_its_bits(llama: TorchEngine) -> None:
    batch = padded()
    kept: list[torch.Tensor] = []

    def look(_module: object, _inputs: object, output: Any) -> None:
        kept.append(output[0] if isinstance(output, tuple) else output)

    for steering in (None, steering_of(llama)):
        with contextlib.nullcontext() if steering is None else llama.steered(steering), torch.no_grad():
            handle = llama.parts.blocks[1].register_forward_hook(look)
            llama.model(**batch)
            handle.remove()
    real = batch["attention_mask"].bool()
    assert torch.equal(kept[0][~real], kept[1][~real])
    assert not torch.isclose(kept[0][real], kept[1][real]).all(dim=-1).any()


def cached(llama: TorchEngine, cache: Any) -> dict[str, Any]:
    """The argument that hands a cache to the model, whose name depends on the version of transformers."""
    return {cache_argument(llama.model): cache}


@pytest.mark.parametrize("positions", ["generated", Span(10)])
def test_a_loop_of_one_s_own(llama: TorchEngine, positions: Positions) -> None:
    """The cache that the model makes itself is followed, without any mask."""
    steering = steering_of(llama, positions)
    ids = list(PROMPTS[0])
    with llama.steered(steering), torch.no_grad():
        output = llama.model(torch.tensor([ids]))
        for _ in range(3):
            ids.append(int(output.logits[0, -1].argmax()))
            output = llama.model(torch.tensor([ids[-1:]]), **cached(llama, cache_of(output)))
    expected = reference(llama, ids, len(PROMPTS[0]), steering)
    torch.testing.assert_close(output.logits[0, -1], expected[-1], rtol=1e-4, atol=1e-4)


def test_pipeline(llama: TorchEngine) -> None:
    tokenizer = models.tokenizer(padding_side="left")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = pipeline("text-generation", model=llama.model, tokenizer=tokenizer)
        texts = ["The rain had stopped", "He counted the coins twice, put them back"]
        options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "batch_size": 2, "return_full_text": False}
        plain = pipe(texts, **options)
        with llama.steered(steering_of(llama)):
            steered = pipe(texts, **options)
        assert pipe(texts, **options) == plain
        assert steered != plain
    for text, found in zip(texts, steered, strict=True):
        ids = tokenizer(text)["input_ids"]
        n_prompt = len(ids)
        for _ in range(6):
            ids.append(int(reference(llama, ids, n_prompt, steering_of(llama))[-1].argmax()))
        assert tokenizer.decode(ids[n_prompt:], skip_special_tokens=True) == found[0]["generated_text"]


def test_nested_ones_add_up(llama: TorchEngine) -> None:
    outer, inner = steering_of(llama, "prompt"), steering_of(llama, Span(1), dose=-0.4)
    with llama.steered(outer):
        with llama.steered(inner):
            result = generated(llama)
        alone = generated(llama)
    assert_as_reference(llama, result, outer, inner)
    assert_as_reference(llama, alone, outer)


def test_gone_after_exceptions(llama: TorchEngine) -> None:
    before = state_of(llama.model)
    plain = generated(llama)

    for error in (ValueError("mine"), KeyboardInterrupt()):

        def interrupt(*_: object, error: BaseException = error) -> None:
            raise error

        handle = llama.parts.blocks[2].register_forward_pre_hook(interrupt)
        try:
            with pytest.raises(type(error)), llama.steered(steering_of(llama)):
                generated(llama)
        finally:
            handle.remove()
        assert_untouched(llama.model, before)
    assert all(torch.equal(a, b) for a, b in zip(plain.logits, generated(llama).logits, strict=True))
    assert llama.score([ScoreRequest("The rain", (" fell",))])


def test_gradients_and_training_flags_are_left_alone(llama: TorchEngine) -> None:
    ids = torch.tensor(PROMPTS[:1])
    with llama.steered(steering_of(llama)):
        loss = llama.model(ids, labels=ids).loss
        loss.backward()
        assert llama.model.training is False
    assert float(llama.parts.blocks[0].self_attn.q_proj.weight.grad.abs().max()) > 0
    llama.model.zero_grad(set_to_none=True)


def test_the_issue_s_one_liner_uses_the_norms_of_extraction(tmp_path: Any) -> None:
    """A direction knows no norms: the engine measures them, and gets what a bundle holds."""

    def with_a_sink() -> TorchEngine:
        engine: TorchEngine = models.engine("llama", seed=1)
        with torch.no_grad():
            engine.model.get_input_embeddings().weight[1] *= 300  # the BOS: left out of the norms
        return engine

    engine = with_a_sink()
    emotions = ("calm", "sad", "joyful")
    rows = [
        corpus.Story(emotion=emotions[n % 3], topic=f"t{n // 3}", text=text, author="a generator")
        for n, text in enumerate(models.stories(12, words=(30, 60)))
    ]
    stories = corpus.Corpus(stories=tuple(rows), author="a generator", source="made up")
    vectors = extract(engine, stories, out=tmp_path / "v", poolings=[heartstrings.Pooling(start=5)])["from5"]
    np.testing.assert_allclose(calibration_norms(engine, engine.parts, "block"), vectors.norms, rtol=1e-6)
    assert vectors.provenance.n_sinks > 0
    fresh = with_a_sink()
    with fresh.steered(vectors["sad"], dose=0.4, layer=1), fresh.steered(vectors["calm"], dose=0.1, layer=2) as said:
        inner = generated(fresh)
        inside = calibration_norms(fresh, fresh.parts, "mlp")  # measured unsteered all the same
    np.testing.assert_array_equal(inside, calibration_norms(engine, engine.parts, "mlp"))
    bundled = heartstrings.make_steering(vectors, "calm", dose=0.1, layers=2, variant="raw")
    assert said.describe() == bundled.describe()
    assert said.interventions[0].norm == pytest.approx(bundled.interventions[0].norm, rel=1e-6)
    outer = heartstrings.make_steering(vectors, "sad", dose=0.4, layers=1, variant="raw")
    assert_as_reference(fresh, inner, outer, bundled)
    with fresh.steered("calm - 0.5*sad", dose=0.2, layer=[1, 3], vectors=vectors) as said:
        generated(fresh)
    assert said == heartstrings.make_steering(vectors, "calm - 0.5*sad", dose=0.2, layers=[1, 3])


def test_the_engine_s_own_verbs_inside() -> None:
    """`pool` and `read` have no steering of their own to be added to."""
    engine = models.engine("llama")
    with engine.steered(steering_of(engine)):
        for verb in (
            lambda: engine.read(["The rain"], np.ones((1, 1, 32), np.float32), layers=[1]),
            lambda: list(engine.pool(["The rain had stopped"])),
            lambda: engine.unembed(np.ones((1, 32), np.float32)),
        ):
            with pytest.raises(HeartstringsError, match="takes no steering"):
                verb()
    assert engine.read(["The rain"], np.ones((1, 1, 32), np.float32), layers=[1])


def test_score_and_generate_inside_are_steered_like_their_requests() -> None:
    engine = models.engine("llama")
    outer, own = steering_of(engine), steering_of(engine, dose=-0.3)
    together = Steering(outer.interventions + own.interventions)
    prompts = ["The rain had", "He counted the coins"]

    def scores(steering: Steering | None) -> list[tuple[float, ...]]:
        return [s.logprobs for s in engine.score([ScoreRequest(p, (" fell", " twice"), steering) for p in prompts])]

    def texts(steering: Steering | None) -> list[tuple[int, ...]]:
        requests = [GenerateRequest(p, max_new_tokens=5, seed=n, steering=steering) for n, p in enumerate(prompts)]
        return [c.token_ids for c in engine.generate(requests)]

    with engine.steered(outer):
        found = [scores(None), scores(own), texts(None), texts(own)]
        outside = generated(engine)
        with pytest.raises(InputError, match="the same positions"):
            scores(steering_of(engine, "prompt"))
    assert_as_reference(engine, outside, outer)
    assert found == [scores(outer), scores(together), texts(outer), texts(together)]
    assert scores(None) != scores(outer)


def test_refused_before_anything_runs(llama: TorchEngine) -> None:
    calm = Direction("calm", (1, 9), np.ones((2, llama.info.width)))
    vectors = bundle((0, 1, 3))
    cases: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
        ((calm,), {"dose": 0.1, "layer": 9}, "layer 9"),
        ((calm,), {"dose": 0.1, "layer": 2}, "layer 2"),
        ((calm,), {"dose": 0.1}, "without a layer"),
        ((calm,), {"layer": 1}, "without a dose"),
        (("calm",), {"dose": 0.1, "layer": 1}, "without a bundle"),
        (("calm",), {"dose": 0.1, "layer": 1, "vectors": vectors}, "width 16"),
        ((Direction("short", (1,), np.ones((1, 5))),), {"dose": 0.1}, "width 5"),
        ((Direction("none", (1,), np.zeros((1, 32))),), {"dose": 0.1}, "cancels"),
        ((calm,), {"dose": 0.1, "layer": 1, "positions": Characters(0, 3)}, "tokens, not text"),
        ((steering_of(llama),), {"dose": 0.1}, "finished Steering"),
        ((calm,), {"dose": float("nan"), "layer": 1}, "finite"),
    ]
    before = state_of(llama.model)
    for given, named, says in cases:
        with pytest.raises(HeartstringsError, match=says):
            llama.steered(*given, **named)
    assert_untouched(llama.model, before)


def test_what_a_call_does_not_tell_is_refused(llama: TorchEngine) -> None:
    ids = torch.tensor(PROMPTS[:1])
    for positions in ("prompt", "generated"):
        with pytest.raises(HeartstringsError, match="without a cache"), llama.steered(steering_of(llama, positions)):
            generated(llama, use_cache=False)
        with pytest.raises(HeartstringsError, match="at once"), llama.steered(steering_of(llama, positions)):
            generated(llama, prefill_chunk_size=4)
        begun = cached(llama, cache_of(llama.model(ids[:, :4])))
        with pytest.raises(HeartstringsError, match="outside the `with`"), llama.steered(steering_of(llama, positions)):
            llama.model(ids[:, 4:], **begun)
    begun = cached(llama, cache_of(llama.model(ids[:, :4])))
    with pytest.raises(HeartstringsError, match="attention mask of shape"), llama.steered(steering_of(llama)):
        llama.model(ids[:, 4:], attention_mask=torch.ones(1, 5), **begun)
    at_mlp = Steering((Intervention(1, np.ones(32, np.float32), 1.0, 1.0, site="mlp"),))
    with pytest.raises(HeartstringsError, match="by itself"), llama.steered(at_mlp):
        llama.parts.blocks[1].mlp(torch.ones(1, 1, 32))
    with pytest.raises(HeartstringsError, match="expanded"), llama.steered(steering_of(llama, Span(1))):
        generated(llama, cache_implementation="static", disable_compile=True)


@pytest.mark.parametrize("positions", ["all", "prompt", "generated"])
def test_a_static_cache(llama: TorchEngine, positions: Positions) -> None:
    steering = steering_of(llama, positions)
    with llama.steered(steering):
        static = cached(llama, StaticCache(llama.model.config, max_cache_len=32))
        result = generated(llama, disable_compile=True, **static)
    assert_as_reference(llama, result, steering)


def test_chunks_do_not_matter_where_positions_are_known(llama: TorchEngine) -> None:
    for positions in ("all", Span(2, 11)):
        steering = steering_of(llama, positions)
        with llama.steered(steering):
            result = generated(llama, prefill_chunk_size=4)
            uncached = generated(llama, use_cache=False)
        assert_as_reference(llama, result, steering)
        assert_as_reference(llama, uncached, steering)


def test_steering_that_met_no_token_is_an_error(llama: TorchEngine) -> None:
    ids = torch.tensor(PROMPTS[:1])
    for positions in ("generated", Span(40)):
        with (
            pytest.raises(HeartstringsError, match="had a token to steer"),
            llama.steered(steering_of(llama, positions)),
        ):
            llama.model(ids)
    with llama.steered(steering_of(llama)):
        pass


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_an_encoder(family: str) -> None:
    """It has its mask, and everything in it is prompt."""
    engine = models.engine(family)
    one = Intervention(2, np.random.default_rng(0).normal(size=32).astype(np.float32), 0.5, 5.0)
    ids = torch.tensor([[2, 30, 31, 32, 3], [2, 40, 3, 0, 0]])
    mask = (ids != 0).long()
    with torch.no_grad():
        plain = engine.model(ids, attention_mask=mask).last_hidden_state
        with engine.steered(Steering((one,), Span(2))):
            found = engine.model(ids, attention_mask=mask).last_hidden_state
            alone = engine.model(ids[1:, :3]).last_hidden_state
    torch.testing.assert_close(found[1, :3], alone[0], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found[mask.bool()], plain[mask.bool()], atol=1e-3)
    with pytest.raises(InputError, match="generates none"):
        engine.steered(Steering((one,), "generated"))


def test_tokens_that_are_not_meant_keep_their_bits() -> None:
    """Also in bfloat16: what stands before the span is exactly as without."""
    engine = models.engine("llama")
    engine.model.to(torch.bfloat16)
    ids = torch.tensor(PROMPTS[:1])
    with torch.no_grad():
        plain = engine.model(ids).logits[0]
        with engine.steered(steering_of(engine, Span(4))):
            found = engine.model(ids).logits[0]
    assert torch.equal(plain[:4], found[:4])
    assert not torch.equal(plain[4], found[4])
