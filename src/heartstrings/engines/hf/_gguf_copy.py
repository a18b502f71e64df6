"""GGUF files (llama.cpp's format): dequantised once into a copy in the cache, which is opened like any checkpoint.

The copy is named by the SHA-256 of the file. transformers reads weights, tokenizer and chat template; this module only
stores them.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from heartstrings.core.errors import MissingExtra, ModelError
from heartstrings.core.storage import cache_folder

CARD = "gguf.json"
"""The origin of a finished copy. Written last, so that a folder without it is not a finished copy."""
MAGIC = b"GGUF"
PLAIN = ("F64", "F32", "F16", "BF16")
"""Types of tensors that are not quantised."""
ABANDONED = 24 * 3600
"""Seconds after which an unfinished copy is taken to be left by a killed process."""


@dataclass(frozen=True)
class GgufCopy:
    """A checkpoint folder made from a GGUF file."""

    folder: Path
    sha256: str
    quantisation: str | None
    """The type that most of the weights are stored in, e.g. `Q4_1`; None where they are plain floats."""


def made_copy(file: Path) -> GgufCopy | None:
    """The finished copy of a file; None if there is none. Imports no framework."""
    return _finished(_sha256(file))


def gguf_copy(file: Path) -> GgufCopy:
    """The copy of a GGUF file, made first if it is not there.

    Raises:
        MissingExtra: without the `gguf` extra (gguf and accelerate), where a copy has to be made.
        ModelError: no GGUF file, one that is cut off or lacks tensors, an architecture that transformers cannot
            dequantise, no tokenizer in it, or a cache that cannot be written.
    """
    with file.open("rb") as stream:
        if stream.read(4) != MAGIC:
            raise ModelError(f"{file} is no GGUF file", "one that begins with the letters GGUF", "Download it again")
    sha = _sha256(file)
    if (copy := _finished(sha)) is None:
        _make(file, sha)
        copy = _finished(sha)
    assert copy is not None
    return copy


def _finished(sha: str) -> GgufCopy | None:
    folder = _place(sha)
    try:
        card = json.loads((folder / CARD).read_text("utf-8"))
        return GgufCopy(folder, sha, card["quantisation"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _place(sha: str) -> Path:
    return cache_folder() / "gguf" / sha[:32]


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _make(file: Path, sha: str) -> None:
    """Make the copy in a temporary folder of the cache, and rename that folder when it is complete."""
    folder = _place(sha)
    for package in ("gguf", "accelerate"):
        if find_spec(package) is None:
            raise MissingExtra(f"Opening the GGUF file {file.name}", "gguf")
    from safetensors import SafetensorError

    card = {"file": file.name, "sha256": sha, "quantisation": _quantisation(file)}
    begun_as = f".{sha[:12]}-"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_old(folder.parent, begun_as)
        begun = Path(tempfile.mkdtemp(prefix=begun_as, dir=folder.parent))
    except OSError as error:
        raise ModelError(
            f"the cache {folder.parent} cannot be written: {error.strerror}",
            "a folder for copies",
            "Set HEARTSTRINGS_CACHE to one",
        ) from None
    try:
        _dequantise(file, begun)
        (begun / CARD).write_text(json.dumps(card, indent=1) + "\n", "utf-8")
        _put(begun, sha)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"the copy of {file.name} cannot be written: {getattr(error, 'strerror', None) or error}",
            f"about {_room(file)} GB in {folder.parent}",
            "Free some space, or set HEARTSTRINGS_CACHE to another folder",
        ) from None
    finally:
        shutil.rmtree(begun, ignore_errors=True)


def _put(begun: Path, sha: str) -> None:
    """Move a finished copy to its place. If another process was faster, its copy stays: it may be in use."""
    if _finished(sha) is not None:
        return
    shutil.rmtree(_place(sha), ignore_errors=True)  # whatever is there is no copy
    try:
        begun.rename(_place(sha))
    except OSError:
        if _finished(sha) is None:
            raise


def _remove_old(cache: Path, begun_as: str) -> None:
    """Remove unfinished copies of this file that killed processes have left."""
    for left in cache.glob(f"{begun_as}*"):
        if time.time() - left.stat().st_mtime > ABANDONED:
            shutil.rmtree(left, ignore_errors=True)


def _dequantise(file: Path, folder: Path) -> None:
    import transformers
    from safetensors.torch import save_model

    from heartstrings.engines.hf.loading import attempt, auto_class, missing_tensors

    source: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    where = str(file.parent)
    config = attempt(file.name, transformers.AutoConfig.from_pretrained, where, **source)
    tokenizer = attempt(f"the tokenizer of {file.name}", transformers.AutoTokenizer.from_pretrained, where, **source)
    with contextlib.redirect_stderr(io.StringIO()):  # it shows a progress bar
        model, loading_info = attempt(
            file.name,
            auto_class(config).from_pretrained,
            where,
            config=config,
            dtype="auto",
            output_loading_info=True,
            **source,
        )
    missing = sorted(missing_tensors(loading_info))
    if missing:  # they would be random numbers
        raise ModelError(
            f"{file.name} lacks {len(missing)} tensors that its configuration asks for ({', '.join(missing[:3])})",
            "a whole model in one file",
            "Download it again; of a file in several parts, join them first (llama-gguf-split --merge)",
        )
    config = model.config
    config.architectures = [type(model).__name__]
    # The saved weights are dequantised; with this entry transformers would dequantise them again.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_model(model, str(folder / "model.safetensors"), metadata={"format": "pt"})


def _quantisation(file: Path) -> str | None:
    """The scheme that the file states (`Q4_K_M` mixes several types), else the type of most weights; None where they
    are plain floats.

    Raises:
        ModelError: the file ends before its last tensor does, or makes no sense.
    """
    from gguf import GGUFReader, LlamaFileType

    weights: dict[str, int] = {}
    try:
        reader = GGUFReader(str(file))
        stated = reader.fields.get("general.file_type")
        scheme = None if stated is None else stated.contents()
        for tensor in reader.tensors:
            name = str(tensor.tensor_type.name)
            weights[name] = weights.get(name, 0) + int(tensor.n_elements)
    except Exception as error:  # ValueError, IndexError, OverflowError, MemoryError, ...: whatever the bytes lead to
        raise ModelError(
            f"{file.name} is cut off or damaged: {type(error).__name__}: {' '.join(str(error).split())[:200]}",
            "a whole GGUF file",
            "Download it again",
        ) from error
    if not weights:
        raise ModelError(f"{file.name} holds no tensors", "a GGUF file of a model", "Choose the file with the weights")
    most = max(weights, key=lambda name: weights[name])
    if most in PLAIN:
        return None
    named = {
        file_type.value: file_type.name.removeprefix("MOSTLY_")
        for file_type in LlamaFileType
        if file_type.name.startswith("MOSTLY_")
    }
    quantisation = named.get(scheme, most)
    return most if quantisation in PLAIN else quantisation


def _room(file: Path) -> int:
    """Gigabytes that 32-bit weights of 4 bits and more take, at most."""
    return 1 + file.stat().st_size * 8 // 10**9
