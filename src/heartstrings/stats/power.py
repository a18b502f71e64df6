"""Power: which effect an experiment can find, and how many scenarios a given one needs.

The test is the one that the verdict makes: the direction's effect is larger in size than all but a few of the controls
of *each* kind, each control at its largest over the behaviours asked (`family`) and over the `contrasts` of the doses,
few enough for (b + 1) / (n + 1) to pass Holm in its worst case (times the directions of the plan, `tests`), and its own
t interval, corrected over the contrasts, excludes 0. `controls` counts comparisons: two a control where the sign is
declared.

Model: the estimate of the direction is normal around the true effect with standard error spread / sqrt(scenarios);
those of the controls are normal around 0, independent, with the same error and with a standard deviation
`control_sd` of their own true effects. An effect is the change of the outcome between the ends of the slope window, a
fraction; `spread` is the standard deviation over scenarios of that change as measured for one scenario.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heartstrings.core.errors import InputError
from heartstrings.stats.intervals import t_quantile
from heartstrings.stats.nulls import allowed_larger

LARGEST_NEEDED = 1_000_000
"""Scenarios; an effect that needs more is reported as one that no number of scenarios finds."""


@dataclass(frozen=True)
class Design:
    """What the power of an experiment depends on, beside the effect and the number of scenarios.

    Raises:
        InputError: a spread of 0 or less, no control, or another value that no experiment has.
    """

    spread: float
    controls: Sequence[int] = (40, 40, 40)
    """Comparisons of each kind; 0: the kind is not used."""
    tests: int = 1
    """Directions, which Holm's correction covers."""
    family: int = 1
    """Behaviours, over which each control counts by its largest value."""
    contrasts: int = 1
    """Of the doses."""
    alpha: float = 0.05
    control_sd: float = 0.0
    """Standard deviation over controls of their true effects."""
    power: float = 0.8
    """The probability with which an effect is to be found."""

    def __post_init__(self) -> None:
        if (
            self.spread <= 0
            or self.control_sd < 0
            or min(self.tests, self.family) < 1
            or not 0 < self.alpha < 1
            or not any(self.controls)
        ):
            raise InputError(
                f"spread {self.spread}, {self.tests} tests, alpha {self.alpha}, controls {tuple(self.controls)}",
                "a spread over 0, one test or more, alpha between 0 and 1, at least one kind of control",
            )
        object.__setattr__(self, "controls", tuple(filter(None, self.controls)))


@dataclass(frozen=True)
class Power:
    """What an experiment is able to find: the two figures of the power sentence, and what they assume."""

    detectable: float
    """The effect found with probability `power`; infinite if none ever is."""
    planted: float
    """An effect of interest."""
    needed: int | None
    """Scenarios at which that one is found with probability `power`; None: no number of them is enough."""
    sentence: str


def sampled_spread(
    sd: float | int,
    doses: Sequence[float | int],
    *,
    repeats: int = 1,
    between: float | int = 0.0,
    width: float | int | None = None,
) -> float:
    """Standard deviation over scenarios of the effect measured by least squares on sampled outcomes.

    Args: sd of one sample's outcome about its cell's mean; the doses asked (0 among them), each `repeats` times;
    `between`: sd over scenarios of the true effect; width: highest minus lowest dose, None: of `doses`. The sampling
    part is width^2 * sd^2 / (repeats * sum((dose - mean)^2)). An answer without chance in it (a probability) has no
    sampling part: its spread is `between`."""
    x = np.asarray(doses, dtype=np.float64)
    total = float(((x - x.mean()) ** 2).sum()) if len(x) else 0.0
    if total <= 0 or sd < 0 or repeats < 1 or between < 0:
        raise InputError(f"sd {sd}, {len(x)} doses, {repeats} repeats, between {between}", "two doses or more")
    reach = float(np.ptp(x)) if width is None else width
    return math.sqrt((reach * sd) ** 2 / (repeats * total) + float(between) ** 2)


@functools.lru_cache(maxsize=4096)
def power_of(effect: float | int, n: int, design: Design) -> float:
    """Probability that an effect of this size is found with n scenarios.

    The integral, over the direction's estimate e, of its density, times for each kind the binomial probability that at
    most as many controls as allowed have |estimate| >= |e|, times the probability (chi-squared, n - 1 degrees) that the
    estimated standard error puts 0 outside the t interval around e."""
    from scipy.special import bdtr, chdtr, ndtr

    if n < 0:
        raise InputError(f"{n} scenarios", "0 or more", "Change n")
    controls = sorted(design.controls)
    allowed = [allowed_larger(size, design.tests, design.alpha) for size in controls]
    if n < 2 or min(allowed) < 0:
        return 0.0
    error = design.spread / math.sqrt(n)
    z = np.linspace(-8.0, 8.0, 801)
    density = np.exp(-z * z / 2)
    estimate = np.abs(effect + error * z)
    # A control counts by its largest value over the behaviours, taken here to be independent and alike.
    # Of the contrasts of two doses, the line and the ends are correlated, so that they count as two.
    smaller = 1 - 2 * ndtr(-estimate / math.hypot(error, design.control_sd))
    larger = 1 - smaller ** (design.family * min(design.contrasts, 2))
    critical = t_quantile(1 - 0.05 / design.contrasts, n - 1)
    chance = chdtr(n - 1, (n - 1) * (estimate / (error * critical)) ** 2)
    for size, most in zip(controls, allowed, strict=True):
        chance = chance * (1.0 if most >= size else bdtr(float(most), size, larger))
    return float((density * chance).sum() / density.sum())


def detectable(n: int, design: Design) -> float:
    """The smallest effect that n scenarios find with the design's power; infinite where the plan can find none."""
    low, high = 0.0, design.spread
    while power_of(high, n, design) < design.power:
        low, high = high, high * 2
        if high > 1e6 * (design.spread + design.control_sd):
            return math.inf
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if power_of(middle, n, design) >= design.power else (middle, high)
    return high


def needed(effect: float | int, design: Design) -> int | None:
    """The fewest scenarios that find this effect with the design's power; None if no number does.

    None: too few controls for the tests, controls that really move as much (`control_sd`), or an effect of 0."""
    low, high = 1, 2
    while power_of(effect, high, design) < design.power:
        low, high = high, high * 2
        if high > LARGEST_NEEDED:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(effect, middle, design) >= design.power else (middle, high)
    return high


def more_scenarios(n: int, effect: float | int | None, design: Design, *, smallest_effect: float | int) -> int | None:
    """How many scenarios more would settle an inconclusive effect: at least 1; None if none would within reason.

    Whichever comes first: the effect as observed, where it is larger than the smallest that matters, is found with the
    design's power; or the half-width t * spread / sqrt(n) falls to that smallest effect."""
    if smallest_effect <= 0:
        raise InputError(f"smallest effect {smallest_effect}", "a number over 0")
    narrow = max(2, math.ceil((1.9 * design.spread / smallest_effect) ** 2))
    while (
        narrow < LARGEST_NEEDED and t_quantile(0.95, narrow - 1) * design.spread / math.sqrt(narrow) > smallest_effect
    ):
        narrow += max(1, narrow // 200)
    settled = [narrow] if narrow < LARGEST_NEEDED else []
    if effect is not None and abs(effect) > smallest_effect:
        enough = needed(abs(effect), design)
        settled += [] if enough is None else [enough]
    return max(1, min(settled) - n) if settled else None


def summarise(
    n: int,
    design: Design,
    *,
    doses: tuple[float, float],
    planted: float | int = 0.10,
    between: float | int | None = None,
) -> Power:
    """Both figures and the sentence.

    Args:
        doses: the ends of the slope window.
        planted: an effect of interest.
        between: what was assumed of how much scenarios differ in their true effect; None: the sentence states the
            design's spread as measured.
    """
    least, enough = detectable(n, design), needed(planted, design)
    tests = design.tests * design.family
    have = f"With {_count(n, 'scenario')}, {_count(sum(design.controls), 'comparison')} with controls"
    have += f" and {_count(tests, 'test')}"
    often = f"{design.power * 10:.3g} times in 10"
    if any(allowed_larger(size, design.tests, design.alpha) < 0 for size in design.controls):
        text = f"{have}, no effect can be found: too few controls for that many tests."
    else:
        window = f"between doses {doses[0]:g} and {doses[1]:g}"
        assumed = (
            f"assuming that single scenarios' changes spread by {design.spread:.2g}"
            if between is None
            else f"assuming that scenarios differ by {between:.2g}"
        )
        # Rounded up, and more than the whole scale is no effect a rate can have.
        if least <= 1:
            text = f"{have}, an effect of {_points(least)} {window} is found {often} ({assumed})"
        else:
            text = f"{have}, no possible effect {window} is found as often as {often} ({assumed})"
        named = _points(planted)
        never = ", since control directions move the answers as far" if design.control_sd > 0 else ""
        more = f"{named} would need {enough:,}" if enough else f"no number of scenarios finds {named}{never}"
        text += f"; {more}."
    return Power(least, planted, enough, text)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _points(effect: float | int) -> str:
    """Percentage points, rounded up; with a decimal under 10."""
    points = effect * 100
    shown = math.ceil(points - 1e-9) if points >= 10 else math.ceil(points * 10 - 1e-9) / 10
    return f"{shown:g} point" if shown == 1 else f"{shown:g} points"
