"""Capability for any language model: facts in words, sums by example, and the log-loss of facts.

All of it is plain text unless `chat` says otherwise, so that the capability of a model without a template can be
measured too. What is right is decided by likelihood, not by a letter: see `likelihood` and `in_words`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from heartstrings.behaviours.base import Answer, Grade, Scenario
from heartstrings.behaviours.choices.four_options import Item
from heartstrings.behaviours.choices.general_facts import facts
from heartstrings.behaviours.choices.in_words import PREMISE, asked, reply
from heartstrings.behaviours.forms import Choice, Listed
from heartstrings.behaviours.items import check_number
from heartstrings.behaviours.reading import accuracy, mean_logprobs
from heartstrings.behaviours.text.likelihood import InWords, shares
from heartstrings.core.engine import Message, Prompt, Score

MOST_SUMS = 1000
"""For one seed; there are 1,600 sums of two numbers from 10 to 49."""
EXAMPLES = 6
"""Worked sums before the one that is asked."""
SLIPS = (-20, -11, -10, -9, -2, -1, 1, 2, 9, 10, 11, 20)
"""Errors of the wrong results: a unit, a ten, a carry."""
_SUMS = tuple((first, second) for first in range(10, 50) for second in range(10, 50))


@dataclass(frozen=True)
class FactsInWords(Listed[Item], InWords):
    """166 facts with four options each; right if the question raises the right one's likelihood most.

    The mean gain a token is compared (`likelihood.shares`), so the length of an option does not decide."""

    chat: bool = False
    """Through the model's template."""

    name = "facts-in-words"
    role = "capability"
    outcome_name = "share of facts right, in words"
    neutral = "A model of a hundred million parameters knows about half of these; guessing is right in 1 of 4."
    chance = 0.25

    def items(self) -> Sequence[Item]:
        return facts()

    def item(self, item: Item) -> Scenario:
        """The question, and its four options with the right one last."""
        options = tuple(reply(option, plain=not self.chat) for option in (*item.wrong, item.right))
        return self.scenario(item.slug, self.prompt(item.question), options, cluster=item.cluster)

    def premise(self, scenario: Scenario) -> Prompt:
        """A question without content."""
        return self.prompt(PREMISE)

    def prompt(self, question: str) -> Prompt:
        """The question as a chat or as plain text."""
        return asked((Message("user", question),), plain=not self.chat)

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """1 or 0; a tie is not right. `p_right` in the detail is the right option's share."""
        return accuracy(shares(answer, follow_up), len(scenario.replies) - 1, None)


class FewShotSums(Choice):
    """Lines of worked sums, then one without its result: is the right one likelier than three near it?

    The four have the same number of digits, and the mean log-likelihood a token is compared. There is no premise:
    without the question, all results are about equally likely."""

    name = "few-shot-sums"
    role = "capability"
    outcome_name = "share of sums right, by example"
    neutral = "A model of a hundred million parameters does half of these; guessing is right in 1 of 4."
    chance = 0.25
    most = MOST_SUMS

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """Sums of two numbers from 10 to 49, none asked twice; each is a cluster."""
        check_number(n, self.most, self.name)
        draw = random.Random(f"{self.name} {seed}")
        by_addends: dict[tuple[int, int], Scenario] = {}
        while len(by_addends) < n:
            *worked, (first, second) = draw.sample(_SUMS, EXAMPLES + 1)
            right = first + second
            near = [right + slip for slip in SLIPS if len(str(right + slip)) == len(str(right))]
            wrong = draw.sample(near, 3)
            if (first, second) in by_addends:
                continue
            lines = "".join(f"{a} + {b} = {a + b}\n" for a, b in worked)
            by_addends[first, second] = Scenario(
                f"{self.name}/{first}+{second}",
                f"{lines}{first} + {second} =",
                tuple(f" {value}" for value in (*wrong, right)),
            )
        return tuple(by_addends.values())

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """1 or 0; a tie is not right. `valid` is None, since other numbers are answers too."""
        *wrong, right = mean_logprobs(answer, len(scenario.replies))
        return Grade(float(right > max(wrong)), None)


class Clozes(Listed[Item], Choice):
    """166 facts as `Question: ...`, `Answer: ...`: how likely is the right answer? A cost, in nats a token."""

    name = "clozes"
    role = "cost"
    outcome_name = "log-loss of right answers"
    neutral = "The model's own log-loss; steering should leave it as it is."
    gated = False
    """Shown without a limit: whether facts are still known is limited by accuracy."""

    def items(self) -> Sequence[Item]:
        return facts()

    def item(self, item: Item) -> Scenario:
        """The question, and the right answer as the only reply."""
        question = asked((Message("user", item.question),), plain=True)
        return self.scenario(item.slug, question, (reply(item.right, plain=True),), cluster=item.cluster)

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """No outcome in [0, 1]: `log_loss` in the detail, nats a token."""
        (mean,) = mean_logprobs(answer, 1)
        return Grade(None, None, detail={"log_loss": -mean})
