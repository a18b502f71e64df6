"""Power and confidence sequences: identities, closed forms, and small simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import nct, t

from heartstrings import stats
from heartstrings.core.errors import InputError


def test_without_controls_in_the_way_it_is_the_power_of_students_test() -> None:
    """Nearly all controls may be larger (alpha near 1), so that the t interval is all there is: noncentral t."""
    for n, effect in ((5, 0.1), (20, 0.05), (40, 0.0)):
        crossing = t.isf(0.025, n - 1)
        shift = effect * math.sqrt(n) / 0.12
        expected = nct.sf(crossing, n - 1, shift) + nct.cdf(-crossing, n - 1, shift)
        found = stats.power_of(effect, n, stats.Design(0.12, controls=(1,), alpha=0.999999, tests=1))
        # one control must still be beaten, so this is a little less
        assert found <= expected + 1e-9
    many = stats.power_of(0.1, 5, stats.Design(0.12, controls=(10_000,), alpha=0.9999, tests=1))
    shift, crossing = 0.1 * math.sqrt(5) / 0.12, t.isf(0.025, 4)
    assert many == pytest.approx(nct.sf(crossing, 4, shift) + nct.cdf(-crossing, 4, shift), abs=2e-4)


def test_power_matches_a_simulation_of_its_model() -> None:
    random = np.random.default_rng(0)
    for effect, n, spread, control_sd in ((0.1, 20, 0.12, 0.0), (0.05, 12, 0.06, 0.02), (0.0, 40, 0.1, 0.0)):
        runs, error = 20_000, spread / math.sqrt(n)
        estimate = effect + error * random.standard_normal(runs)
        s = spread * np.sqrt(random.chisquare(n - 1, runs) / (n - 1))
        outside = np.abs(estimate) > t.isf(0.025, n - 1) * s / math.sqrt(n)
        null = np.abs(math.hypot(error, control_sd) * random.standard_normal((runs, 3, 60)))
        beaten = ((null >= np.abs(estimate)[:, None, None]).sum(-1) <= 0).all(-1)  # (1 + 1) / 61 * 2 > .05
        found = stats.power_of(effect, n, stats.Design(spread, controls=(60, 60, 60), tests=2, control_sd=control_sd))
        assert found == pytest.approx((outside & beaten).mean(), abs=0.012)


def test_more_of_anything_finds_more() -> None:
    base = stats.power_of(0.08, 20, stats.Design(0.12, tests=2))
    assert stats.power_of(0.09, 20, stats.Design(0.12, tests=2)) > base
    assert stats.power_of(-0.08, 20, stats.Design(0.12, tests=2)) == pytest.approx(base)
    assert stats.power_of(0.08, 21, stats.Design(0.12, tests=2)) > base
    assert stats.power_of(0.08, 20, stats.Design(0.13, tests=2)) < base
    assert stats.power_of(0.08, 20, stats.Design(0.12, tests=2, control_sd=0.03)) < base
    assert stats.power_of(0.08, 20, stats.Design(0.12, tests=2, controls=(40,))) > base
    assert stats.power_of(0.08, 20, stats.Design(0.12, tests=1, controls=(40,) * 3)) >= base
    assert stats.power_of(0.16, 20, stats.Design(0.24, tests=2)) == pytest.approx(base), "only the ratio counts"


def test_needed_and_detectable_are_inverse() -> None:
    for effect, spread in ((0.10, 0.12), (0.10, 0.6), (0.3, 0.2)):
        n = stats.needed(effect, stats.Design(spread, tests=2))
        assert n is not None
        assert stats.power_of(effect, n, stats.Design(spread, tests=2)) >= 0.8
        assert stats.power_of(effect, n - 1, stats.Design(spread, tests=2)) < 0.8
        assert (
            stats.detectable(n, stats.Design(spread, tests=2))
            <= effect
            < stats.detectable(n - 1, stats.Design(spread, tests=2))
        )


def test_what_cannot_be_found_is_said() -> None:
    assert (
        stats.detectable(40, stats.Design(0.1, controls=(40, 40, 39), tests=2)) == math.inf
    )  # 2 / 40 is not under .05
    assert stats.detectable(40, stats.Design(0.1, controls=(40, 40, 40), tests=2)) < 0.1
    assert stats.needed(0.1, stats.Design(0.1, controls=(39,), tests=2)) is None
    assert stats.needed(0.0, stats.Design(0.1)) is None
    assert stats.needed(0.02, stats.Design(0.1, control_sd=0.05)) is None, "controls that move as much hide it for ever"
    assert stats.detectable(1, stats.Design(0.1)) == math.inf
    text = stats.summarise(40, stats.Design(0.1, controls=(39, 39), tests=2), doses=(-0.2, 0.2)).sentence
    assert (
        text == "With 40 scenarios, 78 comparisons with controls and 2 tests, no effect can be found: "
        "too few controls for that many tests."
    )


def test_a_kind_without_controls_is_not_used() -> None:
    two = stats.power_of(0.08, 20, stats.Design(0.12, tests=2, controls=(40, 40)))
    assert stats.power_of(0.08, 20, stats.Design(0.12, tests=2, controls=(40, 0, 40))) == two > 0
    text = stats.summarise(40, stats.Design(0.12, tests=2, controls=(40, 40, 0)), doses=(-0.2, 0.2)).sentence
    assert text.startswith("With 40 scenarios, 80 comparisons with controls and 2 tests, an effect of ")
    with pytest.raises(InputError):
        stats.power_of(0.1, 10, stats.Design(0.1, controls=(0, 0)))


def test_the_sentence() -> None:
    made = stats.summarise(40, stats.Design(0.12, tests=2), doses=(-0.2, 0.2), between=0.12)
    assert made.sentence == (
        "With 40 scenarios, 120 comparisons with controls and 2 tests, an effect of 7.1 points between "
        "doses -0.2 and 0.2 is found 8 times in 10 (assuming that scenarios differ by 0.12); 10 points would need 20."
    )
    assert (made.needed, made.planted) == (20, 0.10)
    assert made.detectable == pytest.approx(0.0704, abs=1e-4)
    hopeless = stats.summarise(2, stats.Design(0.6, tests=1, controls=(40,)), doses=(-0.1, 0.1)).sentence
    assert hopeless.startswith(
        "With 2 scenarios, 40 comparisons with controls and 1 test, no possible effect between "
        "doses -0.1 and 0.1 is found as often as"
    )
    assert "spread by 0.6)" in hopeless
    hidden = stats.summarise(40, stats.Design(0.1, control_sd=0.2), doses=(-0.1, 0.1)).sentence
    assert hidden.endswith("no number of scenarios finds 10 points, since control directions move the answers as far.")


def test_spread_of_sampled_answers() -> None:
    random = np.random.default_rng(1)
    doses = [-0.2, -0.1, 0.0, 0.1, 0.2]
    moved = 0.1 * random.standard_normal((50_000, 1, 1))
    p = np.clip(0.3 + moved * np.array(doses)[:, None] / 0.4, 0, 1)
    y = (random.random((50_000, 5, 2)) < p).mean(-1)
    changes = y @ np.array(doses) / 0.1 * 0.4
    assert stats.sampled_spread(math.sqrt(0.21), doses, repeats=2, between=0.1) == pytest.approx(
        changes.std(), rel=0.02
    )
    assert stats.sampled_spread(0.0, doses, between=0.1) == pytest.approx(0.1)
    for call in (
        lambda: stats.sampled_spread(0.3, [0.1]),
        lambda: stats.sampled_spread(-0.3, doses),
        lambda: stats.power_of(0.1, 10, stats.Design(0.0)),
        lambda: stats.power_of(0.1, 10, stats.Design(0.1, controls=())),
        lambda: stats.more_scenarios(10, 0.1, stats.Design(0.1), smallest_effect=0.0),
    ):
        with pytest.raises(InputError):
            call()


def test_how_many_more() -> None:
    spread = 0.3
    flat = stats.more_scenarios(40, 0.0, stats.Design(spread, tests=2), smallest_effect=0.05)
    assert flat is not None
    n = 40 + flat
    assert t.isf(0.025, n - 1) * spread / math.sqrt(n) <= 0.05
    assert t.isf(0.025, n - 3) * spread / math.sqrt(n - 2) > 0.05
    seen = stats.more_scenarios(40, 0.2, stats.Design(spread, tests=2), smallest_effect=0.05)
    assert seen == max(1, (stats.needed(0.2, stats.Design(spread, tests=2)) or 0) - 40) < flat
    assert stats.more_scenarios(40, None, stats.Design(spread, tests=2), smallest_effect=0.05) == flat
    assert stats.more_scenarios(5000, 0.2, stats.Design(spread), smallest_effect=0.05) == 1
    assert stats.more_scenarios(40, 0.0, stats.Design(1000.0), smallest_effect=0.01) is None


def test_capital_by_hand() -> None:
    """The bounds against the definition, one candidate mean and one sample at a time."""
    x = np.random.default_rng(2).beta(2, 3, size=30)
    alpha, kept = 0.1, []
    for m in np.linspace(0, 1, 1001):
        up = down = 1.0
        seen, squares, variance, refuted = 0.0, 0.0, 0.25, False
        for i, value in enumerate(x, start=1):
            bet = math.sqrt(2 * math.log(2 / alpha) / (variance * i * math.log(i + 1)))
            up *= 1 + min(bet, 0.5 / m if m else math.inf) * (value - m)
            down *= 1 - min(bet, 0.5 / (1 - m) if m < 1 else math.inf) * (value - m)
            seen += value
            squares += (value - (0.5 + seen) / (i + 1)) ** 2
            variance = (0.25 + squares) / (i + 1)
            refuted |= max(up, down) / 2 >= 1 / alpha
        if not refuted:
            kept.append(m)
    assert stats.confidence_bounds(x, alpha=alpha)[-1] == pytest.approx((kept[0] - 0.001, kept[-1] + 0.001), abs=1e-9)


def test_confidence_sequence_narrows_and_scales() -> None:
    x = np.random.default_rng(3).random(60) < 0.3
    bounds = stats.confidence_bounds(x.astype(float))
    assert (np.diff(bounds[:, 0]) >= 0).all()
    assert (np.diff(bounds[:, 1]) <= 0).all()
    single = stats.confidence_bounds(x.astype(float), running=False)
    assert (bounds[:, 0] >= single[:, 0]).all()
    wide = stats.confidence_sequence(2.0 * x - 1.0, low=-1, high=1)
    assert (wide.low, wide.high) == pytest.approx(tuple(2 * bounds[-1] - 1))
    mirrored = stats.confidence_bounds(1.0 - x)
    assert mirrored == pytest.approx(1 - bounds[:, ::-1], abs=1e-9)
    assert stats.confidence_sequence([]).value is None
    found = stats.confidence_sequence([0.0, None, 1.0])
    assert (found.n, found.missing, found.value) == (2, 1, 0.5)
    assert (found.low, found.high) == (0.0, 1.0)
    with pytest.raises(InputError, match="between 0 and 1"):
        stats.confidence_sequence([0.5, 1.5])


def test_a_drifting_mean_leaves_a_pair_of_bounds() -> None:
    bounds = stats.confidence_bounds([1.0] * 80 + [0.0] * 400)
    assert (bounds[:, 0] <= bounds[:, 1]).all()
    assert np.isfinite(bounds).all()


def test_confidence_sequence_is_about_as_wide_as_it_should_be() -> None:
    """Wider than an interval for one look, narrower than Hoeffding's with a correction for 40 looks."""
    x = np.random.default_rng(4).permutation([1.0] * 4 + [0.0] * 36)
    ours = stats.confidence_sequence(x)
    assert (stats.wilson(4, 40).half_width or 1) < (ours.half_width or 0)
    assert (ours.half_width or 1) < math.sqrt(math.log(2 * 40 / 0.05) / (2 * 40))
