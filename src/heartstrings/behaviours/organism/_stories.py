"""Free text: a story, requested without naming a feeling. Its tone and its coherence."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np

from heartstrings.behaviours.base import Scenario
from heartstrings.behaviours.forms import FreeText
from heartstrings.behaviours.items import check_number
from heartstrings.behaviours.reading import words
from heartstrings.core.engine import Message
from heartstrings.organisms.grammar import Draws, lexis, scene, slots, topics

_STREAM = 37


class Stories(FreeText):
    """12 topics, each a cluster. Half of the requests are bare; the others give the first, toneless words."""

    name = "stories"
    role = "writing"
    outcome_name = "tone of the text (0 dark, 1 bright)"
    neutral = "About 0.5 (a little under): the organisms learned stories of all 171 emotions alike."

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """See `Behaviour.scenarios`."""
        check_number(n, None, self.name)
        draws = Draws([seed, _STREAM])
        scenarios, order = [], list[str]()
        for number in range(n):
            if not order:  # each topic is used once before any is repeated
                order = draws.order(topics())
            topic = order.pop()
            at = scene(draws, topic)
            place = lexis()["topics"][topic]
            opening = f"{at.name} drove to the {draws.pick(place['places'])} with the {draws.pick(place['things'])}"
            prompt: tuple[Message, ...] = (Message("user", f"Write a story {topic}."),)
            if number % 2:
                prompt += (Message("assistant", opening),)
            scenarios.append(self.scenario(f"{number:04d}", prompt, cluster=topic, topic=topic))
        return tuple(scenarios)

    def outcome(self, text: str) -> float | None:
        """See `tone`."""
        return tone(words(text))


@cache
def _valence() -> Mapping[str, float]:
    """Valence of every word of the emotional slots, -1 to 1."""
    return {
        word: float(point[0]) for slot in slots().values() for word, point in zip(slot.words, slot.points, strict=True)
    }


def tone(told: list[str]) -> float | None:
    """(1 + mean valence) / 2 over the words that have one, from 0 to 1; None if no word has."""
    valences = [_valence()[word] for word in told if word in _valence()]
    return min(1.0, max(0.0, 0.5 + float(np.mean(valences)) / 2)) if valences else None
