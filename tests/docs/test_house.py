"""The order of the house: what docs/architecture.md says of it, and what import-linter cannot see."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "heartstrings"
LOCAL_IMPORTS = 25
"""Imports of our own package within a function, at most: each keeps start-up or an optional dependency away."""


def modules() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SOURCE.rglob("*.py"))}


def test_every_module_is_in_a_room() -> None:
    assert {path.name for path in SOURCE.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_every_path_on_the_page_exists() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_]+/[a-z_/]*(?:\.py)?)`", page))
    assert len(named) > 30
    assert [name for name in named if not (SOURCE / name).exists()] == []
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir()} - {"data", "__pycache__"}
    assert {name.rstrip("/") for name in named if name.count("/") == 1 and name.endswith("/")} >= rooms


def test_one_function_adds_a_dose() -> None:
    """Whatever moves a residual along a direction calls `apply`."""
    adding = re.compile(r"\* (unit|direction|vector)\b|\b(unit|direction|vector) \*")
    engines = (SOURCE / "engines").rglob("*.py")
    assert {path.name for path in engines if adding.search(path.read_text(encoding="utf-8"))} == {"_dose.py"}


def test_few_imports_hide_in_functions() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path, tree in modules().items()
        for function in ast.walk(tree) if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("heartstrings"))
        or (isinstance(node, ast.Import) and any(one.name.startswith("heartstrings") for one in node.names))
    ]  # fmt: skip
    assert len(set(found)) <= LOCAL_IMPORTS, found
