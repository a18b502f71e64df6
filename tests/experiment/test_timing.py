"""The time of a plan, from engines whose every answer takes a known time on a clock of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
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
from heartstrings.experiment import _contention
from heartstrings.experiment import _timing as timing
from heartstrings.experiment._contention import Contention
from heartstrings.experiment._timing import time_plan
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


def _prompt(request: Any) -> str:
    return request.prompt if isinstance(request.prompt, str) else request.prompt[-1].content


@dataclass
class Clocked:
    """Takes `text` seconds for each distinct prompt of a call, `row` for each request and `word` for each word of its
    prompt, `step` for each token that all rows of a call write side by side, `token` for each token of each of them."""

    text: float = 0.0
    word: float = 0.0
    row: float = 0.0
    step: float = 0.0
    token: float = 0.0
    depth: float = 0.0
    """For each request, the share of the blocks above the layer that it is steered at."""
    ends_after: int = 10**6
    """New tokens after which a text ends by itself."""
    now: float = 0.0
    asked: Counter[str] = field(default_factory=Counter)
    steered: set[Any] = field(default_factory=set)
    info: ModelInfo = INFO

    def _reads(self, requests: Sequence[Any]) -> None:
        prompts = [_prompt(one) for one in requests]
        self.now += self.text * len(set(prompts)) + self.row * len(requests)
        self.now += self.word * sum(len(prompt.split()) for prompt in prompts)
        at = [0 if one.steering is None else one.steering.interventions[0].layer for one in requests]
        self.now += self.depth * sum((LAYERS - layer) / LAYERS for layer in at)
        self.steered |= {one.steering for one in requests}

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        self._reads(requests)
        self.asked["score"] += len(requests)
        nothing = np.full(1, -1.0, np.float32)
        return [
            Score(
                (-1.0,) * len(one.continuations),
                (nothing,) * len(one.continuations),
                ((1,),),
                5,
                (nothing + 1.0,) * len(one.continuations) if one.divergence else None,
            )
            for one in requests
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
        monkeypatch.setattr(
            timing, "time", SimpleNamespace(perf_counter=lambda: engine.now, process_time=lambda: engine.now)
        )
        return engine

    return use


def taken(plan: Plan, suite: Suite, engine: Clocked, unclear: Sequence[str] = ()) -> float:
    """What all samples of a plan take, chunk by chunk, as the experiment takes them."""
    names, layers = Planned(plan), searched_layers(plan, LAYERS)
    sampling, start = timing._sampling(plan, engine), engine.now
    jobs = [
        *select_jobs(plan, suite, names, layers, unclear=unclear),
        *test_jobs(plan, suite, names, timing._spread(plan, names, layers), unclear=unclear),
    ]
    for job in jobs:
        sampling.steerings = {cell: sampling.directions.steering(cell, plan) for cell in job.cells}
        items = job.items()
        while chunk := list(islice(items, CHUNK[job.behaviour.ask])):
            sampling.take(job.behaviour, chunk)
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
    timed = time_plan(plan, on(Clocked(**COSTS[name])), asked, tokens=sevens)
    real = taken(plan, asked, on(Clocked(**COSTS[name])), timed.unclear or ())
    assert timed.unclear is not None
    assert real / 1.2 < timed.seconds < real * 1.2
    assert abs(timed.seconds - real) < 4 * timed.error + 0.02 * real
    assert not any(one.cut for one in timed.jobs)


def test_layers_and_scenarios_of_unequal_cost_bias_nothing(on: Any) -> None:
    """Rows above a layer cost what lies above it, and prompts what they are long: means over plans of other seeds."""
    asked = named_suite("organism")
    ratios = []
    for seed in range(12):
        plan = preset("quick", "clocked", suite="organism", seed=seed)
        cost = {"word": 1e-4, "depth": 2e-3, "row": 1e-4}
        timed = time_plan(plan, on(Clocked(**cost)), asked, tokens=words, limit=10.0)
        ratios.append(timed.seconds / taken(plan, asked, on(Clocked(**cost)), timed.unclear or ()))
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.05)
    assert np.std(ratios) < 0.1


def test_more_time_gives_a_smaller_error_and_is_not_exceeded(on: Any) -> None:
    plan, asked = preset("quick", "clocked", suite="organism"), named_suite("organism")
    errors = []
    for limit in (5.0, 20.0, 80.0):
        engine = on(Clocked(word=2e-3, depth=4e-2, row=1e-3))
        timed = time_plan(plan, engine, asked, tokens=words, limit=limit)
        assert timed.took == engine.now
        assert timed.took < 1.5 * limit
        errors.append(timed.error / timed.seconds)
    assert errors[0] > timing.ENOUGH >= errors[2]


def test_texts_that_take_too_long_are_taken_to_their_limit(on: Any) -> None:
    plan = preset("quick", "clocked", suite="organism")
    suite = named_suite("organism")
    engine = on(Clocked(row=1e-4, step=2.0, token=0.01))
    found = measured(plan, engine, suite)
    assert found.seconds is not None
    assert engine.now < 100
    assert any("every text of stories to run to its limit" in note for note in found.notes)
    # From batches of two and of eight: what a batch of a whole chunk would take, as all costs are linear here.
    job = _job(plan, suite, "stories", engine)
    timing._size_of_texts(job, share=0.0)
    n, most = job.piece, min(CHUNK["text"], len(job.job))
    assert n == timing.GROWTH * timing.FIRST_TEXTS < most
    chunk = most * (2 * 1e-4 + 0.01 * 64) + 2.0 * 64  # two calls for each text: it is written, then read
    assert job.pieces[0][0] == pytest.approx(chunk / most * n, rel=0.01)
    assert job.result().cut
    assert job.job.behaviour.ask == "text"


def test_texts_are_timed_in_whole_chunks_if_the_time_is_enough(on: Any) -> None:
    """A step of a full batch costs little more than one of two texts: small batches would say many times too much."""
    plan, suite = preset("quick", "clocked", suite="organism"), named_suite("organism")
    engine = on(Clocked(row=1e-4, step=0.02, token=1e-5))
    job = _job(plan, suite, "stories", engine)
    timing._size_of_texts(job, share=8.0)
    assert job.piece == CHUNK["text"]
    assert not job.result().cut


def sevens(requests: Sequence[Any]) -> list[int]:
    return [7] * len(requests)


def words(requests: Sequence[Any]) -> list[int]:
    return [len(_prompt(one).split()) for one in requests]


def _job(plan: Plan, suite: Suite, name: str, engine: Clocked) -> Any:
    names = Planned(plan)
    jobs = test_jobs(plan, suite, names, timing._spread(plan, names, searched_layers(plan, LAYERS)))
    make = timing._Maker(plan, engine, timing._sampling(plan, engine), sevens)
    return make(next(job for job in jobs if job.behaviour.name == name))


def test_timing_a_slow_engine_stops_early(on: Any) -> None:
    plan, suite = preset("quick", "clocked", suite="organism"), named_suite("organism")
    engine = on(Clocked(row=5.0))
    timed = time_plan(plan, engine, suite, tokens=sevens)
    names = Planned(plan)
    layers = searched_layers(plan, LAYERS)
    jobs = (
        *select_jobs(plan, suite, names, layers),
        *test_jobs(plan, suite, names, timing._spread(plan, names, layers)),
    )
    assert {(one.behaviour, one.phase) for one in timed.jobs} == {
        (job.behaviour.name, job.cells[0].phase) for job in jobs
    }
    assert timed.unclear == ()  # this suite has no questions with a known answer
    warm_up = timing.FIRST_TEXTS * len(layers)
    texts = 16 * timing.FIRST_TEXTS  # their answers are scored too
    assert engine.asked["score"] <= warm_up + timing.FIRST * len(jobs) + texts
    choice = next(one for one in timed.jobs if (one.behaviour, one.phase) == ("choice", "test"))
    assert choice.seconds == pytest.approx(5.0 * choice.samples, rel=0.5)


def test_controls_that_will_not_be_asked_take_no_time(on: Any) -> None:
    """The questions with a known answer are asked; where the model fails them, the time is without controls."""
    plan, suite = preset("quick", "clocked", suite="quick"), named_suite("quick")
    found = measured(plan, on(Clocked(row=1e-4)), suite)
    assert any("the model fails the known answers of" in note for note in found.notes)
    timed = time_plan(plan, on(Clocked(row=1e-4)), suite, tokens=sevens)
    assert timed.unclear
    assert sum(one.samples for one in timed.jobs) < found.samples


def test_pieces_are_neighbours_within_a_chunk_and_cover_all_cells(on: Any) -> None:
    plan, suite = preset("quick", "clocked", suite="organism"), named_suite("organism")
    job = _job(plan, suite, "choice", on(Clocked()))
    everything = list(job.job.items())
    place = {item.key: number for number, item in enumerate(everything)}
    seen: Counter[int] = Counter()
    for _ in range(4000):
        numbers = [place[item.key] for item in job.window(32)]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert numbers[0] // CHUNK["choice"] == numbers[-1] // CHUNK["choice"]
        seen.update(numbers)
    assert set(seen) == set(range(len(everything)))
    assert job.size(everything) == pytest.approx(job.size())


def test_requests_are_steered_as_the_experiment_steers(on: Any) -> None:
    plan, suite = preset("quick", "clocked", suite="organism", operation="clamp", site="mlp"), named_suite("organism")
    engine = on(Clocked(row=1e-4))
    time_plan(plan, engine, suite, tokens=sevens)
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
    job = _job(plan, suite, "blackmail", on(Clocked(step=1.0)))
    limit = effect.request(job.job.item(0).scenario, steering=None, seed=0).max_new_tokens
    timing._size_of_texts(job, share=0.0)
    assert job.seconds == pytest.approx(limit * effect.turns / CHUNK["dialogue"] * len(job.job))


def test_a_plan_of_one_layer_and_no_controls(on: Any) -> None:
    plan = preset(
        "quick", "clocked", suite="organism", layers=(2,), controls=dict.fromkeys(("general", "span", "shuffled"), 0)
    )
    told: list[tuple[int, int]] = []
    found = measured(plan, on(Clocked(row=1e-4)), named_suite("organism"), progress=lambda *at: told.append(at))
    assert found.seconds is not None
    assert found.seconds > 0
    assert told
    assert all(0 <= done <= total == timing.TIME for done, total in told)
    assert estimate(plan, suite=named_suite("organism")).seconds is None


def a_contention(**changed: Any) -> Contention:
    return Contention(**({"processors": 2, "threads": 1, "others": 1.6, "share": 0.4} | changed))


def test_a_busy_machine_is_told_in_a_sentence(on: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, suite = preset("quick", "clocked", suite="organism"), named_suite("organism")
    for found, idle in ((a_contention(), 0.4), (a_contention(others=0.3), None), (a_contention(threads=2), None)):
        monkeypatch.setattr(_contention, "between", lambda *_, found=found: found)
        dry = measured(plan, on(Clocked(row=1e-4)), suite)
        assert dry.seconds is not None
        assert any("other processes kept" in note for note in dry.notes) == found.busy
        assert dry.idle_seconds == (None if idle is None else pytest.approx(idle * dry.seconds))


def test_when_a_machine_is_busy() -> None:
    assert a_contention().busy
    assert not a_contention(others=1.0).busy  # a processor is left for our thread
    assert a_contention(others=0.5, threads=2).busy
    assert not a_contention(others=None).busy
    assert a_contention(share=1.02).idle == 1.0
    before, after = _contention.Reading(10.0, 4.0, 100.0), _contention.Reading(20.0, 8.0, 119.0)
    found = _contention.between(before, after)
    assert found.others == pytest.approx(1.5)
    assert found.share == pytest.approx(0.4)
    assert _contention.between(before, after._replace(all=None)).others is None


@pytest.mark.parametrize("text", ["", "cpu  1 2", "nothing"])
def test_a_system_that_does_not_count_is_not_called_busy(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stat").write_text(text)
    monkeypatch.setattr(_contention, "STAT", tmp_path / ("stat" if text else "none"))
    assert _contention.read().all is None
    assert not _contention.between(_contention.read(), _contention.read()).busy


@pytest.mark.slow
def test_a_real_engine_is_left_as_it_was_and_timed() -> None:
    engine = world.engine()
    plan, suite = preset("quick", world.MODEL), named_suite("organism")
    job = _job(plan, suite, "choice", engine)
    first = [job.job.behaviour.request(worded(item), steering=None, seed=0) for item in islice(job.job.items(), 2)]
    before = engine.score(first)
    timed = time_plan(plan, engine, suite, tokens=sevens, limit=1.0)
    assert all(one.seconds > 0 for one in timed.jobs)
    assert [one.logprobs for one in engine.score(first)] == [one.logprobs for one in before]
