"""Outcome on dose: least-squares slopes group by group, and one logistic slope with cluster-robust errors.

`dose`, `outcome`, `group` have one entry a sample. Dose is a fraction of the residual norm; the outcome is a fraction
(0 to 1: a rate, a probability); samples without an outcome are left out. A group is a scenario, asked at each dose.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable

import numpy as np

from heartstrings.core.errors import InputError
from heartstrings.stats.intervals import (
    Groups,
    Interval,
    Values,
    as_codes,
    as_floats,
    mean_interval,
    newcombe_paired,
    t_quantile,
)

LEAST_EVENTS = 10
"""0/1 outcomes with fewer of either kind get no interval of the logistic slope: cluster-robust errors are then far too
small (simulated coverage of 95%: .88 at eight events, .63 at three; Peduzzi et al. 1996 have the same threshold)."""


def _clean(dose: Values, outcome: Values) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Doses and outcomes where there is an outcome, and which those are."""
    x, y = as_floats(dose), as_floats(outcome)
    if len(x) != len(y):
        raise InputError(f"{len(x)} doses for {len(y)} outcomes", "one dose an outcome")
    if np.isnan(x).any():
        raise InputError("a sample without a dose", "a dose for each sample")
    there = ~np.isnan(y)
    return x[there], y[there], there


def _labels(group: Groups) -> list[Hashable]:
    return list(dict.fromkeys(group))


def slopes_by_group(dose: Values, outcome: Values, group: Groups) -> tuple[tuple[Hashable, ...], np.ndarray]:
    """Each group's least-squares slope (outcome per unit of dose), groups in order of appearance.

    A group whose outcomes are all at one dose has no slope and is left out."""
    codes = as_codes(group, len(dose))
    x, y, there = _clean(dose, outcome)
    labels, codes = _labels(group), codes[there]
    size = len(labels)
    count = np.maximum(np.bincount(codes, minlength=size), 1)
    x = x - (np.bincount(codes, weights=x, minlength=size) / count)[codes]
    spread = np.bincount(codes, weights=x * x, minlength=size)
    shared = np.bincount(codes, weights=x * y, minlength=size)
    has = spread > 1e-18
    return tuple(label for label, kept in zip(labels, has, strict=True) if kept), shared[has] / spread[has]


def effect(
    dose: Values, outcome: Values, group: Groups, *, situation: Groups | None = None, width: float | int | None = None
) -> Interval:
    """Change of the outcome between the ends of the doses: mean over situations of slope times width, with t.

    Args:
        group: the scenario of each sample, which has a slope of its own.
        situation: of each sample; scenarios that share one are averaged first. None: each scenario is its own.
        width: highest minus lowest dose; None: of the doses given.
    `n` counts scenarios with a slope, `missing` those without. Fewer than two situations: no interval. Of 0/1 outcomes
    with fewer than ten of either kind, or where no scenario moves, t says too little of what was not seen: the interval
    is then at least as wide as Newcombe's for the two ends, with one pair a situation."""
    x, y, _ = _clean(dose, outcome)
    groups, slopes = slopes_by_group(dose, outcome, group)
    missing = len(_labels(group)) - len(groups)
    if len(groups) == 0:
        return Interval(None, None, None, 0, missing)
    reach = float(np.ptp(as_floats(dose))) if width is None else float(width)
    of_group = dict(zip(group, group if situation is None else situation, strict=True))
    situations = [of_group[scenario] for scenario in groups]
    interval = mean_interval(slopes * reach, situations, as_rate=False)
    rare = min(y.sum(), len(y) - y.sum()) < LEAST_EVENTS or np.ptp(slopes * reach) < 1e-12
    if interval.low is not None and rare and np.isin(y, (0.0, 1.0)).all():
        interval = _with_floor(interval, x, y, len(set(situations)))
    return Interval(interval.value, interval.low, interval.high, len(groups), missing)


def _with_floor(interval: Interval, x: np.ndarray, y: np.ndarray, n: int) -> Interval:
    """No narrower than Newcombe's interval for as many pairs as situations, each with the outcomes of the two ends."""
    low, high = float(y[x == x.min()].mean()), float(y[x == x.max()].mean())
    both, neither = min(low, high) * n, (1 - max(low, high)) * n
    bounds = newcombe_paired(both, max(high - low, 0.0) * n, max(low - high, 0.0) * n, neither)
    assert interval.value is not None  # for mypy: intervals that exist have all three
    assert interval.low is not None
    assert interval.high is not None
    assert bounds.value is not None
    assert bounds.low is not None
    assert bounds.high is not None
    below, above = bounds.value - bounds.low, bounds.high - bounds.value
    return Interval(
        interval.value, min(interval.low, interval.value - below), max(interval.high, interval.value + above), n
    )


def _by_dose(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct doses, and samples and summed outcome at each: all that the likelihood needs."""
    levels, at = np.unique(x, return_inverse=True)
    return levels, np.bincount(at).astype(np.float64), np.bincount(at, weights=y)


def _separated(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """[..., D] -> [...]: no finite maximum: all of the outcomes below some dose are 0 and all above are 1, or reversed.

    At most one dose, between the two, may have anything else."""
    some, room = total > 0, total < count  # a dose with no samples has neither
    place = np.arange(total.shape[-1])
    first = [np.where(has, place, total.shape[-1]).min(-1) for has in (some, room)]
    last = [np.where(has, place, -1).max(-1) for has in (some, room)]
    return np.asarray((last[1] <= first[0]) | (last[0] <= first[1]))


def logistic_slopes(doses: np.ndarray, count: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Logistic slopes of many outcomes at once, log-odds per unit of dose.

    Args: doses [D], samples [..., D], summed outcomes [..., D] (each sample 0 to 1). Returns [...]; NaN where fewer
    than two doses have samples. Constant outcomes: 0. Where the maximum is at infinity (a dose above which all are 1,
    below which all are 0), half a success and half a failure are added at every dose that has samples (Haldane 1956,
    Anscombe 1956): large, finite, and the same rule for a direction and for its controls.
    """
    doses = np.asarray(doses, dtype=np.float64)
    count, total = np.broadcast_arrays(np.asarray(count, np.float64), np.asarray(total, np.float64))
    shape = count.shape[:-1]
    count, total = count.reshape(-1, len(doses)).copy(), total.reshape(-1, len(doses)).copy()
    if ((total < -1e-9) | (total > count + 1e-9)).any():
        raise InputError("an outcome outside 0 to 1", "a rate or a probability")
    total = np.clip(total, 0, count)
    result = np.full(len(count), np.nan)
    there = count > 0
    usable = there.sum(-1) > 1
    rate = np.divide(total, count, out=np.full_like(total, np.nan), where=there)
    spread = np.where(there, rate, -np.inf).max(-1) - np.where(there, rate, np.inf).min(-1)
    flat = usable & (spread < 1e-12)
    result[flat] = 0.0
    fit = np.flatnonzero(usable & ~flat)
    if len(fit) == 0:
        return result.reshape(shape)
    n, s = count[fit], total[fit]
    infinite = _separated(s, n)
    n, s = _with_halves(n, s, infinite)
    slope, done = _newton(doses, n, s)
    if not done.all():  # as good as separated: rates too near 0 or 1 for float64
        slope[~done] = _newton(doses, *_with_halves(n[~done], s[~done], np.ones(int((~done).sum()), bool)))[0]
    result[fit] = slope
    return result.reshape(shape)


def _with_halves(n: np.ndarray, s: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    added = rows[:, None] & (n > 0)
    return n + added, s + 0.5 * added


def _newton(doses: np.ndarray, n: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes [K] by Newton's method with halved steps, and whether each converged. The likelihood is concave."""
    centre, scale = doses.mean(), doses.std()
    x = (doses - centre) / scale
    mean = np.clip(s.sum(-1) / n.sum(-1), 1e-9, 1 - 1e-9)
    beta = np.stack([np.log(mean / (1 - mean)), np.zeros(len(n))], axis=-1)

    def likelihood(b: np.ndarray) -> np.ndarray:
        eta = b[:, :1] + b[:, 1:] * x
        return np.asarray((s * eta - n * np.logaddexp(0, eta)).sum(-1))

    best = likelihood(beta)
    done = np.zeros(len(n), bool)
    for _ in range(60):
        p = 1 / (1 + np.exp(-np.clip(beta[:, :1] + beta[:, 1:] * x, -700, 700)))
        gap, weight = s - n * p, n * p * (1 - p)
        g0, g1 = gap.sum(-1), (gap * x).sum(-1)
        h00, h01, h11 = weight.sum(-1), (weight * x).sum(-1), (weight * x * x).sum(-1)
        det = h00 * h11 - h01 * h01
        sound = det > 1e-280
        safe = np.where(sound, det, 1.0)
        step = np.stack([(h11 * g0 - h01 * g1) / safe, (h00 * g1 - h01 * g0) / safe], axis=-1)
        step[~sound | done] = 0.0
        for _ in range(30):
            new = likelihood(beta + step)
            worse = new < best - 1e-12 * np.maximum(1.0, np.abs(best))
            if not worse.any():
                break
            step[worse] /= 2
        beta, best = beta + step, likelihood(beta + step)
        done |= sound & (np.abs(step).max(-1) < 1e-10 * np.maximum(1.0, np.abs(beta).max(-1)))
        if (done | ~sound).all():
            break
    return beta[:, 1] / scale, done


def logistic_slope_value(dose: Values, outcome: Values) -> float | None:
    """The logistic slope without its interval, fast: that of a GLM to rounding (see `logistic_slopes` for the edges).

    None where fewer than two doses have outcomes."""
    x, y, _ = _clean(dose, outcome)
    if len(y) and (y.min() < 0 or y.max() > 1):
        raise InputError(f"an outcome of {y.min() if y.min() < 0 else y.max()}", "a fraction between 0 and 1")
    if len(np.unique(x)) < 2:
        return None
    return float(logistic_slopes(*_by_dose(x, y)))


def logistic_slope(dose: Values, outcome: Values, group: Groups, *, level: float | int = 0.95) -> Interval:
    """Change of the outcome's log-odds per unit of dose: binomial GLM on fractions (Papke and Wooldridge 1996).

    Errors are cluster-robust by group, with the G/(G-1) (N-1)/(N-K) correction and t on G - 1 degrees of freedom.
    The value is that of `logistic_slope_value`. No interval: fewer than two groups, constant outcomes, a maximum at
    infinity, or 0/1 outcomes with fewer than ten of either kind. `n` counts samples."""
    codes = as_codes(group, len(dose))
    value = logistic_slope_value(dose, outcome)
    x, y, there = _clean(dose, outcome)
    codes, n, missing = codes[there], len(y), int((~there).sum())
    bare = Interval(value, None, None, n, missing)
    clusters = np.unique(codes).size
    if value is None or clusters < 2 or np.ptp(y) == 0:
        return bare
    if np.isin(y, (0.0, 1.0)).all() and min(y.sum(), n - y.sum()) < LEAST_EVENTS:
        return bare
    _, count, total = _by_dose(x, y)
    if np.ptp(total / count) < 1e-12 and np.isin(total / count, (0.0, 1.0)).all():
        return bare
    if bool(_separated(total, count)):
        return bare
    import statsmodels.api as sm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of what is checked above, and of clusters of one sample
        try:
            fit = sm.GLM(y, sm.add_constant(x, has_constant="add"), family=sm.families.Binomial()).fit(
                cov_type="cluster", cov_kwds={"groups": codes, "use_correction": True}, use_t=True
            )
        except (ValueError, np.linalg.LinAlgError):
            return bare
    error, slope = float(fit.bse[1]), float(fit.params[1])
    if not math.isfinite(error) or abs(slope - value) > 1e-5 * max(1.0, abs(value)):
        return bare
    reach = t_quantile(level, clusters - 1) * error
    return Interval(value, value - reach, value + reach, n, missing)
