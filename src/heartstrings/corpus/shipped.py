"""The texts that ship with the package: stories and neutral texts (docs/corpus.md), calibration texts, topics."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

from heartstrings.corpus.stories import Corpus, NeutralTexts, Story


@cache
def shipped_stories() -> Corpus:
    """480 English stories of about 100 words: 40 emotions x 12 topics, fully crossed, one story a cell.

    Claude, a language model of Anthropic, wrote them for this package in November 2026. Each emotion has three stories
    of each combination of first or third person with or without one line of direct speech.

    A changed text changes the vectors of every user. So any change raises the number in `source`, and a test holds the
    hash of the texts.
    """
    rows = [json.loads(line) for line in packaged("stories.jsonl").splitlines()]
    stories = (Story(row["emotion"], row["topic"], row["text"], row["author"], row["perspective"]) for row in rows)
    return Corpus(tuple(stories), author="claude", source="heartstrings stories 1")


@cache
def shipped_neutral() -> NeutralTexts:
    """60 English texts of about 100 words, five on each topic of `shipped_stories`, in which nobody feels anything.

    They have the same author, the same persons and as much direct speech, so that they share with the stories
    everything except emotion.
    """
    texts = (json.loads(line)["text"] for line in packaged("neutral.jsonl").splitlines())
    return NeutralTexts(tuple(texts), source="heartstrings neutral texts 1")


@cache
def calibration_texts() -> NeutralTexts:
    """48 English paragraphs of many kinds, written for this package.

    The mean residual norm over them is the unit of dose. A changed text would change that unit, so they never change,
    and a test holds their hash.
    """
    return NeutralTexts(_lines("calibration.txt"), source="heartstrings calibration texts 1")


@cache
def topics() -> tuple[str, ...]:
    """100 everyday situations. Each can be told with any emotion."""
    return _lines("topics.txt")


def packaged(name: str) -> str:
    """The content of one of the package's data files."""
    return (resources.files("heartstrings") / "data" / name).read_text(encoding="utf-8")


def _lines(name: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in packaged(name).splitlines() if line.strip())
