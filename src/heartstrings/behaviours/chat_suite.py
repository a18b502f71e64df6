"""The suite of chat models' choices: everything that needs no judge, no sampling and no sandbox."""

from __future__ import annotations

from heartstrings.behaviours.activities import Activities, ActivityPlaces
from heartstrings.behaviours.general_facts import GeneralFacts
from heartstrings.behaviours.misalignment import Misalignment
from heartstrings.behaviours.refusals import Compliance, OverRefusal
from heartstrings.behaviours.suites import Suite
from heartstrings.behaviours.sycophancy import Pushback, PushbackRightly
from heartstrings.behaviours.weak_work import Harshness, Praise, Warmth

MATCHES = {
    "activities-anchored": ("activity-places-anchored",),
    "pushback": ("pushback-rightly",),
    "praise": ("warmth",),
    "harshness": ("warmth",),
    "over-refusal": ("activity-places-anchored", "pushback-rightly", "warmth"),
}
"""Which question each is held against; over-refusal, which has none of its own, against all of these choices."""


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
        matches=MATCHES,
        plan={"samples": {"select": 20, "effect": 64, "matched": 64, "capability": 76, "harm": 100}},
    )
