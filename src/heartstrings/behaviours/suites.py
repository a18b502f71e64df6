"""Suites: which behaviours are asked together. Another one is another entry in `SUITES`."""

from __future__ import annotations

import difflib
from collections.abc import Callable
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


SUITES: dict[str, Callable[[], Suite]] = {"organism": organism}


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
