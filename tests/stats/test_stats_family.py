"""One correction over behaviours (shared controls) and directions: against hand counts, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from heartstrings import stats


def test_one_behaviour_is_the_plain_p_value_and_one_test_a_group_is_holm() -> None:
    random = np.random.default_rng(0)
    for _ in range(12):
        null = random.normal(size=30)
        null[random.random(30) < 0.1] = np.nan
        own = float(random.normal() * 2)
        assert stats.max_t([own], null[:, None]) == (stats.p_value(own, null),)
        ps = [None if random.random() < 0.2 else float(p) for p in random.random(5) ** 3]
        flat = [p for (p,) in stats.holm_groups([[p] for p in ps])]
        assert flat == pytest.approx(stats.holm(ps))


def test_a_control_counts_by_its_largest_over_what_is_not_settled() -> None:
    # In units of the largest other: the direction leads on the first behaviour and is third on the second.
    null = np.array([[0.1, 10.0], [0.2, -4.0], [-0.1, 3.0], [0.0, 0.0]])
    first, second = stats.max_t([2.0, 3.5], null)
    assert first == pytest.approx(1 / 5)  # no control is as far out on either
    assert second == pytest.approx(3 / 5)  # |10| and |-4| of the second alone: the first is settled
    weak, _ = stats.max_t([0.2, 3.5], null)
    assert weak == pytest.approx(3 / 5)  # the control of 10 counts against the first too, and the tie at 0.2


def test_a_control_far_out_on_one_behaviour_hides_no_clear_effect_on_another() -> None:
    """After a search for a layer all controls are large on the first; one stands out on the second."""
    random = np.random.default_rng(3)
    null = np.column_stack(
        [np.where(random.random(40) < 0.5, 1.0, -1.0) * random.normal(4, 0.5, 40), random.normal(size=40)]
    )
    null[7, 1] = 4.0
    first, second = stats.max_t([10.5, 0.3], null)
    assert first == pytest.approx(1 / 41)
    assert second is not None
    assert second > 0.5


def test_missing_values_count_against() -> None:
    null = np.array([[0.1, np.nan], [0.2, 0.1], [0.1, 0.2]])
    assert stats.max_t([5.0, 5.0], null)[0] == pytest.approx(2 / 4)
    # Where the direction has no value itself, nothing was tested, and a control without one is not counted.
    assert stats.max_t([5.0, None], null) == (pytest.approx(1 / 4), None)
    gone = np.column_stack([null[:, 0], [np.nan] * 3])
    assert stats.max_t([5.0, None], gone) == (pytest.approx(1 / 4), None)
    # A control that has a value there keeps its chance.
    assert stats.max_t([5.0, None], np.array([[0.1, 9.0], [0.2, 0.1], [0.1, 0.2]])) == (pytest.approx(2 / 4), None)
    assert stats.max_t([1.0], np.zeros((0, 1))) == (1.0,)
    assert stats.max_t([0.0, 0.0], np.zeros((3, 2))) == (1.0, 1.0)


def test_a_group_that_keeps_a_null_still_spends_its_share() -> None:
    # All of the first group are rejected, so the second has the whole of alpha; not so in the second case.
    assert stats.holm_groups([[0.01, 0.02], [0.03]])[1] == (pytest.approx(0.04),)
    assert stats.holm_groups([[0.01, 0.9], [0.03]])[1] == (pytest.approx(0.06),)
    assert stats.holm_groups([[0.01, None], [0.03]])[1] == (pytest.approx(0.06),)
    assert stats.holm_groups([]) == ()


@pytest.mark.parametrize("heavy", [False, True])
def test_family_wise_error_with_some_true_effects(heavy: bool) -> None:
    """Seven correlated behaviours of unlike scales, two directions, 40 controls; two behaviours truly move."""
    random = np.random.default_rng(1)
    wrong = found = 0
    runs = 2000
    scales = np.array([0.1, 1, 5, 1, 1, 20, 0.5])
    for _ in range(runs):
        draw = random.standard_t(3, size=(42, 7)) if heavy else random.normal(size=(42, 7))
        values = (draw + random.normal(size=(42, 1))) * scales
        null, groups = values[2:], []
        for own in values[:2]:
            own = own.copy()
            own[:2] += np.array([12.0, 12.0]) * scales[:2]
            groups.append(stats.max_t(own, null))
        corrected = stats.holm_groups(groups)
        rejected = np.array([[p is not None and p < 0.05 for p in group] for group in corrected])
        wrong += rejected[:, 2:].any()
        found += rejected[:, :2].all()
    # 40 controls and two directions: p = 1/41, so the level that can be had is 2/41 = .049.
    assert wrong / runs < 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)
    assert found / runs > (0.2 if heavy else 0.9)
