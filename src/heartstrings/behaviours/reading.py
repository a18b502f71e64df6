"""From an engine's answer to a grade: the arithmetic that several behaviours share."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from heartstrings.behaviours.base import Answer, Grade
from heartstrings.core.engine import Completion, Score
from heartstrings.core.errors import InputError, NumericalError

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_MARKS = ".,;:!?"
_ASK, _FLOAT32 = "Give the engine's answer to `request`", "Load the model in float32"
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)|\A.*?</think>", re.DOTALL)


def split(first: str, second: str) -> tuple[str, str, str]:
    """(shared opening, continuation of the first, continuation of the second) of two replies.

    The cut is before a space, and each continuation begins with that space, because byte-level and SentencePiece
    tokenizers write words in this way. A continuation is the first word in which the replies differ, without closing
    punctuation. If one continuation is the beginning of the other (`1`, `17`), both are extended until neither is.

    Raises:
        InputError: the replies are the same, or one is the beginning of the other.
    """
    if first.startswith(second) or second.startswith(first):
        raise InputError(f"replies {first!r} and {second!r}", "two that differ, neither the beginning of the other")
    first_words, second_words = first.split(" "), second.split(" ")
    at = next(i for i, (a, b) in enumerate(zip(first_words, second_words, strict=False)) if a != b)
    lead = " " if at else ""
    for end in range(at + 1, max(len(first_words), len(second_words)) + 1):
        words = [lead + " ".join(reply[at:end]) for reply in (first_words, second_words)]
        for a, b in ([word.rstrip(_MARKS) for word in words], words):
            if a.strip() and b.strip() and not a.startswith(b) and not b.startswith(a):
                return " ".join(first_words[:at]), a, b
    raise InputError(f"replies {first!r} and {second!r}", "two that differ, neither the beginning of the other")


def probabilities(answer: Answer, n: int = 2) -> tuple[tuple[float, ...], float]:
    """(probability of each reply among the replies, probability on all of them together).

    Raises:
        InputError: no score of `n` replies. NumericalError: a log-probability is NaN, or none is finite.
    """
    if not isinstance(answer, Score) or len(answer.logprobs) != n:
        raise InputError(f"an answer of type {type(answer).__name__} to a choice", f"a score of {n} replies", _ASK)
    logs: Sequence[float] = answer.logprobs
    top = max(logs)
    if any(math.isnan(value) for value in logs) or not math.isfinite(top):
        raise NumericalError(f"log-probabilities {tuple(logs)}", "finite numbers", _FLOAT32)
    shares = [math.exp(value - top) for value in logs]
    total = sum(shares)
    return tuple(share / total for share in shares), min(1.0, math.exp(top) * total)


def accuracy(shares: Sequence[float], right: int, valid: float | None) -> Grade:
    """1 if the right option has the largest share, else 0; a tie is not right. `p_right` in the detail is its share."""
    best_wrong = max(share for at, share in enumerate(shares) if at != right)
    return Grade(float(shares[right] > best_wrong), valid, detail={"p_right": shares[right]})


def mean_logprobs(answer: Answer, n: int) -> tuple[float, ...]:
    """Mean log-likelihood of each of n continuations, in nats a token.

    Raises:
        InputError: no score of n continuations. NumericalError: a mean is NaN or infinite.
    """
    if not isinstance(answer, Score) or len(answer.token_logprobs) != n:
        raise InputError(f"an answer of type {type(answer).__name__} to a choice", f"a score of {n} replies", _ASK)
    means = tuple(float(np.mean(logprobs, dtype=np.float64)) for logprobs in answer.token_logprobs)
    if not np.isfinite(means).all():
        raise NumericalError(f"mean log-likelihoods {means}", "finite numbers", _FLOAT32)
    return means


def log_perplexity(follow_up: Score | None) -> dict[str, float]:
    """`log_perplexity` of a text, in nats a token, for the detail of its grade; empty where it was not asked for.

    Raises:
        NumericalError: it is NaN or infinite.
    """
    if follow_up is None or not len(follow_up.token_logprobs[0]):
        return {}
    log_loss = -float(np.mean(follow_up.token_logprobs[0], dtype=np.float64))
    if not math.isfinite(log_loss):
        raise NumericalError("NaN or Inf in the log-probabilities of a text", "finite numbers", _FLOAT32)
    return {"log_perplexity": log_loss}


def completion(answer: Answer) -> Completion:
    """The answer as a text.

    Raises:
        InputError: it is a score.
    """
    if not isinstance(answer, Completion):
        raise InputError(f"an answer of type {type(answer).__name__} to a writing prompt", "a completion", _ASK)
    return answer


def without_thoughts(text: str) -> str:
    """The text without what a reasoning model writes between `<think>` and `</think>`."""
    return _THOUGHT.sub("", text)


def words(text: str) -> list[str]:
    """The words of a text in lower case."""
    return [match.group().lower() for match in WORD.finditer(text)]


def distinct(tokens: Sequence[str], n: int = 2) -> float | None:
    """Share of the n-grams that are different from one another; None when there are none."""
    grams = [tuple(tokens[at : at + n]) for at in range(len(tokens) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


def ends(answer: Completion, *, longest: int = 25) -> bool:
    """Whether the text ends properly: by the end token, at a stop string or with closing punctuation.

    A text that was cut at the limit of new tokens also counts if its unfinished end has at most `longest` words, about
    a sentence: the limit is ours, not the model's.
    """
    text = answer.text.strip()
    if not text:
        return False
    if answer.finish != "length" or re.search(r"[.!?][\"'”’)]*$", text):
        return True
    closed = list(re.finditer(r"[.!?][\"'”’)]*\s", text))
    return bool(closed) and len(words(text[closed[-1].end() :])) <= longest
