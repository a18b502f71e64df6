"""What a model can do that any language model can be asked: facts in words, sums by example, and the log-loss of facts.

All of it is plain text unless `chat` says otherwise, so that a model without a template has a capability to lose. What
is right is decided by likelihood, not by a letter: see `likelihood` and `in_words`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from heartstrings.behaviours.base import Answer, Ask, Grade, Role, Scenario
from heartstrings.behaviours.choices.four_options import Item, check_number
from heartstrings.behaviours.choices.general_facts import facts
from heartstrings.behaviours.choices.in_words import PREMISE, asked, reply
from heartstrings.behaviours.text.likelihood import InWords, shares
from heartstrings.core.engine import Message, Prompt, Score, ScoreRequest
from heartstrings.core.errors import InputError, NumericalError
from heartstrings.core.steering import Steering

MOST_SUMS = 1000
"""Of one seed; there are 1,600 sums of two numbers from 10 to 49."""
EXAMPLES = 6
"""Worked sums before the one that is asked."""
SLIPS = (-20, -11, -10, -9, -2, -1, 1, 2, 9, 10, 11, 20)
"""What wrong results are off by: a unit, a ten, a carry."""


@dataclass(frozen=True)
class FactsInWords(InWords):
    """166 facts with four options each; right if the question raises the right one's likelihood most.

    Compared is the mean gain a token (`likelihood.shares`), so an option's length does not decide."""

    chat: bool = False
    """Through the model's template."""
    chance = 0.25

    @property
    def name(self) -> str:
        return "facts-in-words"

    @property
    def role(self) -> Role:
        return "capability"

    @property
    def outcome_name(self) -> str:
        return "share of facts right, in words"

    @property
    def neutral(self) -> str:
        return "A model of a hundred million parameters knows about half of these; guessing is right in 1 of 4."

    @property
    def most(self) -> int:
        """Facts that there are."""
        return len(facts())

    def premise(self, scenario: Scenario) -> Prompt:
        """A question without content."""
        return asked((Message("user", PREMISE),), plain=not self.chat)

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """Each fact once, in an order drawn by the seed.

        Raises:
            InputError: more than there are, or fewer than 0.
        """
        plain = not self.chat
        return tuple(
            Scenario(
                f"{self.name}/{item.slug}",
                asked((Message("user", item.question),), plain=plain),
                tuple(reply(option, plain=plain) for option in (*item.wrong, item.right)),
                f"{self.name}:{item.cluster}",
            )
            for item in _drawn(n, seed, self.name)
        )

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """1 or 0; a tie is not right. `p_right` in the detail is the right option's share."""
        *wrong, right = shares(answer, follow_up)
        return Grade(float(right > max(wrong)), None, detail={"p_right": right})


@dataclass(frozen=True)
class FewShotSums:
    """Lines of worked sums, then one without its result: is the right one likelier than three near it?

    The four have as many digits, and what is compared is the mean log-likelihood a token. There is no premise: before
    it, all results are about as likely."""

    chance = 0.25

    @property
    def name(self) -> str:
        return "few-shot-sums"

    @property
    def role(self) -> Role:
        return "capability"

    @property
    def ask(self) -> Ask:
        return "choice"

    @property
    def outcome_name(self) -> str:
        return "share of sums right, by example"

    @property
    def neutral(self) -> str:
        return "A model of a hundred million parameters does half of these; guessing is right in 1 of 4."

    @property
    def most(self) -> int:
        """Sums of one seed."""
        return MOST_SUMS

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """Sums of two numbers from 10 to 49, none asked twice; each is a cluster.

        Raises:
            InputError: more than there are, or fewer than 0.
        """
        check_number(n, self.most, self.name)
        draw = random.Random(f"{self.name} {seed}")
        found: dict[tuple[int, int], Scenario] = {}
        while len(found) < n:
            *worked, (one, two) = draw.sample(_SUMS, EXAMPLES + 1)
            right = one + two
            near = [right + slip for slip in SLIPS if len(str(right + slip)) == len(str(right))]
            wrong = draw.sample(near, 3)
            if (one, two) in found:
                continue
            lines = "".join(f"{a} + {b} = {a + b}\n" for a, b in worked)
            found[one, two] = Scenario(
                f"{self.name}/{one}+{two}", f"{lines}{one} + {two} =", tuple(f" {value}" for value in (*wrong, right))
            )
        return tuple(found.values())

    def request(self, scenario: Scenario, *, steering: Steering | None, seed: int) -> ScoreRequest:
        """Nothing is sampled: the seed is unused."""
        return ScoreRequest(scenario.prompt, scenario.replies, steering)

    def follow_up(self, scenario: Scenario, answer: Answer) -> None:
        """None is needed."""
        return

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """1 or 0; a tie is not right. Other numbers are answers too, so `valid` says nothing.

        Raises:
            InputError: no score of four results. NumericalError: one of them is NaN or infinite.
        """
        *wrong, right = _means(answer, len(scenario.replies))
        return Grade(float(right > max(wrong)), None)


@dataclass(frozen=True)
class Clozes:
    """166 facts as `Question: ...`, `Answer: ...`: how likely is the right answer? A cost, in nats a token."""

    gated = False
    """Shown and held to no limit: that facts are still known is what accuracy is held to."""

    @property
    def name(self) -> str:
        return "clozes"

    @property
    def role(self) -> Role:
        return "cost"

    @property
    def ask(self) -> Ask:
        return "choice"

    @property
    def outcome_name(self) -> str:
        return "log-loss of right answers"

    @property
    def neutral(self) -> str:
        return "The model's own log-loss; steering should leave it as it is."

    @property
    def most(self) -> int:
        """Facts that there are."""
        return len(facts())

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """Each fact once, in an order drawn by the seed.

        Raises:
            InputError: more than there are, or fewer than 0.
        """
        return tuple(
            Scenario(
                f"{self.name}/{item.slug}",
                asked((Message("user", item.question),), plain=True),
                (reply(item.right, plain=True),),
                f"{self.name}:{item.cluster}",
            )
            for item in _drawn(n, seed, self.name)
        )

    def request(self, scenario: Scenario, *, steering: Steering | None, seed: int) -> ScoreRequest:
        """Nothing is sampled: the seed is unused."""
        return ScoreRequest(scenario.prompt, scenario.replies, steering)

    def follow_up(self, scenario: Scenario, answer: Answer) -> None:
        """None is needed."""
        return

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """No outcome in [0, 1]: `log_loss` in the detail, nats a token.

        Raises:
            InputError: no score of one answer. NumericalError: it is NaN or infinite.
        """
        (mean,) = _means(answer, 1)
        return Grade(None, None, detail={"log_loss": -mean})


_SUMS = tuple((one, two) for one in range(10, 50) for two in range(10, 50))


def _drawn(n: int, seed: int, name: str) -> tuple[Item, ...]:
    order = list(facts())
    check_number(n, len(order), name)
    random.Random(f"{name} {seed}").shuffle(order)
    return tuple(order[:n])


def _means(answer: Answer, n: int) -> tuple[float, ...]:
    """Mean log-likelihood of each continuation, nats a token."""
    if not isinstance(answer, Score) or len(answer.token_logprobs) != n:
        raise InputError(f"an answer of type {type(answer).__name__} to a choice", f"a score of {n} continuations")
    means = tuple(float(np.mean(one, dtype=np.float64)) for one in answer.token_logprobs)
    if not np.isfinite(means).all():
        raise NumericalError(f"mean log-likelihoods {means}", "finite numbers", "Load the model in float32")
    return means
