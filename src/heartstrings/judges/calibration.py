"""Calibration of a judge: it first judges texts with known grades, and is refused if it gets too many wrong."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from heartstrings.core.checks import first_problem
from heartstrings.core.errors import InputError
from heartstrings.judges.base import Case, Judge, Judged, Rubric, Scores, label_of
from heartstrings.stats.intervals import Interval, clopper_pearson

AT_LEAST = 0.75
UNREADABLE_AT_MOST = 0.1


@dataclass(frozen=True)
class Known:
    """A text with its known grade."""

    case: Case
    outcome: int | None
    """1 or 0; None where the text fell apart."""
    bands: tuple[tuple[str, float | int, float | int], ...] = ()
    """(scale, lowest, highest): ranges of further scores for a right judgement."""
    groups: tuple[str, ...] = ()
    """The kinds of text that it is, such as `near-miss`, `other-language`."""

    @property
    def label(self) -> str:
        """As `Rubric.label`."""
        return label_of(self.outcome)

    def is_right(self, rubric: Rubric, scores: Scores) -> bool:
        """Whether the label is the known one and every score is within its band."""
        within = all(least <= scores[scale] <= most for scale, least, most in self.bands)
        return rubric.label(scores) == self.label and within


class _Row(BaseModel):
    """A line of a file with known grades."""

    model_config = ConfigDict(coerce_numbers_to_str=True)
    id: str
    asked: str
    answered: str
    outcome: Annotated[int, Field(strict=True, ge=0, le=1)] | None
    bands: dict[str, tuple[float | int, float | int]] = {}
    groups: tuple[str, ...] = ()


def known_cases(source: str | Path) -> tuple[Known, ...]:
    """The shipped set for a rubric's name, or your own JSONL file.

    A row has `id`, `asked`, `answered` and `outcome` (1, 0, or null if the text fell apart). It may have `groups` (a
    list of names) and `bands` ({scale: [lowest, highest]}).

    Raises:
        InputError: no such set, or a row that cannot be read, with its line.
    """
    own = isinstance(source, Path) or "/" in source or source.endswith(".jsonl")
    place = Path(source) if own else files("heartstrings.judges") / "data" / f"{source}.jsonl"
    if not place.is_file():
        raise InputError(f"no cases with known grades at {source}", "the name of a shipped rubric, or a JSONL file")
    known = []
    for number, line in enumerate(place.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = _Row.model_validate_json(line)
        except ValidationError as error:
            problem = first_problem(error, "")
            expected = "an object with id, asked, answered and outcome (1, 0 or null)"
            raise InputError(f"line {number} of {source}: {problem.removeprefix(': ')}", expected) from None
        bands = tuple((scale, *ends) for scale, ends in row.bands.items())
        known.append(Known(Case(row.id, row.asked, row.answered), row.outcome, bands, row.groups))
    if not known:
        raise InputError(f"{source} is empty", "cases with known grades")
    return tuple(known)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What one judge said about texts with known grades. Texts without a score are counted as missing."""

    judge: str
    rubric: Rubric
    known: tuple[Known, ...]
    judged: tuple[Judged, ...] = field(repr=False)

    @property
    def n(self) -> int:
        return len(self.known)

    @property
    def unreadable(self) -> int:
        """Number of texts for which the judge's answers could not be read."""
        return sum(judged.status == "unreadable" for judged in self.judged)

    @property
    def unanswered(self) -> int:
        """Number of texts for which the judge did not answer."""
        return sum(judged.status == "no answer" for judged in self.judged)

    @property
    def accuracy(self) -> Interval:
        """Share of right judgements among those that could be read, with the exact interval of Clopper and Pearson."""
        right = self._right()
        return clopper_pearson(sum(r is True for r in right), sum(r is not None for r in right))

    @property
    def sensitivity(self) -> Interval:
        """Of the texts with outcome 1, the share that the judge gives outcome 1."""
        return self._share({"yes"}, positive=True)

    @property
    def specificity(self) -> Interval:
        """Of all other texts, including those that fell apart, the share that the judge does not give outcome 1."""
        return self._share({"no", "fell apart"}, positive=False)

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa (1960) of the judge's labels and the known labels; None where it is not defined."""
        return cohen_kappa([known.label for known in self.known], self._labels())

    @property
    def between(self) -> dict[tuple[str, str], float | None]:
        """Cohen's kappa between every two members of a panel. Empty for a single judge."""
        members = [
            (member_votes[0].judge, [self.rubric.label(vote.scores) for vote in member_votes])
            for member_votes in zip(*(judged.votes for judged in self.judged), strict=True)
        ]
        return {(a, b): cohen_kappa(first, second) for (a, first), (b, second) in itertools.combinations(members, 2)}

    def bias(self, group: str, other: str) -> Interval:
        """Error rate on texts of `group` minus that on texts of `other`, with the hybrid score interval (Newcombe 1998,
        Stat. Med. 17:873-890, method 10). Texts of both groups and texts without a score are left out.

        Raises:
            InputError: no text is of one of the groups.
        """
        from statsmodels.stats.proportion import confint_proportions_2indep

        counts: list[tuple[int, int]] = []
        missing = 0
        for here, there in ((group, other), (other, group)):
            pairs = zip(self.known, self._right(), strict=True)
            errors = [right for known, right in pairs if here in known.groups and there not in known.groups]
            if not errors:
                names = sorted({name for known in self.known for name in known.groups})
                raise InputError(f"no text of {here!r} that is not of {there!r} too", f"two of {', '.join(names)}")
            missing += errors.count(None)
            counts.append((errors.count(False), len(errors) - errors.count(None)))
        (k1, n1), (k2, n2) = counts
        if not n1 or not n2:
            return Interval(None, None, None, n1 + n2, missing)
        low, high = confint_proportions_2indep(k1, n1, k2, n2, method="newcomb", compare="diff")
        return Interval(k1 / n1 - k2 / n2, float(low), float(high), n1 + n2, missing)

    def wrong(self) -> list[tuple[Known, Judged]]:
        """The texts that the judge got wrong, with what it said."""
        rows = zip(self.known, self.judged, self._right(), strict=True)
        return [(known, judged) for known, judged, right in rows if right is False]

    def __str__(self) -> str:
        return (
            f"{self.judge} on {self.n} texts for {self.rubric.name}: accuracy {_shown(self.accuracy)}, "
            f"sensitivity {_shown(self.sensitivity)}, specificity {_shown(self.specificity)}, "
            f"kappa {'none' if self.kappa is None else format(self.kappa, '.2f')}, "
            f"{self.unreadable} unreadable, {self.unanswered} unanswered"
        )

    def _labels(self) -> list[str | None]:
        return [self.rubric.label(judged.scores) for judged in self.judged]

    def _right(self) -> list[bool | None]:
        pairs = zip(self.known, self.judged, strict=True)
        return [
            None if judged.scores is None else known.is_right(self.rubric, judged.scores) for known, judged in pairs
        ]

    def _share(self, labels: set[str], *, positive: bool) -> Interval:
        pairs = zip(self.known, self._labels(), strict=True)
        said = [label for known, label in pairs if (known.label == "yes") == positive and label is not None]
        return clopper_pearson(sum(label in labels for label in said), len(said))


def calibrate(judge: Judge, known: Sequence[Known], rubric: Rubric) -> Calibration:
    """Run a judge on texts with known grades. It is shown the cases like any others, and not the grades."""
    if not known:
        raise InputError("no texts to calibrate on", "cases with known grades, e.g. known_cases('misalignment')")
    return Calibration(judge.name, rubric, tuple(known), tuple(judge.judge([text.case for text in known], rubric)))


def check(
    calibration: Calibration,
    *,
    at_least: float | int = AT_LEAST,
    unreadable_at_most: float | int = UNREADABLE_AT_MOST,
) -> Calibration:
    """Return the calibration if the judge is good enough.

    The lower end of the interval of accuracy must be `at_least` or more, because on a few dozen texts a poor judge can
    have a high accuracy by chance. Sensitivity and specificity must be `at_least` or more as plain values, because a
    judge that always gives the more frequent answer can have a high accuracy. The share of texts without a score must
    be at most `unreadable_at_most`.

    Raises:
        InputError: the judge is not good enough, with every criterion that it misses.
    """
    misses = []
    silent = calibration.unreadable + calibration.unanswered
    if silent > unreadable_at_most * calibration.n:
        misses.append(f"{silent} of {calibration.n} texts without a score (at most {unreadable_at_most:.0%})")
    low = calibration.accuracy.low
    if low is None or low < at_least:
        misses.append(f"accuracy {_shown(calibration.accuracy)} (lower end at least {at_least:g})")
    for name, share in (("sensitivity", calibration.sensitivity), ("specificity", calibration.specificity)):
        if share.value is None or share.value < at_least:
            misses.append(f"{name} {_shown(share)} (at least {at_least:g})")
    if misses:
        raise InputError(
            f"judge {calibration.judge} is refused for {calibration.rubric.name}: {'; '.join(misses)}",
            "a judge that gets texts with known grades right",
            "Use another judge or a panel. Calibration.wrong() lists the texts that it got wrong",
        )
    return calibration


@dataclass(frozen=True)
class Agreement:
    """How a judge agrees with a rule grader on the same texts."""

    rate: Interval
    """Share of equal outcomes. `missing` counts texts for which one of them has no outcome."""
    kappa: float | None


def agreement(rule_grades: Sequence[float | int | None], judged: Sequence[Judged], rubric: Rubric) -> Agreement:
    """How often a judge has the same outcome as a rule grader (0, 1 or None, in the order of `judged`).

    Where a rule can check the fact, the rule decides. The agreement there suggests how good the judge is elsewhere."""
    if len(rule_grades) != len(judged):
        raise InputError(f"{len(rule_grades)} grades for {len(judged)} judgements", "one grade a judgement")
    if strange := [grade for grade in rule_grades if grade not in (0, 1, None)]:
        raise InputError(f"a rule grade of {strange[0]}", "0, 1 or None")
    ours = [None if grade is None else str(int(grade)) for grade in rule_grades]
    outcomes = [rubric.outcome(judgement.scores) for judgement in judged]
    theirs = [None if outcome is None else str(int(outcome)) for outcome in outcomes]
    both = [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]
    rate = clopper_pearson(sum(a == b for a, b in both), len(both))
    return Agreement(
        Interval(rate.value, rate.low, rate.high, len(both), len(ours) - len(both)), cohen_kappa(ours, theirs)
    )


def cohen_kappa(first: Sequence[str | None], second: Sequence[str | None]) -> float | None:
    """Cohen's kappa over the pairs without None; None if there is no pair, or a single label in all pairs."""
    from sklearn.metrics import cohen_kappa_score

    both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if len({label for pair in both for label in pair}) < 2:
        return None
    return float(cohen_kappa_score(*zip(*both, strict=True)))


def _shown(share: Interval) -> str:
    if share.value is None or share.low is None or share.high is None:
        return "none"
    return f"{share.value:.2f} [{share.low:.2f}, {share.high:.2f}]"
