"""Shortcuts: what the rows of a batch have in common is computed once.

Trunk: rows of one text that are first steered at layer l share all blocks before it. These run once a text; then the
model runs on all rows, with those blocks handing on the states that were computed. Masks, position embeddings and the
like are made by the model itself, for the whole batch. When prompts are fed before generation, the cache entries of the
shared blocks are copied to every row as well.

Branches: the continuations of one prompt stand in one row, one behind the other. Position ids count on from the prompt
for each continuation, and an attention mask hides the continuations from each other.

Stem: the first tokens that all texts of a call have in common run once for each way in which they are steered
(`_stem.py`).

Not every architecture allows this: later blocks may reuse keys of earlier ones, recurrent layers ignore the mask. So
each shortcut is compared with the plain computation at its first use, and given up for good where they differ.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import nn
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from heartstrings.engines.hf._architecture import Architecture
from heartstrings.engines.hf._steer import RowSteering
from heartstrings.engines.hf.run import is_out_of_memory, run_layers

Result = TypeVar("Result")
States = Float[torch.Tensor, "row token width"]

TOLERANCE = 1e-5
"""Largest difference of final states from the plain computation, relative to the largest state, in float32."""
_PROBE_ROWS = 4
_PROBE_TREES = 2
_WORTH = 0.2
"""Smallest share of the fed tokens that branches must save: the mask has a cost too."""


@dataclass
class Shortcut:
    """What an engine has found out about one shortcut with its model."""

    works: bool = True
    """False once a comparison failed."""
    proven: set[int] = field(default_factory=set)
    """For how many shared blocks a comparison succeeded; 0 for branches, which share none."""

    def allowed(self, depth: int, agrees: Callable[[], bool]) -> bool:
        """Whether the shortcut may be used with this number of shared blocks; compared at the first use."""
        if self.works and depth not in self.proven:
            self.works = agrees()
            if self.works:
                self.proven.add(depth)
        return self.works


@dataclass(frozen=True)
class Sharing:
    """The shortcuts that scoring can use."""

    trunks: Shortcut
    branches: Shortcut
    stems: Shortcut
    prefills: Shortcut
    """Trunks with a cache."""


def attempt(compute: Callable[[], Result]) -> Result | None:
    """None where the model cannot run this way: each architecture fails with an error of its own."""
    try:
        return compute()
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return None


def same_states(found: States, expected: States, lengths: Sequence[int], dtype: torch.dtype) -> bool:
    """Whether the first `lengths` tokens of each row are equal within the rounding of the model's `dtype`."""
    if found.shape != expected.shape:
        return False
    real = torch.arange(found.shape[1])[None] < torch.tensor(lengths)[:, None]
    found, expected = found[real.to(found.device)].float(), expected[real.to(expected.device)].float()
    difference, size = float((found - expected).abs().max()), float(expected.abs().max())
    return difference <= max(TOLERANCE, 4 * torch.finfo(dtype).eps) * size


# --- Trunk --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Batch:
    """The rows that a model is called with."""

    ids: Int64[torch.Tensor, "row token"]
    mask: Bool[torch.Tensor, "row token"]
    texts: Sequence[int]
    """The number of each row's text; rows with the same number have the same ids."""
    given: Mapping[str, torch.Tensor]
    """Further arguments of the model, with one entry a row."""
    steering: Sequence[RowSteering | None]
    cache_before: Callable[[Sequence[RowSteering | None]], Any] | None = None
    """Makes a cache of what precedes the ids of rows that are steered in these ways; None where nothing does."""

    def common_blocks(self, rows: Sequence[int], n_layers: int) -> int:
        """How many blocks some of the rows can share; 0 where that would save little."""
        if len({self.texts[row] for row in rows}) > 0.75 * len(rows):
            return 0
        chosen = [self.steering[row] for row in rows]
        return min((row.shared_blocks() for row in chosen if row is not None), default=n_layers)


def depths_of(steering: Sequence[RowSteering | None]) -> list[int]:
    """How many blocks each row could share. An unsteered row could share all, and takes the largest depth of the
    others."""
    depths = [None if row is None else row.shared_blocks() for row in steering]
    most = max((depth for depth in depths if depth is not None), default=0)
    return [most if depth is None else depth for depth in depths]


def _probe(texts: Sequence[int], rows: Sequence[int]) -> list[int]:
    """A few rows for the comparison: at least two of the most frequent text, so that it is really shared, and one of
    another text."""
    if len(rows) < _PROBE_ROWS:
        return list(rows)
    counts = Counter(texts[row] for row in rows)
    order = sorted(rows, key=lambda row: (-counts[texts[row]], texts[row], row))
    return sorted(order[: _PROBE_ROWS - 1] + order[-1:])


def final_states(
    parts: Architecture, trunks: Shortcut, batch: Batch, depth: int, plain: Callable[[Sequence[int]], States]
) -> States:
    """States after the final norm of every row, where the first `depth` blocks run once a text.

    Args:
        plain: computes the states of some rows, steering included, with the blocks as they are at that moment.
    """
    rows = range(len(batch.texts))

    def through_trunk(rows: Sequence[int]) -> States:
        states, _ = _states_once(parts, batch, depth, rows)
        with _handing_on(list(parts.blocks)[:depth], states):
            return plain(rows)

    def agrees() -> bool:
        probe = _probe(batch.texts, rows)
        expected, shared_states = plain(probe), attempt(lambda: through_trunk(probe))
        lengths = batch.mask[probe].sum(dim=1).tolist()
        return shared_states is not None and same_states(shared_states, expected, lengths, parts.text_model.dtype)

    return through_trunk(rows) if depth and trunks.allowed(depth, agrees) else plain(rows)


def _states_once(
    parts: Architecture, batch: Batch, depth: int, rows: Sequence[int], *, cache: object | None = None
) -> tuple[States, Int64[torch.Tensor, "row"]]:
    """States of some rows after the first `depth` blocks, which run once a text; and for each row the index of its text
    among the texts that ran, which is also its index in `cache`."""
    first: dict[int, int] = {}
    for row in rows:
        first.setdefault(batch.texts[row], row)
    unique, number = list(first.values()), {text: index for index, text in enumerate(first)}
    states: list[States] = []
    given = {name: value[unique] for name, value in batch.given.items()}
    if batch.cache_before is not None:
        cache = batch.cache_before([batch.steering[row] for row in unique])
    run_layers(
        parts,
        [depth - 1],
        "block",
        lambda _, state: states.append(state),
        batch.ids[unique],
        batch.mask[unique],
        cache=cache,
        given=given,
    )
    index = torch.tensor([number[batch.texts[row]] for row in rows], device=states[0].device)
    return states[0][index], index


@contextlib.contextmanager
def _handing_on(blocks: Sequence[nn.Module], states: States) -> Iterator[None]:
    """The last of `blocks` returns `states`, and the others their input. Each `forward` is restored on the way out.

    Blocks that return tuples are not served: the next block then fails, and the plain computation is used.
    """

    def unchanged(hidden_states: States, *_: object, **__: object) -> States:
        return hidden_states

    def computed(*_: object, **__: object) -> States:
        return states

    before = [(block, block.__dict__.get("forward")) for block in blocks]
    try:
        for block in blocks:
            block.__dict__["forward"] = computed if block is blocks[-1] else unchanged
        yield
    finally:
        for block, own in before:
            if own is None:
                block.__dict__.pop("forward", None)
            else:
                block.__dict__["forward"] = own


# --- Trunk with a cache -------------------------------------------------------------------------------------


@dataclass(eq=False)
class Prefill:
    """The result of feeding some rows their prompts."""

    states: States
    """After the final norm, at every column."""
    cache: Any
    """None for a model that has none."""


def prefill(parts: Architecture, trunks: Shortcut, batch: Batch, plain: Callable[[Sequence[int]], Prefill]) -> Prefill:
    """Feed every row its prompt (padded on the left), each steered in its own way.

    Rows are fed in groups by how many blocks they can share; replies are then sampled in one batch, as if each row had
    been fed by itself.

    Args:
        plain: feeds some rows without a shortcut.
    """
    all_rows = range(len(batch.texts))
    groups: dict[int, list[int]] = {}
    for row, depth in enumerate(depths_of(batch.steering)):
        groups.setdefault(depth, []).append(row)
    ordered = [groups[depth] for depth in sorted(groups)]
    depths = [batch.common_blocks(rows, parts.n_layers) for rows in ordered]

    def through_trunk(rows: Sequence[int], depth: int) -> Prefill:
        trunk = DynamicCache(config=parts.text_model.config)
        states, index = _states_once(parts, batch, depth, rows, cache=trunk)
        with _handing_on(list(parts.blocks)[:depth], states):
            fed = plain(rows)
        for layer in range(depth):
            trunk.layers[layer].batch_select_indices(index.to(trunk.layers[layer].keys.device))
            fed.cache.layers[layer] = trunk.layers[layer]
        return fed

    def agrees(rows: Sequence[int], depth: int) -> bool:
        probe = _probe(batch.texts, rows)
        expected = plain(probe)
        layers = getattr(expected.cache, "layers", None)
        if layers is None or any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers):
            return False
        shared_prefill = attempt(lambda: through_trunk(probe, depth))
        if shared_prefill is None or len(shared_prefill.cache.layers) != len(layers):
            return False
        pairs = [(shared_prefill.states, expected.states)]
        for shared_layer, plain_layer in zip(shared_prefill.cache.layers, layers, strict=True):
            pairs += [
                (_by_token(shared_layer.keys), _by_token(plain_layer.keys)),
                (_by_token(shared_layer.values), _by_token(plain_layer.values)),
            ]
        return all(_same_on_the_right(*pair, batch.mask[probe], parts.text_model.dtype) for pair in pairs)

    for rows, depth in zip(ordered, depths, strict=True):
        if depth and not trunks.allowed(depth, lambda rows=rows, depth=depth: agrees(rows, depth)):  # type: ignore[misc]
            return plain(all_rows)
    if not trunks.works or not any(depths):
        return plain(all_rows)
    prefills = [
        through_trunk(rows, depth) if depth else plain(rows) for rows, depth in zip(ordered, depths, strict=True)
    ]
    place = {row: index for index, row in enumerate(row for rows in ordered for row in rows)}
    return _joined(prefills, torch.tensor([place[row] for row in all_rows], device=prefills[0].states.device))


def _by_token(states: Float[torch.Tensor, "row head token own"]) -> Float[torch.Tensor, "row token heads"]:
    return states.transpose(1, 2).flatten(2)


def _same_on_the_right(
    states: States, expected: States, real: Bool[torch.Tensor, "row column"], dtype: torch.dtype
) -> bool:
    """Equality at the real tokens, which stand on the right. A sliding window keeps only the last columns."""
    if states.shape != expected.shape:
        return False
    padding = ~real[:, real.shape[1] - states.shape[1] :].to(states.device)[..., None]
    whole = [states.shape[1]] * len(states)
    return same_states(states.masked_fill(padding, 0), expected.masked_fill(padding, 0), whole, dtype)


def _joined(prefills: Sequence[Prefill], order: Int64[torch.Tensor, "row"]) -> Prefill:
    """The rows of all groups, in the order of the batch."""
    cache = prefills[0].cache
    for number, layer in enumerate(cache.layers):
        layers = [fed.cache.layers[number] for fed in prefills]
        index = order.to(layer.keys.device)
        layer.keys = torch.cat([group_layer.keys for group_layer in layers])[index]
        layer.values = torch.cat([group_layer.values for group_layer in layers])[index]
    return Prefill(torch.cat([fed.states for fed in prefills])[order], cache)


# --- Branches -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Tree:
    """A prompt and several continuations of it in one row."""

    ids: Int32[np.ndarray, "token"]
    positions: Int64[np.ndarray, "token"]
    """Position of each token in its own text, from 0."""
    branch: Int64[np.ndarray, "token"]
    """0 in the prompt, then 1, 2 ... by continuation."""
    columns: tuple[Int64[np.ndarray, "_"], ...]
    """For each continuation, the columns of the prompt's and its own tokens, in order."""


def tree_of(texts: Sequence[Int32[np.ndarray, "_"]], n_prompt: int, window: int | None) -> Tree | None:
    """Texts that begin with the same `n_prompt` tokens as one row; None where that saves little or is unsafe.

    Args:
        window: the shortest sliding window among the model's layers; a mask given from outside replaces it.
    """
    longest, separate = max(map(len, texts)), sum(map(len, texts))
    saved = n_prompt * (len(texts) - 1)
    if saved < _WORTH * separate or (window is not None and longest > window):
        return None
    ids, positions, branch = [texts[0][:n_prompt]], [np.arange(n_prompt)], [np.zeros(n_prompt, np.int64)]
    columns, end = [], n_prompt
    for number, text in enumerate(texts, start=1):
        own = len(text) - n_prompt
        ids.append(text[n_prompt:])
        positions.append(np.arange(n_prompt, len(text)))
        branch.append(np.full(own, number, np.int64))
        columns.append(np.concatenate([np.arange(n_prompt), np.arange(end, end + own)]))
        end += own
    return Tree(np.concatenate(ids), np.concatenate(positions), np.concatenate(branch), tuple(columns))


def window_of(parts: Architecture) -> int | None:
    """The shortest sliding window among the layers, in tokens; None where every layer sees the whole text."""
    windows = [getattr(parts.config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return min((value for value in windows if isinstance(value, int) and value > 0), default=None)


def attention_mask(
    trees: Sequence[Tree], width: int, dtype: torch.dtype, device: torch.device
) -> Float[torch.Tensor, "tree 1 token token"]:
    """Added to the attention logits: 0 where a token (rows) sees another (columns), very negative elsewhere."""
    branch = np.full((len(trees), width), -1, np.int64)  # padding sees itself and the prompt; no token sees padding
    for row, tree in enumerate(trees):
        branch[row, : len(tree.branch)] = tree.branch
    own = torch.from_numpy(branch).to(device)
    seen = (own[:, :, None] == own[:, None, :]) | (own[:, None, :] == 0)
    seen &= torch.ones(width, width, dtype=torch.bool, device=device).tril()
    return torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill(~seen, torch.finfo(dtype).min)[:, None]


def separated(
    trees: Sequence[Tree], states: Float[torch.Tensor, "tree column width"], *, begin: int = 0
) -> Float[torch.Tensor, "text token width"]:
    """The states of each continuation's text as if it had been a row of its own; padded on the right. `states` and
    the texts are those from token `begin` of the prompt on."""
    columns = [(row, own[begin:] - begin) for row, tree in enumerate(trees) for own in tree.columns]
    index = np.zeros((len(columns), max(len(own) for _, own in columns)), np.int64)
    for row, (_, own) in enumerate(columns):
        index[row, : len(own)] = own
    tree_of_text = torch.tensor([row for row, _ in columns], device=states.device)
    return states[tree_of_text[:, None], torch.from_numpy(index).to(states.device)]


def branch_states(
    branches: Shortcut,
    trees: Sequence[Tree],
    together: Callable[[Sequence[int]], States],
    separate: Callable[[Sequence[int]], States],
    dtype: torch.dtype,
    *,
    begin: int = 0,
) -> States:
    """The states of every continuation's text, from one row a tree where the model is known to follow the mask.

    Args:
        together: computes the states of some trees, in the trees' own columns.
        separate: computes the states of the texts of some trees, one row a text.
        begin: tokens of every prompt whose states neither of them gives.
    """
    all_trees = range(len(trees))

    def agrees() -> bool:
        probe = all_trees[:_PROBE_TREES]
        probe_trees = trees[: len(probe)]
        expected, shared_states = separate(probe), attempt(lambda: separated(probe_trees, together(probe), begin=begin))
        lengths = [len(own) - begin for tree in probe_trees for own in tree.columns]
        return shared_states is not None and same_states(shared_states, expected, lengths, dtype)

    return separated(trees, together(all_trees), begin=begin) if branches.allowed(0, agrees) else separate(all_trees)
