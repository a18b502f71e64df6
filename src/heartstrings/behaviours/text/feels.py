"""The next word after a neutral opening that ends with `felt`: how pleasant, and how aroused, are the feeling words?

Nothing is sampled: the probabilities of 62 feeling words are read and their ratings averaged, weighted by them. In most
models these words have a few hundredths of the probability (`mass` in the detail); the outcome uses their shares only.
Words: `data/next_words.toml`; openings: `data/openings.toml`. Protocol: the "he feels" continuation of Sofroniew et al.
2026.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from heartstrings.behaviours.base import Answer, Grade, Scenario
from heartstrings.behaviours.forms import Choice, Listed
from heartstrings.behaviours.items import check_number, drawn, texts
from heartstrings.behaviours.reading import probabilities
from heartstrings.behaviours.text._framing import framed
from heartstrings.core.engine import Score
from heartstrings.corpus.lexicon import built_in_ratings

Axis = Literal["valence", "arousal"]
Row = Sequence[str]
"""Slug, opening, and for things the kind of word."""
WORDS: tuple[str, ...] = tuple(texts("next_words.toml")["feelings"])
MATERIALS: Mapping[str, float] = texts("next_words.toml")["materials"]
SIZES: Mapping[str, float] = texts("next_words.toml")["sizes"]
ENDS: Mapping[Axis, tuple[str, str]] = {"valence": ("unpleasant", "pleasant"), "arousal": ("quiet", "arousing")}
"""Openings whose answer is known: low and high on the axis."""


@dataclass(frozen=True)
class _NextWord(Choice):
    """The expected rating of the next word among rated words."""

    chat: bool = False

    def opening(self, slug: str, text: str, ratings: Mapping[str, float], cluster: str = "") -> Scenario:
        """An opening, and the rated words as its replies."""
        words, rated = tuple(f" {word}" for word in ratings), tuple(ratings.values())
        return self.scenario(slug, framed(text, chat=self.chat), words, cluster=cluster, ratings=rated)

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """The mean rating, weighted by probability. `valid` is None, since other words are not wrong."""
        shares, mass = probabilities(answer, len(scenario.replies))
        rated = scenario.data["ratings"]
        outcome = sum(share * rating for share, rating in zip(shares, rated, strict=True))
        return Grade(min(1.0, max(0.0, outcome)), None, detail={"mass": mass})


@dataclass(frozen=True)
class Feels(_NextWord, Listed[Row]):
    """80 neutral openings, the same for both axes."""

    axis: Axis = "valence"

    role = "effect"
    neutral = "The openings tell nothing, so the baseline is the model's own habit, mostly between 0.3 and 0.7."
    order = "feels"

    @property
    def name(self) -> str:
        return "feels" if self.axis == "valence" else "feels-arousal"

    @property
    def outcome_name(self) -> str:
        return f"expected {self.axis} of the feeling word (0 {ENDS[self.axis][0]}, 1 {ENDS[self.axis][1]})"

    @property
    def follows(self) -> str | None:
        """Arousal takes the layers that valence chooses."""
        return None if self.axis == "valence" else "feels"

    def items(self) -> Sequence[Row]:
        return list(texts("openings.toml")["feels"])

    def item(self, row: Row) -> Scenario:
        """The opening with the feeling words."""
        return self.opening(row[0], row[1], rated_words(self.axis))


@dataclass(frozen=True)
class Things(_NextWord, Listed[Row]):
    """64 openings that end before a material or a size: the same form, and nothing that a feeling should move."""

    name = "things"
    role = "matched"
    outcome_name = "expected hardness or size of the next word (0 soft or small, 1 hard or large)"
    neutral = "About half; the model's habit."

    def items(self) -> Sequence[Row]:
        return list(texts("openings.toml")["things"])

    def item(self, row: Row) -> Scenario:
        """The opening with words for materials or for sizes."""
        slug, text, kind = row
        return self.opening(slug, text, MATERIALS if kind == "material" else SIZES)


@dataclass(frozen=True)
class FeelsKnown(_NextWord):
    """Openings after which most people would have a clear feeling, one of each end in a cluster.

    The outcome is the rating at the high end and one minus it at the low end: a model that gives every opening the same
    words has the outcome 0.5, whatever these words are."""

    axis: Axis = "valence"

    role = "check"
    neutral = "A model that does not tell the openings apart is at 0.5."
    chance = 0.5

    @property
    def name(self) -> str:
        return "feels-known" if self.axis == "valence" else "feels-arousal-known"

    @property
    def outcome_name(self) -> str:
        return f"expected {self.axis} on the right side"

    @property
    def most(self) -> int:
        """One of each end, 24 times."""
        return 2 * len(texts("openings.toml")[ENDS[self.axis][0]])

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """A low and a high one are neighbours and a cluster."""
        check_number(n, self.most, self.name)
        ratings = rated_words(self.axis)
        turned = {word: 1 - rating for word, rating in ratings.items()}
        lows, highs = (
            drawn(texts("openings.toml")[end], (n + 1) // 2, seed, self.name, order=end) for end in ENDS[self.axis]
        )
        scenarios = []
        for number, ((low_slug, down), (high_slug, up)) in enumerate(zip(lows, highs, strict=True)):
            scenarios.append(self.opening(f"{low_slug}-low", down, turned, f"pair-{number}"))
            scenarios.append(self.opening(f"{high_slug}-high", up, ratings, f"pair-{number}"))
        return tuple(scenarios[:n])


@cache
def rated_words(axis: Axis) -> Mapping[str, float]:
    """The feeling words with the package's ratings, 0 to 1."""
    values = built_in_ratings().values
    return {word: (1 + values[word][axis == "arousal"]) / 2 for word in WORDS}
