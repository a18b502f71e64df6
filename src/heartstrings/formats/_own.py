"""Our npz: a set of vectors as plain arrays that any NumPy reads, and that can be imported without loss.

Keys: `vectors` [layer, emotion, width], `emotions`, `layers`, `heartstrings` (a JSON note), and, where the
bundle has them, `denoised` [layer, emotion, width], `centre` [layer, width], `norms` [layer].
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from pydantic import ValidationError

from heartstrings.core.errors import InputError
from heartstrings.core.types import ModelInfo, Provenance
from heartstrings.core.version import __version__
from heartstrings.formats._archives import UNREADABLE, load_npz
from heartstrings.formats._table import Cell, Table, assemble, vector
from heartstrings.vectors.emotion_vectors import EmotionVectors

MARK = "heartstrings"


def own_bytes(
    values: Float32[np.ndarray, "layer emotion width"],
    *,
    emotions: Sequence[str],
    layers: Sequence[int],
    note: str,
    **further: np.ndarray | None,
) -> bytes:
    """The npz file as bytes; the same input gives the same bytes.

    Args:
        further: `denoised` [layer emotion width], `centre` [layer width] and `norms` [layer], where there are any.
    """
    arrays = {
        "vectors": values,
        "emotions": np.array(list(emotions)),
        "layers": np.array(list(layers), dtype=np.int64),
        MARK: np.array(note),
    }
    arrays |= {key: array for key, array in further.items() if array is not None}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def is_own(path: Path) -> bool:
    """Whether an npz file was written by `own_bytes`."""
    try:
        with zipfile.ZipFile(path) as archive:
            return f"{MARK}.npy" in archive.namelist()
    except UNREADABLE:
        return False


def read_own(
    path: Path, *, emotions: Sequence[str] | None, layer: int | None, model: ModelInfo | None
) -> EmotionVectors:
    """The vectors of our npz, with centre, norms, denoised variant and the model they came from.

    Raises:
        InputError, NumericalError: keys missing, shapes that do not fit, or numbers that are not finite.
        BundleError: `model` has another width or fewer layers.
    """
    arrays = load_npz(path)
    try:
        note = json.loads(str(arrays[MARK]))
        record = Provenance.model_validate(note["provenance"])
        names = [str(name) for name in arrays["emotions"].tolist()]
        layers = [int(number) for number in arrays["layers"].tolist()]
        shape = (len(layers), len(names), int(arrays["vectors"].shape[2]))
    except (*UNREADABLE, ValidationError) as error:
        raise InputError(f"{path.name}: its Heartstrings note cannot be read ({error})") from None
    expected = {"vectors": shape, "denoised": shape, "centre": (shape[0], shape[2]), "norms": shape[:1]}
    for key, wanted in expected.items():
        if key in arrays and (arrays[key].shape != wanted or arrays[key].dtype.kind != "f"):
            raise InputError(
                f"{path.name}: `{key}` has shape {arrays[key].shape} and type {arrays[key].dtype}",
                f"floating-point numbers of shape {wanted}",
            )
    # `assemble` gives layers in rising order, whatever the order in the file.
    rising = sorted(range(len(layers)), key=layers.__getitem__)
    kept = [index for index in rising if layer in (None, layers[index])]
    dose = "" if note.get("dose") is None else f", dose {note['dose']} in it"

    def block(key: str) -> Float32[np.ndarray, "layer emotion width"]:
        cells: dict[Cell, np.ndarray] = {
            (number, name): vector(arrays[key][at, who], f"{path.name}, `{key}`, layer {number}, {name!r}")
            for at, number in enumerate(layers)
            for who, name in enumerate(names)
        }
        return assemble(Table("npz", path.name, cells), emotions=emotions, layer=layer, model=model).values

    def rows(key: str) -> np.ndarray | None:
        if key not in arrays:
            return None
        vector(arrays[key].ravel(), f"{path.name}, `{key}`")
        return np.ascontiguousarray(arrays[key][kept].astype(np.float32))

    return EmotionVectors(
        emotions=tuple(names if emotions is None else emotions),
        layers=tuple(layers[index] for index in kept),
        raw=block("vectors"),
        denoised=block("denoised") if "denoised" in arrays else None,
        centre=rows("centre"),
        norms=rows("norms"),
        provenance=record.model_copy(
            update={
                "source": "imported",
                "package_version": __version__,
                "model": record.model if model is None else model,
                "notes": (
                    *record.notes,
                    f"imported from {path.name}, a Heartstrings export of the {note.get('variant')} vectors{dose}",
                ),
            }
        ),
    )
