"""Bounds by betting: closed form where nothing changes, known truths, clusters, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from heartstrings import stats
from heartstrings.core.errors import InputError
from heartstrings.stats.betting import BETS


def test_the_weights_are_a_share_each() -> None:
    assert sum(weight for _, weight in BETS) == pytest.approx(1.0)
    assert all(0 < share <= 1 for share, _ in BETS)


@pytest.mark.parametrize(("n", "limit"), [(20, 0.15), (31, 0.10), (63, 0.05), (159, 0.02)])
def test_what_never_changed_holds_a_limit_with_so_many_situations(n: int, limit: float) -> None:
    bound, fewer = stats.upper_bound([0.0] * n), stats.upper_bound([0.0] * (n - 1))
    assert bound is not None
    assert fewer is not None
    assert bound < limit <= fewer
    # All of the capital that bets all refutes; the rest can only help.
    assert bound <= 1 - (0.8 * 0.05) ** (1 / n) + 1e-9


@pytest.mark.parametrize(("n", "share", "height"), [(16, 0.05, 0.8), (50, 0.05, 0.8), (72, 0.05, 1.0), (60, 0.3, 0.5)])
def test_a_true_rise_is_seldom_bounded_below_it(n: int, share: float, height: float) -> None:
    draw = np.random.default_rng(n)
    missed = [
        (stats.upper_bound(height * (draw.random(n) < share)) or 0.0) < share * height for _ in range(400)
    ]  # fmt: skip
    assert np.mean(missed) <= 0.05


def test_changes_both_ways_and_their_mirror() -> None:
    changes = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], p=[0.1, 0.8, 0.1], size=300)
    found = stats.bounded_change(np.where(changes < 0, 1.0, 0.0), np.where(changes > 0, 1.0, 0.0))
    assert found.value == pytest.approx(changes.mean())
    assert found.low is not None
    assert found.high is not None
    assert found.low < changes.mean() < found.high
    turned = stats.bounded_change(np.where(changes > 0, 1.0, 0.0), np.where(changes < 0, 1.0, 0.0))
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_variants_of_one_situation_count_once() -> None:
    before, groups = [0.1] * 64, [at // 4 for at in range(64)]
    alike, apart = stats.bounded_change(before, before, groups), stats.bounded_change(before, before)
    assert alike.high == pytest.approx(stats.upper_bound([0.0] * 16))
    assert apart.high == pytest.approx(stats.upper_bound([0.0] * 64))
    uneven = stats.bounded_change([0.0] * 4, [1.0, 0.0, 0.0, 0.0], ["a", "b", "b", "b"])
    assert uneven.value == pytest.approx(0.5)  # situations weigh alike


def test_missing_pairs_are_counted_and_bad_values_refused() -> None:
    found = stats.bounded_change([0.0, None, 0.2], [0.0, 0.5, None])
    assert (found.value, found.n, found.missing) == (0.0, 1, 2)
    assert stats.bounded_change([], []).value is None
    assert stats.upper_bound([]) is None
    for bad in ([0.0, 1.5], [0.0, None]):
        with pytest.raises(InputError, match="between -1 and 1"):
            stats.upper_bound(bad)
    with pytest.raises(InputError, match="pairs"):
        stats.bounded_change([0.0], [0.0, 0.1])


def test_the_average_of_several_is_no_sum_of_their_questions() -> None:
    """A thousand questions that lose nothing do not hide a hundred that lose a third."""
    draw = np.random.default_rng(1)
    right = [np.ones(1000), np.ones(100)]
    after = [right[0], (draw.random(100) > 0.33).astype(float)]
    found = stats.average([stats.paired_change(a, b) for a, b in zip(right, after, strict=True)])
    assert found.value == pytest.approx((after[1].mean() - 1) / 2)
    assert found.high is not None
    assert found.high < -0.1
    assert stats.average([stats.paired_change([0.0] * 3, [0.0] * 3), found]).low is None
    assert stats.average([]).value is None
