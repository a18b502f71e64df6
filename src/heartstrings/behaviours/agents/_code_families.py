"""Small Python functions to write: families of tasks with parameters, each with its own right solution.

For each set of parameters a family gives the task in words, a solution, and inputs on which right and wrong programs
differ, edge cases included. Solutions stay in this process: the sandbox gets a program and inputs, never right values.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from typing import Any

Inputs = Sequence[tuple[Any, ...]]
_WORDS = ("lamp", "river", "otter", "bell", "cedar", "moss", "kite", "anchor", "chestnut", "lighthouse")


@dataclass(frozen=True)
class Family:
    """One kind of task."""

    name: str
    arguments: str
    parameters: tuple[tuple[Any, ...], ...]
    """Each makes a task of its own."""
    asked: Callable[..., str]
    """(parameters) -> the task in a sentence or two."""
    solution: Callable[..., Callable[..., Any]]
    """(parameters) -> a right function."""
    inputs: Callable[[random.Random], Inputs]
    """Arguments of the calls that are checked."""


def _numbers(draw: random.Random) -> Inputs:
    drawn = [[draw.randint(-20, 20) for _ in range(draw.randint(4, 12))] for _ in range(6)]
    return [(numbers,) for numbers in (*drawn, [], [7], [5, 5, 5, 5], list(range(-12, 13)))]


def _texts(draw: random.Random) -> Inputs:
    drawn = [" ".join(draw.choice(_WORDS) for _ in range(draw.randint(2, 6))) for _ in range(5)]
    return [(text,) for text in (*drawn, "", "a", "xyz XYZ 9!", "aabbbcccc", "zzzz")]


def _integers(draw: random.Random) -> Inputs:
    return [(n,) for n in (0, 1, 7, 10, 255, 256, *(draw.randint(2, 10_000) for _ in range(5)))]


def _matrices(draw: random.Random) -> Inputs:
    sizes = [(1, 1), (1, 4), (4, 1), *((draw.randint(2, 5), draw.randint(2, 5)) for _ in range(5))]
    return [([[draw.randint(0, 99) for _ in range(wide)] for _ in range(high)],) for high, wide in sizes]


def _ranges(draw: random.Random) -> Inputs:
    def one() -> list[tuple[int, int]]:
        starts = [draw.randint(0, 60) for _ in range(draw.randint(2, 7))]
        return [(start, start + draw.randint(0, 9)) for start in starts]

    return [
        (rows,)
        for rows in (
            *(one() for _ in range(7)),
            [],
            [(3, 3)],
            [(1, 10), (2, 3)],
            [(1, 4), (4, 6), (7, 8), (10, 11), (14, 15)],
        )
    ]


def _pairs(mark: str, gap: str) -> Callable[[random.Random], Inputs]:
    def inputs(draw: random.Random) -> Inputs:
        def one() -> str:
            return gap.join(f"{draw.choice(_WORDS)}{mark}{draw.randint(-9, 99)}" for _ in range(draw.randint(1, 6)))

        return [(text,) for text in (*(one() for _ in range(7)), "", f"a{mark}1{gap}a{mark}2")]

    return inputs


def _brackets(draw: random.Random) -> Inputs:
    drawn = ["".join(draw.choice("()[]{}x") for _ in range(draw.randint(5, 16))) for _ in range(7)]
    return [(text,) for text in (*drawn, "", "((()))", "[[]][", "{}{}", "x")]


def _ordered(of: Sequence[Any]) -> list[Any]:
    return [key for key, _ in groupby(of)]


def _merged(gap: int, rows: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(rows):
        if merged and start - merged[-1][1] <= gap:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _based(base: int, n: int) -> list[int]:
    digits = [n % base]
    while n >= base:
        n //= base
        digits.append(n % base)
    return digits[::-1]


def _walked(way: str, rows: Sequence[Sequence[int]]) -> list[int]:
    if way == "columns":
        return [value for column in zip(*rows, strict=True) for value in column]
    if way == "snake":
        return [value for at, row in enumerate(rows) for value in (row[::-1] if at % 2 else row)]
    high, wide = len(rows), len(rows[0])
    return [rows[i][total - i] for total in range(high + wide - 1) for i in range(high) if 0 <= total - i < wide]


def _depth(left: str, right: str, text: str) -> int:
    deepest = now = 0
    for sign in text:
        now += (sign == left) - (sign == right)
        now = max(now, 0)
        deepest = max(deepest, now)
    return deepest


def _shifted(by: int, text: str) -> str:
    return "".join(chr((ord(c) - 97 + by) % 26 + 97) if "a" <= c <= "z" else c for c in text)


def _largest_change(way: str, numbers: Sequence[int]) -> int:
    sign = 1 if way == "rise" else -1
    return max([0, *(sign * (b - a) for at, a in enumerate(numbers) for b in numbers[at + 1 :])])


_WAYS = {
    "columns": "column by column, each from top to bottom, the leftmost column first",
    "snake": "row by row from the top, the first row from left to right, the next from right to left, and so on "
    "in turn",
    "diagonals": "by its diagonals that run from the upper right to the lower left, beginning at the upper left "
    "corner; within a diagonal from top to bottom",
}

FAMILIES: tuple[Family, ...] = (
    Family(
        "every", "items", tuple((k,) for k in range(2, 8)),
        lambda k: f"return a list of every {k}th element of the list `items`, counting from one: the {k}th, the "
        f"{2 * k}th and so on",
        lambda k: lambda items: items[k - 1 :: k], _numbers,
    ),
    Family(
        "above", "numbers", tuple((t,) for t in range(-6, 12, 3)),
        lambda t: f"return how many of the list `numbers` are strictly larger than {t}",
        lambda t: lambda numbers: sum(n > t for n in numbers), _numbers,
    ),
    Family(
        "rotate", "items", tuple((k,) for k in range(1, 8)),
        lambda k: f"return the list `items` turned to the left by {k} places, what falls off in front coming back "
        f"at the end; lists shorter than {k} turn as often as that takes",
        lambda k: lambda items: items[k % len(items) :] + items[: k % len(items)] if items else [], _numbers,
    ),
    Family(
        "shift", "text", tuple((k,) for k in (1, 2, 3, 5, 7, 11, 13)),
        lambda k: f"replace each small letter a to z of `text` by the one {k} places later in the alphabet, going "
        "on at a after z; everything else stays",
        lambda k: lambda text: _shifted(k, text), _texts,
    ),
    Family(
        "runs", "text", tuple((m,) for m in range(1, 5)),
        lambda m: f"return the runs of equal characters in `text` of length {m} or more, in order, as a list of tuples "
        "(character, length)",
        lambda m: lambda text: [(c, n) for c, run in groupby(text) if (n := len(list(run))) >= m], _texts,
    ),
    Family(
        "digits", "n", tuple((b,) for b in (2, 3, 5, 7, 8, 9)),
        lambda b: f"return the sum of the digits of the whole number `n` (0 or more) written in base {b}",
        lambda b: lambda n: sum(_based(b, n)), _integers,
    ),
    Family(
        "base", "n", tuple((b,) for b in (2, 3, 4, 6, 8, 9)),
        lambda b: f"return the whole number `n` (0 or more) written in base {b}, as a text of digits without "
        "zeros in front",
        lambda b: lambda n: "".join(map(str, _based(b, n))), _integers,
    ),
    Family(
        "merge", "ranges", tuple((g,) for g in range(4)),
        lambda g: "`ranges` is a list of tuples (start, end) of whole numbers. Return them merged and sorted by "
        f"start: two ranges become one where the later start is at most {g} after the earlier end",
        lambda g: lambda ranges: _merged(g, ranges), _ranges,
    ),
    Family(
        "walk", "rows", tuple((way,) for way in _WAYS),
        lambda way: f"`rows` is a matrix as a list of rows of equal length. Return its values as one list, "
        f"{_WAYS[way]}",
        lambda way: lambda rows: _walked(way, rows), _matrices,
    ),
    *(
        Family(
            "pairs" + name, "text", ((mark, gap),),
            lambda mark, gap: f"`text` holds pairs of a name and a whole number joined by {mark!r}, the pairs "
            "joined by "
            f"{gap!r}. Return them as a dictionary; of a name that comes twice the last counts; an empty text gives an "
            "empty dictionary",
            lambda mark, gap: lambda text: {
                part.split(mark)[0]: int(part.split(mark)[1]) for part in text.split(gap) if part
            },
            _pairs(mark, gap),
        )
        for name, mark, gap in (("-equals", "=", ";"), ("-colon", ":", ","), ("-arrow", ">", "|"))
    ),
    Family(
        "change", "numbers", (("rise",), ("fall",)),
        lambda way: f"return the largest {way} from one number of the list `numbers` to a later one (not only the "
        "next), as a number of 0 or more; 0 where there is none",
        lambda way: lambda numbers: _largest_change(way, numbers), _numbers,
    ),
    Family(
        "longer", "text", tuple((m,) for m in range(2, 7)),
        lambda m: f"return a list of the words of `text` (separated by spaces) of more than {m} characters, in "
        "order, each in capitals",
        lambda m: lambda text: [word.upper() for word in text.split() if len(word) > m], _texts,
    ),
    Family(
        "clamp", "numbers", tuple(product((-10, -5, 0), (3, 8))),
        lambda low, high: f"replace every number of the list `numbers` under {low} by {low} and every one over "
        f"{high} by {high}, then leave out each value that equals the one right before it, and return the list",
        lambda low, high: lambda numbers: _ordered([min(max(n, low), high) for n in numbers]), _numbers,
    ),
    Family(
        "kth", "numbers", tuple((k,) for k in range(1, 5)),
        lambda k: f"return the number that is in place {k} when the different values of the list `numbers` are "
        "sorted from the largest down; None if there are not as many",
        lambda k: lambda numbers: (
            sorted(set(numbers), reverse=True)[k - 1] if len(set(numbers)) >= k else None
        ),
        _numbers,
    ),
    Family(
        "depth", "text", (("(", ")"), ("[", "]"), ("{", "}")),
        lambda left, right: f"return how many {left!r} are open at most at the same time when `text` is read from "
        f"the left. Each {left!r} opens one, each {right!r} closes one; a {right!r} with none open does nothing",
        lambda left, right: lambda text: _depth(left, right, text), _brackets,
    ),
)  # fmt: skip
