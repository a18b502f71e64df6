"""Steering for people with their own loop: while a `with` lasts, every forward pass of the model is steered.

Outside calls carry no request, so which token is which is worked out from what each call passes to the text model:
its attention mask, its position ids and how much its cache holds already. What these do not tell is refused.
"""

from __future__ import annotations

import contextlib
import inspect
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from heartstrings.core.engine import GenerateRequest, Pooler, ScoreRequest
from heartstrings.core.errors import HeartstringsError, InputError
from heartstrings.core.steering import Characters, Intervention, Operation, Positions, Span, Steering
from heartstrings.core.types import Pooling, Site
from heartstrings.corpus import calibration_texts
from heartstrings.engines.hf.architecture import Architecture
from heartstrings.engines.hf.dose import apply
from heartstrings.engines.hf.run import STEERED, cache_of
from heartstrings.vectors.algebra import Direction
from heartstrings.vectors.emotion_vectors import EmotionVectors
from heartstrings.vectors.steer import along, layer_list, make_steering

Request = TypeVar("Request", ScoreRequest, GenerateRequest)

_OPEN: weakref.WeakKeyDictionary[nn.Module, list[_Session]] = weakref.WeakKeyDictionary()
"""The sessions of each text model, the outermost first."""
_NORMS: weakref.WeakKeyDictionary[nn.Module, dict[Site, Float64[np.ndarray, "layer"]]] = weakref.WeakKeyDictionary()
"""Mean residual norms that were measured, by text model and site."""


def what_to_do(
    engine: Pooler,
    parts: Architecture,
    direction: str | Direction | Steering,
    *,
    dose: float | int | None,
    layer: int | Sequence[int] | None,
    operation: Operation,
    positions: Positions,
    site: Site,
    vectors: EmotionVectors | None,
) -> Steering:
    """The steering that the arguments of `TorchEngine.steered` ask for, checked against the model."""
    if isinstance(direction, Steering):
        if dose is not None or layer is not None or vectors is not None:
            raise InputError(
                "a dose, layer or bundle beside a finished Steering", "the Steering alone", "Leave the others out"
            )
        steering = direction
    else:
        if dose is None and operation != "ablate":
            raise InputError("steering without a dose", "a fraction of the mean residual norm", "Add dose=0.1")
        dose = 0.0 if dose is None else dose
        if layer is None and isinstance(direction, Direction) and len(direction.layers) == 1:
            layer = direction.layers
        if layer is None:
            raise InputError("steering without a layer", "one layer or several", "Add layer=14")
        if vectors is not None:
            steering = make_steering(
                vectors, direction, dose=dose, layers=layer, operation=operation, positions=positions
            )
        elif isinstance(direction, str):
            raise InputError(
                f"the expression {direction!r} without a bundle to look it up in",
                "a bundle beside it",
                'Add vectors=..., or give a direction such as vectors["calm"]',
            )
        else:
            # Before the norms, which take a pass over the calibration texts.
            chosen = layer_list(layer, direction.layers)
            _check_place(parts, chosen, direction.width, site)
            steering = along(
                direction, dose=dose, layers=chosen, operation=operation, positions=positions, site=site,
                norm_at=lambda at: float(calibration_norms(engine, parts, site)[at]),
            )  # fmt: skip
    for one in steering.interventions:
        _check_place(parts, (one.layer,), len(one.direction), one.site)
    if isinstance(steering.positions, Characters):
        raise InputError(
            "steering at characters, and outside calls pass tokens, not text",
            "positions all, prompt, generated or a Span of tokens",
            "Use a Span, or `engine.generate` with the steering in the request",
        )
    if parts.is_encoder and steering.positions == "generated":
        raise InputError("steering of generated tokens in an encoder, which generates none", "another position")
    return steering


def _check_place(parts: Architecture, layers: Sequence[int], width: int, site: Site) -> None:
    for layer in layers:
        if layer >= parts.n_layers:
            raise InputError(
                f"steering at layer {layer}", f"a layer from 0 to {parts.n_layers - 1}", "Change the layer"
            )
        parts.site(layer, site)
    if width != parts.width:
        raise InputError(
            f"a direction of width {width}", f"{parts.width}, the model's", "Use vectors of this very model"
        )


def calibration_norms(engine: Pooler, parts: Architecture, site: Site) -> Float64[np.ndarray, "layer"]:
    """Mean residual norm at every layer over the package's calibration texts, as `extract` measures it.

    Measured once a model and site, unsteered also inside a `with`.
    """
    measured = _NORMS.setdefault(parts.text_model, {})
    if site not in measured:
        n_layers = parts.n_layers
        total, count = np.zeros(n_layers), np.zeros(n_layers)
        with _unsteered(parts.text_model):
            for batch in engine.pool(calibration_texts().texts, poolings=(Pooling(start=0),), site=site):
                tokens = np.repeat(batch.n_tokens[:, None], n_layers, axis=1).astype(np.float64)
                np.subtract.at(tokens, (batch.sinks[:, 0], batch.sinks[:, 1]), 1)
                total += np.where(tokens > 0, batch.norms * tokens, 0.0).sum(0)
                count += tokens.sum(0)
        if (count == 0).any():
            raise InputError("the calibration texts hold no usable token", "another tokenizer")
        # In float32, as a bundle keeps them: the same dose is then the same vector.
        measured[site] = (total / count).astype(np.float32).astype(np.float64)
    return measured[site]


@contextlib.contextmanager
def session(model: PreTrainedModel, parts: Architecture, steering: Steering) -> Iterator[Steering]:
    """See `TorchEngine.steered`."""
    opened = _Session(model, parts, steering)
    sessions = _OPEN.setdefault(parts.text_model, [])
    try:
        sessions.append(opened)
        STEERED.update((model, parts.text_model))
        opened.hook()
        yield steering
    finally:
        opened.unhook()
        sessions[:] = [other for other in sessions if other is not opened]
        if not sessions:
            STEERED.difference_update((model, parts.text_model))
    opened.check_something_happened()


@contextlib.contextmanager
def inside(parts: Architecture, requests: Sequence[Request]) -> Iterator[Sequence[Request]]:
    """The requests of a verb, each with the steering of the sessions around it before its own.

    Raises:
        InputError: the positions differ, and one request has one kind of positions.
    """
    around = [opened.steering for opened in _OPEN.get(parts.text_model, []) if not opened.asleep]
    if around:
        requests = [replace(request, steering=_together(around, request.steering)) for request in requests]
    with _unsteered(parts.text_model):
        yield requests


def _together(around: Sequence[Steering], own: Steering | None) -> Steering:
    every = [*around, *([] if own is None else [own])]
    if len({steering.positions for steering in every}) > 1:
        raise InputError(
            "a request inside `with engine.steered(...)` whose positions are others than those of the `with`",
            "the same positions",
            "Put all the steering into the request, outside the `with`",
        )
    return Steering(tuple(one for steering in every for one in steering.interventions), every[0].positions)


@contextlib.contextmanager
def _unsteered(text_model: nn.Module) -> Iterator[None]:
    """The sessions of the model sleep."""
    awake = [opened for opened in _OPEN.get(text_model, []) if not opened.asleep]
    models = {module for opened in awake for module in (opened.model, text_model)}
    try:
        for opened in awake:
            opened.asleep = True
        STEERED.difference_update(models)
        yield
    finally:
        STEERED.update(models)
        for opened in awake:
            opened.asleep = False


class _Session:
    """One `with`: its hooks, and what it knows of the call that is running and of the caches it has seen."""

    def __init__(self, model: PreTrainedModel, parts: Architecture, steering: Steering) -> None:
        self.model, self.parts, self.steering = model, parts, steering
        self.asleep = False
        self.n_calls = 0
        self.touched: Bool[torch.Tensor, ""] | None = None
        self.where: Bool[torch.Tensor, "text token"] | None = None
        """Which tokens of the running call are steered."""
        self.outer_mask: object = None
        self.first_call: int | None = None
        """Tokens of the running call, where it begins a cache."""
        self.prompt_lengths: weakref.WeakKeyDictionary[Cache, int] = weakref.WeakKeyDictionary()
        """Columns of the first call on each cache, padding included."""
        self.signature = inspect.signature(parts.text_model.forward)
        self.units: dict[tuple[int, torch.device], Float[torch.Tensor, "width"]] = {}
        self.handles: list[Any] = []

    def hook(self) -> None:
        keep = self.handles.append
        # The outer model of a multimodal one may hand on a mask that is expanded already: see it before.
        keep(self.model.register_forward_pre_hook(self._outer_begins, with_kwargs=True))
        keep(self.model.register_forward_hook(self._outer_ends, always_call=True))
        keep(self.parts.text_model.register_forward_pre_hook(self._begins, with_kwargs=True))
        keep(self.parts.text_model.register_forward_hook(self._ends, always_call=True, with_kwargs=True))
        by_module: dict[nn.Module, list[Intervention]] = {}
        for one in self.steering.interventions:
            by_module.setdefault(self.parts.site(one.layer, one.site), []).append(one)
        for module, interventions in by_module.items():
            keep(module.register_forward_hook(self._hook_with(interventions)))

    def unhook(self) -> None:
        while self.handles:
            self.handles.pop().remove()

    def check_something_happened(self) -> None:
        """Steering that never met a token it was meant for is a mistake, not a result."""
        if self.n_calls and (self.touched is None or not bool(self.touched)):
            raise HeartstringsError(
                f"none of the {self.n_calls} forward passes inside the `with` had a token to steer: {self.steering}",
                "a token at these positions (in a single pass, all tokens are prompt)",
                "Change the positions, or leave the steering out",
            )

    def _outer_begins(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.outer_mask = named.get("attention_mask")

    def _outer_ends(self, *_: object) -> None:
        self.outer_mask = None

    def _begins(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        if not self.asleep:
            arguments = self.signature.bind_partial(*inputs, **named).arguments
            self.where = self._locate({**named, **arguments})
            self.n_calls += 1

    def _ends(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        held = output.values() if isinstance(output, dict) else output if isinstance(output, tuple) else ()
        if self.first_call is not None:
            for cache in (value for value in held if isinstance(value, Cache)):
                self.prompt_lengths[cache] = self.first_call
        self.where = self.first_call = None

    def _locate(self, given: dict[str, Any]) -> Bool[torch.Tensor, "text token"] | None:
        """Which tokens of one call to steer; None where the call has none and will fail by itself."""
        tokens = given.get("input_ids") if given.get("input_ids") is not None else given.get("inputs_embeds")
        if not isinstance(tokens, torch.Tensor):
            return None
        n_texts, n_tokens = tokens.shape[:2]
        cache = cache_of(given)
        past = int(cache.get_seq_length()) if isinstance(cache, Cache) else 0
        everything = torch.ones(n_texts, n_tokens, dtype=torch.bool, device=tokens.device)
        mask = self._flat_mask(given.get("attention_mask"))
        real = everything
        if isinstance(mask, torch.Tensor) and mask.dim() == 2:
            if mask.shape != (n_texts, past + n_tokens):
                raise HeartstringsError(
                    f"an attention mask of shape {tuple(mask.shape)} for {n_texts} texts with {past} tokens in the "
                    f"cache and {n_tokens} new ones",
                    f"one of shape ({n_texts}, {past + n_tokens})",
                    "Pass a mask over the cached and the new tokens",
                )
            real = mask.to(tokens.device)[:, past:].bool()
        positions = self.steering.positions
        if isinstance(positions, Span):
            at = self._positions(given, mask, past, everything)
            inside = at >= positions.start
            return real & (inside if positions.stop is None else inside & (at < positions.stop))
        if positions == "all":
            return real
        is_prompt = self.parts.is_encoder or self._is_prompt(given, cache, past, n_tokens)
        return real if is_prompt == (positions == "prompt") else ~everything

    def _flat_mask(self, mask: object) -> object:
        """The mask with one number a token where the text model or the outer one got it; else what there is."""
        flat = [one for one in (mask, self.outer_mask) if isinstance(one, torch.Tensor) and one.dim() == 2]
        return flat[0] if flat else mask

    def _positions(
        self, given: dict[str, Any], mask: object, past: int, everything: Bool[torch.Tensor, "text token"]
    ) -> Int64[torch.Tensor, "text token"]:
        """Absolute position of each token among the real ones of its text."""
        if isinstance(mask, torch.Tensor) and mask.dim() == 2:
            return mask.to(everything.device).long().cumsum(dim=1)[:, past:] - 1
        if mask is not None:
            raise HeartstringsError(
                "a call whose attention mask is expanded already, which does not tell padding from text",
                "a mask with one number a token",
                'Steer all positions, or use a dynamic cache (cache_implementation="dynamic")',
            )
        told = given.get("position_ids")
        if isinstance(told, torch.Tensor) and told.dim() == 2:
            return told.to(everything.device).long().expand(everything.shape)
        return past + everything.long().cumsum(dim=1) - 1

    def _is_prompt(self, given: dict[str, Any], cache: object, past: int, n_tokens: int) -> bool:
        """Are the tokens of this call the prompt? The prompt is what the first call on a cache carries."""
        wanted = f"steering of {self.steering.positions} tokens"
        if past == 0:
            keeps = given.get("use_cache")
            keeps = getattr(self.parts.config, "use_cache", True) if keeps is None else keeps
            if cache is None and not keeps:
                raise HeartstringsError(
                    f"{wanted} in a call without a cache, which does not tell where the prompt ends",
                    "calls with a cache (use_cache=True)",
                    "Use the cache, or a Span of tokens",
                )
            self.first_call = n_tokens
            if isinstance(cache, Cache):
                self.prompt_lengths[cache] = n_tokens
            return True
        length = self.prompt_lengths.get(cache) if isinstance(cache, Cache) else None
        if length is None or past < length or n_tokens > 1:
            what = "was begun outside the `with`" if length is None else f"holds {past} of the prompt's {length}"
            if length is not None and past >= length:
                what = f"holds {past} tokens and gets {n_tokens} at once"
            raise HeartstringsError(
                f"{wanted} in a call on a cache that {what}: they may be prompt or generated",
                "the whole prompt in the first call, then a token a call",
                "Do without chunked prefill, assistants and caches from outside, or use a Span of tokens",
            )
        return False

    def _hook_with(self, interventions: Sequence[Intervention]) -> Any:
        def steer_output(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            if self.asleep:
                return None
            if self.where is None:
                raise HeartstringsError(
                    f"a {type(module).__name__} ran by itself inside `with engine.steered(...)`",
                    "calls of the whole model, which tell where each token stands",
                )
            state = output[0] if isinstance(output, tuple) else output
            where = self.where
            if state.dim() == 3 and state.shape[1] < where.shape[1]:
                # Gemma 4's last layers, which reuse keys, run only on the tokens whose logits are wanted.
                where = where[:, -state.shape[1] :]
            here = where.to(state.device).reshape(state.shape[:-1])
            moved = state.float()
            for one in interventions:
                size = torch.tensor(one.size, device=state.device)
                sets = None if one.operation == "add" else torch.ones_like(size, dtype=torch.bool)
                moved = apply(moved, self._unit(one, state.device), size, sets)
            # Tokens that are not meant keep their very bits.
            moved = torch.where(here[..., None], moved.to(state.dtype), state)
            any_here = where.any()
            self.touched = any_here if self.touched is None else self.touched | any_here
            return (moved, *output[1:]) if isinstance(output, tuple) else moved

        return steer_output

    def _unit(self, one: Intervention, device: torch.device) -> Float[torch.Tensor, "width"]:
        key = (id(one), device)
        if key not in self.units:
            row = torch.from_numpy(one.direction.astype(np.float64))
            self.units[key] = (row / row.norm()).to(device, torch.float32)
        return self.units[key]
