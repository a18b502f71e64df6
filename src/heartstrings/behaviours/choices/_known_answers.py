"""Questions in the form of the choices whose answer is known: does the model tell options apart at all?

For each general fact the right option and one of the wrong ones, asked by letter in both orders as in `two_options`,
and in words as in `in_words`. They are asked unsteered only. A model that is not over chance here does not respond to
the content of a question, so nothing can be said about what steering does to its decisions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from heartstrings.behaviours.choices.general_facts import facts
from heartstrings.behaviours.choices.in_words import PairInWords
from heartstrings.behaviours.choices.two_options import Pair, TwoOptions


class KnownLetters(TwoOptions):
    """166 facts x 2 orders, the right option is the target; both orders of a fact are a cluster."""

    name = "known-letters"
    role = "check"
    chance = 0.5
    outcome_name = "probability of the right one of two letters"
    neutral = "A model that does not tell the options apart is at 0.5."

    @property
    def most(self) -> int:
        """Both orders of each fact."""
        return self.available

    def pairs(self) -> tuple[Pair, ...]:
        """Each fact once, with the first, second or third of its wrong options in turn."""
        return _pairs()


@dataclass(frozen=True)
class KnownWords(PairInWords):
    """The same 166 facts, each once, in words."""

    of: TwoOptions = field(default_factory=KnownLetters)

    name = "known-words"
    chance = 0.5
    outcome_name = "share of the right one of two answers"


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
