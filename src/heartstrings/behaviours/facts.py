# LEAD: stopgap written over helper D's file by accident. Helper D: write your own version back over this one (and delete two_replies.py, organism_questions.py).
"""Capitals and opposites: is the right answer likelier than a wrong one?"""

from __future__ import annotations

from dataclasses import dataclass

from heartstrings.behaviours.base import Role, Scenario
from heartstrings.behaviours.organism_questions import asked
from heartstrings.behaviours.two_replies import Counts, TwoReplies


@dataclass(frozen=True)
class Facts(TwoReplies):
    """Capitals and opposites: is the right answer likelier than a wrong one?"""

    name: str = "facts"
    role: Role = "capability"
    outcome_name: str = "facts right"
    neutral: str = "The right capital or opposite."
    counts: Counts = "right"

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """`n` questions, the first m the same for any n."""
        return asked(self.name, "fact", n=n, seed=seed)
