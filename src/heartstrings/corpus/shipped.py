"""The stories and neutral texts that ship with the package (docs/corpus.md): used where nobody brings others."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from heartstrings.corpus.stories import Corpus, NeutralTexts, Story


@cache
def shipped_stories() -> Corpus:
    """480 English stories of about 100 words: 40 emotions x 12 topics, fully crossed, one a cell.

    Claude, a language model of Anthropic, wrote them for this package in November 2026. Each emotion has three stories
    of each combination of first or third person with or without one line of direct speech.

    A changed text changes the vectors of everyone who uses them: the source's number goes up with any change, and a
    test holds their hash.
    """
    stories = tuple(
        Story(row["emotion"], row["topic"], row["text"], row["author"], row["perspective"])
        for row in _rows("stories.jsonl")
    )
    return Corpus(stories, author="claude", source="heartstrings stories 1")


@cache
def shipped_neutral() -> NeutralTexts:
    """60 English texts of about 100 words, five on each topic of `shipped_stories`, in which nobody feels anything.

    By the same author, in the same persons and with as much direct speech, so that what they share with the stories is
    everything but emotion.
    """
    return NeutralTexts(
        tuple(str(row["text"]) for row in _rows("neutral.jsonl")), source="heartstrings neutral texts 1"
    )


def _rows(name: str) -> list[dict[str, Any]]:
    content = (resources.files("heartstrings") / "data" / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in content.splitlines()]
