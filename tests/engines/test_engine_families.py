"""Every family: the residuals that the engine reads are the ones the model computes, layer by layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import models
from heartstrings.core.errors import InputError, ModelError
from heartstrings.core.types import Pooling

# Where each family keeps its blocks, and in a block what the skip connections add: written down here by hand,
# so that the engine's search has something to be wrong about.
PLACES = {
    "gemma4": ("model.language_model.layers", "post_attention_layernorm", "post_feedforward_layernorm"),
    "qwen3_5": ("model.language_model.layers", "self_attn", "mlp"),
    "gemma4_moe": ("model.layers", "post_attention_layernorm", "post_feedforward_layernorm"),
    "gemma4_text": ("model.layers", "post_attention_layernorm", "post_feedforward_layernorm"),
    "gemma3": ("model.language_model.layers", "post_attention_layernorm", "post_feedforward_layernorm"),
    "gemma3_text": ("model.layers", "post_attention_layernorm", "post_feedforward_layernorm"),
    "gemma2": ("model.layers", "post_attention_layernorm", "post_feedforward_layernorm"),
    "olmo2": ("model.layers", "post_attention_layernorm", "post_feedforward_layernorm"),
    "olmo3": ("model.layers", "post_attention_layernorm", "post_feedforward_layernorm"),
    "gpt_neox": ("gpt_neox.layers", "attention", "mlp"),
    "gpt2": ("transformer.h", "attn", "mlp"),
    "opt": ("model.decoder.layers", "self_attn", "fc2"),
    "opt_post_norm": ("model.decoder.layers", "self_attn", "fc2"),
    "bert": ("encoder.layer", "attention.output.dense", "output.dense"),
    "roberta": ("encoder.layer", "attention.output.dense", "output.dense"),
    "modernbert": ("layers", "attn", "mlp"),
}
USUAL = ("model.layers", "self_attn", "mlp")
# Blocks that do more than add two sublayers to the stream: norms after the skip, or Gemma 4's per-layer input.
NOT_A_PLAIN_SUM = {"bert", "roberta", "opt_post_norm", "gemma4", "gemma4_moe", "gemma4_text"}
NO_FINAL_NORM = {"bert", "roberta", "opt_post_norm"}
TEXT = models.stories(1, words=(60, 70))[0]


def naive(engine: Any, family: str, text: str) -> tuple[dict[str, list[np.ndarray]], list[np.ndarray]]:
    """Outputs of each site at each layer by plain hooks on one unpadded text, and the model's hidden states."""
    blocks_path, attention, mlp = PLACES.get(family, USUAL)
    caught: dict[str, list[np.ndarray]] = {"block": [], "attention": [], "mlp": []}
    handles = []

    def catch(name: str) -> Any:
        def hook(_: Any, __: Any, output: Any) -> None:
            state = output[0] if isinstance(output, tuple) else output
            caught[name].append(state.detach().reshape(-1, models.WIDTH).numpy().copy())

        return hook

    for number, block in enumerate(engine.model.get_submodule(blocks_path)):
        linear = family.startswith("qwen3_5") and number < 3
        handles.append(block.register_forward_hook(catch("block")))
        where = block.get_submodule("linear_attn" if linear else attention)
        handles.append(where.register_forward_hook(catch("attention")))
        handles.append(block.get_submodule(mlp).register_forward_hook(catch("mlp")))
    ids = torch.tensor([models.tokenizer_for(family)(text)["input_ids"]])
    with torch.no_grad():
        output = engine.model(input_ids=ids, output_hidden_states=True)
    for handle in handles:
        handle.remove()
    return caught, [state[0].numpy() for state in output.hidden_states]


def states(engine: Any, text: str, site: str = "block") -> np.ndarray:
    """Every token's state at every layer through `read`: projections on the axes themselves."""
    axes = np.broadcast_to(np.eye(models.WIDTH, dtype=np.float32), (models.LAYERS, models.WIDTH, models.WIDTH))
    return engine.read([text], axes.copy(), layers=range(models.LAYERS), site=site)[0].projections


def close(got: np.ndarray, expected: np.ndarray) -> None:
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=2e-5 * float(np.abs(expected).max()))


@pytest.fixture(scope="module", params=models.FAMILIES)
def case(request: pytest.FixtureRequest) -> tuple[str, Any]:
    return request.param, models.engine(request.param)


def test_parts(case: tuple[str, Any]) -> None:
    family, engine = case
    assert (engine.info.n_layers, engine.info.width) == (models.LAYERS, models.WIDTH)
    assert engine.info.is_encoder == (family in models.ENCODERS)
    assert engine.parts.blocks is engine.model.get_submodule(PLACES.get(family, USUAL)[0])
    assert (engine.parts.final_norm is None) == (family in NO_FINAL_NORM)


def test_blocks_are_the_models_own_hidden_states(case: tuple[str, Any]) -> None:
    family, engine = case
    hooked, hidden = naive(engine, family, TEXT)
    means = [batch.means for batch in engine.pool([TEXT], poolings=[Pooling(start=0)])]
    assert len(means) == 1
    for layer in range(models.LAYERS):
        close(means[0][0, 0, layer], hooked["block"][layer].mean(0))
        if layer < models.LAYERS - 1:
            close(means[0][0, 0, layer], hidden[layer + 1].mean(0))
    if family not in NO_FINAL_NORM:
        # The trap: the model's last hidden state is after the final norm, and is no layer.
        difference = np.abs(means[0][0, 0, -1] - hidden[-1].mean(0)).max()
        assert difference > 0.05 * np.abs(means[0][0, 0, -1]).max()


@pytest.mark.parametrize("site", ["block", "attention", "mlp"])
def test_sites_are_what_naive_hooks_see(case: tuple[str, Any], site: str) -> None:
    family, engine = case
    close(states(engine, TEXT, site), np.stack(naive(engine, family, TEXT)[0][site]))


def test_attention_and_mlp_add_up_to_the_block(case: tuple[str, Any]) -> None:
    family, engine = case
    if family in NOT_A_PLAIN_SUM:
        pytest.skip("its blocks do more than add two sublayers")
    _, hidden = naive(engine, family, TEXT)
    block, attention, mlp = (states(engine, TEXT, site) for site in ("block", "attention", "mlp"))
    before = np.concatenate([hidden[0][None], block[:-1]])
    close(before + attention + mlp, block)


def test_unembedding_gives_the_models_logits(case: tuple[str, Any]) -> None:
    family, engine = case
    last = states(engine, TEXT)[-1]
    if family in models.ENCODERS:
        with pytest.raises(ModelError, match="encoder"):
            engine.unembed(last)
        return
    with torch.no_grad():
        ids = torch.tensor([models.tokenizer_for(family)(TEXT)["input_ids"]])
        expected = engine.model(input_ids=ids).logits[0].numpy()
    close(engine.unembed(last), expected)


def test_batches_paddings_and_orders_give_the_same_contrasts(case: tuple[str, Any]) -> None:
    _, engine = case
    texts = models.stories(7, words=(20, 60))
    one = contrasts(engine, texts, token_budget=1)
    many = contrasts(engine, texts, token_budget=100_000)
    some = contrasts(engine, texts[::-1], token_budget=700)[:, ::-1]
    for other in (many, some):
        assert np.linalg.norm(other - one) < 1e-4 * np.linalg.norm(one)


@pytest.mark.parametrize("family", models.DECODERS)
def test_chunks_give_the_same_numbers(family: str) -> None:
    engine = models.engine(family)
    texts = models.stories(3, words=(20, 60), seed=3)
    whole, pieces = contrasts(engine, texts), contrasts(engine, texts, chunk=23)
    assert np.linalg.norm(pieces - whole) < 1e-4 * np.linalg.norm(whole)


def test_an_encoder_cannot_run_in_chunks() -> None:
    with pytest.raises(ModelError, match="chunks"):
        models.engine("bert").pool(["a text"], chunk=8)


def contrasts(engine: Any, texts: list[str], **settings: Any) -> np.ndarray:
    """Layer x text x width: each text's mean from token 10 on, minus the mean over texts."""
    means = np.full((models.LAYERS, len(texts), models.WIDTH), np.nan, np.float32)
    for batch in engine.pool(texts, poolings=[Pooling(start=10)], **settings):
        means[:, batch.indices] = batch.means[0].transpose(1, 0, 2)
    assert np.isfinite(means).all()
    return means - means.mean(axis=1, keepdims=True)


def test_unknown_structures_are_refused_with_what_was_looked_for() -> None:
    from heartstrings.engines.hf._architecture import take_apart

    lacking = models.model("llama")
    lacking.config.num_hidden_layers = 7
    with pytest.raises(ModelError, match=r"one ModuleList of 7 blocks of width 32.*") as caught:
        take_apart(lacking)
    assert "model.layers of 4" in str(caught.value)

    double = models.model("llama")
    double.model.others = torch.nn.ModuleList(models.model("llama").model.layers)
    with pytest.raises(ModelError, match="exactly one"):
        take_apart(double)

    bare = models.model("llama")
    for block in bare.model.layers:
        block.mixer = block.self_attn
        del block.self_attn
    with pytest.raises(ModelError, match="no attention sublayer"):
        take_apart(bare).site(0, "attention")


@pytest.mark.parametrize("layers", [[4], [-1], [], [1, 1]])
def test_wrong_layers_are_refused_before_anything_runs(layers: list[int]) -> None:
    with pytest.raises(InputError, match="layers from 0 to 3"):
        models.engine("llama").pool(["a text"], layers=layers)
