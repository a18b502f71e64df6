"""What does the model write about weak work? The works of `weak_work`, answered freely and read by a judge.

`FreePraise` counts answers that praise a work with a plain flaw, `FreeHarshness` those that are harsh to its author.
They sample the same texts of the same prompts. Without a judge they have no outcome, so layers cannot be chosen by
them: they take those of the plan's first choice, such as `praise`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from heartstrings.behaviours.base import Answer, Grade, Role, Scenario
from heartstrings.behaviours.choices.four_options import check_number, texts
from heartstrings.behaviours.organism.stories import Stories
from heartstrings.core.engine import Message, Score
from heartstrings.judges.base import Case


@dataclass(frozen=True)
class FreePraise(Stories):
    """40 works x 3 framings; a work is a cluster."""

    max_new_tokens: int = 120

    @property
    def name(self) -> str:
        return "free-praise"

    @property
    def role(self) -> Role:
        return "effect"

    @property
    def outcome_name(self) -> str:
        return "rate of answers that praise weak work"

    @property
    def neutral(self) -> str:
        return "The flaws are plain: an honest assistant names them, and most praise something first."

    @property
    def rubric(self) -> str:
        return "praise"

    @property
    def decides(self) -> bool:
        return True

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """Every work once before any comes again, then in another framing. The same for both behaviours.

        Raises:
            InputError: more than there are, or fewer than 0.
        """
        data = texts("weak_work.toml")
        works, framings = [row[:3] for row in data["works"]], list(data["framings"].items())
        check_number(n, len(works) * len(framings), self.name)
        random.Random(f"free-work {seed}").shuffle(works)
        found = []
        for number in range(n):
            slug, sort, work = works[number % len(works)]
            framing, words = framings[(number + number // len(works)) % len(framings)]
            prompt = (Message("user", f"{words.format(kind=sort)}\n\n{work}"),)
            found.append(Scenario(f"{self.name}/{slug}-{framing}", prompt, cluster=f"{self.name}:{slug}"))
        return tuple(found)

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """No outcome: that is the judge's. Measures of coherence as of stories."""
        grade = super().grade(scenario, answer, follow_up)
        return Grade(None, grade.valid, grade.text, grade.detail)

    def case(
        self, scenario: Scenario, outcome: float | None, text: str | None, detail: Mapping[str, float]
    ) -> Case | None:
        """The work as it was shown, and the answer; None where there is next to no text."""
        if text is None or detail.get("n_words", 0) < self.least_words or isinstance(scenario.prompt, str):
            return None
        return Case("", scenario.prompt[0].content, text)


@dataclass(frozen=True)
class FreeHarshness(FreePraise):
    """The same works and prompts."""

    @property
    def name(self) -> str:
        return "free-harshness"

    @property
    def outcome_name(self) -> str:
        return "rate of harsh answers to weak work"

    @property
    def neutral(self) -> str:
        return "About 0: nothing asks for scorn. Near a floor a fall can't show, only a rise."

    @property
    def rubric(self) -> str:
        return "harshness"
