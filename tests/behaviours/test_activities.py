"""Activities: known strengths are found again, a uniform shift shows against the anchor and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

import models
from heartstrings.behaviours.base import Scenario
from heartstrings.behaviours.choices.activities import NOTHING, Activities, ActivityPlaces, activities
from heartstrings.behaviours.choices.strengths import (
    anchored_strengths,
    half_effect,
    halves,
    on_activity,
    probe_correlation,
    strengths,
)
from heartstrings.core.engine import ScoreRequest
from heartstrings.core.errors import InputError
from heartstrings.core.steering import Characters, Intervention, Steering
from heartstrings.stats.preferences import ELO_SCALE

KNOWN = {one.slug: (one.pleasant - 3) * 0.5 + 0.1 * (at % 5 - 2) for at, one in enumerate(activities())} | {NOTHING: 0}


def chosen(scenario: Scenario, known: Mapping[str, float | int], place: float | int = 0) -> float:
    """P(target) of a model with these strengths in logits that leans to B by `place`."""
    data = scenario.data
    if "first" in data:
        gap = known[data["second"]] - known[data["first"]] + place
    else:
        gap = known[data["chosen"]] - known[data["against"]] + (place if data["target"] == "B" else -place)
    return 1 / (1 + math.exp(-gap))


def test_64_activities_and_all_ordered_pairs() -> None:
    assert len(activities()) == len({one.text for one in activities()}) == 64
    assert len({one.category for one in activities()}) == 8
    every = Activities().scenarios(n=4032, seed=1)
    assert len({one.id for one in every}) == len({one.data["options"] for one in every}) == 4032
    assert every[:77] == Activities().scenarios(n=77, seed=1)
    assert all(a.cluster == b.cluster and a.data["options"] == b.data["options"][::-1]
               for a, b in zip(every[::2], every[1::2], strict=True))  # fmt: skip
    with pytest.raises(InputError, match="0 to 4032"):
        Activities().scenarios(n=4033, seed=1)
    assert len(Activities(True).scenarios(n=4160, seed=1)) == 4160


@pytest.mark.parametrize("kind", [Activities, ActivityPlaces])
@pytest.mark.parametrize("seed", range(5))
def test_two_rounds_link_everything(kind: type[Activities], seed: int) -> None:
    asked = kind(True).scenarios(n=128, seed=seed)
    found = anchored_strengths(asked, [chosen(one, KNOWN) for one in asked], resamples=0)
    assert len(found.items) == 65


@pytest.mark.parametrize("kind", [Activities, ActivityPlaces])
def test_known_strengths_are_found_whatever_the_place(kind: type[Activities]) -> None:
    asked = kind(True).scenarios(n=1280, seed=3)
    found = anchored_strengths(asked, [chosen(one, KNOWN, 0.7) for one in asked], resamples=8)
    for name, value in KNOWN.items():
        assert found.items[name].value == pytest.approx(value * ELO_SCALE, abs=12)
    assert found.position.value == pytest.approx(0.7 * ELO_SCALE, abs=5)
    assert found.items[NOTHING].value == 0


def test_a_uniform_shift_shows_with_the_anchor_only() -> None:
    shifted = {name: value + (name != NOTHING) for name, value in KNOWN.items()}
    anchored = Activities(True).scenarios(n=1280, seed=3)
    before, after = (
        anchored_strengths(anchored, [chosen(one, known) for one in anchored], resamples=0)
        for known in (KNOWN, shifted)
    )
    rise = [(after.items[name].value or 0) - (before.items[name].value or 0) for name in KNOWN if name != NOTHING]
    assert np.mean(rise) == pytest.approx(ELO_SCALE, rel=0.08)
    free = ActivityPlaces().scenarios(n=1280, seed=3)
    one, two = (strengths(free, [chosen(s, known) for s in free], resamples=0) for known in (KNOWN, shifted))
    assert all(two.items[name].value == pytest.approx(one.items[name].value, abs=1e-3) for name in one.items)


def test_probe_correlation() -> None:
    asked = Activities(True).scenarios(n=640, seed=2)
    found = anchored_strengths(asked, [chosen(one, KNOWN) for one in asked], resamples=0)
    right = probe_correlation(found, {name: 2 * value + 1 for name, value in KNOWN.items()}, permutations=199)
    assert right.r.value is not None
    assert right.r.value > 0.98
    assert right.p == 1 / 200
    noise = np.random.default_rng(0).normal(size=len(KNOWN))
    wrong = probe_correlation(found, dict(zip(KNOWN, noise.tolist(), strict=True)), permutations=199)
    assert not wrong.r.excludes_zero
    assert wrong.p is not None
    assert wrong.p > 0.05
    with pytest.raises(InputError, match="all the same"):
        probe_correlation(found, dict.fromkeys(KNOWN, 1.0))


def test_half_effect_counts_the_half_alone() -> None:
    half, rest = halves([one.slug for one in activities()], seed=4)
    assert len(half) == len(rest) == 32
    assert not {*half} & {*rest}
    asked = [
        one for one in Activities().scenarios(n=2600, seed=4)
        if (one.data["chosen"] in half) != (one.data["against"] in half)
    ]  # fmt: skip
    before = [chosen(one, KNOWN) for one in asked]
    lifted = {name: value + 0.8 * (name in half) for name, value in KNOWN.items()}
    found = half_effect(asked, [chosen(one, lifted) for one in asked], before, half, resamples=12)
    assert found.value == pytest.approx(0.8 * ELO_SCALE, rel=0.05)
    assert found.excludes_zero
    both = {name: value + 0.8 for name, value in KNOWN.items()}
    none = half_effect(asked, [chosen(one, both) for one in asked], before, half, resamples=0)
    assert none.value == pytest.approx(0, abs=1e-2)


def test_steering_of_an_activity_alone_reaches_its_tokens() -> None:
    engine = models.engine("llama")
    asked = Activities().scenarios(n=2, seed=0)[0]
    axis = np.ones(models.WIDTH, np.float32)
    axis[::2] = -1
    everywhere = Steering((Intervention(layer=1, direction=axis, dose=0.5, norm=5.0),))
    text = next(iter(engine.read([asked.prompt], np.ones((1, 1, models.WIDTH), np.float32), layers=[1]))).text
    slug = asked.data["chosen"]
    aimed = on_activity(everywhere, text, asked, slug)
    assert isinstance(aimed.positions, Characters)
    said = text[aimed.positions.start : aimed.positions.stop]
    assert said == next(one.text for one in activities() if one.slug == slug)
    requests = [ScoreRequest(asked.prompt, asked.replies, how) for how in (None, aimed, everywhere)]
    plain, some, every = (score.logprobs for score in engine.score(requests))
    assert plain != some != every
    with pytest.raises(InputError, match="no 'other'"):
        on_activity(everywhere, text, asked, "other")


def test_missing_answers_are_counted_and_refusals_are_clear() -> None:
    asked = Activities(True).scenarios(n=640, seed=2)
    outcomes: list[float | None] = [chosen(one, KNOWN) for one in asked]
    outcomes[3] = outcomes[10] = None
    found = anchored_strengths(asked, outcomes, resamples=8)
    assert (found.n, found.missing) == (638, 2)
    with pytest.raises(InputError, match="no comparison with 'nothing'"):
        anchored_strengths(Activities().scenarios(n=640, seed=2), [0.5] * 640)
    with pytest.raises(InputError, match="never compared"):
        anchored_strengths(asked[:20], [0.5] * 20)
    with pytest.raises(InputError, match="probabilities"):
        anchored_strengths(asked, [1.5] * 640)
    with pytest.raises(InputError, match="in the half"):
        half_effect(asked, [0.5] * 640, [0.5] * 640, list(KNOWN))


def test_intervals_of_noisy_answers_hold_the_known_strengths() -> None:
    asked = Activities(True).scenarios(n=2560, seed=6)
    rng = np.random.default_rng(1)
    outcomes = [float(rng.random() < chosen(one, KNOWN, 0.3)) for one in asked]
    found = anchored_strengths(asked, outcomes, resamples=60, seed=1)
    inside = [
        one.low is not None and one.high is not None and one.low <= KNOWN[name] * ELO_SCALE <= one.high
        for name, one in found.items.items()
        if name != NOTHING
    ]
    assert np.mean(inside) > 0.8
