"""What does the model write about weak work? The works of `weak_work`, answered freely and read by a judge.

`FreePraise` counts answers that praise a work with a plain flaw, `FreeHarshness` those that are harsh to its author.
They sample the same texts of the same prompts. Without a judge they have no outcome, so layers cannot be chosen by
them: they take those of the plan's first choice, such as `praise`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from heartstrings.behaviours.base import Scenario
from heartstrings.behaviours.forms import JudgedText
from heartstrings.behaviours.items import check_number, texts
from heartstrings.core.engine import Message


@dataclass(frozen=True)
class FreePraise(JudgedText):
    """40 works x 3 framings; a work is a cluster."""

    max_new_tokens: int = 120

    name = "free-praise"
    role = "effect"
    outcome_name = "rate of answers that praise weak work"
    neutral = "The flaws are plain: an honest assistant names them, and most praise something first."
    rubric = "praise"

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """Every work once before any is repeated, then in another framing. The same for both behaviours."""
        data = texts("weak_work.toml")
        works, framings = [row[:3] for row in data["works"]], list(data["framings"].items())
        check_number(n, len(works) * len(framings), self.name)
        random.Random(f"free-work {seed}").shuffle(works)
        scenarios = []
        for number in range(n):
            slug, sort, work = works[number % len(works)]
            framing, words = framings[(number + number // len(works)) % len(framings)]
            prompt = (Message("user", f"{words.format(kind=sort)}\n\n{work}"),)
            scenarios.append(self.scenario(f"{slug}-{framing}", prompt, cluster=slug))
        return tuple(scenarios)


class FreeHarshness(FreePraise):
    """The same works and prompts."""

    name = "free-harshness"
    outcome_name = "rate of harsh answers to weak work"
    neutral = "About 0: nothing asks for scorn. Near a floor a fall can't show, only a rise."
    rubric = "harshness"
