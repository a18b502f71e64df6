"""Layouts of named arrays in a file: which key is a layer, which an emotion.

One function reads them all, whether the arrays come from npz, safetensors or a .pt dictionary.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from heartstrings.core.errors import InputError
from heartstrings.core.types import Site
from heartstrings.formats._table import Cell, vector

_LAYER = re.compile(
    r"^(?:.*\.)?(?:layers?|blocks?|h|direction|hidden_states?)[._\-\[]?(?P<number>\d+)\]?(?P<hook>\.[\w.]+)?$"
)
_LAYER_FIRST = re.compile(r"^layers?[._\-]?(?P<number>\d+)(?:__|/|\.)(?P<name>.+)$")
_LAYER_LAST = re.compile(r"^(?P<name>.+?)(?:__|/|\.)layers?[._\-]?(?P<number>\d+)$")
_FILE_NAME = re.compile(r"layers?[._\-]?(\d+)", re.IGNORECASE)

_HOOKS: dict[str, tuple[Site, int]] = {
    "": ("block", 0),
    # The state before block l is the output of block l - 1.
    ".hook_resid_post": ("block", 0),
    ".hook_resid_pre": ("block", -1),
    ".hook_attn_out": ("attention", 0),
    ".hook_mlp_out": ("mlp", 0),
    ".self_attn": ("attention", 0),
    ".mlp": ("mlp", 0),
}
_NAMES = ("emotions", "names", "labels")
_STACKS = ("vectors", "raw", "directions", "activations")


class Found:
    """The cells found in a nested structure; all of them must be of one site."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.cells: dict[Cell, np.ndarray] = {}
        self.sites: set[Site] = set()
        self.stacked = False

    def add(self, number: int | None, name: str | None, value: Any) -> None:
        where = self.source + ("" if number is None else f", layer {number}") + (f", {name!r}" if name else "")
        if (number, name) in self.cells:
            raise InputError(f"{where} is there twice", "each layer and emotion once")
        self.cells[number, name] = vector(value, where)

    @property
    def site(self) -> Site:
        if len(self.sites) > 1:
            raise InputError(f"{self.source} mixes sites: {', '.join(sorted(self.sites))}", "one site a file")
        return next(iter(self.sites), "block")


def layer_in_file_name(name: str) -> int | None:
    """The number after `layer` in a file name, e.g. 17 in `model_layer17_raw.npz`."""
    numbers = {int(number) for number in _FILE_NAME.findall(name)}
    return numbers.pop() if len(numbers) == 1 else None


def read_layout(value: Any, source: str, *, emotions: Sequence[str] | None = None) -> Found:
    """The cells of an array, or of a mapping from layers, emotions or both to arrays.

    Arrays: `[width]`, `[layer, width]` (row l is layer l), `[layer, emotion, width]` with `emotions` given.
    Mappings: `{layer: array}`, `{emotion: array}`, one in the other, `{"layer_16__anxious": array}`, hook
    names (`blocks.16.hook_resid_post`), or
    `{"vectors": [layer, emotion, width], "emotions": ..., "layers": ...}`.

    Raises:
        InputError: nothing of the above.
        NumericalError: NaN or Inf in an array.
    """
    layout = Found(source)
    try:
        if isinstance(value, Mapping):
            if not value:
                raise InputError(f"{source} is empty", "at least one vector")
            _read_mapping(dict(value), layout, emotions)
        else:
            _read_array(value, layout, None, emotions, None)
    except (ValueError, TypeError) as error:  # ragged lists, objects that are no arrays
        raise InputError(f"{source} holds something that is no array ({error})", "numeric arrays") from None
    return layout


def _read_mapping(mapping: dict[Any, Any], layout: Found, emotions: Sequence[str] | None) -> None:
    names: Sequence[str] | None = next(
        (_strings(mapping.pop(key), key, layout.source) for key in _NAMES if key in mapping), None
    )
    numbers = _integers(mapping.pop("layers"), layout.source) if "layers" in mapping else None
    names = names if names is not None else emotions
    stack = [key for key in _STACKS if key in mapping]
    if stack and (names is not None or len(mapping) == 1):
        _read_array(mapping[stack[0]], layout, None, names, numbers)
        return
    keys = {key: _layer(key) for key in mapping}
    paired = {key: _pair(key) for key in mapping}
    if all(pair is not None for pair in paired.values()):
        for key, pair in paired.items():
            assert pair is not None
            layout.add(pair[0], pair[1], mapping[key])
    elif all(layer is not None for layer in keys.values()):
        for key, layer in keys.items():
            assert layer is not None
            layout.sites.add(layer[1])
            _read_layer(mapping[key], layout, layer[0], names)
    elif any(layer is not None for layer in keys.values()) or any(pair for pair in paired.values()):
        odd = next(key for key in mapping if keys[key] is None and paired[key] is None)
        raise InputError(
            f"{layout.source} mixes layer keys with {odd!r}",
            "keys that are all layers (16, layer_16), all emotions, or all both (layer_16__anxious)",
        )
    else:
        for key, value in mapping.items():
            if not isinstance(key, str) or not key.strip():
                raise InputError(f"{layout.source} has the key {key!r}", "layer numbers or emotion names")
            if isinstance(value, Mapping):
                _read_emotion(dict(value), layout, key)
            else:
                _read_array(value, layout, key, None, numbers)


def _read_layer(value: Any, layout: Found, number: int, names: Sequence[str] | None) -> None:
    """One layer: a vector, an `[emotion, width]` array with names, or a mapping from emotions to vectors."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            layout.add(number, str(name), item)
    elif np.ndim(value) == 2 and names is not None:
        _same_length(names, np.shape(value)[0], "emotion names", layout.source)
        for name, row in zip(names, value, strict=True):
            layout.add(number, name, row)
    elif np.ndim(value) == 2 and np.shape(value)[0] == 1:
        layout.add(number, None, np.asarray(value)[0])
    else:
        layout.add(number, None, value)


def _read_emotion(by_layer: dict[Any, Any], layout: Found, name: str) -> None:
    """One emotion: a mapping from layers to vectors."""
    for key, value in by_layer.items():
        layer = _layer(key)
        if layer is None:
            raise InputError(f"{layout.source}, {name!r}: {key!r} is not a layer", "a number, or e.g. layer_16")
        layout.sites.add(layer[1])
        layout.add(layer[0], name, value)


def _read_array(
    value: Any, layout: Found, name: str | None, names: Sequence[str] | None, numbers: Sequence[int] | None
) -> None:
    """`[width]`, `[layer, width]`, `[emotion, width]` of one known layer, or `[layer, emotion, width]`."""
    array = np.asarray(value)
    if array.ndim == 3 and name is None:
        if names is None:
            raise InputError(
                f"{layout.source}: an array of shape {array.shape} without names",
                "`emotions` beside it, one name for each entry of the second axis",
                "Give the names: emotions=(...)",
            )
        _same_length(names, array.shape[1], "emotion names", layout.source)
        rows = _numbers(numbers, array.shape[0], layout)
        for number, row in zip(rows, array, strict=True):
            for label, item in zip(names, row, strict=True):
                layout.add(number, label, item)
    elif array.ndim == 2 and name is None and names is not None and len(names) == array.shape[0] > 1:
        if numbers is not None and len(numbers) != 1:
            raise InputError(f"{layout.source}: {len(numbers)} layers beside an [emotion, width] array", "one")
        for label, item in zip(names, array, strict=True):
            layout.add(None if numbers is None else numbers[0], label, item)
    elif array.ndim == 2:
        for number, item in zip(_numbers(numbers, array.shape[0], layout), array, strict=True):
            layout.add(number, name, item)
    else:
        layout.add(numbers[0] if numbers is not None and len(numbers) == 1 else None, name, array)


def _numbers(numbers: Sequence[int] | None, count: int, layout: Found) -> Sequence[int]:
    if numbers is None:
        layout.stacked = True
        return range(count)
    _same_length(numbers, count, "layer numbers", layout.source)
    return numbers


def _layer(key: Any) -> tuple[int, Site] | None:
    if isinstance(key, bool):
        return None
    if isinstance(key, int):
        return key, "block"
    if not isinstance(key, str):
        return None
    if key.isdigit():
        return int(key), "block"
    match = _LAYER.match(key)
    if match is None or (match["hook"] or "") not in _HOOKS:
        return None
    site, shift = _HOOKS[match["hook"] or ""]
    return int(match["number"]) + shift, site


def _pair(key: Any) -> tuple[int, str] | None:
    if not isinstance(key, str) or _layer(key) is not None:
        return None
    match = _LAYER_FIRST.match(key) or _LAYER_LAST.match(key)
    return None if match is None else (int(match["number"]), match["name"])


def _strings(value: Any, key: str, source: str) -> list[str]:
    names = [str(name) for name in np.asarray(value).ravel().tolist()]
    if not names or len(set(names)) != len(names) or not all(name.strip() for name in names):
        raise InputError(f"{source}: `{key}` holds empty or repeated names", "one name an emotion")
    return names


def _integers(value: Any, source: str) -> list[int]:
    array = np.asarray(value).ravel()
    if array.dtype.kind not in "iu" or len(set(array.tolist())) != array.size:
        raise InputError(f"{source}: `layers` is {array.tolist()!r}", "distinct whole numbers")
    return [int(number) for number in array]


def _same_length(names: Sequence[object], count: int, what: str, source: str) -> None:
    if len(names) != count:
        raise InputError(f"{source}: {len(names)} {what} for {count} entries", "one for each")
