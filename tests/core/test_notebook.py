"""What a notebook shows is one escaped table that sets no colours of its own."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import report_atlas
import report_verdict as made
from heartstrings.core.errors import InputError
from heartstrings.core.notebook import html_table
from heartstrings.geometry.results import Geometry
from heartstrings.vectors.emotion_vectors import EmotionVectors
from heartstrings.verdict.results import SCHEMA_VERSION, Verdict
from interop_support import bundle


def shown(value: Any) -> str:
    found: str = value._repr_html_()
    assert found.count("<table") == found.count("</table>") == 1
    assert not re.search(r"<script|#[0-9a-f]{3}\b|rgb\(|color:(?!inherit)", found)
    return found


def test_cells_are_escaped() -> None:
    found = html_table("<b>", ["<i>"], [["<script>alert(1)</script>"]], note="a & b")
    assert "<script>" not in found
    assert all(words in found for words in ("&lt;b&gt;", "&lt;i&gt;", "a &amp; b", "&lt;script&gt;"))


def test_vectors() -> None:
    vectors = bundle((1, 3))
    found = shown(vectors)
    assert all(name in found for name in vectors.emotions)
    assert "layers 1 to 3 (2)" in found
    many = EmotionVectors(
        emotions=tuple(f"emotion {n}" for n in range(20)), layers=(0,),
        raw=vectors.raw[:1, :1].repeat(20, axis=1), provenance=vectors.provenance,
    )  # fmt: skip
    assert "and 8 more emotions" in shown(many)


def test_reliability_that_is_known_at_no_layer_is_a_dash() -> None:
    vectors = bundle((1, 3))
    reliability = np.full((2, len(vectors.emotions)), np.nan, np.float32)
    reliability[0, 1] = 0.5
    found = shown(replace(vectors, reliability=reliability))
    cells = re.findall(r"<td[^>]*>([^<]*)</td></tr>", found)
    assert cells == ["–", "0.50", *["–"] * (len(vectors.emotions) - 2)]


def test_geometry(tmp_path: Path) -> None:
    folder = report_atlas.full(tmp_path / "atlas")
    result = Geometry.model_validate_json((folder / "geometry.json").read_bytes())
    hostile = result.model_copy(update={"model": "<script>alert(1)</script>"})
    assert "&lt;script&gt;" in shown(hostile)
    assert shown(result).count("<tr>") == len(result.layers) + 1


def test_verdict_is_read_and_shown(tmp_path: Path) -> None:
    verdict = made.verdict(made.card())
    (tmp_path / "verdict.json").write_text(verdict.model_dump_json())
    assert Verdict.load(tmp_path) == Verdict.load(tmp_path / "verdict.json") == verdict
    found = shown(verdict)
    assert found.count("<tr>") == len(verdict.answers) + 1
    assert verdict.answers[0].answer in found
    with pytest.raises(InputError, match="no verdict"):
        Verdict.load(tmp_path / "none")
    (tmp_path / "verdict.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read"):
        Verdict.load(tmp_path)
    newer = verdict.model_copy(update={"schema_version": SCHEMA_VERSION + 1})
    (tmp_path / "verdict.json").write_text(newer.model_dump_json())
    with pytest.raises(InputError, match="schema version"):
        Verdict.load(tmp_path)
