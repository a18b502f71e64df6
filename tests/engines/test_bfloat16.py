"""bfloat16: which models and devices gain from it, and weights that are rounded in place and put back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import heartstrings
import models
from heartstrings import engines
from heartstrings.core.types import Pooling
from heartstrings.engines.hf import precision
from heartstrings.engines.hf.loading import load

WHOLE = (Pooling(start=0),)


def means(engine: Any) -> np.ndarray:
    return next(iter(engine.pool(models.stories(4), poolings=WHOLE))).means


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with bfloat16 units, on which no model is too small."""
    monkeypatch.setattr(precision, "_processor", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(precision, "SMALL", 0)


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "qwen3_5_text", "mixtral", "bert"])
def test_it_is_the_model_that_loads_in_bfloat16(family: str, tmp_path: Path) -> None:
    folder = models.folder(tmp_path / family, family)
    loaded, engine = load(folder, dtype="bfloat16"), load(folder)
    exact, names = means(engine), dict(engine.model.named_parameters())
    addresses = {name: one.data_ptr() for name, one in names.items()}
    with engines.in_bfloat16(engine) as rounded:
        assert rounded.info == loaded.info
        assert rounded.model.config.dtype == torch.bfloat16
        for (name, one), (_, other) in zip(
            rounded.model.state_dict().items(), loaded.model.state_dict().items(), strict=True
        ):
            assert one.dtype == other.dtype, name
            assert torch.equal(one, other), name
        np.testing.assert_array_equal(means(rounded), means(loaded))
    assert {name: one.data_ptr() for name, one in engine.model.named_parameters()} == addresses
    assert engine.model.config.dtype == torch.float32
    np.testing.assert_array_equal(means(engine), exact)


def test_the_weights_come_back_after_an_error(tmp_path: Path) -> None:
    engine = load(models.folder(tmp_path))
    exact = means(engine)
    with pytest.raises(KeyboardInterrupt), engines.in_bfloat16(engine):
        raise KeyboardInterrupt
    np.testing.assert_array_equal(means(engine), exact)


def test_which_models_gain(fast: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = models.folder(tmp_path / "llama")
    engine = load(folder, device="cpu")
    assert engines.gains_from_bfloat16(engine)
    assert not engines.gains_from_bfloat16(load(folder, dtype="bfloat16", device="cpu"))
    assert not engines.gains_from_bfloat16(object())
    engine.model.config.quantization_config = {"quant_method": "any"}
    assert not engines.gains_from_bfloat16(engine)
    del engine.model.config.quantization_config
    monkeypatch.setattr(precision, "_has_room", lambda device, n_bytes: False)
    assert not engines.gains_from_bfloat16(engine)


def test_small_models_do_not_gain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_processor", lambda: {"avx512_bf16": True})
    assert not engines.gains_from_bfloat16(load(models.folder(tmp_path), device="cpu"))


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"avx512_f": True, "amx_bf16": False}, False),
        ({}, False),
    ],
)
def test_which_processors_are_fast(
    units: dict[str, bool], expected: bool, fast: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_processor", lambda: units)
    assert precision.has_fast_bfloat16("cpu") is expected
    assert engines.gains_from_bfloat16(load(models.folder(tmp_path), device="cpu")) is expected
    assert not precision.has_fast_bfloat16("mps")


@pytest.mark.parametrize("units", [True, False])
def test_fast_is_bfloat16_where_it_is_fast_and_what_is_stored_elsewhere(
    units: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_processor", lambda: {"avx512_bf16": units})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert {engines.fast_dtype(device) for device in ("cpu", None, "auto")} == {"bfloat16" if units else "auto"}
    assert engines.fast_dtype("cuda") == engines.fast_dtype("no such device") == "auto"
    assert load(models.folder(tmp_path), dtype="fast", device="cpu").info.dtype == ("bfloat16" if units else "float32")


def test_a_plan_records_what_fast_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a run that goes on elsewhere has the same precision."""
    monkeypatch.setattr(precision, "_processor", lambda: {"amx_bf16": True})
    planned = heartstrings.plan(
        "organism:steerable", settings="quick", emotion="calm", dtype="fast", device="cpu", dry_run=False
    )
    assert planned.plan.dtype == "bfloat16"


def test_the_processor_is_asked() -> None:
    """Without the question torch would not know, or the answer is of another kind."""
    assert isinstance(precision._processor().get("avx512_bf16", False), bool)


def test_memory_that_is_free() -> None:
    assert precision._has_room("cpu", 1)
    assert not precision._has_room("cpu", 2**60) or not Path("/proc/meminfo").exists()
