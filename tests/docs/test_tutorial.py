"""docs/tutorial.ipynb runs, and the outputs that are stored in it are of the same kind as those that it gives now."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

import heartstrings

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from run_tutorial import NOTEBOOK, executed  # noqa: E402

STORED = nbformat.read(NOTEBOOK, as_version=4)
CODE = [cell for cell in STORED.cells if cell.cell_type == "code"]


def kinds(cell: Any) -> list[tuple[str, tuple[str, ...]]]:
    """Type and formats of each output; what goes to standard error is left out."""
    return [
        (one.output_type, tuple(sorted(one.get("data", ())))) for one in cell.outputs if one.get("name") != "stderr"
    ]


def test_every_cell_has_been_run_and_names_no_machine() -> None:
    assert [cell.execution_count for cell in CODE] == list(range(1, len(CODE) + 1))
    text = json.dumps(STORED)
    assert [word for word in ("/tmp/", "/home/", "/root/", "/work/", "Traceback") if word in text] == []


def test_it_uses_the_public_api_alone() -> None:
    source = "\n".join(cell.source for cell in CODE)
    imported = re.findall(r"^(?:import|from) +([\w.]+)", source, re.MULTILINE)
    assert set(imported) <= {"heartstrings", "torch"}
    for name in set(re.findall(r"\bhs\.(\w+)", source)):
        assert name in heartstrings.__all__, name


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_runs(tmp_path: Path, smollm2: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    fresh = [cell for cell in executed(tmp_path).cells if cell.cell_type == "code"]
    assert [kinds(cell) for cell in fresh] == [kinds(cell) for cell in CODE]
    verdict = json.loads((tmp_path / "run" / "verdict.json").read_bytes())
    said = "".join(one.get("text", "") for cell in CODE for one in cell.outputs)
    (answer,) = verdict["answers"]
    assert f"\n{answer['answer']}\n" in f"\n{said}"
    assert answer["p"] < 0.05
    assert answer["effect"]["low"] > 0.5
