"""Reading: every token projected on directions while the model runs, and logits of residual states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heartstrings.core.engine import Prompt, Trace
from heartstrings.core.errors import InputError, ModelError
from heartstrings.core.types import Site
from heartstrings.engines.hf._architecture import Architecture
from heartstrings.engines.hf._pool import find_sinks
from heartstrings.engines.hf.run import Splitter, check_layers, evaluating, first_words, not_finite, pad, run_layers
from heartstrings.engines.hf.text import EncodedPrompt, encode_prompt

TOKEN_BUDGET = 8192
_SLAB = 256


def read(
    parts: Architecture,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    directions: Float32[np.ndarray, "layer direction width"],
    *,
    layers: Sequence[int],
    centre: Float32[np.ndarray, "layer width"] | None,
    site: Site,
) -> list[Trace]:
    """See `TorchEngine.read`."""
    asked = check_layers(parts, layers)
    if directions.shape[0] != len(asked) or directions.shape[2] != parts.width:
        raise InputError(
            f"directions of {directions.shape[0]} layers and width {directions.shape[2]}",
            f"{len(asked)} layers and width {parts.width}",
            "Use vectors of this model, at the layers asked for",
        )
    if centre is not None and centre.shape != (len(asked), parts.width):
        raise InputError(f"a centre of shape {centre.shape}", f"({len(asked)}, {parts.width})")
    if not np.isfinite(directions).all() or (centre is not None and not np.isfinite(centre).all()):
        raise InputError("NaN or Inf in the directions or the centre", "finite numbers")
    encoded = [encode_prompt(tokenizer, p, vocabulary=parts.vocabulary, reply=False) for p in prompts]
    for prompt in encoded:
        check_length(parts, len(prompt.ids), first_words(prompt.text))
    targets = torch.from_numpy(directions)
    middle = torch.zeros(len(asked), parts.width) if centre is None else torch.from_numpy(centre)
    lengths = np.array([len(prompt.ids) for prompt in encoded], np.int64)
    traces: dict[int, Trace] = {}
    for indices, batch_traces in Splitter().run_all(
        lengths,
        TOKEN_BUDGET,
        lambda indices: _project(parts, tokenizer, encoded, indices, asked, site, targets, middle),
        lambda row: f"prompt {row}",
    ):
        traces.update(zip(indices, batch_traces, strict=True))
    return [traces[row] for row in range(len(prompts))]


def check_length(parts: Architecture, n_tokens: int, words: str) -> None:
    """Refuse a prompt that is longer than the model's learned positions: a shortened prompt is another question."""
    if parts.position_limit is not None and n_tokens > parts.position_limit:
        raise ModelError(
            f"the prompt ({words}) has {n_tokens} tokens",
            f"at most {parts.position_limit}, the model's learned positions",
            "Shorten it",
        )


def _project(
    parts: Architecture,
    tokenizer: PreTrainedTokenizerBase,
    encoded: list[EncodedPrompt],
    rows: Sequence[int],
    layers: tuple[int, ...],
    site: Site,
    directions: Float[torch.Tensor, "layer direction width"],
    centre: Float[torch.Tensor, "layer width"],
) -> list[Trace]:
    ids, mask = pad(parts, [encoded[row].ids for row in rows])
    shape = (len(layers), *ids.shape)
    projections = np.zeros((*shape, directions.shape[1]), np.float32)
    norms, sinks = np.zeros(shape, np.float32), np.zeros(shape, np.bool_)

    def take(index: int, state: Float[torch.Tensor, "text token width"]) -> None:
        real = mask.to(state.device)
        state = state.float().masked_fill(~real[..., None], 0.0)
        norm = torch.linalg.vector_norm(state, dim=-1)
        onto = (state - centre[index].to(state.device)) @ directions[index].to(state.device).T
        projections[index], norms[index] = onto.cpu().numpy(), norm.cpu().numpy()
        sinks[index] = find_sinks(norm, real).cpu().numpy()

    with evaluating(parts.text_model):
        run_layers(parts, layers, site, take, ids, mask)
    traces = []
    for place, row in enumerate(rows):
        prompt, n = encoded[row], len(encoded[row].ids)
        bad = ~np.isfinite(norms[:, place, :n])
        if bad.any():
            index, position = (int(value) for value in np.argwhere(bad)[0])
            raise not_finite(f"prompt {row} ({first_words(prompt.text)})", layers[index], position)
        traces.append(
            Trace(
                text=prompt.text,
                token_ids=prompt.ids.astype(np.int64),
                tokens=tuple(tokenizer.decode([int(index)], skip_special_tokens=False) for index in prompt.ids),
                offsets=prompt.offsets,
                layers=layers,
                projections=projections[:, place, :n].copy(),
                norms=norms[:, place, :n].copy(),
                sinks=sinks[:, place, :n].copy(),
                thinking=prompt.thinking,
            )
        )
    return traces


def logits_of(parts: Architecture, normed: Float[torch.Tensor, "state width"]) -> Float[torch.Tensor, "state vocab"]:
    """Logits in float32 of states after the final norm (and OPT's projection)."""
    assert parts.head is not None
    logits: Float[torch.Tensor, "state vocab"] = parts.head(normed)
    if parts.logit_scale != 1:
        logits = logits * parts.logit_scale
    if parts.logit_cap is not None:
        logits = torch.tanh(logits / parts.logit_cap) * parts.logit_cap
    return logits.float()


def require_head(parts: Architecture) -> None:
    """Raises ModelError for models that do not predict tokens."""
    if parts.is_encoder or parts.head is None:
        kind = "an encoder" if parts.is_encoder else "a checkpoint without unembedding"
        raise ModelError(
            f"{kind} ({type(parts.text_model).__name__}) predicts no next token",
            "a causal language model",
            "Use `pool` and `read`, or load the model's causal variant",
        )


def check_head(model: PreTrainedModel, parts: Architecture) -> None:
    """Check that final norm and unembedding, applied to the last block's output, give the model's own logits."""
    require_head(parts)
    ids = torch.arange(min(4, parts.vocabulary), device=parts.device)[None]
    last: list[Float[torch.Tensor, "token width"]] = []
    with evaluating(model):
        mask = torch.ones_like(ids, dtype=torch.bool)
        run_layers(parts, [parts.n_layers - 1], "block", lambda _, state: last.append(state[0]), ids, mask)
        theirs = model(input_ids=ids, use_cache=False).logits[0].float()
        ours = logits_of(parts, _normed(parts, last[0]))
    scale = float(theirs.abs().max()) or 1.0
    if theirs.shape != ours.shape or float((theirs - ours).abs().max()) > 0.02 * scale:
        raise ModelError(
            f"{type(model).__name__} computes its logits otherwise than by the final norm and the unembedding",
            "logits = unembedding(final norm(residual)), scaled or soft-capped",
            "Report the architecture; `pool` and `read` are unaffected",
        )


def _normed(parts: Architecture, states: Float[torch.Tensor, "state width"]) -> Float[torch.Tensor, "state _"]:
    if parts.final_norm is not None:
        states = parts.final_norm(states)
    return states if parts.project_out is None else parts.project_out(states)


def unembed(parts: Architecture, states: Float32[np.ndarray, "state width"]) -> Float32[np.ndarray, "state vocab"]:
    """See `TorchEngine.unembed`."""
    require_head(parts)
    if states.shape[1] != parts.width:
        raise InputError(f"states of width {states.shape[1]}", f"width {parts.width}")
    weight = next(parts.head.parameters()) if parts.head is not None else torch.zeros(0)
    rows = []
    with evaluating(parts.text_model):
        for start in range(0, len(states), _SLAB):
            part = torch.from_numpy(states[start : start + _SLAB]).to(weight.device, weight.dtype)
            rows.append(logits_of(parts, _normed(parts, part)).cpu().numpy())
    return np.concatenate(rows) if rows else np.zeros((0, weight.shape[0]), np.float32)
