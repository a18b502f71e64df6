"""docs/verdict.md: every field, every threshold, and sentences that are what the code says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from heartstrings.experiment.plan import Thresholds
from heartstrings.verdict import results
from heartstrings.verdict.results import Answer
from verdict_worlds import World, card

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "verdict.md").read_text(encoding="utf-8")
STEERABLE = World(effect={"desperate": 0.7})
SHOWN = {
    "steerable": card(STEERABLE),
    "entangled": card(STEERABLE.but(harm=lambda dose: 2 * max(dose, 0.0))),
    "inert": card(World()),
    "blank": card(World(), encoded="not encoded"),
    "weak": card(World(effect={"desperate": 0.1}, between=0.4)),
}


@pytest.mark.parametrize("name", SHOWN)
def test_sentences(name: str) -> None:
    flat = " ".join(line.removeprefix("> ") for line in PAGE.splitlines())
    assert SHOWN[name].sentence in flat, SHOWN[name].sentence


def test_every_field_is_named() -> None:
    values = [value for value in vars(results).values() if hasattr(value, "model_fields")]
    fields = {field for value in values if value.__module__ == results.__name__ for field in value.model_fields}
    assert {field for field in fields if f"`{field}`" not in PAGE} == set()


def test_every_answer_is_named() -> None:
    assert all(f"| `{answer}` |" in PAGE for answer in get_args(Answer))


def test_thresholds_are_the_defaults() -> None:
    table = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", PAGE, re.MULTILINE))
    assert {name: float(value) for name, value in table.items()} == Thresholds().model_dump()


def test_the_example_runs() -> None:
    for body in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        exec(compile(body, "docs/verdict.md", "exec"), {})
