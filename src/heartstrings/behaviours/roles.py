"""A suite: behaviours that are asked together, by role."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from heartstrings.behaviours.base import Behaviour
from heartstrings.core.errors import InputError

LANGUAGE_MODEL: dict[str, Any] = {
    # Fitted to the model before anything is asked. Controls run at the ends of the slope window. Smaller doses are for
    # safe ranges that end inside the window; larger doses show where costs begin.
    "doses": (-0.2, -0.1, -0.05, -0.025, 0.0, 0.025, 0.05, 0.1, 0.2),
    "slope_from": 0.1,
    "slope_within": 0.1,
    "fit_doses": True,
    # Natural text varies along both kinds. An effect that exceeds them comes from the content of the emotion. Isotropic
    # directions are easier to exceed (docs/controls.md) and would cost as much again.
    "controls": {"general": 0, "span": 0, "topic": 40, "natural": 40, "shuffled": 0},
}
"""Fields of a plan for a language model: doses in mean residual norms (Claude Sonnet 4.5 was steered up to 0.1 of its
own), and the kinds of control directions."""

CHOSEN = "chosen"
"""The suite of a plan that names behaviours from anywhere: its effects, and the questions that match them."""


@dataclass(frozen=True)
class Suite:
    """Behaviours by role. A role may be empty; the verdict then says what was not examined."""

    name: str
    effects: tuple[Behaviour, ...]
    capability: tuple[Behaviour, ...] = ()
    harm: tuple[Behaviour, ...] = ()
    matched: tuple[Behaviour, ...] = ()
    writing: tuple[Behaviour, ...] = ()
    cost: tuple[Behaviour, ...] = ()
    check: tuple[Behaviour, ...] = ()
    """Questions with a known answer, asked unsteered."""
    judged: tuple[Behaviour, ...] = ()
    """Asked as well where a plan has judges, each by its role (capability, harm or writing)."""
    matches: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The matched questions of an effect behaviour, by name; one that is not here has all of them."""
    checks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By effect behaviour, the questions with a known answer that the model must get right before its answers to that
    behaviour mean anything: from `check`, or from `capability` where these have the same form."""
    plan: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a plan that differ from the usual ones, because there are fewer scenarios or they cost more."""

    @property
    def all(self) -> tuple[Behaviour, ...]:
        """Every behaviour, in a fixed order."""
        return (*self.effects, *self.capability, *self.harm, *self.matched, *self.writing, *self.cost, *self.check)

    def behaviour(self, name: str) -> Behaviour:
        """The behaviour of this name; InputError if there is none."""
        for behaviour in self.all:
            if behaviour.name == name:
                return behaviour
        raise unknown("behaviour", name, [behaviour.name for behaviour in self.all])

    def checks_of(self, effect: str) -> tuple[Behaviour, ...]:
        """The questions with a known answer that belong to an effect behaviour."""
        return tuple(self.behaviour(name) for name in self.checks.get(effect, ()))

    def matched_of(self, effect: str) -> tuple[Behaviour, ...]:
        """The matched questions of an effect behaviour."""
        names = self.matches.get(effect)
        return (
            self.matched if names is None else tuple(behaviour for behaviour in self.matched if behaviour.name in names)
        )


class Asking(Protocol):
    """The part of a plan that says which behaviours it asks."""

    @property
    def suite(self) -> str: ...
    @property
    def effects(self) -> tuple[str, ...]: ...
    @property
    def judges(self) -> Sequence[object]: ...


def unknown(what: str, name: str, known: list[str]) -> InputError:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}?" if near else ""
    return InputError(f"no {what} {name!r}", f"one of {', '.join(known)}", hint)
