"""The interface of a behaviour: scenarios, how to ask, how to grade, what a neutral answer is.

A behaviour turns a seed into scenarios, a scenario and a steering into an engine request, and the engine's answer
into a grade. It knows neither doses nor directions: the grader is blind to the condition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from heartstrings.core.engine import Completion, GenerateRequest, Message, Prompt, Score, ScoreRequest
from heartstrings.core.steering import Steering

Role = Literal["effect", "capability", "harm", "matched", "writing", "cost", "check"]
"""`effect`: what steering is meant to move. `capability`: answers with a right one; `harm`: probes that have
nothing to do with the effect; `matched`: control questions whose form is that of the effect and whose content is
not; `writing`: free text, for coherence and tone; `cost`: log-loss of fixed text and distance from the unsteered model,
in nats, asked of controls too; `check`: questions of an effect's form with a known answer, asked unsteered only: does
the model tell the options apart?"""

Ask = Literal["choice", "text", "dialogue"]
"""`choice`: log-probabilities of given replies; `text`: a sampled completion; `dialogue`: several, in turns."""

Request: TypeAlias = ScoreRequest | GenerateRequest
Answer: TypeAlias = Score | Completion


@dataclass(frozen=True)
class Scenario:
    """One thing to ask."""

    id: str
    """Unique within the behaviour, the same for the same seed, e.g. `choice/0007`."""
    prompt: Prompt
    replies: tuple[str, ...] = ()
    """For `choice`: the continuations to compare, the target last."""
    cluster: str = ""
    """Scenarios that are variants of one another share it; intervals are clustered by it. Default: the id."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """What the grader needs, e.g. the right answer."""

    @property
    def group(self) -> str:
        return self.cluster or self.id


@dataclass(frozen=True)
class Grade:
    """What one answer came to. None is missing, never 0."""

    outcome: float | None
    """In [0, 1]: a probability, or 0 or 1. For `writing`: tone in [0, 1], 0.5 neutral. None for `cost`."""
    valid: float | None
    """In [0, 1]: how far the answer is an answer at all (probability on the given replies; 0 or 1 for text)."""
    text: str | None = None
    """What the model wrote, for `text`."""
    detail: Mapping[str, float] = field(default_factory=dict)
    """Further numbers by name, e.g. `log_perplexity`, `distinct_2`, `ends`."""


@runtime_checkable
class Behaviour(Protocol):
    """One behaviour. Implementations are frozen and cheap to make; `scenarios` is deterministic."""

    @property
    def name(self) -> str: ...
    @property
    def role(self) -> Role: ...
    @property
    def ask(self) -> Ask: ...
    @property
    def outcome_name(self) -> str:
        """What the outcome counts, in words for an axis: `rate of cheating`."""
        ...

    @property
    def neutral(self) -> str:
        """What a neutral answer is, in a sentence."""
        ...

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """`n` scenarios; the first m of n are the same for any n of the same seed."""
        ...

    def request(self, scenario: Scenario, *, steering: Steering | None, seed: int) -> Request:
        """How to ask it. `seed` is the sampling seed of this sample."""
        ...

    def follow_up(self, scenario: Scenario, answer: Answer) -> ScoreRequest | None:
        """A second, always unsteered request that grading needs (perplexity of a text), or None."""
        ...

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """The outcome of one answer."""
        ...


@runtime_checkable
class Compared(Behaviour, Protocol):
    """A choice whose replies are held against their own likelihood without the question. `ask` is `choice`.

    The second request is steered as the first is, so that a direction that makes some words likelier everywhere does
    not pass for one that changes the decision. Its score comes to `grade` as `follow_up`.
    """

    def against(self, scenario: Scenario, *, steering: Steering | None) -> ScoreRequest:
        """The same replies after a premise that says nothing of the question."""
        ...


@runtime_checkable
class Dialogue(Behaviour, Protocol):
    """A behaviour that answers back: tools with results, objections, failed tests. `ask` is `dialogue`.

    The world is a function of what the model has said so far, so that an interrupted sample is simply taken again.
    `follow_up` and `grade` are not called.
    """

    @property
    def turns(self) -> int:
        """The most completions that one sample takes."""
        ...

    def further(
        self, scenario: Scenario, first: GenerateRequest, answers: Sequence[Completion]
    ) -> GenerateRequest | None:
        """What comes after these answers, or None if it is over. Seed and steering are set by the experiment."""
        ...

    def grade_dialogue(self, scenario: Scenario, answers: Sequence[Completion]) -> Grade:
        """The outcome of the whole of it; `Grade.text` is its transcript."""
        ...


@runtime_checkable
class Judged(Behaviour, Protocol):
    """A behaviour whose texts a judge grades, after they were sampled; see `heartstrings.experiment.judging`."""

    @property
    def rubric(self) -> str:
        """Name of the rubric, which has texts with known grades to try a judge on."""
        ...

    @property
    def decides(self) -> bool:
        """Whether the judgement is the outcome where the rules left none. If not, its scores are details."""
        ...

    def case(self, scenario: Scenario, outcome: float | None, text: str | None, detail: Mapping[str, float]) -> Any:
        """What the judge is shown (a `judges.Case`, its id is not used), or None if there is nothing to ask: the rules
        have settled it, or there is no text."""
        ...


def idle(chat: Sequence[Message], nudge: str, *, turns: int = 2) -> bool:
    """Whether the last turns, this many in a row, did nothing and were answered by the nudge: the model refuses, talks
    or has fallen apart, and more turns would only cost."""
    return [message.content for message in chat[1 - 2 * turns :: 2]] == [nudge] * turns
