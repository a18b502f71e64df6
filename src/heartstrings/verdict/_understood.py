"""Does the model tell the options apart? A question that it does not understand shows nothing, whatever steering does.

Two tests on unsteered answers, one-sided at alpha: known answers of the same form are right more often than by chance,
by `MARGIN` at least; and, where options are asked in both orders, the questions differ by more than the order does, or
are all answered on one side, by `MARGIN` at least: what goes by position alone is at one half over both orders.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heartstrings.behaviours.base import Behaviour
from heartstrings.behaviours.choices.two_options import TwoOptions, pair_of
from heartstrings.experiment.plan import Plan
from heartstrings.experiment.told_apart import GUESSING, MARGIN, chance_of, knows
from heartstrings.stats.estimate import estimate
from heartstrings.stats.intervals import LEAST_PAIRS, mean_interval
from heartstrings.stats.understanding import ROUNDING, above_chance, content_beyond_position
from heartstrings.verdict.results import Check
from heartstrings.verdict.tables import Column, Suite, Table, planned


def checks(plan: Plan, table: Table, suite: Suite, effect: Behaviour) -> tuple[Check, ...]:
    """Every check of one effect behaviour; empty where none belongs to it."""
    known = suite.checks_of(effect.name)
    checked = [_known(plan, behaviour, table.baseline(behaviour.name)) for behaviour in known]
    if known and isinstance(effect, TwoOptions):
        checked.append(_position(plan, effect, table.baseline(effect.name)))
    return tuple(checked)


def understood(checks: Sequence[Check]) -> bool | None:
    """True if all hold, False if one does not; None where nothing was asked or it cannot be told yet."""
    if any(check.holds is False for check in checks):
        return False
    return None if not checks or any(check.holds is None for check in checks) else True


def _known(plan: Plan, behaviour: Behaviour, column: Column) -> Check:
    chance = chance_of(behaviour)
    holds, p = knows(column.outcome, column.groups, chance, plan.thresholds.alpha)
    n = int(np.count_nonzero(~np.isnan(column.outcome)))
    mean = mean_interval(column.outcome, column.groups)
    whole = len(column) >= planned(plan, behaviour)
    return Check(
        behaviour=behaviour.name,
        outcome=estimate(mean),
        chance=chance,
        p=p,
        n=n,
        holds=holds if whole else None,
    )


def _position(plan: Plan, effect: TwoOptions, column: Column) -> Check:
    """Questions asked in both orders; those with one order only are left out."""
    pairs: dict[str, list[float]] = {}
    cluster_of: dict[str, str] = {}
    for row in column.rows:
        if row.outcome is not None and row.repeat == 0:
            pairs.setdefault(pair_of(row.scenario), []).append(row.outcome)
            cluster_of[pair_of(row.scenario)] = row.group
    whole = {pair: values for pair, values in pairs.items() if len(values) == 2}
    both = np.array(list(whole.values()), dtype=np.float64).reshape(-1, 2)
    clusters = [cluster_of[pair] for pair in whole]
    means = both.mean(axis=1)
    content = content_beyond_position(both)
    leans = len(both) > 0 and abs(float(means.mean()) - GUESSING) >= MARGIN
    varies = len(both) > 1 and float(np.ptp(means)) > ROUNDING
    ps = [] if content is None else [content]
    if leans and (above := above_chance(means, clusters, GUESSING)) is not None:
        ps.append(min(1.0, 2 * min(above, 1 - above)))
    p = min(1.0, 2 * min(ps)) if ps else None  # two looks
    # Without a p nothing is left to chance: all pairs are alike, or both orders agree exactly.
    sure = (content is None and varies) or (leans and not varies and len(both) >= LEAST_PAIRS)
    sure = sure or (p is not None and p < plan.thresholds.alpha)
    return Check(
        behaviour=effect.name,
        outcome=estimate(mean_interval(means, clusters)),
        chance=GUESSING,
        p=p,
        n=len(both),
        what="content beyond position",
        holds=sure if len(column) >= planned(plan, effect) else None,
    )
