"""Is a judge to be believed? It is first run on texts whose grades are known, and refused if it gets them wrong."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from heartstrings.core.errors import InputError
from heartstrings.judges.base import Case, Judge, Judged, Rubric, Scores
from heartstrings.stats.intervals import Interval, clopper_pearson

AT_LEAST = 0.75
UNREADABLE_AT_MOST = 0.1


@dataclass(frozen=True)
class Known:
    """A text with its true grade."""

    case: Case
    outcome: int | None
    """1 or 0; None where the text fell apart."""
    bands: tuple[tuple[str, float | int, float | int], ...] = ()
    """(scale, least, most): further scores that a right judgement keeps within."""
    groups: tuple[str, ...] = ()
    """What sort of text it is, e.g. `near-miss`, `other-language`."""

    @property
    def label(self) -> str:
        """As `Rubric.label`."""
        return "fell apart" if self.outcome is None else "yes" if self.outcome else "no"

    def is_right(self, rubric: Rubric, scores: Scores) -> bool:
        """True if the label is the true one and every band is kept."""
        kept = all(least <= scores[scale] <= most for scale, least, most in self.bands)
        return rubric.label(scores) == self.label and kept


def known_cases(source: str | Path) -> tuple[Known, ...]:
    """The shipped set for a rubric's name, or a JSONL file of one's own.

    A row: `id`, `asked`, `answered`, `outcome` (1, 0, or null where the text fell apart), and if wanted `groups` (a
    list of names) and `bands` ({scale: [least, most]}).

    Raises:
        InputError: no such set, or the row at fault with its line.
    """
    if isinstance(source, Path) or "/" in source or source.endswith(".jsonl"):
        place = Path(source)
        if not place.is_file():
            raise InputError(f"no file {place}", "a JSONL file of cases with known grades")
        content = place.read_text(encoding="utf-8")
    else:
        shipped = files("heartstrings.judges") / "data" / f"{source}.jsonl"
        if not shipped.is_file():
            raise InputError(f"no cases with known grades for {source!r}", "the name of a shipped rubric or a file")
        content = shipped.read_text(encoding="utf-8")
    known = []
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            case = Case(str(row["id"]), str(row["asked"]), str(row["answered"]))
            outcome = row["outcome"]
            if outcome not in (0, 1, None) or isinstance(outcome, bool | float):
                raise ValueError("outcome is 1, 0 or null")
            bands = tuple((scale, ends[0], ends[1]) for scale, ends in row.get("bands", {}).items())
            known.append(Known(case, outcome, bands, tuple(row.get("groups", ()))))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            expected = "an object with id, asked, answered and outcome"
            raise InputError(f"line {number} of {source}: {error}", expected) from None
    if not known:
        raise InputError(f"{source} is empty", "cases with known grades")
    return tuple(known)


@dataclass(frozen=True, eq=False)
class Calibration:
    """How one judge did on texts of known grades. Without a score a text is missing here too, and counted."""

    judge: str
    rubric: Rubric
    known: tuple[Known, ...]
    judged: tuple[Judged, ...] = field(repr=False)

    @property
    def n(self) -> int:
        return len(self.known)

    @property
    def unreadable(self) -> int:
        """Texts the judge answered on in another form than was asked."""
        return sum(one.status == "unreadable" for one in self.judged)

    @property
    def unanswered(self) -> int:
        """Texts on which the judge could not be reached."""
        return sum(one.status == "no answer" for one in self.judged)

    @property
    def accuracy(self) -> Interval:
        """Share of right judgements among those that could be read; exact interval of Clopper and Pearson."""
        right = self._right()
        return clopper_pearson(sum(r is True for r in right), sum(r is not None for r in right))

    @property
    def sensitivity(self) -> Interval:
        """Of texts whose outcome is 1, the share that the judge calls so."""
        return self._share({"yes"}, positive=True)

    @property
    def specificity(self) -> Interval:
        """Of all other texts, those that fell apart included, the share that the judge does not call so."""
        return self._share({"no", "fell apart"}, positive=False)

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa (1960) of the labels against the truth; None where it is not defined."""
        return cohen_kappa([known.label for known in self.known], self._labels())

    @property
    def between(self) -> dict[tuple[str, str], float | None]:
        """Of a panel: Cohen's kappa between every two members. Empty for a single judge."""
        votes = [one.votes for one in self.judged]
        if not votes or not votes[0]:
            return {}
        members = [
            (of_one[0].judge, [self.rubric.label(vote.scores) for vote in of_one])
            for of_one in zip(*votes, strict=True)
        ]
        return {(a, b): cohen_kappa(first, second) for (a, first), (b, second) in itertools.combinations(members, 2)}

    def bias(self, group: str, other: str) -> Interval:
        """Error rate on texts of `group` minus that on texts of `other`; hybrid score interval (Newcombe 1998,
        Stat. Med. 17:873-890, method 10). Texts of both groups or without a score are left out.

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
        """What the judge got wrong, to be read."""
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
        return [self.rubric.label(one.scores) for one in self.judged]

    def _right(self) -> list[bool | None]:
        pairs = zip(self.known, self.judged, strict=True)
        return [None if one.scores is None else known.is_right(self.rubric, one.scores) for known, one in pairs]

    def _share(self, labels: set[str], *, positive: bool) -> Interval:
        pairs = zip(self.known, self._labels(), strict=True)
        said = [label for known, label in pairs if (known.label == "yes") == positive and label is not None]
        return clopper_pearson(sum(label in labels for label in said), len(said))


def calibrate(judge: Judge, known: Sequence[Known], rubric: Rubric) -> Calibration:
    """Run a judge on texts of known grades. It sees cases only, shuffled like any others."""
    if not known:
        raise InputError("no texts to calibrate on", "cases with known grades, e.g. known_cases('misalignment')")
    return Calibration(judge.name, rubric, tuple(known), tuple(judge.judge([one.case for one in known], rubric)))


def check(
    calibration: Calibration,
    *,
    at_least: float | int = AT_LEAST,
    unreadable_at_most: float | int = UNREADABLE_AT_MOST,
) -> Calibration:
    """Refuse a judge that is not good enough; give back the calibration of one that is.

    The *lower end* of the accuracy's interval must reach `at_least`: on a few dozen texts a poor judge can have a lucky
    day, and it would go on to grade thousands. Sensitivity and specificity must reach it too, as plain values, since a
    judge that always gives the commoner answer has a fair accuracy. Texts without a score may be a share of
    `unreadable_at_most`.

    Raises:
        InputError: with everything that the judge fell short of.
    """
    found = []
    silent = calibration.unreadable + calibration.unanswered
    if silent > unreadable_at_most * calibration.n:
        found.append(f"{silent} of {calibration.n} texts without a score (at most {unreadable_at_most:.0%})")
    low = calibration.accuracy.low
    if low is None or low < at_least:
        found.append(f"accuracy {_shown(calibration.accuracy)} (lower end at least {at_least:g})")
    for name, share in (("sensitivity", calibration.sensitivity), ("specificity", calibration.specificity)):
        if share.value is None or share.value < at_least:
            found.append(f"{name} {_shown(share)} (at least {at_least:g})")
    if found:
        raise InputError(
            f"judge {calibration.judge} is refused for {calibration.rubric.name}: {'; '.join(found)}",
            "a judge that gets texts of known grades right",
            "Use another judge, or a panel; Calibration.wrong() lists what it got wrong",
        )
    return calibration


@dataclass(frozen=True)
class Agreement:
    """A judge beside a rule grader on the same texts."""

    rate: Interval
    """Share of equal outcomes; `missing` counts texts on which either has none."""
    kappa: float | None


def agreement(rule_grades: Sequence[float | int | None], judged: Sequence[Judged], rubric: Rubric) -> Agreement:
    """How often a judge's outcome is that of a rule grader (0, 1 or None, in the order of `judged`).

    Where the fact can be checked the rule decides; this tells what the judge would be worth where it can't."""
    if len(rule_grades) != len(judged):
        raise InputError(f"{len(rule_grades)} grades for {len(judged)} judgements", "one grade a judgement")
    if strange := [grade for grade in rule_grades if grade not in (0, 1, None)]:
        raise InputError(f"a rule grade of {strange[0]}", "0, 1 or None")
    ours = [None if grade is None else str(int(grade)) for grade in rule_grades]
    outcomes = [rubric.outcome(one.scores) for one in judged]
    theirs = [None if outcome is None else str(int(outcome)) for outcome in outcomes]
    both = [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]
    rate = clopper_pearson(sum(a == b for a, b in both), len(both))
    return Agreement(
        Interval(rate.value, rate.low, rate.high, len(both), len(ours) - len(both)), cohen_kappa(ours, theirs)
    )


def cohen_kappa(first: Sequence[str | None], second: Sequence[str | None]) -> float | None:
    """Cohen's kappa over pairs that both have; None where there is no pair or nothing but one label in both."""
    from sklearn.metrics import cohen_kappa_score

    both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if len({label for pair in both for label in pair}) < 2:
        return None
    return float(cohen_kappa_score(*zip(*both, strict=True)))


def _shown(share: Interval) -> str:
    if share.value is None or share.low is None or share.high is None:
        return "none"
    return f"{share.value:.2f} [{share.low:.2f}, {share.high:.2f}]"
