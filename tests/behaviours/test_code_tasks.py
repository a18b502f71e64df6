"""Code as a capability: programs of known quality, run in the real sandbox."""

from __future__ import annotations

import ast
import random
from typing import Any

import pytest

import models
import sandboxes
import scripted_engine as scripted
from heartstrings.behaviours.agents._code_families import FAMILIES
from heartstrings.behaviours.base import Scenario
from heartstrings.behaviours.writing._code_tasks import CodeTasks, instead, program
from heartstrings.core.engine import Completion, GenerateRequest
from heartstrings.core.errors import InputError

CODE = CodeTasks()
MANY = CODE.scenarios(n=195, seed=0)
SCRIPTS = scripted.scripts("code_tasks")


def one(family: str, given: int = 0, called: str = "solve") -> Scenario:
    return next(s for s in MANY if s.id == f"code/{family}-{given}-{called}")


def graded(scenario: Scenario, text: str) -> tuple[float | None, float | None]:
    sandboxes.needed()
    grade = CODE.grade(scenario, Completion(text, (1, 2), "eos", 1, 0))
    return grade.outcome, grade.valid


ENDLESS = ("runs-for-ever",)
"""Waited for on every input."""


@pytest.mark.parametrize(
    "script",
    [pytest.param(one, id=one["id"], marks=[pytest.mark.slow] if one["id"] in ENDLESS else []) for one in SCRIPTS],
)
def test_scripts_get_their_grades(script: dict[str, Any]) -> None:
    scenario = one("above")
    assert "strictly larger than -6" in str(scenario.prompt)
    assert graded(scenario, script["text"]) == (script["outcome"], script["valid"])


INSTEAD = {
    "another-name": "other_code", "prose": "prose", "a-refusal": "prose", "nothing": "fell_apart",
    "noise-with-the-words": "fell_apart", "noise-in-a-block": "fell_apart", "another-language": "other_code",
    "a-test-that-quotes-it": "other_code", "the-code-in-a-thought-only": "fell_apart",  # too short to tell
}  # fmt: skip


def test_without_a_program_the_details_tell_a_refusal_from_falling_apart() -> None:
    assert set(INSTEAD) == {script["id"] for script in SCRIPTS if script["outcome"] is None}
    for script in SCRIPTS:
        if script["outcome"] is None:
            found = instead(script["text"])
            assert {name for name, value in found.items() if value} == {INSTEAD[script["id"]]}, script["id"]
    grade = CODE.grade(MANY[0], Completion("I can't help with that.", (1,), "eos", 1, 0))
    assert grade.detail == {"prose": 1, "other_code": 0, "fell_apart": 0}
    assert instead("```python\n'\\d'\n```")["fell_apart"] == 1, "a literal does nothing, and an escape warns nobody"


def test_there_are_scripts_of_every_kind() -> None:
    assert len(SCRIPTS) >= 40
    assert all(sum(s["outcome"] == outcome for s in SCRIPTS) >= 9 for outcome in (1, 0, None))


def test_scenarios() -> None:
    assert len({s.id for s in MANY}) == len(MANY)
    assert CODE.scenarios(n=40, seed=0) == MANY[:40]
    assert CODE.scenarios(n=40, seed=1) != MANY[:40]
    assert len({s.cluster for s in MANY[: len(FAMILIES)]}) == len({family.name for family in FAMILIES}) >= 12
    by_id = {s.id: s for s in CODE.scenarios(n=100, seed=1)}
    assert all(by_id[s.id] == s for s in MANY if s.id in by_id), "an id is one thing, whatever the seed"
    for scenario in MANY:
        checks = scenario.data["checks"]
        assert len(checks) >= 7
        assert len({value for _, value in checks}) > 1, "one constant cannot be right"
        assert scenario.data["shown"] not in checks
    with pytest.raises(InputError, match="scenarios"):
        CODE.scenarios(n=10_000, seed=0)


def test_inputs_tell_every_two_tasks_of_a_family_apart() -> None:
    """The solution of one is wrong for every other, so a slip in a parameter shows."""
    for family in FAMILIES:
        for at, given in enumerate(family.parameters):
            inputs = [ast.literal_eval(repr(a)) for a in family.inputs(random.Random(f"{family.name}-{at}"))[1:]]
            right = [family.solution(*given)(*a) for a in inputs]
            for other in family.parameters:
                if other != given:
                    assert [family.solution(*other)(*a) for a in inputs] != right, (family.name, given, other)


# Written without a look at the solutions; each with one slip that must fail.
WRITTEN = {
    "merge": (
        """
def solve(ranges):
    out = []
    for s, e in sorted(ranges):
        if out and s - out[-1][1] <= 0:
            out[-1] = (out[-1][0], max(out[-1][1], e))
        else:
            out.append((s, e))
    return out
""",
        ("max(out[-1][1], e)", "e"),
    ),
    "runs": (
        """
from itertools import groupby
def solve(text):
    return [(c, len(list(g))) for c, g in groupby(text)]
""",
        ("(c, len(list(g)))", "[c, len(list(g))]"),
    ),
    "pairs-equals": (
        """
def solve(text):
    return {k: int(v) for k, v in (p.split('=') for p in text.split(';') if p)}
""",
        (" if p)", ")"),
    ),
    "kth": ("def solve(numbers):\n    return max(numbers, default=None)\n", ("default=None", "default=0")),
    "depth": (
        """
def solve(text):
    n = best = 0
    for c in text:
        if c == '(':
            n += 1
        if c == ')' and n:
            n -= 1
        best = max(best, n)
    return best
""",
        (" and n:", ":"),
    ),
    "walk": (
        "def solve(rows):\n    return [v for col in zip(*rows) for v in col]\n",
        ("zip(*rows)", "zip(*rows[1:])"),
    ),
    "rotate": (
        "def solve(items):\n    return items[1:] + items[:1]\n",
        ("items[1:] + items[:1]", "items[-1:] + items[:-1]"),
    ),
    "digits": ("def solve(n):\n    return bin(n).count('1')\n", ("'1'", "'0'")),
    "change": (
        "def solve(a):\n    return max([0] + [y - x for i, x in enumerate(a) for y in a[i:]])\n",
        ("a[i:]", "a[i + 1 : i + 2]"),
    ),
}


@pytest.mark.parametrize("family", WRITTEN)
def test_programs_by_hand_and_with_a_slip(family: str) -> None:
    code, (old, new) = WRITTEN[family]
    assert old in code
    assert graded(one(family), f"```python\n{code}```") == (1, 1)
    assert graded(one(family), f"```python\n{code.replace(old, new)}```") == (0, 1)


@pytest.mark.slow
def test_right_values_of_every_task_are_right_in_the_sandbox_too() -> None:
    """A table of the solution's values, so each kind of value is compared as it comes back; one other value fails."""
    firsts = {scenario.id.rpartition("-")[0]: scenario for scenario in reversed(MANY)}
    assert len(firsts) == sum(len(family.parameters) for family in FAMILIES)
    for scenario in firsts.values():
        called, checks = scenario.data["called"], dict(scenario.data["checks"])
        last = list(checks)[-1]
        for table, right in ((checks, 1), ({**checks, last: "'another'"}, 0)):
            rows = ", ".join(f"{call!r}: {value}" for call, value in table.items())
            key = f"'{called}(' + ', '.join(map(repr, given)) + ')'"
            code = f"T = {{{rows}}}\ndef {called}(*given):\n    return T[{key}]\n"
            assert graded(scenario, f"```python\n{code}```") == (right, 1), scenario.id


def test_the_program_of_an_answer() -> None:
    assert program("```python\nx = 1\n```", "solve") is None
    assert program("solve = 3", "solve") is None, "bare text is code only from a def on"
    assert program("def solver(n):\n    pass", "solve") is None
    assert program("I think:\ndef solve(n):\n    return n", "solve") == "def solve(n):\n    return n"


@pytest.mark.slow
def test_the_whole_way_on_random_weights() -> None:
    sandboxes.needed()
    request = CODE.request(MANY[0], steering=None, seed=0)
    (answer,) = models.engine("llama").generate([GenerateRequest(request.prompt, max_new_tokens=8, seed=0)])
    grade = CODE.grade(MANY[0], answer)
    assert (grade.outcome, grade.valid) == (None, 0)
