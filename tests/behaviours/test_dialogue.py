"""Dialogues in an experiment: turns of all that go on in one batch, seeds a turn, resumed like everything else."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest

import experiment_world as world
from heartstrings.behaviours.base import Dialogue, Grade, Scenario
from heartstrings.behaviours.roles import Suite
from heartstrings.core.engine import GenerateRequest, Message
from heartstrings.core.steering import Steering
from heartstrings.experiment.dry_run import estimate


@dataclass(frozen=True)
class Doubting:
    """Asks, doubts once or twice, and counts what was said; ends early where the scenario says so."""

    name: str = "choice"  # plans know their suite's effects by name
    role: Any = "effect"
    ask: Any = "dialogue"
    outcome_name: str = "share of turns with a full stop"
    neutral: str = "Says something."
    turns: int = 3

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        return tuple(
            Scenario(f"choice/{i:04d}", (Message("user", f"What are {i} and {seed}?"),), data={"turns": 1 + i % 4})
            for i in range(n)
        )

    def request(self, scenario: Scenario, *, steering: Steering | None, seed: int) -> GenerateRequest:
        return GenerateRequest(scenario.prompt, max_new_tokens=6, seed=seed, steering=steering)

    def follow_up(self, scenario: Scenario, answer: Any) -> None:
        raise AssertionError("not called for dialogues")

    def grade(self, scenario: Scenario, answer: Any, follow_up: Any = None) -> Grade:
        raise AssertionError("not called for dialogues")

    def further(self, scenario: Scenario, first: GenerateRequest, answers: Any) -> GenerateRequest | None:
        if len(answers) >= scenario.data["turns"]:
            return None
        chat = list(first.prompt)
        for answer in answers:
            chat += [Message("assistant", answer.text), Message("user", "Are you sure?")]
        return replace(first, prompt=tuple(chat), seed=0, steering=None)  # the experiment sees to both

    def grade_dialogue(self, scenario: Scenario, answers: Any) -> Grade:
        share = sum("." in answer.text for answer in answers) / len(answers)
        seeds = float(len({answer.seed for answer in answers}))
        text = " | ".join(answer.text for answer in answers)
        return Grade(share, 1.0, text, {"turns": float(len(answers)), "seeds": seeds})


@pytest.fixture(scope="module")
def engine() -> Any:
    return world.engine()


@pytest.fixture(scope="module")
def bundle(engine: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return world.make_bundle(engine, tmp_path_factory.mktemp("bundle") / "out")


def a_plan() -> Any:
    plain = world.plan(layers=(2,), doses=(-0.2, 0.0, 0.2), samples={"select": 2, "effect": 6})
    return plain.changed(prompting=False)


SUITE = Suite("doubting", (Doubting(),))


@dataclass
class Watched:
    """The engine, and what it was asked."""

    inner: Any
    asked: list[Any]
    cut: int | None = None

    @property
    def info(self) -> Any:
        return self.inner.info

    def generate(self, requests: Any) -> Any:
        self.asked += requests
        if self.cut is not None and len(self.asked) > self.cut:
            raise KeyboardInterrupt
        return self.inner.generate(requests)


def test_it_is_a_dialogue() -> None:
    assert isinstance(Doubting(), Dialogue)


@pytest.mark.slow
def test_turns_are_asked_as_planned_and_resumed(engine: Any, bundle: Any, tmp_path: Any) -> None:
    watched = Watched(engine, [])
    rows = world.run(a_plan(), bundle, tmp_path / "a.sqlite", model=watched, suite=SUITE)
    cells = 1 + 2 * 41
    assert len(rows) == 6 * cells
    details = {int(row[6][-1]): row[12] for row in rows}
    assert sorted(details) == [2, 3, 4, 5, 6, 7]
    for number, detail in details.items():
        expected = float(min(3, 1 + number % 4))
        assert json.loads(detail) == {"turns": expected, "seeds": expected}
    # Every turn of a steered sample is steered, and sampled with the seed of its scenario and turn alone.
    baseline = [request for request in watched.asked if request.steering is None]
    per_sample = sum(min(3, 1 + i % 4) for i in range(2, 8))
    assert len(baseline) == per_sample
    assert len(watched.asked) == per_sample * cells
    assert len({request.seed for request in watched.asked}) == per_sample

    cut = 0
    for limit in (10, 300, 700, None):
        try:
            again = world.run(
                a_plan(), bundle, tmp_path / "b.sqlite", model=Watched(engine, [], limit), suite=SUITE
            )  # fmt: skip
        except KeyboardInterrupt:
            cut += 1
    assert cut >= 2
    assert again == rows


def test_its_cost_counts_every_turn() -> None:
    found = estimate(a_plan(), n_layers=6, suite=SUITE)
    assert found.texts == 3 * 6 * (1 + 2 * 41)
    assert found.new_tokens == 6 * found.texts
