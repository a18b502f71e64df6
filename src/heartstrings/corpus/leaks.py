"""Finds the emotion that a text should show and not name: the word, its inflections, its close synonyms.

Regular inflections are made by rule. `data/leaks.txt` adds irregular forms and nouns, removes regular ones that mostly
mean something else (`please`, `tires`, an alarm clock), and lists close synonyms.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from heartstrings.corpus.shipped import packaged


@dataclass(frozen=True, slots=True)
class Forms:
    """The words that name an emotion, most direct first. Lower case; a space also matches a hyphen."""

    word: str
    inflections: frozenset[str]
    synonyms: frozenset[str]
    """Close synonyms with their adverbs and nouns in -ness."""
    listed: tuple[str, ...] = ()
    """The inflections that are in the table; a prompt lists these."""
    near: tuple[str, ...] = ()
    """The synonyms that are in the table; a prompt lists these."""


def find_leak(emotion: str, text: str) -> tuple[str, str] | None:
    """(`emotion word`, `inflection` or `synonym`; the words around it) of the most direct leak, or None."""
    for kind, pattern in _patterns(emotion):
        if match := pattern.search(text):
            return kind, text[max(match.start() - 25, 0) : match.end() + 25]
    return None


@cache
def forms(emotion: str) -> Forms:
    """The forms that name this emotion. A word that is not in the table gets its regular inflections."""
    extra, removed, synonyms = _table().get(emotion, ((), (), ()))
    inflections = (set(regular(emotion)) | set(extra)) - set(removed) - {emotion}
    near = {form for word in synonyms for form in (word, *_adverb_and_noun(word))}
    return Forms(emotion, frozenset(inflections), frozenset(near - inflections - {emotion}), extra, synonyms)


def regular(word: str) -> Iterator[str]:
    """Regular inflections of an adjective, participle or noun. A form that is not a word does no harm.

    Only verb stems get forms in -s, so that `kind` does not forbid `kinds`, nor `patient` `patients`.
    """
    yield from _adverb_and_noun(word)
    if word.endswith("y"):
        yield from (word[:-1] + "ier", word[:-1] + "iest")
    elif word.endswith("e"):
        yield from (word + "r", word + "st")
    elif len(word) <= 6:
        yield from (word + "er", word + "est", word + word[-1] + "er", word + word[-1] + "est")
    if word.endswith("ed") and " " not in word and len(word) > 4:
        for stem in _verb_stems(word):
            yield from (stem, stem + "s", stem + "es", stem.removesuffix("e") + "ing")
            yield stem.removesuffix("e") + "ingly"
            if stem.endswith("y"):
                yield stem[:-1] + "ies"
    if word.endswith("ful"):
        yield from (word[:-3], word[:-3] + "s")


def _adverb_and_noun(word: str) -> Iterator[str]:
    if word.endswith("y"):
        yield from (word[:-1] + "ily", word[:-1] + "iness")
    elif word.endswith("le"):
        yield from (word[:-1] + "y", word + "ness")
    elif word.endswith("ic"):
        yield from (word + "ally", word + "ness")
    else:
        yield from (word + "ly", word + "ness")


def _verb_stems(participle: str) -> Iterator[str]:
    base = participle[:-2]
    if base.endswith("i"):
        yield base[:-1] + "y"
        return
    yield from (base, base + "e")
    if len(base) > 3 and base[-1] == base[-2]:
        yield base[:-1]


@cache
def _patterns(emotion: str) -> tuple[tuple[str, re.Pattern[str]], ...]:
    known = forms(emotion)
    kinds = {"emotion word": {known.word}, "inflection": known.inflections, "synonym": known.synonyms}
    return tuple((kind, _any_of(words)) for kind, words in kinds.items() if words)


def _any_of(words: Set[str]) -> re.Pattern[str]:
    spelled = (re.escape(word).replace(r"\ ", r"[\s-]+").replace(r"\-", r"[\s-]?") for word in sorted(words))
    # Underscores are emphasis in plain text, so they end a word too.
    return re.compile(r"(?<![^\W_])(?:" + "|".join(spelled) + r")(?![^\W_])", re.IGNORECASE)


@cache
def _table() -> Mapping[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]]:
    """emotion -> (forms to add, regular forms to remove, synonyms).

    A line reads `emotion: form, form, -form | synonym, synonym`; # begins a comment.
    """
    table = {}
    for line in packaged("leaks.txt").splitlines():
        line = line.partition("#")[0].strip()
        if not line:
            continue
        emotion, _, rest = line.partition(":")
        own, _, others = rest.partition("|")
        given, synonyms = ([form.strip() for form in part.split(",") if form.strip()] for part in (own, others))
        added = tuple(form for form in given if not form.startswith("-"))
        removed = tuple(form[1:] for form in given if form.startswith("-"))
        table[emotion.strip()] = (added, removed, tuple(synonyms))
    return MappingProxyType(table)
