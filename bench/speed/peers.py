"""The one library that needs help to be imported."""

from __future__ import annotations

import contextlib
import importlib
import io
from typing import Any

import numpy as np


def repeng(module: str) -> Any:
    """A module of repeng 0.4. It names `np.float_`, which numpy 2 has no more, in one annotation."""
    if not hasattr(np, "float_"):
        np.float_ = np.float64  # type: ignore[attr-defined]
    try:
        return importlib.import_module(f"repeng.{module}")
    finally:
        if "float_" in vars(np):
            del np.float_  # type: ignore[attr-defined]


def quiet() -> Any:
    """Without the progress bars that a library writes to the console."""
    return contextlib.redirect_stderr(io.StringIO())
