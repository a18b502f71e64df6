"""Sampling with a cache: rows of one batch are strangers to each other, each with its own seed and limits."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heartstrings.core.engine import Completion, Finish, GenerateRequest
from heartstrings.core.errors import InputError, NumericalError
from heartstrings.engines.hf.architecture import Architecture
from heartstrings.engines.hf.prefill import Fed, Prompts, feed
from heartstrings.engines.hf.read import check_length, logits_of, require_head
from heartstrings.engines.hf.run import (
    Splitter,
    cache_argument,
    cache_of,
    evaluating,
    filler_id,
    first_words,
    pad,
    plan_batches,
)
from heartstrings.engines.hf.steer import RowSteering, check_steering, place, steering_rows
from heartstrings.engines.hf.text import EncodedPrompt, encode_prompt
from heartstrings.engines.hf.tool_calls import Parsed, parse
from heartstrings.engines.hf.trunk import Trunks

TOKEN_BUDGET = 32768
MAX_ROWS = 128
"""On two cores a text of `tone` takes 71 ms in batches of 128, and 88 in batches of 64 (SmolLM2, float32)."""

LIKELIEST = 256
"""Tokens that are put in order before the others are looked at."""


@dataclass
class _Row:
    """One completion in the making."""

    request: GenerateRequest
    draws: np.random.Generator
    ids: list[int] = field(default_factory=list)
    text: str = ""
    finish: Finish | None = None


def generate(
    model: PreTrainedModel,
    parts: Architecture,
    tokenizer: PreTrainedTokenizerBase,
    device: torch.device,
    requests: Sequence[GenerateRequest],
    *,
    trunks: Trunks | None = None,
) -> list[Completion]:
    """See `TorchEngine.generate`. Without `trunks`, every row is fed its prompt through all blocks."""
    require_head(parts)
    for number, request in enumerate(requests):
        _check(request, number)
    prompts = [
        encode_prompt(tokenizer, r.prompt, vocabulary=parts.vocabulary, reply=True, tools=r.tools) for r in requests
    ]
    sizes = []
    steerings: list[RowSteering | None] = []
    for number, (request, prompt) in enumerate(zip(requests, prompts, strict=True)):
        if not len(prompt.ids):
            raise InputError(f"the prompt of request {number} has no tokens", "one at least, to go on from")
        sizes.append(len(prompt.ids) + request.max_new_tokens)
        check_length(parts, sizes[-1], first_words(prompt.text))
        steerings.append(None)
        if request.steering is not None:
            what = f"request {number}"
            check_steering(parts, request.steering, what)
            steerings[-1] = place(request.steering, prompt, n_fed=sizes[-1] - 1, n_all=sizes[-1], what=what)
    lengths = np.array(sizes, np.int64)
    ends = end_ids(model, tokenizer)
    done: dict[int, Completion] = {}
    splitter = Splitter()
    for rows in plan_batches(lengths, TOKEN_BUDGET, max_rows=MAX_ROWS):
        for some, result in splitter.run(
            rows.tolist(),
            size=lambda some: len(some) * int(lengths[list(some)].max()),
            work=lambda some: _sample(parts, tokenizer, device, ends, requests, prompts, steerings, some, trunks),
            describe=lambda row: f"request {row} (up to {lengths[row]} tokens)",
        ):
            done.update(zip(some, result, strict=True))
    return [done[row] for row in range(len(requests))]


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
    device: torch.device,
    ends: frozenset[int],
    requests: Sequence[GenerateRequest],
    prompts: Sequence[EncodedPrompt],
    steerings: Sequence[RowSteering | None],
    numbers: Sequence[int],
    trunks: Trunks | None,
) -> list[Completion]:
    rows = [_Row(requests[n], np.random.default_rng(requests[n].seed)) for n in numbers]
    # Left padding keeps every row's last token in the last column, and distances in the cache true, which
    # sliding windows count by. Positions are told explicitly.
    ids, mask = pad([prompts[n].ids for n in numbers], filler_id(parts), device, left=True)
    positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
    takes_positions = "position_ids" in inspect.signature(parts.text_model.forward).parameters
    attends = parts.attends
    at = np.where(mask.cpu().numpy(), positions.cpu().numpy(), -1)
    live = list(range(len(rows)))

    def plain(some: Sequence[int]) -> Fed:
        """The prompts of some rows, each fed by itself."""
        chosen = list(some)
        arguments: dict[str, object] = {name: value[chosen] for name, value in given.items()}
        mine = [steerings[numbers[row]] for row in chosen]
        with steering_rows(parts, mine) as steered, steered.call(at[chosen]):
            output = parts.text_model(input_ids=ids[chosen], use_cache=True, **arguments)
        return Fed(output.last_hidden_state, cache_of(output))

    with evaluating(parts.text_model):
        given = {"attention_mask": mask.long()} | ({"position_ids": positions} if takes_positions else {})
        texts: dict[bytes, int] = {}
        same = [texts.setdefault(prompts[n].ids.tobytes(), len(texts)) for n in numbers]
        batch = Prompts(ids, mask, same, given, [steerings[n] for n in numbers])
        fed = plain(range(len(rows))) if trunks is None else feed(parts, trunks, batch, plain)
        cache = fed.cache
        last: Float[torch.Tensor, "text width"] | None = fed.states[:, -1].clone()
        del fed  # prompts are long, and only the last column is needed
        while live:
            with steering_rows(parts, [steerings[numbers[row]] for row in live]) as steered:
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
                    chosen = _choose(logits, [rows[row] for row in live], [numbers[row] for row in live])
                    for row, token in zip(live, chosen, strict=True):
                        _take(rows[row], token, tokenizer, ends)
                    going = [place for place, row in enumerate(live) if rows[row].finish is None]
                    new = torch.tensor(chosen, device=device)[:, None]
                    mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
                    again = 0 if cache is not None else ids.shape[1]  # without a cache, all is read again
                    ids = torch.cat([ids[:, :again], new], dim=1)
                    positions = torch.cat([positions[:, :again], positions[:, -1:] + 1], dim=1)
                    at = np.concatenate([at[:, :again], at[:, -1:] + 1], axis=1)
            live = [live[place] for place in going]
            if live:
                keep = torch.tensor(going, device=device)
                cache.batch_select_indices(keep)
                ids, mask, positions, at = ids[keep], mask[keep], positions[keep], at[going]
    return [_completion(row, prompts[number], tokenizer) for row, number in zip(rows, numbers, strict=True)]


def _worth_dropping(going: Sequence[int], live: Sequence[int], cache: Any) -> bool:
    """Whether so many rows are done that the others go on in a smaller batch; some caches cannot be cut."""
    layers = getattr(cache, "layers", None)
    return (
        2 * len(going) <= len(live)
        and layers is not None
        and all(hasattr(layer, "batch_select_indices") for layer in layers)
    )


def _completion(row: _Row, prompt: EncodedPrompt, tokenizer: PreTrainedTokenizerBase) -> Completion:
    """With the calls taken out of the text; their marks are often special tokens, so the text alone has lost them."""
    said = Parsed(row.text)
    if row.request.tools:
        raw = tokenizer.decode(row.ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        found = parse(raw)
        if found.calls or found.malformed:
            text = found.text
            for mark in tokenizer.all_special_tokens:
                text = text.replace(mark, "")
            said = replace(found, text=text.strip())
    return Completion(
        text=said.text,
        token_ids=tuple(row.ids),
        finish=row.finish or "length",
        n_prompt_tokens=len(prompt.ids),
        seed=row.request.seed,
        thinking=prompt.thinking,
        tool_calls=said.calls,
        malformed_calls=said.malformed,
    )


def _take(row: _Row, token: int, tokenizer: PreTrainedTokenizerBase, ends: frozenset[int]) -> None:
    if row.finish is not None:
        return
    row.ids.append(token)
    if token in ends:
        row.finish = "eos"
    elif len(row.ids) >= row.request.max_new_tokens:
        row.finish = "length"
    if row.finish is None and not row.request.stop:
        return
    text = tokenizer.decode(row.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    found = [at for at in (text.find(stop) for stop in row.request.stop) if at >= 0]
    if found:
        row.finish, text = "stop", text[: min(found)]
    row.text = text


def _choose(logits: Float[torch.Tensor, "text vocab"], rows: list[_Row], numbers: Sequence[int]) -> list[int]:
    """One token a row: the inverse of the cumulative distribution at one uniform draw of the row's own."""
    if not bool(torch.isfinite(logits.amax(dim=1)).all()):
        bad = int((~torch.isfinite(logits.amax(dim=1))).nonzero()[0])
        raise NumericalError(
            f"NaN or Inf in the logits of request {numbers[bad]}",
            "finite logits",
            'Load the model as dtype="float32" or "bfloat16"',
        )
    chosen = [0] * len(rows)
    greedy = [i for i, row in enumerate(rows) if row.request.temperature == 0]
    warm = [i for i, row in enumerate(rows) if row.finish is None and row.request.temperature > 0]
    if greedy:
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

    Most draws fall among the likeliest tokens. Of the others the sum of their probabilities is needed, and their order
    only where a draw falls among them. Which of two equally likely tokens comes first is not settled.
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
    found = order.gather(1, torch.minimum(place, last))[:, 0]
    # Open: the draw lies beyond these tokens, or the nucleus does.
    open_ = torch.where(top_p < 1, ~inside, place >= ranked.shape[1])[:, 0]
    if ranked.shape[1] < size and bool(open_.any()):
        found[open_] = drawn(logits[open_], temperature[open_], uniform[open_], top_p[open_], likeliest=size)
    return found
