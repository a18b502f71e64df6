"""A small bundle with every field that import and export touch, and writers of foreign files."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

import numpy as np
import pytest

from heartstrings.core.types import ModelInfo, Provenance
from heartstrings.vectors.emotion_vectors import EmotionVectors

EMOTIONS = ("calm", "joyful", "sad", "grief-stricken")
WIDTH = 16


def model_info(**changes: object) -> ModelInfo:
    values: dict[str, object] = {
        "model_id": "tiny/llama",
        "revision": "abc",
        "architecture": "llama",
        "n_layers": 4,
        "width": WIDTH,
        "dtype": "float32",
        "device": "cpu",
        "engine": "torch",
        "weights_hash": "0",
    }
    return ModelInfo.model_validate(values | changes)


def means(layers: int = 3, seed: int = 0) -> np.ndarray:
    """[layer, emotion, width] means with a common offset, as an uncentred file holds them."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(layers, len(EMOTIONS), WIDTH))
    return (noise + 5 * generator.normal(size=(layers, 1, WIDTH))).astype(np.float32)


def bundle(
    layers: tuple[int, ...] = (0, 1, 3),
    *,
    norms: bool = True,
    denoised: bool = True,
    model: ModelInfo | None = None,
    site: str = "block",
) -> EmotionVectors:
    values = means(len(layers))
    centre = values.mean(axis=1)
    raw = values - centre[:, None]
    return EmotionVectors(
        emotions=EMOTIONS,
        layers=layers,
        raw=raw,
        denoised=(raw * np.float32(0.5)) if denoised else None,
        centre=centre,
        halves=None,
        neutral_basis=None,
        norms=np.array([10.0 * (layer + 1) for layer in layers], dtype=np.float32) if norms else None,
        reliability=None,
        counts=None,
        tokens=None,
        stories=None,
        story_scores=None,
        provenance=Provenance.model_validate(
            {"package_version": "0", "source": "extracted", "model": model or model_info(), "site": site}
        ),
    )


def library(name: str) -> ModuleType:
    """A module of another tool, or a skip with the reason. Its own warnings while it loads are ignored."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except Exception as error:
            pytest.skip(f"{name} cannot be imported here: {type(error).__name__}: {error}")
