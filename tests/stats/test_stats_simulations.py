"""The statistics keep their word on simulated data (bench/null_uniform.py, at fewer runs). Bounds are 4 standard
errors of the simulation wide, so that chance alone does not fail them."""

from __future__ import annotations

import math

import pytest

from bench import null_uniform as bench
from heartstrings import stats

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("binary", [False, True])
def test_null_p_values_are_uniform(binary: bool) -> None:
    one, worst = bench.null_ps(bench.World(binary), runs=500, seed=1)
    assert bench.uniformity(one, seed=1) > 0.001
    assert (worst < 0.0501).mean() <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 500)
    assert bench.uniformity(one * 0.8, seed=1) < 0.001, "the test sees p-values that are a fifth too small"


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("scenarios", [8, 24, 40])
def test_slope_intervals_cover(binary: bool, scenarios: int) -> None:
    runs = 300
    error = math.sqrt(0.05 * 0.95 / runs)
    effect, logistic, none = bench.coverage(bench.World(binary, slope=1.2), scenarios=scenarios, runs=runs, seed=2)
    assert effect > 0.95 - 4 * error
    assert none < (0.3 if scenarios == 8 else 0.02)
    # the cluster-robust error of a GLM is a little small where clusters are few; the docs say by how much
    assert logistic > (0.92 if scenarios == 8 else 0.94) - 4 * error


@pytest.mark.parametrize("n", [8, 24])
def test_rare_answers(n: int) -> None:
    """A rate of 5%: the effect keeps its word, the logistic slope keeps silent where it could not."""
    world = bench.World(True, intercept=-3.4, slope=1.2)
    effect, logistic, none = bench.coverage(world, scenarios=n, runs=300, seed=8)
    assert effect > 0.92
    assert none > 0.9 if n == 8 else logistic > 0.88


@pytest.mark.parametrize("n", [8, 24])
def test_newcombe_covers(n: int) -> None:
    mean, lowest = bench.newcombe_coverage(n, points=40, seed=3)
    assert mean > 0.95
    assert lowest > 0.93


def test_newcombe_with_groups_covers_and_without_would_not() -> None:
    robust, naive = bench.clustered_coverage(groups=24, size=4, runs=600, seed=4)
    assert robust > 0.95 - 4 * math.sqrt(0.05 * 0.95 / 600)
    assert naive < 0.88


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_one_may_stop_when_one_likes(rate: float) -> None:
    ours, naive = bench.peeking(rate, n=150, runs=300, seed=5)
    assert ours <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 300)
    assert naive > 0.2, "an interval for one look is wrong far more often when looked at always"


@pytest.mark.parametrize(("effect", "between", "binary"), [(0.10, 0.12, False), (0.30, 0.12, True)])
def test_a_planted_effect_is_found_as_often_as_promised(effect: float, between: float, binary: bool) -> None:
    doses = [float(dose) for dose in bench.DOSES]
    spread = stats.sampled_spread(math.sqrt(0.21), doses, between=between) if binary else between
    n = stats.needed(effect, stats.Design(spread, tests=2))
    assert n is not None
    runs = 1500
    got = bench.planted(effect, n, spread_between=between, binary=binary, tests=2, runs=runs, seed=6)
    assert got.found == pytest.approx(got.formula, abs=0.03 + 2 * math.sqrt(0.16 / runs))
    quarter = bench.planted(effect, n // 4, spread_between=between, binary=binary, tests=2, runs=400, seed=7)
    assert quarter.found < 0.5
    assert quarter.denied < 0.02, "too few samples are no proof of no effect"
