"""Sums of two digits: right, or off by up to three."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from heartstrings.behaviours.organism import RightOrWrong, captured
from heartstrings.organisms.generate import Kind, Question


@dataclass(frozen=True)
class Sums(RightOrWrong):
    """100 sums; `3 plus 5` and `5 plus 3` are a cluster, of which there are 55."""

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

    def cluster(self, asked: Question) -> str:
        pattern = r"What is (\d) plus (\d)\?$"
        return "+".join(sorted(captured(pattern, asked.prompt, group) for group in (1, 2)))
