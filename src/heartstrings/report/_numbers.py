"""How the report writes numbers: one function for each kind, used by the plots and, as filters, by the templates.

A missing value is always a dash, never a zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from heartstrings.geometry.readout_results import Estimate as ReadoutEstimate
    from heartstrings.geometry.results import Best, Correlation
    from heartstrings.stats.estimate import Estimate

NOTHING = "–"
MINUS = "\u2212"
FIRM = "\u00a0"
"""No-break space: it keeps intervals on one line in narrow tables."""


def known(value: float | None) -> TypeGuard[float]:
    """Whether there is a finite number."""
    return value is not None and math.isfinite(value)


def number(value: float | None, digits: int = 2) -> str:
    """`.83`, `−.05`, `1.00`: without the zero before the point."""
    if not known(value):
        return NOTHING
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    sign, size = (MINUS, text[1:]) if text.startswith("-") else ("", text)
    return sign + (size[1:] if size.startswith("0.") else size)


def p_value(p: float | None) -> str:
    """`.042`, `.0005`, `< .0001`."""
    if known(p) and p < 0.00005:
        return "< .0001"
    return number(p, 4 if known(p) and p < 0.001 else 3)


def correlation(fit: Correlation) -> str:
    """`.83 [.70, .90]`."""
    if not (known(fit.r) and known(fit.low) and known(fit.high)):
        return number(fit.r)
    return f"{number(fit.r)} [{number(fit.low)}, {number(fit.high)}]"


def best(fit: Best) -> str:
    """`2: .64, p .0005`: the component, its |r|, and p over the whole search."""
    if fit.component is None:
        return NOTHING
    return f"{fit.component}: {number(fit.r)}, p {p_value(fit.p)}"


def count(value: int | None) -> str:
    """`12 840`: thousands are separated by a thin space."""
    return NOTHING if value is None else f"{value:,}".replace(",", "\u2009")


def percent(value: float | None) -> str:
    """`12%`."""
    return f"{100 * value:.0f}%" if known(value) else NOTHING


def against_chance(estimate: ReadoutEstimate, *, percents: bool) -> str:
    """`40% [30%, 50%]; guessing 2%`, or the same with one decimal."""

    def write(value: float | None) -> str:
        return percent(value) if percents else number(value, 1)

    ends = "" if estimate.low is None else f" [{write(estimate.low)}, {write(estimate.high)}]"
    return f"{write(estimate.value)}{ends}; guessing {write(estimate.chance)}"


def signed(value: float | None, digits: int = 1) -> str:
    """`+3.1`, `−20`: up to `digits` decimals (1 or more), and one fewer from 10 on."""
    if not known(value):
        return NOTHING
    text = f"{abs(value):.{digits - 1 if abs(value) >= 9.95 else digits}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    sign = "" if float(text) == 0 else "+" if value > 0 else MINUS
    return sign + text


def interval(estimate: Estimate, times: float = 1.0, digits: int = 1) -> str:
    """`+3.1 [−1, +7]`: the estimate in a unit `times` smaller."""
    shown = [
        signed(end * times if known(end) else None, digits) for end in (estimate.value, estimate.low, estimate.high)
    ]
    if shown[0] == NOTHING:
        return NOTHING
    return f"{shown[0]} (no interval)" if NOTHING in shown else f"{shown[0]} [{shown[1]},{FIRM}{shown[2]}]"


def points(estimate: Estimate) -> str:
    """A change of a fraction in percentage points, with its interval: `+34 [+28, +40]`."""
    return interval(estimate, 100.0)


def share(estimate: Estimate) -> str:
    """`12% [5%, 25%]`."""
    if not known(estimate.value):
        return NOTHING
    if estimate.low is None or estimate.high is None:
        return f"{percent(estimate.value)} (no interval)"
    return f"{percent(estimate.value)} [{percent(estimate.low)},{FIRM}{percent(estimate.high)}]"


def dose(value: float) -> str:
    """`−0.3`."""
    return general(value).replace("-", MINUS)


def general(value: float, digits: int = 6) -> str:
    """Up to `digits` significant digits, as `format(value, "g")`."""
    return f"{value:.{digits}g}"


def layer_ranges(layers: Sequence[int], all_layers: Sequence[int]) -> str:
    """`0 to 3, 7`: runs of neighbours among the layers that were read."""
    if not layers:
        return "none"
    position = {layer: place for place, layer in enumerate(all_layers)}
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and position[layer] == position[runs[-1][-1]] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


FILTERS = {
    function.__name__: function
    for function in (
        number, p_value, correlation, best, count, percent, against_chance, signed, interval, points, share, dose,
        general, layer_ranges,
    )
}  # fmt: skip
