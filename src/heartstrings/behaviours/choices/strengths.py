"""Strengths of activities from pairwise choices: against an anchor, with probes, of a steered half against the other.

Strengths with mean 0 cannot show that all activities rose together. Strengths against a fixed option (`doing nothing`,
0 by definition) can, so `anchored_strengths` uses comparisons with that option too. Elo: 400 points are odds of ten to
one. Protocol: Sofroniew et al. 2026, preferences.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from heartstrings.behaviours.choices.activities import NOTHING
from heartstrings.core.errors import InputError
from heartstrings.core.steering import Characters, Steering
from heartstrings.stats.intervals import Interval, Values, as_floats
from heartstrings.stats.nulls import p_value
from heartstrings.stats.preferences import ELO_SCALE, PENALTY, Strengths, _connected, _fit, bradley_terry

if TYPE_CHECKING:
    from heartstrings.behaviours.base import Scenario


@dataclass(frozen=True)
class _Rows:
    """Comparisons as arrays: `won` is the probability that the second place wins."""

    names: tuple[str, ...]
    first: np.ndarray
    second: np.ndarray
    won: np.ndarray
    groups: tuple[Hashable, ...]
    missing: int


@dataclass(frozen=True)
class Correlation:
    """Pearson's r with its interval by Fisher's z, and the two-sided p of a permutation of the labels."""

    r: Interval
    p: float | None


def strengths(scenarios: Sequence[Scenario], outcomes: Values, *, resamples: int = 200, seed: int = 0) -> Strengths:
    """Strengths of the activities from scenarios of `preferences` and their outcomes, clustered by pair.

    Raises:
        InputError: as `bradley_terry`; a scenario that does not say what stands `first` and `second`.
    """
    for scenario in scenarios:
        if not {"first", "second"} <= set(scenario.data):
            raise InputError(f"scenario {scenario.id} without `first` and `second`", "a scenario of preferences")
    first, second = ([str(scenario.data[place]) for scenario in scenarios] for place in ("first", "second"))
    groups = [scenario.group for scenario in scenarios]
    return bradley_terry(first, second, outcomes, groups=groups, resamples=resamples, seed=seed)


def anchored_strengths(
    scenarios: Sequence[Scenario], outcomes: Values, *, anchor: str = NOTHING, resamples: int = 200, seed: int = 0
) -> Strengths:
    """Elo strengths with the anchor at 0, 95% intervals from a bootstrap over pairs.

    Takes scenarios of `activities` or `activity-places`, with the outcomes of their grades. The anchor is subtracted
    within each draw, so an interval holds its uncertainty too.

    Raises:
        InputError: scenarios without activities, outcomes outside [0, 1], an anchor that was never compared, or
            activities in halves that were never compared.
    """
    rows = _rows(scenarios, outcomes)
    if anchor not in rows.names:
        raise InputError(f"no comparison with {anchor!r}", "an anchor among the activities", "Use Activities(True)")
    at = rows.names.index(anchor)

    def against(fitted: np.ndarray) -> np.ndarray:
        return np.append(fitted[:-1] - fitted[at], fitted[-1]) * ELO_SCALE

    value, low, high = _bootstrap((rows,), lambda fits: against(fits[0]), resamples, seed)

    def interval(row: int) -> Interval:
        n = int(((rows.first == row) | (rows.second == row)).sum()) if row < len(rows.names) else len(rows.won)
        bottom, top = (None if end is None else float(end[row]) for end in (low, high))
        return Interval(float(value[row]), bottom, top, n)

    items = {name: interval(row) for row, name in enumerate(rows.names)}
    return Strengths(items, interval(len(rows.names)), len(rows.won), rows.missing)


def probe_correlation(
    strengths: Strengths, projections: Mapping[str, float | int], *, permutations: int = 4999, seed: int = 0
) -> Correlation:
    """Correlation of the projection of an activity's tokens on a direction with its strength.

    Args:
        projections: one number an activity, e.g. the mean projection of its tokens; activities in only one of the
            two are left out and counted as missing.
    Raises:
        InputError: fewer than 4 activities in both, or values that are all the same.
    """
    there = [name for name, strength in strengths.items.items() if name in projections and strength.value is not None]
    x = np.array([float(projections[name]) for name in there])
    y = np.array([strengths.items[name].value for name in there], dtype=np.float64)
    if len(there) < 4 or np.ptp(x) == 0 or np.ptp(y) == 0 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError(f"{len(there)} activities in both, or values all the same", "4 or more that differ")
    r = float(np.corrcoef(x, y)[0, 1])
    z, half = np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12)), 1.959964 / np.sqrt(len(there) - 3)
    draw = np.random.default_rng(seed)
    null = [float(np.corrcoef(x, draw.permutation(y))[0, 1]) for _ in range(permutations)]
    missing = len({*strengths.items} ^ {*projections})
    interval = Interval(r, float(np.tanh(z - half)), float(np.tanh(z + half)), len(there), missing)
    return Correlation(interval, p_value(r, null))


def halves(slugs: Sequence[str], *, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Two random halves, (to be steered, control); the first is one shorter where the number is odd."""
    if len(set(slugs)) != len(slugs) or len(slugs) < 2:
        raise InputError(f"{len(slugs)} activities, some twice or too few", "two or more, each once")
    order = sorted(slugs)
    random.Random(f"halves {seed}").shuffle(order)
    cut = len(order) // 2
    return tuple(sorted(order[:cut])), tuple(sorted(order[cut:]))


def half_effect(
    scenarios: Sequence[Scenario],
    steered: Values,
    baseline: Values,
    half: Collection[str],
    *,
    resamples: int = 200,
    seed: int = 0,
) -> Interval:
    """Elo points by which the half rose against the rest, when only the half's tokens were steered.

    (mean of the half minus mean of the rest, steered) minus (the same, unsteered), on the same scenarios, which should
    be those with one activity of each half. A shift of both halves does not count.

    Raises:
        InputError: a half that is empty or everything, or what `anchored_strengths` raises.
    """
    kept = ~(np.isnan(as_floats(steered)) | np.isnan(as_floats(baseline)))  # pairwise: both fits see the same
    asked = [scenario for scenario, there in zip(scenarios, kept, strict=True) if there]
    first, second = (_rows(asked, as_floats(values)[kept]) for values in (steered, baseline))
    inside = np.array([name in half for name in first.names])
    if inside.all() or not inside.any():
        raise InputError(f"{int(inside.sum())} of {len(inside)} activities in the half", "some inside and some outside")

    def gap(fitted: np.ndarray) -> float:
        return float(fitted[:-1][inside].mean() - fitted[:-1][~inside].mean())

    value, low, high = _bootstrap(
        (first, second), lambda fits: np.array([gap(fits[0]) - gap(fits[1])]) * ELO_SCALE, resamples, seed
    )
    bottom, top = (None if end is None else float(end[0]) for end in (low, high))
    return Interval(float(value[0]), bottom, top, len(first.won), int((~kept).sum()))


def on_activity(steering: Steering, rendered: str, scenario: Scenario, slug: str) -> Steering:
    """The same steering at the tokens of one activity alone.

    Args:
        rendered: the prompt as the model sees it, after its template: `Trace.text` of `engine.read`.
        slug: which of the scenario's two activities.
    Raises:
        InputError: the scenario has no such activity, or its line is not found exactly once in the text.
    """
    first, second = _places(scenario)
    if slug not in (first, second):
        raise InputError(f"no {slug!r} in scenario {scenario.id}", f"{first!r} or {second!r}")
    place = int(slug == second)
    option = str(scenario.data["options"][place])
    line = f"\n{'AB'[place]}. {option}\n"
    if rendered.count(line) != 1:
        raise InputError(f"the option {option!r} {rendered.count(line)} times in the text", "once, on its line")
    start = rendered.index(line) + 4
    return Steering(steering.interventions, Characters(start, start + len(option)))


def _places(scenario: Scenario) -> tuple[str, str]:
    """(first, second) as shown."""
    data = scenario.data
    if {"first", "second"} <= set(data):
        return str(data["first"]), str(data["second"])
    if not {"chosen", "against", "target"} <= set(data):
        raise InputError(f"scenario {scenario.id} without activities", "one of `activities` or `activity-places`")
    pair = (str(data["chosen"]), str(data["against"]))
    return pair if data["target"] == "A" else pair[::-1]


def _rows(scenarios: Sequence[Scenario], outcomes: Values) -> _Rows:
    values = as_floats(outcomes)
    if len(values) != len(scenarios):
        raise InputError(f"{len(scenarios)} scenarios, {len(values)} outcomes", "one outcome a scenario")
    there = ~np.isnan(values)
    if not there.any() or ((values[there] < 0) | (values[there] > 1)).any():
        raise InputError("no outcome, or one outside 0 to 1", "probabilities")
    asked = [scenario for scenario, kept in zip(scenarios, there, strict=True) if kept]
    places = [_places(scenario) for scenario in asked]
    won = [
        1 - value if scenario.data.get("target") == "A" else value
        for scenario, value in zip(asked, values[there], strict=True)
    ]
    names = tuple(sorted({name for pair in places for name in pair}))
    row = {name: at for at, name in enumerate(names)}
    first, second = (np.array([row[pair[at]] for pair in places], np.int64) for at in (0, 1))
    _connected(names, first, second)
    return _Rows(names, first, second, np.array(won), tuple(scenario.group for scenario in asked), int((~there).sum()))


def _bootstrap(
    sets: tuple[_Rows, ...], statistic: Callable[[list[np.ndarray]], np.ndarray], resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """The statistic and its percentile interval over draws of pairs, the same draws in each set."""
    best = [_fit(choices.first, choices.second, choices.won, len(choices.names), PENALTY) for choices in sets]
    members: dict[Hashable, list[int]] = {}
    for at, label in enumerate(sets[0].groups):
        members.setdefault(label, []).append(at)
    value = statistic(best)
    if resamples == 0 or len(members) < 8:
        return value, None, None
    rng, pools, drawn = np.random.default_rng(seed), [np.array(indices) for indices in members.values()], []
    for _ in range(resamples):
        rows = np.concatenate([pools[at] for at in rng.integers(len(pools), size=len(pools))])
        fits = [
            _fit(choices.first[rows], choices.second[rows], choices.won[rows], len(choices.names), PENALTY, start=start)
            for choices, start in zip(sets, best, strict=True)
        ]
        drawn.append(statistic(fits))
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    return value, low, high
