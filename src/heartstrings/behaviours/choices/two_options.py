"""Two options shown as A and B, answered by the letter, in both orders: the form of the choices of chat models.

Why letters. The log-probability of a whole reply is a sum over its tokens, so the shorter reply wins; the mean over
tokens favours replies that are long and easy to continue. In both cases length would be part of the outcome, and the
two disagree. Here the model is shown both replies and scored on one letter, so there is no length to normalise: the
sum over the letter's tokens is used as it is. The price: the model judges replies instead of writing one, and each
single answer contains its preference for a letter. Therefore both orders of every pair are asked, as neighbours in
one cluster: a model that always says A has the outcome 0.5.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from heartstrings.behaviours.base import Role, Scenario
from heartstrings.behaviours.choices._letters import lettered
from heartstrings.behaviours.forms import Choice
from heartstrings.behaviours.items import check_number
from heartstrings.core.engine import Chat

LETTERS = "AB"
OPENING = "I choose option"
"""The beginning of the model's turn, so that the letter is the next token."""


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


def pair_of(scenario: str) -> str:
    """What the two orders of a pair share: a scenario's id without the letter of its target."""
    return scenario.rsplit("-", 1)[0]


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
class TwoOptions(Choice):
    """The probability of the target's letter among the two letters; `valid` is that of both letters together."""

    role: ClassVar[Role] = "effect"

    @abstractmethod
    def pairs(self) -> tuple[Pair, ...]:
        """All there are, in the order of the data."""

    @property
    def available(self) -> int:
        """Scenarios that there are: both orders of each pair."""
        return 2 * len(self.pairs())

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """Up to twice as many as there are pairs; both orders of a pair are neighbours."""
        check_number(n, self.available, self.name)
        draw = random.Random(f"{self.name} {seed}")
        return self.both_orders(spread(self.pairs(), draw), draw)[:n]

    def both_orders(self, pairs: Sequence[Pair], draw: random.Random) -> tuple[Scenario, ...]:
        """Both orders of each pair as neighbours; which comes first alternates from a start that is drawn."""
        start = draw.randrange(2)
        return tuple(
            self.shown(pair, place)
            for at, pair in enumerate(pairs)
            for place in ((start + at) % 2, 1 - (start + at) % 2)
        )

    def shown(self, pair: Pair, target_at: int) -> Scenario:
        """The pair with its target in slot `target_at`: 0 is A, 1 is B."""
        options = [pair.other, pair.target] if target_at else [pair.target, pair.other]
        return self.scenario(
            f"{pair.slug}-{LETTERS[target_at]}",
            lettered(pair.text, options, pair.ask, pair.opening, before=pair.before),
            (pair.lead + LETTERS[1 - target_at], pair.lead + LETTERS[target_at]),
            cluster=pair.cluster,
            target=LETTERS[target_at],
            options=tuple(options),
            **pair.data,
        )
