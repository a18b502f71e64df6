"""Bands that hold everywhere at once: simulated coverage with known truth, and what they reduce to."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta

from heartstrings.core.errors import InputError
from heartstrings.stats.bands import joint_level, shared_null_band
from heartstrings.stats.intervals import t_quantile

DOSES = 8


def held(changes: np.ndarray, truth: np.ndarray, level: float) -> bool:
    """Whether t intervals at this level hold the truth at every dose."""
    error = changes.std(axis=0, ddof=1) / np.sqrt(len(changes))
    return bool((np.abs(changes.mean(axis=0) - truth) <= t_quantile(level, len(changes) - 1) * error).all())


def slopes(random: np.random.Generator, n: int) -> np.ndarray:
    """Situations that differ in how they answer to a dose, as in a run."""
    line = random.normal(size=(n, 1)) * np.linspace(-1, 1, DOSES)
    found: np.ndarray = line + 0.3 * random.normal(size=(n, 1)) + 0.2 * random.normal(size=(n, DOSES))
    return found


def uniform(random: np.random.Generator, n: int) -> np.ndarray:
    """Changes of probabilities, bounded and lopsided, that share the baseline's luck."""
    base = random.beta(2, 5, size=(n, 1))
    return np.asarray(random.beta(2, 4, size=(n, DOSES)) - base - (1 / 3 - 2 / 7))


@pytest.mark.parametrize("n", [8, 12, 20, 40])
@pytest.mark.parametrize("law", [slopes, uniform])
def test_all_doses_are_held_together(n: int, law: Any) -> None:
    random = np.random.default_rng(n)
    truth = np.linspace(-0.1, 0.1, DOSES)
    runs = 1000
    together = alone = 0
    for seed in range(runs):
        changes = law(random, n) + truth
        together += held(changes, truth, joint_level(changes, draws=600, seed=seed))
        alone += held(changes, truth, 0.95)
    assert together / runs >= 0.94
    assert alone / runs < 0.88, "intervals of one dose each would do, and the test shows nothing"


def test_doses_that_move_together_cost_less_than_bonferroni() -> None:
    random = np.random.default_rng(0)
    bonferroni = 1 - 0.05 / DOSES
    same = random.normal(size=(40, 1)) * np.ones(DOSES)
    assert joint_level(same) == pytest.approx(0.95, abs=0.012)
    level = joint_level(slopes(random, 40))
    assert 0.96 < level < bonferroni - 0.002
    assert joint_level(random.normal(size=(40, DOSES))) == pytest.approx(bonferroni, abs=0.003)


def test_what_cannot_be_resampled_is_bonferroni() -> None:
    changes = slopes(np.random.default_rng(1), 40)
    bonferroni = pytest.approx(1 - 0.05 / DOSES)
    assert joint_level(changes[:11]) == bonferroni
    assert joint_level(changes, rare=True) == bonferroni
    assert joint_level(np.zeros((40, DOSES))) == bonferroni
    assert joint_level(changes[:, :1]) == 0.95


def test_missing_values_and_the_order_of_doses_change_nothing_else() -> None:
    changes = slopes(np.random.default_rng(2), 40)
    absent = np.column_stack([changes, np.full(40, np.nan)])
    assert joint_level(absent) == joint_level(changes) == joint_level(changes[:, ::-1])
    assert joint_level(changes) == pytest.approx(joint_level(changes, seed=7), abs=0.003)
    assert joint_level(1000 * changes) == pytest.approx(joint_level(changes), abs=1e-12)
    changes[:5, 0] = np.nan
    assert 0.95 < joint_level(changes) <= 1 - 0.05 / DOSES


def test_refusals() -> None:
    with pytest.raises(InputError, match="level 1"):
        joint_level(np.zeros((20, 2)), level=1)
    with pytest.raises(InputError, match="0 tested"):
        shared_null_band(0, 20)


def test_quantiles_of_p_that_share_controls_are_exact() -> None:
    """All ways to mix 3 tested among 4 controls, each as likely: the law by counting."""
    tested, controls = 3, 4
    smallest = []
    for places in itertools.combinations(range(tested + controls), tested):
        above = [controls - sum(other not in places for other in range(place)) for place in places]
        smallest.append(sorted((b + 1) / (controls + 1) for b in above))
    ordered = np.sort(np.array(smallest), axis=0)
    for level in (0.5, 0.8, 0.95):
        lower, upper = shared_null_band(tested, controls, level=level)
        for rank in range(tested):
            values = ordered[:, rank]
            low, high = (1 - level) / 2, (1 + level) / 2
            grid = np.arange(1, controls + 2) / (controls + 1)
            below = np.array([(values <= one + 1e-9).mean() for one in grid])
            assert lower[rank] == pytest.approx(grid[(below > low + 1e-12).argmax()])
            assert upper[rank] == pytest.approx(grid[(below >= high - 1e-12).argmax()])


def test_p_of_shared_controls_lie_in_the_band_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)
    tested = controls = 40
    runs = 1500
    sizes = np.abs(random.standard_t(3, size=(runs, tested + controls)))
    above = (sizes[:, None, tested:] >= sizes[:, :tested, None]).sum(axis=2)
    ps = np.sort((above + 1) / (controls + 1), axis=1)
    lower, upper = shared_null_band(tested, controls)
    inside = ((ps >= lower - 1e-9) & (ps <= upper + 1e-9)).mean(axis=0)
    assert inside.min() >= 0.935
    assert inside.mean() < 0.985
    ranks = np.arange(1, tested + 1)
    plain = beta.ppf([[0.025], [0.975]], ranks, tested + 1 - ranks)
    independent = ((ps >= plain[0] - 1 / 41) & (ps <= plain[1] + 1 / 41)).mean(axis=0)
    assert independent[10:30].mean() < 0.92, "quantiles of independent p would do"
