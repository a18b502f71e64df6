"""The bundle on disk: `bundle.json` describes it, `vectors.safetensors` holds the arrays. No pickles."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from heartstrings.core.checks import first_problem
from heartstrings.core.errors import BundleError, HeartstringsError, InputError
from heartstrings.core.storage import (
    cannot_write,
    flush_folder,
    flush_to_disk,
    make_folder,
    remove_folder,
    sha256,
    sha256_of,
    tensor_bytes,
)
from heartstrings.core.types import Frozen, ModelInfo, Provenance
from heartstrings.vectors.emotion_vectors import EmotionVectors, StoryTable

SCHEMA_VERSION = 1
HEADER, TENSORS = "bundle.json", "vectors.safetensors"
_KIND = "heartstrings.vectors 1"
_ARRAYS = ("raw", "denoised", "centre", "halves", "norms", "reliability", "story_scores")
_COLUMNS = ("emotion", "topic", "half", "n_tokens", "words", "person", "dialogue")
_DTYPES = {"emotion": "int16", "topic": "int32", "half": "int8", "n_tokens": "int32", "words": "int32"}


class TensorSpec(Frozen):
    """What one array in `vectors.safetensors` must look like."""

    dtype: str
    shape: tuple[int, ...]


class Header(Frozen):
    """The content of `bundle.json`."""

    schema_version: Literal[1] = 1
    emotions: tuple[str, ...]
    layers: tuple[int, ...]
    width: int
    variants: tuple[str, ...]
    k: tuple[int, ...] | None
    """Neutral components projected out, one number a layer."""
    counts: tuple[int, ...] | None
    tokens: tuple[int, ...] | None
    topics: tuple[str, ...] | None
    """What the story table's topic numbers stand for."""
    provenance: Provenance
    tensors: dict[str, TensorSpec]
    vectors_sha256: str
    """Of `vectors.safetensors`."""
    header_sha256: str = ""
    """Of this file's content without this field, as compact JSON with sorted keys."""


def save(vectors: EmotionVectors, directory: str | Path) -> None:
    """Write a bundle; an older one in the same place is replaced. The same vectors give the same bytes.

    Raises:
        InputError: the folder cannot be written, or the disk is full. Nothing half-written stays.
    """
    directory = Path(directory)
    tensors = _tensors(vectors)
    content = tensor_bytes(tensors, _KIND)
    table = vectors.stories
    header = Header(
        emotions=vectors.emotions,
        layers=vectors.layers,
        width=vectors.width,
        variants=vectors.variants,
        k=vectors.k,
        counts=vectors.counts,
        tokens=vectors.tokens,
        topics=None if table is None else table.topics,
        provenance=vectors.provenance,
        vectors_sha256=sha256(content),
        tensors={name: TensorSpec(dtype=str(a.dtype), shape=a.shape) for name, a in sorted(tensors.items())},
    )
    text = header.model_copy(update={"header_sha256": _header_hash(header)}).model_dump_json(indent=1) + "\n"

    new = not directory.exists()
    make_folder(directory.parent if new else directory)
    # Beside a new folder, so that one rename finishes the bundle; inside an existing one.
    partial = directory.with_name(f".{directory.name}.partial") if new else directory / ".bundle.partial"
    remove_folder(partial)
    try:
        partial.mkdir()
        flush_to_disk(partial / TENSORS, content)
        flush_to_disk(partial / HEADER, text.encode())
        flush_folder(partial)
        if new:
            os.rename(partial, directory)
        else:
            # The header is removed first: a crash then never leaves a mixture that looks like a bundle.
            (directory / HEADER).unlink(missing_ok=True)
            os.replace(partial / TENSORS, directory / TENSORS)
            os.replace(partial / HEADER, directory / HEADER)
        flush_folder(directory.parent if new else directory)
    except OSError as error:
        raise cannot_write(directory, error) from None
    finally:
        remove_folder(partial)


def load(directory: str | Path, *, for_model: ModelInfo | None = None, force: bool = False) -> EmotionVectors:
    """Read a bundle and check it: schema, hashes, every array's type and shape, finite numbers.

    Args:
        directory: the bundle's folder.
        for_model: the model that the vectors are to be used with; another model or revision is refused.
        force: accept another model or revision; what was overridden is then in `provenance.notes`.
            A width or layer that the model does not have cannot be forced.

    Raises:
        BundleError: no bundle, incomplete, corrupt, of a newer schema, or of another model.
    """
    directory = Path(directory)
    header = read_header(directory)
    arrays = _read_tensors(directory / TENSORS, header)
    try:
        vectors = _assemble(header, arrays)
    except HeartstringsError as error:
        raise _damaged(directory, str(error)) from None
    notes = () if for_model is None else check_model(header, for_model, force=force, where=str(directory))
    if not notes:
        return vectors
    provenance = header.provenance.model_copy(update={"notes": (*header.provenance.notes, *notes)})
    return replace(vectors, provenance=provenance)


def read_header(directory: str | Path) -> Header:
    """What a bundle is, without its numbers; the header's own hash is checked.

    Raises:
        BundleError: no bundle there, unreadable, damaged or of a newer schema.
    """
    directory = Path(directory)
    path = directory / HEADER
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        problem = "no such folder" if not directory.exists() else f"no {HEADER} in it"
        raise BundleError(
            f"{directory} is no vector bundle: {problem}",
            "a folder that `extract` or `import` wrote",
            "Check the path; if an extraction was interrupted, run it again",
        ) from None
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}", "a readable bundle") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        raise _damaged(directory, f"{HEADER} is no JSON") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise BundleError(
            f"{path} has schema version {version}",
            f"version {SCHEMA_VERSION} or older",
            "Update heartstrings, or extract the bundle again",
        )
    try:
        header = Header.model_validate_json(json.dumps(content))
    except ValidationError as error:
        raise _damaged(directory, f"{HEADER} at {first_problem(error, 'the top')}") from None
    if header.header_sha256 != _header_hash(header):
        raise _damaged(directory, f"{HEADER} was changed after it was written")
    return header


def is_intact(directory: Path, header: Header) -> bool:
    """Whether the arrays are there and their hash is the header's."""
    path = directory / TENSORS
    return path.exists() and sha256_of(path) == header.vectors_sha256


def fingerprint(vectors: EmotionVectors) -> str:
    """`sha256:...` over names, layers and all arrays: the same for equal vectors, whatever their folder."""
    names = json.dumps([vectors.emotions, vectors.layers], ensure_ascii=False).encode()
    return sha256(names + tensor_bytes(_tensors(vectors), _KIND))


def check_model(header: Header | EmotionVectors, model: ModelInfo, *, force: bool, where: str) -> tuple[str, ...]:
    """What differs between the bundle's model and another, as notes; refused unless `force`.

    Raises:
        BundleError: another model or revision without `force`, or a width or layers that do not fit at all.
    """
    made_on = header.provenance.model
    name = "an unknown model" if made_on is None else made_on.model_id
    if header.width != model.width:
        raise BundleError(
            f"{where} holds vectors of width {header.width}, made on {name}",
            f"width {model.width}, that of {model.model_id}",
            "Extract vectors on this model; no flag can make these fit",
        )
    if max(header.layers) >= model.n_layers:
        raise BundleError(
            f"{where} has layer {max(header.layers)}, made on {name}",
            f"layers 0 to {model.n_layers - 1}, those of {model.model_id}",
            "Extract vectors on this model",
        )
    if made_on is None:
        return (f"made on an unknown model: only width and layers were checked against {model.model_id}",)
    differences = []
    if made_on.weights_hash != model.weights_hash:
        differences.append(f"made on other weights ({name}) than those of {model.model_id}")
    if made_on.revision != model.revision and None not in (made_on.revision, model.revision):
        differences.append(f"made on revision {made_on.revision}, used on {model.revision}")
    if differences and not force:
        raise BundleError(
            f"{where}: {' and '.join(differences)}",
            f"vectors of {model.model_id}",
            "Extract vectors on this model, or override with --force",
        )
    notes = [f"overridden by force: {difference}" for difference in differences]
    if made_on.tokenizer_hash != model.tokenizer_hash and not differences:
        notes.append("the tokenizer differs from the one the vectors were made with")
    if made_on.template_hash != model.template_hash and not differences:
        notes.append("the chat template differs from the one the vectors were made with")
    return tuple(notes)


def _tensors(vectors: EmotionVectors) -> dict[str, np.ndarray]:
    tensors = {name: array for name in _ARRAYS if (array := getattr(vectors, name)) is not None}
    for layer, rows in zip(vectors.layers, vectors.neutral_basis or (), strict=False):
        tensors[f"neutral_basis.{layer}"] = rows
    if vectors.stories is not None:
        tensors |= {f"stories.{column}": getattr(vectors.stories, column) for column in _COLUMNS}
    return tensors


def _read_tensors(path: Path, header: Header) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    directory = path.parent
    try:
        if sha256_of(path) != header.vectors_sha256:
            raise _damaged(directory, f"the hash of {TENSORS} is not the one in {HEADER}")
        with safe_open(path, framework="numpy") as file:
            arrays = {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise _damaged(directory, f"{TENSORS} is missing") from None
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}", "a readable bundle") from None
    except SafetensorError as error:
        raise _damaged(directory, f"{TENSORS} is no safetensors file ({error})") from None
    for name, spec in header.tensors.items():
        array = arrays.get(name)
        if array is None:
            raise _damaged(directory, f"{TENSORS} lacks {name}")
        expected = _DTYPES.get(name.removeprefix("stories."), "float32")
        if str(array.dtype) != spec.dtype or array.shape != spec.shape or spec.dtype != expected:
            raise _damaged(
                directory,
                f"{name} is {array.dtype} of shape {array.shape}, announced as {spec.dtype} of {spec.shape}, "
                f"and should be {expected}",
            )
    extra = sorted(set(arrays) - set(header.tensors))
    if extra:
        raise _damaged(directory, f"{TENSORS} holds {extra[0]}, which {HEADER} does not announce")
    return arrays


def _assemble(header: Header, arrays: dict[str, np.ndarray]) -> EmotionVectors:
    take: Callable[[str], Any] = arrays.get
    if "raw" not in arrays:
        raise BundleError("`raw` is missing", "the contrasts")
    stories = None
    if header.topics is not None:
        absent = [column for column in _COLUMNS if f"stories.{column}" not in arrays]
        if absent:
            raise BundleError(f"the story table lacks {absent[0]}", "all its columns")
        stories = StoryTable(topics=header.topics, **{column: arrays[f"stories.{column}"] for column in _COLUMNS})
    basis = None
    if header.k is not None:
        absent = [str(layer) for layer in header.layers if f"neutral_basis.{layer}" not in arrays]
        if absent:
            raise BundleError(f"the neutral basis of layer {absent[0]} is missing", "one a layer")
        basis = tuple(arrays[f"neutral_basis.{layer}"] for layer in header.layers)
    vectors = EmotionVectors(
        emotions=header.emotions,
        layers=header.layers,
        provenance=header.provenance,
        counts=header.counts,
        tokens=header.tokens,
        stories=stories,
        neutral_basis=basis,
        **{name: take(name) for name in _ARRAYS},
    )
    if (vectors.width, vectors.variants, vectors.k) != (header.width, header.variants, header.k):
        raise BundleError("width, variants or k differ from the arrays", "the same in both files")
    return vectors


def _header_hash(header: Header) -> str:
    content = header.model_dump(mode="json", exclude={"header_sha256"})
    return sha256(json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())


def _damaged(directory: Path, problem: str) -> BundleError:
    return BundleError(
        f"the bundle {directory} is damaged: {problem}",
        "an intact bundle",
        "Copy it again from where it was made, or extract it again",
    )


def main_bundle(path: Path) -> Path:
    """The bundle that a path means: itself, or the `from` pooling of an atlas, or of the atlas in a run's folder.

    Raises:
        InputError: there is none.
    """
    if (path / "bundle.json").is_file():
        return path
    paths = sorted((path / "vectors").glob("from*/bundle.json")) + sorted(path.glob("atlas/vectors/from*/bundle.json"))
    if not paths:
        raise InputError(f"{path} holds no bundle", "a folder with bundle.json, or an atlas with vectors/from*/")
    return paths[0].parent
