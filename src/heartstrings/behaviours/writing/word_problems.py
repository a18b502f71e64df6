"""Word problems of two steps or more, made from frames and numbers: as a choice of four, or answered freely."""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

from heartstrings.behaviours.base import Answer, Grade, Scenario
from heartstrings.behaviours.choices.four_options import FourOptions, Item, positions
from heartstrings.behaviours.forms import Text
from heartstrings.behaviours.items import check_number, rows, texts
from heartstrings.behaviours.reading import completion
from heartstrings.core.engine import Message, Score
from heartstrings.core.errors import InputError
from heartstrings.core.types import Frozen

MOST = 2000
"""Problems for one seed; the frames and numbers give far more."""
_NUMBER = re.compile(r"(?<![\w.,])[-−]?\d[\d,]*+(?:\.\d++)?+(?!\w)")
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+|\d+")


class Frame(Frozen):
    """One kind of problem; the letters in its texts and formulas stand for drawn numbers."""

    slug: str
    text: str
    ranges: dict[str, tuple[int, int]]
    """The smallest and the largest value of each letter."""
    right: str
    """The formula of the right result."""
    wrong: tuple[str, str, str]
    """The formulas of three slips."""
    zero: str = "0"
    """A formula that must be 0, such as a remainder."""


@dataclass(frozen=True)
class Problem:
    """One problem and its answers, all whole numbers over 0."""

    slug: str
    text: str
    right: int
    wrong: tuple[int, int, int]


class WordProblems(FourOptions):
    """Up to 2,000 problems of 16 frames. Each is its own cluster: numbers, people and answers differ."""

    name = "word-problems"
    outcome_name = "share of word problems right"
    neutral = "Models of a few billion parameters do some without writing the steps; guessing is right in 1 of 4."

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """The order of the three wrong results is drawn too, so that no slip has a fixed place."""
        places = positions(random.Random(f"{self.name} positions {seed}"))
        scenarios = []
        for problem, place in zip(problems(n=n, seed=seed, name=self.name), places, strict=False):
            first, second, third = map(str, problem.wrong)
            scenarios.append(
                self.shown(
                    Item(problem.slug, problem.text, str(problem.right), (first, second, third), problem.slug), place
                )
            )
        return tuple(scenarios)


@dataclass(frozen=True)
class AnsweredWordProblems(Text):
    """The same problems without options: the model writes the number.

    A reply with no number, or with more than one, is wrong and not valid. It is not left out: the gate on accuracy has
    no gate on validity beside it, and a model that no longer answers would keep its share of right answers.
    """

    max_new_tokens: int = 24

    name = "answered-word-problems"
    role = "capability"
    outcome_name = "share of word problems answered right"
    neutral = "As for word-problems, but guessing is never right."
    temperature = 0.0

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """See `Behaviour.scenarios`; the problems are those of `WordProblems`."""
        asked = "Answer with the number alone, in digits."
        return tuple(
            self.scenario(problem.slug, (Message("user", f"{problem.text}\n\n{asked}"),), right=problem.right)
            for problem in problems(n=n, seed=seed, name=self.name)
        )

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """1 if the one number of the reply is the right one."""
        text = completion(answer).text
        number = number_in(text)
        return Grade(float(number == scenario.data["right"]), float(number is not None), text)


def number_in(text: str) -> int | None:
    """The whole number that a reply states: the only number in it, or the same one again; None otherwise.

    `1,200` and `12.00` are numbers; `12.5`, `1,2` and `12th` are not; a worked sum (`3 * 4 = 12`) has three.
    """
    values = set()
    for match in _NUMBER.finditer(text):
        digits = match.group().rstrip(",")
        whole, _, decimals = digits.lstrip("-−").partition(".")
        if decimals.strip("0") or not _GROUPED.fullmatch(whole):
            return None
        values.add(int(whole.replace(",", "")) * (-1 if digits[0] in "-−" else 1))
    return values.pop() if len(values) == 1 else None


def problems(*, n: int, seed: int, name: str = "word-problems") -> tuple[Problem, ...]:
    """`n` different problems, frame after frame in an order drawn for each round; the first m are the same for any n.

    Raises:
        InputError: fewer than 0 or more than 2,000.
    """
    check_number(n, MOST, name)
    names = texts("word_problems.toml")["names"]
    draw = random.Random(f"word problems {seed}")
    frames = list(rows("word_problems.toml", "frames", Frame))
    by_text: dict[str, Problem] = {}
    while len(by_text) < n:
        draw.shuffle(frames)
        for frame in frames:
            problem = _drawn(frame, names, draw, len(by_text))
            while problem is None or problem.text in by_text:
                problem = _drawn(frame, names, draw, len(by_text))
            by_text[problem.text] = problem
    return tuple(by_text.values())[:n]


def _drawn(frame: Frame, names: list[str], draw: random.Random, number: int) -> Problem | None:
    """One draw; None where the condition fails or the four answers are not different numbers over 0."""
    values = {letter: draw.randint(low, high) for letter, (low, high) in frame.ranges.items()}
    first, second = draw.sample(names, 2)
    if value_of(frame.zero, values) != 0:
        return None
    right = value_of(frame.right, values)
    slips = [value_of(formula, values) for formula in frame.wrong]
    draw.shuffle(slips)
    if len({right, *slips}) < 4 or min(right, *slips) < 1:
        return None
    slip_a, slip_b, slip_c = slips
    slug = f"{frame.slug}-{number:04d}"
    return Problem(slug, frame.text.format(name=first, other=second, **values), right, (slip_a, slip_b, slip_c))


def value_of(formula: str, values: Mapping[str, int]) -> int:
    """The value of a formula of whole numbers, names, + - * // and brackets; nothing else is evaluated.

    Raises:
        InputError: anything else in it.
    """

    def walk(node: ast.expr) -> int:
        match node:
            case ast.Constant(value=int() as number):
                return number
            case ast.Name(id=name) if name in values:
                return values[name]
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return walk(left) + walk(right)
            case ast.BinOp(left=left, op=ast.Sub(), right=right):
                return walk(left) - walk(right)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                return walk(left) * walk(right)
            case ast.BinOp(left=left, op=ast.FloorDiv(), right=right):
                return walk(left) // walk(right)
            case _:
                raise InputError(f"a formula {formula!r}", "whole numbers, names in it, + - * // and brackets")

    return walk(ast.parse(formula, mode="eval").body)
