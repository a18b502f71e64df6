"""What a judge takes and gives: a rubric, cases that say nothing of how they came about, and scores.

A `Case` has no field for a condition, a dose, a model or a direction, so a judge can't know them. A score that could
not be had is None: missing, counted, never guessed.
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
"""`read`: scores were had; `unreadable`: the judge answered, and not in the form asked for, twice; `no answer`: the
judge could not be reached, so that the next run asks again."""


@dataclass(frozen=True)
class Scale:
    """One thing to be scored, with its ends in words."""

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
    """What is asked of a judge, and what its scores come to."""

    name: str
    question: str
    scales: tuple[Scale, ...]
    outcome_if: tuple[Cut, ...]
    """The outcome is 1 if all of these hold, else 0."""
    valid_if: tuple[Cut, ...] = ()
    """Where one of these fails the text fell apart: `valid` is 0 and there is no outcome."""
    outcome_name: str = ""
    """What the outcome counts, in words for an axis."""

    def __post_init__(self) -> None:
        names = [scale.name for scale in self.scales]
        if not names or len(set(names)) < len(names):
            raise InputError(f"rubric {self.name!r} with scales {names}", "one or more scales of different names")
        if strange := {cut.scale for cut in (*self.outcome_if, *self.valid_if)} - set(names):
            raise InputError(f"rubric {self.name!r} has cuts on {sorted(strange)}", f"its scales {names}")

    @property
    def hash(self) -> str:
        """SHA-256 of what is asked: another wording is another rubric. Cuts are left out, since no judge sees them."""
        asked = {"name": self.name, "question": self.question, "scales": [asdict(scale) for scale in self.scales]}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def valid(self, scores: Scores | None) -> float | None:
        """1: the text holds together; 0: it fell apart; None without scores."""
        return None if scores is None else float(all(cut.holds(scores) for cut in self.valid_if))

    def outcome(self, scores: Scores | None) -> float | None:
        """1 or 0; None without scores, and where the text fell apart."""
        if scores is None or not self.valid(scores):
            return None
        return float(all(cut.holds(scores) for cut in self.outcome_if))

    def label(self, scores: Scores | None) -> str | None:
        """`yes`, `no` or `fell apart`; None without scores."""
        if scores is None:
            return None
        outcome = self.outcome(scores)
        return "fell apart" if outcome is None else "yes" if outcome else "no"


@dataclass(frozen=True)
class Case:
    """One text to be judged. Nothing of how it came about."""

    id: str
    """Never shown to a judge."""
    asked: str
    answered: str


@dataclass(frozen=True)
class Judged:
    """What one judge, or a panel, said of one case."""

    case: str
    """Its id."""
    judge: str
    scores: Scores | None
    """By scale; None where the status is not `read`."""
    status: Status
    raw: tuple[str, ...] = ()
    """Everything the judge wrote about this text, in order."""
    note: str = ""
    """Why there is no score, in words."""
    votes: tuple[Judged, ...] = field(default=())
    """Of a panel: what each member said."""

    @property
    def tries(self) -> int:
        """Answers of the judge that were read or could not be; 1 or 2."""
        return len(self.raw)


@runtime_checkable
class Judge(Protocol):
    """Scores texts. Results come in the order of the cases, whatever order they were asked in."""

    @property
    def name(self) -> str: ...

    def judge(self, cases: Sequence[Case], rubric: Rubric) -> list[Judged]:
        """One result a case, in their order.

        Raises:
            OverBudget: the budget is spent; what was judged is kept.
            HeartstringsError: the judge can't be used at all (wrong key, dead server); what was judged is kept.
        """
        ...

    def recall(self, cases: Sequence[Case], rubric: Rubric) -> list[Judged | None]:
        """What is in the cache, in the order of the cases; None for what is still to be asked. Asks nothing."""
        ...


class OverBudget(InputError):
    """A budget is spent. `left` cases were not judged; those that were are in the cache."""

    def __init__(self, judge: str, spent: str, left: int, total: int) -> None:
        self.spent, self.left, self.total = spent, left, total
        super().__init__(
            f"judge {judge}: the budget is spent ({spent}); {left} of {total} cases are left",
            fix="Raise the budget and judge again with the same cache: what is judged is kept and not asked again",
        )


def is_score(value: object, scale: Scale) -> bool:
    """True for a finite number on the scale; a truth value is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and scale.low <= value <= scale.high
