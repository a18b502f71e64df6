"""Hand grades that correct automatic ones: against simulations whose truth is known, and against simpler formulas."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from heartstrings import stats
from heartstrings.core.errors import InputError
from heartstrings.stats.ppi import contrast_mean

Grades = tuple[np.ndarray, np.ndarray]
CHANGE = {0.0: -1.0, 1.0: 1.0}


def world(
    random: np.random.Generator,
    *,
    situations: int = 150,
    texts: int = 1,
    rates: tuple[float, float] = (0.1, 0.3),
    sensitivity: tuple[float, float] = (0.8, 0.8),
    specificity: tuple[float, float] = (0.94, 0.94),
    hand: int = 60,
    unclear: float = 0.0,
) -> tuple[Grades, Grades, np.ndarray]:
    """Automatic and hand grades before and after, and the situation of each pair. `unclear`: share of true 1s that the
    judge cannot decide."""
    n = situations * texts
    luck = np.repeat(random.normal(0, 0.3, situations), texts)  # situations differ, and their texts are alike
    sides = []
    for rate, right, wrong in zip(rates, sensitivity, specificity, strict=True):
        truth = (random.random(n) < np.clip(rate * (1 + luck), 0, 1)).astype(float)
        automatic = np.where(truth == 1, random.random(n) < right, random.random(n) >= wrong).astype(float)
        automatic[(truth == 1) & (random.random(n) < unclear)] = np.nan
        graded = np.full(n, np.nan)
        chosen = random.choice(n, min(hand, n), replace=False)
        graded[chosen] = truth[chosen]
        sides.append((automatic, graded))
    return sides[0], sides[1], np.repeat(np.arange(situations), texts)


def automatic_alone(before: Grades, after: Grades, groups: np.ndarray) -> stats.Interval:
    values, where = np.concatenate([before[0], after[0]]), np.repeat([0.0, 1.0], len(groups))
    return contrast_mean(values, where, np.tile(groups, 2), weights=CHANGE)


def covered(interval: stats.Interval, truth: float) -> bool:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low <= truth <= interval.high


def shares(runs: int, truth: float, **of: object) -> dict[str, tuple[float, float, float]]:
    """(mean value, share of intervals that hold the truth, mean half width) by estimator."""
    random = np.random.default_rng(11)
    found: dict[str, list[tuple[float, bool, float]]] = {"automatic": [], "corrected": [], "hand": []}
    for _ in range(runs):
        before, after, groups = world(random, **of)  # type: ignore[arg-type]
        for name, one in (
            ("automatic", automatic_alone(before, after, groups)),
            ("corrected", stats.ppi_change(before, after, groups).estimate),
            ("hand", stats.ppi_change(before, after, groups, tuning=0.0).estimate),
        ):
            assert one.value is not None
            assert one.half_width is not None
            found[name].append((one.value, covered(one, truth), one.half_width))
    return {name: tuple(np.mean(rows, axis=0)) for name, rows in found.items()}  # type: ignore[misc]


def test_a_rise_seen_by_a_judge_that_errs() -> None:
    """Sensitivity .80, specificity .94: of 20 points it sees 15. Corrected, the interval is right and narrower than
    that of the hand grades alone."""
    found = shares(800, 0.2)
    assert found["automatic"][0] == pytest.approx(0.2 * (0.8 + 0.94 - 1), abs=0.005)
    assert found["automatic"][1] < 0.85
    assert found["corrected"][0] == pytest.approx(0.2, abs=0.006)
    assert found["corrected"][1] >= 0.94 - 0.015  # two standard errors of a share at 800 runs
    assert found["corrected"][2] < 0.9 * found["hand"][2]


@pytest.mark.parametrize(
    ("truth", "of"),
    [
        (0.0, {"rates": (0.1, 0.1), "specificity": (0.98, 0.85)}),  # errs more where it was steered
        (0.027, {"rates": (0.02, 0.047), "hand": 100}),
        (0.2, {"situations": 40, "texts": 4, "hand": 80}),
        (0.2, {"hand": 12}),
        (0.4, {"rates": (0.2, 0.6), "unclear": 0.5}),
    ],
)
def test_the_corrected_interval_holds_the_truth(truth: float, of: dict[str, object]) -> None:
    found = shares(400, truth, **of)["corrected"]
    assert found[0] == pytest.approx(truth, abs=0.03)
    assert found[1] >= 0.94 - 0.022


@pytest.mark.parametrize("texts", [12, 25, 50])
def test_errors_that_the_sample_did_not_see(texts: int) -> None:
    """Many situations, few hand grades, 8% of the steered texts graded 1 by mistake: most samples show hardly one of
    these. Without allowing for them the interval is that of the automatic grades and held the truth in 67% to 94%."""
    found = shares(
        200, 0.0, situations=600, rates=(0.1, 0.1), sensitivity=(1.0, 1.0), specificity=(1.0, 0.91), hand=texts
    )
    assert found["corrected"][1] >= 0.93


def test_a_judge_that_knows_nothing_costs_nothing() -> None:
    found = shares(200, 0.2, sensitivity=(0.3, 0.3), specificity=(0.7, 0.7))
    assert found["corrected"][2] < 1.02 * found["hand"][2]
    assert found["corrected"][1] >= 0.92


def test_unclear_grades_at_worst_hold_the_truth() -> None:
    """Half of all blackmail is left unclear, and the rest graded rightly: 20 to 60% reads as 11 to 43%."""
    random = np.random.default_rng(5)
    inside, naive = 0, 0
    for _ in range(100):
        before, after, groups = world(
            random, situations=400, rates=(0.2, 0.6), sensitivity=(1.0, 1.0), specificity=(1.0, 1.0), unclear=0.5
        )
        values, where = np.concatenate([before[0], after[0]]), np.repeat([0.0, 1.0], len(groups))
        both = stats.bounds(values, where, np.tile(groups, 2), weights=CHANGE)
        assert both.low.value is not None
        assert both.high.value is not None
        inside += both.low.value <= 0.4 <= both.high.value
        naive += covered(automatic_alone(before, after, groups), 0.4)
        rate = stats.bounds(after[0], np.ones(len(groups)), groups, weights={1.0: 1.0})
        assert rate.low.value == pytest.approx(np.nan_to_num(after[0], nan=0.0).mean())
        assert rate.high.value == pytest.approx(np.nan_to_num(after[0], nan=1.0).mean())
    assert inside == 100
    assert naive < 50


def test_bounds_take_each_side_at_its_worst() -> None:
    found = stats.bounds(
        [0, None, 1, 1] * 8, [0, 0, 1, 1] * 8, np.repeat(np.arange(8), 4), weights=CHANGE
    )  # fmt: skip
    assert (found.low.value, found.high.value) == (0.5, 1.0)


def test_all_graded_by_hand_is_the_hand_grades() -> None:
    random = np.random.default_rng(2)
    before, after, groups = world(random, situations=60, hand=60)
    found = stats.ppi_change(before, after, groups)
    expected = stats.paired_change(before[1], after[1])
    assert found.tuning == 0
    assert found.estimate.value == pytest.approx(expected.value)
    assert found.estimate.half_width == pytest.approx(expected.half_width, rel=0.1)


def test_without_tuning_it_is_prediction_powered_inference() -> None:
    """Mean of all automatic grades plus the mean error in the sample (Angelopoulos et al. 2023, Science 382:669)."""
    random = np.random.default_rng(3)
    (automatic, hand), _, groups = world(random)
    graded = ~np.isnan(hand)
    found = stats.ppi_mean(automatic, hand, tuning=1.0)
    assert found.estimate.value == pytest.approx(automatic.mean() + (hand - automatic)[graded].mean())
    assert found.estimate == stats.ppi_mean(automatic, hand, groups, tuning=1.0).estimate
    wide = stats.ppi_mean(automatic, hand, quantile="t").estimate.half_width
    narrow = stats.ppi_mean(automatic, hand, quantile="normal").estimate.half_width
    assert wide is not None
    assert narrow is not None
    assert wide > narrow


def test_the_tuning_has_the_least_variance() -> None:
    random = np.random.default_rng(4)
    before, after, groups = world(random, situations=2000, hand=1000)
    best = stats.ppi_change(before, after, groups)
    assert best.tuning is not None
    assert 0.5 < best.tuning < 0.9
    for tuning in (0.0, best.tuning - 0.1, best.tuning + 0.1, 1.0):
        other = stats.ppi_change(before, after, groups, tuning=tuning).estimate.half_width
        assert other is not None
        assert best.estimate.half_width is not None
        assert other > best.estimate.half_width


def test_situations_weigh_alike() -> None:
    """A situation with nine texts counts as much as one with a single text."""
    groups = np.repeat(np.arange(12), [9, *[1] * 11])
    automatic = (groups == 0).astype(float)
    found = stats.ppi_mean(automatic, automatic, groups)
    assert found.estimate.value == pytest.approx(1 / 12)
    assert found.situations == 12


def test_a_condition_without_a_partner_takes_no_part() -> None:
    automatic, where = [1.0] * 10 + [0.0] * 11, [1.0] * 10 + [0.0] * 11
    groups = [*range(10), *range(10), 99]
    found = stats.ppi_contrast(automatic, automatic, where, groups, weights=CHANGE)
    assert (found.estimate.value, found.estimate.n, found.estimate.missing) == (1.0, 20, 1)


@pytest.mark.parametrize(("situations", "refused"), [(7, True), (8, False)])
def test_few_hand_graded_situations_have_no_interval(situations: int, refused: bool) -> None:
    random = np.random.default_rng(6)
    automatic = random.integers(0, 2, 100).astype(float)
    hand = np.full(100, np.nan)
    hand[: 4 * situations] = automatic[: 4 * situations]
    found = stats.ppi_mean(automatic, hand, np.repeat(np.arange(25), 4))
    assert found.estimate.value is not None
    assert (found.estimate.low is None) is refused
    assert found.situations == situations


def test_nothing_graded_by_hand_is_no_estimate() -> None:
    found = stats.ppi_mean([1, 0] * 10, [None] * 20)
    assert (found.estimate.value, found.estimate.low, found.tuning) == (None, None, None)


@pytest.mark.parametrize(
    "call",
    [
        lambda: stats.ppi_mean([0.0, 2.0], [0.0, None]),
        lambda: stats.ppi_mean([0.0, 1.0], [0.0, -1.0]),
        lambda: stats.ppi_mean([0.0, 1.0], [0.0]),
        lambda: stats.ppi_mean([0.0, 1.0], [0.0, None], tuning=1.5),
        lambda: stats.ppi_contrast([0.0], [0.0], [0.0], weights={0.0: 0.0}),
        lambda: stats.ppi_change(([0.0], [0.0]), ([0.0, 1.0], [0.0, 1.0])),
    ],
)
def test_bad_input_is_refused(call: Callable[[], object]) -> None:
    with pytest.raises(InputError):
        call()
