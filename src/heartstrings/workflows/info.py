"""What a bundle, an atlas or a model is. A model on this machine is described from its files, without a framework."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from heartstrings import core, engines, geometry, vectors, workflows
from heartstrings.core.errors import InputError
from heartstrings.workflows.values import Progress, silent

if TYPE_CHECKING:
    from heartstrings.geometry import Geometry
    from heartstrings.vectors.emotion_vectors import EmotionVectors


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model, under the names of `heartstrings.core.types.ModelInfo`; None: not known without loading
    it."""

    model_id: str
    revision: str | None = None
    architecture: str | None = None
    n_layers: int | None = None
    width: int | None = None
    is_encoder: bool | None = None
    dtype: str | None = None
    """That most weights are stored in."""
    device: str | None = None
    engine: str | None = None
    weights_hash: str | None = None
    template_hash: str | None = None
    tokenizer_hash: str | None = None
    quantisation: str | None = None
    parameters: int | None = None
    """Numbers stored: tied ones count once."""


def describe(what: str, *, progress: Progress = silent) -> Geometry | EmotionVectors | ModelFacts:
    """The geometry of an atlas, the vectors of a bundle, or the facts on a model.

    Raises:
        InputError: it is none of them; ModelError: a model that cannot be loaded.
    """
    path = Path(what)
    if (path / "geometry.json").is_file():
        return geometry.Geometry.model_validate_json((path / "geometry.json").read_bytes())
    if (path / "bundle.json").is_file():
        return vectors.EmotionVectors.load(path)
    if path.is_dir() and not (path / "config.json").is_file():
        raise InputError(f"{what} holds no bundle.json, geometry.json or config.json", "a bundle, an atlas or a model")
    try:
        facts = _from_files(what, progress)
    except core.ModelError:  # whatever is wrong with the files, loading says it better
        facts = None
    return _loaded(what, progress) if facts is None else facts


def _from_files(what: str, progress: Progress) -> ModelFacts | None:
    """A model as the files on this machine describe it; None where there are none."""
    copy = None
    if (file := engines.gguf_file(what)) is not None and (copy := engines.made_copy(file)) is None:
        progress(f"dequantising {what}, this once", 0, None)
        _loaded(what, silent)
        copy = engines.made_copy(file)
    folder = engines.local_folder(what) if copy is None else copy.folder
    if folder is None:
        return None
    described = engines.describe(folder)
    return ModelFacts(
        model_id=what,
        architecture=described.architecture,
        n_layers=described.n_layers,
        width=described.width,
        dtype=described.dtype,
        weights_hash=described.weights_hash if copy is None else f"gguf-sha256:{copy.sha256}",
        template_hash=engines.of_text(described.template),
        quantisation=None if copy is None else copy.quantisation,
        parameters=described.parameters,
    )


def _loaded(what: str, progress: Progress) -> ModelFacts:
    """The same of a model that has to be loaded, from the hub perhaps."""
    info = workflows.opened(what, device="cpu", progress=progress).info
    return ModelFacts(
        **{field.name: getattr(info, field.name) for field in fields(ModelFacts) if field.name != "parameters"}
    )
