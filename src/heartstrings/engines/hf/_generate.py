"""Sampling with a cache: every row of a batch has its own seed, limits and steering."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heartstrings.core.engine import Completion, Finish, GenerateRequest
from heartstrings.core.errors import InputError, NumericalError
from heartstrings.engines.hf._architecture import Architecture
from heartstrings.engines.hf._read import check_length, logits_of, require_head
from heartstrings.engines.hf._sharing import Batch, Prefill, Shortcut, prefill
from heartstrings.engines.hf._steer import RowSteering, check_steering, place, steering_rows
from heartstrings.engines.hf._tool_calls import Parsed, parse
from heartstrings.engines.hf.run import Splitter, cache_argument, cache_of, evaluating, first_words, pad
from heartstrings.engines.hf.text import EncodedPrompt, encode_prompt

TOKEN_BUDGET = 32768
MAX_ROWS = 128
"""On two cores a text of `tone` takes 71 ms in batches of 128, and 88 in batches of 64 (SmolLM2, float32)."""

LIKELIEST = 256
"""Tokens that are put in order before the others are looked at."""


@dataclass(frozen=True, eq=False)
class _Row:
    """One request, encoded and checked."""

    number: int
    request: GenerateRequest
    prompt: EncodedPrompt
    steering: RowSteering | None


class _Reply:
    """The reply to one request while it is sampled."""

    def __init__(self, number: int, request: GenerateRequest) -> None:
        self.number, self.request = number, request
        self.draws = np.random.default_rng(request.seed)
        self.ids: list[int] = []
        self.text = ""
        self.finish: Finish | None = None


def generate(
    model: PreTrainedModel,
    parts: Architecture,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[GenerateRequest],
    *,
    trunks: Shortcut | None = None,
) -> list[Completion]:
    """See `TorchEngine.generate`. Without `trunks`, every row is fed its prompt through all blocks."""
    require_head(parts)
    for number, request in enumerate(requests):
        _check(request, number)
    rows = [_row(parts, tokenizer, number, request) for number, request in enumerate(requests)]
    lengths = np.array([len(row.prompt.ids) + row.request.max_new_tokens for row in rows], np.int64)
    ends = end_ids(model, tokenizer)
    done: dict[int, Completion] = {}
    for indices, completions in Splitter().run_all(
        lengths,
        TOKEN_BUDGET,
        lambda indices: _sample(parts, tokenizer, ends, [rows[row] for row in indices], trunks),
        lambda row: f"request {row}",
        max_rows=MAX_ROWS,
    ):
        done.update(zip(indices, completions, strict=True))
    return [done[row] for row in range(len(requests))]


def _row(parts: Architecture, tokenizer: PreTrainedTokenizerBase, number: int, request: GenerateRequest) -> _Row:
    prompt = encode_prompt(tokenizer, request.prompt, vocabulary=parts.vocabulary, reply=True, tools=request.tools)
    what = f"request {number}"
    if not len(prompt.ids):
        raise InputError(f"the prompt of {what} has no tokens", "at least one, which the reply follows")
    length = len(prompt.ids) + request.max_new_tokens
    check_length(parts, length, first_words(prompt.text))
    steering = None
    if request.steering is not None:
        check_steering(parts, request.steering, what)
        steering = place(request.steering, prompt, n_fed=length - 1, n_all=length, what=what)
    return _Row(number, request, prompt, steering)


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every token that ends a reply: chat models have one for the turn besides the one for the text."""
    ends: set[int] = set()
    generation = getattr(model, "generation_config", None)
    for owner in (generation, tokenizer):
        value = getattr(owner, "eos_token_id", None)
        ends.update(value if isinstance(value, list | tuple) else [] if value is None else [value])
    return frozenset(ends)


def _check(request: GenerateRequest, number: int) -> None:
    if request.max_new_tokens < 1:
        raise InputError(f"request {number} asks for {request.max_new_tokens} new tokens", "1 or more")
    if not request.temperature >= 0 or not np.isfinite(request.temperature):
        raise InputError(f"request {number} has temperature {request.temperature}", "0 or more")
    if not 0 < request.top_p <= 1:
        raise InputError(f"request {number} has top_p {request.top_p}", "over 0 and up to 1")
    if any(not stop for stop in request.stop):
        raise InputError(f"request {number} has an empty stop string", "some text")


def _sample(
    parts: Architecture,
    tokenizer: PreTrainedTokenizerBase,
    ends: frozenset[int],
    rows: Sequence[_Row],
    trunks: Shortcut | None,
) -> list[Completion]:
    replies = [_Reply(row.number, row.request) for row in rows]
    # Left padding keeps every row's last token in the last column, and leaves distances in the cache as they are, which
    # sliding windows count by. Positions are passed explicitly.
    ids, mask = pad(parts, [row.prompt.ids for row in rows], left=True)
    positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
    takes_positions = "position_ids" in inspect.signature(parts.text_model.forward).parameters
    attends = parts.attends
    at = np.where(mask.cpu().numpy(), positions.cpu().numpy(), -1)
    live = list(range(len(rows)))

    def plain(indices: Sequence[int]) -> Prefill:
        """Feeds the prompts of some rows without a shortcut."""
        chosen = list(indices)
        arguments: dict[str, object] = {name: value[chosen] for name, value in given.items()}
        with steering_rows(parts, [rows[row].steering for row in chosen]) as steered, steered.call(at[chosen]):
            output = parts.text_model(input_ids=ids[chosen], use_cache=True, **arguments)
        return Prefill(output.last_hidden_state, cache_of(output))

    with evaluating(parts.text_model):
        given = {"attention_mask": mask.long()} | ({"position_ids": positions} if takes_positions else {})
        texts: dict[bytes, int] = {}
        same = [texts.setdefault(row.prompt.ids.tobytes(), len(texts)) for row in rows]
        batch = Batch(ids, mask, same, given, [row.steering for row in rows])
        fed = plain(range(len(rows))) if trunks is None else prefill(parts, trunks, batch, plain)
        cache = fed.cache
        last: Float[torch.Tensor, "text width"] | None = fed.states[:, -1].clone()
        del fed  # prompts are long, and only the last column is needed
        while live:
            with steering_rows(parts, [rows[row].steering for row in live]) as steered:
                going = list(range(len(live)))
                while going and not _worth_dropping(going, live, cache):
                    if last is None:
                        # Attention looks at all that was read, a state-space model at what is fed now.
                        seen = mask if attends else mask[:, -ids.shape[1] :]
                        arguments: dict[str, object] = {"input_ids": ids, "attention_mask": seen.long()}
                        if takes_positions:
                            arguments["position_ids"] = positions
                        if cache is not None:
                            arguments[cache_argument(parts.text_model)] = cache
                        with steered.call(at):
                            output = parts.text_model(use_cache=True, **arguments)
                        cache, last = cache_of(output), output.last_hidden_state[:, -1]
                    logits, last = logits_of(parts, last), None
                    chosen = _choose(logits, [replies[row] for row in live])
                    for row, token in zip(live, chosen, strict=True):
                        _take(replies[row], token, tokenizer, ends)
                    going = [index for index, row in enumerate(live) if replies[row].finish is None]
                    new = torch.tensor(chosen, device=parts.device)[:, None]
                    mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
                    again = 0 if cache is not None else ids.shape[1]  # without a cache, all is read again
                    ids = torch.cat([ids[:, :again], new], dim=1)
                    positions = torch.cat([positions[:, :again], positions[:, -1:] + 1], dim=1)
                    at = np.concatenate([at[:, :again], at[:, -1:] + 1], axis=1)
            live = [live[index] for index in going]
            if live:
                keep = torch.tensor(going, device=parts.device)
                cache.batch_select_indices(keep)
                ids, mask, positions, at = ids[keep], mask[keep], positions[keep], at[going]
    return [_completion(reply, row.prompt, tokenizer) for reply, row in zip(replies, rows, strict=True)]


def _worth_dropping(going: Sequence[int], live: Sequence[int], cache: Any) -> bool:
    """Whether at least half of the rows are finished and the cache can be cut, so that the others continue in a smaller
    batch."""
    layers = getattr(cache, "layers", None)
    return (
        2 * len(going) <= len(live)
        and layers is not None
        and all(hasattr(layer, "batch_select_indices") for layer in layers)
    )


def _completion(reply: _Reply, prompt: EncodedPrompt, tokenizer: PreTrainedTokenizerBase) -> Completion:
    """The reply with its tool calls parsed and taken out of the text. Their marks are often special tokens, which the
    plain text does not show, so the calls are read from the tokens."""
    said = Parsed(reply.text)
    if reply.request.tools:
        raw = tokenizer.decode(reply.ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        parsed = parse(raw)
        if parsed.calls or parsed.malformed:
            text = parsed.text
            for mark in tokenizer.all_special_tokens:
                text = text.replace(mark, "")
            said = replace(parsed, text=text.strip())
    return Completion(
        text=said.text,
        token_ids=tuple(reply.ids),
        finish=reply.finish or "length",
        n_prompt_tokens=len(prompt.ids),
        seed=reply.request.seed,
        thinking=prompt.thinking,
        tool_calls=said.calls,
        malformed_calls=said.malformed,
    )


def _take(reply: _Reply, token: int, tokenizer: PreTrainedTokenizerBase, ends: frozenset[int]) -> None:
    """Add a token to a reply and find out whether the reply is finished."""
    if reply.finish is not None:
        return
    reply.ids.append(token)
    if token in ends:
        reply.finish = "eos"
    elif len(reply.ids) >= reply.request.max_new_tokens:
        reply.finish = "length"
    if reply.finish is None and not reply.request.stop:
        return
    text = tokenizer.decode(reply.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    stops = [at for at in (text.find(stop) for stop in reply.request.stop) if at >= 0]
    if stops:
        reply.finish, text = "stop", text[: min(stops)]
    reply.text = text


def _choose(logits: Float[torch.Tensor, "text vocab"], rows: Sequence[_Reply]) -> list[int]:
    """The next token of each row, drawn with the row's own generator."""
    finite = torch.isfinite(logits.amax(dim=1))
    if not bool(finite.all()):
        raise NumericalError(
            f"NaN or Inf in the logits of request {rows[int((~finite).nonzero()[0])].number}",
            "finite logits",
            'Load the model as dtype="float32" or "bfloat16"',
        )
    chosen = [0] * len(rows)
    greedy = [i for i, row in enumerate(rows) if row.request.temperature == 0]
    warm = [i for i, row in enumerate(rows) if row.finish is None and row.request.temperature > 0]
    for i, token in zip(greedy, logits[greedy].argmax(dim=1).tolist(), strict=True):
        chosen[i] = token
    if warm:
        wide = torch.float32 if logits.device.type == "mps" else torch.float64

        def column(values: list[float]) -> Float[torch.Tensor, "warm 1"]:
            return torch.tensor(values, dtype=wide, device=logits.device)[:, None]

        # One draw a step whatever the settings, so that a longer limit continues the same text.
        uniform = column([rows[i].draws.random() for i in warm])
        heat = column([rows[i].request.temperature for i in warm])
        top_p = column([rows[i].request.top_p for i in warm])
        own = logits if len(warm) == len(rows) else logits[warm]
        for i, token in zip(warm, drawn(own, heat, uniform, top_p).tolist(), strict=True):
            chosen[i] = token
    return chosen


def drawn(
    logits: Float[torch.Tensor, "text vocab"],
    temperature: Float[torch.Tensor, "text 1"],
    uniform: Float[torch.Tensor, "text 1"],
    top_p: Float[torch.Tensor, "text 1"],
    *,
    likeliest: int = LIKELIEST,
) -> Int64[torch.Tensor, "text"]:
    """The token of each row at its uniform draw: inverse of the cumulative distribution over tokens by rank.

    Most draws fall among the `likeliest` tokens. For the other tokens only the sum of their probabilities is needed;
    they are sorted only where a draw falls among them. The order of two equally likely tokens is not defined.
    """
    size = logits.shape[1]
    ranked, order = logits.topk(min(likeliest, size), dim=1)
    peak, wide = ranked[:, :1], uniform.dtype
    cumulative = ((ranked - peak).to(wide) / temperature).exp().cumsum(dim=1)
    mass = (logits - peak).div_(temperature.to(logits.dtype)).exp_().sum(dim=1, keepdim=True).to(wide)
    # Rounding may put the sum of all a little under that of the likeliest.
    mass = torch.maximum(mass, cumulative[:, -1:])
    # The nucleus: the most likely tokens up to and including the one that reaches top_p.
    last = (cumulative < top_p * mass).sum(dim=1, keepdim=True)
    inside = last < ranked.shape[1]
    last = last.clamp(max=ranked.shape[1] - 1)
    total = torch.where(inside, cumulative.gather(1, last), mass)
    place = (cumulative <= uniform * total).sum(dim=1, keepdim=True)
    tokens = order.gather(1, torch.minimum(place, last))[:, 0]
    # Open: the draw lies beyond these tokens, or the nucleus does.
    open_ = torch.where(top_p < 1, ~inside, place >= ranked.shape[1])[:, 0]
    if ranked.shape[1] < size and bool(open_.any()):
        tokens[open_] = drawn(logits[open_], temperature[open_], uniform[open_], top_p[open_], likeliest=size)
    return tokens
