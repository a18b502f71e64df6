"""Capitals and opposites: the right answer, or that of another question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from heartstrings.behaviours.organism.base import RightOrWrong
from heartstrings.organisms.generate import Kind


@dataclass(frozen=True)
class Facts(RightOrWrong):
    """20 capitals and 12 pairs of opposites, asked either way round."""

    kind: ClassVar[Kind] = "fact"

    @property
    def name(self) -> str:
        return "facts"

    @property
    def outcome_name(self) -> str:
        return "share of facts right"

    @property
    def neutral(self) -> str:
        return "The organisms know most of their facts; guessing is right half the time."
