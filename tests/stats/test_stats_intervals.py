"""Intervals and nulls against published examples, the libraries that have them, and identities."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, t, ttest_ind

from heartstrings import stats
from heartstrings.behaviours.choices.activities import Activities, activities
from heartstrings.core.errors import InputError
from heartstrings.stats import nulls
from heartstrings.stats.intervals import Interval


def bounds(interval: Interval) -> tuple[float, float]:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


def test_newcombe_gives_the_published_figures() -> None:
    """Fagerland, Lydersen and Laake (2014, Stat. Med. 33:2850), both of their examples, as method 10."""
    transplant = stats.newcombe_paired(1, 1, 7, 12)
    assert bounds(transplant) == pytest.approx((-0.507, -0.026), abs=5e-4)
    therapy = stats.newcombe_paired(59, 6, 16, 80)
    assert therapy.value == pytest.approx(-0.0621, abs=5e-5)
    assert bounds(therapy) == pytest.approx((-0.1186, -0.0046), abs=5e-5)


def test_paired_change_of_answers_is_newcombes() -> None:
    table = {(1, 1): 59, (0, 1): 6, (1, 0): 16, (0, 0): 80}  # before, after
    pairs = [pair for pair, count in table.items() for _ in range(count)]
    found = stats.paired_change([a for a, _ in pairs], [b for _, b in pairs])
    assert bounds(found) == pytest.approx((-0.1186, -0.0046), abs=5e-5)
    assert found.n == 161
    back = stats.paired_change([bool(b) for _, b in pairs], [bool(a) for a, _ in pairs])
    assert bounds(back) == pytest.approx((0.0046, 0.1186), abs=5e-5)


@given(st.tuples(*[st.integers(0, 30)] * 4).filter(lambda cells: sum(cells) > 0))
@settings(max_examples=60, deadline=None)
def test_newcombe_turns_round_with_its_arguments(cells: tuple[int, int, int, int]) -> None:
    both, first, second, neither = cells
    there, back = stats.newcombe_paired(*cells), stats.newcombe_paired(both, second, first, neither)
    low, high = bounds(there)
    assert -1 <= low <= (there.value or 0.0) + 1e-12
    assert (there.value or 0.0) <= high + 1e-12 <= 1 + 1e-9
    assert bounds(back) == pytest.approx((-high, -low), abs=1e-12)


@pytest.mark.parametrize(("k", "n"), [(0, 12), (3, 12), (12, 12), (1, 1), (250, 1000)])
def test_rates_are_those_of_scipy(k: int, n: int) -> None:
    for ours, method in ((stats.wilson(k, n), "wilson"), (stats.clopper_pearson(k, n), "exact")):
        theirs = binomtest(k, n).proportion_ci(method=method)
        assert bounds(ours) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
        assert ours.value == k / n


def test_a_rate_of_nothing_is_nothing() -> None:
    assert stats.wilson(0, 0) == Interval(None, None, None) == stats.clopper_pearson(0, 0)
    for k, n in ((3, 2), (-1, 4), (0, -1)):
        with pytest.raises(InputError, match="successes"):
            stats.wilson(k, n)


def test_mean_interval_is_students_when_groups_are_single() -> None:
    values = np.random.default_rng(0).normal(size=13)
    theirs = t(12, loc=values.mean(), scale=values.std(ddof=1) / math.sqrt(13)).interval(0.95)
    assert bounds(stats.mean_interval(values)) == pytest.approx(theirs)
    assert bounds(stats.mean_interval(values, [f"s{i}" for i in range(13)])) == pytest.approx(theirs)


def test_mean_interval_is_t_over_the_means_of_the_groups() -> None:
    """With groups of one size it is that of clustered least squares."""
    import statsmodels.api as sm
    from scipy.stats import ttest_1samp

    random = np.random.default_rng(1)
    groups = random.integers(0, 9, size=50)
    values = random.normal(size=9)[groups] + random.normal(size=50)
    means = [values[groups == one].mean() for one in np.unique(groups)]
    expected = ttest_1samp(means, 0.0).confidence_interval()
    assert bounds(stats.mean_interval(values, groups)) == pytest.approx((expected.low, expected.high))
    even = np.repeat(np.arange(9), 5)
    values = random.normal(size=9)[even] + random.normal(size=45)
    fit = sm.OLS(values, np.ones(45)).fit(cov_type="cluster", cov_kwds={"groups": even}, use_t=True)
    # its correction has a factor (N - 1) / (N - K) besides, which is 1 here
    assert bounds(stats.mean_interval(values, even)) == pytest.approx(tuple(fit.conf_int()[0]))


def test_copies_of_a_sample_are_no_new_samples() -> None:
    values = np.random.default_rng(2).random(20)
    groups = np.arange(20)
    once, thrice = stats.mean_interval(values, groups), stats.mean_interval(np.repeat(values, 3), np.repeat(groups, 3))
    assert bounds(once) == pytest.approx(bounds(thrice))
    answers = (values > 0.4).astype(float)
    once, thrice = (
        stats.mean_interval(answers, groups),
        stats.mean_interval(np.repeat(answers, 3), np.repeat(groups, 3)),
    )
    assert bounds(thrice) == pytest.approx(bounds(once), rel=0.02)
    other = (np.random.default_rng(3).random(20) > 0.4).astype(float)
    single = stats.paired_change(answers, other, groups)
    copied = stats.paired_change(np.repeat(answers, 3), np.repeat(other, 3), np.repeat(groups, 3))
    assert bounds(copied) == pytest.approx(bounds(single), rel=0.05)
    ignored = stats.paired_change(np.repeat(answers, 3), np.repeat(other, 3))
    assert (ignored.half_width or 0) < 0.8 * (copied.half_width or 0)


def test_where_all_agree_nothing_is_certain() -> None:
    """No harm in 60 probes, before and after: a rise of up to about 6 points is not ruled out."""
    none = [0.0] * 60
    assert bounds(stats.paired_change(none, none)) == pytest.approx((-0.0602, 0.0602), abs=1e-4)
    assert stats.mean_interval(none).high == pytest.approx(stats.wilson(0, 60).high)
    pairs_of_two = stats.paired_change(none, none, [i // 2 for i in range(60)])
    assert bounds(pairs_of_two) == pytest.approx(bounds(stats.paired_change(none[:30], none[:30])))


def test_missing_is_left_out_in_pairs_and_counted() -> None:
    random = np.random.default_rng(4)
    before, after = random.random(12), random.random(12)
    whole = stats.paired_change(before[:10], after[:10])
    holed = stats.paired_change([*before[:10], None, 0.5], [*after[:10], 0.5, math.nan])
    assert bounds(holed) == pytest.approx(bounds(whole))
    assert (holed.n, holed.missing) == (10, 2)
    assert stats.mean_interval([None, 1.5, 2.5, math.nan]).missing == 2
    assert stats.mean_interval([None, None]) == Interval(None, None, None, 0, 2)


def test_too_little_has_a_value_and_no_interval() -> None:
    seven = stats.paired_change([0.1] * 7, np.arange(7.0))
    assert seven.value == pytest.approx(2.9)
    assert seven.low is None
    assert seven.high is None
    grouped = stats.paired_change(np.arange(20.0), np.zeros(20), np.arange(20) % 7)
    assert grouped.low is None
    assert stats.mean_interval([0.3, 0.4], ["a", "a"]).low is None
    assert not seven.excludes_zero
    assert not seven.within(100.0)


def test_difference_is_close_to_welchs_and_no_narrower() -> None:
    random = np.random.default_rng(5)
    a, b = random.normal(1, 1, size=20), random.normal(0, 3, size=30)
    theirs = ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    found = stats.difference(stats.mean_interval([*a, None]), stats.mean_interval(b))
    assert found.value == pytest.approx(a.mean() - b.mean())
    assert found.half_width == pytest.approx((theirs.high - theirs.low) / 2, rel=0.02)
    assert found.half_width is not None
    assert found.half_width > (theirs.high - theirs.low) / 2
    assert (found.n, found.missing) == (50, 1)
    assert stats.difference(stats.mean_interval([1.0], ["a"]), stats.mean_interval(b)).low is None


def test_pairs_that_share_an_item_are_not_independent() -> None:
    """Against the double sum over all pairs of groups that have an item in common."""
    random = np.random.default_rng(8)
    names = [f"x:{a} | {b}" for a, b in itertools.combinations("abcdef", 2)][:12]
    of_item = dict(zip("abcdef", random.normal(0, 1, 6), strict=True))
    items = [set(name[2:].split(" | ")) for name in names]
    values = np.array([sum(of_item[item] for item in own) for own in items]) + random.normal(0, 0.1, 12)
    off = values - values.mean()
    shared = sum(off[i] * off[j] for i in range(12) for j in range(12) if items[i] & items[j]) / 144 * 6 / 5
    assert shared > values.var(ddof=1) / 12
    found = stats.mean_interval(np.repeat(values, 2), [name for name in names for _ in range(2)])
    assert found.half_width == pytest.approx(t.ppf(0.975, 5) * math.sqrt(shared))
    changed = stats.paired_change(np.zeros(12), values, names)
    assert bounds(changed) == pytest.approx(bounds(found))
    plain = stats.mean_interval(values)
    assert plain.half_width is not None
    assert found.half_width is not None
    assert found.half_width > 1.3 * plain.half_width
    # Pairs that share nothing, names that are not all pairs, and sums, stay as they were.
    assert bounds(stats.mean_interval([0.0, 1.0, 3.0], ["3+4", "3+5", "4+3"])) == bounds(
        stats.mean_interval([0.0, 1.0, 3.0])
    )
    assert bounds(stats.mean_interval([0.0, 1.0, 3.0], ["a | b", "c | d", "e | f"])) == bounds(
        stats.mean_interval([0.0, 1.0, 3.0])
    )
    assert bounds(stats.mean_interval([0.0, 1.0, 3.0], ["a | b", "a | c", "e"])) == bounds(
        stats.mean_interval([0.0, 1.0, 3.0])
    )


@pytest.mark.parametrize("rounds_of_all", [1, 4])
def test_coverage_of_preferences_among_shared_activities(rounds_of_all: int) -> None:
    """Steering moves each activity by an amount of its own; pairs as the suite draws them."""
    random, misses, plain = np.random.default_rng(9), 0, 0
    for seed in range(300):
        drawn = Activities().scenarios(n=64 * rounds_of_all, seed=seed)[::2]
        moved = dict(zip((one.slug for one in activities()), random.normal(0, 0.1, 64), strict=True))
        changes = [
            moved[str(one.data["chosen"])] - moved[str(one.data["against"])] + random.normal(0, 0.05) for one in drawn
        ]
        misses += stats.mean_interval(changes, [one.group for one in drawn]).excludes_zero
        plain += stats.mean_interval(changes).excludes_zero
    assert misses <= 0.05 * 300 + 4 * math.sqrt(0.05 * 0.95 * 300)
    assert plain >= misses
    print(f"{rounds_of_all} rounds: {misses / 3:.1f}% miss, {plain / 3:.1f}% as if independent")


def test_intervals_speak_of_equivalence_and_units() -> None:
    small = Interval(0.01, -0.02, 0.03)
    assert small.within(0.031)
    assert not small.within(0.03)
    assert not small.excludes_zero
    assert small.half_width == pytest.approx(0.025)
    assert small.times(-2.0) == Interval(-0.02, -0.06, 0.04)


def test_bad_input_is_refused() -> None:
    for call in (
        lambda: stats.mean_interval([1.0, math.inf]),
        lambda: stats.mean_interval([1.0, 2.0], ["a"]),
        lambda: stats.paired_change([1.0], [1.0, 2.0]),
        lambda: stats.newcombe_paired(0, 0, 0, 0),
        lambda: stats.holm([0.2, 1.2]),
        lambda: stats.least_controls(0),
        lambda: stats.least_controls(2, 1.0),
    ):
        with pytest.raises(InputError):
            call()


def test_p_value_counts_ties_against() -> None:
    assert stats.p_value(2.0, [1.0, -2.0, 3.0]) == 3 / 4
    assert stats.p_value(-2.5, [1.0, -2.0, 3.0]) == 2 / 4
    assert stats.p_value(0.1 + 0.2, [0.3, 0.1, -0.1]) == 2 / 4  # a tie but for rounding
    assert stats.p_value(5.0, [1.0, None, 2.0]) == 2 / 4  # a control that is missing might have been larger
    assert stats.p_value(0.0, [0.0, 0.0, 0.0]) == 1.0
    assert stats.p_value(None, [1.0]) is None
    assert stats.p_value(1.0, []) == 1.0


def test_holm_by_hand() -> None:
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert stats.holm([0.01, None]) == (0.02, None)  # a test that gave nothing was a test all the same
    assert stats.holm([]) == ()


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1])
def test_least_controls_is_enough_and_no_more(alpha: float) -> None:
    exact = Fraction(str(alpha))
    for tests in range(1, 30):
        n = stats.least_controls(tests, alpha)
        assert Fraction(tests, n + 1) < exact
        assert Fraction(tests, n) >= exact
        assert nulls.allowed_larger(n, tests, alpha) >= 0
        most = nulls.allowed_larger(n + 37, tests, alpha)
        assert Fraction((most + 1) * tests, n + 38) < exact <= Fraction((most + 2) * tests, n + 38)
        assert nulls.allowed_larger(math.floor(tests / exact) - 1, tests, alpha) < 0
