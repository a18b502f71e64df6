"""Stem: the tokens that all texts of a call begin with, such as a system prompt, are fed once for each steering.

The texts of a suite differ after their first tokens: a chat template's opening, a question that is always the same.
Rows that are steered alike have the same keys and values there, at every block. These are computed once, and each row
is fed only the rest of its text.

A model that remembers something else than keys and values (recurrent layers) gives other states than the plain
computation, with which the first use is compared: it is then given up (`Shortcut`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Int32
from transformers.cache_utils import DynamicCache

from heartstrings.engines.hf._architecture import Architecture
from heartstrings.engines.hf._sharing import Batch, Prefill, Sharing, prefill
from heartstrings.engines.hf._steer import RowSteering, steering_rows
from heartstrings.engines.hf.run import Splitter, cache_of

Layer: TypeAlias = tuple[torch.Tensor, torch.Tensor] | None
"""Keys and values of one block, each [row, head, token, own width]; None for a block that keeps none."""
WORTH = 0.1
"""Smallest share of the fed tokens that a stem must save: gathering keys and values has a cost too."""
LARGEST = 1 << 30
"""Bytes of keys and values that are held."""


@dataclass(frozen=True, eq=False)
class Stem:
    """Keys and values of the first tokens of a call's texts, for each way in which they are steered."""

    n: int
    """Tokens."""
    layers: tuple[Layer, ...]
    """With a row for each way."""
    places: dict[RowSteering | None, int]
    """Index of each way."""
    parts: Architecture

    def cache(self, steering: Sequence[RowSteering | None]) -> Any:
        """A new cache that holds the stem, one row for each of `steering`."""
        index = torch.tensor([self.places[cut(row, self.n)] for row in steering], device=self.parts.device)
        cache = DynamicCache(config=self.parts.text_model.config)
        for number, layer in enumerate(self.layers):
            if layer is not None:
                keys, values = layer
                cache.update(keys[index.to(keys.device)], values[index.to(values.device)], number)
        return cache


def stem_length(
    texts: Sequence[Int32[np.ndarray, "_"]], most: int, steering: Sequence[RowSteering | None], n_fed: int
) -> int:
    """How many tokens to feed once for each way of steering; 0 where that would save little.

    Args:
        texts: the different texts.
        most: tokens that may be in it: the last token of the shortest prompt is not, since its state is needed.
        steering: that of each row.
        n_fed: tokens that all rows are fed without a stem.
    """
    first = texts[0][: max(most, 0)]
    n = len(first)
    for text in texts[1:]:
        n = min(n, len(text))
        differs = np.flatnonzero(first[:n] != text[:n])
        n = int(differs[0]) if len(differs) else n
    saved = n * (len(steering) - len({cut(row, n) for row in steering}))
    return n if saved >= WORTH * n_fed and saved else 0


def feed(
    parts: Architecture,
    sharing: Sharing,
    ids: Int32[np.ndarray, "_"],
    steering: Sequence[RowSteering | None],
    splitter: Splitter,
    budget: int,
) -> Stem | None:
    """Feed the stem once for each different way; None where keys and values would take more than LARGEST bytes."""
    n = len(ids)
    ways = list(dict.fromkeys(cut(row, n) for row in steering))
    ids_once = torch.from_numpy(ids.astype(np.int64))[None]
    caches: list[list[Layer]] = []
    held = 0

    def run(some: Sequence[int]) -> list[Layer]:
        steered_ways = [ways[way] for way in some]
        rows = ids_once.repeat(len(some), 1).to(parts.device)

        def plain(indices: Sequence[int]) -> Prefill:
            own = [steered_ways[row] for row in indices]
            positions = np.arange(n)[None].repeat(len(own), axis=0)
            with steering_rows(parts, own) as steered, steered.call(positions):
                output = parts.text_model(input_ids=rows[: len(own)], use_cache=True)
            return Prefill(output.last_hidden_state, cache_of(output))

        batch = Batch(rows, torch.ones_like(rows, dtype=torch.bool), [0] * len(some), {}, steered_ways)
        # A block that reads the keys and values of an earlier one has none of its own.
        return [_kept(layer) for layer in prefill(parts, sharing.prefills, batch, plain).cache.layers]

    for _, layers in splitter.run_all(np.full(len(ways), n, np.int64), budget, run, lambda _: "the first tokens"):
        held += sum(keys.nbytes + values.nbytes for keys, values in filter(None, layers))
        if held > LARGEST:
            return None
        caches.append(layers)
    joined: list[Layer] = []
    for pieces in zip(*caches, strict=True):
        pairs = [piece for piece in pieces if piece is not None]
        joined.append(
            (torch.cat([keys for keys, _ in pairs]), torch.cat([values for _, values in pairs])) if pairs else None
        )
    return Stem(n, tuple(joined), {way: index for index, way in enumerate(ways)}, parts)


def _kept(layer: Any) -> Layer:
    keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
    return (keys, values) if isinstance(keys, torch.Tensor) and isinstance(values, torch.Tensor) else None


def begin_of(stem: Stem | None) -> int:
    """The position of the first token that the rows themselves are fed."""
    return 0 if stem is None else stem.n


def cut(steering: RowSteering | None, n_fed: int) -> RowSteering | None:
    """Steering cut to the first `n_fed` tokens, so that rows with the same effect are equal; None if no token is
    left."""
    if steering is None or steering.start >= n_fed:
        return None
    return RowSteering(steering.interventions, steering.start, min(steering.stop, n_fed))
