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
"""Scenarios; an effect that needs more is not found by asking more."""


@dataclass(frozen=True)
class Power:
    """What an experiment is able to find: the two figures of the power sentence, and what they assume."""

    scenarios: int
    controls: tuple[int, ...]
    """Of each kind."""
    tests: int
    """Directions, which Holm's correction covers."""
    family: int
    """Behaviours, over which each control counts by its largest value."""
    spread: float
    detectable: float
    """The effect found with probability `power`; infinite if none ever is."""
    planted: float
    """An effect of interest."""
    needed: int | None
    """Scenarios at which that one is found with probability `power`; None: no number of them is enough."""
    power: float
    sentence: str


def binary_spread(
    rate: float | int,
    doses: Sequence[float | int],
    *,
    repeats: int = 1,
    between: float | int = 0.0,
    width: float | int | None = None,
) -> float:
    """`sampled_spread` of answers that are 0 or 1, whose standard deviation is sqrt(rate * (1 - rate))."""
    if not 0 <= rate <= 1:
        raise InputError(f"rate {rate}", "a number from 0 to 1")
    return sampled_spread(math.sqrt(rate * (1 - rate)), doses, repeats=repeats, between=between, width=width)


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


def power_of(
    effect: float | int,
    n: int,
    *,
    spread: float | int,
    controls: Sequence[int] = (40, 40, 40),
    tests: int = 1,
    family: int = 1,
    contrasts: int = 1,
    alpha: float | int = 0.05,
    control_sd: float | int = 0.0,
) -> float:
    """Probability that an effect of this size is found with n scenarios. A kind of 0 controls is a kind not used.

    The integral, over the direction's estimate e, of its density, times for each kind the binomial probability that at
    most as many controls as allowed have |estimate| >= |e|, times the probability (chi-squared, n - 1 degrees) that the
    estimated standard error puts 0 outside the t interval around e."""
    if spread <= 0 or n < 0 or control_sd < 0 or min(tests, family) < 1 or not 0 < alpha < 1 or not any(controls):
        raise InputError(
            f"spread {spread}, {n} scenarios, {tests} tests, alpha {alpha}, controls {tuple(controls)}",
            "a spread over 0, one test or more, alpha between 0 and 1, at least one kind of control",
        )
    kinds = tuple(sorted(filter(None, controls)))
    return _power(float(effect), n, spread, kinds, tests, family, contrasts, alpha, control_sd)


@functools.lru_cache(maxsize=4096)
def _power(
    effect: float | int,
    n: int,
    spread: float | int,
    controls: tuple[int, ...],
    tests: int,
    family: int,
    contrasts: int,
    alpha: float | int,
    control_sd: float | int,
) -> float:
    from scipy.special import bdtr, chdtr, ndtr

    allowed = [allowed_larger(size, tests, alpha) for size in controls]
    if n < 2 or min(allowed) < 0:
        return 0.0
    error = spread / math.sqrt(n)
    z = np.linspace(-8.0, 8.0, 801)
    density = np.exp(-z * z / 2)
    estimate = np.abs(effect + error * z)
    # A control counts by its largest value over the behaviours, taken here to be independent and alike.
    # Of the contrasts of two doses a line and its ends hang together, so that they count as two.
    larger = 1 - (1 - 2 * ndtr(-estimate / math.hypot(error, control_sd))) ** (family * min(contrasts, 2))
    chance = chdtr(n - 1, (n - 1) * (estimate / (error * t_quantile(1 - 0.05 / contrasts, n - 1))) ** 2)
    for size, most in zip(controls, allowed, strict=True):
        chance = chance * (1.0 if most >= size else bdtr(float(most), size, larger))
    return float((density * chance).sum() / density.sum())


def detectable(
    n: int,
    *,
    spread: float | int,
    controls: Sequence[int] = (40, 40, 40),
    tests: int = 1,
    family: int = 1,
    contrasts: int = 1,
    alpha: float | int = 0.05,
    power: float | int = 0.8,
    control_sd: float | int = 0.0,
) -> float:
    """The smallest effect found with probability `power` by n scenarios; infinite where the plan can find none."""

    def found(effect: float | int) -> bool:
        rest = {
            "controls": controls, "tests": tests, "family": family, "contrasts": contrasts, "alpha": alpha,
            "control_sd": control_sd,
        }  # fmt: skip
        return power_of(effect, n, spread=spread, **rest) >= power  # type: ignore[arg-type]

    low, high = 0.0, spread
    while not found(high):
        low, high = high, high * 2
        if high > 1e6 * (spread + control_sd):
            return math.inf
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high


def needed(
    effect: float | int,
    *,
    spread: float | int,
    controls: Sequence[int] = (40, 40, 40),
    tests: int = 1,
    family: int = 1,
    contrasts: int = 1,
    alpha: float | int = 0.05,
    power: float | int = 0.8,
    control_sd: float | int = 0.0,
) -> int | None:
    """The fewest scenarios that find this effect with probability `power`; None if no number does.

    None: too few controls for the tests, controls that really move as much (`control_sd`), or an effect of 0."""

    def found(n: int) -> bool:
        rest = {
            "controls": controls, "tests": tests, "family": family, "contrasts": contrasts, "alpha": alpha,
            "control_sd": control_sd,
        }  # fmt: skip
        return power_of(effect, n, spread=spread, **rest) >= power  # type: ignore[arg-type]

    low, high = 1, 2
    while not found(high):
        low, high = high, high * 2
        if high > LARGEST_NEEDED:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high


def more_scenarios(
    n: int,
    effect: float | int | None,
    *,
    spread: float | int,
    smallest_effect: float | int,
    controls: Sequence[int] = (40, 40, 40),
    tests: int = 1,
    family: int = 1,
    contrasts: int = 1,
    alpha: float | int = 0.05,
    power: float | int = 0.8,
    control_sd: float | int = 0.0,
) -> int | None:
    """How many scenarios more would settle an inconclusive effect: at least 1; None if none would within reason.

    Whichever comes first: the effect as observed, where it is larger than the smallest that matters, is found with
    probability `power`; or the half-width t * spread / sqrt(n) falls to that smallest effect."""
    if smallest_effect <= 0 or spread <= 0:
        raise InputError(f"smallest effect {smallest_effect}, spread {spread}", "both over 0")
    narrow = max(2, math.ceil((1.9 * spread / smallest_effect) ** 2))
    while narrow < LARGEST_NEEDED and t_quantile(0.95, narrow - 1) * spread / math.sqrt(narrow) > smallest_effect:
        narrow += max(1, narrow // 200)
    settled = [narrow] if narrow < LARGEST_NEEDED else []
    if effect is not None and abs(effect) > smallest_effect:
        enough = needed(
            abs(effect),
            spread=spread,
            controls=controls,
            tests=tests,
            family=family,
            contrasts=contrasts,
            alpha=alpha,
            power=power,
            control_sd=control_sd,
        )
        settled += [] if enough is None else [enough]
    return max(1, min(settled) - n) if settled else None


def summarise(
    n: int,
    *,
    spread: float | int,
    doses: tuple[float, float],
    controls: Sequence[int] = (40, 40, 40),
    tests: int = 1,
    family: int = 1,
    contrasts: int = 1,
    alpha: float | int = 0.05,
    power: float | int = 0.8,
    control_sd: float | int = 0.0,
    planted: float | int = 0.10,
    between: float | int | None = None,
) -> Power:
    """Both figures and the sentence.

    Args: doses: the ends of the slope window; planted: an effect of interest; between: what was assumed of how much
    scenarios differ in their true effect (None: the sentence states `spread` as measured)."""
    rest = {
        "controls": tuple(controls),
        "tests": tests,
        "family": family,
        "contrasts": contrasts,
        "alpha": alpha,
        "power": power,
        "control_sd": control_sd,
    }
    least = detectable(n, spread=spread, **rest)  # type: ignore[arg-type]
    enough = needed(planted, spread=spread, **rest)  # type: ignore[arg-type]
    compared = f"{_count(sum(controls), 'comparison')} with controls"
    have = f"With {_count(n, 'scenario')}, {compared} and {_count(tests * family, 'test')}"
    often = f"{power * 10:.3g} times in 10"
    if any(allowed_larger(size, tests, alpha) < 0 for size in controls if size):
        text = f"{have}, no effect can be found: too few controls for that many tests."
    else:
        window = f"between doses {doses[0]:g} and {doses[1]:g}"
        assumed = (
            f"assuming that single scenarios' changes spread by {spread:.2g}"
            if between is None
            else f"assuming that scenarios differ by {between:.2g}"
        )
        # Rounded up, and more than the whole scale is no effect a rate can have.
        if least <= 1:
            text = f"{have}, an effect of {_points(least)} {window} is found {often} ({assumed})"
        else:
            text = f"{have}, no possible effect {window} is found as often as {often} ({assumed})"
        named = _points(planted)
        never = ", since control directions move the answers as far" if control_sd > 0 else ""
        more = f"{named} would need {enough:,}" if enough else f"no number of scenarios finds {named}{never}"
        text += f"; {more}."
    return Power(n, tuple(controls), tests, family, spread, least, planted, enough, power, text)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _points(effect: float | int) -> str:
    """Percentage points, rounded up; with a decimal under 10."""
    points = effect * 100
    shown = math.ceil(points - 1e-9) if points >= 10 else math.ceil(points * 10 - 1e-9) / 10
    return f"{shown:g} point" if shown == 1 else f"{shown:g} points"
