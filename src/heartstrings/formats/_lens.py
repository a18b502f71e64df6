"""vllm-lens' SteeringVector as JSON: activations `[layer, width]`, 0-based decoder layer indices, a scale.

vllm-lens adds `scale * activations` to the residual stream after that decoder layer. Arrays are in base64; we write
them uncompressed, which its reader accepts and which needs no further library.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from heartstrings.core.errors import InputError
from heartstrings.formats._archives import UNREADABLE, read_label
from heartstrings.formats._layouts import Found
from heartstrings.formats._table import Table, scaled


def lens_json(directions: Mapping[int, Float32[np.ndarray, "_"]], *, note: str) -> str:
    """One SteeringVector object with scale 1; `note` is stored under a key that vllm-lens ignores."""
    layers = sorted(directions)
    array = np.stack([directions[layer] for layer in layers]).astype("<f4")
    record = {
        "activations": {
            "data": base64.b64encode(array.tobytes()).decode("ascii"),
            "dtype": "float32",
            "original_dtype": "torch.float32",
            "shape": list(array.shape),
        },
        "layer_indices": layers,
        "scale": 1.0,
        "norm_match": False,
        "position_indices": None,
        "heartstrings": json.loads(note),
    }
    return json.dumps(record, indent=1) + "\n"


def read_lens(path: Path) -> Table:
    """The vectors of one SteeringVector object, or of a list that holds one.

    Raises:
        InputError: other JSON, several vectors, or vectors tied to positions.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except UNREADABLE as error:
        raise InputError(f"{path.name} is not readable JSON ({error})") from None
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    if not isinstance(content, dict) or not {"activations", "layer_indices"} <= content.keys():
        raise InputError(f"{path.name} is JSON of another kind", "one vllm-lens SteeringVector")
    array = _array(content["activations"], path.name)
    layers = content["layer_indices"]
    if array.ndim != 2 or not isinstance(layers, list) or len(layers) != array.shape[0]:
        raise InputError(
            f"{path.name}: activations of shape {array.shape} for layers {layers!r}",
            "[layer, width], one row for each layer index; vectors tied to positions cannot be imported",
        )
    label = read_label(json.dumps(content.get("heartstrings")))
    layout = Found(path.name)
    for layer, row in zip(layers, array, strict=True):
        if isinstance(layer, bool) or not isinstance(layer, int):
            raise InputError(f"{path.name}: layer index {layer!r}", "a whole number")
        layout.add(layer, label, scaled(row, content.get("scale", 1.0), f"{path.name}, layer {layer}"))
    notes = ["vllm-lens steering vector: activations times scale"]
    if content.get("norm_match"):
        notes.append("norm_match was on: the size was a fraction of each token's norm, which is lost on import")
    return Table("vllm-lens", path.name, layout.cells, difference=True, notes=tuple(notes))


def _array(record: Any, name: str) -> np.ndarray:
    if not isinstance(record, dict):
        raise InputError(f"{name}: activations are {type(record).__name__}", "a base64 record")
    try:
        data = base64.b64decode(record["data"], validate=True)
        if record.get("compression") == "zstd":
            data = _decompress(data)
        array = np.frombuffer(data, dtype=np.dtype(record["dtype"])).reshape(record["shape"])
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(f"{name}: activations cannot be decoded ({error})") from None
    if record.get("original_dtype") == "torch.bfloat16":
        # bfloat16 is the upper half of a float32.
        array = (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return array


def _decompress(data: bytes) -> bytes:
    try:
        import zstandard  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise InputError(
            "the vector is compressed with zstd", fix="Install its reader: pip install zstandard"
        ) from None
    try:
        return bytes(zstandard.ZstdDecompressor().decompress(data))
    except zstandard.ZstdError as error:
        raise ValueError(error) from None
