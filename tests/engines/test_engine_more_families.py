"""Families that no recipe names: found by structure, and steered as a plain hook steers them.

`gpt_neo` is what small models of children's stories use, `mamba` has no attention, `lfm2` and `falcon_h1` mix both.
What cannot be shared between rows is given up by comparison, so that only the numbers count here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf

import models
from heartstrings import Intervention, Steering
from heartstrings.core.engine import GenerateRequest, ScoreRequest
from heartstrings.engines.hf import _generate as torch_generate
from heartstrings.engines.hf.engine import TorchEngine

SHAPE: dict[str, Any] = {
    "vocab_size": models.VOCABULARY, "hidden_size": models.WIDTH, "intermediate_size": 48, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024,
}  # fmt: skip
IDS: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
OLDER: dict[str, Any] = {"vocab_size": models.VOCABULARY, **IDS}
FAMILIES: dict[str, Callable[[], hf.PreTrainedModel]] = {
    "gpt_neo": lambda: hf.GPTNeoForCausalLM(
        hf.GPTNeoConfig(
            **OLDER,
            hidden_size=models.WIDTH,
            num_layers=4,
            num_heads=4,
            intermediate_size=48,
            window_size=16,
            attention_types=[[["global", "local"], 2]],
        )
    ),
    "gptj": lambda: hf.GPTJForCausalLM(
        hf.GPTJConfig(**OLDER, n_embd=models.WIDTH, n_layer=4, n_head=4, rotary_dim=4, n_positions=1024)
    ),
    "bloom": lambda: hf.BloomForCausalLM(hf.BloomConfig(**OLDER, hidden_size=models.WIDTH, n_layer=4, n_head=4)),
    "mpt": lambda: hf.MptForCausalLM(hf.MptConfig(**OLDER, d_model=models.WIDTH, n_layers=4, n_heads=4)),
    "falcon": lambda: hf.FalconForCausalLM(
        hf.FalconConfig(**OLDER, hidden_size=models.WIDTH, num_hidden_layers=4, num_attention_heads=4)
    ),
    "xglm": lambda: hf.XGLMForCausalLM(
        hf.XGLMConfig(**OLDER, d_model=models.WIDTH, num_layers=4, attention_heads=4, ffn_dim=48)
    ),
    "biogpt": lambda: hf.BioGptForCausalLM(
        hf.BioGptConfig(
            **OLDER, hidden_size=models.WIDTH, num_hidden_layers=4, num_attention_heads=4, intermediate_size=48
        )
    ),
    "mamba": lambda: hf.MambaForCausalLM(hf.MambaConfig(**OLDER, hidden_size=models.WIDTH, num_hidden_layers=4)),
    "stablelm": lambda: hf.StableLmForCausalLM(hf.StableLmConfig(**SHAPE, **IDS)),
    "phi": lambda: hf.PhiForCausalLM(hf.PhiConfig(**SHAPE, **IDS)),
    "cohere": lambda: hf.CohereForCausalLM(hf.CohereConfig(**SHAPE, **IDS)),
    "granite": lambda: hf.GraniteForCausalLM(hf.GraniteConfig(**SHAPE, **IDS)),
    "starcoder2": lambda: hf.Starcoder2ForCausalLM(hf.Starcoder2Config(**SHAPE, **IDS)),
    "olmo": lambda: hf.OlmoForCausalLM(hf.OlmoConfig(**SHAPE, **IDS)),
    "exaone4": lambda: hf.Exaone4ForCausalLM(hf.Exaone4Config(**SHAPE, **IDS)),
    "glm4": lambda: hf.Glm4ForCausalLM(hf.Glm4Config(**SHAPE, **IDS, head_dim=8)),
    "helium": lambda: hf.HeliumForCausalLM(hf.HeliumConfig(**SHAPE, **IDS, head_dim=8)),
    "nemotron": lambda: hf.NemotronForCausalLM(hf.NemotronConfig(**SHAPE, **IDS)),
    "ernie4_5": lambda: hf.Ernie4_5ForCausalLM(hf.Ernie4_5Config(**SHAPE, **IDS)),
    "lfm2": lambda: hf.Lfm2ForCausalLM(hf.Lfm2Config(**SHAPE, **IDS, layer_types=["conv", "full_attention"] * 2)),
    # Its state space is as small as the rest; by default it is 1,024 wide.
    "falcon_h1": lambda: hf.FalconH1ForCausalLM(
        hf.FalconH1Config(
            **SHAPE, **IDS, mamba_d_ssm=64, mamba_n_heads=4, mamba_d_head=16, mamba_d_state=16, mamba_chunk_size=16
        )
    ),
}
LAYER, NEW = 2, 6
PROMPTS = (models.SENTENCES[0][:29], models.SENTENCES[1][:61])
OPTIONS = (" reached the harbour", " sat")


@pytest.mark.parametrize("family", FAMILIES)
def test_steered_as_a_plain_hook_steers(family: str) -> None:
    torch.manual_seed(0)
    model = FAMILIES[family]().eval()
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, 0.0, weight.shape[-1] ** -0.5)
    engine = TorchEngine.from_model(model, models.tokenizer())
    direction = np.random.default_rng(0).normal(size=models.WIDTH).astype(np.float32)
    steering = Steering((Intervention(LAYER, direction, 0.5, 3.0),))
    ways = (None, steering)
    added = torch.tensor(1.5 * direction / np.linalg.norm(direction))

    scores = engine.score([ScoreRequest(prompt, OPTIONS, steering=way) for prompt in PROMPTS for way in ways])
    wanted = [
        [logprob(engine, prompt, option, None if way is None else added) for option in OPTIONS]
        for prompt in PROMPTS
        for way in ways
    ]
    np.testing.assert_allclose([score.logprobs for score in scores], wanted, atol=2e-5)
    assert np.abs(np.diff(np.array(wanted).reshape(2, 2, 2), axis=1)).max() > 0.01, "steering does something"

    texts = engine.generate(
        [GenerateRequest(prompt, NEW, temperature=0.0, seed=0, steering=way) for prompt in PROMPTS for way in ways]
    )
    for text, (prompt, way) in zip(texts, [(prompt, way) for prompt in PROMPTS for way in ways], strict=True):
        ids = greedy(engine, prompt, None if way is None else added)
        assert text.text == engine.tokenizer.decode(ids, skip_special_tokens=True), (prompt, way is not None)


def test_a_model_that_hands_nothing_on_reads_its_text_again(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = models.engine("llama")
    requests = [GenerateRequest(prompt, NEW, temperature=0.8, seed=3) for prompt in PROMPTS]
    wanted = [one.text for one in engine.generate(requests)]
    monkeypatch.setattr(torch_generate, "cache_of", lambda output: None)
    assert [one.text for one in engine.generate(requests)] == wanted


def logits(engine: Any, ids: torch.Tensor, added: torch.Tensor | None) -> torch.Tensor:
    """Of every position, by one unpadded pass without a cache; `added` to the output of the steered block."""

    def hook(_: Any, __: Any, output: Any) -> Any:
        return (output[0] + added, *output[1:]) if isinstance(output, tuple) else output + added

    handle = engine.parts.blocks[LAYER].register_forward_hook(hook) if added is not None else None
    try:
        with torch.no_grad():
            return engine.model(ids, use_cache=False).logits[0]
    finally:
        if handle is not None:
            handle.remove()


def logprob(engine: Any, prompt: str, option: str, added: torch.Tensor | None) -> float:
    start = engine.tokenizer(prompt, return_tensors="pt")["input_ids"].shape[1]
    ids = engine.tokenizer(prompt + option, return_tensors="pt")["input_ids"]
    found = logits(engine, ids, added).log_softmax(-1)
    return sum(float(found[at - 1, ids[0, at]]) for at in range(start, ids.shape[1]))


def greedy(engine: Any, prompt: str, added: torch.Tensor | None) -> list[int]:
    ids = engine.tokenizer(prompt, return_tensors="pt")["input_ids"]
    start = ids.shape[1]
    for _ in range(NEW):
        token = int(logits(engine, ids, added)[-1].argmax())
        if token == engine.tokenizer.eos_token_id:
            break
        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
    return [int(one) for one in ids[0, start:]]
