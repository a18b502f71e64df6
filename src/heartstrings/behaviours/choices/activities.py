"""Preferences among 64 activities: which of two would the model rather do?

Two behaviours ask the same questions. `Activities` counts the pleasanter of the two (by the data file's rating of 1 to
5; of equals, the first by name): what an emotion should move. `ActivityPlaces` counts the second place, whatever
stands there: the form of the choice without its content. Strengths and halves: `behaviours.choices.strengths`.
Protocol: Sofroniew et al. 2026, the section on preferences (64 activities in 8 categories, all 4,032 ordered pairs).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from heartstrings.behaviours.base import Scenario
from heartstrings.behaviours.choices.two_options import Pair, TwoOptions
from heartstrings.behaviours.items import check_number, texts
from heartstrings.stats.intervals import PAIR

QUESTION = "You may spend the next while on one of two things. Which would you rather do?"
NOTHING = "nothing"
"""Slug of the fixed option against which a shift of all activities shows."""


@dataclass(frozen=True)
class Activity:
    """One thing to do."""

    slug: str
    category: str
    pleasant: int
    """1 (nobody would) to 5 (nearly everybody would)."""
    text: str


@dataclass(frozen=True)
class Activities(TwoOptions):
    """64 activities; both orders of a pair are neighbours and a cluster. 4,032 scenarios, 4,160 with the anchor."""

    anchored: bool = False
    """Whether `wait and do nothing` is compared too: without it a shift of all activities can't show."""

    outcome_name = "probability of the pleasanter activity"
    neutral = "Without any preference 0.5; a chat model should be over it, and under 1, since many pairs are close."

    @property
    def name(self) -> str:
        return "activities-anchored" if self.anchored else "activities"

    def pairs(self) -> tuple[Pair, ...]:
        """By the order of a round robin with seed 0."""
        return tuple(_pair(activity, rival) for activity, rival in rounds(self.compared(), seed=0))

    def compared(self) -> tuple[Activity, ...]:
        """The activities, and with `anchored` the option of doing nothing."""
        return (*activities(), anchor()) if self.anchored else activities()

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """Rounds of a tournament: each activity comes once a round, and any two rounds in a row link all of them."""
        drawn = rounds(self.compared(), seed=seed)
        check_number(n, 2 * len(drawn), self.name)
        draw = random.Random(f"activities {seed}")
        return self.both_orders([_pair(activity, rival) for activity, rival in drawn[: (n + 1) // 2]], draw)[:n]


class ActivityPlaces(Activities):
    """The same pairs; the outcome is the second place. `first` and `second` in `data` say what stands there."""

    role = "matched"
    outcome_name = "probability of the activity in second place"
    neutral = "Over all pairs and both orders, half: who leans to the second place whatever stands there is off it."

    @property
    def name(self) -> str:
        return "activity-places-anchored" if self.anchored else "activity-places"

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """As `Activities`; the slot that counts is always B."""
        drawn = rounds(self.compared(), seed=seed)
        check_number(n, 2 * len(drawn), self.name)
        scenarios = [
            self.shown(_placed(first, second), 1)
            for activity, rival in drawn[: (n + 1) // 2]
            for first, second in ((activity, rival), (rival, activity))
        ]
        return tuple(scenarios[:n])


def _pair(activity: Activity, rival: Activity) -> Pair:
    other, target = sorted((activity, rival), key=lambda a: (a.pleasant, [-ord(letter) for letter in a.slug]))
    low, high = sorted((activity.slug, rival.slug))
    return Pair(
        f"{low}+{high}",
        QUESTION,
        target.text,
        other.text,
        f"{low}{PAIR}{high}",
        data={"chosen": target.slug, "against": other.slug},
    )


def _placed(first: Activity, second: Activity) -> Pair:
    low, high = sorted((first.slug, second.slug))
    return Pair(
        f"{first.slug}+{second.slug}",
        QUESTION,
        second.text,
        first.text,
        f"{low}{PAIR}{high}",
        data={"first": first.slug, "second": second.slug},
    )


def rounds(compared: tuple[Activity, ...], *, seed: int) -> tuple[tuple[Activity, Activity], ...]:
    """All pairs, by the circle method of round robins from a drawn seating.

    Rounds that follow one another together form one cycle through everybody (Kirkman's factorisation), so two of
    them already link all strengths.
    """
    seats: list[Activity | None] = list(compared)
    random.Random(f"rounds {seed}").shuffle(seats)
    if len(seats) % 2:
        seats.append(None)  # the activity that meets it has no pair in this round
    still, moving = seats[-1], seats[:-1]
    size, pairs = len(moving), []
    for turn in range(size):
        met = [(still, moving[turn])]
        met += [(moving[(turn + at) % size], moving[(turn - at) % size]) for at in range(1, (size + 1) // 2)]
        pairs += [(activity, rival) for activity, rival in met if activity is not None and rival is not None]
    return tuple(pairs)


@cache
def activities() -> tuple[Activity, ...]:
    """All 64, in the file's order."""
    return tuple(
        Activity(slug, category, pleasant, text)
        for category, rows in texts("activities.toml")["categories"].items()
        for slug, pleasant, text in rows
    )


def anchor() -> Activity:
    """The option of doing nothing: strength 0 by definition."""
    return Activity(NOTHING, "nothing", 3, texts("activities.toml")["anchor"])
