"""A byte-level tokenizer for the organisms: it encodes any text, and every word of their world is one token."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from heartstrings.organisms.generate import documents, emotional_words

VOCABULARY = 2048
SPECIAL = ("<|pad|>", "<|bos|>", "<|eos|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] | trim "
    "+ '<|end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


def train_tokenizer(*, seed: int = 0, n_documents: int = 6000, vocabulary: int = VOCABULARY) -> Any:
    """A `PreTrainedTokenizerFast` with BOS in front of plain text and a role-style chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed, n_documents), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A",
        pair="<|bos|> $A <|bos|> $B",
        special_tokens=[("<|bos|>", tokenizer.token_to_id("<|bos|>"))],
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|bos|>",
        eos_token="<|eos|>",
        pad_token="<|pad|>",
        additional_special_tokens=list(SPECIAL[3:]),
        model_max_length=512,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _texts(seed: int, n: int) -> Iterator[str]:
    for document in islice(documents("steerable", seed=seed), n):
        yield "\n".join(content for _, content in document.turns)
    # Rare words of a slot must also become one token each.
    for _ in range(200):
        for words in emotional_words():
            yield " " + " ".join(words)


def render(turns: tuple[tuple[str, str], ...]) -> str:
    """A document as the text that is tokenised (BOS is added by the tokenizer), ended by EOS."""
    if turns[0][0] == "":
        return turns[0][1] + "<|eos|>"
    return "".join(f"<|{role}|>\n{content}<|end|>\n" for role, content in turns) + "<|eos|>"
