"""The six answers: which one, and why, from numbers alone. The order of the steps is that of docs/verdict.md."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from heartstrings.experiment.plan import Thresholds
from heartstrings.stats.intervals import Interval
from heartstrings.verdict.results import Answer, Encoded, Gate

Reason = Literal[
    "not encoded",
    "encoding unclear",
    "samples missing",
    "no answers",
    "not told apart",
    "collapsed",
    "rare",
    "small",
    "as controls",
    "controls",
    "gate fails",
    "gates unclear",
    "not within range",
    "as matched",
    "matched unclear",
    "controls as large",
    "noise",
]


@dataclass(frozen=True)
class Evidence:
    """Everything that the answer depends on."""

    encoded: Encoded
    effect: Interval
    """Along the contrast that the answer speaks of; its interval holds together with those of the other contrasts."""
    at_doses: tuple[Interval, ...]
    """Change from the baseline at every coherent dose up to the ends of the slope window, and between its ends, each
    with both bounds at 1 - alpha; empty where one of them is not finished."""
    p: float | None
    """Corrected."""
    gap: Interval
    """|effect| minus |matched effect|."""
    exceeds_matched: bool | None
    matched_asked: bool
    control_bounds: tuple[float, ...]
    """95th percentile of the controls' |effect|, one a kind."""
    collapsed: bool
    """Coherence fails at a dose of the slope window."""
    positive_side: float | None
    negative_side: float | None
    first: tuple[Gate, ...]
    """Gates at the dose nearest to 0, of each tested side."""
    unfinished: Collection[str]
    """Parts of the plan that lack samples (`heartstrings.verdict._missing.Part`)."""
    understood: bool | None = None
    """Whether the model tells the options apart on questions with a known answer; None: none were asked."""
    answered: float | None = None
    """Unsteered, the mean share of valid answers on the effect behaviour."""
    within_range: Interval | None = None
    """The effect between the ends of the range, where that is narrower than the slope window; None: it is not."""


def decide_answer(evidence: Evidence, limits: Thresholds) -> tuple[Answer, Reason]:
    """One of the six answers.

    What is encoded and what steering does are two separate findings. An effect beyond the controls is reported whatever
    the atlas found. Without such an effect the answer depends on the atlas."""
    if "effect" in evidence.unfinished:
        return "inconclusive", "samples missing"
    if evidence.answered is not None and evidence.answered < limits.least_valid:
        return "inconclusive", "no answers"
    if "check" in evidence.unfinished:
        return "inconclusive", "samples missing"
    if evidence.understood is False:
        return "inconclusive", "not told apart"
    shown = evidence.effect.excludes_zero
    small = bool(evidence.at_doses) and all(change.within(limits.smallest_effect) for change in evidence.at_doses)
    if not small and shown and evidence.p is not None and evidence.p < limits.alpha:
        return _beyond_controls(evidence)
    if evidence.encoded == "not encoded":
        return "not encoded", "not encoded"
    if small and evidence.encoded == "inconclusive":
        return "inconclusive", "encoding unclear"
    if small:
        return "encoded, does not control", "small"
    if evidence.effect.low is None or evidence.effect.high is None:
        return "inconclusive", "collapsed" if evidence.collapsed else "rare"
    if {"kind", "controls"} & set(evidence.unfinished):
        return "inconclusive", "samples missing"
    largest = max(abs(evidence.effect.low), abs(evidence.effect.high))
    if shown and evidence.control_bounds and largest < min(evidence.control_bounds):
        return "moves, not specifically", "as controls"
    return "inconclusive", "controls as large" if shown else "noise"


def _same_way(inner: Interval, effect: Interval) -> bool:
    """Whether the effect within the range is shown, and has the sign of that over the slope window."""
    return inner.excludes_zero and (inner.value or 0.0) * (effect.value or 0.0) > 0


def _beyond_controls(evidence: Evidence) -> tuple[Answer, Reason]:
    """The effect is shown and larger than the controls'. Controls that lack samples were counted as larger, so only a
    kind that was not sampled at all leaves the answer open. A range may lie on one side of 0 only."""
    if "kind" in evidence.unfinished:
        return "inconclusive", "samples missing"
    if evidence.matched_asked:
        if "matched" in evidence.unfinished:
            return "inconclusive", "samples missing"
        if not evidence.exceeds_matched:
            # Not larger at all, or larger by less than the interval can tell.
            return "inconclusive", "matched unclear" if (evidence.gap.value or 0) > 0 else "as matched"
    if any(gate.state == "missing" for gate in evidence.first):
        return "inconclusive", "samples missing"
    if evidence.positive_side or evidence.negative_side:
        if evidence.within_range is not None and not _same_way(evidence.within_range, evidence.effect):
            return "inconclusive", "not within range"
        return "controls", "controls"
    by_dose: dict[float, list[Gate]] = {}
    for gate in evidence.first:
        by_dose.setdefault(gate.dose, []).append(gate)
    if by_dose and all(any(gate.state == "fails" for gate in gates) for gates in by_dose.values()):
        return "controls, no safe range", "gate fails"
    return "inconclusive", "gates unclear"
