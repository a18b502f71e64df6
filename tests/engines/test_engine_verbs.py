"""Reading, scoring, generating, unembedding: against the model's own numbers, alone and in company."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import models
from heartstrings.core.engine import GenerateRequest, Message, ScoreRequest
from heartstrings.core.errors import InputError, ModelError, NumericalError

TEXT = "The rain had stopped before she reached the harbour."
CHAT = (Message("system", "Be brief."), Message("user", "Did the train go by?"))
PROMPTS = [TEXT, "A train went by. " * 5, "He", "Nobody had told me that the letter was already there."]


@pytest.fixture(scope="module")
def llama() -> Any:
    return models.engine("llama")


def directions(n: int, layers: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(layers, n, models.WIDTH)).astype(np.float32)


# --- read ---------------------------------------------------------------------------------------------------


def test_read_projects_every_token_at_its_own_layer(llama: Any) -> None:
    axes = directions(5)
    centre = np.random.default_rng(1).normal(size=(2, models.WIDTH)).astype(np.float32)
    traces = llama.read(PROMPTS, axes, layers=[2, 0], centre=centre)
    for prompt, trace in zip(PROMPTS, traces, strict=True):
        ids = torch.tensor([llama.tokenizer(prompt)["input_ids"]])
        with torch.no_grad():
            hidden = llama.model(input_ids=ids, output_hidden_states=True).hidden_states
        for index, layer in enumerate([2, 0]):
            states = hidden[layer + 1][0].numpy()
            expected = (states - centre[index]) @ axes[index].T
            np.testing.assert_allclose(trace.projections[index], expected, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(trace.norms[index], np.linalg.norm(states, axis=1), rtol=1e-4)
        assert trace.token_ids.tolist() == ids[0].tolist()
        assert trace.layers == (2, 0)
        assert not trace.sinks.any()


def test_read_offsets_cut_the_text_into_its_tokens(llama: Any) -> None:
    text = "“You came,” she said — über alles."
    trace = llama.read([text], directions(1), layers=[0, 1])[0]
    assert trace.tokens[0] == "<s>"
    assert trace.offsets[0].tolist() == [0, 0]
    assert trace.text == text
    spans = trace.offsets.tolist()
    assert set().union(*(range(start, stop) for start, stop in spans)) == set(range(len(text)))
    for token, (start, stop) in list(zip(trace.tokens, spans, strict=True))[1:]:
        if token.isascii():  # bytes of one odd character are several tokens over the same place
            assert text[start:stop] == token.strip() or text[start:stop] == token
    assert trace.thinking == "off"


def test_read_takes_a_chat_through_the_template_once(llama: Any) -> None:
    complete = (*CHAT, Message("assistant", "It did."))
    trace = llama.read([complete], directions(1), layers=[0, 1])[0]
    assert trace.text == ("<s><|system|>Be brief.<|end|><|user|>Did the train go by?<|end|><|assistant|>It did.<|end|>")
    assert trace.token_ids.tolist().count(llama.tokenizer.bos_token_id) == 1
    start, stop = trace.offsets[-3:, :].min(), trace.offsets[-1, 1]
    assert trace.text[start:stop].endswith("<|end|>")


@pytest.mark.parametrize("family", ["bert", "gemma4"])
def test_read_works_for_encoders_and_nested_models(family: str) -> None:
    trace = models.engine(family).read(["the rain had stopped"], directions(3), layers=[0, 3])[0]
    assert trace.projections.shape == (2, len(trace.token_ids), 3)
    assert np.isfinite(trace.projections).all()


def test_read_marks_sinks() -> None:
    from heartstrings.engines.hf.engine import TorchEngine

    model = models.model("llama")
    with torch.no_grad():
        model.model.embed_tokens.weight[1] *= 300
    trace = TorchEngine.from_model(model, models.tokenizer()).read([TEXT], directions(1), layers=[0, 3])[0]
    assert trace.sinks[:, 0].all()
    assert not trace.sinks[:, 1:].any()


def test_read_refuses_what_does_not_fit(llama: Any) -> None:
    with pytest.raises(InputError, match=r"directions of 2 layers and width 32.*3 layers and width 32"):
        llama.read([TEXT], directions(1), layers=[0, 1, 2])
    with pytest.raises(InputError, match="width 16"):
        llama.read([TEXT], np.ones((1, 1, 16), np.float32), layers=[0])
    with pytest.raises((InputError, TypeError), match="centre"):  # type checking, where it is on, comes first
        llama.read([TEXT], directions(1, 1), layers=[0], centre=np.zeros((1, 16), np.float32))
    with pytest.raises(InputError, match="NaN"):
        llama.read([TEXT], np.full((1, 1, 32), np.nan, np.float32), layers=[0])
    with pytest.raises(ModelError, match=r"1024, the model's learned positions"):
        models.engine("gpt2").read([TEXT * 200], directions(1, 1), layers=[0])
    assert llama.read([], directions(1, 1), layers=[0]) == []


def test_a_chat_needs_a_template_that_takes_it() -> None:
    plain = models.engine("llama", tokenizer=models.tokenizer(chat=False))
    with pytest.raises(ModelError, match="without a chat template"):
        plain.read([CHAT], directions(1, 1), layers=[0])
    strict = models.tokenizer()
    strict.chat_template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}x"
    with pytest.raises(ModelError, match=r"refuses a chat with roles system, user: no system"):
        models.engine("llama", tokenizer=strict).read([CHAT], directions(1, 1), layers=[0])
    with pytest.raises(InputError, match="without messages"):
        models.engine("llama").read([()], directions(1, 1), layers=[0])


# --- score --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", models.DECODERS)
def test_scores_are_the_models_log_probabilities(family: str) -> None:
    engine = models.engine(family)
    continuations = (" yes", " the cups on the shelf rang", "?")
    got = engine.score([ScoreRequest(prompt, continuations) for prompt in PROMPTS[1:3]])
    for prompt, score in zip(PROMPTS[1:3], got, strict=True):
        start = engine.tokenizer(prompt)["input_ids"]
        assert score.n_prompt_tokens == len(start)
        for index, text in enumerate(continuations):
            tail = engine.tokenizer(text, add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                logits = engine.model(input_ids=torch.tensor([start + tail])).logits[0].float()
            picked = logits.log_softmax(-1)[range(len(start) - 1, len(start) + len(tail) - 1), tail].numpy()
            assert score.token_ids[index] == tuple(tail)
            np.testing.assert_allclose(score.token_logprobs[index], picked, rtol=1e-4, atol=1e-4)
            assert score.logprobs[index] == pytest.approx(float(picked.sum()), rel=1e-4)


def test_scores_of_every_next_token_sum_to_one(llama: Any) -> None:
    # Single-token continuations only: what is left out are tokens that no text alone gives.
    texts = tuple({llama.tokenizer.decode([i]) for i in range(8, 380)} - {"\N{REPLACEMENT CHARACTER}"})
    score = llama.score([ScoreRequest(TEXT, texts)])[0]
    single = [lp for lp, ids in zip(score.logprobs, score.token_ids, strict=True) if len(ids) == 1]
    assert 0.3 < np.exp(single).sum() <= 1.0


def test_score_opens_the_reply_of_a_chat(llama: Any) -> None:
    opened = "<s><|system|>Be brief.<|end|><|user|>Did the train go by?<|end|><|assistant|><|quiet|>"
    bare = models.engine("llama", tokenizer=models.tokenizer(bos=False))
    chat, text = llama.score([ScoreRequest(CHAT, (" yes",))]), bare.score([ScoreRequest(opened, (" yes",))])
    assert chat[0].n_prompt_tokens == text[0].n_prompt_tokens
    assert chat[0].logprobs[0] == pytest.approx(text[0].logprobs[0], rel=1e-5)
    prefilled = (*CHAT, Message("assistant", "Well"))
    began = opened.replace("<|quiet|>", "") + "Well"
    assert llama.score([ScoreRequest(prefilled, (" yes",))])[0].logprobs[0] == pytest.approx(
        bare.score([ScoreRequest(began, (" yes",))])[0].logprobs[0], rel=1e-5
    )


def test_score_refuses_what_it_cannot_answer(llama: Any) -> None:
    with pytest.raises(InputError, match="no continuation"):
        llama.score([ScoreRequest(TEXT, ())])
    with pytest.raises(InputError, match="without tokens"):
        llama.score([ScoreRequest(TEXT, ("",))])
    bare = models.engine("llama", tokenizer=models.tokenizer(bos=False))
    with pytest.raises(InputError, match="prompt of request 0 has no tokens"):
        bare.score([ScoreRequest("", (" yes",))])
    with pytest.raises(ModelError, match="encoder"):
        models.engine("bert").score([ScoreRequest(TEXT, (" yes",))])


# --- generate -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", models.DECODERS)
def test_cached_generation_in_a_batch_equals_uncached_alone(family: str) -> None:
    engine = models.engine(family)
    prompts = PROMPTS[1:3]  # one far longer than the other, and than the sliding windows
    got = engine.generate([GenerateRequest(p, max_new_tokens=9, temperature=0) for p in prompts])
    for prompt, completion in zip(prompts, got, strict=True):
        ids = list(engine.tokenizer(prompt)["input_ids"])
        start = len(ids)
        for _ in range(9):
            with torch.no_grad():
                ids.append(int(engine.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == engine.tokenizer.eos_token_id:
                break
        assert completion.token_ids == tuple(ids[start:])
        assert completion.n_prompt_tokens == start


def test_a_seed_gives_the_same_text_in_any_batch(llama: Any) -> None:
    requests = [
        GenerateRequest(prompt, max_new_tokens=10, seed=seed, temperature=t, top_p=p)
        for seed, prompt in enumerate(PROMPTS[1:])
        for t, p in ((1.0, 1.0), (0.7, 0.9), (1.5, 0.5))
    ]
    together = llama.generate(requests)
    alone = [llama.generate([request])[0] for request in requests]
    backwards = llama.generate(requests[::-1])[::-1]
    for completion, single, reverse in zip(together, alone, backwards, strict=True):
        assert completion.token_ids == single.token_ids == reverse.token_ids
        assert completion.text == single.text
    twins = llama.generate([GenerateRequest(TEXT, max_new_tokens=10, seed=s) for s in (3, 3, 4)])
    assert twins[0].token_ids == twins[1].token_ids != twins[2].token_ids
    longer = llama.generate([GenerateRequest(TEXT, max_new_tokens=15, seed=3)])[0]
    assert longer.token_ids[:10] == twins[0].token_ids


def test_samples_follow_the_distribution() -> None:
    from heartstrings.engines.hf._generate import _choose, _Reply

    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -30.0])
    rows = 2000

    def frequencies(**settings: Any) -> np.ndarray:
        made = [_Reply(seed, GenerateRequest("x", seed=seed, **settings)) for seed in range(rows)]
        chosen = _choose(logits.expand(rows, 5), made)
        return np.bincount(chosen, minlength=5) / rows

    def softmax(heat: float) -> np.ndarray:
        return torch.softmax(logits / heat, 0).numpy()

    for heat in (1.0, 2.0):
        assert np.abs(frequencies(temperature=heat) - softmax(heat)).max() < 0.04  # 4 standard errors
    nucleus = softmax(1.0)[:2] / softmax(1.0)[:2].sum()
    cut = frequencies(top_p=0.8)  # the first two tokens hold .64 + .24
    assert np.abs(cut[:2] - nucleus).max() < 0.04
    assert cut[2:].sum() == 0
    assert frequencies(top_p=1e-9)[0] == 1
    assert frequencies(temperature=0)[0] == 1


def test_ends_at_end_tokens_stop_strings_and_limits(llama: Any) -> None:
    full = llama.generate([GenerateRequest(TEXT, max_new_tokens=24, temperature=0)])[0]
    assert full.finish == "length"
    assert len(full.token_ids) == 24
    stop = full.text[8:10]
    cut = llama.generate(
        [
            GenerateRequest(TEXT, max_new_tokens=24, temperature=0, stop=("never there", stop)),
            GenerateRequest(TEXT, max_new_tokens=5, temperature=0),
        ]
    )
    assert (cut[0].finish, cut[0].text) == ("stop", full.text[: full.text.index(stop)])
    assert (cut[1].finish, cut[1].token_ids) == ("length", full.token_ids[:5])

    ending = models.engine("llama")
    ending.model.generation_config.eos_token_id = [full.token_ids[4], 2]
    first = full.token_ids.index(full.token_ids[4])
    ended = ending.generate([GenerateRequest(TEXT, max_new_tokens=24, temperature=0)])[0]
    assert (ended.finish, ended.token_ids) == ("eos", full.token_ids[: first + 1])


def test_generate_answers_a_chat_with_thinking_pinned(llama: Any) -> None:
    got = llama.generate([GenerateRequest(CHAT, max_new_tokens=4), GenerateRequest(TEXT, max_new_tokens=4)])
    assert got[0].thinking == "off"
    plain = models.tokenizer()
    plain.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    other = models.engine("llama", tokenizer=plain).generate([GenerateRequest(CHAT, max_new_tokens=1)])
    assert other[0].thinking == "not in template"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_new_tokens": 0}, "asks for 0 new tokens"),
        ({"temperature": -1.0}, "temperature -1"),
        ({"temperature": float("nan")}, "temperature nan"),
        ({"top_p": 0.0}, "top_p 0"),
        ({"stop": ("",)}, "empty stop"),
    ],
)
def test_generate_refuses_bad_settings(llama: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=f"request 1.*{words}"):
        llama.generate([GenerateRequest(TEXT), GenerateRequest(TEXT, **settings)])


def test_nan_logits_are_an_error_not_a_token(llama: Any) -> None:
    broken = models.engine("llama")
    with torch.no_grad():
        broken.model.lm_head.weight[7] = torch.nan
    with pytest.raises(NumericalError, match="logits of request 0"):
        broken.generate([GenerateRequest(TEXT, max_new_tokens=3)])
    with pytest.raises(NumericalError, match="scores"):
        broken.score([ScoreRequest(TEXT, (" yes",))])


def test_generation_out_of_memory_splits_the_batch(llama: Any) -> None:
    from test_engine_memory import Narrow

    requests = [GenerateRequest(TEXT, max_new_tokens=6, seed=seed) for seed in range(7)]
    expected = llama.generate(requests)
    engine = models.engine("llama")
    Narrow(engine.model.model, 2, torch.OutOfMemoryError("out of memory"))
    assert [c.token_ids for c in engine.generate(requests)] == [c.token_ids for c in expected]


# --- unembedding, tokens ------------------------------------------------------------------------------------


def test_an_unembedding_that_takes_another_way_is_refused() -> None:
    engine = models.engine("llama")
    engine.model.model.norm = torch.nn.Identity()  # the model now skips the norm that was found at loading
    with pytest.raises(ModelError, match="computes its logits otherwise"):
        engine.unembed(np.ones((1, models.WIDTH), np.float32))


def test_unembed_checks_the_width(llama: Any) -> None:
    with pytest.raises(InputError, match="width 16"):
        llama.unembed(np.ones((1, 16), np.float32))
    assert llama.unembed(np.zeros((0, models.WIDTH), np.float32)).shape == (0, models.VOCABULARY)


def test_token_strings_are_readable(llama: Any) -> None:
    ids = llama.tokenizer("The rain")["input_ids"]
    assert "".join(llama.token_strings(ids)) == "<s>The rain"
