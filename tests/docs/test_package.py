"""What a user meets before anything else: a light import, public names that exist, exit codes."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from jaxtyping import TypeCheckError

import heartstrings
from heartstrings.stats.contrasts import largest


def test_import_is_light() -> None:
    heavy = "torch transformers sklearn scipy plotly pandas numpy"
    code = f"import sys, heartstrings; print([m for m in {heavy.split()!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_exist() -> None:
    for name in heartstrings.__all__:
        assert getattr(heartstrings, name) is not None
    assert "Pooling" in dir(heartstrings)


def test_organisms_are_there_without_an_import_of_their_own() -> None:
    code = "import heartstrings; print(heartstrings.organisms.path('steerable').name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "steerable"


def test_no_module_hides_a_public_name() -> None:
    """Importing `heartstrings.x` sets the attribute `x`: were a public name called so, it would be lost."""
    for name in set(heartstrings.__all__) - {"organisms"}:
        assert find_spec(f"heartstrings.{name}") is None, name


def test_tensor_axes_are_checked_while_testing() -> None:
    with pytest.raises(TypeCheckError, match="direction contrast"):
        largest(np.zeros(3))
