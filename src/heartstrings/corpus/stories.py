"""A story, a corpus of stories, a set of neutral texts: frozen, with content hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True, slots=True)
class Story:
    """One short text that shows an emotion. `emotion` is the label, which the text should not name."""

    emotion: str
    topic: str
    text: str
    author: str
    """Who wrote it: a model id, a person, a generator. It is always given, since vectors differ by author."""
    perspective: str | None = None
    """`first` or `third`; None where the source does not say."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A story that a filter dropped, and the part of the text that the reason rests on."""

    story: Story
    reason: str
    evidence: str


@dataclass(frozen=True)
class Corpus:
    """Stories and their source. `filtered` counts dropped stories by reason."""

    stories: tuple[Story, ...]
    author: str
    source: str
    prompt_hash: str | None = None
    """SHA-256 of the prompts that the stories were written with; None if it is not known."""
    filtered: Mapping[str, int] = field(default_factory=dict)
    dropped: tuple[Dropped, ...] = ()
    notes: tuple[str, ...] = ()
    """What a reader of results should know, for example that the author is the file's name."""

    def __len__(self) -> int:
        return len(self.stories)

    @cached_property
    def emotions(self) -> tuple[str, ...]:
        """The emotions that occur, sorted."""
        return tuple(sorted({story.emotion for story in self.stories}))

    @cached_property
    def topics(self) -> tuple[str, ...]:
        """The topics that occur, sorted."""
        return tuple(sorted({story.topic for story in self.stories}))

    @property
    def texts(self) -> tuple[str, ...]:
        """The story texts, in corpus order."""
        return tuple(story.text for story in self.stories)

    @cached_property
    def hash(self) -> str:
        """`sha256:...` of the multiset of (emotion, topic, text).

        The order of the stories, the layout of their file and the author's name do not change it. One changed
        character does, and so does a story that occurs twice.
        """
        return content_hash([story.emotion, story.topic, story.text] for story in self.stories)


@dataclass(frozen=True)
class NeutralTexts:
    """Texts without emotional content, for denoising (their principal components are projected out) or as a scale."""

    texts: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def hash(self) -> str:
        """`sha256:...` of the multiset of texts."""
        return content_hash([text] for text in self.texts)


def content_hash(rows: Iterable[list[str]]) -> str:
    """SHA-256 over the rows as compact JSON lines in sorted order, so that order never matters."""
    lines = sorted(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
    return "sha256:" + hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def author_of(stories: Iterable[Story]) -> str:
    """The author of several stories: all different names, sorted, separated by commas."""
    return ", ".join(sorted({story.author for story in stories}))
