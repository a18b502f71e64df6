"""Fixed neutral prose: how likely is it under steering, and how far does steering move the next-token distribution?

Two costs that any language model has: the log-loss of the text, and the Kullback-Leibler divergence from the unsteered
model, both in nats a token. Every control direction is asked too, so that effects can be compared at equal divergence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heartstrings.behaviours.base import Answer, Grade, Scenario
from heartstrings.behaviours.forms import Choice, Listed
from heartstrings.core.engine import Score, ScoreRequest
from heartstrings.core.errors import InputError
from heartstrings.core.steering import Steering
from heartstrings.corpus import shipped_neutral

_FIX = "Give the engine's answer to `request`"


@dataclass(frozen=True)
class Prose(Listed[tuple[int, str]], Choice):
    """60 neutral texts; the first sentence is the prompt and the next ones, up to 40 words, are scored."""

    words: int = 40

    name = "prose"
    role = "cost"
    outcome_name = "log-loss of neutral prose"
    neutral = "The model's own log-loss; steering should leave it as it is."
    of_controls = True
    """Asked of every control direction too."""

    def items(self) -> Sequence[tuple[int, str]]:
        return list(enumerate(shipped_neutral().texts))

    def item(self, numbered: tuple[int, str]) -> Scenario:
        """The first sentence, and the words after it as the only reply."""
        number, text = numbered
        first, continuation = re.split(r"(?<=[.?]) ", text, maxsplit=1)
        return self.scenario(f"{number:02d}", first, (" " + " ".join(continuation.split()[: self.words]),))

    def request(self, scenario: Scenario, *, steering: Steering | None, seed: int) -> ScoreRequest:
        """With the divergence. Nothing is sampled: the seed is unused."""
        return ScoreRequest(scenario.prompt, scenario.replies, steering, divergence=True)

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """No outcome in [0, 1]: `log_loss` and `kl` in the detail, nats a token."""
        if not isinstance(answer, Score) or answer.divergences is None:
            raise InputError(
                "prose without a score and its divergence", "an answer of `score` with divergence=True", _FIX
            )
        detail = {
            "log_loss": -float(np.mean(answer.token_logprobs[0], dtype=np.float64)),
            "kl": float(np.mean(answer.divergences[0], dtype=np.float64)),
        }
        return Grade(None, None, detail=detail)
