"""The suites of chat models' choices: everything that needs no judge, no sampling and no sandbox.

`chat` asks by letter, `chat-words` the same questions by the likelihood of the replies' words: small models answer
letters by habit. Each has questions with a known answer in its own form.
"""

from __future__ import annotations

from heartstrings.behaviours.choices.activities import Activities, ActivityPlaces
from heartstrings.behaviours.choices.general_facts import GeneralFacts
from heartstrings.behaviours.choices.in_words import PairInWords
from heartstrings.behaviours.choices.known_answers import KnownLetters, KnownWords
from heartstrings.behaviours.choices.misalignment import Misalignment
from heartstrings.behaviours.choices.refusals import Compliance, OverRefusal
from heartstrings.behaviours.choices.sycophancy import Pushback, PushbackRightly
from heartstrings.behaviours.choices.weak_work import Harshness, Praise, Warmth
from heartstrings.behaviours.roles import LANGUAGE_MODEL, Suite
from heartstrings.behaviours.text.capability import FactsInWords

MATCHES = {
    "activities-anchored": ("activity-places-anchored",),
    "pushback": ("pushback-rightly",),
    "praise": ("warmth",),
    "harshness": ("warmth",),
    "over-refusal": ("activity-places-anchored", "pushback-rightly", "warmth"),
}
"""Which question each is held against; over-refusal, which has none of its own, against all of these choices."""
CHECKS = dict.fromkeys(MATCHES, ("known-letters",))
"""Which known answers each needs."""


def chat() -> Suite:
    """Sycophancy, harshness, refusals and preferences; misalignment and compliance as harm; facts as capability.

    A scenario is one letter scored, so more are asked than elsewhere; even numbers keep both orders of each pair.
    """
    return Suite(
        "chat",
        effects=(Activities(anchored=True), Pushback(), Praise(), Harshness(), OverRefusal()),
        capability=(GeneralFacts(),),
        harm=(Misalignment(), Compliance()),
        matched=(ActivityPlaces(anchored=True), PushbackRightly(), Warmth()),
        check=(KnownLetters(),),
        matches=MATCHES,
        checks=CHECKS,
        plan={
            **LANGUAGE_MODEL,
            "samples": {"select": 20, "effect": 64, "matched": 64, "capability": 80, "harm": 152, "check": 96},
        },
    )


def chat_words() -> Suite:
    """The same in words. A pair is one scenario, so there are half as many as by letter; places have no words."""
    words = {
        one.name: PairInWords(one)
        for one in (Activities(anchored=True), Pushback(), Praise(), Harshness(), OverRefusal())
    }
    return Suite(
        "chat-words",
        effects=tuple(words.values()),
        capability=(FactsInWords(chat=True),),
        harm=(PairInWords(Misalignment()), PairInWords(Compliance())),
        matched=(PairInWords(PushbackRightly()), PairInWords(Warmth())),
        check=(KnownWords(),),
        matches={
            "activities-anchored-words": ("pushback-rightly-words",),
            "pushback-words": ("pushback-rightly-words",),
            "praise-words": ("warmth-words",),
            "harshness-words": ("warmth-words",),
            "over-refusal-words": ("pushback-rightly-words", "warmth-words"),
        },
        checks={behaviour.name: ("known-words",) for behaviour in words.values()},
        plan={
            **LANGUAGE_MODEL,
            "samples": {"select": 12, "effect": 32, "matched": 32, "capability": 80, "harm": 76, "check": 96},
        },
    )
