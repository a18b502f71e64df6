"""Shared fixtures. Research data lives beside the checkout and is never shipped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The research data folder; a test that needs it skips elsewhere and fails in CI."""
    if not SHARED.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"research data is missing at {SHARED}; CI needs it")
        pytest.skip(f"research data is not at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def smollm2() -> str:
    """The name of the packaged chat model; a test that needs it skips where it is not installed and fails in CI."""
    from heartstrings.engines.named import PACKAGED, is_installed

    if not is_installed("smollm2"):
        if os.environ.get("CI") == "true":
            pytest.fail(f"smollm2 is missing; CI needs it: {PACKAGED['smollm2'].install}")
        pytest.skip(f"smollm2 is not installed: {PACKAGED['smollm2'].install}")
    return "smollm2"
