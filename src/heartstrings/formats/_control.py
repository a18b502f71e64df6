"""Control vectors in GGUF, as repeng writes and llama.cpp reads them.

Both count in the same way: `direction.N` is added to the output of block N, counted from 0. repeng trains on
`hidden_states[N + 1]`, which is that output, and hooks block N. llama.cpp adds tensor N after block N's last skip
connection, and has none for block 0. Only llama.cpp's own generator is off by one: it writes the states after block
N - 1 as `direction.N` (import such a file with `hidden_state_index=True`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from heartstrings.core.errors import InputError, MissingExtra
from heartstrings.formats._archives import UNREADABLE, read_label
from heartstrings.formats._layouts import read_layout
from heartstrings.formats._table import Table

ARCHITECTURE = "controlvector"
NOTE_KEY = "heartstrings.note"


def _library() -> Any:
    try:
        import gguf
    except ImportError:
        raise MissingExtra("Reading or writing GGUF control vectors", "gguf") from None
    return gguf


def read_gguf(path: Path) -> Table:
    """The control vector of one GGUF file: one emotion, a vector a block.

    Raises:
        MissingExtra: the `gguf` package is not installed.
        InputError: damaged, a GGUF of another kind (a model, say), quantised, or without directions.
    """
    gguf = _library()
    try:
        reader = gguf.GGUFReader(path)
        kind = _text(reader, "general.architecture")
        hint = _text(reader, f"{ARCHITECTURE}.model_hint")
        note = _text(reader, NOTE_KEY)
        tensors = {tensor.name: (tensor.tensor_type.name, np.array(tensor.data)) for tensor in reader.tensors}
    except UNREADABLE as error:
        raise InputError(f"{path.name} is not a whole GGUF file ({error})", fix="Fetch it again") from None
    if kind != ARCHITECTURE:
        raise InputError(
            f"{path.name} is a GGUF file of kind {kind!r}",
            f"a control vector ({ARCHITECTURE!r})",
            "Vectors are extracted from a Hugging Face model, not from a GGUF model file",
        )
    directions = {name: value for name, value in tensors.items() if name.startswith("direction.")}
    if not directions:
        raise InputError(f"{path.name} holds no tensor direction.N", "at least one")
    for name, (stored, _) in directions.items():
        if stored not in ("F32", "F16", "F64"):
            raise InputError(f"{path.name}: {name} is stored as {stored}", "F32, as control vectors are")
        if not name.removeprefix("direction.").isdigit():
            raise InputError(f"{path.name} holds {name!r}", "direction.N with a block number N")
    layout = read_layout({name: value for name, (_, value) in directions.items()}, path.name)
    label = read_label(note) if note else None
    return Table(
        "gguf",
        path.name,
        {(number, label): value for (number, _), value in layout.cells.items()},
        difference=True,
        model_hint=hint or None,
        notes=("control vector: direction.N is block N, a difference of poles, not centred over emotions",),
    )


def _text(reader: Any, key: str) -> str:
    field = reader.get_field(key)
    return "" if field is None or not len(field.parts) else bytes(field.parts[-1]).decode("utf-8", "replace")


def gguf_bytes(directions: Mapping[int, Float32[np.ndarray, "_"]], *, model_hint: str, note: str) -> bytes:
    """Block index -> vector as a control vector file.

    Raises:
        InputError: block 0 is among them; llama.cpp refuses a file with `direction.0`.
        MissingExtra: the `gguf` package is not installed.
    """
    if 0 in directions:
        raise InputError("a control vector for block 0", "blocks from 1 on, as llama.cpp steers", "Leave layer 0 out")
    gguf = _library()
    # The writer writes only to a path, so it gets a temporary one.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vector.gguf"
        writer = gguf.GGUFWriter(path, ARCHITECTURE)
        writer.add_string(f"{ARCHITECTURE}.model_hint", model_hint)
        writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(directions))
        writer.add_string(NOTE_KEY, note)
        for block in sorted(directions):
            writer.add_tensor(f"direction.{block}", np.ascontiguousarray(directions[block], dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()
