"""The one library that needs help to be imported."""

from __future__ import annotations

import contextlib
import importlib
import io
from typing import Any

import numpy as np


def repeng(module: str) -> Any:
    """A module of repeng 0.4. It names `np.float_`, which numpy 2 has no more, in one annotation."""
    vars(np).setdefault("float_", np.float64)
    try:
        return importlib.import_module(f"repeng.{module}")
    finally:
        vars(np).pop("float_", None)


def quiet() -> Any:
    """Without the progress bars that a library writes to the console."""
    return contextlib.redirect_stderr(io.StringIO())
