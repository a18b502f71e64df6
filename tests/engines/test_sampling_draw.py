"""The token that a uniform draw stands for, against a softmax of the whole vocabulary in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from heartstrings.engines.hf._generate import drawn


def naive(logits: np.ndarray, temperature: float, uniform: float, top_p: float) -> int:
    scaled = logits.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    weights /= weights.sum()
    order = np.argsort(-weights, kind="stable")
    cumulative = weights[order].cumsum()
    n = min(int((cumulative < top_p).sum()) + 1, len(order))
    place = int((cumulative[:n] <= uniform * cumulative[n - 1]).sum())
    return int(order[min(place, n - 1)])


@pytest.mark.parametrize("top_p", [1.0, 0.999, 0.9, 0.5, 1e-9])
@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0, 6.0])
@pytest.mark.parametrize(("size", "likeliest"), [(10, 256), (300, 256), (2000, 32), (5000, 256)])
def test_a_draw_is_the_inverse_of_the_cumulative_distribution(
    size: int, likeliest: int, spread: float, top_p: float
) -> None:
    # With spread .1 most draws lie beyond the likeliest 32 of 2,000, with 6 hardly any do.
    rng = np.random.default_rng(3)
    rows = 400
    logits = (spread * rng.standard_normal((rows, size))).astype(np.float32) - 40
    uniform = rng.random(rows)
    uniform[:2] = 0, np.nextafter(1, 0)
    temperature = rng.choice([0.7, 1.0, 1.3], rows)
    found = drawn(
        torch.from_numpy(logits),
        torch.from_numpy(temperature)[:, None],
        torch.from_numpy(uniform)[:, None],
        torch.full((rows, 1), top_p, dtype=torch.float64),
        likeliest=likeliest,
    ).tolist()
    expected = [naive(*row, top_p) for row in zip(logits, temperature, uniform, strict=True)]
    # Which of two equal logits comes first is not settled. The largest draw below 1 lies within rounding of the end: of
    # the whole vocabulary, any token of the last millionth may be its own.
    every = np.delete(np.arange(rows), 1)
    np.testing.assert_array_equal(logits[every, np.array(found)[every]], logits[every, np.array(expected)[every]])
    shares = np.exp((logits[1].astype(np.float64) - logits[1].max()) / temperature[1])
    likelier = shares[shares > shares[found[1]]].sum() / shares.sum()
    assert found[1] == expected[1] or (top_p == 1 and likelier + shares[found[1]] / shares.sum() > 1 - 1e-6)
    assert logits[0, found[0]] == logits[0].max()
