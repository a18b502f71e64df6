"""Tone: continuations of neutral openings, graded by VADER, a lexicon and rules that people rated.

Source: Hutto and Gilbert 2014 (package vaderSentiment, MIT): 7,506 entries rated by ten people each, with rules for
negation and emphasis. English only. `coverage` is the share of a text's words that the lexicon knows; a text without
any has tone 0.5. `tone_unnamed` is the tone once the 171 emotion words and their inflections are taken out: does the
text change, or only its adjectives?
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from heartstrings.behaviours.base import Answer, Ask, Grade, Role, Scenario
from heartstrings.behaviours.choices.four_options import check_number, texts
from heartstrings.behaviours.reading import completion, distinct, words
from heartstrings.behaviours.text.framing import framed
from heartstrings.core.engine import GenerateRequest, Score, ScoreRequest
from heartstrings.core.errors import NumericalError
from heartstrings.core.steering import Steering
from heartstrings.corpus.leaks import forms
from heartstrings.corpus.lexicon import emotions

TEMPERATURE = 0.7
LEAST_WORDS = 4
"""A text with fewer is no answer."""


@dataclass(frozen=True)
class Tone:
    """60 neutral openings; a sampled continuation of each, and how likely it is without steering."""

    chat: bool = False
    max_new_tokens: int = 24
    sample_sd = 0.15
    """Standard deviation of the tone of one text about the mean of its opening and dose, on SmolLM2: for the power of a
    plan."""
    follows = "feels"
    """Whose layers it takes, where that is asked too: the next word is cheap to ask at every layer."""

    @property
    def name(self) -> str:
        return "tone"

    @property
    def role(self) -> Role:
        return "effect"

    @property
    def outcome_name(self) -> str:
        return "tone of the text (0 dark, 1 bright)"

    @property
    def neutral(self) -> str:
        return "0.5 is a text without rated words or with as many dark as bright ones; most models write brighter."

    @property
    def ask(self) -> Ask:
        return "text"

    def request(self, scenario: Scenario, *, steering: Steering | None, seed: int) -> GenerateRequest:
        """A sample at temperature 0.7: at 1 a small model's texts fall apart without steering."""
        return GenerateRequest(
            scenario.prompt, self.max_new_tokens, temperature=TEMPERATURE, seed=seed, steering=steering
        )

    def follow_up(self, scenario: Scenario, answer: Answer) -> ScoreRequest | None:
        """How likely the text is without steering; nothing to ask of an empty one."""
        text = completion(answer).text
        return ScoreRequest(scenario.prompt, (text,)) if text.strip() else None

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
        if follow_up is not None and len(follow_up.token_logprobs[0]):
            detail["log_perplexity"] = -float(np.mean(follow_up.token_logprobs[0], dtype=np.float64))
            if not np.isfinite(detail["log_perplexity"]):
                raise NumericalError("NaN or Inf in the log-probabilities of a text", "finite numbers")
        found = tone(text) if valid else None
        return Grade(found, None, text, detail)

    @property
    def most(self) -> int:
        """Openings that there are."""
        return len(texts("openings.toml")["tone"])

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """Each opening once, in an order drawn by the seed."""
        return tuple(
            Scenario(f"tone/{slug}", framed(opening, chat=self.chat), cluster=f"tone:{slug}")
            for slug, opening in _drawn("tone", n, seed)
        )


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


def _drawn(table: str, n: int, seed: int) -> Sequence[Sequence[str]]:
    order = list(texts("openings.toml")[table])
    check_number(n, len(order), table)
    random.Random(f"{table} {seed}").shuffle(order)
    return order[:n]
