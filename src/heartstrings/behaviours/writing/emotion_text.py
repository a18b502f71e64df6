"""Emotion in a text: the mean rating of its emotion words, and optionally a classifier of the user.

The lexicon has the 171 words of `corpus.lexicon` (or a larger table that the user gives) in exactly this form and takes
simple negation into account. It does not recognise irony, quotations or whose feelings are meant, and is English only.
Most texts have few such words: `coverage` is their share, and without any the score is missing. The score is a detail
of a grade and decides nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from heartstrings.behaviours.base import Answer, Grade, Request, Scenario
from heartstrings.behaviours.forms import Forwarding
from heartstrings.behaviours.reading import words
from heartstrings.core.engine import Score, ScoreRequest
from heartstrings.core.errors import InputError
from heartstrings.core.steering import Steering
from heartstrings.corpus.lexicon import Ratings, built_in_ratings

NEGATED = -0.5
"""Factor of a negated word's valence: `not happy` is unpleasant, but less so than `happy` is pleasant."""
DAMPED = 0.5
"""Factor of a negated word's arousal."""
REACH = 3
"""Words before an emotion word in which a negation counts, within the same clause."""
_NEGATIONS = frozenset(
    ["not", "no", "never", "neither", "nor", "without", "hardly", "barely", "nothing", "cannot", "nobody"]
)
_CLAUSE = re.compile(r"[.!?;:,\n]|\bbut\b|\balthough\b|\bonly\b", re.IGNORECASE)


@dataclass(frozen=True)
class TextEmotion:
    """Valence and arousal of the emotion words of a text."""

    valence: float | None
    """Mean over the emotion words, -1 to 1; None without any."""
    arousal: float | None
    n_found: int
    """Emotion words."""
    n_words: int

    @property
    def coverage(self) -> float:
        """Share of the words that are emotion words."""
        return self.n_found / self.n_words if self.n_words else 0.0


def text_emotion(text: str, ratings: Ratings | None = None) -> TextEmotion:
    """Mean valence and arousal of a text's emotion words.

    Entries of several words are looked for first. A negation (`not`, `never`, `n't`, ...) up to three words before, in
    the same clause, multiplies a word's valence by -0.5 and its arousal by 0.5. Estimated ratings are not used.
    """
    ratings = _built_in() if ratings is None else ratings
    table = {word: value for word, value in ratings.values.items() if word not in ratings.estimated}
    longest = _longest(tuple(table))
    n_words, rated = 0, list[tuple[float, float]]()
    for clause in _CLAUSE.split(text):
        told = [word.replace("’", "'") for word in words(clause)]
        n_words += len(told)
        at = 0
        while at < len(told):
            for size in range(min(longest, len(told) - at), 0, -1):
                value = table.get(" ".join(told[at : at + size]))
                if value is not None:
                    turned = any(word in _NEGATIONS or word.endswith("n't") for word in told[max(0, at - REACH) : at])
                    rated.append((value[0] * NEGATED, value[1] * DAMPED) if turned else value)
                    at += size
                    break
            else:
                at += 1
    if not rated:
        return TextEmotion(None, None, 0, n_words)
    valence, arousal = (math.fsum(column) / len(rated) for column in zip(*rated, strict=True))
    return TextEmotion(valence, arousal, len(rated), n_words)


def details(text: str, ratings: Ratings | None = None) -> dict[str, float]:
    """For `Grade.detail`: `emotion_coverage`, and `emotion_valence` and `emotion_arousal` where there are any."""
    emotion = text_emotion(text, ratings)
    made = {"emotion_coverage": emotion.coverage}
    if emotion.valence is not None and emotion.arousal is not None:
        made |= {"emotion_valence": emotion.valence, "emotion_arousal": emotion.arousal}
    return made


def classify(texts: Sequence[str], folder: Path | str | None) -> list[Mapping[str, float]] | None:
    """Probability of each label for each text, by a text-classification model in a local folder.

    None without a folder: the classifier was not run, which is not a score of 0. Texts are cut at 512 tokens.

    Raises:
        InputError: the folder does not exist or has no such model.
    """
    if folder is None:
        return None
    if not (Path(folder) / "config.json").is_file():
        raise InputError(f"no model in {folder}", "a folder with a transformers text-classification model")
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
    labels = [str(model.config.id2label[at]) for at in range(model.config.num_labels)]
    made: list[Mapping[str, float]] = []
    with torch.no_grad():
        for text in texts:  # one by one, so that no result depends on padding
            inputs = tokenizer(text, truncation=True, max_length=512, return_tensors="pt")
            shares = model(**inputs).logits[0].double().softmax(-1).tolist()
            made.append(dict(zip(labels, shares, strict=True)))
    return made


@dataclass(frozen=True)
class WithEmotion(Forwarding):
    """A behaviour of written text whose grades also have `details`; everything else is unchanged.

    Raises:
        InputError: a behaviour that is not answered in text.
    """

    ask = "text"

    def __post_init__(self) -> None:
        if self.of.ask != "text":
            raise InputError(f"the behaviour {self.of.name}, asked by {self.of.ask}", "one that is answered in text")

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        return self.of.scenarios(n=n, seed=seed)

    def request(self, scenario: Scenario, *, steering: Steering | None, seed: int) -> Request:
        return self.of.request(scenario, steering=steering, seed=seed)

    def follow_up(self, scenario: Scenario, answer: Answer) -> ScoreRequest | None:
        return self.of.follow_up(scenario, answer)

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        made = self.of.grade(scenario, answer, follow_up)
        return replace(made, detail={**made.detail, **details(made.text)}) if made.text else made


@lru_cache(maxsize=1)
def _built_in() -> Ratings:
    return built_in_ratings()


@lru_cache(maxsize=4)
def _longest(entries: tuple[str, ...]) -> int:
    return max((entry.count(" ") + 1 for entry in entries), default=1)
