"""Classes to inherit from: one for each way to ask. A new behaviour says what is special about it, and no more.

Its name, role, `outcome_name` and `neutral` are class attributes without an annotation. A parameter has an annotation,
and its class the decorator `@dataclass(frozen=True)`. An example is in docs/behaviours.md.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, Generic

from heartstrings.behaviours.base import Answer, Behaviour, Grade, Judged, Role, Scenario
from heartstrings.behaviours.items import Item, drawn
from heartstrings.behaviours.reading import completion, distinct, ends, log_perplexity, probabilities, words
from heartstrings.core.engine import GenerateRequest, Prompt, Score, ScoreRequest
from heartstrings.core.errors import InputError
from heartstrings.core.steering import Steering
from heartstrings.judges.base import Case

_FIX = "Add the type to the field, and `@dataclass(frozen=True)` to the class, without which Python ignores the field"


@dataclass(frozen=True)
class Form(Behaviour):
    """What all behaviours of this package share."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = vars(cls)
        for name in [field.name for field in fields(cls)] if is_dataclass(cls) else ():
            if name in own and name not in inspect.get_annotations(cls):
                # Python would keep the default of the base class without a word.
                raise InputError(f"{cls.__name__}.{name} without a type", f"`{name}: TYPE = ...`", _FIX)

    def scenario(
        self, slug: str, prompt: Prompt, replies: tuple[str, ...] = (), *, cluster: str = "", **data: Any
    ) -> Scenario:
        """The scenario `NAME/slug` in the cluster `NAME:cluster`; by default each slug is its own cluster."""
        return Scenario(f"{self.name}/{slug}", prompt, replies, f"{self.name}:{cluster or slug}", data)

    def follow_up(self, scenario: Scenario, answer: Answer) -> ScoreRequest | None:
        """None is needed."""
        return None


@dataclass(frozen=True)
class Choice(Form):
    """Given replies, compared by their log-probability. The outcome is the probability of the last among them."""

    ask = "choice"

    def request(self, scenario: Scenario, *, steering: Steering | None, seed: int) -> ScoreRequest:
        """Nothing is sampled: the seed is unused."""
        return ScoreRequest(scenario.prompt, scenario.replies, steering)

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """`valid` is the probability of all replies together."""
        shares, mass = probabilities(answer, len(scenario.replies))
        return Grade(shares[-1], mass)


@dataclass(frozen=True)
class Listed(Form, Generic[Item]):
    """Questions from a fixed list, each asked once, in an order drawn by the seed."""

    @abstractmethod
    def items(self) -> Sequence[Item]:
        """The whole list."""

    @abstractmethod
    def item(self, item: Item) -> Scenario:
        """The scenario of one entry."""

    @property
    def order(self) -> str:
        """Behaviours with the same `order` draw the same entries for the same seed."""
        return self.name

    @property
    def most(self) -> int:
        """Scenarios that there are."""
        return len(self.items())

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """Each entry once, in an order drawn by the seed."""
        return tuple(map(self.item, drawn(self.items(), n, seed, self.name, order=self.order)))


@dataclass(frozen=True, kw_only=True)
class Text(Form):
    """A sampled completion."""

    max_new_tokens: int = 64
    temperature: ClassVar[float] = 1.0
    """At 0 the likeliest token each time; the seed is then unused."""
    perplexity: ClassVar[bool] = False
    """Whether grading needs the log-probability of the text without steering, as the follow-up."""

    ask = "text"

    def request(self, scenario: Scenario, *, steering: Steering | None, seed: int) -> GenerateRequest:
        """One sample."""
        return GenerateRequest(
            scenario.prompt, self.max_new_tokens, temperature=self.temperature, seed=seed, steering=steering
        )

    def follow_up(self, scenario: Scenario, answer: Answer) -> ScoreRequest | None:
        """See `perplexity`; None for an empty text."""
        text = completion(answer).text
        return ScoreRequest(scenario.prompt, (text,)) if self.perplexity and text.strip() else None


@dataclass(frozen=True, kw_only=True)
class FreeText(Text):
    """A text of several sentences, with measures of coherence in the detail of its grade."""

    least_words: int = 4
    """A text with fewer words is no answer."""

    perplexity = True

    def outcome(self, text: str) -> float | None:
        """The outcome of a text; None where a judge decides."""
        return None

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """`ends`, `n_words`, `distinct_2` and `log_perplexity` in the detail, where they can be measured.

        Raises:
            NumericalError: the follow-up has NaN or Inf.
        """
        text = completion(answer).text
        told = words(text)
        detail = {"ends": float(ends(completion(answer))), "n_words": float(len(told))}
        if (varied := distinct(told)) is not None:
            detail["distinct_2"] = varied
        detail |= log_perplexity(follow_up)
        return Grade(self.outcome(text), float(len(told) >= self.least_words), text, detail)


@dataclass(frozen=True, kw_only=True)
class JudgedText(FreeText, Judged):
    """A text that a judge reads; `rubric` names what it reads for."""

    decides = True

    def case(
        self, scenario: Scenario, outcome: float | None, text: str | None, detail: Mapping[str, float]
    ) -> Case | None:
        """The prompt and the text; None for a text with too few words."""
        if text is None or detail.get("n_words", 0) < self.least_words or isinstance(scenario.prompt, str):
            return None
        return Case("", scenario.prompt[0].content, text)


@dataclass(frozen=True)
class Forwarding(Form):
    """A behaviour made from another one, which gives its name, role and descriptions."""

    of: Behaviour

    @property
    def name(self) -> str:
        return self.of.name

    @property
    def role(self) -> Role:
        return self.of.role

    @property
    def outcome_name(self) -> str:
        return self.of.outcome_name

    @property
    def neutral(self) -> str:
        return self.of.neutral
