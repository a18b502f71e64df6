"""Filters for stories that name their emotion, occur twice, are too short, or break off."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import replace

from heartstrings.corpus.leaks import find_leak
from heartstrings.corpus.stories import Corpus, Dropped, Story

REASONS = ("too short", "cut off", "emotion word", "inflection", "synonym", "duplicate", "near duplicate")
CLOSED = re.compile(r"[.!?…。！？][\"'”’»)\]*_]*\s*$")
SHINGLE = 5
NEAR = 0.5


def clean(corpus: Corpus, *, min_words: int = 40) -> Corpus:
    """The corpus without the stories that a filter drops. `filtered` counts them by reason, `dropped` lists them.

    A story is dropped for the first of these reasons that applies: `too short` (under `min_words` words), `cut off`
    (the last character, quotation marks aside, does not end a sentence), `emotion word`, `inflection` or `synonym` of
    its own emotion in the text, `duplicate` (the same words as an earlier story, case and punctuation aside), `near
    duplicate` (at least half of the different 5-word sequences of it and an earlier story are in both; Jaccard index of
    shingles, Broder 1997). `filtered` has every reason, so that a 0 says that the filter was applied.

    Texts are not changed.
    """
    kept: list[Story] = []
    dropped: list[Dropped] = []
    seen: dict[tuple[str, ...], Story] = {}
    near = NearDuplicates()
    for story in corpus.stories:
        words = plain_words(story.text)
        fault = _fault(story, min_words)
        if fault is None and (twin := seen.get(tuple(words))) is not None:
            fault = "duplicate", twin.text[:60]
        if fault is None and (at := near.find(words)) is not None:
            fault = "near duplicate", kept[at].text[:60]
        if fault is not None:
            dropped.append(Dropped(story, *fault))
            continue
        seen[tuple(words)] = story
        near.add(words)
        kept.append(story)
    counts = Counter(row.reason for row in dropped)
    filtered = {**corpus.filtered, **{reason: corpus.filtered.get(reason, 0) + counts[reason] for reason in REASONS}}
    return replace(corpus, stories=tuple(kept), filtered=filtered, dropped=(*corpus.dropped, *dropped))


def _fault(story: Story, min_words: int) -> tuple[str, str] | None:
    """(reason, evidence) of what is wrong with one story by itself."""
    n_words = len(story.text.split())
    if n_words < min_words:
        return "too short", f"{n_words} words"
    if broken_off(story.text):
        return "cut off", story.text.rstrip()[-40:]
    return find_leak(story.emotion, story.text)


def broken_off(text: str) -> bool:
    """Whether the text does not end with the end of a sentence, quotation marks and brackets aside."""
    return CLOSED.search(text) is None


def plain_words(text: str) -> list[str]:
    """Lower-case words without punctuation, in Unicode's normal form NFKC."""
    return re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).lower())


class NearDuplicates:
    """Finds an earlier text whose shingles have a Jaccard index of at least NEAR with a text's, without comparing all
    pairs: such texts share a shingle, and an inverted index lists the texts that have it."""

    def __init__(self) -> None:
        self._index: dict[int, list[int]] = defaultdict(list)
        self._sizes: list[int] = []

    def find(self, words: list[str]) -> int | None:
        shingles = self._shingles(words)
        shared = Counter(number for shingle in shingles for number in self._index.get(shingle, ()))
        for number, count in shared.items():
            if count >= NEAR * (len(shingles) + self._sizes[number] - count):
                return number
        return None

    def add(self, words: list[str]) -> None:
        shingles = self._shingles(words)
        for shingle in shingles:
            self._index[shingle].append(len(self._sizes))
        self._sizes.append(len(shingles))

    @staticmethod
    def _shingles(words: list[str]) -> set[int]:
        last = max(len(words) - SHINGLE, 0)
        return {hash(tuple(words[at : at + SHINGLE])) for at in range(last + 1)}
