"""Pooling: exact against a naive reference, the same however it is batched, and nothing left behind."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

import models
from heartstrings.core.engine import PooledBatch
from heartstrings.core.errors import InputError, ModelError, NumericalError
from heartstrings.core.types import SINK_RATIO, Pooling

RULES = (
    Pooling(start=0),
    Pooling(start=30),
    Pooling(rule="window", start=20, stop=60),
    Pooling(rule="centred", start=30),
)
TEXTS = models.stories(14, words=(5, 60))


def gather(batches: Any, n_texts: int) -> dict[str, np.ndarray]:
    """Batches put back into the order of the texts."""
    got: dict[str, Any] = {}
    for batch in batches:
        assert isinstance(batch, PooledBatch)
        if not got:
            rules, _, layers, width = batch.means.shape
            got = {
                "means": np.full((rules, n_texts, layers, width), np.nan, np.float32),
                "norms": np.full((n_texts, layers), np.nan, np.float32),
                "n_tokens": np.full(n_texts, -1),
                "n_pooled": np.full((rules, n_texts), -1),
                "truncated": np.zeros(n_texts, bool),
                "sinks": set(),
                "seen": [],
            }
        got["means"][:, batch.indices] = batch.means
        got["norms"][batch.indices] = batch.norms
        got["n_tokens"][batch.indices] = batch.n_tokens
        got["n_pooled"][:, batch.indices] = batch.n_pooled
        got["truncated"][batch.indices] = batch.truncated
        got["sinks"] |= {(int(batch.indices[r]), int(la), int(p)) for r, la, p in batch.sinks}
        got["seen"] += batch.indices.tolist()
    return got


def tokens(engine: Any, text: str) -> np.ndarray:
    """Layer x token x width of one text by itself, from plain hooks on the blocks."""
    caught: list[np.ndarray] = []
    handles = [
        block.register_forward_hook(
            lambda _, __, out: caught.append((out[0] if isinstance(out, tuple) else out)[0].numpy().copy())
        )
        for block in engine.parts.blocks
    ]
    with torch.no_grad():
        engine.model(input_ids=torch.tensor([engine.tokenizer(text)["input_ids"]]))
    for handle in handles:
        handle.remove()
    return np.stack(caught)


def reference(states: np.ndarray, rule: Pooling) -> tuple[np.ndarray, np.ndarray, set[tuple[int, int]], int]:
    """Mean, mean norm, sinks and span length of one text, written as the conventions read."""
    n = states.shape[1]
    stop = n if rule.stop is None else rule.stop
    norms = np.linalg.norm(states.astype(np.float64), axis=-1)
    loud = norms > SINK_RATIO * np.median(norms, axis=1, keepdims=True)
    sinks = {(int(layer), int(p)) for layer, p in np.argwhere(loud)}
    means = np.full((len(states), states.shape[2]), np.nan)
    mean_norms = np.full(len(states), np.nan)
    for layer in range(len(states)):
        kept = [p for p in range(n) if (layer, p) not in sinks]
        span = [p for p in kept if rule.start <= p < stop]
        mean_norms[layer] = norms[layer, kept].mean()
        if span and n >= stop:
            means[layer] = states[layer, span].astype(np.float64).mean(0)
    return means, mean_norms, sinks, max(0, min(stop, n) - rule.start) if n >= stop else 0


def loud_start(seed: int = 0) -> torch.nn.Module:
    """A model whose BOS stands out by a factor of hundreds at every layer, as in large models."""
    model = models.model("llama", seed=seed)
    with torch.no_grad():
        model.model.embed_tokens.weight[1] *= 300
    return model


def wrapped(model: Any, tokenizer: Any = None) -> Any:
    from heartstrings.engines.hf.engine import TorchEngine

    return TorchEngine.from_model(model, tokenizer or models.tokenizer())


@pytest.fixture(scope="module")
def llama() -> Any:
    return models.engine("llama")


@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize("chunk", [None, 17])
def test_equals_the_naive_reference(sinks: bool, chunk: int | None) -> None:
    engine = wrapped(loud_start() if sinks else models.model("llama"))
    got = gather(engine.pool(TEXTS, poolings=RULES, token_budget=600, chunk=chunk), len(TEXTS))
    assert sorted(got["seen"]) == list(range(len(TEXTS)))
    found = set()
    for row, text in enumerate(TEXTS):
        states = tokens(engine, text)
        assert got["n_tokens"][row] == states.shape[1]
        for index, rule in enumerate(RULES):
            means, norms, where, span = reference(states, rule)
            assert got["n_pooled"][index, row] == span
            np.testing.assert_allclose(got["means"][index, row], means, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(got["norms"][row], norms, rtol=1e-4)
        found |= {(row, layer, position) for layer, position in where}
    assert got["sinks"] == found
    assert bool(found) == sinks
    short = got["n_pooled"] == 0
    assert short.any()
    assert not short.all()
    assert (np.isnan(got["means"]).all((2, 3)) == short).all()


def test_position_sums_allow_centring_downstream() -> None:
    engine = wrapped(loud_start())
    sums = counts = 0
    for batch in engine.pool(TEXTS, poolings=RULES, token_budget=600):
        longest = int(batch.n_tokens.max())
        assert batch.position_sums.shape == (models.LAYERS, longest, models.WIDTH)
        sums = sums + np.pad(batch.position_sums, ((0, 0), (0, 200 - longest), (0, 0)))
        counts = counts + np.pad(batch.position_counts, ((0, 0), (0, 200 - longest)))
    expected, expected_counts = np.zeros_like(sums), np.zeros_like(counts)
    for text in TEXTS:
        states = tokens(engine, text)
        sinks = reference(states, RULES[0])[2]
        for layer in range(models.LAYERS):
            for position in range(states.shape[1]):
                if (layer, position) not in sinks:
                    expected[layer, position] += states[layer, position]
                    expected_counts[layer, position] += 1
    assert expected_counts[:, 0].sum() == 0  # every BOS is a sink
    np.testing.assert_array_equal(counts, expected_counts)
    np.testing.assert_allclose(sums, expected, rtol=1e-4, atol=1e-3)
    plain = next(iter(engine.pool(TEXTS[:2], poolings=[Pooling(start=0)])))
    assert plain.position_sums is None


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pad", [True, False])
def test_the_tokenizers_padding_does_not_matter(llama: Any, side: str, pad: bool) -> None:
    tokenizer = models.tokenizer(padding_side=side, pad=pad)
    other = gather(wrapped(models.model("llama"), tokenizer).pool(TEXTS, poolings=RULES), len(TEXTS))
    usual = gather(llama.pool(TEXTS, poolings=RULES, token_budget=1), len(TEXTS))
    np.testing.assert_allclose(other["means"], usual["means"], rtol=1e-4, atol=1e-5)
    assert (tokenizer.padding_side, tokenizer.pad_token) == (side, "<pad>" if pad else None)


def test_a_tokenizer_set_to_pad_and_cut_is_neither_obeyed_nor_changed(llama: Any) -> None:
    tokenizer = models.tokenizer()
    tokenizer.backend_tokenizer.enable_truncation(max_length=8)
    tokenizer.backend_tokenizer.enable_padding(length=50)
    before = tokenizer.backend_tokenizer.to_str()
    engine = wrapped(models.model("llama"), tokenizer)
    got = gather(engine.pool(TEXTS, poolings=RULES), len(TEXTS))
    usual = gather(llama.pool(TEXTS, poolings=RULES), len(TEXTS))
    np.testing.assert_array_equal(got["n_tokens"], usual["n_tokens"])
    np.testing.assert_array_equal(got["means"], usual["means"])
    assert tokenizer.backend_tokenizer.to_str() == before


def test_a_bos_is_the_tokenizers_own_and_never_doubled(llama: Any) -> None:
    bare = wrapped(models.model("llama"), models.tokenizer(bos=False))
    text = TEXTS[0]
    without = next(iter(bare.pool([text], poolings=[Pooling(start=0)])))
    typed = next(iter(bare.pool(["<s>" + text], poolings=[Pooling(start=0)])))
    with_bos = next(iter(llama.pool([text], poolings=[Pooling(start=0)])))
    assert int(with_bos.n_tokens[0]) == int(without.n_tokens[0]) + 1
    np.testing.assert_array_equal(typed.means, with_bos.means)
    assert np.abs(with_bos.means - without.means).max() > 1e-3


def test_batches_within_the_budget_and_any_can_be_left_out(llama: Any) -> None:
    whole = list(llama.pool(TEXTS, token_budget=200))
    assert [batch.number for batch in whole] == list(range(whole[0].n_batches))
    assert whole[0].n_batches > 4
    for batch in whole:
        assert len(batch.indices) == 1 or len(batch.indices) * int(batch.n_tokens.max()) <= 200
    done = {0, 2}
    rest = list(llama.pool(TEXTS, token_budget=200, done=done))
    assert [batch.number for batch in rest] == [n for n in range(whole[0].n_batches) if n not in done]
    for batch in rest:
        np.testing.assert_array_equal(batch.indices, whole[batch.number].indices)
        np.testing.assert_array_equal(batch.means, whole[batch.number].means)


def test_long_texts_are_cut_as_the_tokenizer_cuts_and_flagged(llama: Any) -> None:
    got = gather(llama.pool(TEXTS, poolings=[Pooling(start=0)], max_tokens=40), len(TEXTS))
    full = gather(llama.pool(TEXTS, poolings=[Pooling(start=0)]), len(TEXTS))
    np.testing.assert_array_equal(got["n_tokens"], np.minimum(full["n_tokens"], 40))
    np.testing.assert_array_equal(got["truncated"], full["n_tokens"] > 40)
    assert got["truncated"].any()
    # A closing [SEP] stays: the encoder sees the text as its own tokenizer would cut it.
    bert = models.engine("bert")
    cut = gather(bert.pool(TEXTS[:1], poolings=[Pooling(start=0)], max_tokens=12), 1)
    ids = bert.tokenizer(TEXTS[0], truncation=True, max_length=12, return_tensors="pt")["input_ids"]
    assert ids[0, -1] == bert.tokenizer.sep_token_id
    with torch.no_grad():
        states = bert.model(input_ids=ids, output_hidden_states=True).hidden_states
    np.testing.assert_allclose(cut["means"][0, 0, 0], states[1][0].mean(0).numpy(), rtol=1e-4, atol=1e-5)


def test_learned_positions_bound_the_length() -> None:
    engine = models.engine("gpt2")
    text = " ".join(models.stories(20, words=(100, 110)))
    batch = next(iter(engine.pool([text], max_tokens=5000)))
    assert int(batch.n_tokens[0]) == 1024
    assert bool(batch.truncated[0])
    roberta = models.engine("roberta")
    assert roberta.parts.position_limit == 1025  # 1,026 rows, the pad's left out
    assert int(next(iter(roberta.pool([text], max_tokens=5000))).n_tokens[0]) == 1025


def test_texts_without_tokens_are_set_aside() -> None:
    engine = wrapped(models.model("llama"), models.tokenizer(bos=False))
    for texts in (["", TEXTS[0]], [""]):
        got = gather(engine.pool(texts, poolings=[Pooling(start=0)]), len(texts))
        assert got["n_tokens"][0] == 0
        assert got["n_pooled"][0, 0] == 0
        assert np.isnan(got["means"][0, 0]).all()
        assert np.isnan(got["norms"][0]).all()
    assert list(engine.pool([])) == []


def test_stops_after_the_last_layer_and_never_unembeds(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = models.engine("llama")
    expected = gather(engine.pool(TEXTS[:3], poolings=RULES), 3)["means"][:, :, [2, 0]]

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("this part should not run")

    monkeypatch.setattr(engine.model.lm_head, "forward", never)
    monkeypatch.setattr(engine.model.model.layers[3], "forward", never)
    got = gather(engine.pool(TEXTS[:3], poolings=RULES, layers=[2, 0]), 3)["means"]
    np.testing.assert_array_equal(got, expected)


def snapshot(model: torch.nn.Module) -> tuple[dict[str, bytes], int, list[bool]]:
    weights = {name: value.numpy().tobytes() for name, value in model.state_dict().items()}
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    return weights, hooks, [module.training for module in model.modules()]


def test_the_model_is_left_bitwise_as_found() -> None:
    model = models.model("llama")
    model.model.layers[1].train()  # somebody's half-trained state: dropout must not run, and must come back
    model.model.layers[1].self_attn.attention_dropout = 0.5
    before = snapshot(model)
    engine = wrapped(model)
    first = gather(engine.pool(TEXTS, poolings=RULES), len(TEXTS))["means"]
    np.testing.assert_array_equal(gather(engine.pool(TEXTS, poolings=RULES), len(TEXTS))["means"], first)
    half_way = engine.pool(TEXTS, token_budget=100)
    next(half_way)
    half_way.close()
    assert snapshot(model) == before
    assert all(parameter.requires_grad for parameter in model.parameters())

    with torch.no_grad():
        model.model.layers[2].mlp.down_proj.weight[3, 3] = torch.nan
    broken = snapshot(model)
    with pytest.raises(NumericalError):
        list(engine.pool(TEXTS))
    assert snapshot(model) == broken


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("chunk", [None, 20])
def test_nan_and_inf_name_the_text(value: float, chunk: int | None) -> None:
    tokenizer = models.tokenizer()
    engine = wrapped(models.model("llama"), tokenizer)
    poison = tokenizer.encode("ü", add_special_tokens=False)[-1]
    clean = [text.replace("ü", "u").replace("ï", "i") for text in TEXTS]
    with torch.no_grad():
        engine.model.model.embed_tokens.weight[poison, 0] = value
    list(engine.pool(clean, chunk=chunk))  # nothing wrong without the poisoned token
    clean[5] = "Here is a story about ü and what came of it " * 4
    with pytest.raises(NumericalError, match=r"layer 0, token \d+, of text 5 \(Here is a story about"):
        list(engine.pool(clean, chunk=chunk))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("chunk", [None, 20])
def test_padding_that_is_not_finite_changes_nothing(value: float, chunk: int | None) -> None:
    engine = wrapped(models.model("llama"))
    settings: dict[str, Any] = {"poolings": RULES, "token_budget": 600, "chunk": chunk}
    clean = gather(engine.pool(TEXTS, **settings), len(TEXTS))
    fed: list[torch.Tensor] = []

    def spoil(module: object, inputs: object, state: Any) -> torch.Tensor:
        assert isinstance(state, torch.Tensor)
        padding = fed[-1] == engine.model.config.pad_token_id
        return state.masked_fill(padding[..., None], value)

    engine.model.model.embed_tokens.register_forward_pre_hook(lambda module, inputs: fed.append(inputs[0]))
    # In the last block only: attention multiplies the values of padded places by 0, which is NaN too.
    engine.parts.blocks[-1].register_forward_hook(spoil)
    found = gather(engine.pool(TEXTS, **settings), len(TEXTS))
    assert any((ids == engine.model.config.pad_token_id).any() for ids in fed)
    for name in ("means", "norms", "n_pooled"):
        np.testing.assert_array_equal(found[name], clean[name])
    assert found["sinks"] == clean["sinks"]


def test_half_precision_sums_do_not_overflow() -> None:
    model = models.model("llama").to(torch.float16)
    with torch.no_grad():
        model.model.embed_tokens.weight[1] = 3e4  # its norm, 1.7e5, is over float16's 65,504
    engine = wrapped(model)
    got = gather(engine.pool(TEXTS, poolings=[Pooling(start=0)]), len(TEXTS))
    assert np.isfinite(got["means"]).all()
    assert {(row, layer, 0) for row in range(len(TEXTS)) for layer in range(models.LAYERS)} == got["sinks"]
    exact = gather(wrapped(model.float()).pool(TEXTS, poolings=[Pooling(start=0)]), len(TEXTS))
    np.testing.assert_allclose(got["means"], exact["means"], atol=0.02)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"poolings": []}, "no pooling rule"),
        ({"max_tokens": 0}, "max_tokens of 0"),
        ({"token_budget": 0}, "token budget of 0"),
        ({"chunk": 0}, "chunks of 0"),
        ({"layers": [9]}, "layer 9"),
    ],
)
def test_bad_settings_are_refused(llama: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        llama.pool(TEXTS, **settings)


@pytest.mark.parametrize("settings", [{"poolings": []}, {"chunk": 0}, {"layers": [9]}])
def test_settings_are_checked_before_the_texts_are_encoded(
    llama: Any, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heartstrings.engines.hf.engine.encode_texts", lambda *args, **options: pytest.fail("encoded"))
    with pytest.raises(InputError):
        llama.pool(["not encoded before"], **settings)


def test_another_tokenizer_encodes_again() -> None:
    engine = models.engine("llama")
    before = engine.count_tokens(TEXTS)
    engine.tokenizer = copy.deepcopy(engine.tokenizer)
    engine.tokenizer.add_tokens([TEXTS[0]])
    assert engine.count_tokens(TEXTS)[0] < before[0]


def test_a_tokenizer_of_another_model_is_refused() -> None:
    engine = models.engine("llama")
    engine.tokenizer.add_tokens([f"<extra{n}>" for n in range(60)])
    with pytest.raises(ModelError, match=r"text 0 has token id \d+, and the model's embedding has 400 rows"):
        engine.pool(["see <extra55>"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_cpus_numbers(llama: Any) -> None:
    usual = gather(llama.pool(TEXTS, poolings=RULES), len(TEXTS))
    engine = wrapped(models.model("llama").to("cuda"))
    assert engine.info.device == "cuda:0"
    got = gather(engine.pool(TEXTS, poolings=RULES), len(TEXTS))
    np.testing.assert_array_equal(got["n_pooled"], usual["n_pooled"])
    np.testing.assert_allclose(got["means"], usual["means"], rtol=1e-4, atol=1e-4)
