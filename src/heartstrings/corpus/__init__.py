"""Stories and neutral texts: read, generate, filter, split, hash."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heartstrings.corpus.facts import StoryFacts, facts
from heartstrings.corpus.filters import clean
from heartstrings.corpus.readers import read_neutral, read_stories, write_stories
from heartstrings.corpus.shipped import shipped_neutral, shipped_stories
from heartstrings.corpus.stories import Corpus, Dropped, NeutralTexts, Story
from heartstrings.corpus.texts import calibration_texts, topics

if TYPE_CHECKING:
    from heartstrings.corpus.splits import halves, topic_folds, unsplit

__all__ = [
    "Corpus",
    "Dropped",
    "NeutralTexts",
    "Story",
    "StoryFacts",
    "calibration_texts",
    "clean",
    "facts",
    "halves",
    "read_neutral",
    "read_stories",
    "shipped_neutral",
    "shipped_stories",
    "topic_folds",
    "topics",
    "unsplit",
    "write_stories",
]


def __getattr__(name: str) -> Any:
    # The splits need numpy; whoever only reads stories does not.
    if name in {"halves", "topic_folds", "unsplit"}:
        from heartstrings.corpus import splits

        return getattr(splits, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
