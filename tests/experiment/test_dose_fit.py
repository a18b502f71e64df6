"""How hard a model can be pushed: the factor, on models whose costs are known and on SmolLM2."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import heartstrings
from heartstrings.behaviours.text.prose import Prose
from heartstrings.core.engine import Score, ScoreRequest
from heartstrings.core.errors import InputError
from heartstrings.core.steering import Intervention, Steering
from heartstrings.core.types import Pooling
from heartstrings.corpus import shipped_stories
from heartstrings.experiment.controls import direction_set
from heartstrings.experiment.dose_fit import FACTORS, SHARE, TEXTS, fit_doses, read_doses, write_doses
from heartstrings.experiment.plan_files import freeze, frozen, load_plan, preset, write_plan
from heartstrings.vectors.emotion_vectors import EmotionVectors
from heartstrings.vectors.extraction import extract

PLAN = preset("full", "m", suite="text", directions=("joyful", "desperate"))
LIMIT = SHARE * PLAN.thresholds.log_loss_rise


class Directions:
    """Steering whose layer and dose the model below reads."""

    def steering(self, cell, plan):
        one = Intervention(
            layer=cell.layer, direction=np.ones(2, np.float32), dose=cell.dose, norm=1.0, operation="add",
            site="block", label=cell.direction,
        )  # fmt: skip
        return Steering((one,), "all")


@dataclass
class Known:
    """A model whose log-loss rises with the dose in a known way; the divergence is a share of that."""

    rise: object
    share: float = 1.0

    def __post_init__(self):
        self.asked = []

    def score(self, requests):
        self.asked += requests
        return [self._one(request) for request in requests]

    def _one(self, request: ScoreRequest) -> Score:
        assert request.divergence
        cost = 0.0
        if request.steering is not None:
            (one,) = request.steering.interventions
            cost = self.rise(one.layer, one.label, one.dose)
        n = len(request.continuations[0].split())
        losses = np.full(n, -(3.0 + cost), np.float32)
        return Score(
            (float(losses.sum()),), (losses,), (tuple(range(n)),), 5, (np.full(n, self.share * cost, np.float32),)
        )


def square(at_a_tenth, *, layer=None):
    def rise(where, label, dose):
        return at_a_tenth * (dose / 0.1) ** 2 * (1.0 if layer in (None, where) else 0.1)

    return rise


@pytest.mark.parametrize(
    ("at_a_tenth", "factor"),
    [(0.08, 1), (0.124, 1), (0.126, 0.5), (1.2, 0.25), (3.0, 0.125), (0.03, 2), (0.007, 4), (1e-6, 4)],
)
def test_the_largest_factor_that_prose_bears(at_a_tenth, factor):
    fit = fit_doses(PLAN, Known(square(at_a_tenth)), Directions(), (4, 7))
    assert fit.factor == factor
    assert fit.within
    assert fit.chosen.worst.kl == pytest.approx(at_a_tenth * factor**2, rel=1e-3, abs=1e-6)
    assert {cost.dose for cost in fit.chosen.costs} == {-0.1 * factor, 0.1 * factor}
    # Few steps: what a small push costs tells what another will.
    assert len(fit.steps) <= 3


def test_a_cost_that_levels_off_is_followed_down():
    """Far out log-loss stops growing as a square, so the first guess is not small enough."""

    def rise(layer, label, dose):
        return min(1.5, 40 * abs(dose))

    fit = fit_doses(PLAN, Known(rise), Directions(), (4,))
    assert fit.factor == FACTORS[0]
    assert not fit.within
    assert "a sixteenth of the plan's" in fit.sentence
    assert "no smaller doses were tried" in fit.sentence
    assert [step.factor for step in fit.steps] == [1, 0.25, 0.0625]


def test_the_worst_layer_direction_and_end_decide():
    only = fit_doses(PLAN, Known(square(1.2, layer=7)), Directions(), (4, 7))
    assert only.factor == 0.25
    assert only.chosen.worst.layer == 7

    def one_side(layer, label, dose):
        return 0.5 if label == "desperate" and dose <= -0.1 else 0.05

    found = fit_doses(PLAN, Known(one_side), Directions(), (4, 7))
    assert (found.factor, found.steps[0].worst.direction, found.steps[0].worst.dose) == (0.5, "desperate", -0.1)
    assert "(-0.05 and 0.05)" in found.sentence
    assert "half the plan's" in found.sentence
    assert "at the plan's own doses it is 0.5" in found.sentence


def test_divergence_decides_and_not_the_chance_of_a_few_texts():
    """Their own log-loss may rise, or fall, by more than steering costs."""
    assert fit_doses(PLAN, Known(square(0.01), share=40.0), Directions(), (4,)).factor == 0.5
    assert fit_doses(PLAN, Known(square(4.0), share=0.02), Directions(), (4,)).factor == 1


def test_texts_are_others_than_those_of_the_gate():
    model = Known(square(0.08))
    fit_doses(PLAN, model, Directions(), (4,))
    gate = {scenario.prompt for scenario in Prose().scenarios(n=PLAN.samples.cost, seed=PLAN.seed)}
    asked = {request.prompt for request in model.asked}
    assert len(asked) == TEXTS
    assert not asked & gate


# --- the plan --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", ["text", "text-quick", "text-chat", "quick", "standard", "full"])
def test_suites_fit_doses_unless_they_are_given(suite):
    plan = preset("full", "m", suite=suite)
    assert plan.fit_doses
    assert plan.dose_factor is None
    given = preset("full", "m", suite=suite, doses=(-0.1, 0.0, 0.1))
    assert not given.fit_doses
    assert not preset("full", "organism:steerable").fit_doses
    for factor in FACTORS:
        fitted = plan.fitted(factor)
        assert fitted.window == tuple(dose * factor for dose in plan.window)
        assert fitted.hash != plan.hash
        assert fitted.unfitted == plan


def test_behaviours_by_name_have_the_doses_of_language_models():
    """As `evaluate --behaviour` asks them, in no suite; those of the organisms keep their own."""
    chosen = preset("full", "m", suite="chosen", effects=("praise", "tone"))
    assert (chosen.window, chosen.fit_doses) == ((-0.1, 0.1), True)
    mixed = preset("full", "m", effects=("praise", "feels-arousal", "known-letters"))
    assert (mixed.suite, mixed.window, mixed.fit_doses) == ("chosen", (-0.1, 0.1), True)
    theirs = preset("full", "organism:steerable", suite="chosen", effects=("choice", "preferences"))
    assert (max(theirs.doses), theirs.fit_doses) == (1.5, False)


def test_a_plan_that_is_fitted_takes_the_place_of_itself_only(tmp_path: Path):
    freeze(tmp_path, PLAN)
    fitted = PLAN.fitted(0.25)
    freeze(tmp_path, fitted)
    assert frozen(tmp_path) == fitted
    freeze(tmp_path, PLAN)  # the same command again
    assert frozen(tmp_path) == fitted
    with pytest.raises(InputError, match="seed was 0 and is now 3") as caught:
        freeze(tmp_path, PLAN.changed(seed=3))
    assert "doses" not in str(caught.value)
    with pytest.raises(InputError, match=r"doses was .* dose_factor was 0\.25 and is now 0\.5"):
        freeze(tmp_path, PLAN.fitted(0.5))
    assert load_plan(tmp_path / "plan.json") == fitted


def test_it_comes_back_from_a_file(tmp_path: Path):
    for plan in (PLAN, PLAN.fitted(0.25)):
        write_plan(tmp_path / "plan.toml", plan)
        assert load_plan(tmp_path / "plan.toml") == plan


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dose_factor": 0.3}, "power of two"),
        ({"dose_factor": float("nan")}, "power of two"),
        ({"dose_factor": -0.5}, "power of two"),
        ({"dose_factor": 0.5, "fit_doses": False}, "without fit_doses"),
        ({"operation": "clamp"}, "a smaller dose costs less"),
    ],
)
def test_what_cannot_be_fitted_is_refused(changes, said):
    with pytest.raises(InputError, match=said):
        PLAN.changed(**changes)


def test_what_was_measured_is_read_again(tmp_path: Path):
    fit = fit_doses(PLAN, Known(square(1.2)), Directions(), (4, 7))
    plan = PLAN.fitted(fit.factor)
    assert read_doses(tmp_path, plan) is None
    write_doses(tmp_path, fit)
    assert read_doses(tmp_path, plan) == fit
    assert read_doses(tmp_path, PLAN) is None
    with pytest.raises(InputError, match=r"doses times 0\.25"):
        read_doses(tmp_path, PLAN.fitted(0.5))
    (tmp_path / "doses.json").write_text("{}")
    with pytest.raises(InputError, match="damaged"):
        read_doses(tmp_path, plan)


# --- a real model ----------------------------------------------------------------------------------------------------

SMALL = {
    "select": 2, "effect": 2, "matched": 2, "capability": 2, "harm": 2, "cost": 2, "writing": 2, "check": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def read(smollm2: str, tmp_path_factory: pytest.TempPathFactory):
    """SmolLM2 with the vectors of a few shipped stories."""
    engine = heartstrings.load(smollm2, dtype="float32")
    corpus = shipped_stories()
    some = tuple(s for s in corpus.stories if s.emotion in ("joyful", "desperate", "calm", "angry"))[:16]
    folder = tmp_path_factory.mktemp("read") / "bundle"
    extract(engine, replace(corpus, stories=some), out=folder, poolings=(Pooling(start=20),))
    return engine, folder


def test_doses_follow_the_strength_of_the_push(read):
    """Vectors whose stated norms are four times too large push four times as hard: all of it comes back in the
    factor."""
    engine, folder = read
    vectors = EmotionVectors.load(folder, for_model=engine.info)
    plan = preset("full", "smollm2", suite="text", directions=vectors.emotions[:1], layers=(15,), variant="raw")
    found = []
    for times in (1, 4):
        stronger = replace(vectors, norms=vectors.norms * np.float32(times))
        directions = direction_set(plan, stronger, layers=(15,), stories=None)
        found.append(fit_doses(plan, engine, directions, (15,)))
    own, strong = found
    assert own.factor in FACTORS
    assert strong.factor == own.factor / 4
    assert strong.chosen.worst.kl == pytest.approx(own.chosen.worst.kl, rel=1e-3)
    assert own.steps[0].worst.kl > 0.01
