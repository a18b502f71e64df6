"""Import: foreign vector files into an `EmotionVectors` bundle."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32

from heartstrings.core.errors import InputError
from heartstrings.core.storage import sha256_of
from heartstrings.core.types import ModelInfo, Provenance
from heartstrings.core.version import __version__
from heartstrings.formats._archives import UNREADABLE, read_npz, read_pt, read_safetensors
from heartstrings.formats._control import read_gguf
from heartstrings.formats._layouts import layer_in_file_name
from heartstrings.formats._lens import read_lens
from heartstrings.formats._own import is_own, read_own
from heartstrings.formats._table import Block, Cell, Table, assemble, merge
from heartstrings.vectors.emotion_vectors import EmotionVectors

ImportFormat = Literal["npz", "safetensors", "pt", "gguf", "vllm-lens"]

_READERS: dict[str, Callable[[Path, tuple[str, ...] | None], Table]] = {
    "npz": read_npz,
    "safetensors": read_safetensors,
    "pt": read_pt,
    "gguf": lambda path, _: read_gguf(path),
    "vllm-lens": lambda path, _: read_lens(path),
}
_SUFFIXES = {".npz", ".safetensors", ".pt", ".pth", ".gguf", ".json"}

CENTRED = 1e-5
"""Vectors whose mean is under this share of their mean length count as centred already (float32 noise)."""


def import_vectors(
    path: str | Path | Sequence[str | Path],
    *,
    format: str | None = None,
    emotions: Sequence[str] | None = None,
    layer: int | None = None,
    model: ModelInfo | str | None = None,
    hidden_state_index: bool = False,
    centre: bool | None = None,
) -> EmotionVectors:
    """Read emotion vectors that another tool wrote.

    Args:
        path: a file, a folder of files, or several of either; `NAME=PATH` names the emotion of a file that
            holds one. Without it, such a file is named after itself.
        format: what the files are; None looks at their first bytes.
        emotions: names for an unnamed emotion axis, or for one unnamed vector; otherwise which to keep.
        layer: the layer's number where the file gives none, otherwise the only one to keep, as the file counts.
        model: the model the vectors belong to: a `ModelInfo` is checked (width, depth) and recorded, a name
            is only noted.
        hidden_state_index: layers are counted as in `hidden_states`: index k is the output of block k - 1.
        centre: subtract the mean over emotions. None does so for sets of emotion vectors that are not centred
            already; a single vector, and vectors that each are a difference of two poles, stay as they are.

    Returns:
        `raw` [layer, emotion, width] with `centre` [layer, width] where a mean was subtracted; no norms,
        halves or denoised variant, which no foreign format carries (our own npz does, and gets them back).

    Raises:
        InputError, NumericalError, BundleError: damaged, of an unknown kind, or no full block of vectors.
        MissingExtra: GGUF without the `gguf` package.
    """
    files = _files([path] if isinstance(path, str | Path) else list(path))
    if format is not None and format not in _READERS:
        raise InputError(f"no import format {format!r}", f"one of {', '.join(_READERS)}")
    kinds = [format or detect(file) for _, file in files]
    info = model if isinstance(model, ModelInfo) else None
    if len(files) == 1 and kinds[0] == "npz" and is_own(files[0][1]):
        return read_own(files[0][1], emotions=emotions, layer=layer, model=info)

    names = None if emotions is None else tuple(emotions)
    alone = len(files) == 1
    tables = []
    for (name, file), kind in zip(files, kinds, strict=True):
        table = _READERS[kind](file, names)
        # With one file the argument decides; with several, the name of each file does.
        in_name = layer_in_file_name(file.stem)
        number = layer if in_name is None or (alone and layer is not None) else in_name
        default = names[0] if alone and names is not None and len(names) == 1 else file.stem
        tables.append(_filled(table, name, number, default))
    table = merge(tables)
    block = assemble(table, emotions=names, layer=layer, hidden_state_index=hidden_state_index, model=info)
    raw, mean, said = contrast(block, centre=centre, difference=table.difference, source=table.source)

    hints = [f"the file names the model {table.model_hint!r}"] if table.model_hint else []
    hints += [f"said to belong to {model}; not checked"] if isinstance(model, str) else []
    notes = (f"imported from {table.format}", *_fingerprints(files), *table.notes, *block.notes, said, *hints)
    return EmotionVectors(
        emotions=block.emotions,
        layers=block.layers,
        raw=raw,
        centre=mean,
        provenance=Provenance(
            package_version=__version__,
            source="imported",
            model=info,
            corpus_source=table.source,
            centring=said,
            site=table.site,
            notes=notes,
        ),
    )


def contrast(
    block: Block, *, centre: bool | None, difference: bool, source: str
) -> tuple[Float32[np.ndarray, "layer emotion width"], Float32[np.ndarray, "layer width"] | None, str]:
    """Each emotion minus the mean over emotions, that mean, and a sentence that says what was done.

    Raises:
        InputError: asked to centre a single emotion, or nothing is left of an emotion after centring.
    """
    values = block.values
    alone = values.shape[1] == 1
    if centre and alone:
        raise InputError(
            f"{source} holds one emotion", "at least two to subtract a mean over emotions", "Import it uncentred"
        )
    if centre is False:
        return values, None, "as in the file, by request; no mean was subtracted"
    if centre is None and alone:
        return values, None, "as in the file: one emotion has no mean over emotions"
    if centre is None and difference:
        return values, None, "as in the file: each vector is a difference of two poles"
    mean = values.mean(axis=1, dtype=np.float64)
    lengths = np.linalg.norm(values.astype(np.float64), axis=-1).mean(axis=1)
    if centre is None and (np.linalg.norm(mean, axis=-1) <= CENTRED * lengths).all():
        return values, None, "mean over emotions, subtracted before the file was written"
    raw = (values - mean[:, None, :]).astype(np.float32)
    gone = np.argwhere(np.linalg.norm(raw.astype(np.float64), axis=-1) <= 1e-6 * lengths[:, None])
    if gone.size:
        at, who = (int(index) for index in gone[0])
        raise InputError(
            f"{source}: {block.emotions[who]!r} at layer {block.layers[at]} equals the mean over emotions",
            "emotions that differ",
        )
    return raw, mean.astype(np.float32), "mean over emotions, subtracted on import"


def detect(path: Path) -> ImportFormat:
    """The format of a file from its first bytes.

    Raises:
        InputError: empty, unreadable, or nothing known.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise InputError(f"{path.name} cannot be read ({error.strerror})", "a vector file") from None
    if not head:
        raise InputError(f"{path.name} is empty (0 bytes)", "a vector file")
    if head[:4] == b"GGUF":
        return "gguf"
    if head[:2] == b"PK":
        return _kind_of_zip(path)
    if len(head) >= 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        return "safetensors"
    if head[:1] == b"\x80":
        return "pt"
    if head.lstrip()[:1] in (b"{", b"["):
        return "vllm-lens"
    if head[:6] == b"\x93NUMPY":
        raise InputError(f"{path.name} is a single .npy array", "an npz archive", "np.savez(file, joyful=array)")
    raise InputError(
        f"{path.name} is of no known format (begins with {head[:8]!r})",
        f"one of {', '.join(_READERS)}",
        "Say which with format=, if the file is in order",
    )


def _kind_of_zip(path: Path) -> ImportFormat:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except UNREADABLE as error:
        raise InputError(f"{path.name} is a damaged zip archive ({error})", fix="Fetch it again") from None
    if any(member.endswith("/data.pkl") or member == "data.pkl" for member in members):
        return "pt"
    if not members:
        raise InputError(f"{path.name} is an empty archive", "at least one array")
    if all(member.endswith(".npy") for member in members):
        return "npz"
    raise InputError(f"{path.name} is a zip archive with {members[0]!r} in it", "an npz or .pt file")


def _files(paths: Sequence[str | Path]) -> list[tuple[str | None, Path]]:
    """(emotion name or None, file) for every file named or found in a folder named."""
    files: list[tuple[str | None, Path]] = []
    for path in paths:
        name, location = None, Path(path)
        if isinstance(path, str) and "=" in path and not location.exists():
            name, _, rest = path.partition("=")
            location = Path(rest)
        if location.is_dir():
            if (location / "bundle.json").exists():
                problem = f"{location.name} is a Heartstrings bundle already"
                raise InputError(problem, "a file of another tool", "Load it: EmotionVectors.load")
            inside = sorted(file for file in location.iterdir() if file.suffix.lower() in _SUFFIXES)
            # A JSON file beside arrays is the metadata of another tool, not a vector file.
            inside = [file for file in inside if file.suffix != ".json"] or inside
            if name is not None or not inside:
                raise InputError(
                    f"{location.name} is a folder" + ("" if inside else " without vector files"),
                    f"files ending in {', '.join(sorted(_SUFFIXES))}",
                )
            files += [(None, file) for file in inside]
        elif not location.is_file():
            raise InputError(f"{path} does not exist", "a file or folder")
        else:
            files.append((name, location))
    if not files:
        raise InputError("no file to import", "at least one")
    return files


def _filled(table: Table, name: str | None, number: int | None, default: str) -> Table:
    """The table with a name and a layer number from outside where the file has none of its own."""
    labels = {label for _, label in table.cells}
    if name is not None and len(labels) > 1:
        raise InputError(f"{table.source} names its emotions itself", "one emotion in a file given as NAME=PATH")
    if number is None and any(inside is None for inside, _ in table.cells):
        raise InputError(
            f"{table.source} does not say which layer its vectors belong to",
            "a layer number in the keys, or as `layer17` in the file name",
            "Give the number: layer=17",
        )
    cells: dict[Cell, np.ndarray] = {
        (number if inside is None else inside, name or label or default): value
        for (inside, label), value in table.cells.items()
    }
    return replace(table, cells=cells)


def _fingerprints(files: Sequence[tuple[str | None, Path]]) -> list[str]:
    shown = [f"{file.name}: {sha256_of(file)}" for _, file in files[:20]]
    return shown if len(files) <= 20 else [*shown, f"and {len(files) - 20} more files"]
