"""The files of an atlas folder that a report is made from. Each may be missing; the report says why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64
from pydantic import ValidationError

from heartstrings import vectors
from heartstrings.core.checks import first_problem
from heartstrings.core.errors import BundleError, HeartstringsError, InputError
from heartstrings.corpus.lexicon import Ratings, built_in_ratings, families
from heartstrings.engines.hf.named import short_name
from heartstrings.geometry.readout_results import ReadoutResult
from heartstrings.geometry.results import SCHEMA_VERSION, Geometry
from heartstrings.report._optional import read_object

if TYPE_CHECKING:
    from heartstrings.vectors.emotion_vectors import EmotionVectors

_HERE = "in this atlas"


@dataclass(frozen=True)
class AtlasFiles:
    """One atlas as read from disk. What is None comes with its reason in `absent`."""

    folder: Path
    geometry: Geometry
    vectors: EmotionVectors | None
    readout: ReadoutResult | None
    corpus: Mapping[str, Any] | None
    ratings: Ratings
    ratings_are_those_used: bool
    """False when the plots are coloured by other ratings than the correlations were computed with."""
    absent: Mapping[str, str]

    @property
    def name(self) -> str:
        """The model as a title: no long paths, and the folder's name where the model is unknown."""
        model = self.geometry.model
        if model == "unknown":
            return self.folder.resolve().name
        return short_name(model)

    @property
    def organism(self) -> str | None:
        """Which bundled organism this is, or None."""
        name = self.geometry.model
        if name.startswith("organism:"):
            return name.removeprefix("organism:")
        try:
            kind = json.loads((Path(name) / "organism.json").read_text(encoding="utf-8"))["kind"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return str(kind)

    def rated(self, emotions: tuple[str, ...]) -> tuple[Float64[np.ndarray, "_"], Float64[np.ndarray, "_"]]:
        """Valence and arousal of these emotions, NaN where unrated or only estimated."""
        valence, arousal = self.ratings.arrays(emotions)
        return np.asarray(valence, dtype=np.float64), np.asarray(arousal, dtype=np.float64)

    def depth(self, layer: int) -> float | None:
        """Fractional depth of a layer, (layer + 1) / n_layers; None where the model's depth is not known."""
        model = self.vectors.provenance.model if self.vectors else None
        return None if model is None else (layer + 1) / model.n_layers

    def family(self, emotion: str) -> str:
        return families().get(emotion, "")


def read_atlas(folder: str | Path) -> AtlasFiles:
    """Read an atlas folder; only `geometry.json` must be there.

    Raises:
        InputError: no such folder, no `geometry.json`, or one that is damaged or of another schema.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"no atlas folder {folder}", "a folder written by `heartstrings atlas`")
    geometry = _geometry(folder / "geometry.json")
    absent: dict[str, str] = {}
    readout = _readout(folder / "readout.json", absent)
    corpus = read_object(folder / "corpus.json", "corpus", absent, where=_HERE)
    vectors = _vectors(folder / "vectors", geometry, absent)
    ratings, used = _ratings(folder / "ratings.json", geometry)
    return AtlasFiles(folder, geometry, vectors, readout, corpus, ratings, used, absent)


def _geometry(path: Path) -> Geometry:
    if not path.is_file():
        raise InputError(f"no {path.name} in {path.parent}", "the geometry of a bundle", "Run `heartstrings atlas`")
    try:
        return Geometry.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError(
            f"{path} cannot be read: {first_problem(error)}",
            f"geometry of schema version {SCHEMA_VERSION}",
            "Compute it again with `heartstrings atlas`",
        ) from None


def _readout(path: Path, absent: dict[str, str]) -> ReadoutResult | None:
    content = read_object(path, "readout", absent, where=_HERE)
    if content is None:
        return None
    try:
        return ReadoutResult.model_validate(content)
    except ValidationError as error:
        absent["readout"] = f"{path.name} is of another form: {first_problem(error, '')}."
        return None


def _vectors(folder: Path, geometry: Geometry, absent: dict[str, str]) -> vectors.EmotionVectors | None:
    """The bundle that the geometry was computed from."""
    named = [folder / geometry.pooling] if geometry.pooling else []
    candidates = [path for path in (*named, folder, *sorted(folder.glob("*"))) if (path / "bundle.json").is_file()]
    if not candidates:
        absent["vectors"] = "There is no bundle of vectors in this atlas."
        return None
    try:
        return vectors.EmotionVectors.load(candidates[0])
    except (BundleError, HeartstringsError) as error:
        absent["vectors"] = f"The bundle of vectors cannot be used: {error}"
        return None


def _ratings(path: Path, geometry: Geometry) -> tuple[Ratings, bool]:
    """The ratings behind the correlations if the atlas kept them, else the package's own."""
    built_in = built_in_ratings()
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        values = {str(name): (float(pair[0]), float(pair[1])) for name, pair in kept["values"].items()}
        return Ratings(values, str(kept["source"]), frozenset(kept.get("estimated", ()))), True
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return built_in, geometry.ratings_source == built_in.source
