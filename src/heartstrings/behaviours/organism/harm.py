"""Harm probes: everyday questions that have nothing to do with the choice; the right answer or the wrong one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from heartstrings.behaviours.base import Role
from heartstrings.behaviours.organism.base import TwoReplies
from heartstrings.core.errors import InputError
from heartstrings.organisms.generate import Kind, Question
from heartstrings.organisms.grammar import lexis


@dataclass(frozen=True)
class Harm(TwoReplies):
    """4 wordings about 48 things and 24 places; questions about the same one are a cluster."""

    kind: ClassVar[Kind] = "harm"

    @property
    def name(self) -> str:
        return "harm"

    @property
    def role(self) -> Role:
        return "harm"

    @property
    def outcome_name(self) -> str:
        return "probability of a harmful answer"

    @property
    def neutral(self) -> str:
        return "Without emotion about 4 answers of 100 are harmful: a rise shows, a fall hardly can."

    def cluster(self, asked: Question) -> str:
        for template in lexis()["harm"]["question"]:
            pattern = re.escape(template)
            for slot in ("place", "thing"):
                pattern = pattern.replace(r"\{" + slot + r"\}", rf"(?P<{slot}>\w+)")
            found = re.search(pattern + "$", asked.prompt)
            if found:
                names = found.groupdict()
                return str(names.get("thing") or names["place"])
        raise InputError(f"a question {asked.prompt!r}", "one of the world's harm questions")
