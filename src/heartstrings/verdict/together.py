"""The band of a dose curve: every change against the baseline, with intervals that hold at all doses together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64

from heartstrings.stats.bands import joint_level
from heartstrings.stats.betting import bounded_change
from heartstrings.stats.estimate import estimate
from heartstrings.stats.intervals import LEAST_PAIRS, Interval, means_by, paired_change
from heartstrings.stats.slopes import LEAST_EVENTS
from heartstrings.verdict.results import Curve, DosePoint
from heartstrings.verdict.tables import Column, Pairs, pairs


def banded(curve: Curve, baseline: Column, doses: Mapping[float, Column], *, seed: int) -> Curve:
    """The curve of an outcome with its band; without one where no dose has a change."""
    parts = {dose: pairs(baseline, column, "outcome") for dose, column in sorted(doses.items()) if len(baseline)}
    parts = {dose: part for dose, part in parts.items() if (~np.isnan(part[0] - part[1])).any()}
    if not parts:
        return curve
    points = []
    for dose, moved in zip(parts, together(list(parts.values()), seed=seed), strict=True):
        points.append(DosePoint(dose=dose, estimate=estimate(moved), n=moved.n, missing=moved.missing))
    return curve.model_copy(update={"band": tuple(points)})


def together(parts: Sequence[Pairs], *, seed: int) -> list[Interval]:
    """Mean change at each dose, with intervals that hold at all of them together at 95%.

    Each is the package's interval of a paired change, at the level that `joint_level` finds. Of 0/1 outcomes a change
    may be so rare that fewer than ten situations show any: neither resampling nor Newcombe's interval knows what was
    not seen (simulated, 100 situations of which one in 35 flips, one way: .85). Then all are taken at Bonferroni's
    level, and a dose whose changes are rare has the bound that bets on them (`heartstrings.stats.betting`)."""
    changes = _changes(parts)
    rates = all(np.isin(one[~np.isnan(one)], (0.0, 1.0)).all() for part in parts for one in part[:2])
    rare = rates & ((np.abs(np.nan_to_num(changes)) > 0).sum(axis=0) < LEAST_EVENTS)
    level = joint_level(changes, rare=bool(rare.any()), seed=seed)
    enough = (~np.isnan(changes)).sum(axis=0) >= LEAST_PAIRS
    return [
        bounded_change(*part, alpha=(1 - level) / 2) if seldom and many else paired_change(*part, level=level)
        for part, seldom, many in zip(parts, rare.tolist(), enough.tolist(), strict=True)
    ]


def _changes(parts: Sequence[Pairs]) -> Float64[np.ndarray, "situation dose"]:
    """Mean change of each situation at each dose; NaN where it has no whole pair."""
    every = sorted({group for part in parts for group in part[2]})
    place = {group: at for at, group in enumerate(every)}
    found = np.full((len(every), len(parts)), np.nan)
    for at, (before, after, groups) in enumerate(parts):
        own = np.array([place[group] for group in groups], dtype=np.int64)
        found[:, at] = means_by(after - before, own, len(every))
    return found
