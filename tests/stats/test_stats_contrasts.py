"""Contrasts of a dose curve: which there are, what they measure, and how the largest is compared."""

from __future__ import annotations

import numpy as np
import pytest

from heartstrings.stats import slopes_by_group
from heartstrings.stats.contrasts import contrasts, in_units, largest, orientation

FIVE = (-0.1, -0.025, 0.0, 0.025, 0.1)


@pytest.mark.parametrize(
    ("doses", "names"),
    [
        ((-0.1, 0.0, 0.1), ("line", "at -0.1", "at 0.1", "both sides")),
        (FIVE, ("line", "at -0.1", "at -0.025", "at 0.025", "at 0.1", "both sides", "step", "positive", "negative")),
        ((0.0, 0.1), ("line",)),
        ((0.0, 0.1, 0.2), ("line", "at 0.1", "positive")),
        ((0.1, 0.2), ("line",)),  # clamping: no baseline among the doses
        ((0.1,), ()),
        ((), ()),
    ],
)
def test_names(doses: tuple[float, ...], names: tuple[str, ...]) -> None:
    found, weights = contrasts(doses)
    assert found == names
    assert weights.shape == (len(names), len(doses))
    np.testing.assert_allclose(weights.sum(axis=1), 0, atol=1e-12)


def test_the_line_is_the_least_squares_slope_times_the_width() -> None:
    outcome = np.random.default_rng(0).random(5)
    _, slopes = slopes_by_group(FIVE, outcome, ["a"] * 5)
    assert contrasts(FIVE)[1][0] @ outcome == pytest.approx(slopes[0] * 0.2)


def test_each_shape_has_a_contrast_that_sees_it() -> None:
    names, weights = contrasts(FIVE)
    curves = {
        "at 0.025": [0, 0, 0, 0.3, 0], "both sides": [0.2, 0.2, 0, 0.2, 0.2], "step": [-0.2, -0.2, 0, 0.2, 0.2],
        "positive": [0, 0, 0, 0.2, 0.2], "negative": [0.2, 0.2, 0, 0, 0],
    }  # fmt: skip
    others = np.random.default_rng(1).normal(0, 0.02, (200, 5)) @ weights.T  # controls that do nothing
    for name, curve in curves.items():
        sizes = np.vstack([np.array(curve) @ weights.T, others])
        scaled = np.abs(sizes[0]) / np.sqrt((others**2).mean(axis=0))
        # A response on one side alone is seen by the step as well, which has less noise.
        assert names[int(scaled.argmax())] in (name, "step")
        assert largest(in_units(sizes, least=0))[0] > largest(in_units(sizes, least=0))[1:].max()


def test_the_largest_is_exchangeable() -> None:
    """Where the tested direction is one more control, its rank is any of theirs."""
    draw, ranks = np.random.default_rng(2), []
    _, weights = contrasts(FIVE)
    for _ in range(400):
        tops = largest(in_units(draw.normal(size=(20, 5)) * [3, 1, 0, 1, 3] @ weights.T, least=0))
        ranks.append(int((tops[1:] >= tops[0]).sum()))
    assert np.mean(np.array(ranks) == 0) == pytest.approx(1 / 20, abs=0.03)
    assert np.mean(ranks) == pytest.approx(9.5, abs=1.0)


def test_one_sided_tops_of_a_direction_and_its_opposite() -> None:
    names, weights = contrasts((-0.1, 0.0, 0.1))
    signs = orientation(names)
    assert signs.tolist() == [1, -1, 1, 0]
    up, down = np.array([-0.2, 0.0, 0.2]) @ weights.T, np.array([0.2, 0.0, -0.2]) @ weights.T
    sizes = np.vstack([up, down, np.zeros(4)])
    forward, back = (largest(in_units(sizes, ways, least=0)) for ways in (signs, -signs))
    assert forward[0] == back[1] > 0
    assert forward[1] == back[0] == 0
    assert forward[2] == back[2] == 0


def test_a_bend_too_small_to_matter_is_not_the_largest() -> None:
    """Controls move answers by 20 points along a line and bend by a tenth of a point; one direction bends by 0.8."""
    _, weights = contrasts(FIVE)
    draw = np.random.default_rng(3)
    curves = draw.normal(0, 0.1, (200, 1)) * np.array(FIVE) / 0.1 + draw.normal(0, 0.0005, (200, 5))
    bent = np.array([-0.028, -0.013, 0.0, 0.007, 0.012])
    sizes = np.vstack([bent, curves]) @ weights.T
    bare, floored = largest(in_units(sizes, least=0)), largest(in_units(sizes, least=0.05))
    assert bare[0] > bare[1:].max()
    assert (floored[1:] > floored[0]).mean() > 0.5
    assert in_units(sizes, least=0.05)[0].max() == floored[0]


def test_what_is_missing_takes_no_part() -> None:
    found = largest(in_units(np.array([[1.0, np.nan], [np.nan, np.nan], [0.5, 2.0]]), least=0))
    assert np.isnan(found[1])
    assert found[0] == pytest.approx(1.0 / np.sqrt(1.25 / 2))
