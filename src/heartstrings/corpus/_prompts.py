"""What a writer is asked, in our own words, and how its answers are taken apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from heartstrings.corpus.leaks import forms
from heartstrings.corpus.stories import content_hash

Messages = tuple[tuple[str, str], ...]
"""(role, content) pairs of one chat."""
Verdict = Literal["ok", "empty", "refused", "unreadable"]

PERSPECTIVES = ("first", "third")
"""Taken in turn, so that narrative person is the same for every emotion and topic."""

STORY_SYSTEM = (
    "You write very short fiction for a study of how feelings show in prose. You follow the length and the "
    "layout you are given exactly, and you add no title, no comment and no moral."
)
STORY_TASK = """Write {n} separate stories. In each, one person feels {emotion}, and the occasion is this:
{topic}

The reader has to be able to tell the feeling from what the person does, notices, says and thinks, \
and from how the body behaves. The feeling itself is never named. Do not use any of these words, nor \
other forms of them, nor a near equivalent: {taboo}.

Each story is a single paragraph of {low} to {high} words and ends with a finished sentence. The \
feeling is there from the first sentence to the last. Give every story its own people, its own place \
and its own turn of events.
{persons}

Before each story put a line of its own with its number in double square brackets, like this:
[[1]]"""
PERSON_LINE = {
    "first": "Story {number} is told in the first person.",
    "third": "Story {number} is told in the third person.",
}

NEUTRAL_SYSTEM = (
    "You write plain practical dialogues for a study of prose. You follow the length and the layout you are "
    "given exactly, and you add no title and no comment."
)
NEUTRAL_TASK = """Write {n} separate dialogues between a person who wants information and an assistant \
who gives it. The situation they have to do with is this:
{topic}

They speak only of practical matters: times, sizes, prices, materials, rules, steps, names of things. \
Nobody shows, mentions or asks about any feeling, and nothing happens that would cause one. The tone is \
level, with no exclamation marks and no pleasantries.

Each dialogue has six turns, each on a line that begins with "Person:" or "Assistant:", and {low} to \
{high} words in all. Every dialogue is about another practical side of the situation.

Before each dialogue put a line of its own with its number in double square brackets, like this:
[[1]]"""

MARK = re.compile(r"^[\s*#>_-]*\[\[\s*(?:story|dialogue)?\s*(\d+)\s*\]\][\s*#_:.-]*$", re.IGNORECASE | re.MULTILINE)
LOOSE_MARK = re.compile(
    r"^[\s*#>_\[-]*(?:story|dialogue)\s+(\d+)[\s*#_:.\]-]*$|^\s*\[(\d+)\]\s*$", re.IGNORECASE | re.MULTILINE
)
THINKING = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>|^.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
UNFINISHED_THINKING = re.compile(r"<think(?:ing)?>.*\Z", re.DOTALL | re.IGNORECASE)
REFUSAL = re.compile(
    r"\b(?:i['’]?m sorry|i apologi[sz]e|sorry, (?:but )?i|i (?:can['’]?t|cannot|can not|won['’]?t|am unable|"
    r"am not able)|i['’]?m (?:unable|not able)|as an ai|unable to (?:help|assist|comply|write))\b",
    re.IGNORECASE,
)


def perspective(at: int) -> str:
    """Narrative person of story number `at` (0-based) on one emotion and topic."""
    return PERSPECTIVES[at % len(PERSPECTIVES)]


def story_prompt(emotion: str, topic: str, *, n: int, words: int, start: int = 0) -> Messages:
    """Asks for `n` stories of about `words` words that show `emotion` on `topic` and never name it.

    `start`: how many stories on the same emotion and topic other calls ask for before this one.
    """
    known = forms(emotion)
    taboo = ", ".join([emotion, *sorted(known.listed), *sorted(known.near)])
    persons = " ".join(PERSON_LINE[perspective(start + at)].format(number=at + 1) for at in range(n))
    return _story_messages(emotion, topic, taboo, persons, n, words)


def neutral_prompt(topic: str, *, n: int, words: int) -> Messages:
    """Asks for `n` dialogues on the practical side of `topic`, without any feeling."""
    low, high = _range(words)
    return (
        ("system", NEUTRAL_SYSTEM),
        ("user", NEUTRAL_TASK.format(n=n, topic=topic, low=low, high=high)),
    )


def prompt_hash(kind: Literal["story", "neutral"], *, n: int, words: int) -> str:
    """`sha256:...` of the prompt before emotion and topic are filled in: the same for every plan on it."""
    if kind == "story":
        messages = _story_messages("{emotion}", "{topic}", "{taboo}", "|".join(PERSON_LINE.values()), n, words)
    else:
        messages = neutral_prompt("{topic}", n=n, words=words)
    return content_hash([*message] for message in messages)


def parse(answer: str, *, n: int) -> tuple[tuple[tuple[int, str], ...], Verdict]:
    """((number, text), ...) of the pieces in an answer, with a verdict on the whole.

    Numbers are those of the markers, 1-based. Text before the first marker is a preface and is left out;
    thoughts in <think> tags are no part of an answer. An answer without any marker is one piece if one was
    asked for and it does not read like a refusal.
    """
    answer = UNFINISHED_THINKING.sub("", THINKING.sub("", answer)).strip()
    if not answer:
        return (), "empty"
    marks: Sequence[re.Match[str]] = list(MARK.finditer(answer)) or list(LOOSE_MARK.finditer(answer))
    if not marks:
        if REFUSAL.search(answer[:200]):
            return (), "refused"
        return (((1, answer),), "ok") if n == 1 else ((), "unreadable")
    pieces: dict[int, str] = {}
    ends = [*(mark.start() for mark in marks[1:]), len(answer)]
    for mark, end in zip(marks, ends, strict=True):
        number = int(next(group for group in mark.groups() if group is not None))
        text = answer[mark.end() : end].strip().strip("-*_#= \n").strip()
        if text and 1 <= number <= n and number not in pieces:
            pieces[number] = text
    if not pieces:
        return (), "refused" if REFUSAL.search(answer[:200]) else "unreadable"
    return tuple(sorted(pieces.items())), "ok"


def _story_messages(emotion: str, topic: str, taboo: str, persons: str, n: int, words: int) -> Messages:
    low, high = _range(words)
    task = STORY_TASK.format(n=n, emotion=emotion, topic=topic, taboo=taboo, persons=persons, low=low, high=high)
    return (("system", STORY_SYSTEM), ("user", task))


def _range(words: int) -> tuple[int, int]:
    """A narrow range, because stories of different length put position into the vectors."""
    return round(words * 0.9), round(words * 1.1)
