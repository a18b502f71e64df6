"""From an engine's answer to a grade: the arithmetic that several behaviours share."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from heartstrings.behaviours.base import Answer
from heartstrings.core.engine import Completion, Score
from heartstrings.core.errors import InputError, NumericalError

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_MARKS = ".,;:!?"


def split(first: str, second: str) -> tuple[str, str, str]:
    """(shared opening, continuation of the first, continuation of the second) of two replies.

    The cut lies before a space, so each continuation carries it, as byte-level and SentencePiece tokenizers write
    words. A continuation is the first word in which the replies differ, without closing marks; where one is the
    beginning of the other (`1`, `17`), it goes on until it no longer is.

    Raises:
        InputError: the replies are the same, or one is the beginning of the other.
    """
    if first.startswith(second) or second.startswith(first):
        raise InputError(f"replies {first!r} and {second!r}", "two that part somewhere, neither within the other")
    one, two = first.split(" "), second.split(" ")
    at = next(i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b)
    lead = " " if at else ""
    for end in range(at + 1, max(len(one), len(two)) + 1):
        words = [lead + " ".join(reply[at:end]) for reply in (one, two)]
        for a, b in ([word.rstrip(_MARKS) for word in words], words):
            if a.strip() and b.strip() and not a.startswith(b) and not b.startswith(a):
                return " ".join(one[:at]), a, b
    raise InputError(f"replies {first!r} and {second!r}", "two that part somewhere, neither within the other")


def probabilities(answer: Answer, n: int = 2) -> tuple[tuple[float, ...], float]:
    """(probability of each reply among the replies, probability on all of them together).

    Raises:
        InputError: no score of `n` replies. NumericalError: a log-probability is NaN, or none is finite.
    """
    if not isinstance(answer, Score) or len(answer.logprobs) != n:
        raise InputError(f"an answer of type {type(answer).__name__} to a choice", f"a score of {n} replies")
    logs: Sequence[float] = answer.logprobs
    top = max(logs)
    if any(math.isnan(value) for value in logs) or not math.isfinite(top):
        raise NumericalError(f"log-probabilities {tuple(logs)}", "finite numbers", "Load the model in float32")
    shares = [math.exp(value - top) for value in logs]
    total = sum(shares)
    return tuple(share / total for share in shares), min(1.0, math.exp(top) * total)


def completion(answer: Answer) -> Completion:
    """The answer as a text; InputError if it is none."""
    if not isinstance(answer, Completion):
        raise InputError(f"an answer of type {type(answer).__name__} to a writing prompt", "a completion")
    return answer


def words(text: str) -> list[str]:
    """The words of a text in lower case."""
    return [found.group().lower() for found in WORD.finditer(text)]


def distinct(tokens: Sequence[str], n: int = 2) -> float | None:
    """Share of the n-grams that are different from one another; None when there are none."""
    grams = [tuple(tokens[at : at + n]) for at in range(len(tokens) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


def ends(answer: Completion, *, longest: int = 25) -> bool:
    """Whether the text ends properly: by the end token, at a stop string or with closing punctuation.

    One that was cut at the limit of new tokens does too if what is left open is no longer than a sentence
    (`longest` words): the limit is ours, not the model's.
    """
    text = answer.text.strip()
    if not text:
        return False
    if answer.finish != "length" or re.search(r"[.!?][\"'”’)]*$", text):
        return True
    closed = list(re.finditer(r"[.!?][\"'”’)]*\s", text))
    return bool(closed) and len(words(text[closed[-1].end() :])) <= longest
