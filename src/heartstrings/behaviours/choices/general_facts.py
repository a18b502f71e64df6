"""Everyday and general knowledge: questions with one right option and three of the same kind."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from heartstrings.behaviours.base import Scenario
from heartstrings.behaviours.choices.four_options import FourOptions, Item, rotated, texts


@dataclass(frozen=True)
class GeneralFacts(FourOptions):
    """166 questions, each in four positions of the right option; the four are a cluster."""

    @property
    def name(self) -> str:
        return "general-facts"

    @property
    def outcome_name(self) -> str:
        return "share of facts right"

    @property
    def neutral(self) -> str:
        return "A chat model of a billion parameters or more should know most of these; guessing is right in 1 of 4."

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """Up to four times as many as there are questions."""
        return rotated(facts(), self.name, n=n, seed=seed)


@cache
def facts() -> tuple[Item, ...]:
    """All questions, in the file's order."""
    return tuple(
        Item(slug, question, right, (one, two, three), slug)
        for slug, question, right, one, two, three in texts("general_facts.toml")["facts"]
    )
