"""What behaviours with two given replies share: where the replies part, and what their log-probabilities come to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from heartstrings.behaviours.base import Answer, Ask, Grade, Role, Scenario
from heartstrings.engines.base import Chat, Message, Score, ScoreRequest
from heartstrings.errors import NumericalError
from heartstrings.steering import Steering

Counts = Literal["share", "right"]


def parted(question: str, replies: tuple[str, str]) -> tuple[Chat, tuple[str, str]]:
    """The chat up to the word in which two replies part, and that word of each.

    What the replies share stands as the opening of the model's turn. Only the parting words are then scored, which
    costs one pass of the model where each is one token, and reads the answer where it is decided: what follows in
    the replies adds how likely their wording is, which is no part of the choice.
    """
    first, second = (reply.split(" ") for reply in replies)
    at = next((n for n, (one, other) in enumerate(zip(first, second, strict=False)) if one != other), None)
    if at is None:
        raise ValueError(f"replies that do not part: {replies}")
    one, other = first[at], second[at]
    bare = one.rstrip(".,;!?"), other.rstrip(".,;!?")
    # `1` and `11.` need their full stop: the first would also be the beginning of the second.
    if not bare[0].startswith(bare[1]) and not bare[1].startswith(bare[0]):
        one, other = bare
    user = Message("user", question)
    if at == 0:
        return (user,), (one, other)
    return (user, Message("assistant", " ".join(first[:at]))), (f" {one}", f" {other}")


def two_reply_scenario(name: str, number: int, question: str, replies: tuple[str, str], cluster: str) -> Scenario:
    """A scenario whose second reply is the target."""
    prompt, words = parted(question, replies)
    data: dict[str, Any] = {"question": question, "replies": replies}
    return Scenario(f"{name}/{number:04d}", prompt, words, f"{name}: {cluster}", data)


@dataclass(frozen=True)
class TwoReplies:
    """A behaviour that compares two given replies. Subclasses say what is asked, in `scenarios`."""

    name: str = ""
    role: Role = "effect"
    outcome_name: str = ""
    neutral: str = ""
    counts: Counts = "share"
    """`share`: the second reply's share of the two probabilities. `right`: 1 where the first, the right one, is the
    likelier, else 0."""
    ask: Ask = field(default="choice", init=False)

    def request(self, scenario: Scenario, *, steering: Steering | None, seed: int) -> ScoreRequest:
        """Log-probabilities of both replies. Nothing is sampled, so the seed is unused."""
        return ScoreRequest(scenario.prompt, scenario.replies, steering)

    def follow_up(self, scenario: Scenario, answer: Answer) -> ScoreRequest | None:
        """None: the log-probabilities are all there is to grade."""
        return None

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """The outcome, and as `valid` how much of all probability the two replies have between them.

        Raises:
            NumericalError: a log-probability that is NaN or infinite.
        """
        assert isinstance(answer, Score)
        first, second = answer.logprobs
        if not (math.isfinite(first) and math.isfinite(second)):
            raise NumericalError(f"log-probabilities {first} and {second}", "finite numbers")
        share = 1 / (1 + math.exp(min(max(first - second, -700.0), 700.0)))
        valid = min(math.exp(first) + math.exp(second), 1.0)
        if self.counts == "right":
            return Grade(float(first > second), valid, detail={"right": 1 - share})
        return Grade(share, valid)
