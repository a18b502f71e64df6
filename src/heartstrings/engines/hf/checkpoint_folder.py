"""What the files of a checkpoint folder say: configuration, headers of the weights, chat template, and a hash of all
that is stored. No framework is imported, and large files are not read as a whole.

The hash is the same for a folder that was renamed or copied, and differs for other weights.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from heartstrings.core.errors import ModelError

WHOLE_BELOW = 64 * 2**20
"""Files up to this many bytes are hashed whole; of larger ones, a sample of every tensor."""
_SAMPLES, _SAMPLE = 4, 1024
_NOT_WEIGHTS = ("_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache", "auto_map")
_DEPTH = ("num_hidden_layers", "n_layer", "n_layers")
_WIDTH = ("hidden_size", "n_embd", "d_model")
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_CONFIG, _TEMPLATE, _TOKENIZER = "config.json", "chat_template.jinja", "tokenizer_config.json"


@dataclass(frozen=True)
class Described:
    """A checkpoint as its files describe it; None where they do not state a value."""

    architecture: str
    n_layers: int | None
    width: int | None
    parameters: int
    """Numbers stored: tied ones count once."""
    dtype: str
    """The type of most of them."""
    weights_hash: str
    template: str | None
    """The default chat template."""


def describe(folder: Path) -> Described:
    """Read all of it.

    Raises:
        ModelError: no readable configuration, or no safetensors. `heartstrings.load` gives more precise messages.
    """
    try:
        config = _config(folder)
        architecture = str(config["model_type"])
        stored = _stored(folder)
        template = chat_template(folder)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder} cannot be read: {error!r}", "a Hugging Face checkpoint folder") from error
    if not stored:
        raise ModelError(f"{folder} has no weights", "*.safetensors beside config.json", "Download it again")
    most = stored.most_common(1)[0][0]
    return Described(
        architecture=architecture,
        n_layers=_number(config, _DEPTH),
        width=_number(config, _WIDTH),
        parameters=stored.total(),
        dtype=_DTYPES.get(most, most.lower()),
        weights_hash=of_folder(folder),
        template=template,
    )


def depth(folder: Path) -> int | None:
    """Number of blocks; None where the configuration is not there or does not say."""
    try:
        return _number(_config(folder), _DEPTH)
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def parameters(folder: Path) -> int | None:
    """How many numbers the safetensors files of a folder hold; None without such files.

    Raises:
        ModelError: a file without a readable header.
    """
    return _stored(folder).total() or None


def of_folder(folder: Path) -> str:
    """Hash of a checkpoint: configuration, safetensors headers and sizes, and bytes sampled from every tensor."""
    digest = hashlib.sha256(config_bytes(json.loads((folder / _CONFIG).read_text("utf-8"))))
    for file in sorted(folder.glob("*.safetensors")):
        _add_file(digest, file)
    return "sha256:" + digest.hexdigest()


def config_bytes(config: Mapping[str, Any]) -> bytes:
    """The part of a configuration that identifies a model."""
    return json.dumps(_essentials(config), sort_keys=True, default=str).encode()


def of_text(template: str | None) -> str | None:
    """Hash of a chat template; None without one."""
    return None if template is None else "sha256:" + hashlib.sha256(template.encode()).hexdigest()


def _config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / _CONFIG).read_text("utf-8"))
    return config


def _number(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    """The first of some names, of the text model where there are several."""
    config = config.get("text_config", config)
    return next((int(config[name]) for name in names if isinstance(config.get(name), int)), None)


def chat_template(folder: Path) -> str | None:
    """The default chat template, from its own file or from the tokenizer's configuration, as transformers reads it."""
    if (folder / _TEMPLATE).is_file():
        return (folder / _TEMPLATE).read_text("utf-8") or None
    if not (folder / _TOKENIZER).is_file():
        return None
    template = json.loads((folder / _TOKENIZER).read_text("utf-8")).get("chat_template")
    if isinstance(template, list):
        template = {entry["name"]: entry["template"] for entry in template}
    if isinstance(template, dict):
        template = template.get("default")
    return template if isinstance(template, str) and template else None


def _stored(folder: Path) -> Counter[str]:
    """Numbers by the type they are stored in."""
    stored: Counter[str] = Counter()
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            header = _header(stream, file)
        for _, entry in _tensors(header, file):
            stored[entry["dtype"]] += math.prod(entry["shape"])
    return stored


def _add_file(digest: Any, file: Path) -> None:
    size = file.stat().st_size
    with file.open("rb") as stream:
        digest.update(size.to_bytes(8, "little"))
        if size <= WHOLE_BELOW:
            digest.update(stream.read())
            return
        header = _header(stream, file)
        digest.update(header)
        for name, entry in sorted(_tensors(header, file)):
            start, stop = entry["data_offsets"]
            digest.update(name.encode())
            step = max(1, (stop - start - _SAMPLE) // _SAMPLES)
            for offset in range(start, max(start + 1, stop - _SAMPLE), step):
                stream.seek(8 + len(header) + offset)
                digest.update(stream.read(min(_SAMPLE, stop - offset)))


def _header(stream: BinaryIO, file: Path) -> bytes:
    length = int.from_bytes(stream.read(8), "little")
    if length > file.stat().st_size:  # not a safetensors file; reading it would take all memory
        raise ModelError(f"{file.name} has no readable header", "a safetensors file", "Copy the file again")
    return stream.read(length)


def _tensors(header: bytes, file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        entries = json.loads(header).items()
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{file.name} has no readable header", "a safetensors file", "Copy the file again") from error
    return ((name, entry) for name, entry in entries if name != "__metadata__")


def _essentials(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _essentials(item) for key, item in value.items() if key not in _NOT_WEIGHTS}
    if isinstance(value, list | tuple):
        return [_essentials(item) for item in value]
    return value
