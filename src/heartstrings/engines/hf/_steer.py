"""Steering a batch row by row: one hook for each steered module, with own directions, doses and tokens for each row.

Before a batch runs, each request's positions are turned into a range of absolute token numbers. Hooks compare that
range with the absolute position of every column of the running call, so padding, caches and chunks cannot shift it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import nn

from heartstrings.core.errors import InputError, ModelError, NumericalError
from heartstrings.core.steering import Characters, Intervention, Span, Steering
from heartstrings.core.types import Site
from heartstrings.engines.hf._architecture import Architecture
from heartstrings.engines.hf._dose import apply
from heartstrings.engines.hf.run import residual_of, with_residual
from heartstrings.engines.hf.text import EncodedPrompt


@dataclass(frozen=True, slots=True)
class RowSteering:
    """The steering of one row: `interventions` at its tokens `start` to `stop - 1`. Equal and hashable by content."""

    interventions: tuple[Intervention, ...]
    start: int
    stop: int

    def shared_blocks(self) -> int:
        """How many blocks, from the first on, have the same output as without steering. A block that is steered at site
        `block` is one of them, as its output is steered afterwards."""
        return min(intervention.layer + (intervention.site == "block") for intervention in self.interventions)


def check_steering(parts: Architecture, steering: Steering, what: str) -> None:
    """Check that the steering fits the model. `what` names the request in messages.

    Raises:
        InputError: another model's width, an unknown layer; ModelError: a block without that sublayer;
        NumericalError: NaN or Inf.
    """
    for intervention in steering.interventions:
        layer, direction = intervention.layer, intervention.direction
        if layer >= parts.n_layers:
            where = f"a layer from 0 to {parts.n_layers - 1}"
            raise InputError(f"{what} steers at layer {layer}", where, "Change the layer")
        if len(direction) != parts.width:
            raise InputError(
                f"{what} steers along a direction of width {len(direction)}",
                f"{parts.width}, the model's",
                "Use vectors of this model",
            )
        parts.site(layer, intervention.site)
        # `Intervention` checks the values; their product must be finite as well.
        if not abs(intervention.dose * intervention.norm) < float(np.finfo(np.float32).max):
            size = f"{intervention.dose:g} x {intervention.norm:g}"
            raise NumericalError(
                f"{what} steers by {size} at layer {layer}, which float32 cannot hold",
                "finite numbers",
                "Give a dose such as 0.1",
            )


def place(steering: Steering, prompt: EncodedPrompt, *, n_fed: int, n_all: int, what: str) -> RowSteering | None:
    """The positions of a steering as a range of tokens of one row; None where it changes nothing (adding dose 0).

    Args:
        n_fed: tokens that the model will see. The last one of a text is only predicted, never fed.
        n_all: tokens of the whole text.
    Raises:
        InputError: positions outside the text, or a range that holds no token that is fed.
    """
    n_prompt, positions = len(prompt.ids), steering.positions
    if isinstance(positions, Span):
        start, stop = positions.start, n_all if positions.stop is None else positions.stop
        if start >= n_all or stop > n_all:
            raise InputError(
                f"{what} steers at tokens {start} to {'the end' if positions.stop is None else stop - 1}, and its "
                f"text has {n_all} tokens at most",
                f"tokens from 0 to {n_all - 1}",
                "Change the span",
            )
    elif isinstance(positions, Characters):
        start, stop = _tokens_of(positions, prompt, what)
    else:
        start, stop = {"all": (0, n_all), "prompt": (0, n_prompt), "generated": (n_prompt, n_all)}[positions]
    stop = min(stop, n_fed)
    if start >= stop:
        raise InputError(
            f"{what} steers no token that the model is fed: {steering}, of {n_prompt} tokens of prompt and "
            f"{n_fed - n_prompt} after it (a text's last token is predicted, not fed)",
            "positions that hold one token at least",
            'Steer "all" or "prompt" positions, or ask for longer replies',
        )
    # Adding dose 0 changes nothing.
    kept = tuple(
        intervention
        for intervention in steering.interventions
        if intervention.operation != "add" or intervention.dose != 0
    )
    return RowSteering(kept, start, stop) if kept else None


def _tokens_of(characters: Characters, prompt: EncodedPrompt, what: str) -> tuple[int, int]:
    """First token and one past the last that overlap these characters."""
    if characters.stop > len(prompt.text):
        raise InputError(
            f"{what} steers at characters {characters.start} to {characters.stop - 1}, and its prompt has "
            f"{len(prompt.text)} (of the text after the chat template)",
            "characters of the prompt",
            "Change them",
        )
    overlaps = (prompt.offsets[:, 0] < characters.stop) & (prompt.offsets[:, 1] > characters.start)
    tokens = np.flatnonzero(overlaps)
    if not len(tokens):
        raise InputError(
            f"{what} steers at characters {characters.start} to {characters.stop - 1}, which no token covers",
            "characters covered by a token, and a fast tokenizer, which gives the offsets of tokens",
            "Use a Span of tokens",
        )
    return int(tokens[0]), int(tokens[-1]) + 1


@dataclass(eq=False)
class _Place:
    """One steered module, and the interventions of each row there, in the order in which they are applied."""

    layer: int
    site: Site
    follower: nn.Module | None
    """The module that receives the steered state as its input, if there is one."""
    rows: list[int] = field(default_factory=list)
    chains: list[list[Intervention]] = field(default_factory=list)
    checked: bool = False
    _on: dict[torch.device, list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]] = field(default_factory=dict)

    def steps(
        self, device: torch.device, dtype: torch.dtype
    ) -> list[
        tuple[Float[torch.Tensor, "row 1 width"], Float[torch.Tensor, "row 1"], Bool[torch.Tensor, "row 1"] | None]
    ]:
        """For each step and row: unit direction, size, and whether the component is set to the size (None: all add)."""
        if device not in self._on:
            width = len(self.chains[0][0].direction)
            steps = []
            for step in range(max(map(len, self.chains))):
                unit: Float64[np.ndarray, "row width"] = np.zeros((len(self.rows), width))
                size, sets = np.zeros((len(self.rows), 1)), np.zeros((len(self.rows), 1), np.bool_)
                for index, chain in enumerate(self.chains):
                    if step < len(chain):  # a shorter chain adds exact zeros from then on
                        intervention = chain[step]
                        direction = intervention.direction.astype(np.float64)
                        unit[index] = direction / np.linalg.norm(direction)
                        size[index] = intervention.size
                        sets[index] = intervention.operation != "add"
                steps.append(
                    (
                        torch.from_numpy(unit).to(dtype).to(device)[:, None],
                        torch.from_numpy(size).to(dtype).to(device),
                        torch.from_numpy(sets).to(device) if sets.any() else None,
                    )
                )
            self._on[device] = steps
        return self._on[device]


class Steered:
    """The hooks of one batch; they act only inside `call`."""

    def __init__(self, parts: Architecture, rows: Sequence[RowSteering | None]) -> None:
        self.parts, self.n_rows = parts, len(rows)
        # Rows without steering have an empty range.
        ranges = [(0, 0) if row is None else (row.start, row.stop) for row in rows]
        self.start: Int64[np.ndarray, "row"] = np.array([start for start, _ in ranges], np.int64)
        self.stop: Int64[np.ndarray, "row"] = np.array([stop for _, stop in ranges], np.int64)
        self.places: dict[nn.Module, _Place] = {}
        for number, row in enumerate(rows):
            mine: dict[nn.Module, list[Intervention]] = {}
            for intervention in row.interventions if row is not None else ():
                module = parts.site(intervention.layer, intervention.site)
                if module not in self.places:
                    self.places[module] = _Place(intervention.layer, intervention.site, self._follower(intervention))
                mine.setdefault(module, []).append(intervention)
            for module, chain in mine.items():
                self.places[module].rows.append(number)
                self.places[module].chains.append(chain)
        self.where: Bool[np.ndarray, "row token"] | None = None
        self.fired: set[nn.Module] = set()
        self.awaited: dict[nn.Module, tuple[_Place, Any]] = {}
        self.handles: list[Any] = []

    def _follower(self, intervention: Intervention) -> nn.Module | None:
        if intervention.site != "block":
            return None
        last = intervention.layer + 1 == self.parts.n_layers
        return self.parts.final_norm if last else self.parts.blocks[intervention.layer + 1]

    def hook(self) -> None:
        for module, place in self.places.items():
            self.handles.append(module.register_forward_hook(self._hook_of(module, place)))
            if place.follower is not None:
                self.handles.append(place.follower.register_forward_pre_hook(self._arrives, with_kwargs=True))

    def unhook(self) -> None:
        while self.handles:
            self.handles.pop().remove()

    @contextlib.contextmanager
    def call(self, positions: Int64[np.ndarray, "row token"]) -> Iterator[None]:
        """One forward pass. `positions` are absolute; negative in padding.

        Raises:
            ModelError: a steered module did not run, or what it gave did not reach the next one.
        """
        where = (positions >= self.start[:, None]) & (positions < self.stop[:, None]) & (positions >= 0)
        if not where.any():
            yield
            return
        self.where = where
        self.fired.clear()
        self.awaited.clear()
        try:
            yield
            for module, place in self.places.items():
                if where[place.rows].any() and module not in self.fired:
                    raise self._no_move(place, "it did not run")
            for place, _ in self.awaited.values():
                raise self._no_move(place, "nothing took its output")
        finally:
            self.where = None

    def _hook_of(self, module: nn.Module, place: _Place) -> Any:
        def hook(_module: nn.Module, _inputs: object, output: Any) -> Any:
            if self.where is None:
                return None
            self.fired.add(module)
            where = self.where[place.rows]
            if not where.any():
                return None
            state = residual_of(module, place.layer, output)
            # OPT's last projection is flat over tokens.
            moved = self._move(state.reshape(self.n_rows, -1, state.shape[-1]), place, where).reshape(state.shape)
            return with_residual(output, moved)

        return hook

    def _move(
        self, state: Float[torch.Tensor, "text token width"], place: _Place, where: Bool[np.ndarray, "row token"]
    ) -> Float[torch.Tensor, "text token width"]:
        # Gemma 4's last layers may run on fewer tokens, the last ones.
        where = where[:, where.shape[1] - state.shape[1] :]
        device, wide = state.device, torch.promote_types(state.dtype, torch.float32)
        rows = torch.tensor(place.rows, device=device)
        own = state if len(place.rows) == self.n_rows else state[rows]
        before = own.to(wide)
        after = before
        for unit, size, sets in place.steps(device, wide):
            after = apply(after, unit, size, sets)
        here = torch.from_numpy(where).to(device)[..., None]
        # Selected, not multiplied by a mask: other tokens and rows keep their exact bits.
        chosen = torch.where(here, after.to(state.dtype), own)
        moved = chosen if own is state else state.index_copy(0, rows, chosen)
        if not place.checked and where.any():
            place.checked = True
            # The last steered token of each row, counted from the right: Gemma 4 may run on the last tokens only.
            some = np.flatnonzero(where.any(axis=1))
            column = torch.from_numpy(-1 - where[some, ::-1].argmax(axis=1)).to(device)
            index = torch.from_numpy(some).to(device)
            probe = (rows[index], column, before[index, column], after[index, column])
            if place.follower is None:
                self._compare(place, probe, moved)
            else:
                self.awaited[place.follower] = (place, probe)
        return moved

    def _arrives(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        if self.where is None or module not in self.awaited:
            return
        place, probe = self.awaited.pop(module)
        state = inputs[0] if inputs else named.get("hidden_states")
        if isinstance(state, torch.Tensor) and state.dim() == 3 and len(state) == self.n_rows:
            self._compare(place, probe, state)

    def _compare(self, place: _Place, probe: Any, state: Float[torch.Tensor, "text token width"]) -> None:
        """Check that the state is what was asked for, up to the rounding of its dtype."""
        rows, column, before, after = (part.to(state.device) for part in probe)
        actual = state[rows, column].to(after.dtype)
        if not bool(torch.isfinite(actual).all()):
            raise NumericalError(
                f"NaN or Inf in the residual steered at layer {place.layer} ({place.site})",
                "finite residuals",
                'Give a smaller dose, or load the model as dtype="float32" or "bfloat16"',
            )
        reach = before.norm(dim=-1) + (after - before).norm(dim=-1)
        off = (actual - after).norm(dim=-1)
        if bool((off > 2 * torch.finfo(state.dtype).eps * reach).any()):
            worst = int((off / reach.clamp(min=1e-30)).argmax())
            asked, missed = float((after - before).norm(dim=-1)[worst]), float(off[worst])
            raise self._no_move(place, f"it should move by {asked:.4g}, and missed that by {missed:.4g}")

    def _no_move(self, place: _Place, why: str) -> ModelError:
        return ModelError(
            f"steering layer {place.layer} ({place.site}) of {type(self.parts.text_model).__name__} did not move the "
            f"residual as asked: {why}",
            "a module whose output is the input of the next one",
            "Steer another site, and report the architecture",
        )


@contextlib.contextmanager
def steering_rows(parts: Architecture, rows: Sequence[RowSteering | None]) -> Iterator[Steered]:
    """Hooks that steer a batch of these rows inside its `call`s; removed on the way out, also after an error."""
    steered = Steered(parts, rows)
    try:
        steered.hook()
        yield steered
    finally:
        steered.unhook()
