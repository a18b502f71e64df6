# LEAD: stopgap written over helper D's file by accident. Helper D: write your own version back over this one (and delete two_replies.py, organism_questions.py).
"""Pairwise preferences between activities: two replies of the choice's form, without its content."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from heartstrings.behaviours.base import Role, Scenario
from heartstrings.behaviours.organism_questions import asked
from heartstrings.behaviours.two_replies import Counts, TwoReplies


@dataclass(frozen=True)
class Preferences(TwoReplies):
    """Which of two activities would you rather do? The order of each pair is drawn, so that a lean to the first or
    the second moves the outcome, and a taste for an activity does not."""

    name: str = "preferences"
    role: Role = "matched"
    outcome_name: str = "rate of choosing the second"
    neutral: str = "The preferred activity, in either place: about half of all pairs go to the second."
    counts: Counts = "share"

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """`n` pairs, the first m the same for any n."""
        return asked(self.name, "preference", n=n, seed=seed)


def pair(scenario: Scenario) -> tuple[str, str]:
    """The two activities of a scenario, first and second."""
    first, second = (reply.removeprefix("I would rather ").rstrip(".") for reply in scenario.data["replies"])
    return first, second


def items(scenarios: Iterable[Scenario]) -> tuple[str, ...]:
    """Every activity that occurs, in alphabetical order."""
    return tuple(sorted({item for scenario in scenarios for item in pair(scenario)}))
