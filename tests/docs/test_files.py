"""docs/files.md and docs/vectors.md: the described files, fields and columns are those that the code writes."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import pytest

from heartstrings.experiment import SampleLedger, ledger
from heartstrings.experiment.plan import Plan
from heartstrings.experiment.plan_files import preset
from heartstrings.vectors.bundle import Header
from heartstrings.verdict.results import AnswerCard, Verdict

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
GALLERY = sorted((DOCS / "gallery").glob("*/verdict.json"))


def section(page: str, heading: str) -> str:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.split(r"^## ", text, flags=re.MULTILINE)[
        [*re.findall(r"^## (.*)$", text, re.MULTILINE)].index(heading) + 1
    ]


def first_column(text: str) -> list[str]:
    """Names in backticks in the first column of the section's tables."""
    rows = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def test_the_fields_of_a_plan() -> None:
    described = section("files.md", "`plan.json`")
    assert sorted(first_column(described)) == sorted(Plan.model_fields)
    for table in ("controls", "claims", "samples"):
        (row,) = re.findall(rf"^\| `{table}` \| (.*) \|$", described, re.MULTILINE)
        assert set(re.findall(r"`(\w+)`", row)) == set(Plan.model_fields[table].annotation.model_fields)  # type: ignore[union-attr]


def test_the_fields_of_a_verdict() -> None:
    described = section("files.md", "`verdict.json`")
    assert sorted(first_column(described)) == sorted(Verdict.model_fields)
    (used,) = re.findall(r"most used fields of an answer are (.*?)\.", described, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", used)) <= set(AnswerCard.model_fields)


@pytest.mark.parametrize("path", GALLERY, ids=lambda path: path.parent.name)
def test_the_files_of_the_gallery_have_them(path: Path) -> None:
    """Files of earlier days may lack what came later, and hold nothing that the page does not name."""
    written = json.loads(path.read_bytes())
    assert set(written) <= set(first_column(section("files.md", "`verdict.json`")))
    frozen = json.loads(path.with_name("plan.json").read_bytes())
    assert set(frozen) == {"hash", "plan"}
    assert set(frozen["plan"]) <= set(first_column(section("files.md", "`plan.json`")))


def test_the_columns_of_a_ledger(tmp_path: Path) -> None:
    described = section("files.md", "`ledger.sqlite`")
    path = tmp_path / "ledger.sqlite"
    with SampleLedger(path, preset("quick", "organism:steerable")):
        pass
    db = sqlite3.connect(path)
    columns = {table: [(row[1], row[2].lower(), row[5]) for row in db.execute(f"PRAGMA table_info({table})")]
               for (table,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}  # fmt: skip
    db.close()
    assert set(columns) == {"samples", "judgements", "meta"}
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", described, re.MULTILINE)
    assert rows == [(name, kind) for name, kind, _ in columns["samples"]]
    assert [name for name, _, key in columns["samples"] if key] == list(ledger.KEY)
    assert tuple(name for name, _ in rows[:8]) == ledger.KEY
    (more,) = re.findall(r"same eight columns and (.*?)\. Table", described, re.DOTALL)
    assert re.findall(r"`(\w+)`", more) == [name for name, _, key in columns["judgements"] if not key]
    assert [name for name, _, _ in columns["meta"]] == ["name", "value"]


def test_the_fields_of_a_bundle() -> None:
    described = section("vectors.md", "The bundle")
    fields, arrays = described.split("| array in")
    assert sorted(first_column(fields)) == sorted(Header.model_fields)
    from heartstrings.vectors import bundle

    named = first_column(arrays)
    assert {name for name in named if not name.startswith((".", "stories", "neutral"))} == set(bundle._ARRAYS)
    columns = {name.removeprefix("stories").lstrip(".") for name in named if name.startswith((".", "stories"))}
    assert columns == set(bundle._COLUMNS)


def test_the_files_of_a_run_are_named_in_the_code() -> None:
    """Each file of the page is written under that name by a module, in a string of its own."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src" / "heartstrings").rglob("*.py"))
    names = first_column(section("files.md", "The folder of a run"))
    names += first_column(section("files.md", "The folder of an atlas"))
    assert len(names) == 20
    for name in names:
        if name == "verdict-look1.json":
            assert 'f"verdict-look{' in source
        else:
            assert f'"{name.rstrip("/")}"' in source, name
