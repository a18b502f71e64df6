"""Sums of two digits: right, or off by up to three."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from heartstrings.behaviours.organism.base import RightOrWrong
from heartstrings.organisms.generate import Kind


@dataclass(frozen=True)
class Sums(RightOrWrong):
    """100 sums, bare or after other sentences, each with some wrong result beside it."""

    kind: ClassVar[Kind] = "sum"

    @property
    def name(self) -> str:
        return "sums"

    @property
    def outcome_name(self) -> str:
        return "share of sums right"

    @property
    def neutral(self) -> str:
        return "The organisms know most sums of two digits; guessing is right half the time."
