"""The organisms' world: its words, their places in the valence-arousal plane, and sentences made of them."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float64

from heartstrings.corpus.lexicon import built_in_ratings, emotions

Item = TypeVar("Item")

CENTRES = {"n": -0.7, "m": 0.0, "p": 0.7}, {"l": -0.65, "m": 0.0, "h": 0.65}
JITTER = 0.22
PECULIAR = 0.15
"""Share of a slot's words that an emotion takes from two words of its own, so that neighbours in the plane (`grateful`,
`thankful`) still differ."""
PLANT_SEED = 171
"""Fixes the place of each word in the plane. It is part of the organisms' world, not the seed of an experiment."""


@dataclass(frozen=True)
class Slot:
    """A place in a sentence and the words that may fill it. `points`: (valence, arousal) a word."""

    name: str
    words: tuple[str, ...]
    points: Float64[np.ndarray, "word plane"]
    spread: float
    """Standard deviation in the plane: how closely a word's place must match the emotion's."""


@cache
def lexis() -> Mapping[str, Any]:
    """The word file as parsed."""
    return tomllib.loads((resources.files(__package__) / "lexis.toml").read_text(encoding="utf-8"))


@cache
def slots() -> Mapping[str, Slot]:
    """The eight emotional slots, every word with its place: its region's centre, displaced a little."""
    rng = np.random.default_rng(PLANT_SEED)
    by_name = {}
    for name, table in lexis()["slots"].items():
        words, points = [], []
        for region, members in table.items():
            if region == "spread":
                continue
            centre = np.array([CENTRES[0][region[0]], CENTRES[1][region[1]]])
            words += members
            points += [centre + rng.uniform(-JITTER, JITTER, 2) for _ in members]
        by_name[name] = Slot(name, tuple(words), np.array(points), table["spread"])
    return by_name


@cache
def plane() -> Float64[np.ndarray, "emotion plane"]:
    """(valence, arousal) of the 171 emotions in alphabetical order: the planted truth."""
    return np.column_stack(built_in_ratings().arrays(emotions()))


@cache
def word_chances() -> Mapping[str, Float64[np.ndarray, "emotion word"]]:
    """For every slot, the probability of each word given the emotion; the last row is neutral: all words alike.

    exp(-distance^2 / 2 spread^2) in the plane, normalised; in the sharper slots a share PECULIAR of it goes to
    two words of the emotion's own, picked among the eight nearest.
    """
    rng = np.random.default_rng(PLANT_SEED + 1)
    chances = {}
    for slot in slots().values():
        squared = ((plane()[:, None] - slot.points[None]) ** 2).sum(-1)
        table = np.exp(-squared / (2 * slot.spread**2))
        table /= table.sum(1, keepdims=True)
        if slot.spread < 0.5:
            for row, nearest in zip(table, np.argsort(squared, axis=1)[:, :8], strict=True):
                row *= 1 - PECULIAR
                row[rng.choice(nearest, 2, replace=False)] += PECULIAR / 2
        chances[slot.name] = np.vstack([table, np.full((1, len(slot.words)), 1 / len(slot.words))])
    return chances


NEUTRAL = len(emotions())
"""The row of `word_chances` for text without an emotion."""


class Draws:
    """Uniform numbers from a seeded generator, drawn in blocks: a document needs a hundred of them."""

    def __init__(self, seed: int | Sequence[int]) -> None:
        self._rng = np.random.default_rng(seed)
        self._block: list[float] = []

    def uniform(self) -> float:
        if not self._block:
            self._block = self._rng.random(1 << 14).tolist()
        return self._block.pop()

    def below(self, n: int) -> int:
        return int(self.uniform() * n)

    def pick(self, items: Sequence[Item]) -> Item:
        return items[int(self.uniform() * len(items))]

    def order(self, items: Sequence[Item]) -> list[Item]:
        return [items[row] for row in sorted(range(len(items)), key=lambda _: self.uniform())]


@cache
def _cumulative() -> Mapping[str, list[list[float]]]:
    return {name: np.cumsum(table, axis=1).tolist() for name, table in word_chances().items()}


def fill_slot(draws: Draws, name: str, emotion: int) -> str:
    """A word of this slot for the emotion in this row (NEUTRAL: any word)."""
    words = slots()[name].words
    return words[min(bisect(_cumulative()[name][emotion], draws.uniform()), len(words) - 1)]


@cache
def parts(template: str) -> tuple[tuple[str, str], ...]:
    """A template as (text before, slot name) pairs; the last name is empty."""
    pieces = [*re.split(r"\{(\w+)\}", template), ""]
    return tuple(zip(pieces[::2], pieces[1::2], strict=True))


@dataclass(frozen=True)
class Scene:
    """The persons and the place of a story, and how it is told. All of it is independent of the emotion."""

    topic: str
    name: str
    other: str
    pronoun: str
    """`she`, `he` or `I`."""

    @property
    def possessive(self) -> str:
        return {"she": "her", "he": "his", "I": "my"}[self.pronoun]


@cache
def topics() -> tuple[str, ...]:
    """The topics of the default stories, the same for every emotion."""
    return tuple(lexis()["topics"])


def scene(draws: Draws, topic: str | None = None) -> Scene:
    """A cast and a place; one story in three is told in the first person."""
    story = lexis()["story"]
    woman = draws.uniform() < 0.5
    name = draws.pick(story["women" if woman else "men"])
    other = name
    while other == name:
        other = draws.pick(story["women"] + story["men"])
    first = draws.uniform() < 1 / 3
    return Scene(topic or draws.pick(topics()), name, other, "I" if first else "she" if woman else "he")


def sentences(draws: Draws, at: Scene, emotion: int, n: int) -> list[str]:
    """`n` sentences in which the emotion shows; templates in random order, none twice before all were used."""
    templates = lexis()["story"]["sentence"]
    order: list[str] = []
    while len(order) < n:
        order += draws.order(templates)
    return [_sentence(draws, at, emotion, template) for template in order[:n]]


def story_text(draws: Draws, at: Scene, emotion: int) -> str:
    """A story of an opening and eight to ten sentences, about 100 to 130 tokens.

    Length, cast, place, person and the order of the sentences are drawn before any word of feeling and do not
    depend on it.
    """
    opening = _sentence(draws, at, NEUTRAL, draws.pick(lexis()["story"]["opening"]))
    return " ".join([opening, *sentences(draws, at, emotion, 8 + draws.below(3))])


def _sentence(draws: Draws, at: Scene, emotion: int, template: str) -> str:
    world = lexis()
    topic = world["topics"][at.topic]
    left = {name: draws.order(topic[name]) for name in ("places", "things")}
    words = []
    for text, name in parts(template):
        words.append(text)
        if not name:
            continue
        if name in slots():
            words.append(fill_slot(draws, name, emotion))
        elif name in ("Who", "who"):
            # The name in half of the cases, so that a reader who starts in the middle knows who it is about.
            by_name = at.pronoun != "I" and draws.uniform() < 0.5
            who = at.name if by_name else at.pronoun
            words.append(who[0].upper() + who[1:] if name == "Who" else who)
        elif name in ("Whose", "whose"):
            words.append(at.possessive.capitalize() if name == "Whose" else at.possessive)
        elif name == "other":
            words.append(at.other)
        elif name in ("place", "thing"):
            words.append(left[name + "s"].pop())
        else:
            words.append(draws.pick(world["story"][name]))
    return "".join(words)
