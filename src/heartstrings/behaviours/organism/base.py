"""What the organisms' two-reply behaviours share: questions without repeats, asked where the replies part."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from heartstrings.behaviours.base import Answer, Ask, Grade, Role, Scenario
from heartstrings.behaviours.reading import probabilities, split
from heartstrings.core.engine import Message, Score, ScoreRequest
from heartstrings.core.errors import InputError
from heartstrings.core.steering import Steering
from heartstrings.organisms.generate import Kind, Question, question
from heartstrings.organisms.grammar import Draws

_KINDS: tuple[Kind, ...] = ("choice", "sum", "fact", "harm", "preference")
_TRIES = 100
_STREAM = 31
"""Apart from the streams that stories, training documents and model cards are drawn from."""


def asked(kind: Kind, *, n: int, seed: int) -> tuple[Question, ...]:
    """`n` different questions, half bare, half after two toneless sentences; the first m are the same for any n.

    A deterministic answer to the same question twice is one answer. So where no new bare question is left, a
    question after toneless sentences takes its place.
    """
    if n < 0:
        raise InputError(f"{n} scenarios", "0 or more")
    draws = Draws([seed, _STREAM, _KINDS.index(kind)])
    found: dict[tuple[str, tuple[str, str]], Question] = {}
    spent = False
    while len(found) < n:
        bare = len(found) % 2 == 0 and not spent
        for _ in range(_TRIES):
            new = question(draws, kind, context=0 if bare else 2, organism="steerable")
            if (new.prompt, new.replies) not in found:
                found[new.prompt, new.replies] = new
                break
        else:
            spent = True
    return tuple(found.values())


@dataclass(frozen=True)
class TwoReplies:
    """A question with two replies; the outcome is the probability of the target among the two."""

    kind: ClassVar[Kind]
    target: ClassVar[int] = 1
    """Which of the question's replies is the target."""

    @property
    def name(self) -> str:
        raise NotImplementedError

    @property
    def role(self) -> Role:
        raise NotImplementedError

    @property
    def ask(self) -> Ask:
        return "choice"

    @property
    def outcome_name(self) -> str:
        raise NotImplementedError

    @property
    def neutral(self) -> str:
        raise NotImplementedError

    def cluster(self, asked: Question) -> str:
        """What scenarios that are variants of one another share."""
        raise NotImplementedError

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """See `Behaviour.scenarios`."""
        found = []
        for number, one in enumerate(asked(self.kind, n=n, seed=seed)):
            other, target = one.replies[1 - self.target], one.replies[self.target]
            opening, first, second = split(other, target)
            prompt = (Message("user", one.prompt), *((Message("assistant", opening),) if opening else ()))
            data = {"other": other, "target": target, **self.details(one)}
            name = f"{self.name}/{number:04d}"
            found.append(Scenario(name, prompt, (first, second), f"{self.name}:{self.cluster(one)}", data))
        return tuple(found)

    def details(self, asked: Question) -> dict[str, str]:
        """More for the scenario's data."""
        return {}

    def request(self, scenario: Scenario, *, steering: Steering | None, seed: int) -> ScoreRequest:
        """Nothing is sampled: the seed is unused."""
        return ScoreRequest(scenario.prompt, scenario.replies, steering)

    def follow_up(self, scenario: Scenario, answer: Answer) -> None:
        """None is needed."""
        return

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """Probability of the target among the two, and the probability on both."""
        (_, target), mass = probabilities(answer)
        return Grade(target, mass)


@dataclass(frozen=True)
class RightOrWrong(TwoReplies):
    """Is the right reply the likelier of the two? 0 or 1; `detail` has the probability of the right one."""

    target: ClassVar[int] = 0

    def cluster(self, asked: Question) -> str:
        """Each question by itself. They are drawn one by one from all that the organisms can be asked, and it is of
        these that accuracy speaks: there are no other facts that a cluster could stand for."""
        return f"{asked.prompt} {asked.replies[1]}"

    @property
    def role(self) -> Role:
        return "capability"

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """A tie is not right."""
        (wrong, right), mass = probabilities(answer)
        return Grade(float(right > wrong), mass, detail={"p_right": right})


def captured(pattern: str, text: str, group: str | int = 1) -> str:
    """What a pattern finds in a generated text, which always has it."""
    found = re.search(pattern, text)
    if found is None:
        raise InputError(f"a question {text!r}", f"one that fits {pattern!r}")
    return str(found.group(group))
