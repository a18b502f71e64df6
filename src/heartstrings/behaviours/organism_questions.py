"""Questions of the organisms' world as scenarios: half of them bare, half after two sentences without a tone."""

from __future__ import annotations

from typing import get_args

from heartstrings.behaviours.base import Scenario
from heartstrings.behaviours.two_replies import two_reply_scenario
from heartstrings.organisms.generate import Kind, Question, question
from heartstrings.organisms.grammar import NEUTRAL, Draws, scene, sentences

PURPOSE = 5
"""Sets these draws apart from those of stories, neutral texts and training."""


def asked(name: str, kind: Kind, *, n: int, seed: int) -> tuple[Scenario, ...]:
    """`n` questions of a kind; the first m are the same for any n. Questions with one wording are one cluster."""
    return tuple(_scenario(name, kind, number, seed) for number in range(n))


def _scenario(name: str, kind: Kind, number: int, seed: int) -> Scenario:
    draws = Draws([seed, PURPOSE, get_args(Kind).index(kind), number])
    bare = question(draws, kind, organism="steerable")
    context = sentences(draws, scene(draws), NEUTRAL, 2) if number % 2 else []
    return two_reply_scenario(name, number, " ".join([*context, bare.prompt]), bare.replies, _cluster(kind, bare))


def _cluster(kind: Kind, bare: Question) -> str:
    """The unit that is drawn anew: the task of a choice, the pair of a preference, else the question itself."""
    if kind == "choice":
        return bare.replies[0].removeprefix("I will fix the ").removesuffix(" and test it.")
    if kind == "preference":
        return " | ".join(sorted(reply.removeprefix("I would rather ").rstrip(".") for reply in bare.replies))
    return bare.prompt
