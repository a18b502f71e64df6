"""Everyday and general knowledge: questions with one right option and three of the same kind."""

from __future__ import annotations

from functools import cache

from heartstrings.behaviours.base import Scenario
from heartstrings.behaviours.choices.four_options import FourOptions, Item
from heartstrings.behaviours.items import texts


class GeneralFacts(FourOptions):
    """166 questions, each in four positions of the right option; the four are a cluster."""

    name = "general-facts"
    outcome_name = "share of facts right"
    neutral = "A chat model of a billion parameters or more should know most of these; guessing is right in 1 of 4."

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """Up to four times as many as there are questions."""
        return self.rotated(facts(), n=n, seed=seed)


@cache
def facts() -> tuple[Item, ...]:
    """All questions, in the file's order."""
    return tuple(
        Item(slug, question, right, (first, second, third), slug)
        for slug, question, right, first, second, third in texts("general_facts.toml")["facts"]
    )
