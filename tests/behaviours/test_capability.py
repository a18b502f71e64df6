"""Capability: word problems, facts and reading. The keys are right, the letters balanced, the graders strict."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import models
from heartstrings.behaviours.base import Behaviour
from heartstrings.behaviours.choices.four_options import LETTERS, FourOptions
from heartstrings.behaviours.choices.general_facts import GeneralFacts, facts
from heartstrings.behaviours.writing.passages import Passages
from heartstrings.behaviours.writing.word_problems import (
    AnsweredWordProblems,
    WordProblems,
    number_in,
    problems,
    value_of,
)
from heartstrings.core.engine import Completion, Score
from heartstrings.core.errors import InputError
from heartstrings.engines.hf.engine import TorchEngine

SCRIPTED = Path(__file__).parents[1] / "data" / "scripted" / "word_problems.jsonl"
FOUR = [WordProblems(), GeneralFacts(), Passages()]
EVERY: list[Behaviour] = [*FOUR, AnsweredWordProblems()]


def named(one: Behaviour) -> str:
    return one.name


def score(*logprobs: float) -> Score:
    empty = tuple(np.zeros(1, np.float32) for _ in logprobs)
    return Score(logprobs, empty, tuple((0,) for _ in logprobs), 1)


@pytest.mark.parametrize("one", EVERY, ids=named)
def test_scenarios_are_a_prefix_of_more_and_differ(one: Behaviour) -> None:
    many = one.scenarios(n=400, seed=3)
    assert one.scenarios(n=37, seed=3) == many[:37]
    assert len({s.id for s in many}) == len({s.prompt for s in many}) == 400
    assert one.scenarios(n=37, seed=4) != many[:37]
    assert isinstance(one, Behaviour)
    assert one.role == "capability"
    with pytest.raises(InputError, match="there are no more"):
        one.scenarios(n=100_000, seed=0)


@pytest.mark.parametrize("one", FOUR, ids=named)
def test_the_right_letter_is_balanced_in_any_prefix_and_options_differ(one: FourOptions) -> None:
    many = one.scenarios(n=400, seed=0)
    for n in (8, 61, 400):
        counts = Counter(s.data["right"] for s in many[:n])
        assert max(counts.values()) - min(counts[letter] for letter in LETTERS) <= 2
    for s in many:
        assert len({option.lower() for option in s.data["options"]}) == 4
        assert s.replies == (" A", " B", " C", " D")
        for letter, option in zip(LETTERS, s.data["options"], strict=True):
            assert f"\n{letter}. {option}" in s.prompt[0].content


def test_facts_come_once_each_before_any_is_rotated() -> None:
    n = len(facts())
    assert n >= 150
    every = GeneralFacts().scenarios(n=4 * n, seed=1)
    assert len({s.group for s in every[:n]}) == n
    by_fact: dict[str, set[str]] = {}
    for s in every:
        by_fact.setdefault(s.group, set()).add(s.data["right"])
        assert s.data["options"][LETTERS.index(s.data["right"])] in {f.right for f in facts()}
    assert all(letters == set(LETTERS) for letters in by_fact.values())


def test_word_problems_have_their_answers_checked_by_hand() -> None:
    """Frames with numbers put in by eye: the first of each kind, solved in another way than by the formula."""
    found = {one.slug.rsplit("-", 1)[0]: one for one in problems(n=64, seed=0)}
    assert len(found) == 16
    for slug, one in found.items():
        values = [int(word) for word in re.findall(r"\d+", one.text)]
        match slug, values:
            case "crates", [a, b, c]:
                right = sum(b for _ in range(a)) - c
            case "train", [a, b, c, d]:
                right = a + c - (b + d)
            case "share", [b, a, c]:
                right, rest = divmod(a, b + 1)
                assert rest == 0
                right -= c
            case "boxes", [a, b, c]:
                assert a % b == 0
                right = len(range(0, a, b)) - c
            case "half", [a, b]:
                assert a % 2 == 0
                right = a // 2 + b
            case "tank", [a, b, c, d]:
                right = a
                for _ in range(d):
                    right += c - b
            case "minutes", [a, b, c]:
                right = a + b + c + c + b + a
            case "steps", [a, b, c, d]:
                right = a * b - c * b + d
            case "change", [a, b, c, d]:
                right = d - (a * b + c)
            case "bakery", [a, b, c]:
                right = a * b - c - (c + c)
            case _:
                continue
        assert one.right == right, one.text
        assert one.right not in one.wrong


@pytest.mark.parametrize("formula", ["__import__('os')", "a.b", "2 ** 9", "x + 1", "1.5", "a if a else 1"])
def test_formulas_are_nothing_but_sums(formula: str) -> None:
    with pytest.raises(InputError, match="formula"):
        value_of(formula, {"a": 1})


def test_the_passage_tells_the_answer_and_nothing_else_does() -> None:
    every = Passages().scenarios(n=300, seed=0)
    asked = Counter(s.group for s in every)
    assert set(asked.values()) == {3}
    assert len(asked) == 100
    tempting = 0
    for s in every:
        passage = s.prompt[0].content.partition("\n")[0].lower()
        right = s.data["options"][LETTERS.index(s.data["right"])]
        assert right.lower() in passage
        tempting += any(option.lower() in passage for option in s.data["options"] if option != right)
        assert not re.search(r"[{}]", s.prompt[0].content)
    assert tempting > 100  # finding an option in the text is not enough


def test_a_letter_is_right_only_if_it_is_the_likeliest() -> None:
    one = GeneralFacts()
    for s in one.scenarios(n=8, seed=0):
        right = LETTERS.index(s.data["right"])
        logs = [-3.0, -3.0, -3.0, -3.0]
        assert one.grade(s, score(*logs)).outcome == 0.0  # a tie
        logs[right] = -1.0
        grade = one.grade(s, score(*logs))
        assert grade.outcome == 1.0
        assert grade.detail["p_right"] == pytest.approx(np.exp(-1) / (np.exp(-1) + 3 * np.exp(-3)))
        assert grade.valid == pytest.approx(np.exp(-1) + 3 * np.exp(-3))
        logs[right - 1] = -0.5
        assert one.grade(s, score(*logs)).outcome == 0.0
    with pytest.raises(InputError, match="score of 4"):
        one.grade(s, score(-1.0, -2.0))


@pytest.mark.parametrize("line", SCRIPTED.read_text(encoding="utf-8").splitlines())
def test_scripted_replies(line: str) -> None:
    case, one = json.loads(line), AnsweredWordProblems()
    s = one.scenarios(n=1, seed=0)[0]
    s = type(s)(s.id, s.prompt, data={"right": case["right"]})
    grade = one.grade(s, Completion(case["text"], (), "eos", 1, 0))
    assert (grade.outcome, grade.valid) == (case["outcome"], case["valid"]), number_in(case["text"])


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_the_way_through_a_tiny_model(family: str) -> None:
    """Random weights: valid requests, and accuracy about that of guessing."""
    engine: TorchEngine = models.engine(family, tokenizer=models.tokenizer(chat=True))
    right = []
    for one in FOUR:
        asked = one.scenarios(n=16, seed=0)
        scores = engine.score([one.request(s, steering=None, seed=0) for s in asked])
        right += [one.grade(s, answer).outcome for s, answer in zip(asked, scores, strict=True)]
    assert 0.05 < np.mean(right) < 0.6
    free = AnsweredWordProblems(max_new_tokens=4)
    asked = free.scenarios(n=3, seed=0)
    texts = engine.generate([free.request(s, steering=None, seed=0) for s in asked])
    assert [free.grade(s, text).outcome for s, text in zip(asked, texts, strict=True)] == [0.0, 0.0, 0.0]
