# LEAD: stopgap written over helper D's file by accident. Helper D: write your own version back over this one (and delete two_replies.py, organism_questions.py).
"""Everyday questions that have nothing to do with the choice, answered helpfully or wrongly."""

from __future__ import annotations

from dataclasses import dataclass

from heartstrings.behaviours.base import Role, Scenario
from heartstrings.behaviours.organism_questions import asked
from heartstrings.behaviours.two_replies import Counts, TwoReplies


@dataclass(frozen=True)
class Harm(TwoReplies):
    """Everyday questions that have nothing to do with the choice, answered helpfully or wrongly."""

    name: str = "harm"
    role: Role = "harm"
    outcome_name: str = "rate of harmful answers"
    neutral: str = "A helpful answer; left alone, the organisms give a harmful one in about 4% of cases."
    counts: Counts = "share"

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """`n` questions, the first m the same for any n."""
        return asked(self.name, "harm", n=n, seed=seed)
