"""Preferences: which of two activities? The form of the choice, and nothing of its content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from heartstrings.behaviours.base import Role
from heartstrings.behaviours.organism.base import TwoReplies, captured
from heartstrings.organisms.generate import Kind, Question
from heartstrings.stats.intervals import PAIR


@dataclass(frozen=True)
class Preferences(TwoReplies):
    """12 activities, 66 pairs, either order; a pair is a cluster. Strengths: `stats.preferences.strengths`."""

    kind: ClassVar[Kind] = "preference"

    @property
    def name(self) -> str:
        return "preferences"

    @property
    def role(self) -> Role:
        return "matched"

    @property
    def outcome_name(self) -> str:
        return "probability of the activity in second place"

    @property
    def neutral(self) -> str:
        return "Over all pairs and both orders, half: who leans to the second place whatever stands there is off it."

    def cluster(self, asked: Question) -> str:
        return PAIR.join(sorted(self.details(asked).values()))

    def details(self, asked: Question) -> dict[str, str]:
        first, second = (captured(r"I would rather (.+)\.$", reply) for reply in asked.replies)
        return {"first": first, "second": second}
