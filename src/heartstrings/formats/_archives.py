"""Arrays from npz, safetensors and .pt files, without running code that a pickle contains."""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from heartstrings.core.errors import InputError
from heartstrings.core.types import Site
from heartstrings.formats._layouts import read_layout
from heartstrings.formats._table import Table, scaled

UNREADABLE = (
    *(OSError, ValueError, EOFError, KeyError, IndexError, RuntimeError, NotImplementedError, TypeError),
    *(struct.error, zipfile.BadZipFile, zlib.error),
)
"""What the standard readers raise on damaged files."""


def load_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an npz file.

    Raises:
        InputError: not a whole archive, or an array of Python objects (a pickle, which is never opened).
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except UNREADABLE as error:
        if "Object arrays" in str(error):
            raise InputError(
                f"{path.name} holds pickled Python objects",
                "plain arrays; a pickle can run any code, so it is not opened",
                "Save the arrays apart: np.savez(file, joyful=vector, sad=vector)",
            ) from None
        raise InputError(f"{path.name} is not a readable npz archive ({error})", fix="Fetch it again") from None


def read_npz(path: Path, emotions: tuple[str, ...] | None) -> Table:
    """Vectors of an npz file in one of the layouts of `layouts.read_layout`."""
    arrays = load_npz(path)
    arrays.pop("heartstrings", None)
    layout = read_layout(arrays, path.name, emotions=emotions)
    return Table("npz", path.name, layout.cells, site=layout.site, stacked=layout.stacked)


def read_safetensors(path: Path, emotions: tuple[str, ...] | None) -> Table:
    """Vectors of a safetensors file; `emotions` and `layers` may be JSON lists in its metadata."""
    from safetensors import SafetensorError, safe_open

    try:
        # Through torch, because numpy has no bfloat16.
        with safe_open(path, framework="pt") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            values: dict[str, Any] = {key: _plain(file.get_tensor(key), path.name) for key in file.keys()}  # noqa: SIM118
    except (*UNREADABLE, SafetensorError) as error:
        raise InputError(f"{path.name} is not a readable safetensors file ({error})", fix="Fetch it again") from None
    for key in ("emotions", "layers"):
        if key in metadata and key not in values:
            try:
                values[key] = json.loads(metadata[key])
            except json.JSONDecodeError:
                raise InputError(f"{path.name}: metadata `{key}` is no JSON list", '["joyful", "sad"]') from None
    layout = read_layout(values, path.name, emotions=emotions)
    return Table("safetensors", path.name, layout.cells, site=layout.site, stacked=layout.stacked)


class _SteeringVectorState:
    """In place of `steering_vectors.SteeringVector`: its fields are loaded, and its code is not run."""

    layer_activations: dict[int, Any]
    layer_type: str


_SITE_OF_LAYER_TYPE: dict[str, Site] = {"decoder_block": "block", "self_attn": "attention", "mlp": "mlp"}


def load_pt(path: Path) -> Any:
    """The content of a .pt file, loaded with `weights_only=True`: tensors and plain containers only.

    The only class that is accepted is steering-vectors' `SteeringVector`; a record without code takes its place.

    Raises:
        InputError: damaged, or it asks for any other Python class.
    """
    import torch

    allowed: list[Any] = [(_SteeringVectorState, "steering_vectors.steering_vector.SteeringVector")]
    try:
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about unusual pickle versions; the result is checked below
            return torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([A-Za-z_][\w.]*)", str(error))
        if asked is None:
            raise InputError(f"{path.name} is not a readable .pt file", fix="Fetch it again") from None
        raise InputError(
            f"{path.name} asks to run {asked[1]}",
            "tensors and plain containers; a pickle can run any code, so it is not opened",
            "Save the tensors alone, e.g. torch.save({16: vector}, file)",
        ) from None
    except UNREADABLE as error:
        raise InputError(f"{path.name} is not a readable .pt file ({_short(error)})", fix="Fetch it again") from None


def read_pt(path: Path, emotions: tuple[str, ...] | None) -> Table:
    """Vectors of a .pt file: steering-vectors', lm-eval's steered file, or tensors in plain containers."""
    content = load_pt(path)
    if isinstance(content, _SteeringVectorState):
        return _steering_vectors_table(content, path.name)
    if isinstance(content, Mapping) and content and all(_is_hook(entry) for entry in content.values()):
        return _lm_eval_table(content, path.name)
    value = _plain(content, path.name)
    layout = read_layout(value, path.name, emotions=emotions)
    # A bare [layer, width] tensor is how persona_vectors saves one trait: positive minus negative.
    bare = not isinstance(value, Mapping) and np.ndim(value) < 3 and not emotions
    return Table("pt", path.name, layout.cells, site=layout.site, stacked=layout.stacked, difference=bare)


def _steering_vectors_table(content: _SteeringVectorState, name: str) -> Table:
    fields = vars(content)
    kind = str(fields.get("layer_type", "decoder_block"))
    if kind not in _SITE_OF_LAYER_TYPE:
        raise InputError(f"{name} steers {kind!r}", f"one of the sites {', '.join(_SITE_OF_LAYER_TYPE)}")
    activations = _plain(fields.get("layer_activations", {}), name)
    if not isinstance(activations, Mapping) or not activations:
        raise InputError(f"{name} holds no layer activations", "at least one layer")
    flat = {
        key: np.ravel(activation) if np.ndim(activation) > 1 and 1 in np.shape(activation) else activation
        for key, activation in activations.items()
    }
    layout = read_layout(flat, name)
    return Table(
        "steering-vectors",
        name,
        layout.cells,
        site=_SITE_OF_LAYER_TYPE[kind],
        difference=True,
        notes=("a steering vector: positive minus negative texts, not centred over emotions",),
    )


def _is_hook(entry: object) -> bool:
    return isinstance(entry, Mapping) and "steering_vector" in entry and "action" in entry


def _lm_eval_table(content: Mapping[str, Mapping[str, Any]], name: str) -> Table:
    vectors: dict[str, np.ndarray] = {}
    labels: set[str | None] = set()
    for hookpoint, entry in content.items():
        if entry["action"] != "add" or entry.get("head_index") is not None:
            raise InputError(
                f"{name}, {hookpoint}: action {entry['action']!r}, head {entry.get('head_index')}",
                "action 'add' on the whole hook point",
            )
        row = np.ravel(_plain(entry["steering_vector"], name))
        vectors[hookpoint] = scaled(row, entry.get("steering_coefficient", 1.0), f"{name}, {hookpoint}")
        if isinstance(note := entry.get("heartstrings"), str):
            labels.add(read_label(note))
    layout = read_layout(vectors, name)
    label = labels.pop() if len(labels) == 1 else None
    cells = {(number, label or name): value for (number, name), value in layout.cells.items()}
    notes = ("lm-eval steered file: each vector is steering_vector times steering_coefficient",)
    return Table("lm-eval", name, cells, site=layout.site, difference=True, notes=notes)


def read_label(text: str) -> str | None:
    """The direction's name in the JSON note that exports carry; None when there is none."""
    try:
        note = json.loads(text)
    except json.JSONDecodeError:
        return None
    label = note.get("direction") if isinstance(note, dict) else None
    return label if isinstance(label, str) and label.strip() else None


def _plain(value: Any, name: str) -> Any:
    """Tensors as float32 numpy arrays, through nested containers.

    Raises:
        InputError: a tensor of a kind that has no plain array (sparse, quantised), or a container in itself.
    """
    try:
        return _converted(value)
    except (RuntimeError, TypeError, ValueError) as error:  # RecursionError is a RuntimeError
        raise InputError(f"{name} holds what cannot be made an array ({_short(error)})", "dense tensors") from None


def _converted(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        value = value.detach().to("cpu")
        return (value.float() if value.is_floating_point() else value).numpy()
    if isinstance(value, Mapping):
        return {key: _converted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_converted(item) for item in value]
        arrays = [item for item in items if isinstance(item, np.ndarray)]
        if arrays and len(arrays) == len(items) and len({item.shape for item in arrays}) == 1:
            return np.stack(arrays)
        return items
    return value


def _short(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
