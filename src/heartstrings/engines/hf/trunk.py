"""The shared trunk: rows of one text that are first steered at layer l have everything before it in common.

The unique texts run through the common blocks once; then the model runs on all rows with those blocks handing on
what was found. Masks, position embeddings and the like are made by the model itself, for the whole batch.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int64
from torch import nn

from heartstrings.engines.hf.architecture import Architecture
from heartstrings.engines.hf.run import is_out_of_memory, run_layers
from heartstrings.engines.hf.steer import RowSteering

States = Float[torch.Tensor, "row token width"]
TOLERANCE = 1e-5
"""Largest difference of final states from the plain way, relative to the largest state, in float32."""
_PROBE_ROWS = 4


@dataclass
class Trunks:
    """What an engine has found out: with which numbers of shared blocks its model gives the plain way's states."""

    works: bool = True
    """False once any comparison failed, for good: then later blocks take more from earlier ones than their output."""
    proven: set[int] = field(default_factory=set)


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows as a model is called with them."""

    ids: Int64[torch.Tensor, "row token"]
    mask: Bool[torch.Tensor, "row token"]
    texts: Sequence[int]
    """The number of each row's text; rows with one number have the same ids."""
    given: Mapping[str, torch.Tensor]
    """What the model is called with beside the ids, a row each."""


def common_blocks(rows: Sequence[RowSteering | None], texts: Sequence[int], n_layers: int) -> int:
    """How many blocks the rows of a batch can share; 0 where it would save little. `texts` numbers each row's text."""
    if len(set(texts)) > 0.75 * len(rows):
        return 0
    return min((row.shared_blocks() for row in rows if row is not None), default=n_layers)


def depths_of(steering: Sequence[RowSteering | None]) -> list[int]:
    """How many blocks each row could share. Unsteered rows could share all: they count as those that share the most."""
    depths = [None if one is None else one.shared_blocks() for one in steering]
    most = max((depth for depth in depths if depth is not None), default=0)
    return [most if depth is None else depth for depth in depths]


def probe_of(texts: Sequence[int], rows: Sequence[int]) -> list[int]:
    """A few of the rows, to be compared with the plain way: two at least of the text that has most, so that sharing is
    put to the test, and one of another."""
    if len(rows) < _PROBE_ROWS:
        return list(rows)
    counts = Counter(texts[row] for row in rows)
    order = sorted(rows, key=lambda row: (-counts[texts[row]], texts[row], row))
    return sorted(order[: _PROBE_ROWS - 1] + order[-1:])


def final_states(
    parts: Architecture,
    trunks: Trunks,
    batch: Batch,
    depth: int,
    plain: Callable[[Sequence[int]], States],
) -> States:
    """States after the final norm of every row, of which the first `depth` blocks ran once a text.

    Args:
        plain: the states of some rows in the plain way, steering included, with whatever blocks there are.
    """
    every = range(len(batch.texts))
    if not trunks.works or depth < 1:
        return plain(every)
    if depth not in trunks.proven:
        trunks.works = _agree(parts, batch, depth, plain, probe_of(batch.texts, every))
        if not trunks.works:
            return plain(every)
        trunks.proven.add(depth)
    return _through_trunk(parts, batch, depth, plain, every)


def _agree(
    parts: Architecture,
    batch: Batch,
    depth: int,
    plain: Callable[[Sequence[int]], States],
    probe: Sequence[int],
) -> bool:
    """Are the final states the same as in the plain way?"""
    expected = plain(probe)
    try:
        found = _through_trunk(parts, batch, depth, plain, probe)
    except Exception as error:  # blocks that miss what the skipped ones leave behind fail in their own ways
        if is_out_of_memory(error):
            raise
        return False
    lengths = batch.mask[list(probe)].sum(dim=1).tolist()
    return same_states(found, expected, lengths, torch.finfo(parts.text_model.dtype).eps)


def same_states(found: States, expected: States, lengths: Sequence[int], eps: float) -> bool:
    """Equal within rounding, at the first `lengths` tokens of each row? `eps` is that of the model's dtype."""
    if found.shape != expected.shape:
        return False
    real = torch.arange(found.shape[1])[None] < torch.tensor(lengths)[:, None]
    found, expected = found[real.to(found.device)].float(), expected[real.to(expected.device)].float()
    off, size = float((found - expected).abs().max()), float(expected.abs().max())
    return off <= max(TOLERANCE, 4 * eps) * size


def _through_trunk(
    parts: Architecture,
    batch: Batch,
    depth: int,
    plain: Callable[[Sequence[int]], States],
    rows: Sequence[int],
) -> States:
    states, _ = states_once(parts, batch, depth, rows)
    with handing_on(list(parts.blocks)[:depth], states):
        return plain(rows)


def states_once(
    parts: Architecture,
    batch: Batch,
    depth: int,
    rows: Sequence[int],
    *,
    cache: object | None = None,
) -> tuple[States, Int64[torch.Tensor, "_"]]:
    """What the first `depth` blocks give for some rows, having run once a text; and for each row, which of the texts
    that ran is its own, as `cache` holds these."""
    first: dict[int, int] = {}
    for row in rows:
        first.setdefault(batch.texts[row], row)
    unique, number = list(first.values()), {text: index for index, text in enumerate(first)}
    states: list[States] = []
    own = {name: value[unique] for name, value in batch.given.items()}
    run_layers(
        parts, [depth - 1], "block", lambda _, state: states.append(state), batch.ids[unique],
        batch.mask[unique], cache=cache, given=own,
    )  # fmt: skip
    index = torch.tensor([number[batch.texts[row]] for row in rows], device=states[0].device)
    return states[0][index], index


@contextlib.contextmanager
def handing_on(blocks: Sequence[nn.Module], states: States) -> Iterator[None]:
    """The last of `blocks` gives `states` and the others their input. Each `forward` is put back on the way out.

    Blocks that return tuples are not served: their successors then fail, and the plain way is taken.
    """

    def same(hidden_states: States, *_: object, **__: object) -> States:
        return hidden_states

    def found(*_: object, **__: object) -> States:
        return states

    before = [(block, block.__dict__.get("forward")) for block in blocks]
    try:
        for block in blocks:
            block.__dict__["forward"] = found if block is blocks[-1] else same
        yield
    finally:
        for block, own in before:
            if own is None:
                block.__dict__.pop("forward", None)
            else:
                block.__dict__["forward"] = own
