"""The document on vectors: its examples run, and its tables name everything that a bundle holds."""

from __future__ import annotations

import doctest
from pathlib import Path

from heartstrings.vectors import algebra
from heartstrings.vectors.bundle import _ARRAYS, _COLUMNS, Header

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "vectors.md"


def test_examples_run():
    assert doctest.testfile(str(DOCUMENT), module_relative=False) == (0, 18)
    assert doctest.testmod(algebra).failed == 0


def test_the_tables_name_every_field_and_array():
    text = DOCUMENT.read_text()
    for name in (*Header.model_fields, *_ARRAYS):
        assert f"`{name}`" in text, name
    for name in _COLUMNS:
        assert f"`.{name}`" in text or f"`stories.{name}`" in text, name
