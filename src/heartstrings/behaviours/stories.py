# LEAD: stopgap written over helper D's file by accident. Helper D: write your own version back over this one (and delete two_replies.py, organism_questions.py).
"""Free writing: short stories about a place, without any feeling asked for. For coherence, and for tone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from heartstrings.behaviours.base import Answer, Ask, Grade, Role, Scenario
from heartstrings.engines.base import Completion, GenerateRequest, Message, Score, ScoreRequest
from heartstrings.organisms.grammar import Draws, slots, topics
from heartstrings.steering import Steering

PURPOSE = 6
MAX_NEW_TOKENS = 160
"""The organisms' stories are 100 to 130 tokens long."""
FEWEST_WORDS = 5
_WORD = re.compile(r"[A-Za-z']+")


@dataclass(frozen=True)
class Stories:
    """A story a scenario, sampled at temperature 1."""

    name: str = "stories"
    role: Role = "writing"
    ask: Ask = "text"
    outcome_name: str = "tone of the text (0 unpleasant, 1 pleasant)"
    neutral: str = "A tone of 0.5: words of pleasant and unpleasant places alike."

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """`n` requests for a story about one of the organisms' topics, the first m the same for any n."""
        found = []
        for number in range(n):
            topic = Draws([seed, PURPOSE, number]).pick(topics())
            found.append(Scenario(f"{self.name}/{number:04d}", (Message("user", f"Write a story {topic}."),)))
        return tuple(found)

    def request(self, scenario: Scenario, *, steering: Steering | None, seed: int) -> GenerateRequest:
        """One completion."""
        return GenerateRequest(scenario.prompt, max_new_tokens=MAX_NEW_TOKENS, seed=seed, steering=steering)

    def follow_up(self, scenario: Scenario, answer: Answer) -> ScoreRequest | None:
        """How likely the unsteered model finds the text, unless it is empty."""
        assert isinstance(answer, Completion)
        return ScoreRequest(scenario.prompt, (answer.text,)) if answer.text.strip() else None

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """Tone as outcome; `log_perplexity` (nats a token), `distinct_2`, `ends` and `words` as detail."""
        assert isinstance(answer, Completion)
        words = [word.lower() for word in _WORD.findall(answer.text)]
        detail = {
            "words": float(len(words)),
            "ends": float(answer.finish == "eos" or answer.text.rstrip().endswith((".", "!", "?", '"'))),
        }
        if len(words) > 1:
            pairs = list(zip(words, words[1:], strict=False))
            detail["distinct_2"] = len(set(pairs)) / len(pairs)
        if follow_up is not None and len(follow_up.token_ids[0]):
            detail["log_perplexity"] = -follow_up.logprobs[0] / len(follow_up.token_ids[0])
        return Grade(tone(words), float(len(words) >= FEWEST_WORDS), answer.text, detail)


def tone(words: list[str]) -> float | None:
    """Mean place on the organisms' valence axis (-1 to 1) of the words that have one, moved to 0 to 1."""
    found = [places()[word] for word in words if word in places()]
    return None if not found else min(max(0.5 + sum(found) / len(found) / 2, 0.0), 1.0)


@cache
def places() -> dict[str, float]:
    """Valence of every word of feeling in the organisms' world; the mean where a word stands in two slots."""
    known: dict[str, list[float]] = {}
    for slot in slots().values():
        for word, point in zip(slot.words, slot.points, strict=True):
            known.setdefault(word, []).append(float(point[0]))
    return {word: sum(values) / len(values) for word, values in known.items()}
