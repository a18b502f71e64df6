"""Gradients of scored outcomes with respect to the residual stream at some layers: one backward pass a batch.

At each layer a vector of zeros is added at every steered position, where steering would add its vector. The gradient
with respect to it is the sum of the gradients at these positions. Given the derivatives of an outcome with respect to
the log-probabilities (`experiment.screen` takes them from a behaviour's grader), the first-order effect of a unit
direction u at layer l with dose d and norm s is d * s * (u . gradient[l]).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int32, Int64
from torch import nn

from heartstrings.core.engine import Engine, ScoreRequest
from heartstrings.core.errors import InputError, ModelError, NumericalError
from heartstrings.core.steering import Intervention, Positions, Steering
from heartstrings.core.types import Site
from heartstrings.engines.hf._architecture import Architecture
from heartstrings.engines.hf._read import check_length, logits_of, require_head
from heartstrings.engines.hf._steer import place
from heartstrings.engines.hf.engine import TorchEngine
from heartstrings.engines.hf.run import (
    Splitter,
    check_layers,
    evaluating,
    first_words,
    is_out_of_memory,
    pad,
    residual_of,
    with_residual,
)
from heartstrings.engines.hf.text import encode_continuation, encode_prompt

TOKEN_BUDGET = 2048
"""Rows times longest text of a batch: the states of every block from the lowest layer on are held until its backward
pass. Memory follows it, results do not."""
_SLAB = 128
"""States whose logits, and their gradient, are held at a time."""


@dataclass(eq=False)
class _Row:
    """A text that the model is fed, and the tokens whose log-probabilities the outcome looks at."""

    request: int
    ids: Int32[np.ndarray, "token"]
    start: int
    stop: int
    """Steered tokens: `start` to `stop - 1`."""
    tails: list[tuple[int, Int32[np.ndarray, "_"], Float64[np.ndarray, "_"]]] = field(default_factory=list)
    """(position of the first token, tokens, derivative of the outcome with respect to each one's log-probability)."""


def gradient(
    engine: Engine,
    requests: Sequence[ScoreRequest],
    slopes: Sequence[Sequence[Float64[np.ndarray, "_"]]],
    *,
    layers: Sequence[int],
    positions: Positions = "all",
    site: Site = "block",
    token_budget: int = TOKEN_BUDGET,
) -> Float32[np.ndarray, "request layer width"]:
    """Derivative of each request's outcome with respect to a vector added at every steered position of a layer.

    The model is not changed.

    Args:
        requests: without steering of their own.
        slopes: of each request and continuation, the derivative of the outcome with respect to the log-probability of
            each token.
        positions: as in `Steering`. A continuation that has none of these tokens counts as 0.
        token_budget: rows times longest text of a batch.
    Raises:
        InputError: an engine other than transformers', a model that autograd cannot go through, a request with
            steering, slopes of another number of tokens, no such layer, or positions that hold no token at all.
        ModelError: out of memory on one text, no unembedding, no such site. NumericalError: NaN or Inf.
    """
    if not isinstance(engine, TorchEngine):
        raise InputError(
            f"a gradient of {type(engine).__name__}",
            "the transformers engine, which autograd can go through",
            "Load the model with heartstrings.load, or draw controls evenly",
        )
    asked = check_layers(engine.parts, layers)
    require_head(engine.parts)
    for layer in asked:
        engine.parts.site(layer, site)
    rows = [
        row
        for number, (request, own) in enumerate(zip(requests, slopes, strict=True))
        for row in _rows(engine, number, request, own, positions)
    ]
    lengths = np.array([len(row.ids) for row in rows], np.int64)
    values = np.zeros((len(requests), len(asked), engine.parts.width), np.float32)
    for indices, gradients in Splitter().run_all(
        lengths,
        token_budget,
        lambda indices: _backward(engine.parts, [rows[row] for row in indices], asked, site),
        lambda row: f"request {rows[row].request}",
    ):
        for row, grad in zip(indices, gradients, strict=True):
            if not np.isfinite(grad).all():
                raise NumericalError(
                    f"NaN or Inf in the gradient of request {rows[row].request}",
                    "finite numbers",
                    'Load the model as dtype="float32" or "bfloat16"',
                )
            values[rows[row].request] += grad
    return values


def _rows(
    engine: TorchEngine,
    number: int,
    request: ScoreRequest,
    slopes: Sequence[Float64[np.ndarray, "_"]],
    positions: Positions,
) -> list[_Row]:
    """A row for each different text that the request's continuations are fed."""
    parts = engine.parts
    if request.steering is not None:
        raise InputError(f"request {number} is steered", "requests without steering: the gradient is that at dose 0")
    prompt = encode_prompt(engine.tokenizer, request.prompt, vocabulary=parts.vocabulary, reply=True)
    tails = [encode_continuation(engine.tokenizer, text, vocabulary=parts.vocabulary) for text in request.continuations]
    if [len(ids) for ids in tails] != [len(slope) for slope in slopes] or not tails:
        raise InputError(
            f"slopes of {[len(slope) for slope in slopes]} tokens for continuations of {[len(ids) for ids in tails]}",
            "one number for each token of at least one continuation",
        )
    longest = len(prompt.ids) + max(map(len, tails))
    check_length(parts, longest, first_words(prompt.text))
    # The same positions as in `score` with a steering.
    anything = Intervention(layer=0, direction=np.ones(parts.width, np.float32), dose=1.0, norm=1.0)
    steered = place(
        Steering((anything,), positions), prompt, n_fed=longest - 1, n_all=longest, what=f"request {number}"
    )
    assert steered is not None
    rows: dict[bytes, _Row] = {}
    for ids, slope in zip(tails, slopes, strict=True):
        fed = np.concatenate([prompt.ids, ids[:-1]])
        row = rows.setdefault(fed.tobytes(), _Row(number, fed, steered.start, min(steered.stop, len(fed))))
        row.tails.append((len(prompt.ids), ids, slope))
    return [row for row in rows.values() if row.start < row.stop]


def _backward(
    parts: Architecture, rows: Sequence[_Row], layers: Sequence[int], site: Site
) -> Float32[np.ndarray, "row layer width"]:
    """One forward and one backward pass."""
    ids, mask = pad(parts, [row.ids for row in rows])
    columns = np.arange(ids.shape[1])[None]
    bounds = np.array([(row.start, row.stop) for row in rows], np.int64)
    where = torch.from_numpy((columns >= bounds[:, :1]) & (columns < bounds[:, 1:])).to(parts.device) & mask
    shape = (len(rows), 1, parts.width)
    probes = [torch.zeros(shape, dtype=torch.float32, device=parts.device, requires_grad=True) for _ in layers]
    try:
        with (
            evaluating(parts.text_model),
            torch.enable_grad(),
            _constant(parts),
            _probed(parts, layers, site, probes, where) as reached,
        ):
            states = parts.text_model(input_ids=ids, use_cache=False).last_hidden_state
            if reached != set(layers):
                raise ModelError(
                    f"{type(parts.text_model).__name__} finished without running layer {min(set(layers) - reached)}",
                    f"{parts.n_layers} blocks that all run",
                )
            gradients = torch.autograd.grad(states, probes, grad_outputs=_at_the_end(parts, states, rows))
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"autograd cannot go through {type(parts.text_model).__name__}: {error}",
            "a model whose every step from the residual stream to the logits has a gradient",
            "Draw controls evenly, without a screen",
        ) from error
    return np.stack([grad[:, 0].float().cpu().numpy() for grad in gradients], axis=1)


def _at_the_end(
    parts: Architecture, states: Float[torch.Tensor, "row token width"], rows: Sequence[_Row]
) -> Float[torch.Tensor, "row token width"]:
    """Gradient of the outcomes with respect to the states after the final norm. Logits of a few states at a time: a
    vocabulary is far wider than a state."""
    end = torch.zeros_like(states)
    places: list[tuple[int, int, int, float]] = [
        (number, first - 1 + at, int(token), float(slope))
        for number, row in enumerate(rows)
        for first, ids, slopes in row.tails
        for at, (token, slope) in enumerate(zip(ids, slopes, strict=True))
    ]
    distinct, which = np.unique([(row, column) for row, column, _, _ in places], axis=0, return_inverse=True)
    tokens: Int64[np.ndarray, "_"] = np.array([token for _, _, token, _ in places], np.int64)
    slopes = np.array([slope for _, _, _, slope in places], np.float32)
    which = which.reshape(-1)
    for begin in range(0, len(distinct), _SLAB):
        slab = torch.from_numpy(distinct[begin : begin + _SLAB]).to(states.device)
        leaf = states[slab[:, 0], slab[:, 1]].detach().requires_grad_()
        asked = np.flatnonzero((which >= begin) & (which < begin + _SLAB))
        line = torch.from_numpy(which[asked] - begin).to(states.device)
        token, weight = (torch.from_numpy(array[asked]).to(states.device) for array in (tokens, slopes))
        logits = logits_of(parts, leaf)
        line, token, weight = (array.to(logits.device) for array in (line, token, weight))
        # Not log_softmax, whose result is as large again as the logits.
        outcome = (weight * (logits[line, token] - logits.logsumexp(dim=1)[line])).sum()
        (gradient,) = torch.autograd.grad(outcome, leaf)
        end[slab[:, 0], slab[:, 1]] = gradient
    return end


@contextlib.contextmanager
def _constant(parts: Architecture) -> Iterator[None]:
    """Parameters require no gradient inside, so that nothing below the lowest probe is kept in memory."""
    modules: list[nn.Module] = [parts.text_model, *([parts.head] if parts.head is not None else [])]
    changed = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    try:
        for parameter in changed:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in changed:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def _probed(
    parts: Architecture,
    layers: Sequence[int],
    site: Site,
    probes: Sequence[Float[torch.Tensor, "row 1 width"]],
    where: Bool[torch.Tensor, "row token"],
) -> Iterator[set[int]]:
    """Hooks that add each layer's probe at the steered positions, as steering does; yields the layers that ran."""
    reached: set[int] = set()

    def hook_on(layer: int, probe: Float[torch.Tensor, "row 1 width"]) -> Any:
        def hook(module: nn.Module, _inputs: object, output: Any) -> Any:
            state = residual_of(module, layer, output)
            reached.add(layer)
            own = state.reshape(len(where), -1, state.shape[-1])  # OPT's last projection is flat over tokens
            here = where[:, where.shape[1] - own.shape[1] :, None].to(own.device)
            wide = torch.promote_types(own.dtype, torch.float32)
            added = (own.to(wide) + probe.to(own.device, wide)).to(own.dtype)
            moved = torch.where(here, added, own).reshape(state.shape)
            return with_residual(output, moved)

        return hook

    handles = []
    try:
        for layer, probe in zip(layers, probes, strict=True):
            handles.append(parts.site(layer, site).register_forward_hook(hook_on(layer, probe)))
        yield reached
    finally:
        for handle in handles:
            handle.remove()
