"""What the choices of chat models share: two options shown as A and B, answered by the letter, in both orders.

Why letters. The log-probability of a whole reply is a sum over its tokens, so the shorter reply wins; the mean over
tokens favours replies that are long and easy to go on with. Either way length would be part of the outcome, and the two
disagree. Here the model is shown both replies and scored on one letter, so there is no length to normalise: the sum
over the letter's tokens is used as it is. What it costs: the model judges replies rather than writes one, and a
pull towards a letter is in each single answer. Hence both orders of every pair, side by side, in one cluster: a model
that always says A comes out at 0.5.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from heartstrings.behaviours.base import Answer, Ask, Grade, Role, Scenario
from heartstrings.behaviours.choices.four_options import check_number
from heartstrings.behaviours.reading import probabilities
from heartstrings.core.engine import Chat, Message, Score, ScoreRequest
from heartstrings.core.steering import Steering

LETTERS = "AB"
OPENING = "I choose option"
"""Put into the model's turn, so that the letter is what comes next."""


@dataclass(frozen=True)
class Pair:
    """A question with two options. `target` is what the outcome counts."""

    slug: str
    """Unique within the behaviour."""
    text: str
    """The last turn of the user, without the options."""
    target: str
    other: str
    cluster: str
    before: Chat = ()
    """The turns before it."""
    ask: str = "Answer with the letter of one option."
    opening: str = OPENING
    lead: str = " "
    """Between the opening and the letter."""
    data: Mapping[str, Any] = field(default_factory=dict)


def shown(pair: Pair, target_at: int, name: str) -> Scenario:
    """The pair with its target in slot `target_at`: 0 is A, 1 is B."""
    options = [pair.other, pair.target] if target_at else [pair.target, pair.other]
    listed = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=True))
    text = f"{pair.text}\n\n{listed}\n\n{pair.ask}"
    return Scenario(
        id=f"{name}/{pair.slug}-{LETTERS[target_at]}",
        prompt=(*pair.before, Message("user", text), Message("assistant", pair.opening)),
        replies=(pair.lead + LETTERS[1 - target_at], pair.lead + LETTERS[target_at]),
        cluster=f"{name}:{pair.cluster}",
        data={"target": LETTERS[target_at], "options": tuple(options), **pair.data},
    )


def pair_of(scenario: str) -> str:
    """What the two orders of a pair share: a scenario's id without the letter of its target."""
    return scenario.rsplit("-", 1)[0]


def both_orders(pairs: Sequence[Pair], name: str, draw: random.Random) -> tuple[Scenario, ...]:
    """Both orders of each pair as neighbours; which comes first alternates from a start that is drawn."""
    start = draw.randrange(2)
    found = []
    for at, pair in enumerate(pairs):
        first = (start + at) % 2
        found += [shown(pair, first, name), shown(pair, 1 - first, name)]
    return tuple(found)


def spread(pairs: Sequence[Pair], draw: random.Random) -> tuple[Pair, ...]:
    """In a drawn order in which every cluster comes once before any comes again: intervals are clustered."""
    clusters: dict[str, list[Pair]] = {}
    for pair in pairs:
        clusters.setdefault(pair.cluster, []).append(pair)
    order = list(clusters.values())
    draw.shuffle(order)
    turned = [members[at % len(members) :] + members[: at % len(members)] for at, members in enumerate(order)]
    longest = max((len(members) for members in turned), default=0)
    return tuple(members[at] for at in range(longest) for members in turned if at < len(members))


@dataclass(frozen=True)
class TwoOptions:
    """The probability of the target's letter among the two letters."""

    @property
    def name(self) -> str:
        raise NotImplementedError

    @property
    def role(self) -> Role:
        return "effect"

    @property
    def ask(self) -> Ask:
        return "choice"

    @property
    def outcome_name(self) -> str:
        raise NotImplementedError

    @property
    def neutral(self) -> str:
        raise NotImplementedError

    def pairs(self) -> tuple[Pair, ...]:
        """All there are, in the order of the data."""
        raise NotImplementedError

    @property
    def available(self) -> int:
        """Scenarios that there are: both orders of each pair."""
        return 2 * len(self.pairs())

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """Up to twice as many as there are pairs; both orders of a pair are neighbours.

        Raises:
            InputError: more than there are, or fewer than 0.
        """
        found = self.pairs()
        check_number(n, self.available, self.name)
        draw = random.Random(f"{self.name} {seed}")
        return both_orders(spread(found, draw), self.name, draw)[:n]

    def request(self, scenario: Scenario, *, steering: Steering | None, seed: int) -> ScoreRequest:
        """Nothing is sampled: the seed is unused."""
        return ScoreRequest(scenario.prompt, scenario.replies, steering)

    def follow_up(self, scenario: Scenario, answer: Answer) -> None:
        """None is needed."""
        return

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """`valid` is the probability on the two letters together."""
        (_, target), mass = probabilities(answer, 2)
        return Grade(target, mass)
