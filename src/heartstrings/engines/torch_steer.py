"""Steering by row: one batch mixes directions, layers, doses, operations, positions, and rows without any.

Every set of positions is an interval of absolute positions, so a row's tokens are told apart by their positions alone:
the same with and without a cache, and under either padding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import nn

from heartstrings.engines.architecture import Architecture
from heartstrings.errors import InputError, ModelError
from heartstrings.steering import Characters, Intervention, Span, Steering
from heartstrings.types import Site

END = 1 << 40
"""A position after every text."""
Locate = Callable[[], Int64[torch.Tensor, "text token"]]
"""Absolute position of every column of the running call; under 0 for padding."""


@dataclass(frozen=True, eq=False)
class RowSteering:
    """What is done to one row: its steering at positions `start` to `stop - 1`."""

    steering: Steering
    start: int
    stop: int


def row_steering(
    parts: Architecture,
    steering: Steering | None,
    *,
    n_prompt: int,
    n_most: int,
    offsets: Int64[np.ndarray, "token 2"],
    text_length: int,
    what: str,
) -> RowSteering | None:
    """Steering of one request, checked against the model and its text before anything runs.

    Args:
        n_prompt: tokens of the prompt.
        n_most: tokens that the whole sequence can come to have.
        offsets: characters of each prompt token; (0, 0) for tokens that stand for none.
        text_length: characters of the prompt, as the model sees it.
        what: names the request in an error.
    Raises:
        InputError: another width, a layer or positions that are not there; ModelError: no such site.
    """
    if steering is None:
        return None
    for one in steering.interventions:
        if one.layer >= parts.n_layers:
            raise InputError(
                f"{what} is steered at layer {one.layer}",
                f"a layer from 0 to {parts.n_layers - 1}",
                "Change the layer",
            )
        if len(one.direction) != parts.width:
            raise InputError(
                f"{what} is steered along a direction of width {len(one.direction)}",
                f"{parts.width}, the model's",
                "Use vectors of this very model",
            )
        parts.site(one.layer, one.site)
    start, stop = _interval(steering, n_prompt, n_most, offsets, text_length, what)
    return RowSteering(steering, start, stop)


def _interval(
    steering: Steering,
    n_prompt: int,
    n_most: int,
    offsets: Int64[np.ndarray, "token 2"],
    text_length: int,
    what: str,
) -> tuple[int, int]:
    positions = steering.positions
    if positions == "all":
        return 0, END
    if positions == "prompt":
        return 0, n_prompt
    if positions == "generated":
        return n_prompt, END
    if isinstance(positions, Span):
        stop = END if positions.stop is None else positions.stop
        if positions.start >= n_most or (positions.stop is not None and stop > n_most):
            raise InputError(
                f"{what} is steered at tokens {positions.start} to {'the end' if stop == END else stop - 1}",
                f"tokens within its {n_most}",
                "Change the span",
            )
        return positions.start, stop
    assert isinstance(positions, Characters)
    if positions.stop > text_length:
        raise InputError(
            f"{what} is steered at characters {positions.start} to {positions.stop - 1}",
            f"characters within the {text_length} of its prompt",
            "Change the span",
        )
    overlap = (offsets[:, 0] < positions.stop) & (offsets[:, 1] > positions.start)
    inside = np.flatnonzero(overlap)
    if not len(inside):
        raise InputError(
            f"no token of {what} lies in characters {positions.start} to {positions.stop - 1}",
            "a span that holds a token (and a fast tokenizer, which tells where its tokens lie)",
            "Change the span",
        )
    return int(inside[0]), int(inside[-1]) + 1


@dataclass(eq=False)
class _Round:
    """At most one intervention a row at one module: all rows of a batch are then steered at once."""

    rows: list[int] = field(default_factory=list)
    interventions: list[Intervention] = field(default_factory=list)
    _ready: dict[torch.device, tuple[torch.Tensor, ...]] = field(default_factory=dict)

    def tensors(self, device: torch.device) -> tuple[torch.Tensor, ...]:
        """(rows, unit vectors, how far to add, what to set, which rows add), each once a device."""
        if device not in self._ready:
            units = np.stack([one.direction.astype(np.float64) for one in self.interventions])
            units /= np.linalg.norm(units, axis=1, keepdims=True)
            sizes = [0.0 if one.operation == "ablate" else one.dose * one.norm for one in self.interventions]
            adds = [one.operation == "add" for one in self.interventions]
            self._ready[device] = (
                torch.tensor(self.rows, device=device),
                torch.from_numpy(units.astype(np.float32)).to(device),
                torch.tensor(sizes, dtype=torch.float32, device=device),
                torch.tensor(adds, device=device),
            )
        return self._ready[device]

    def move(
        self, state: Float[torch.Tensor, "text token width"], here: Bool[torch.Tensor, "text token"]
    ) -> Float[torch.Tensor, "text token width"]:
        """The state with this round's interventions, computed in float32 or wider."""
        rows, units, sizes, adds = self.tensors(state.device)
        every = len(self.rows) == len(state)
        old = state if every else state[rows]
        wide = old if old.dtype == torch.float64 else old.float()
        amount = sizes[:, None].expand(wide.shape[:2])
        if not bool(adds.all()):
            component = torch.einsum("rtw,rw->rt", wide, units.to(wide.dtype))
            amount = torch.where(adds[:, None], amount, amount - component)
        moved = (wide + amount[..., None] * units[:, None]).to(state.dtype)
        # Tokens that are not meant keep their very bits.
        moved = torch.where((here if every else here[rows])[..., None], moved, old)
        return moved if every else state.index_copy(0, rows, moved)


@contextlib.contextmanager
def steering(
    parts: Architecture, rows: Sequence[RowSteering | None], locate: Locate, *, check: bool = False
) -> Iterator[None]:
    """Steer the forward passes of one batch while the `with` lasts; afterwards the hooks are gone.

    Args:
        rows: one a row of the batch, in its order.
        check: see that the next block gets what was asked; for the first batches of an engine.
    Raises:
        ModelError: a steered module did not run, or what it returns is not what the next block gets.
    """
    if not any(row is not None for row in rows):
        yield
        return
    start = torch.tensor([END if row is None else row.start for row in rows])
    stop = torch.tensor([0 if row is None else row.stop for row in rows])
    handles: list[Any] = []
    ran: set[tuple[int, Site]] = set()
    rounds = _rounds(rows)
    try:
        for (layer, site), interventions in rounds.items():
            promise = _Promise(layer) if check and site == "block" and layer + 1 < parts.n_layers else None
            hook = _hook(interventions, start, stop, locate, partial(ran.add, (layer, site)), promise)
            handles.append(parts.site(layer, site).register_forward_hook(hook))
            if promise is not None:
                handles.append(parts.blocks[layer + 1].register_forward_pre_hook(promise.keep, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()
    missing = sorted(set(rounds) - ran)
    if missing:
        layer, site = missing[0]
        raise ModelError(
            f"the {site} of layer {layer} did not run, so nothing was steered there",
            "a model that runs every block",
            "Choose another layer or site",
        )


def _rounds(rows: Sequence[RowSteering | None]) -> dict[tuple[int, Site], list[_Round]]:
    """The interventions of a batch by module; the n-th of a row at a module goes to the n-th round there."""
    found: dict[tuple[int, Site], list[_Round]] = {}
    for number, row in enumerate(rows):
        seen: dict[tuple[int, Site], int] = {}
        for one in () if row is None else row.steering.interventions:
            at = (one.layer, one.site)
            turn = seen.get(at, 0)
            seen[at] = turn + 1
            rounds = found.setdefault(at, [])
            if turn == len(rounds):
                rounds.append(_Round())
            rounds[turn].rows.append(number)
            rounds[turn].interventions.append(one)
    return found


def _hook(
    rounds: Sequence[_Round],
    start: Int64[torch.Tensor, "text"],
    stop: Int64[torch.Tensor, "text"],
    locate: Locate,
    ran: Callable[[], None],
    promise: _Promise | None,
) -> Callable[[nn.Module, object, object], object]:
    def steer_output(module: nn.Module, inputs: object, output: object) -> object:
        state = output[0] if isinstance(output, tuple) else output
        assert isinstance(state, torch.Tensor)
        positions = locate()
        if state.dim() == 3 and state.shape[1] < positions.shape[1]:
            # Gemma 4's last layers, which reuse keys, run only on the tokens whose logits are wanted.
            positions = positions[:, -state.shape[1] :]
        positions = positions.to(state.device)
        here = (positions >= start.to(state.device)[:, None]) & (positions < stop.to(state.device)[:, None])
        ran()
        before = state.reshape(*positions.shape, -1)  # OPT's last projection is flat over tokens
        after = before
        for one in rounds:
            after = one.move(after, here)
        if promise is not None:
            promise.make(rounds, here, before, after)
        after = after.reshape(state.shape)
        return (after, *output[1:]) if isinstance(output, tuple) else after

    return steer_output


class _Promise:
    """What the next block must get: the state as steered, moved by what was asked."""

    def __init__(self, layer: int) -> None:
        self.layer = layer
        self.promised: tuple[int, int, torch.Tensor] | None = None

    def make(
        self,
        rounds: Sequence[_Round],
        here: Bool[torch.Tensor, "text token"],
        before: Float[torch.Tensor, "text token width"],
        after: Float[torch.Tensor, "text token width"],
    ) -> None:
        """Remember the first steered token, and see that an addition moved it as far as was asked."""
        self.promised = None
        first = rounds[0]
        where = here[first.rows[0]].nonzero()
        if not len(where):
            return
        row, token = first.rows[0], int(where[0])
        self.promised = (row, token, after[row, token].detach().clone())
        one = first.interventions[0]
        if len(rounds) == 1 and one.operation == "add":
            moved = after[row, token].double() - before[row, token].double()
            unit = torch.from_numpy(one.direction.astype(np.float64)).to(moved.device)
            error = float((moved - one.dose * one.norm * unit / unit.norm()).norm())
            # Rounding of the sum, in the state's own precision.
            allowed = 4 * torch.finfo(after.dtype).eps * float(after[row, token].double().norm()) + 1e-6
            if not error <= allowed:
                raise ModelError(
                    f"steering at layer {self.layer} moved the residual stream {error:.3g} beside what was asked",
                    "a model in which the change can be represented",
                    'Load the model as dtype="float32" or "bfloat16", or raise the dose',
                )

    def keep(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Called as the next block begins."""
        if self.promised is None:
            return
        row, token, wanted = self.promised
        got = inputs[0] if inputs else named.get("hidden_states")
        if not isinstance(got, torch.Tensor) or got.dim() != 3 or row >= len(got) or token >= got.shape[1]:
            return  # a block that takes another shape of input: nothing to compare
        if not torch.equal(got[row, token].to(wanted.device), wanted):
            raise ModelError(
                f"what block {self.layer} returns is not what block {self.layer + 1} gets, so steering has no effect",
                "a plain stack of blocks",
                "Choose another layer, or report the architecture",
            )


def as_positions(n_texts: int, n_tokens: int) -> Int64[torch.Tensor, "text token"]:
    """Positions of a right-padded batch; what is after a text's end is masked by nothing and read by nobody."""
    return torch.arange(n_tokens).expand(n_texts, n_tokens)
