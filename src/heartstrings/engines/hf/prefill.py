"""Prompts before their replies: rows of one prompt have all blocks before the steered one in common, cache included.

The rows of a batch are fed in groups, by how many blocks they share. In each group the unique prompts run through these
blocks once; what that leaves in the cache is copied to every row, and the rows go on from there. Replies are then
sampled in one batch, as if each row had been fed by itself. Whether a model allows it is found by comparing its final
states and its cache with those of the plain way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from heartstrings.engines.hf.architecture import Architecture
from heartstrings.engines.hf.run import is_out_of_memory
from heartstrings.engines.hf.steer import RowSteering
from heartstrings.engines.hf.trunk import (
    Batch,
    States,
    Trunks,
    common_blocks,
    depths_of,
    handing_on,
    probe_of,
    same_states,
    states_once,
)


@dataclass(eq=False)
class Fed:
    """What feeding some rows their prompts gives."""

    states: States
    """After the final norm, at every column."""
    cache: Any
    """None for a model that has none."""


@dataclass(frozen=True, eq=False)
class Prompts(Batch):
    """A batch of prompts, padded on the left."""

    steering: Sequence[RowSteering | None]


def feed(parts: Architecture, trunks: Trunks, prompts: Prompts, plain: Callable[[Sequence[int]], Fed]) -> Fed:
    """Every row's prompt, steered in its own way.

    Args:
        plain: feeds some rows in the plain way, each with a row of its own.
    """
    every = range(len(prompts.texts))
    groups = [(rows, _shared(prompts, rows, parts.n_layers)) for rows in _alike(prompts)] if trunks.works else []
    for rows, depth in groups:
        if depth and depth not in trunks.proven and trunks.works:
            trunks.works = _agree(parts, prompts, rows, depth, plain)
            if trunks.works:
                trunks.proven.add(depth)
    if not trunks.works or not any(depth for _, depth in groups):
        return plain(every)
    fed = [_through_trunk(parts, prompts, rows, depth, plain) if depth else plain(rows) for rows, depth in groups]
    place = {row: at for at, row in enumerate(row for rows, _ in groups for row in rows)}
    return _joined(fed, torch.tensor([place[row] for row in every], device=fed[0].states.device))


def _alike(prompts: Prompts) -> list[list[int]]:
    """Rows by how many blocks come before their steered one."""
    groups: dict[int, list[int]] = {}
    for row, depth in enumerate(depths_of(prompts.steering)):
        groups.setdefault(depth, []).append(row)
    return [groups[depth] for depth in sorted(groups)]


def _shared(prompts: Prompts, rows: Sequence[int], n_layers: int) -> int:
    return common_blocks([prompts.steering[row] for row in rows], [prompts.texts[row] for row in rows], n_layers)


def _agree(
    parts: Architecture, prompts: Prompts, rows: Sequence[int], depth: int, plain: Callable[[Sequence[int]], Fed]
) -> bool:
    """Are states and cache the same as in the plain way?"""
    some = probe_of(prompts.texts, rows)
    expected = plain(some)
    layers = getattr(expected.cache, "layers", None)
    if layers is None or any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers):
        return False
    try:
        found = _through_trunk(parts, prompts, some, depth, plain)
    except Exception as error:  # blocks that miss what the skipped ones leave behind fail in their own ways
        if is_out_of_memory(error):
            raise
        return False
    real = prompts.mask[some]
    eps = torch.finfo(parts.text_model.dtype).eps
    pairs = [(found.states, expected.states)]
    if len(found.cache.layers) != len(layers):
        return False
    for one, other in zip(found.cache.layers, layers, strict=True):
        pairs += [(_by_token(one.keys), _by_token(other.keys)), (_by_token(one.values), _by_token(other.values))]
    return all(_same(one, other, real, eps) for one, other in pairs)


def _by_token(states: Float[torch.Tensor, "row head token own"]) -> Float[torch.Tensor, "row token heads"]:
    return states.transpose(1, 2).flatten(2)


def _same(found: States, expected: States, real: Bool[torch.Tensor, "row column"], eps: float) -> bool:
    """Equal within rounding at the real tokens, which stand on the right? A sliding window keeps the last alone."""
    if found.shape != expected.shape:
        return False
    kept = real[:, real.shape[1] - found.shape[1] :].to(found.device)[..., None]
    full = [found.shape[1]] * len(found)
    return same_states(found.masked_fill(~kept, 0), expected.masked_fill(~kept, 0), full, eps)


def _through_trunk(
    parts: Architecture, prompts: Prompts, rows: Sequence[int], depth: int, plain: Callable[[Sequence[int]], Fed]
) -> Fed:
    trunk = DynamicCache(config=parts.text_model.config)
    states, index = states_once(parts, prompts, depth, rows, cache=trunk)
    with handing_on(list(parts.blocks)[:depth], states):
        fed = plain(rows)
    for layer in range(depth):
        trunk.layers[layer].batch_select_indices(index.to(trunk.layers[layer].keys.device))
        fed.cache.layers[layer] = trunk.layers[layer]
    return fed


def _joined(fed: Sequence[Fed], order: Int64[torch.Tensor, "row"]) -> Fed:
    """The rows of all groups in the batch's own order."""
    cache = fed[0].cache
    for number, layer in enumerate(cache.layers):
        here = [one.cache.layers[number] for one in fed]
        at = order.to(layer.keys.device)
        layer.keys = torch.cat([one.keys for one in here])[at]
        layer.values = torch.cat([one.values for one in here])[at]
    return Fed(torch.cat([one.states for one in fed])[order], cache)
