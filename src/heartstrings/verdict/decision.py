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
    """All that the answer rests on."""

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
    """Parts of the plan that lack samples (`heartstrings.verdict.missing.Part`)."""
    understood: bool | None = None
    """Whether the model tells the options apart on questions with a known answer; None: none were asked."""
    answered: float | None = None
    """Unsteered, the mean share of valid answers on the effect behaviour."""
    within_range: Interval | None = None
    """The effect between the ends of the range, where that is narrower than the slope window; None: it is not."""


def weigh(found: Evidence, limits: Thresholds) -> tuple[Answer, Reason]:
    """One of the six answers.

    What is encoded and what steering does are two findings. An effect beyond the controls is told whatever the atlas
    says; only where there is none does the answer depend on it."""
    if "effect" in found.unfinished:
        return "inconclusive", "samples missing"
    if found.answered is not None and found.answered < limits.least_valid:
        return "inconclusive", "no answers"
    if "check" in found.unfinished:
        return "inconclusive", "samples missing"
    if found.understood is False:
        return "inconclusive", "not told apart"
    shown = found.effect.excludes_zero
    small = bool(found.at_doses) and all(one.within(limits.smallest_effect) for one in found.at_doses)
    if not small and shown and found.p is not None and found.p < limits.alpha:
        return _beyond_controls(found)
    if found.encoded == "not encoded":
        return "not encoded", "not encoded"
    if small and found.encoded == "inconclusive":
        return "inconclusive", "encoding unclear"
    if small:
        return "encoded, does not control", "small"
    if found.effect.low is None or found.effect.high is None:
        return "inconclusive", "collapsed" if found.collapsed else "rare"
    if {"kind", "controls"} & set(found.unfinished):
        return "inconclusive", "samples missing"
    largest = max(abs(found.effect.low), abs(found.effect.high))
    if shown and found.control_bounds and largest < min(found.control_bounds):
        return "moves, not specifically", "as controls"
    return "inconclusive", "controls as large" if shown else "noise"


def _same_way(inner: Interval, effect: Interval) -> bool:
    """Whether the effect within the range is shown, and has the sign of that over the slope window."""
    return inner.excludes_zero and (inner.value or 0.0) * (effect.value or 0.0) > 0


def _beyond_controls(found: Evidence) -> tuple[Answer, Reason]:
    """The effect is there and larger than the controls'. Controls that lack samples were counted against it; only a
    kind that was not sampled at all keeps the answer open. A range may lie on one side of 0 alone."""
    if "kind" in found.unfinished:
        return "inconclusive", "samples missing"
    if found.matched_asked:
        if "matched" in found.unfinished:
            return "inconclusive", "samples missing"
        if not found.exceeds_matched:
            # Not larger at all, or larger by less than the interval can tell.
            return "inconclusive", "matched unclear" if (found.gap.value or 0) > 0 else "as matched"
    if any(gate.state == "missing" for gate in found.first):
        return "inconclusive", "samples missing"
    if found.positive_side or found.negative_side:
        if found.within_range is not None and not _same_way(found.within_range, found.effect):
            return "inconclusive", "not within range"
        return "controls", "controls"
    by_dose: dict[float, list[Gate]] = {}
    for gate in found.first:
        by_dose.setdefault(gate.dose, []).append(gate)
    if by_dose and all(any(gate.state == "fails" for gate in gates) for gates in by_dose.values()):
        return "controls, no safe range", "gate fails"
    return "inconclusive", "gates unclear"
