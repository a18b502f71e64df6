"""Steering in a user's own loop: inside a `with`, every forward pass of the model is steered.

Such calls carry no request, so the position of each token is derived from the arguments of the text model: attention
mask, position ids and the length of the cache. Calls where these do not determine it are refused.
"""

from __future__ import annotations

import contextlib
import inspect
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
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
from heartstrings.engines.hf._architecture import Architecture
from heartstrings.engines.hf._dose import apply
from heartstrings.engines.hf._steer import check_steering
from heartstrings.engines.hf.run import STEERED, cache_of, residual_of, with_residual
from heartstrings.vectors.activations import mean_residual_norm
from heartstrings.vectors.algebra import Direction
from heartstrings.vectors.emotion_vectors import EmotionVectors
from heartstrings.vectors.steer import along, layer_list, make_steering

Request = TypeVar("Request", ScoreRequest, GenerateRequest)

_OPEN: weakref.WeakKeyDictionary[nn.Module, list[_Session]] = weakref.WeakKeyDictionary()
"""The open sessions of each text model, the outermost first."""
_NORMS: weakref.WeakKeyDictionary[nn.Module, dict[Site, Float64[np.ndarray, "layer"]]] = weakref.WeakKeyDictionary()
"""Measured mean residual norms, by text model and site."""


def steering_for(
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
            arguments: dict[str, Any] = {
                "dose": dose,
                "layers": layer_list(layer, direction.layers),
                "operation": operation,
                "positions": positions,
                "site": site,
            }
            # Checked before the norms are measured, which takes a pass over the calibration texts.
            check_steering(parts, along(direction, norm_at=lambda _: 1.0, **arguments), "the session")
            norms = calibration_norms(engine, parts, site)
            steering = along(direction, norm_at=lambda at: float(norms[at]), **arguments)
    check_steering(parts, steering, "the session")
    if isinstance(steering.positions, Characters):
        raise InputError(
            "steering at characters, and outside calls pass tokens, not text",
            "positions all, prompt, generated or a Span of tokens",
            "Use a Span, or `engine.generate` with the steering in the request",
        )
    if parts.is_encoder and steering.positions == "generated":
        raise InputError("steering of generated tokens in an encoder, which generates none", "another position")
    return steering


def calibration_norms(engine: Pooler, parts: Architecture, site: Site) -> Float64[np.ndarray, "layer"]:
    """Mean residual norm at every layer over the package's calibration texts, as `extract` measures it.

    Measured once a model and site, unsteered also inside a `with`.
    """
    measured = _NORMS.setdefault(parts.text_model, {})
    if site not in measured:
        with _unsteered(parts.text_model):
            batches = engine.pool(calibration_texts().texts, poolings=(Pooling(start=0),), site=site)
            norms = mean_residual_norm((batch.n_tokens, batch.norms, batch.sinks) for batch in batches)
        # In float32, as a bundle keeps them: the same dose is then the same vector.
        measured[site] = norms.astype(np.float32).astype(np.float64)
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
    """The requests of `score` or `generate`, each with the steering of the sessions around it before its own.

    Raises:
        InputError: the positions differ, and one request has one kind of positions.
    """
    around = [opened.steering for opened in _OPEN.get(parts.text_model, []) if not opened.asleep]
    if around:
        requests = [replace(request, steering=_together(around, request.steering)) for request in requests]
    with _unsteered(parts.text_model):
        yield requests


def _together(around: Sequence[Steering], own: Steering | None) -> Steering:
    steerings = [*around, *([] if own is None else [own])]
    if len({steering.positions for steering in steerings}) > 1:
        raise InputError(
            "a request inside `with engine.steered(...)` whose positions are others than those of the `with`",
            "the same positions",
            "Put all the steering into the request, outside the `with`",
        )
    interventions = chain.from_iterable(steering.interventions for steering in steerings)
    return Steering(tuple(interventions), steerings[0].positions)


@contextlib.contextmanager
def _unsteered(text_model: nn.Module) -> Iterator[None]:
    """The model's sessions are inactive inside."""
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
    """One `with`: its hooks, and its state about the running call and the caches that were used."""

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
        # The outer model of a multimodal one may expand the mask before it calls the text model, so it is read here.
        keep(self.model.register_forward_pre_hook(self._outer_begins, with_kwargs=True))
        keep(self.model.register_forward_hook(self._outer_ends, always_call=True))
        keep(self.parts.text_model.register_forward_pre_hook(self._begins, with_kwargs=True))
        keep(self.parts.text_model.register_forward_hook(self._ends, always_call=True, with_kwargs=True))
        by_module: dict[nn.Module, list[Intervention]] = {}
        for intervention in self.steering.interventions:
            by_module.setdefault(self.parts.site(intervention.layer, intervention.site), []).append(intervention)
        for module, interventions in by_module.items():
            keep(module.register_forward_hook(self._hook_with(interventions)))

    def unhook(self) -> None:
        while self.handles:
            self.handles.pop().remove()

    def check_something_happened(self) -> None:
        """Raise where no call had a token to steer: the positions are then a mistake."""
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
        """Which tokens of a call to steer; None where the call has no tokens, and will fail in the model."""
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
        """The mask with one number a token, if the text model or the outer model got one; else the given mask."""
        for given in (mask, self.outer_mask):
            if isinstance(given, torch.Tensor) and given.dim() == 2:
                return given
        return mask

    def _positions(
        self, given: dict[str, Any], mask: object, past: int, everything: Bool[torch.Tensor, "text token"]
    ) -> Int64[torch.Tensor, "text token"]:
        """Absolute position of each token among the real ones of its text."""
        if isinstance(mask, torch.Tensor) and mask.dim() == 2:
            return mask.to(everything.device).long().cumsum(dim=1)[:, past:] - 1
        if mask is not None:
            raise HeartstringsError(
                "a call whose attention mask is already expanded, so that padding cannot be told from text",
                "a mask with one number a token",
                'Steer all positions, or use a dynamic cache (cache_implementation="dynamic")',
            )
        told = given.get("position_ids")
        if isinstance(told, torch.Tensor) and told.dim() == 2:
            return told.to(everything.device).long().expand(everything.shape)
        return past + everything.long().cumsum(dim=1) - 1

    def _is_prompt(self, given: dict[str, Any], cache: object, past: int, n_tokens: int) -> bool:
        """Whether the tokens of this call are the prompt, which is the first call on a cache."""
        wanted = f"steering of {self.steering.positions} tokens"
        if past == 0:
            keeps = given.get("use_cache")
            keeps = getattr(self.parts.config, "use_cache", True) if keeps is None else keeps
            if cache is None and not keeps:
                raise HeartstringsError(
                    f"{wanted} in a call without a cache, so that the end of the prompt is not known",
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
                    f"a {type(module).__name__} was called by itself inside `with engine.steered(...)`",
                    "calls of the whole model, which give the position of each token",
                )
            state = residual_of(module, interventions[0].layer, output)
            where = self.where
            if state.dim() == 3 and state.shape[1] < where.shape[1]:
                # Gemma 4's last layers, which reuse keys, run only on the tokens whose logits are wanted.
                where = where[:, -state.shape[1] :]
            here = where.to(state.device).reshape(state.shape[:-1])
            moved = state.float()
            for intervention in interventions:
                size = torch.tensor(intervention.size, device=state.device)
                sets = None if intervention.operation == "add" else torch.ones_like(size, dtype=torch.bool)
                moved = apply(moved, self._unit(intervention, state.device), size, sets)
            # Selected, not multiplied by a mask: other tokens keep their exact bits.
            moved = torch.where(here[..., None], moved.to(state.dtype), state)
            any_here = where.any()
            self.touched = any_here if self.touched is None else self.touched | any_here
            return with_residual(output, moved)

        return steer_output

    def _unit(self, intervention: Intervention, device: torch.device) -> Float[torch.Tensor, "width"]:
        key = (id(intervention), device)
        if key not in self.units:
            row = torch.from_numpy(intervention.direction.astype(np.float64))
            self.units[key] = (row / row.norm()).to(device, torch.float32)
        return self.units[key]
