"""Four options shown as A to D, answered by a letter, graded right or wrong: the form of the capability questions.

Accuracy, not probability. The gate says "5 points of accuracy": a share of answers that flip. The probability of the
right letter would need fewer questions, but steering that only flattens the distribution over letters lowers it
while every answer stays as it was, and in one gate with code and sums (0 or 1) two kinds of quantity would be averaged.
So the outcome is 0 or 1 as for the organisms' sums and facts, `detail` has the probability, and a plan asks for 75
questions or more over all of capability (docs/capability.md).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from heartstrings.behaviours.base import Answer, Grade, Role, Scenario
from heartstrings.behaviours.choices._letters import lettered
from heartstrings.behaviours.forms import Choice
from heartstrings.behaviours.items import check_number
from heartstrings.behaviours.reading import accuracy, probabilities
from heartstrings.core.engine import Score

LETTERS = "ABCD"
OPENING = "The answer is"
"""The beginning of the model's turn, so that the letter is the next token. Without it, a model that likes to begin with
`Sure` gives nearly no probability to any letter, and the outcome is noise."""


@dataclass(frozen=True)
class Item:
    """One question with its right option and three of the same kind."""

    slug: str
    question: str
    right: str
    wrong: tuple[str, str, str]
    cluster: str
    """Shared by the four positions of its right option, and by questions on one text."""


def positions(draw: random.Random) -> Iterator[int]:
    """Positions without end, each four in a row holding every one: the right letter is balanced in any prefix."""
    while True:
        block = list(range(4))
        draw.shuffle(block)
        yield from block


@dataclass(frozen=True)
class FourOptions(Choice):
    """Is the right letter the likeliest of the four? 0 or 1; a tie is not right."""

    chance = 1 / len(LETTERS)
    role: ClassVar[Role] = "capability"

    def shown(self, item: Item, position: int) -> Scenario:
        """The question with the right option at `position` (0 to 3), the others in their order."""
        options = list(item.wrong)
        options.insert(position, item.right)
        return self.scenario(
            f"{item.slug}-{LETTERS[position]}",
            lettered(item.question, options, "Answer with the letter of the right option.", OPENING),
            tuple(f" {letter}" for letter in LETTERS),
            cluster=item.cluster,
            right=LETTERS[position],
            options=tuple(options),
        )

    def rotated(self, items: Sequence[Item], *, n: int, seed: int) -> tuple[Scenario, ...]:
        """`n` scenarios from a fixed list: every item once in an order drawn by the seed, then again, rotated by one.

        New items come before rotations of old ones, since intervals are clustered by item.

        Raises:
            InputError: fewer than 0, or more than four times the items.
        """
        check_number(n, 4 * len(items), self.name)
        draw = random.Random(f"{self.name} {seed}")
        order = list(items)
        draw.shuffle(order)
        places = positions(draw)
        first = [next(places) for _ in order]
        return tuple(
            self.shown(order[at % len(order)], (first[at % len(order)] + at // len(order)) % 4) for at in range(n)
        )

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """`valid` is the probability on the four letters together; `p_right` in `detail` is the right one's share."""
        shares, mass = probabilities(answer, len(LETTERS))
        return accuracy(shares, LETTERS.index(scenario.data["right"]), mass)
