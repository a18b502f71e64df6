"""The interface of a behaviour: scenarios, how to ask, how to grade, what a neutral answer is.

A behaviour turns a seed into scenarios, a scenario and a steering into an engine request, and the engine's answer
into a grade. It knows neither doses nor directions: the grader is blind to the condition.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from heartstrings.core.engine import Completion, GenerateRequest, Prompt, Score, ScoreRequest
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
    """The grade of one answer. None is missing, never 0."""

    outcome: float | None
    """In [0, 1]: a probability, or 0 or 1. For `writing`: tone in [0, 1], 0.5 neutral. None for `cost`."""
    valid: float | None
    """In [0, 1]: whether it is an answer at all (the probability of all given replies; 0 or 1 for text)."""
    text: str | None = None
    """What the model wrote, for `text`."""
    detail: Mapping[str, float] = field(default_factory=dict)
    """Further numbers by name, e.g. `log_perplexity`, `distinct_2`, `ends`."""


@runtime_checkable
class Behaviour(Protocol):
    """One behaviour. Implementations are frozen and cheap to make; `scenarios` is deterministic.

    `heartstrings.behaviours.forms` has classes to inherit from, one for each way to ask. A behaviour may have further
    attributes, which others look for: `most` (how many scenarios there are), `chance` (the outcome of a model that
    guesses), `follows` (name of the behaviour whose layers it takes), `of_controls` (whether control directions are
    asked too), `gated` (False: a cost without a limit), `sample_sd` (standard deviation of one sampled outcome).
    """

    @property
    @abstractmethod
    def name(self) -> str: ...
    @property
    @abstractmethod
    def role(self) -> Role: ...
    @property
    @abstractmethod
    def ask(self) -> Ask: ...
    @property
    @abstractmethod
    def outcome_name(self) -> str:
        """What the outcome counts, in words for an axis: `rate of cheating`."""

    @property
    @abstractmethod
    def neutral(self) -> str:
        """What a neutral answer is, in a sentence."""

    @abstractmethod
    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """`n` scenarios; the first m of n are the same for any n of the same seed.

        Raises:
            InputError: n is negative, or more than there are.
        """

    @abstractmethod
    def request(self, scenario: Scenario, *, steering: Steering | None, seed: int) -> Request:
        """How to ask it. `seed` is the sampling seed of this sample; a score does not use it."""

    @abstractmethod
    def follow_up(self, scenario: Scenario, answer: Answer) -> ScoreRequest | None:
        """A second, always unsteered request that grading needs (perplexity of a text), or None."""

    @abstractmethod
    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """The outcome of one answer.

        Raises:
            InputError: an answer of another kind. NumericalError: its log-probabilities are NaN or infinite.
        """


@runtime_checkable
class Compared(Behaviour, Protocol):
    """A choice whose replies are compared with their own likelihood without the question. `ask` is `choice`.

    The second request is steered like the first. Otherwise a direction that makes some words likelier everywhere would
    look like one that changes the decision. `grade` gets the score of the second request as `follow_up`.
    """

    @abstractmethod
    def against(self, scenario: Scenario, *, steering: Steering | None) -> ScoreRequest:
        """The same replies after a premise that says nothing about the question."""


@runtime_checkable
class Dialogue(Behaviour, Protocol):
    """A behaviour with several turns: tools with results, objections, failed tests. `ask` is `dialogue`.

    The state of the world must be a function of what the model has said so far: an interrupted sample is started again.
    `follow_up` and `grade` are not called.
    """

    @property
    @abstractmethod
    def turns(self) -> int:
        """The largest number of completions in one sample."""

    @abstractmethod
    def further(
        self, scenario: Scenario, first: GenerateRequest, answers: Sequence[Completion]
    ) -> GenerateRequest | None:
        """The request after these answers, or None at the end. The experiment sets its seed and steering."""

    @abstractmethod
    def grade_dialogue(self, scenario: Scenario, answers: Sequence[Completion]) -> Grade:
        """The outcome of the whole dialogue; `Grade.text` is its transcript."""


@runtime_checkable
class Judged(Behaviour, Protocol):
    """A behaviour whose texts a judge grades after sampling; see `heartstrings.experiment.judging`."""

    @property
    @abstractmethod
    def rubric(self) -> str:
        """Name of the rubric. It has texts of known grades, on which a judge is tried."""

    @property
    @abstractmethod
    def decides(self) -> bool:
        """Whether the judgement becomes the outcome where the rules gave none. If not, its scores are details."""

    @abstractmethod
    def case(self, scenario: Scenario, outcome: float | None, text: str | None, detail: Mapping[str, float]) -> Any:
        """What the judge is shown (a `judges.Case`; its id is not used). None if there is no text, or if the rules have
        already graded it."""
