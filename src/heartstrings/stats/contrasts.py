"""Shapes of a dose curve: the statistics in which a direction is compared with its controls.

A straight line over the doses misses a response that has a peak, or goes the same way at both ends. So several
contrasts of the doses are looked at, and the largest counts, in units of what the direction and its controls do in the
same contrast (root mean square), or of the smallest effect that matters where they do less than that. Controls are
searched in the same way, so the search favours none of them. This is the multiple contrast test of Bretz, Pinheiro and
Branson (2005, Biometrics 61:738-748) with controls in place of its normal theory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

LINE = "line"


def contrasts(doses: Sequence[float | int]) -> tuple[tuple[str, ...], Float64[np.ndarray, "contrast dose"]]:
    """Names and weights of the contrasts of some doses, in the order given; each one's weights sum to 0.

    `line`: the least-squares slope times the distance of the outermost doses. Where 0 is among the doses also, each
    being a change from the outcome at 0: `at D`, the change at one dose; `both sides`, the mean over all; `step`, the
    mean over the positive minus that over the negative; `positive` and `negative`, the mean of one side. A contrast
    that repeats another one is left out. Fewer than two doses have none.
    """
    x = np.asarray(doses, dtype=np.float64)
    if len(x) < 2 or np.ptp(x) == 0:
        return (), np.zeros((0, len(x)))
    centred = x - x.mean()
    by_name = {LINE: centred * np.ptp(x) / (centred**2).sum()}
    if (x == 0).sum() == 1:
        steered = [at for at in np.argsort(x).tolist() if x[at]]
        above, below = [at for at in steered if x[at] > 0], [at for at in steered if x[at] < 0]
        by_name |= {f"at {x[at]:g}": _mean(x, [at]) for at in steered}
        if above and below:
            by_name["both sides"] = _mean(x, steered)
            by_name["step"] = _mean(x, above) - _mean(x, below)
        by_name |= {"positive": _mean(x, above)} if above else {}
        by_name |= {"negative": _mean(x, below)} if below else {}
    kept: dict[str, np.ndarray] = {}
    for name, weights in by_name.items():
        unit = weights / np.linalg.norm(weights)
        if all(abs(float(unit @ other) / np.linalg.norm(other)) < 1 - 1e-9 for other in kept.values()):
            kept[name] = weights
    return tuple(kept), np.stack(list(kept.values()))


def _mean(x: Float64[np.ndarray, "dose"], at: Sequence[int]) -> Float64[np.ndarray, "dose"]:
    """The mean outcome at some doses minus the outcome at 0."""
    weights = np.zeros(len(x))
    weights[list(at)] = 1 / len(at)
    weights[x == 0] = -1.0
    return weights


ORIENTED = {LINE: 1, "step": 1, "positive": 1, "negative": -1}


def orientation(names: Sequence[str]) -> Float64[np.ndarray, "contrast"]:
    """1 where a direction that raises the outcome at positive doses gives a positive value, -1 where a negative one; 0
    where a rise says nothing of its sign (`both sides`)."""
    signs = [
        float(np.sign(float(name.removeprefix("at ")))) if name.startswith("at ") else float(ORIENTED.get(name, 0))
        for name in names
    ]
    return np.array(signs, dtype=np.float64)


def in_units(
    sizes: Float64[np.ndarray, "direction contrast"],
    signs: Float64[np.ndarray, "contrast"] | None = None,
    *,
    least: float | int,
    weights: Float64[np.ndarray, "direction"] | None = None,
) -> Float64[np.ndarray, "direction contrast"]:
    """Each contrast over its unit: the root mean square over all directions, and `least` at least.

    The tested direction is one row among its controls. Without `least` a contrast in which nothing happens would weigh
    as much as one in which much does: on an organism whose response is a straight line, controls of 24 points along it
    bend by a quarter of a point, and a direction that bent by 0.8 points had the largest contrast of all.

    Args:
        signs: one-sided: each contrast times this, and 0 at least. None: sizes, whatever their sign.
        least: the smallest effect that matters (`Thresholds.smallest_effect`), a fraction.
        weights: of each direction in the mean of squares; None: all alike.
    Returns: NaN where a contrast is missing."""
    known = ~np.isnan(sizes)
    values = np.where(known, sizes, 0.0)
    counted = known * (1.0 if weights is None else weights[:, None])
    total = counted.sum(axis=0)
    unit = np.maximum(np.sqrt((counted * values**2).sum(axis=0) / np.where(total > 0, total, 1.0)), least)
    scaled = values / np.where(unit > 0, unit, np.inf)
    turned = np.abs(scaled) if signs is None else np.maximum(scaled * signs, 0.0)
    ratios: Float64[np.ndarray, "direction contrast"] = np.where(known, turned, np.nan)
    return ratios


def largest(scaled: Float64[np.ndarray, "direction contrast"]) -> Float64[np.ndarray, "direction"]:
    """Each direction's largest contrast, of `in_units`; NaN where it has none. A missing contrast takes no part."""
    known = ~np.isnan(scaled)
    top = np.where(known, scaled, 0.0).max(axis=1, initial=0.0)
    maxima: Float64[np.ndarray, "direction"] = np.where(known.any(axis=1), top, np.nan)
    return maxima
