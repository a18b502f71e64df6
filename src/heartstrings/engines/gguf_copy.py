"""GGUF files (llama.cpp's format): a dequantised copy in the cache, made once, opened as any other checkpoint.

The copy is named by the SHA-256 of the file, so that another file never gets it. transformers does the reading: weights,
tokenizer and chat template; here they are only put where the next start finds them.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from heartstrings.errors import MissingExtra, ModelError

CARD = "gguf.json"
"""In a finished copy: where it comes from. Written last, so that a copy without it is not one."""
MAGIC = b"GGUF"


@dataclass(frozen=True)
class GgufCopy:
    """A checkpoint folder made from a GGUF file."""

    folder: Path
    sha256: str
    quantisation: str
    """The type that most of the weights are stored in, e.g. `Q4_1`."""


def cache_folder() -> Path:
    """Where copies are kept: $HEARTSTRINGS_CACHE, else `heartstrings` in the user's cache folder."""
    own = os.environ.get("HEARTSTRINGS_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "heartstrings"


def made_copy(file: Path) -> Path | None:
    """The folder of a copy that was finished before; None if there is none."""
    folder = _place(_sha256(file))
    return folder if (folder / CARD).is_file() else None


def gguf_copy(file: Path) -> GgufCopy:
    """The copy of a GGUF file, made first if it is not there.

    Raises:
        MissingExtra: without the `gguf` extra (gguf and accelerate), where a copy has to be made.
        ModelError: no GGUF file, an architecture that transformers cannot dequantise, no tokenizer in it, or a cache
            that cannot be written.
    """
    with file.open("rb") as stream:
        if stream.read(4) != MAGIC:
            raise ModelError(f"{file} is no GGUF file", "one that begins with the letters GGUF", "Download it again")
    sha = _sha256(file)
    folder = _place(sha)
    if not (folder / CARD).is_file():
        _make(file, sha, folder)
    card = json.loads((folder / CARD).read_text("utf-8"))
    return GgufCopy(folder, sha, card["quantisation"])


def _place(sha: str) -> Path:
    return cache_folder() / "gguf" / sha[:32]


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _make(file: Path, sha: str, folder: Path) -> None:
    """All or nothing: a folder that was begun elsewhere in the cache, renamed when it is whole."""
    for package in ("gguf", "accelerate"):
        if find_spec(package) is None:
            raise MissingExtra(f"Opening the GGUF file {file.name}", "gguf")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        begun = Path(tempfile.mkdtemp(prefix=f".{sha[:12]}-", dir=folder.parent))
    except OSError as error:
        raise ModelError(f"the cache {folder.parent} cannot be written: {error.strerror}", "a folder for copies",
                         "Set HEARTSTRINGS_CACHE to one") from None  # fmt: skip
    try:
        _dequantise(file, begun)
        card = {"file": file.name, "sha256": sha, "quantisation": _quantisation(file)}
        (begun / CARD).write_text(json.dumps(card, indent=1) + "\n", "utf-8")
        if folder.exists():  # left by an earlier version, or by another process just now
            shutil.rmtree(folder)
        begun.rename(folder)
    except OSError as error:
        raise ModelError(f"the copy of {file.name} cannot be written: {error.strerror}",
                         f"about {_room(file)} GB in {folder.parent}",
                         "Free some space, or set HEARTSTRINGS_CACHE to another folder") from None  # fmt: skip
    finally:
        shutil.rmtree(begun, ignore_errors=True)


def _dequantise(file: Path, folder: Path) -> None:
    import transformers
    from safetensors.torch import save_model

    from heartstrings.engines.loading import attempt, auto_class

    source: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    where = str(file.parent)
    config = attempt(file.name, transformers.AutoConfig.from_pretrained, where, **source)
    tokenizer = attempt(f"the tokenizer of {file.name}", transformers.AutoTokenizer.from_pretrained, where, **source)
    with contextlib.redirect_stderr(io.StringIO()):  # a bar of its own
        model = attempt(file.name, auto_class(config).from_pretrained, where, dtype="auto", **source)
    config = model.config
    config.architectures = [type(model).__name__]
    # What is saved is dequantised: left in, this entry would have it dequantised again.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_model(model, str(folder / "model.safetensors"), metadata={"format": "pt"})


def _quantisation(file: Path) -> str:
    from gguf import GGUFReader

    weights: dict[str, int] = {}
    for tensor in GGUFReader(str(file)).tensors:
        name = str(tensor.tensor_type.name)
        weights[name] = weights.get(name, 0) + int(tensor.n_elements)
    return max(weights, key=lambda name: weights[name])


def _room(file: Path) -> int:
    """Gigabytes that 32-bit weights of 4 bits and more take, at most."""
    return 1 + file.stat().st_size * 8 // 10**9
