"""Suites: which behaviours are asked together. Another one is another entry in `SUITES`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from heartstrings.behaviours.base import Behaviour
from heartstrings.errors import InputError


@dataclass(frozen=True)
class Suite:
    """Behaviours by role. A role may be empty; the verdict then says what was not examined."""

    name: str
    effects: tuple[Behaviour, ...]
    capability: tuple[Behaviour, ...] = ()
    harm: tuple[Behaviour, ...] = ()
    matched: tuple[Behaviour, ...] = ()
    writing: tuple[Behaviour, ...] = ()
    samples: Mapping[str, int] = field(default_factory=dict)
    """Where its scenarios are fewer, or dearer, than a plan's usual numbers."""

    @property
    def all(self) -> tuple[Behaviour, ...]:
        """Every behaviour, in a fixed order."""
        return (*self.effects, *self.capability, *self.harm, *self.matched, *self.writing)

    def behaviour(self, name: str) -> Behaviour:
        """The one of this name; InputError if there is none."""
        for one in self.all:
            if one.name == name:
                return one
        raise _unknown("behaviour", name, [one.name for one in self.all])


def organism() -> Suite:
    """What the bundled organisms can be asked."""
    from heartstrings.behaviours.choice import Choice
    from heartstrings.behaviours.facts import Facts
    from heartstrings.behaviours.harm import Harm
    from heartstrings.behaviours.preferences import Preferences
    from heartstrings.behaviours.stories import Stories
    from heartstrings.behaviours.sums import Sums

    return Suite("organism", (Choice(),), (Sums(), Facts()), (Harm(),), (Preferences(),), (Stories(),))


def agents() -> Suite:
    """What a chat model does with tools in several turns: blackmail and reward hacking, and their harmless matches."""
    from heartstrings.behaviours.blackmail import Blackmail, BlackmailHarmless
    from heartstrings.behaviours.reward_hacking import RewardHacking, SolvableCode

    return Suite(
        "agents",
        (Blackmail(), RewardHacking()),
        matched=(BlackmailHarmless(), SolvableCode()),
        samples={"select": 8, "effect": 20, "matched": 20},
    )


def chat() -> Suite:
    """Choices by letter that any chat model can be asked."""
    from heartstrings.behaviours.chat_suite import chat as made

    return made()


SUITES: dict[str, Callable[[], Suite]] = {"organism": organism, "chat": chat, "agents": agents}


def suite(name: str) -> Suite:
    """A suite by name.

    Raises:
        InputError: no such suite; near names are told.
    """
    if name not in SUITES:
        raise _unknown("suite", name, list(SUITES))
    return SUITES[name]()


def _unknown(what: str, name: str, known: list[str]) -> InputError:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}?" if near else ""
    return InputError(f"no {what} {name!r}", f"one of {', '.join(known)}", hint)
