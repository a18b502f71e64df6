"""Tone: continuations of neutral openings, graded by VADER, a lexicon and rules that people rated.

Source: Hutto and Gilbert 2014 (package vaderSentiment, MIT): 7,506 entries rated by ten people each, with rules for
negation and emphasis. English only. `coverage` is the share of a text's words that the lexicon knows; a text without
any has tone 0.5. `tone_unnamed` is the tone once the 171 emotion words and their inflections are taken out: does the
text change, or only its adjectives?
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cache
from typing import Any

from heartstrings.behaviours.base import Answer, Grade, Scenario
from heartstrings.behaviours.forms import Listed, Text
from heartstrings.behaviours.items import texts
from heartstrings.behaviours.reading import completion, distinct, log_perplexity, words
from heartstrings.behaviours.text._framing import framed
from heartstrings.core.engine import Score
from heartstrings.corpus.leaks import forms
from heartstrings.corpus.lexicon import emotions

LEAST_WORDS = 4
"""A text with fewer words is no answer."""


@dataclass(frozen=True)
class Tone(Listed[Sequence[str]], Text):
    """60 neutral openings; a sampled continuation of each, and how likely it is without steering."""

    chat: bool = False
    _: KW_ONLY
    max_new_tokens: int = 24

    name = "tone"
    role = "effect"
    outcome_name = "tone of the text (0 dark, 1 bright)"
    neutral = "0.5 is a text without rated words or with as many dark as bright ones; most models write brighter."
    temperature = 0.7
    """At 1 a small model's texts are incoherent without steering."""
    perplexity = True
    sample_sd = 0.15
    """Standard deviation of the tone of one text about the mean of its opening and dose, on SmolLM2: for the power of a
    plan."""
    follows = "feels"
    """It takes the layers of `feels` where that is asked too: the next word costs little at every layer."""

    def items(self) -> Sequence[Sequence[str]]:
        return list(texts("openings.toml")["tone"])

    def item(self, opening: Sequence[str]) -> Scenario:
        """The opening, to be continued."""
        return self.scenario(opening[0], framed(opening[1], chat=self.chat))

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """Tone from 0 (dark) to 1 (bright); None for a text of fewer than four words.

        Raises:
            NumericalError: the follow-up has NaN or Inf.
        """
        text = completion(answer).text
        told = words(text)
        valid = len(told) >= LEAST_WORDS
        detail = {"n_words": float(len(told))}
        further = {"coverage": coverage(text), "distinct_2": distinct(told)}
        if valid:
            further |= {"tone_unnamed": tone(_unnamed(text)), "same_script": same_script(text)}
        detail |= {name: value for name, value in further.items() if value is not None}
        return Grade(tone(text) if valid else None, None, text, detail | log_perplexity(follow_up))


def tone(text: str) -> float:
    """(1 + compound) / 2 of VADER: 0 dark, 1 bright, 0.5 for a text without rated words."""
    return (1 + float(_vader().polarity_scores(text)["compound"])) / 2


def coverage(text: str) -> float | None:
    """Share of the words that VADER's lexicon rates; None for a text without words."""
    told = words(text)
    return sum(word in _vader().lexicon for word in told) / len(told) if told else None


def same_script(text: str) -> float | None:
    """Share of the letters that are Latin, as the openings are: other scripts are a sign of a text that falls apart.
    None for a text without letters."""
    letters = [letter for letter in text if letter.isalpha()]
    if not letters:
        return None
    return sum(unicodedata.name(letter, "").startswith("LATIN") for letter in letters) / len(letters)


def _unnamed(text: str) -> str:
    return _emotion_words().sub(" ", text)


@cache
def _emotion_words() -> re.Pattern[str]:
    named = {form for word in emotions() for form in (word, *forms(word).inflections)}
    longest_first = sorted(named, key=lambda form: (-len(form), form))
    return re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, longest_first)) + r")(?!\w)", re.IGNORECASE)


@cache
def _vader() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()
