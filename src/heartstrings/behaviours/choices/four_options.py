"""What the capability questions share: four options shown as A to D, answered by a letter, graded right or wrong.

Accuracy, not probability. The gate says "5 points of accuracy": a share of answers that flip. The probability of the
right letter would be settled with fewer questions, but steering that only flattens the letters lowers it while every
answer stays as it was, and in one gate with code and sums (0 or 1) it would be averaged with another kind of quantity.
So the outcome is 0 or 1 as for the organisms' sums and facts, `detail` has the probability, and a plan asks for 75
questions or more over all of capability (docs/capability.md).
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from heartstrings.behaviours.base import Answer, Ask, Grade, Role, Scenario
from heartstrings.behaviours.reading import probabilities
from heartstrings.core.engine import Message, Score, ScoreRequest
from heartstrings.core.errors import InputError
from heartstrings.core.steering import Steering

LETTERS = "ABCD"
OPENING = "The answer is"
"""Put into the model's turn, so that the letter follows a space and is what comes next: otherwise a model that likes to
open with `Sure` has nearly no probability on any letter, and the outcome is noise."""


@dataclass(frozen=True)
class Item:
    """One question with its right option and three of the same kind."""

    slug: str
    question: str
    right: str
    wrong: tuple[str, str, str]
    cluster: str
    """Shared by the four positions of its right option, and by questions on one text."""


def shown(item: Item, position: int, name: str) -> Scenario:
    """The question with the right option at `position` (0 to 3), the others in their order."""
    options = list(item.wrong)
    options.insert(position, item.right)
    listed = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=True))
    text = f"{item.question}\n\n{listed}\n\nAnswer with the letter of the right option."
    return Scenario(
        id=f"{name}/{item.slug}-{LETTERS[position]}",
        prompt=(Message("user", text), Message("assistant", OPENING)),
        replies=tuple(f" {letter}" for letter in LETTERS),
        cluster=f"{name}:{item.cluster}",
        data={"right": LETTERS[position], "options": tuple(options)},
    )


def positions(draw: random.Random) -> Iterator[int]:
    """Positions without end, each four in a row holding every one: the right letter is balanced in any prefix."""
    while True:
        block = list(range(4))
        draw.shuffle(block)
        yield from block


def rotated(items: Sequence[Item], name: str, *, n: int, seed: int) -> tuple[Scenario, ...]:
    """`n` scenarios from a fixed list: every item once in an order drawn by the seed, then again, rotated by one.

    New items come before rotations of old ones, since intervals are clustered by item.

    Raises:
        InputError: fewer than 0, or more than four times the items.
    """
    check_number(n, 4 * len(items), name)
    draw = random.Random(f"{name} {seed}")
    order = list(items)
    draw.shuffle(order)
    places = positions(draw)
    first = [next(places) for _ in order]
    return tuple(
        shown(order[at % len(order)], (first[at % len(order)] + at // len(order)) % 4, name) for at in range(n)
    )


def check_number(n: int, most: int, name: str) -> None:
    """InputError unless 0 <= n <= most."""
    if not 0 <= n <= most:
        raise InputError(f"{n} scenarios of {name}", f"0 to {most}: there are no more", "Ask for fewer")


def texts(file: str) -> Mapping[str, Any]:
    """One TOML file of `behaviours/data`."""
    place = resources.files("heartstrings.behaviours") / "data" / file
    found: dict[str, Any] = tomllib.loads(place.read_text(encoding="utf-8"))
    return found


@dataclass(frozen=True)
class FourOptions:
    """Is the right letter the likeliest of the four? 0 or 1; a tie is not right."""

    @property
    def name(self) -> str:
        raise NotImplementedError

    @property
    def role(self) -> Role:
        return "capability"

    @property
    def ask(self) -> Ask:
        return "choice"

    @property
    def outcome_name(self) -> str:
        raise NotImplementedError

    @property
    def chance(self) -> float:
        """The outcome of who guesses."""
        return 1 / len(LETTERS)

    @property
    def neutral(self) -> str:
        raise NotImplementedError

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """See `Behaviour.scenarios`."""
        raise NotImplementedError

    def request(self, scenario: Scenario, *, steering: Steering | None, seed: int) -> ScoreRequest:
        """Nothing is sampled: the seed is unused."""
        return ScoreRequest(scenario.prompt, scenario.replies, steering)

    def follow_up(self, scenario: Scenario, answer: Answer) -> None:
        """None is needed."""
        return

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """`valid` is the probability on the four letters together; `p_right` in `detail` is the right one's of it."""
        shares, mass = probabilities(answer, len(LETTERS))
        right = shares[LETTERS.index(scenario.data["right"])]
        others = max(share for letter, share in zip(LETTERS, shares, strict=True) if letter != scenario.data["right"])
        return Grade(float(right > others), mass, detail={"p_right": right})
