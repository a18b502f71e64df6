"""Tiny models of every family, randomly initialised, and tokenizers made on the spot. No downloads.

`model("llama")` gives a four-layer model, `tokenizer()` a byte-level one, `engine("llama")` both behind the
verbs, `folder(path, "llama")` a checkpoint on disk as `heartstrings.load` reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers import models as token_models

LAYERS = 4
WIDTH = 32
VOCABULARY = 400

SENTENCES = (
    "The rain had stopped before she reached the harbour, and the boats lay still on the grey water.",
    "He counted the coins twice, put them back into the tin, and listened to the steps on the stairs.",
    "They carried the long table into the garden; somebody laughed, somebody else began to sing.",
    "Nobody had told me that the letter was already there. I read it standing, with my coat on.",
    "A train went by. The cups on the shelf rang, as they did every night at the same hour.",
    "“You came,” she said, and her hands shook — über alles, naïve, 7 of 12.",
)

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>"
    "{% if enable_thinking is defined and not enable_thinking %}<|quiet|>{% endif %}{% endif %}"
)
MARKS = ["<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|quiet|>"]


@cache
def _byte_level(vocabulary: int = VOCABULARY) -> Tokenizer:
    """With the usual vocabulary, tokens of 1.4 characters; a larger one learns the words of the stories that ship."""
    from heartstrings.corpus import shipped_stories

    made = Tokenizer(token_models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - 20,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<pad>", "<s>", "</s>", *MARKS],
        show_progress=False,
    )
    sentences = SENTENCES if vocabulary == VOCABULARY else [one.text for one in shipped_stories().stories]
    made.train_from_iterator(sentences, trainer)
    return made


@cache
def _word_piece() -> Tokenizer:
    made = Tokenizer(token_models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY - 20,
        special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
        show_progress=False,
    )
    made.train_from_iterator(SENTENCES, trainer)
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def tokenizer(
    *, bos: bool = True, pad: bool = True, chat: bool = True, padding_side: str = "right", vocabulary: int = VOCABULARY
) -> hf.PreTrainedTokenizerFast:
    """Byte-level BPE: reads any text. With or without a BOS of its own, a pad token, a chat template."""
    made = Tokenizer.from_str(_byte_level(vocabulary).to_str())
    if bos:
        made.post_processor = processors.Sequence(
            [
                processors.ByteLevel(trim_offsets=False),
                processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)]),
            ]
        )
    tokens: dict[str, Any] = {"bos_token": "<s>", "eos_token": "</s>"}
    if pad:
        tokens["pad_token"] = "<pad>"
    wrapped = hf.PreTrainedTokenizerFast(tokenizer_object=made, padding_side=padding_side, **tokens)
    if chat:
        wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def word_piece() -> hf.PreTrainedTokenizerFast:
    """As BERT's: [CLS] before and [SEP] after every text."""
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_word_piece().to_str()),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_HEAD = {**_SHAPE, "head_dim": 8}
_ENCODER = {k: v for k, v in _SHAPE.items() if k not in {"num_key_value_heads", "bos_token_id", "eos_token_id"}}
_SLIDING = ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"]
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": LAYERS,  # as many as the text model: length alone must not decide
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def _gemma4_text(**changes: Any) -> hf.Gemma4TextConfig:
    return hf.Gemma4TextConfig(
        **_HEAD,
        global_head_dim=16,
        layer_types=["sliding_attention", "full_attention"] * 2,
        sliding_window=16,
        num_kv_shared_layers=2,
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=VOCABULARY,
        final_logit_softcapping=5.0,
        **changes,
    )


def _gemma4() -> hf.PreTrainedModel:
    vision = {**_VISION, "head_dim": 8, "global_head_dim": 8, "num_key_value_heads": 2}
    vision = {k: v for k, v in vision.items() if k != "image_size"}
    config = hf.Gemma4Config(text_config=_gemma4_text(), vision_config=vision, audio_config=None)
    return hf.Gemma4ForConditionalGeneration(config)


def _gemma3() -> hf.PreTrainedModel:
    text = hf.Gemma3TextConfig(**_HEAD, layer_types=_SLIDING, sliding_window=16, query_pre_attn_scalar=8)
    return hf.Gemma3ForConditionalGeneration(
        hf.Gemma3Config(text_config=text, vision_config=_VISION, mm_tokens_per_image=4)
    )


def _qwen3_5_text() -> hf.Qwen3_5TextConfig:
    return hf.Qwen3_5TextConfig(
        **_HEAD,
        layer_types=["linear_attention", "linear_attention", "linear_attention", "full_attention"],
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 1e4,
            "partial_rotary_factor": 1.0,
            "mrope_section": [2, 1, 1],
        },
    )


def _qwen3_5() -> hf.PreTrainedModel:
    vision = {"depth": LAYERS, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2}
    vision |= {"out_hidden_size": WIDTH, "num_position_embeddings": 16}
    return hf.Qwen3_5ForConditionalGeneration(hf.Qwen3_5Config(text_config=_qwen3_5_text(), vision_config=vision))


def _gpt2(**changes: Any) -> hf.PreTrainedModel:
    return hf.GPT2LMHeadModel(
        hf.GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=WIDTH,
            n_layer=LAYERS,
            n_head=4,
            n_positions=1024,
            bos_token_id=1,
            eos_token_id=2,
            **changes,
        )
    )


def _opt(**changes: Any) -> hf.PreTrainedModel:
    return hf.OPTForCausalLM(
        hf.OPTConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            ffn_dim=48,
            num_attention_heads=4,
            max_position_embeddings=1024,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            **{"word_embed_proj_dim": WIDTH, **changes},
        )
    )


_MAKE: dict[str, Callable[[], hf.PreTrainedModel]] = {
    "gemma4_text": lambda: hf.Gemma4ForCausalLM(_gemma4_text()),
    "gemma4": _gemma4,
    "gemma4_moe": lambda: hf.Gemma4ForCausalLM(
        _gemma4_text(enable_moe_block=True, num_experts=4, top_k_experts=2, moe_intermediate_size=24)
    ),
    "apertus": lambda: hf.ApertusForCausalLM(hf.ApertusConfig(**_SHAPE)),
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**_SHAPE)),
    "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**_SHAPE)),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**_HEAD)),
    "qwen3_5": _qwen3_5,
    "qwen3_5_text": lambda: hf.Qwen3_5ForCausalLM(_qwen3_5_text()),
    "gpt_neox": lambda: hf.GPTNeoXForCausalLM(
        hf.GPTNeoXConfig(**{k: v for k, v in _SHAPE.items() if k != "num_key_value_heads"})
    ),
    "gpt2": _gpt2,
    "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**_HEAD, sliding_window=16)),
    "olmo2": lambda: hf.Olmo2ForCausalLM(hf.Olmo2Config(**_SHAPE)),
    "olmo3": lambda: hf.Olmo3ForCausalLM(hf.Olmo3Config(**_SHAPE, layer_types=_SLIDING, sliding_window=16)),
    "phi3": lambda: hf.Phi3ForCausalLM(hf.Phi3Config(**_SHAPE)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(
        hf.Gemma2Config(**_HEAD, sliding_window=16, query_pre_attn_scalar=8, final_logit_softcapping=5.0)
    ),
    "gemma3_text": lambda: hf.Gemma3ForCausalLM(
        hf.Gemma3TextConfig(**_HEAD, layer_types=_SLIDING, sliding_window=16, query_pre_attn_scalar=8)
    ),
    "gemma3": _gemma3,
    "smollm3": lambda: hf.SmolLM3ForCausalLM(hf.SmolLM3Config(**_SHAPE)),
    "gpt_oss": lambda: hf.GptOssForCausalLM(
        hf.GptOssConfig(**_HEAD, num_local_experts=4, num_experts_per_tok=2, sliding_window=16)
    ),
    "mixtral": lambda: hf.MixtralForCausalLM(hf.MixtralConfig(**_SHAPE, num_local_experts=4, num_experts_per_tok=2)),
    "opt": _opt,
    "opt_post_norm": lambda: _opt(do_layer_norm_before=False, word_embed_proj_dim=16),
    "bert": lambda: hf.BertModel(hf.BertConfig(**_ENCODER)),
    "modernbert": lambda: hf.ModernBertModel(
        hf.ModernBertConfig(**_ENCODER, global_attn_every_n_layers=2, local_attention=16)
    ),
    "roberta": lambda: hf.RobertaModel(hf.RobertaConfig(**{**_ENCODER, "max_position_embeddings": 1026})),
}

FAMILIES = tuple(_MAKE)
ENCODERS = ("bert", "modernbert", "roberta")
DECODERS = tuple(name for name in FAMILIES if name not in ENCODERS)
RECURRENT = ("qwen3_5", "qwen3_5_text")
WINDOWED = ("gemma4_text", "gemma4", "gemma4_moe", "mistral", "olmo3", "gemma2", "gemma3_text", "gemma3", "gpt_oss")
"""Families with a sliding window that is shorter than some texts of the tests."""


def model(family: str, *, seed: int = 0, vocabulary: int = VOCABULARY) -> hf.PreTrainedModel:
    """A fresh random model of `family`, float32, in eval mode: 4 layers of width 32, 400 tokens unless told otherwise.

    Weights are drawn wider than the usual 0.02, so that four layers of it leave no two residuals alike.
    """
    torch.manual_seed(seed)
    made = _MAKE[family]()
    if vocabulary != VOCABULARY:
        for part in (made.config, made.config.get_text_config()):
            for name in ("vocab_size", "vocab_size_per_layer_input"):
                if hasattr(part, name):
                    setattr(part, name, vocabulary)
        made = type(made)(made.config)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in made.parameters():
            if weight.dim() > 1:
                weight.normal_(0.0, weight.shape[-1] ** -0.5, generator=draw)
            else:
                weight.add_(torch.randn(weight.shape, generator=draw) * 0.05)
    made.eval()
    return made


def tokenizer_for(family: str) -> hf.PreTrainedTokenizerFast:
    """The usual one: word pieces with [CLS] and [SEP] for encoders, byte-level BPE otherwise."""
    return word_piece() if family in ENCODERS else tokenizer()


def engine(family: str, *, seed: int = 0, tokenizer: hf.PreTrainedTokenizerFast | None = None) -> Any:
    """A tiny model and its tokenizer behind the engine's verbs."""
    from heartstrings.engines.hf.engine import TorchEngine

    return TorchEngine.from_model(model(family, seed=seed), tokenizer or tokenizer_for(family))


def folder(path: Path, family: str = "llama", *, seed: int = 0, **settings: Any) -> Path:
    """A checkpoint on disk: config, safetensors, tokenizer. `settings` go to `tokenizer`, the vocabulary to both."""
    model(family, seed=seed, vocabulary=settings.get("vocabulary", VOCABULARY)).save_pretrained(path)
    (tokenizer_for(family) if not settings else tokenizer(**settings)).save_pretrained(path)
    return path


def stories(n: int = 12, *, words: tuple[int, int] = (5, 120), seed: int = 0) -> list[str]:
    """Nonsense prose of uneven lengths, the same for the same seed."""
    vocabulary = " ".join(SENTENCES).split()
    draw = torch.Generator().manual_seed(seed)
    texts = []
    for _ in range(n):
        length = int(torch.randint(words[0], words[1], (1,), generator=draw))
        picks = torch.randint(0, len(vocabulary), (length,), generator=draw)
        texts.append(" ".join(vocabulary[int(pick)] for pick in picks))
    return texts
