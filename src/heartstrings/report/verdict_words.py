"""Answers, doses, percent and points in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from heartstrings.report.markup import Child, Html, el
from heartstrings.report.words import NOTHING
from heartstrings.stats.estimate import Estimate
from heartstrings.verdict.results import AnswerCard

DOSE = "dose (fraction of the mean residual norm)"
DOSE_SHORT = "dose (fraction of mean norm)"
MINUS = "\u2212"
FIRM = "\u00a0"
"""A space that no line ends at: intervals stay together in narrow tables."""
ANSWERS = {
    "controls": ("●", "yes"),
    "controls, no safe range": ("◐", "other"),
    "moves, not specifically": ("◌", "linear"),
    "encoded, does not control": ("○", "linear"),
    "not encoded": ("×", "absent"),
    "inconclusive": ("?", "no"),
}
KINDS = {
    "general": "random",
    "span": "random, within the emotions' span",
    "topic": "mixtures of story topics",
    "natural": "variation of neutral text",
    "shuffled": "shuffled story labels",
}
"""Kinds of control direction."""


def answer(card: AnswerCard) -> Html:
    """A marked and worded chip: the colour repeats what the words say."""
    sign, style = ANSWERS[card.answer]
    return el("span", el("span", sign, aria_hidden="true"), " ", card.answer, class_=f"chip {style}")


def finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def signed(value: float | None, digits: int = 1) -> str:
    """`+3.1`, `−20`: so many decimals (1 or more), one fewer from 10 on; a missing value is a dash."""
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{abs(value):.{digits - 1 if abs(value) >= 9.95 else digits}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    sign = "" if float(text) == 0 else "+" if value > 0 else MINUS
    return sign + text


def dose(value: float) -> str:
    return f"{value:g}".replace("-", MINUS)


def span(card: AnswerCard) -> str:
    """The operating range: `−0.3 to 0.2`."""
    return NOTHING if card.range is None else f"{dose(card.range[0])}{FIRM}to{FIRM}{dose(card.range[1])}"


def points(estimate: Estimate) -> str:
    """A change of a fraction in percentage points, with its interval: `+34 [+28, +40]`."""
    return interval(estimate, 100.0)


def interval(estimate: Estimate, times: float = 1.0, digits: int = 1) -> str:
    if not finite(estimate.value):
        return NOTHING
    shown = signed(_times(estimate.value, times), digits)
    if not (finite(estimate.low) and finite(estimate.high)):
        return f"{shown} (no interval)"
    low, high = (signed(_times(end, times), digits) for end in (estimate.low, estimate.high))
    return f"{shown} [{low},{FIRM}{high}]"


def share(estimate: Estimate) -> str:
    """`12% [5%, 25%]`."""
    if estimate.value is None or not finite(estimate.value):
        return NOTHING
    shown = f"{100 * estimate.value:.0f}%"
    if estimate.low is None or estimate.high is None:
        return f"{shown} (no interval)"
    return f"{shown} [{100 * estimate.low:.0f}%,{FIRM}{100 * estimate.high:.0f}%]"


def sentences(cards: Sequence[AnswerCard]) -> Child:
    return el("ul", [el("li", el("strong", card.direction), ": ", card.sentence) for card in cards], class_="sentences")


def scaled(estimate: Estimate, times: float) -> Estimate:
    """The same estimate in another unit."""
    return Estimate(
        value=_times(estimate.value, times), low=_times(estimate.low, times), high=_times(estimate.high, times)
    )


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
