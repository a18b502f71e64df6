"""The token that a uniform draw stands for, against a softmax of the whole vocabulary in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from heartstrings.engines import host_memory
from heartstrings.engines.torch_generate import drawn


def naive(logits: np.ndarray, temperature: float, uniform: float, top_p: float) -> int:
    scaled = logits.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    weights /= weights.sum()
    order = np.argsort(-weights, kind="stable")
    cumulative = weights[order].cumsum()
    n = min(int((cumulative < top_p).sum()) + 1, len(order))
    place = int((cumulative[:n] <= uniform * cumulative[n - 1]).sum())
    return int(order[min(place, n - 1)])


@pytest.mark.parametrize("top_p", [1.0, 0.95, 0.5, 1e-9])
@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0, 6.0])
@pytest.mark.parametrize(("size", "likeliest"), [(10, 256), (300, 256), (2000, 32)])
def test_a_draw_is_the_inverse_of_the_cumulative_distribution(
    size: int, likeliest: int, spread: float, top_p: float
) -> None:
    # With spread .3 most draws lie beyond the likeliest 32 of 2,000, with 6 hardly any do.
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
    # Which of two equal logits comes first is not settled. The sum of all is taken in float32: a draw within rounding
    # of the border between two tokens may take the other.
    every = np.arange(rows)
    assert (logits[every, found] != logits[every, expected]).sum() <= 1
    assert logits[0, found[0]] == logits[0].max()


def test_freed_memory_is_kept_unless_the_user_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in host_memory._SET_BY_USER:
        monkeypatch.delenv(name, raising=False)
    assert host_memory.keep_freed_memory() is True  # glibc, where these tests run
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert host_memory.keep_freed_memory() is False
