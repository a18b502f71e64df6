"""lm-eval's own steered model, given the file that we export, and our engine: the same log-likelihoods."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import heartstrings
import models
from heartstrings.core.engine import ScoreRequest
from heartstrings.core.types import Provenance
from heartstrings.engines.hf._session import calibration_norms
from heartstrings.engines.hf.engine import TorchEngine
from heartstrings.vectors.emotion_vectors import EmotionVectors
from interop_support import library

PAIRS = (
    ("The rain had stopped before", " she reached the harbour"),
    ("He counted", " the coins twice, put them back"),
    ("They carried the long table into the garden; somebody laughed,", " somebody else began to sing"),
    ("A", " train went by"),
    ("Nobody had told me that the letter was already there. I read it", " standing"),
)
CASES = [("joyful", (2,)), ("0.5*joyful - sad", (0, 1, 3)), ("-calm", (1, 2))]


@pytest.fixture(scope="module")
def organism() -> TorchEngine:
    engine: Any = heartstrings.load("organism:steerable")
    return engine


@pytest.fixture(params=["organism", "llama", "gpt2"])
def engine(request: pytest.FixtureRequest, organism: TorchEngine) -> TorchEngine:
    engine: TorchEngine = organism if request.param == "organism" else models.engine(request.param)
    return engine


def vectors_for(engine: TorchEngine) -> EmotionVectors:
    """Made up, with the engine's own norms."""
    draw = np.random.default_rng(0)
    shape = (engine.info.n_layers, 3, engine.info.width)
    return EmotionVectors(
        emotions=("calm", "joyful", "sad"),
        layers=tuple(range(engine.info.n_layers)),
        raw=draw.normal(size=shape).astype(np.float32),
        norms=calibration_norms(engine, engine.parts, "block").astype(np.float32),
        provenance=Provenance(package_version="0", source="derived", model=engine.info),
    )


def likelihoods(kind: type, engine: TorchEngine, **named: Any) -> list[float]:
    """What one of lm-eval's models says of the pairs, in batches."""
    instance = library("lm_eval.api.instance")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = kind(
            pretrained=engine.model, tokenizer=engine.tokenizer, device="cpu", backend="causal", batch_size=3, **named
        )
        requests = [instance.Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(PAIRS)]
        return [value for value, _ in model.loglikelihood(requests, disable_tqdm=True)]


@pytest.mark.parametrize(("expression", "layers"), CASES)
def test_the_same_log_likelihoods(
    tmp_path: Path, engine: TorchEngine, expression: str, layers: tuple[int, ...]
) -> None:
    steered_model = library("lm_eval.models.hf_steered").SteeredModel
    vectors = vectors_for(engine)
    path = heartstrings.export_vectors(
        vectors, tmp_path / "steer.pt", direction=expression, layers=layers, dose=0.3, variant="raw"
    )
    theirs = likelihoods(steered_model, engine, steer_path=str(path))
    steering = heartstrings.make_steering(vectors, expression, dose=0.3, layers=layers)
    ours = [s.logprobs[0] for s in engine.score([ScoreRequest(a, (b,), steering) for a, b in PAIRS])]
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    plain = [s.logprobs[0] for s in engine.score([ScoreRequest(a, (b,)) for a, b in PAIRS])]
    assert np.abs(np.array(ours) - plain).max() > 0.05


@pytest.mark.parametrize(("expression", "layers"), CASES)
def test_lm_eval_s_plain_model_inside_the_with(
    tmp_path: Path, engine: TorchEngine, expression: str, layers: tuple[int, ...]
) -> None:
    """An evaluation loop that knows nothing of us is steered as its own steered model is."""
    steered_model = library("lm_eval.models.hf_steered").SteeredModel
    plain_model = library("lm_eval.models.huggingface").HFLM
    vectors = vectors_for(engine)
    path = heartstrings.export_vectors(
        vectors, tmp_path / "steer.pt", direction=expression, layers=layers, dose=0.3, variant="raw"
    )
    theirs = likelihoods(steered_model, engine, steer_path=str(path))
    with engine.steered(vectors.direction(expression), dose=0.3, layer=layers):
        inside = likelihoods(plain_model, engine)
    np.testing.assert_allclose(inside, theirs, atol=1e-4)
    assert np.abs(np.array(likelihoods(plain_model, engine)) - theirs).max() > 0.05
