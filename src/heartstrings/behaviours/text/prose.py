"""Fixed neutral prose: how likely is it under steering, and how far does steering move the next-token distribution?

Two costs that any language model has: the log-loss of the text, and the Kullback-Leibler divergence from the unsteered
model, both in nats a token. Every control direction is asked too, so that effects can be compared at equal divergence.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

import numpy as np

from heartstrings.behaviours.base import Answer, Ask, Grade, Role, Scenario
from heartstrings.behaviours.choices.four_options import check_number
from heartstrings.core.engine import Score, ScoreRequest
from heartstrings.core.errors import InputError
from heartstrings.core.steering import Steering
from heartstrings.corpus import shipped_neutral


@dataclass(frozen=True)
class Prose:
    """60 neutral texts; the first sentence is the prompt and the next ones, up to 40 words, are scored."""

    words: int = 40
    of_controls = True
    """Asked of every control direction too."""

    @property
    def name(self) -> str:
        return "prose"

    @property
    def role(self) -> Role:
        return "cost"

    @property
    def ask(self) -> Ask:
        return "choice"

    @property
    def outcome_name(self) -> str:
        return "log-loss of neutral prose"

    @property
    def neutral(self) -> str:
        return "The model's own log-loss; steering should leave it as it is."

    @property
    def most(self) -> int:
        """Texts that there are."""
        return len(shipped_neutral().texts)

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """Each text once, in an order drawn by the seed."""
        numbered = list(enumerate(shipped_neutral().texts))
        check_number(n, len(numbered), self.name)
        random.Random(f"{self.name} {seed}").shuffle(numbered)
        found = []
        for number, text in numbered[:n]:
            first, rest = re.split(r"(?<=[.?]) ", text, maxsplit=1)
            scored = " " + " ".join(rest.split()[: self.words])
            found.append(Scenario(f"{self.name}/{number:02d}", first, (scored,), f"{self.name}:{number:02d}"))
        return tuple(found)

    def request(self, scenario: Scenario, *, steering: Steering | None, seed: int) -> ScoreRequest:
        """Nothing is sampled: the seed is unused."""
        return ScoreRequest(scenario.prompt, scenario.replies, steering, divergence=True)

    def follow_up(self, scenario: Scenario, answer: Answer) -> None:
        """None is needed."""
        return

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """No outcome in [0, 1]: `log_loss` and `kl` in the detail, nats a token."""
        if not isinstance(answer, Score) or answer.divergences is None:
            raise InputError("prose without a score and its divergence", "an answer of `score` with divergence=True")
        detail = {
            "log_loss": -float(np.mean(answer.token_logprobs[0], dtype=np.float64)),
            "kl": float(np.mean(answer.divergences[0], dtype=np.float64)),
        }
        return Grade(None, None, detail=detail)
