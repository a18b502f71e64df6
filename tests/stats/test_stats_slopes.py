"""Slopes against numpy, statsmodels and their defined answers where a fit has none."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import statsmodels.api as sm

from heartstrings import stats
from heartstrings.core.errors import InputError

DOSES = [-0.2, -0.1, 0.0, 0.1, 0.2]


def samples(seed: int, *, scenarios: int = 20, slope: float = 3.0, binary: bool = False) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(seed)
    dose, group = np.tile(DOSES, scenarios), np.repeat(np.arange(scenarios), len(DOSES))
    eta = random.normal(-0.5, 1, size=scenarios)[group] + (slope + random.normal(size=scenarios)[group]) * dose
    p = 1 / (1 + np.exp(-eta))
    return dose, (random.random(len(p)) < p).astype(float) if binary else p, group


def test_slopes_are_those_of_polyfit() -> None:
    dose, y, group = samples(0)
    y[3] = math.nan
    order = np.random.default_rng(1).permutation(len(y))
    labels = np.array([f"scenario {g}" for g in group])
    names, slopes = stats.slopes_by_group(dose[order], y[order], labels[order])
    assert set(names) == set(labels)
    for name, slope in zip(names, slopes, strict=True):
        mine = (labels == name) & ~np.isnan(y)
        assert slope == pytest.approx(np.polyfit(dose[mine], y[mine], 1)[0])


def test_a_group_at_one_dose_has_no_slope() -> None:
    names, slopes = stats.slopes_by_group([0.0, 0.1, 0.1, 0.1], [0.2, 0.4, 0.3, None], ["a", "a", "b", "c"])
    assert names == ("a",)
    assert slopes == pytest.approx([2.0])
    found = stats.effect([0.0, 0.1, 0.1, 0.1], [0.2, 0.4, 0.3, None], ["a", "a", "b", "c"])
    assert (found.value, found.low, found.n, found.missing) == (pytest.approx(0.2), None, 1, 2)
    assert stats.effect([0.1], [0.3], ["a"]).value is None


def test_effect_is_the_mean_slope_times_the_width() -> None:
    dose, y, group = samples(2)
    _, slopes = stats.slopes_by_group(dose, y, group)
    expected = stats.mean_interval(slopes * 0.4)
    found = stats.effect(dose, y, group)
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))
    assert stats.effect(dose, y, group, width=0.2).value == pytest.approx((found.value or 0) / 2)
    outside = stats.effect(np.append(dose, 0.4), np.append(y, math.nan), np.append(group, 0))
    assert outside.value == pytest.approx((found.value or 0) * 1.5), "the width is that of the doses that were asked"


def test_zero_one_changes_are_no_rates() -> None:
    """Each scenario answers 0 before and 0 or 1 after: effects of 0 and 1, but not a proportion's interval."""
    after = [0.0, 1.0] * 15
    found = stats.effect([0.0] * 30 + [1.0] * 30, [0.0] * 30 + after, [*range(30), *range(30)])
    reach = 2.045230 * np.std(after, ddof=1) / math.sqrt(30)
    assert (found.low, found.high) == pytest.approx((0.5 - reach, 0.5 + reach), abs=1e-5)


def test_unmoved_answers_are_no_certainty() -> None:
    dose, y, group = samples(3, scenarios=40)
    found = stats.effect(dose, np.zeros_like(y), group)
    z2 = 1.959964**2
    assert (found.low, found.high) == pytest.approx((-z2 / (40 + z2), z2 / (40 + z2)), abs=1e-6)
    split = np.where(group < 10, 1.0, 0.0)
    held = stats.effect(dose, split, group)
    assert held.value == pytest.approx(0)
    assert held.low is not None
    assert held.low < -0.05
    moved = stats.effect(dose, (dose > 0).astype(float), group)
    assert moved.excludes_zero
    assert (moved.half_width or 0) > 0.01


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("slope", [0.0, 3.0, -15.0])
def test_logistic_slope_is_the_glm(binary: bool, slope: float) -> None:
    for seed in range(4):
        dose, y, group = samples(seed, slope=slope, binary=binary)
        fit = sm.GLM(y, sm.add_constant(dose), family=sm.families.Binomial()).fit(
            tol=1e-12, cov_type="cluster", cov_kwds={"groups": group}, use_t=True
        )
        assert stats.logistic_slope_value(dose, y) == pytest.approx(fit.params[1], rel=1e-6, abs=1e-6)
        found = stats.logistic_slope(dose, y, group)
        assert (found.low, found.high) == pytest.approx(tuple(fit.conf_int()[1]), rel=1e-4, abs=1e-4)
        assert fit.df_resid_inference == 19


def test_many_at_once_are_the_same_as_one_by_one() -> None:
    rows = [samples(seed, slope=float(seed - 5), binary=seed % 2 == 0) for seed in range(12)]
    rows += [(rows[0][0], constant * np.ones(100), rows[0][2]) for constant in (0.0, 0.3, 1.0)]
    rows += [(rows[0][0], (rows[0][0] > 0.05).astype(float), rows[0][2])]
    totals = np.stack([y.reshape(20, 5).sum(0) for _, y, _ in rows])
    together = stats.logistic_slopes(np.array(DOSES), np.full(totals.shape, 20.0), totals)
    assert together == pytest.approx([stats.logistic_slope_value(dose, y) for dose, y, _ in rows], abs=1e-9)
    assert stats.logistic_slopes(np.array(DOSES), np.full((4, 4, 5), 20.0), totals.reshape(4, 4, 5)).shape == (4, 4)


def test_where_no_fit_is_finite_the_answer_is_defined_and_silent() -> None:
    dose, _, group = samples(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for constant in (0.0, 0.4, 1.0):
            found = stats.logistic_slope(dose, np.full(100, constant), group)
            assert (found.value, found.low) == (0.0, None)
        step = stats.logistic_slope(dose, (dose > 0.05).astype(float), group)
        assert step.value is not None
        assert step.value > 20
        assert step.low is None
        back = stats.logistic_slope(dose, (dose <= 0.05).astype(float), group)
        assert back.value == pytest.approx(-step.value)
        touching = np.where(dose > 0.05, 1.0, np.where(dose > -0.05, 0.5, 0.0))  # quasi-complete separation
        assert stats.logistic_slope(dose, touching, group).low is None
        assert (stats.logistic_slope_value(dose, touching) or 0) > 20
        one_flip = np.zeros(100)
        one_flip[4] = 1.0  # a single answer, at the highest dose: no finite maximum either
        assert 0 < (stats.logistic_slope_value(dose, one_flip) or 0) < (step.value or 0)
        assert stats.logistic_slope([0.1] * 4, [0.2, 0.4, 0.1, 0.3], [0, 1, 2, 3]).value is None
        assert stats.logistic_slope(dose, [None] * 100, group).value is None
        assert stats.logistic_slope(dose, np.linspace(0, 1, 100), ["one"] * 100).low is None
        for tiny in (1e-14, 1e-60, 1e-300):
            value = stats.logistic_slope_value(dose, tiny * np.exp(2 * dose))
            assert value is not None
            assert math.isfinite(value)


def test_few_events_have_no_interval() -> None:
    dose, _, group = samples(0)
    for events, has in ((9, False), (10, True)):
        y = np.zeros(100)
        y[np.random.default_rng(0).permutation(100)[:events]] = 1.0
        assert (stats.logistic_slope(dose, y, group).low is not None) is has
        assert (stats.logistic_slope(dose, 1 - y, group).low is not None) is has
        assert stats.logistic_slope(dose, 0.01 + 0.5 * y, group).low is not None, "a graded answer has no events"


def test_a_larger_step_has_a_larger_slope() -> None:
    """Where the fits are infinite, the order that the comparison with controls needs stays."""
    dose, _, group = samples(0)
    seen = []
    for movers in (1, 5, 20):
        seen.append(stats.logistic_slope_value(dose, ((dose > 0.15) & (group < movers)).astype(float)) or 0.0)
    assert seen == sorted(seen)
    assert len(set(seen)) == 3


def test_missing_outcomes_are_left_out() -> None:
    dose, y, group = samples(5, binary=True)
    kept = np.random.default_rng(0).random(100) < 0.8
    holed = np.where(kept, y, np.nan)
    a, b = stats.logistic_slope(dose, holed, group), stats.logistic_slope(dose[kept], y[kept], group[kept])
    assert (a.value, a.low, a.high) == (b.value, b.low, b.high)
    assert (a.n, a.missing) == (int(kept.sum()), int((~kept).sum()))


def test_what_is_no_fraction_is_refused() -> None:
    for dose, y in (([0.0, 0.1], [0.2, 1.4]), ([0.0, math.nan], [0.2, 0.4]), ([0.0], [0.2, 0.4])):
        with pytest.raises(InputError):
            stats.logistic_slope_value(dose, y)
    with pytest.raises(InputError):
        stats.logistic_slopes(np.array([0.0, 0.1]), np.array([2.0, 2.0]), np.array([2.5, 1.0]))
