"""The vectors of a file, and the checks that make one array of them.

Readers fill a `Table`: one vector for each (layer, emotion) cell; a file may leave out either. `merge` joins several
files, and `assemble` refuses cells that do not form a full block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float32

from heartstrings.core.errors import BundleError, InputError, NumericalError
from heartstrings.core.types import ModelInfo, Site

Cell = tuple[int | None, str | None]
"""(layer in the file's own numbering, emotion); None where the file does not say."""


@dataclass(frozen=True)
class Table:
    """The content of one file, before any check across vectors."""

    format: str
    source: str
    """File name, for messages and provenance; never a full path."""
    cells: Mapping[Cell, Float32[np.ndarray, "_"]]
    site: Site = "block"
    difference: bool = False
    """Each vector is a difference of two poles, so a mean over emotions has no meaning."""
    stacked: bool = False
    """Layers were numbered by their row in a stack that starts at 0."""
    model_hint: str | None = None
    notes: tuple[str, ...] = field(default=())


def vector(value: object, where: str) -> Float32[np.ndarray, "_"]:
    """One finite vector of length 1 or more as float32, or an error that names the place `where`.

    Raises:
        InputError: not a one-dimensional array of real floating-point numbers.
        NumericalError: NaN or Inf, also after rounding to float32.
    """
    array = np.asarray(value)
    if array.dtype.kind != "f" or array.ndim != 1 or array.size == 0:
        raise InputError(
            f"{where}: an array of type {array.dtype} and shape {array.shape}",
            "a one-dimensional array of floating-point numbers",
        )
    with np.errstate(over="ignore"):
        rounded = array.astype(np.float32)
    if not np.isfinite(rounded).all():
        raise NumericalError(
            f"{where}: {int((~np.isfinite(rounded)).sum())} of {rounded.size} numbers are NaN or infinite",
            "finite numbers",
            "Export the vectors again from a run in float32 or bfloat16",
        )
    return rounded


def scaled(row: object, factor: object, where: str) -> Float32[np.ndarray, "_"]:
    """`row` times a coefficient from the same file, checked as `vector` does."""
    if isinstance(factor, bool) or not isinstance(factor, int | float):
        raise InputError(f"{where}: the coefficient is {factor!r}", "a number")
    with np.errstate(all="ignore"):
        return vector(vector(row, where).astype(np.float64) * float(factor), where)


def merge(tables: Sequence[Table]) -> Table:
    """Several files as one table. Cells must not repeat; format, site and kind must agree."""
    first = tables[0]
    cells: dict[Cell, np.ndarray] = {}
    origin: dict[Cell, str] = {}
    for table in tables:
        if (table.site, table.difference, table.stacked) != (first.site, first.difference, first.stacked):
            raise InputError(
                f"{first.source} ({first.format}, site {first.site}) and {table.source} "
                f"({table.format}, site {table.site}) cannot go into one bundle",
                "files of one kind and site",
                "Import them apart",
            )
        for cell, value in table.cells.items():
            if cell in cells:
                raise InputError(
                    f"{origin[cell]} and {table.source} both hold {_say(cell)}",
                    "each layer and emotion once",
                    "Name the emotions: NAME=PATH for each file",
                )
            cells[cell], origin[cell] = value, table.source
    hints = {table.model_hint for table in tables} - {None, "unknown"}
    if len(hints) > 1:
        raise InputError(f"the files name different models: {', '.join(sorted(str(h) for h in hints))}")
    notes = tuple(dict.fromkeys(note for table in tables for note in table.notes))
    source = first.source if len(tables) == 1 else f"{len(tables)} files, first {first.source}"
    return replace(first, cells=cells, source=source, model_hint=next(iter(hints), None), notes=notes)


@dataclass(frozen=True)
class Block:
    """A full block of vectors with its names; layers are `block` indices, ascending."""

    emotions: tuple[str, ...]
    layers: tuple[int, ...]
    values: Float32[np.ndarray, "layer emotion width"]
    notes: tuple[str, ...]


def assemble(
    table: Table,
    *,
    emotions: Sequence[str] | None = None,
    layer: int | None = None,
    hidden_state_index: bool = False,
    model: ModelInfo | None = None,
) -> Block:
    """Check that the cells form a full block, and number the layers as 0-based block outputs.

    Args:
        table: one or several files.
        emotions: which of the emotions found to keep, in this order.
        layer: the only layer to keep, in the file's numbering.
        hidden_state_index: the file counts layers as `hidden_states` does: k is the output of block k - 1,
            0 the embedding, and the last state, after the final norm, is no block output.
        model: the model the vectors belong to, if at hand.

    Raises:
        InputError: no layer number, a missing cell, differing widths, a zero vector, no layer left.
        BundleError: width or layers do not fit `model`.
    """
    if not table.cells:
        raise InputError(f"{table.source} holds no vectors", "at least one")
    cells = {cell: value for cell, value in table.cells.items() if layer is None or cell[0] == layer}
    numbers = sorted({number for number, _ in table.cells if number is not None})
    if not cells:
        raise InputError(f"{table.source} has no layer {layer}", f"one of {_few(numbers)}")
    names = _select(list(dict.fromkeys(str(name) for _, name in cells)), emotions, table.source)
    numbers = sorted({number for number, _ in cells if number is not None})

    missing = [(n, name) for n in numbers for name in names if (n, name) not in cells]
    if missing:
        raise InputError(
            f"{table.source}: {len(missing)} of {len(numbers) * len(names)} vectors are missing, "
            f"first {_say(missing[0])}",
            "every emotion at every layer",
            "Import one layer that all have (layer=), or fewer emotions (emotions=)",
        )
    first = cells[numbers[0], names[0]]
    for n in numbers:
        for name in names:
            row = cells[n, name]
            if row.shape != first.shape:
                raise InputError(
                    f"{table.source}: {_say((n, name))} has width {row.size}, "
                    f"{_say((numbers[0], names[0]))} has {first.size}",
                    "one width everywhere",
                )
            if not row.any():
                raise InputError(
                    f"{table.source}: {_say((n, name))} is all zeros",
                    "a direction",
                    "A zero vector usually means that no text was long enough to be pooled; leave it out",
                )
    kept, notes = _block_numbers(numbers, table, hidden_state_index, model)
    if model is not None and first.size != model.width:
        raise BundleError(
            f"{table.source} holds vectors of width {first.size}", f"{model.width}, the width of {model.model_id}"
        )
    values = np.stack([np.stack([cells[n, name] for name in names]) for n, _ in kept])
    return Block(tuple(names), tuple(block for _, block in kept), values, notes)


def _block_numbers(
    numbers: Sequence[int], table: Table, hidden_state_index: bool, model: ModelInfo | None
) -> tuple[list[tuple[int, int]], tuple[str, ...]]:
    """(the file's number, block index) for each layer that is a block output, and what was left out."""
    notes: list[str] = []
    depth = None if model is None else model.n_layers
    kept = [(n, n - 1 if hidden_state_index else n) for n in numbers]
    if hidden_state_index:
        notes.append("layers were hidden-state indices: index k is block k - 1")
        last = depth if depth is not None else (numbers[-1] if table.stacked and len(numbers) > 1 else None)
        # A complete stack of hidden states ends with the state after the final norm.
        dropped = [n for n in numbers if n in (0, last)]
        kept = [(n, block) for n, block in kept if n not in (0, last)]
        if dropped:
            notes.append(f"left out hidden states {_few(dropped)}: the embedding or the state after the final norm")
    wrong = [block for _, block in kept if block < 0 or (depth is not None and block >= depth)]
    if wrong:
        at_most = "" if depth is None else f" to {depth - 1}"
        raise BundleError(
            f"{table.source} has layer {wrong[-1]}",
            f"0-based block outputs from 0{at_most}",
            "If the file counts hidden states (0 is the embedding), import with hidden_state_index=True",
        )
    if not kept:
        raise InputError(f"{table.source}: no layer is left after leaving out embedding and final norm")
    return kept, tuple(notes)


def _select(known: list[str], wanted: Sequence[str] | None, source: str) -> list[str]:
    """`wanted` in its own order, or everything found."""
    if wanted is None:
        return known
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise InputError(f"{source} has no emotion {unknown[0]!r}", f"one of {_few(known)}")
    if len(set(wanted)) != len(wanted):
        raise InputError("an emotion is named twice", "each name once")
    return list(wanted)


def _say(cell: Cell) -> str:
    number, name = cell
    parts = [] if number is None else [f"layer {number}"]
    return " of ".join(parts + ([] if name is None else [f"{name!r}"])) or "an unnamed vector"


def _few(items: Sequence[object]) -> str:
    shown = ", ".join(str(item) for item in items[:8])
    return shown if len(items) <= 8 else f"{shown}, ... ({len(items)} in all)"
