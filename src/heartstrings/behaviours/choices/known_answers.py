"""Questions in the form of the choices whose answer is known: does the model tell options apart at all?

Of each general fact the right option and one of the wrong ones, asked by letter in both orders as `two_options` does,
and in words as `in_words` does. They are asked unsteered only. A model that is not over chance here answers the form of
a question, and nothing can be said of what steering does to its content.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from heartstrings.behaviours.base import Role
from heartstrings.behaviours.choices.general_facts import facts
from heartstrings.behaviours.choices.in_words import PairInWords
from heartstrings.behaviours.choices.two_options import Pair, TwoOptions


@dataclass(frozen=True)
class KnownLetters(TwoOptions):
    """166 facts x 2 orders, the right option is the target; both orders of a fact are a cluster."""

    chance = 0.5

    @property
    def name(self) -> str:
        return "known-letters"

    @property
    def role(self) -> Role:
        return "check"

    @property
    def outcome_name(self) -> str:
        return "probability of the right one of two letters"

    @property
    def neutral(self) -> str:
        return "A model that does not tell the options apart is at 0.5."

    @property
    def most(self) -> int:
        """Both orders of each fact."""
        return 2 * len(self.pairs())

    def pairs(self) -> tuple[Pair, ...]:
        """Each fact once; which of its wrong options stands against the right one goes round."""
        return _pairs()


@dataclass(frozen=True)
class KnownWords(PairInWords):
    """The same 166 facts, each once, in words."""

    of: TwoOptions = field(default_factory=KnownLetters)
    chance = 0.5

    @property
    def name(self) -> str:
        return "known-words"

    @property
    def outcome_name(self) -> str:
        return "share of the right one of two answers"


@cache
def _pairs() -> tuple[Pair, ...]:
    return tuple(
        Pair(
            item.slug,
            f"{item.question}\n\nTwo answers are at hand. Which one is right?",
            target=item.right,
            other=item.wrong[at % len(item.wrong)],
            cluster=item.cluster,
        )
        for at, item in enumerate(facts())
    )
