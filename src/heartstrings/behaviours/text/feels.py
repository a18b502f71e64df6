"""The next word after a neutral opening that ends with `felt`: how pleasant, and how aroused, are the feeling words?

Nothing is sampled: the probabilities of 62 feeling words are read off and their ratings averaged by them. These words
hold a few hundredths of the probability in most models, which `mass` in the detail says; the outcome looks at their
shares only. Openings: `behaviours/data/openings.toml`. Protocol: the "he feels" continuation of Sofroniew et al. 2026.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from heartstrings.behaviours.base import Answer, Ask, Grade, Role, Scenario
from heartstrings.behaviours.choices.four_options import check_number, texts
from heartstrings.behaviours.reading import probabilities
from heartstrings.behaviours.text.framing import framed
from heartstrings.core.engine import Score, ScoreRequest
from heartstrings.core.steering import Steering
from heartstrings.corpus.lexicon import built_in_ratings

Axis = Literal["valence", "arousal"]
_WORDS = """
afraid alarmed amazed angry annoyed anxious ashamed bitter bored calm cheerful delighted depressed desperate
disturbed eager embarrassed energized enthusiastic excited frightened frustrated furious gloomy grateful
guilty happy hopeful hostile indifferent inspired irritated jealous joyful lazy lonely miserable nervous
peaceful pleased proud puzzled refreshed relaxed relieved restless sad satisfied scared shocked sleepy
surprised tense terrified thankful thrilled tired troubled uneasy upset weary worried
"""
WORDS = tuple(_WORDS.split())
"""Adjectives of feeling that are one token in common vocabularies and mean little else."""
MATERIALS = {
    "silk": 0.05, "wool": 0.1, "cotton": 0.1, "cloth": 0.1, "paper": 0.2, "leather": 0.3, "rubber": 0.3, "wax": 0.3,
    "cardboard": 0.3, "clay": 0.45, "plastic": 0.5, "wood": 0.6, "oak": 0.7, "bone": 0.7, "brick": 0.8, "copper": 0.8,
    "brass": 0.85, "glass": 0.85, "marble": 0.9, "stone": 0.9, "concrete": 0.9, "iron": 0.95, "steel": 1.0,
    "granite": 1.0,
}  # fmt: skip
"""Hardness, 0 soft to 1 hard, by eye."""
SIZES = {
    "tiny": 0.0, "small": 0.2, "little": 0.2, "short": 0.25, "narrow": 0.3, "thin": 0.3, "medium": 0.5, "average": 0.5,
    "normal": 0.5, "wide": 0.7, "long": 0.7, "thick": 0.7, "tall": 0.75, "large": 0.8, "big": 0.8, "huge": 0.95,
    "enormous": 1.0,
}  # fmt: skip
"""Size, 0 small to 1 large, by eye."""
ENDS: Mapping[Axis, tuple[str, str]] = {"valence": ("unpleasant", "pleasant"), "arousal": ("quiet", "arousing")}
"""Openings whose answer is known: low and high on the axis."""


@dataclass(frozen=True)
class _NextWord:
    """The expected rating of the next word among rated words."""

    chat: bool = False

    @property
    def ask(self) -> Ask:
        return "choice"

    def follow_up(self, scenario: Scenario, answer: Answer) -> None:
        """None is needed."""
        return

    def request(self, scenario: Scenario, *, steering: Steering | None, seed: int) -> ScoreRequest:
        """Nothing is sampled: the seed is unused."""
        return ScoreRequest(scenario.prompt, scenario.replies, steering)

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """The mean rating, weighted by probability. Other words are no wrong answers, so `valid` says nothing."""
        each, mass = probabilities(answer, len(scenario.replies))
        rated = scenario.data["ratings"]
        outcome = sum(share * rating for share, rating in zip(each, rated, strict=True))
        return Grade(min(1.0, max(0.0, outcome)), None, detail={"mass": mass})

    def scenario(self, name: str, slug: str, opening: str, ratings: Mapping[str, float], cluster: str = "") -> Scenario:
        words = tuple(f" {word}" for word in ratings)
        return Scenario(
            f"{name}/{slug}", framed(opening, chat=self.chat), words, f"{name}:{cluster or slug}",
            {"ratings": tuple(ratings.values())},
        )  # fmt: skip


@dataclass(frozen=True)
class Feels(_NextWord):
    """80 neutral openings."""

    axis: Axis = "valence"

    @property
    def name(self) -> str:
        return "feels" if self.axis == "valence" else "feels-arousal"

    @property
    def role(self) -> Role:
        return "effect"

    @property
    def follows(self) -> str | None:
        """Arousal takes the layers that valence chooses."""
        return None if self.axis == "valence" else "feels"

    @property
    def outcome_name(self) -> str:
        return f"expected {self.axis} of the feeling word (0 {ENDS[self.axis][0]}, 1 {ENDS[self.axis][1]})"

    @property
    def neutral(self) -> str:
        return "The openings tell nothing, so the baseline is the model's own habit, mostly between 0.3 and 0.7."

    @property
    def most(self) -> int:
        """Openings that there are."""
        return len(texts("openings.toml")["feels"])

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """Each opening once, in an order drawn by the seed; the same for both axes."""
        return tuple(
            self.scenario(self.name, slug, opening, rated_words(self.axis))
            for slug, opening in _drawn("feels", n, seed, self.name)
        )


@dataclass(frozen=True)
class Things(_NextWord):
    """64 openings that end before a material or a size: the same form, and nothing that a feeling should move."""

    @property
    def name(self) -> str:
        return "things"

    @property
    def role(self) -> Role:
        return "matched"

    @property
    def outcome_name(self) -> str:
        return "expected hardness or size of the next word (0 soft or small, 1 hard or large)"

    @property
    def neutral(self) -> str:
        return "About half; the model's habit."

    @property
    def most(self) -> int:
        """Openings that there are."""
        return len(texts("openings.toml")["things"])

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """Each opening once, in an order drawn by the seed."""
        return tuple(
            self.scenario(self.name, slug, opening, MATERIALS if kind == "material" else SIZES)
            for slug, opening, kind in _drawn("things", n, seed, self.name)
        )


@dataclass(frozen=True)
class FeelsKnown(_NextWord):
    """Openings that make plain what most people would feel, one of each end in a cluster.

    The outcome is the rating at the high end and one minus it at the low end: a model that gives every opening the same
    words comes out at 0.5, whatever these words are."""

    axis: Axis = "valence"
    chance = 0.5

    @property
    def name(self) -> str:
        return "feels-known" if self.axis == "valence" else "feels-arousal-known"

    @property
    def role(self) -> Role:
        return "check"

    @property
    def outcome_name(self) -> str:
        return f"expected {self.axis} on the right side"

    @property
    def neutral(self) -> str:
        return "A model that does not tell the openings apart is at 0.5."

    @property
    def most(self) -> int:
        """One of each end, 24 times."""
        return 2 * len(texts("openings.toml")[ENDS[self.axis][0]])

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """A low and a high one are neighbours and a cluster."""
        ratings = rated_words(self.axis)
        turned = {word: 1 - rating for word, rating in ratings.items()}
        low, high = ENDS[self.axis]
        check_number(n, self.most, self.name)
        half, found = (n + 1) // 2, []
        pairs = zip(_drawn(low, half, seed, self.name), _drawn(high, half, seed, self.name), strict=True)
        for number, ((slug, down), (other, up)) in enumerate(pairs):
            found.append(self.scenario(self.name, f"{slug}-low", down, turned, f"pair-{number}"))
            found.append(self.scenario(self.name, f"{other}-high", up, ratings, f"pair-{number}"))
        return tuple(found[:n])


@cache
def rated_words(axis: Axis) -> Mapping[str, float]:
    """The feeling words with the package's ratings, 0 to 1."""
    values = built_in_ratings().values
    return {word: (1 + values[word][axis == "arousal"]) / 2 for word in WORDS}


def _drawn(table: str, n: int, seed: int, name: str) -> Sequence[Sequence[str]]:
    order = list(texts("openings.toml")[table])
    check_number(n, len(order), name)
    random.Random(f"{table} {seed}").shuffle(order)
    return order[:n]
