"""The models that the bench runs: SmolLM2, a random Llama with its tokenizer, and an organism for the quick setting."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import heartstrings
from heartstrings.engines.hf.engine import TorchEngine

SMOLLM2, RANDOM, TINY = "smollm2", "random-llama-12x768", "organism:steerable"


def engine(name: str, dtype: str = "float32", device: str = "cpu") -> TorchEngine:
    """A loaded model, once for each dtype. Its texts never end by themselves, so every way writes as many tokens."""
    return _engine(name, dtype, device)


@cache  # tells positional from named arguments, hence the function before
def _engine(name: str, dtype: str, device: str) -> TorchEngine:
    made: Any
    if name == RANDOM:
        tokenizer = heartstrings.load(SMOLLM2, device=device).tokenizer
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=49152, hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12,
            num_key_value_heads=12, max_position_embeddings=2048, tie_word_embeddings=True, pad_token_id=2,
            bos_token_id=1, eos_token_id=2,
        )  # fmt: skip
        model = LlamaForCausalLM(config).eval().to(device, getattr(torch, dtype))
        made = TorchEngine.from_model(model, tokenizer)
    else:
        made = heartstrings.load(name, dtype=dtype, device=device)
    return endless(made)


def endless(made: Any) -> Any:
    """An engine that writes on to the limit, without a token that ends a text, and whose tokenizer can pad."""
    made.model.generation_config.eos_token_id = None
    made.tokenizer.eos_token = None
    if made.tokenizer.pad_token is None:
        made.tokenizer.pad_token = made.tokenizer.convert_ids_to_tokens(0)
    return made


def borrowed(model: Any) -> Any:
    """The model's modules copied, its weights shared: a library may wrap or hook these and leave ours alone."""
    return copy.deepcopy(model, {id(weight): weight for weight in (*model.parameters(), *model.buffers())})


def tokenizer_of(made: TorchEngine, *, side: str = "right") -> Any:
    """A tokenizer to hand to another library."""
    tokenizer = copy.deepcopy(made.tokenizer)
    tokenizer.padding_side = side
    return tokenizer


def weights(made: TorchEngine, *, head: bool) -> int:
    """Weights that each token is multiplied with: those of the blocks, and of the unembedding where it runs."""
    blocks = sum(weight.numel() for block in made.parts.blocks for weight in block.parameters())
    return blocks + (made.parts.width * made.parts.vocabulary if head else 0)


def attention_flops(made: TorchEngine, context: float) -> float:
    """Operations of one token's attention over `context` tokens, itself included, in all blocks: scores and sums."""
    config = made.parts.config
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return 4.0 * heads * size * context * made.parts.n_layers
