"""Running a model: hooks that are removed afterwards, padding of our own, batches that shrink when memory runs out."""

from __future__ import annotations

import contextlib
import inspect
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import nn

from heartstrings.core.errors import HeartstringsError, InputError, ModelError, NumericalError
from heartstrings.core.types import Site
from heartstrings.engines.hf._architecture import Architecture

Result = TypeVar("Result")
OnLayer = Callable[[int, Float[torch.Tensor, "text token width"]], None]


STEERED: weakref.WeakSet[nn.Module] = weakref.WeakSet()
"""Models inside a `with engine.steered(...)`, whose hooks would also steer the forward passes of the engine."""


class _Enough(Exception):
    """Raised by the hook on the last layer asked for, so that the rest of the model does not run."""


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No gradients, no dropout; training flags are restored on the way out.

    Not inference mode: buffers that some rotary embeddings recompute would remain inference tensors.
    """
    if model in STEERED:
        raise HeartstringsError(
            "a method of the engine that takes no steering was called inside `with engine.steered(...)`",
            "only `score`, `generate` and your own calls of the model there",
            "Call it outside the `with`",
        )
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def run_layers(
    parts: Architecture,
    layers: Sequence[int],
    site: Site,
    on_layer: OnLayer,
    ids: Int64[torch.Tensor, "text token"],
    mask: Bool[torch.Tensor, "text token"],
    *,
    cache: object | None = None,
    given: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Run the model on right-padded `ids` up to the last of `layers`, and call `on_layer(index, state)` at each layer.

    With right padding, a causal model needs no attention mask (no real token sees the padding after it) and no position
    ids; an encoder gets its mask. The unembedding never runs.

    Args:
        given: further arguments of the model, for example another mask.
    """
    order = {layer: index for index, layer in enumerate(layers)}
    last = max(layers)
    handles = []

    def hook_on(layer: int) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            state = residual_of(module, layer, output)
            on_layer(order[layer], state.reshape(*ids.shape, -1))  # OPT's last projection is flat over tokens
            if layer == last:
                raise _Enough

        return hook

    try:
        for layer in layers:
            handles.append(parts.site(layer, site).register_forward_hook(hook_on(layer)))
        arguments: dict[str, object] = {"input_ids": ids, "use_cache": cache is not None}
        if parts.is_encoder:
            arguments = {"input_ids": ids, "attention_mask": mask.long()}
        arguments |= given or {}
        if cache is not None:
            arguments[cache_argument(parts.text_model)] = cache
        with contextlib.suppress(_Enough):
            parts.text_model(**arguments)
            raise ModelError(
                f"{type(parts.text_model).__name__} finished without running block {last}",
                f"{parts.n_layers} blocks that all run",
            )
    finally:
        for handle in handles:
            handle.remove()


def residual_of(module: nn.Module, layer: int, output: object) -> torch.Tensor:
    """The residual stream in the output of a module: the output itself, or the first entry of a tuple."""
    state = output[0] if isinstance(output, tuple) else output
    if not isinstance(state, torch.Tensor):
        raise ModelError(
            f"{type(module).__name__} at layer {layer} returns {type(output).__name__}",
            "a tensor, or a tuple that starts with one",
        )
    return state


def with_residual(output: Any, state: torch.Tensor) -> Any:
    """The output of a module with another residual stream in it."""
    return (state, *output[1:]) if isinstance(output, tuple) else state


def cache_argument(model: nn.Module) -> str:
    """The name of a model's argument for its cache: `cache` from transformers 5.24 on, `past_key_values` before."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def cache_of(given: Mapping[str, Any]) -> Any:
    """The cache among the arguments or the outputs of a model, under either name; None if there is none."""
    return given["cache"] if "cache" in given else given.get("past_key_values")


def check_layers(parts: Architecture, layers: Sequence[int] | None) -> tuple[int, ...]:
    """All layers for None; otherwise those asked for, each of which must exist and occur once."""
    if layers is None:
        return tuple(range(parts.n_layers))
    asked = tuple(int(layer) for layer in layers)
    wrong = [layer for layer in asked if not 0 <= layer < parts.n_layers]
    if wrong or not asked or len(set(asked)) != len(asked):
        problem = f"layer {wrong[0]}" if wrong else ("no layer" if not asked else "a layer asked for twice")
        raise InputError(problem, f"layers from 0 to {parts.n_layers - 1}, each once", "Change the layers")
    return asked


def pad(
    parts: Architecture, rows: Sequence[Int32[np.ndarray, "_"]], *, left: bool = False
) -> tuple[Int64[torch.Tensor, "text token"], Bool[torch.Tensor, "text token"]]:
    """Token ids as one rectangle on the model's device, and the mask of real tokens; at least one column, even for
    empty texts. Padding has the model's own pad id where it has one: RoBERTa computes positions from it."""
    declared = getattr(parts.config, "pad_token_id", None)
    filler = declared if isinstance(declared, int) and 0 <= declared < parts.vocabulary else 0
    width = max((1, *map(len, rows)))
    ids = np.full((len(rows), width), filler, np.int64)
    mask = np.zeros((len(rows), width), np.bool_)
    for index, row in enumerate(rows):
        columns = slice(width - len(row), width) if left else slice(0, len(row))
        ids[index, columns], mask[index, columns] = row, True
    return torch.from_numpy(ids).to(parts.device), torch.from_numpy(mask).to(parts.device)


def plan_batches(
    lengths: Int64[np.ndarray, "text"], token_budget: int, *, max_rows: int = 128
) -> list[Int64[np.ndarray, "_"]]:
    """Rows of each batch: longest texts first, so that there is little padding and too large a batch fails early.

    A batch's rectangle (rows times its longest text) stays within `token_budget`, but has at least one text.
    The plan depends only on the lengths, the budget and the order of the texts.
    """
    if token_budget < 1:
        raise InputError(f"a token budget of {token_budget}", "1 or more")
    order = np.argsort(-lengths, kind="stable")
    batches: list[Int64[np.ndarray, "_"]] = []
    start = 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        rows = max(1, min(token_budget // longest, max_rows))
        batches.append(order[start : start + rows].astype(np.int64))
        start += rows
    return batches


class Splitter:
    """Runs batches, and halves a batch as often as memory runs out. Remembers what did not fit."""

    def __init__(self) -> None:
        self.ceiling: int | None = None
        """Smallest size (rows times tokens) that is known not to fit."""

    def run_all(
        self,
        lengths: Int64[np.ndarray, "text"],
        token_budget: int,
        work: Callable[[Sequence[int]], Result],
        describe: Callable[[int], str],
        *,
        max_rows: int = 128,
        rows_beside: int = 0,
    ) -> Iterator[tuple[Sequence[int], Result]]:
        """`run` on every batch of `plan_batches`."""
        for batch in plan_batches(lengths, token_budget, max_rows=max_rows):
            yield from self.run(batch.tolist(), lengths, work, describe, rows_beside=rows_beside)

    def run(
        self,
        rows: Sequence[int],
        lengths: Int64[np.ndarray, "text"],
        work: Callable[[Sequence[int]], Result],
        describe: Callable[[int], str],
        *,
        rows_beside: int = 0,
    ) -> list[tuple[Sequence[int], Result]]:
        """Results of `work` for consecutive parts of `rows`.

        Args:
            lengths: tokens of every row.
            describe: names a row in an error message.
            rows_beside: rows that `work` adds to each batch.
        Raises:
            ModelError: a single row does not fit into memory.
        """
        size = (len(rows) + rows_beside) * max(1, int(lengths[list(rows)].max()))
        if self.ceiling is None or size < self.ceiling or len(rows) == 1:
            try:
                return [(rows, work(rows))]
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside the except block, so that its traceback no longer holds the tensors of the failed pass.
            self.ceiling = min(size, self.ceiling or size)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if len(rows) == 1:
                raise ModelError(
                    f"out of memory on {describe(rows[0])} ({lengths[rows[0]]} tokens) alone",
                    "memory for one text",
                    "Use shorter texts, a smaller dtype, fewer layers or another device",
                )
        half = (len(rows) + 1) // 2
        parts = rows[:half], rows[half:]
        return [done for part in parts for done in self.run(part, lengths, work, describe, rows_beside=rows_beside)]


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA, MPS and the CPU allocator each have a message of their own."""
    words = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in words or "can't allocate memory" in words)
    )


def first_words(text: str, n: int = 8) -> str:
    """The beginning of a text, for error messages."""
    words = text.split()
    return " ".join(words[:n]) + (" ..." if len(words) > n else "")


def not_finite(what: str, layer: int, position: int) -> NumericalError:
    """The error for NaN or Inf in a residual."""
    return NumericalError(
        f"NaN or Inf at layer {layer}, token {position}, of {what}",
        "finite residuals",
        'Load the model as dtype="float32" or "bfloat16" (float16 overflows), or leave the text out',
    )
