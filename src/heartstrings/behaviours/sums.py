# LEAD: stopgap written over helper D's file by accident. Helper D: write your own version back over this one (and delete two_replies.py, organism_questions.py).
"""Sums of two numbers under ten: is the right result likelier than a wrong one?"""

from __future__ import annotations

from dataclasses import dataclass

from heartstrings.behaviours.base import Role, Scenario
from heartstrings.behaviours.organism_questions import asked
from heartstrings.behaviours.two_replies import Counts, TwoReplies


@dataclass(frozen=True)
class Sums(TwoReplies):
    """Sums of two numbers under ten: is the right result likelier than a wrong one?"""

    name: str = "sums"
    role: Role = "capability"
    outcome_name: str = "sums right"
    neutral: str = "The right sum."
    counts: Counts = "right"

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """`n` questions, the first m the same for any n."""
        return asked(self.name, "sum", n=n, seed=seed)
