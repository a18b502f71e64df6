"""The forms that a new behaviour inherits from: the page's example, what is missing, and what can be changed."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from heartstrings.behaviours import forms, suites
from heartstrings.behaviours.agents.tool_dialogue import ToolDialogue
from heartstrings.behaviours.base import Behaviour, Compared, Dialogue, Judged, Scenario
from heartstrings.behaviours.choices.four_options import FourOptions
from heartstrings.behaviours.choices.two_options import TwoOptions
from heartstrings.behaviours.items import check_number, drawn, texts
from heartstrings.behaviours.text.likelihood import InWords
from heartstrings.core.engine import Completion, ScoreRequest
from heartstrings.core.errors import InputError

PACKAGE = Path(suites.__file__).parent
PAGE = Path(__file__).resolve().parents[2] / "docs" / "behaviours.md"
FORMS: tuple[Any, ...] = (
    forms.Choice, forms.Listed, forms.Text, forms.FreeText, forms.JudgedText, forms.Forwarding, TwoOptions, FourOptions,
    InWords, ToolDialogue,
)  # fmt: skip


def test_the_example_of_the_docs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(suites, "SUITES", dict(suites.SUITES))
    (block,) = re.findall(r"```python\n((?:(?!```).)*?class Doors.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    found: dict[str, Any] = {"__name__": "doors"}
    exec(block, found)
    said = re.findall(r"# (.+)$", "\n".join(re.findall(r"^print.*$", block, re.MULTILINE)), re.MULTILINE)
    assert capsys.readouterr().out.splitlines() == said
    doors = found["doors"]
    assert isinstance(doors, Behaviour)
    assert not isinstance(doors, Compared | Dialogue | Judged)
    assert (doors.ask, doors) == ("choice", found["Doors"]())
    assert len({one.group for one in doors.scenarios(n=9, seed=0)}) == 9
    with pytest.raises(InputError, match="0 or more"):
        doors.scenarios(n=-1, seed=0)


def test_the_page_says_where_every_form_is_imported_from() -> None:
    rows = re.findall(r"^\| `(\w+)`[^|]*\| `([\w.]+)` \|[^|]*\| ([^|]*) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert sorted(name for name, _, _ in rows) == sorted(form.__name__ for form in FORMS)
    for form in FORMS:
        place = next(module for name, module, _ in rows if name == form.__name__)
        assert getattr(importlib.import_module(f"heartstrings.{place}"), form.__name__) is form
    files = [file for _, _, example in rows for file in re.findall(r"`([\w/]+\.py)`", example)]
    assert len(files) >= len(FORMS)
    assert [file for file in files if not (PACKAGE / file).is_file()] == []


@pytest.mark.parametrize("form", FORMS, ids=lambda one: one.__name__)
def test_a_form_says_what_is_missing(form: Any) -> None:
    with pytest.raises(TypeError, match=r"abstract.*\b(name|scenarios)\b"):
        form()


@dataclass(frozen=True)
class Notes(forms.JudgedText):
    """Three notes."""

    max_new_tokens: int = 9

    name = "notes"
    role = "writing"
    outcome_name = "rate of notes"
    neutral = "None."
    rubric = "praise"

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        return tuple(self.scenario(one, f"Note {one}.", cluster="all", n=n) for one in drawn("abc", n, seed, self.name))


def test_a_parameter_is_a_field_and_a_constant_is_not() -> None:
    assert replace(Notes(), max_new_tokens=3, least_words=1) == Notes(max_new_tokens=3, least_words=1) != Notes()
    with pytest.raises(TypeError, match="name"):
        replace(Notes(), name="other")  # type: ignore[call-arg]
    (one,) = Notes().scenarios(n=1, seed=0)
    assert (one.id, one.cluster, one.data) == (f"notes/{one.id[-1]}", "notes:all", {"n": 1})
    request = Notes().request(one, steering=None, seed=5)
    assert (request.max_new_tokens, request.temperature, request.seed) == (9, 1.0, 5)
    said = Completion("One two three four.", (1,), "eos", 1, 0)
    assert isinstance(Notes().follow_up(one, said), ScoreRequest)
    assert Notes().grade(one, said).outcome is None
    assert isinstance(Notes(), Judged)


def test_a_parameter_needs_its_type() -> None:
    with pytest.raises(InputError, match=r"Longer\.max_new_tokens without a type.*Add the type"):

        class Longer(Notes):
            max_new_tokens = 99


def test_items_are_drawn_by_the_seed_and_counted() -> None:
    every = drawn("abcdefgh", 8, 0, "letters")
    assert sorted(every) == [*"abcdefgh"]
    assert drawn("abcdefgh", 3, 0, "letters") == every[:3]
    assert drawn("abcdefgh", 8, 1, "letters") != every
    assert drawn("abcdefgh", 8, 0, "others", order="letters") == every != drawn("abcdefgh", 8, 0, "others")
    for n in (-1, 9):
        with pytest.raises(InputError, match=f"{n} scenarios of letters. Expected 0 to 8"):
            drawn("abcdefgh", n, 0, "letters")
    check_number(10**9, None, "letters")


@pytest.mark.parametrize("file", sorted((PACKAGE / "data").rglob("*.toml")), ids=lambda one: one.stem)
def test_every_file_of_texts_can_be_read(file: Path) -> None:
    assert texts(file.relative_to(PACKAGE / "data").as_posix())
