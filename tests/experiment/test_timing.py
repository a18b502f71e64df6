"""The time of a plan, from engines whose every answer takes a known time on a clock of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import experiment_world as world
from heartstrings.behaviours.base import Dialogue
from heartstrings.behaviours.roles import Suite
from heartstrings.behaviours.suites import suite as named_suite
from heartstrings.behaviours.suites import suite_of
from heartstrings.core.engine import Completion, GenerateRequest, Score, ScoreRequest
from heartstrings.core.types import ModelInfo
from heartstrings.experiment import _timing as timing
from heartstrings.experiment.cells import Planned, select_jobs, test_jobs
from heartstrings.experiment.dry_run import estimate, measured
from heartstrings.experiment.plan import Plan, searched_layers
from heartstrings.experiment.plan_files import preset
from heartstrings.experiment.run import CHUNK, worded

LAYERS = 6
INFO = ModelInfo(
    model_id="clocked", revision=None, architecture="none", n_layers=LAYERS, width=8, is_encoder=False,
    dtype="float32", device="cpu", engine="none", weights_hash="none",
)  # fmt: skip


@dataclass
class Clocked:
    """Takes `text` seconds for each distinct prompt of a call, `row` for each request and `word` for each word of its
    prompt, `step` for each token that all rows of a call write side by side, `token` for each token of each of them."""

    text: float = 0.0
    word: float = 0.0
    row: float = 0.0
    step: float = 0.0
    token: float = 0.0
    ends_after: int = 10**6
    """New tokens after which a text ends by itself."""
    now: float = 0.0
    asked: Counter[str] = field(default_factory=Counter)
    steered: set[Any] = field(default_factory=set)
    info: ModelInfo = INFO

    def _reads(self, requests: Sequence[Any]) -> None:
        prompts = [one.prompt if isinstance(one.prompt, str) else one.prompt[-1].content for one in requests]
        self.now += self.text * len(set(prompts)) + self.row * len(requests)
        self.now += self.word * sum(len(prompt.split()) for prompt in prompts)
        self.steered |= {one.steering for one in requests}

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        self._reads(requests)
        self.asked["score"] += len(requests)
        nothing = np.full(1, -1.0, np.float32)
        return [
            Score((-1.0,) * len(one.continuations), (nothing,) * len(one.continuations), ((1,),), 5) for one in requests
        ]

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Completion]:
        self._reads(requests)
        self.asked["generate"] += len(requests)
        lengths = [min(one.max_new_tokens, self.ends_after) for one in requests]
        self.now += self.step * max(lengths) + self.token * sum(lengths)
        return [
            Completion("a b", (1,) * n, "eos" if n == self.ends_after else "length", 5, one.seed)
            for one, n in zip(requests, lengths, strict=True)
        ]

    def count_tokens(self, texts: Sequence[str], *, max_tokens: int = 512) -> Any:
        return np.array([len(text.split()) for text in texts])


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has time pass as an engine says."""

    def use(engine: Clocked) -> Clocked:
        monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: engine.now))
        return engine

    return use


def taken(plan: Plan, suite: Suite, engine: Clocked) -> float:
    """What all samples of a plan take, chunk by chunk."""
    names, layers = Planned(plan), searched_layers(plan, LAYERS)
    start = engine.now
    jobs = [
        *select_jobs(plan, suite, names, layers),
        *test_jobs(plan, suite, names, timing._spread(plan, names, layers)),
    ]
    for job in jobs:
        asking, items = timing._Asking(plan, engine, job), job.items()
        while chunk := list(islice(items, CHUNK[job.behaviour.ask])):
            answers, _ = asking.answers(asking.requests(chunk), None)
            more = [asking.second(item, answer) for item, answer in zip(chunk, answers, strict=True)]
            if any(more):
                engine.score([one for one in more if one is not None])
    return engine.now - start


COSTS = {
    "rows": {"row": 1e-3, "token": 1e-5},
    "words": {"word": 1e-5, "token": 1e-5},
    "shared prompts": {"text": 0.01, "row": 1e-4, "step": 1e-3},
    "long texts": {"row": 1e-4, "step": 0.03, "token": 1e-4},
    "texts that end": {"row": 1e-4, "step": 0.03, "ends_after": 9},
}


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("suite", ["organism", pytest.param("quick", marks=pytest.mark.slow)])
def test_the_estimate_is_what_the_samples_take(name: str, suite: str, on: Any) -> None:
    """On engines that are fast enough to be timed on whole chunks."""
    plan = preset("quick", "clocked", suite=suite)
    asked = named_suite(suite)
    found = measured(plan, on(Clocked(**COSTS[name])), asked)
    real = taken(plan, asked, on(Clocked(**COSTS[name])))
    assert found.seconds is not None
    assert real / 1.3 < found.seconds < real * 1.3
    assert any("run to its limit" in note for note in found.notes) == (suite == "quick" and name == "long texts")


def test_texts_that_take_too_long_are_taken_to_their_limit(on: Any) -> None:
    plan = preset("quick", "clocked", suite="organism")
    suite = named_suite("organism")
    engine = on(Clocked(row=1e-4, step=2.0, token=0.01))
    found = measured(plan, engine, suite)
    assert found.seconds is not None
    assert engine.now < 100
    assert any("every text of stories to run to its limit" in note for note in found.notes)
    # Two texts at a time cost a step each that many would share; what one takes is exact.
    stories = next(one for one in suite.all if one.name == "stories")
    one = timing._texts(timing._Asking(plan, engine, _job(plan, suite, "stories")), share=0.0)
    assert one.sample * 2 == pytest.approx(2 * 1e-4 * 2 + 2.0 * 64 + 2 * 0.01 * 64, rel=0.01)
    assert one.cut
    assert stories.ask == "text"


def sevens(requests: Sequence[Any]) -> list[int]:
    return [7] * len(requests)


def _job(plan: Plan, suite: Suite, name: str) -> Any:
    names = Planned(plan)
    jobs = test_jobs(plan, suite, names, timing._spread(plan, names, searched_layers(plan, LAYERS)))
    return next(job for job in jobs if job.behaviour.name == name)


def test_timing_a_slow_engine_stops_early(on: Any) -> None:
    plan, suite = preset("quick", "clocked", suite="organism"), named_suite("organism")
    engine = on(Clocked(row=5.0))
    timed = timing.time_behaviours(plan, engine, suite, tokens=sevens)
    behaviours = {
        job.behaviour.name for job in test_jobs(plan, suite, Planned(plan), timing._spread(plan, Planned(plan), (2,)))
    }
    assert set(timed) == behaviours
    warm_up = timing.FIRST * len(searched_layers(plan, LAYERS))
    assert engine.asked["score"] <= warm_up + timing.FIRST * len(behaviours) + 2 * timing.FIRST  # texts are scored too
    assert timed["choice"].sample == pytest.approx(5.0)
    assert timed["choice"].seconds(14.0) == pytest.approx(10.0)


def test_requests_are_steered_as_the_experiment_steers(on: Any) -> None:
    plan, suite = preset("quick", "clocked", suite="organism", operation="clamp", site="mlp"), named_suite("organism")
    engine = on(Clocked(row=1e-4))
    timing.time_behaviours(plan, engine, suite, tokens=sevens)
    steerings = [one for one in engine.steered if one is not None]
    assert len(steerings) > 300
    assert None in engine.steered
    for one in (each for steering in steerings for each in steering.interventions):
        assert (one.operation, one.site) == ("clamp", "mlp")
        assert one.dose in plan.doses
        assert one.layer in searched_layers(plan, LAYERS)
    assert len({one.interventions[0].direction.tobytes() for one in steerings}) > 100


def test_dialogues_count_with_all_their_turns(on: Any) -> None:
    plan = preset("quick", "clocked", effects=("blackmail",))
    suite = suite_of(plan)
    found = measured(plan, on(Clocked(row=1e-5, step=1e-4)), suite)
    first = measured(plan, on(Clocked(row=1e-5, step=1e-4)), suite)
    assert any("the time of blackmail, blackmail-harmless is that of first turns" in note for note in found.notes)
    assert found.seconds == first.seconds
    effect = suite.behaviour("blackmail")
    assert isinstance(effect, Dialogue)
    asking = timing._Asking(plan, on(Clocked(step=1.0)), _job(plan, suite, "blackmail"))
    limit = effect.request(asking.items[0].scenario, steering=None, seed=0).max_new_tokens
    assert timing._texts(asking, share=0.0).sample == pytest.approx(limit * effect.turns / timing.FIRST)


def test_a_plan_of_one_layer_and_no_controls(on: Any) -> None:
    plan = preset(
        "quick", "clocked", suite="organism", layers=(2,), controls=dict.fromkeys(("general", "span", "shuffled"), 0)
    )
    found = measured(plan, on(Clocked(row=1e-4)), named_suite("organism"))
    assert found.seconds is not None
    assert found.seconds > 0
    assert estimate(plan, suite=named_suite("organism")).seconds is None


@pytest.mark.slow
def test_a_real_engine_is_left_as_it_was_and_timed() -> None:
    engine = world.engine()
    plan, suite = preset("quick", world.MODEL), named_suite("organism")
    job = _job(plan, suite, "choice")
    first = [job.behaviour.request(worded(item), steering=None, seed=0) for item in islice(job.items(), 2)]
    before = engine.score(first)
    timed = timing.time_behaviours(plan, engine, suite, tokens=sevens, limit=1.0)
    assert all(one.sample > 0 for one in timed.values())
    assert [one.logprobs for one in engine.score(first)] == [one.logprobs for one in before]
