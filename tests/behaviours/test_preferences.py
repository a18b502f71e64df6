"""Bradley-Terry: planted strengths come back, the place is told from them, bad input is refused."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest

import heartstrings
from heartstrings.behaviours.choices.strengths import strengths
from heartstrings.behaviours.organism._questions import Preferences
from heartstrings.core.errors import InputError
from heartstrings.organisms.grammar import lexis
from heartstrings.stats.preferences import bradley_terry, elo

TRUE = {"a": -1.0, "b": -0.2, "c": 0.3, "d": 0.9}
PAIRS = list(permutations(TRUE, 2)) * 5


def chances(position: float) -> list[float]:
    return [1 / (1 + math.exp(TRUE[first] - TRUE[second] - position)) for first, second in PAIRS]


@pytest.mark.parametrize("position", [-1.5, 0.0, 2.0])
def test_planted_strengths_and_place(position: float) -> None:
    first, second = zip(*PAIRS, strict=True)
    found = bradley_terry(first, second, chances(position), penalty=1e-6, resamples=0)
    assert found.position.value == pytest.approx(position, abs=1e-3)
    for name, value in TRUE.items():
        assert found.items[name].value == pytest.approx(value, abs=1e-3)


def test_intervals_hold_the_truth_and_elo_is_the_same_in_other_units() -> None:
    rng, rows = np.random.default_rng(0), PAIRS * 5
    won = (rng.random(len(rows)) < np.tile(chances(0.5), 5)).astype(float)
    found = bradley_terry([a for a, _ in rows], [b for _, b in rows], won, resamples=60)
    assert found.position.low is not None
    assert found.position.low > 0
    for name, value in TRUE.items():
        one = found.items[name]
        assert one.low is not None
        assert one.high is not None
        assert one.low - 0.2 < value < one.high + 0.2
        assert one.high - one.low < 1.5
    points = elo(found)
    gap = points.items["d"].value - points.items["a"].value  # type: ignore[operator]
    logits = found.items["d"].value - found.items["a"].value  # type: ignore[operator]
    assert gap == pytest.approx(logits * 400 / math.log(10))
    assert np.mean([one.value for one in points.items.values()]) == pytest.approx(1500)  # type: ignore[arg-type]


def test_always_the_second_is_a_place_and_no_strength() -> None:
    first, second = zip(*PAIRS, strict=True)
    found = bradley_terry(first, second, [1.0] * len(PAIRS), resamples=0)
    assert found.position.value is not None
    assert found.position.value > 4
    assert max(abs(one.value or 0) for one in found.items.values()) < 1e-3


def test_missing_is_counted_and_few_groups_have_no_interval() -> None:
    found = bradley_terry(["a", "b", "a"], ["b", "a", "b"], [1.0, None, 0.5])
    assert (found.n, found.missing) == (2, 1)
    assert found.items["a"].low is None


@pytest.mark.parametrize(
    ("first", "second", "won", "said"),
    [
        (["a"], ["a"], [1.0], "itself"),
        (["a"], ["b"], [1.5], "outside"),
        (["a"], ["b"], [None], "0 comparisons"),
        (["a", "b"], ["b"], [1.0], "2 first"),
        (["a", "c"], ["b", "d"], [1.0, 0.0], "never compared"),
    ],
)
def test_refusals(first: list[str], second: list[str], won: list[float | None], said: str) -> None:
    with pytest.raises(InputError, match=said):
        bradley_terry(first, second, won)


def test_the_organism_has_the_planted_strengths() -> None:
    engine, behaviour = heartstrings.load("organism:steerable"), Preferences()
    scenarios = behaviour.scenarios(n=200, seed=0)
    scores = engine.score([behaviour.request(one, steering=None, seed=0) for one in scenarios])
    outcomes = [behaviour.grade(one, score).outcome for one, score in zip(scenarios, scores, strict=True)]
    found = strengths(scenarios, outcomes, resamples=20)
    planted = dict(lexis()["preference"]["activity"])
    pairs = [(planted[name], one.value) for name, one in found.items.items()]
    r = float(np.corrcoef(np.array(pairs, float).T)[0, 1])
    print(f"r = {r:.3f}, position {found.position}")
    assert len(pairs) == 12
    assert r > 0.8
