"""Reading: short invented passages with three questions each, which only the passage answers."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

from heartstrings.behaviours.base import Scenario
from heartstrings.behaviours.choices.four_options import FourOptions, Item, positions
from heartstrings.behaviours.items import check_number, rows, texts
from heartstrings.core.types import Frozen

MOST = 1500
"""Questions for one seed, on 500 passages."""
_SLOT = re.compile(r"{(\w+)}")


class Frame(Frozen):
    """One kind of passage; its slots are filled with words of their kind."""

    slug: str
    text: str
    questions: tuple[tuple[str, str], ...]
    """Each with the slot that has its answer."""


class Passages(FourOptions):
    """Up to 500 passages of seven frames, three questions each; the questions on one passage are a cluster."""

    name = "passages"
    outcome_name = "share of reading questions right"
    neutral = "The answer stands in the text: chat models get nearly all right; guessing is right in 1 of 4."

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """Passage after passage, so the first m of n hold about m / 3 passages."""
        check_number(n, MOST, self.name)
        draw = random.Random(f"{self.name} {seed}")
        places = positions(draw)
        frames = list(rows("passages.toml", "frames", Frame))
        scenarios: list[Scenario] = []
        seen: set[str] = set()
        while len(scenarios) < n:
            draw.shuffle(frames)
            for frame in frames:
                made = passage(frame, draw, len(seen))
                while made[0].question.partition("\n")[0] in seen:
                    made = passage(frame, draw, len(seen))
                seen.add(made[0].question.partition("\n")[0])
                scenarios += [self.shown(item, next(places)) for item in made]
        return tuple(scenarios[:n])


def passage(frame: Frame, draw: random.Random, number: int) -> tuple[Item, ...]:
    """The three questions on one passage, each with the passage before it."""
    slots: Mapping[str, list[str]] = texts("passages.toml")["slots"]
    used = sorted(set(_SLOT.findall(frame.text)))
    values: dict[str, str] = {}
    for kind in sorted({name.rstrip("2") for name in used}):
        values[kind], values[f"{kind}2"] = draw.sample(slots[kind], 2)
    # A slot may be the first word of a sentence.
    text = re.sub(r"(?:^|(?<=\. ))[a-z]", lambda first: first.group().upper(), frame.text.format(**values))
    slug = f"{frame.slug}-{number:04d}"
    items = []
    for at, (question, slot) in enumerate(frame.questions, start=1):
        kind = slot.rstrip("2")
        right, other = values[slot], values[kind if slot.endswith("2") else f"{kind}2"]
        unused = [value for value in slots[kind] if value not in (right, other)]
        # If the passage has the other value too, it is an option: only reading the passage excludes it.
        wrong = (
            [other, *draw.sample(unused, 2)] if {kind, f"{kind}2"} <= set(used) else draw.sample([other, *unused], 3)
        )
        draw.shuffle(wrong)
        items.append(
            Item(f"{slug}-q{at}", f"{text}\n\n{question.format(**values)}", right, (wrong[0], wrong[1], wrong[2]), slug)
        )
    return tuple(items)
