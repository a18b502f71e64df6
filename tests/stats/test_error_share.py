"""Rounding error as a share of the noise: against simulated texts, whose errors are known."""

from __future__ import annotations

import numpy as np
import pytest

from heartstrings.core.errors import InputError
from heartstrings.stats import error_share

N_LAYERS, N_ESTIMATES, WIDTH = 3, 40, 2000


def halves(draw: np.random.Generator, n: int, spread: float) -> np.ndarray:
    """Means of n texts in each of two halves."""
    shape = (2, N_LAYERS, N_ESTIMATES, WIDTH)
    return spread / np.sqrt(n) * draw.standard_normal(shape)


def test_errors_of_single_texts_fall_with_the_noise() -> None:
    draw = np.random.default_rng(0)
    exact = halves(draw, 1, 1.0)
    rounded = exact + halves(draw, 1, 0.05)
    for growth in (1.0, 12.0):
        found = error_share(exact, rounded, growth=growth)
        # The tenth with the largest errors is left out.
        np.testing.assert_allclose(found.ratio, 0.05, rtol=0.03 * growth**0.5)
        assert (found.shared < 0.02 * growth**0.5).all()


@pytest.mark.parametrize("growth", [1.0, 12.0])
def test_a_shared_error_stays_while_the_noise_falls(growth: float) -> None:
    draw = np.random.default_rng(1)
    exact = halves(draw, 1, 1.0)
    shared = 0.1 * draw.standard_normal((N_LAYERS, N_ESTIMATES, WIDTH))
    found = error_share(exact, exact + shared, growth=growth)
    # The noise of the mean over both halves is that of two texts, each of spread 1.
    np.testing.assert_allclose(found.ratio, 0.1 * np.sqrt(2 * growth), rtol=0.05)
    np.testing.assert_allclose(found.shared, found.ratio, rtol=1e-6)


def test_the_prediction_from_a_sample_is_what_all_texts_show() -> None:
    draw = np.random.default_rng(2)
    shared = 0.03 * draw.standard_normal((N_LAYERS, N_ESTIMATES, WIDTH))
    small, large = halves(draw, 1, 1.0), halves(draw, 8, 1.0)
    predicted = error_share(small, small + shared + halves(draw, 1, 0.1), growth=8.0)
    shown = error_share(large, large + shared + halves(draw, 8, 0.1), growth=1.0)
    np.testing.assert_allclose(predicted.ratio, shown.ratio, rtol=0.1)


def test_one_estimate_alone_does_not_decide() -> None:
    draw = np.random.default_rng(3)
    exact = halves(draw, 1, 1.0)
    rounded = exact + halves(draw, 1, 0.05)
    before = error_share(exact, rounded, growth=1.0)
    rounded[0, 1, 7] += 30.0
    after = error_share(exact, rounded, growth=1.0)
    np.testing.assert_allclose(after.ratio, before.ratio, rtol=0.02)
    rounded[:, 2, :6] += 30.0  # six of forty
    assert error_share(exact, rounded, growth=1.0).ratio[2] > 5


def test_no_error_and_no_noise() -> None:
    exact = halves(np.random.default_rng(4), 1, 1.0)
    assert (error_share(exact, exact, growth=3.0).ratio == 0).all()
    exact[1] = exact[0]
    assert (error_share(exact, exact, growth=3.0).ratio == 0).all()
    assert np.isinf(error_share(exact, exact + 1, growth=3.0).ratio).all()


def test_one_half_or_three_are_refused() -> None:
    exact = np.zeros((3, 1, 3, 4))
    for wrong in (exact, exact[:1], exact[:2, :, :0]):
        with pytest.raises(InputError, match="two halves"):
            error_share(wrong, wrong, growth=1.0)
