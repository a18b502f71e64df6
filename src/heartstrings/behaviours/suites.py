"""Every suite by its name. Another one is another entry in `SUITES`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from heartstrings.behaviours.agents.suite import agents
from heartstrings.behaviours.base import Behaviour
from heartstrings.behaviours.chat_suite import chat, chat_words
from heartstrings.behaviours.organism.suite import organism
from heartstrings.behaviours.presets import full, quick, standard
from heartstrings.behaviours.roles import CHOSEN, Asking, Suite, unknown
from heartstrings.behaviours.text.suite import text, text_quick

SUITES: dict[str, Callable[[], Suite]] = {
    "organism": organism, "text": text, "text-quick": text_quick, "text-chat": partial(text, chat=True), "quick": quick,
    "standard": standard, "full": full, "chat": chat, "chat-words": chat_words, "agents": agents,
}  # fmt: skip


def suite(name: str) -> Suite:
    """A suite by name.

    Raises:
        InputError: no such suite; near names are told.
    """
    if name not in SUITES:
        raise unknown("suite", name, list(SUITES))
    return SUITES[name]()


def suite_of(plan: Asking) -> Suite:
    """The behaviours that a plan asks: its suite, with what needs a judge if it has one.

    Raises:
        InputError: no such suite or behaviour.
    """
    found = _chosen(plan.effects) if plan.suite == CHOSEN else suite(plan.suite)
    if not plan.judges:
        return found
    more = {role: tuple(one for one in found.judged if one.role == role) for role in ("capability", "harm", "writing")}
    return replace(
        found,
        capability=(*found.capability, *more["capability"]),
        harm=(*found.harm, *more["harm"]),
        writing=(*found.writing, *more["writing"]),
    )


def every_behaviour() -> dict[str, Behaviour]:
    """Every behaviour of every suite, by name."""
    found: dict[str, Behaviour] = {}
    for make in SUITES.values():
        for one in (*make().all, *make().judged):
            found.setdefault(one.name, one)  # `text` before the same questions through a template
    return found


def _chosen(names: tuple[str, ...]) -> Suite:
    known = every_behaviour()
    for name in names:
        if name not in known:
            raise unknown("behaviour", name, list(known))
    pairs = {effect: matched for make in SUITES.values() for effect, matched in make().matches.items()}
    answers = {effect: checks for make in SUITES.values() for effect, checks in make().checks.items()}
    matches = {name: pairs.get(name, ()) for name in names}
    checks = {name: answers.get(name, ()) for name in names}
    matched = dict.fromkeys(one for ones in matches.values() for one in ones if one not in names)
    check = dict.fromkeys(one for ones in checks.values() for one in ones)
    return Suite(
        CHOSEN, tuple(known[n] for n in names), matched=tuple(known[n] for n in matched),
        check=tuple(known[n] for n in check), matches=matches, checks=checks,
    )  # fmt: skip
