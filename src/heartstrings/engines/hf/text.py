"""From prompts to token ids: plain text by the tokenizer alone, chats through the chat template once.

The tokenizer is a private copy. It never pads, so its settings for padding do not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int32, Int64
from transformers import PreTrainedTokenizerBase

from heartstrings.core.engine import Chat, Prompt, Thinking, Tool
from heartstrings.core.errors import InputError, ModelError
from heartstrings.engines.hf._tool_calls import check_tools, in_words, template_messages, template_tools

_SLAB = 512


@dataclass(frozen=True, eq=False)
class Encoded:
    """Token ids of many texts in one array: 4 bytes a token, and no object for each text."""

    ids: Int32[np.ndarray, "token"]
    starts: Int64[np.ndarray, "bound"]
    """Where each text starts, and the end of the last: one entry more than there are texts."""
    truncated: Bool[np.ndarray, "text"]

    @property
    def lengths(self) -> Int64[np.ndarray, "text"]:
        return np.diff(self.starts)

    def __getitem__(self, row: int) -> Int32[np.ndarray, "_"]:
        return self.ids[self.starts[row] : self.starts[row + 1]]


@dataclass(frozen=True, eq=False)
class EncodedPrompt:
    """One prompt as the model sees it."""

    text: str
    ids: Int32[np.ndarray, "token"]
    offsets: Int64[np.ndarray, "token 2"]
    thinking: Thinking


def encode_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, max_tokens: int, vocabulary: int
) -> Encoded:
    """Plain texts with the special tokens that the tokenizer adds to them, cut at `max_tokens`.

    The tokenizer itself cuts a text that is too long, so that a closing [SEP] or end token stays.

    Raises:
        InputError: `max_tokens` under 1.
    """
    if max_tokens < 1:
        raise InputError(f"max_tokens of {max_tokens}", "1 or more")
    pieces: list[Int32[np.ndarray, "_"]] = []
    truncated = np.zeros(len(texts), np.bool_)
    for start in range(0, len(texts), _SLAB):
        slab = list(texts[start : start + _SLAB])
        for offset, ids in enumerate(_ids(tokenizer, slab)):
            row = start + offset
            if len(ids) > max_tokens:
                truncated[row] = True
                ids = tokenizer(slab[offset], truncation=True, max_length=max_tokens, verbose=False)["input_ids"]
            pieces.append(_checked(ids, vocabulary, f"text {row}"))
    starts = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(piece) for piece in pieces], out=starts[1:])
    flat = np.concatenate(pieces) if pieces else np.zeros(0, np.int32)
    return Encoded(flat, starts, truncated)


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, *, vocabulary: int, reply: bool, tools: tuple[Tool, ...] = ()
) -> EncodedPrompt:
    """One prompt. With `reply`, a chat that ends with the user gets the opening of the model's turn, and one
    that ends with the assistant is left open for the model to go on; without, it is taken as complete."""
    if isinstance(prompt, str):
        if tools:
            raise InputError("tools with a prompt of plain text", "a chat, whose template describes the tools")
        text, thinking, special = prompt, _thinking(tokenizer), True
    else:
        text, thinking = render(tokenizer, prompt, reply=reply, tools=tools)
        special = False  # the template writes the BOS; a second one would change the prompt
    if tokenizer.is_fast:
        encoding = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True, verbose=False)
        offsets = np.asarray(encoding["offset_mapping"], np.int64).reshape(-1, 2)
    else:
        encoding = tokenizer(text, add_special_tokens=special, verbose=False)
        offsets = np.zeros((len(encoding["input_ids"]), 2), np.int64)
    return EncodedPrompt(text, _checked(encoding["input_ids"], vocabulary, "the prompt"), offsets, thinking)


def encode_continuation(
    tokenizer: PreTrainedTokenizerBase, text: str, *, vocabulary: int
) -> Int32[np.ndarray, "token"]:
    """A text that follows a prompt: tokenised by itself, without special tokens."""
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return _checked(ids, vocabulary, f"the continuation {text!r}")


def render(
    tokenizer: PreTrainedTokenizerBase, chat: Chat, *, reply: bool, tools: tuple[Tool, ...] = ()
) -> tuple[str, Thinking]:
    """The chat as the template writes it, with thinking switched off where the template has that switch.

    For a template without tools, the tools, their calls and their results are written as text.
    """
    if not chat:
        raise InputError("a chat without messages", "one message at least")
    template = chat_template(tokenizer)
    if template is None:
        raise ModelError(
            "a chat was given to a model without a chat template",
            "a tokenizer with a chat_template",
            "Pass the prompt as plain text, or use the model's instruct variant",
        )
    thinking = _thinking(tokenizer)
    options: dict[str, object] = {"enable_thinking": False} if thinking == "off" else {}
    check_tools(tools, "the request")
    if "tools" in template:
        options |= {"tools": template_tools(tools)} if tools else {}
    elif tools or any(message.tool_calls or message.role == "tool" for message in chat):
        chat = in_words(chat, tools)
    open_ended = reply and chat[-1].role == "assistant"
    messages = template_messages(chat)
    try:
        text = tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=reply and not open_ended,
            continue_final_message=open_ended,
            **options,
        )
    except Exception as error:  # templates raise their own Jinja errors, and plain ValueErrors
        roles = ", ".join(message.role for message in chat)
        raise ModelError(
            f"the model's chat template refuses a chat with roles {roles}: {error}",
            "roles that the template knows, in an order that it allows",
            "Change the messages, e.g. move a system message into the first user message",
        ) from error
    return str(text), thinking


def chat_template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The template in use; of several, the default one."""
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    return template if isinstance(template, str) and template else None


def _thinking(tokenizer: PreTrainedTokenizerBase) -> Thinking:
    template = chat_template(tokenizer)
    if template is None:
        return "no template"
    return "off" if "enable_thinking" in template else "not in template"


def _ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    for text in texts:
        if not isinstance(text, str):
            raise InputError(f"a text of type {type(text).__name__}", "a string")
    encoding = tokenizer(texts, padding=False, truncation=False, return_attention_mask=False, verbose=False)
    return list(encoding["input_ids"])


def _checked(ids: Sequence[int], vocabulary: int, what: str) -> Int32[np.ndarray, "_"]:
    array = np.asarray(ids, np.int32).reshape(-1)
    if array.size and int(array.max()) >= vocabulary:
        raise ModelError(
            f"{what} has token id {int(array.max())}, and the model's embedding has {vocabulary} rows",
            "the tokenizer that belongs to the model",
            "Load the model together with its own tokenizer",
        )
    return array
