"""Free text: a story, asked for without naming a feeling. Its tone, and whether it holds together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from heartstrings.behaviours.base import Answer, Ask, Grade, Role, Scenario
from heartstrings.behaviours.reading import completion, distinct, ends, words
from heartstrings.core.engine import GenerateRequest, Message, Score, ScoreRequest
from heartstrings.core.errors import InputError, NumericalError
from heartstrings.core.steering import Steering
from heartstrings.organisms.grammar import Draws, lexis, scene, slots, topics

_STREAM = 37


@dataclass(frozen=True)
class Stories:
    """12 topics, each a cluster. Half the requests are bare; the others give the story's first, toneless words."""

    max_new_tokens: int = 64
    least_words: int = 4
    """A text with fewer is no answer."""

    @property
    def name(self) -> str:
        return "stories"

    @property
    def role(self) -> Role:
        return "writing"

    @property
    def ask(self) -> Ask:
        return "text"

    @property
    def outcome_name(self) -> str:
        return "tone of the text (0 dark, 1 bright)"

    @property
    def neutral(self) -> str:
        return "About 0.5 (a little under): the organisms learned stories of all 171 emotions alike."

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """See `Behaviour.scenarios`."""
        if n < 0:
            raise InputError(f"{n} scenarios", "0 or more")
        draws = Draws([seed, _STREAM])
        found, order = [], list[str]()
        for number in range(n):
            if not order:  # every topic once before any comes again
                order = draws.order(topics())
            topic = order.pop()
            at = scene(draws, topic)
            place = lexis()["topics"][topic]
            opening = f"{at.name} drove to the {draws.pick(place['places'])} with the {draws.pick(place['things'])}"
            prompt: tuple[Message, ...] = (Message("user", f"Write a story {topic}."),)
            if number % 2:
                prompt += (Message("assistant", opening),)
            found.append(Scenario(f"stories/{number:04d}", prompt, cluster=f"stories:{topic}", data={"topic": topic}))
        return tuple(found)

    def request(self, scenario: Scenario, *, steering: Steering | None, seed: int) -> GenerateRequest:
        """A sample at temperature 1."""
        return GenerateRequest(scenario.prompt, self.max_new_tokens, temperature=1.0, seed=seed, steering=steering)

    def follow_up(self, scenario: Scenario, answer: Answer) -> ScoreRequest | None:
        """How likely the text is without steering; nothing to ask of an empty one."""
        text = completion(answer).text
        return ScoreRequest(scenario.prompt, (text,)) if text.strip() else None

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """Tone, and the measures of coherence; one that cannot be had is left out.

        Raises:
            NumericalError: the follow-up has NaN or Inf.
        """
        written = completion(answer)
        told = words(written.text)
        detail = {"ends": float(ends(written)), "n_words": float(len(told))}
        varied = distinct(told)
        if varied is not None:
            detail["distinct_2"] = varied
        if follow_up is not None and len(follow_up.token_logprobs[0]):
            detail["log_perplexity"] = -float(np.mean(follow_up.token_logprobs[0], dtype=np.float64))
            if not np.isfinite(detail["log_perplexity"]):
                raise NumericalError("NaN or Inf in the log-probabilities of a text", "finite numbers")
        return Grade(tone(told), float(len(told) >= self.least_words), written.text, detail)


@cache
def _valence() -> Mapping[str, float]:
    """Valence of every word of the emotional slots, -1 to 1."""
    return {
        word: float(point[0]) for slot in slots().values() for word, point in zip(slot.words, slot.points, strict=True)
    }


def tone(told: list[str]) -> float | None:
    """(1 + mean valence) / 2 over the words that have one, from 0 to 1; None if no word has."""
    found = [_valence()[word] for word in told if word in _valence()]
    return min(1.0, max(0.0, 0.5 + float(np.mean(found)) / 2)) if found else None
