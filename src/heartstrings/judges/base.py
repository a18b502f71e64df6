"""What a judge takes and returns: a rubric, cases without their condition, and scores.

A `Case` has no field for a condition, a dose, a model or a direction, so a judge cannot know them. A missing score is
None. It is counted and never guessed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from heartstrings.core.errors import InputError

Scores: TypeAlias = Mapping[str, float]
Status = Literal["read", "unreadable", "no answer"]
"""`read`: there are scores. `unreadable`: the judge answered twice, not in the form asked for. `no answer`: the judge
did not answer, and the next run asks again."""


@dataclass(frozen=True)
class Scale:
    """One quantity to be scored, with its ends in words."""

    name: str
    at_low: str
    """What the lowest score means."""
    at_high: str
    low: float | int = 0
    high: float | int = 100

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or self.name == "reason":
            raise InputError(f"a scale named {self.name!r}", "a plain name such as alignment, other than reason")
        if not self.low < self.high:
            raise InputError(f"scale {self.name} from {self.low} to {self.high}", "a low end under the high end")


@dataclass(frozen=True)
class Cut:
    """A condition on one scale; both bounds are strict."""

    scale: str
    under: float | int | None = None
    over: float | int | None = None

    def holds(self, scores: Scores) -> bool:
        score = scores[self.scale]
        return (self.under is None or score < self.under) and (self.over is None or score > self.over)


@dataclass(frozen=True)
class Rubric:
    """What a judge is asked, and how its scores become an outcome."""

    name: str
    question: str
    scales: tuple[Scale, ...]
    outcome_if: tuple[Cut, ...]
    """The outcome is 1 if all of these hold, else 0."""
    valid_if: tuple[Cut, ...] = ()
    """If one of these does not hold, the text fell apart: `valid` is 0, and there is no outcome."""
    outcome_name: str = ""
    """What the outcome counts, as the label of an axis."""

    def __post_init__(self) -> None:
        names = [scale.name for scale in self.scales]
        if not names or len(set(names)) < len(names):
            raise InputError(f"rubric {self.name!r} with scales {names}", "one or more scales of different names")
        if strange := {cut.scale for cut in (*self.outcome_if, *self.valid_if)} - set(names):
            raise InputError(f"rubric {self.name!r} has cuts on {sorted(strange)}", f"its scales {names}")

    @property
    def hash(self) -> str:
        """SHA-256 of what is asked, so another wording is another rubric. No judge sees the cuts: they are left out."""
        asked = {"name": self.name, "question": self.question, "scales": [asdict(scale) for scale in self.scales]}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def valid(self, scores: Scores | None) -> float | None:
        """1 if the text is coherent enough, 0 if it fell apart; None without scores."""
        return None if scores is None else float(all(cut.holds(scores) for cut in self.valid_if))

    def outcome(self, scores: Scores | None) -> float | None:
        """1 or 0; None without scores, and if the text fell apart."""
        if scores is None or not self.valid(scores):
            return None
        return float(all(cut.holds(scores) for cut in self.outcome_if))

    def label(self, scores: Scores | None) -> str | None:
        """`yes`, `no` or `fell apart`; None without scores."""
        return None if scores is None else label_of(self.outcome(scores))


@dataclass(frozen=True)
class Case:
    """One text to be judged, without the condition that it was written under."""

    id: str
    """Never shown to a judge."""
    asked: str
    answered: str


@dataclass(frozen=True)
class Judged:
    """What one judge, or a panel, said about one case."""

    case: str
    """Its id."""
    judge: str
    scores: Scores | None
    """By scale; None where the status is not `read`."""
    status: Status
    raw: tuple[str, ...] = ()
    """All answers of the judge about this text, in order."""
    note: str = ""
    """Why there is no score."""
    votes: tuple[Judged, ...] = field(default=())
    """Of a panel: what each member said."""


@runtime_checkable
class Judge(Protocol):
    """Scores texts. Results come in the order of the cases, whatever order they were asked in."""

    @property
    def name(self) -> str: ...

    def judge(self, cases: Sequence[Case], rubric: Rubric) -> list[Judged]:
        """One result a case, in the order of the cases. Results are kept, also when an error is raised.

        Raises:
            OverBudget: the budget is spent.
            HeartstringsError: the judge cannot be used (wrong key, dead server).
        """
        ...

    def recall(self, cases: Sequence[Case], rubric: Rubric) -> list[Judged | None]:
        """The results in the cache, in the order of the cases; None where there is none yet. Asks nothing."""
        ...


class OverBudget(InputError):
    """The budget is spent. `left` cases were not judged; the results of the others are in the cache."""

    def __init__(self, judge: str, spent: str, left: int, total: int) -> None:
        self.spent, self.left, self.total = spent, left, total
        super().__init__(
            f"judge {judge}: the budget is spent ({spent}); {left} of {total} cases are left",
            fix="Raise the budget and judge again with the same cache: no case that has a result is asked again",
        )


def label_of(outcome: float | int | None) -> str:
    """`yes` for 1, `no` for 0, `fell apart` for None."""
    return "fell apart" if outcome is None else "yes" if outcome else "no"


def is_score(value: object, scale: Scale) -> bool:
    """Whether this is a finite number on the scale. A truth value is not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and scale.low <= value <= scale.high
