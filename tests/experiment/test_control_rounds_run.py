"""A run whose controls come in rounds: it asks fewer, and its verdict is that of one which asked all."""

from __future__ import annotations

from pathlib import Path

import pytest

import experiment_world as world
from heartstrings import behaviours
from heartstrings.core.engine import Engine
from heartstrings.experiment.ledger import CLAIM_KINDS, CONTROL_KINDS, SampleLedger
from heartstrings.experiment.plan import Plan
from heartstrings.experiment.run import run_experiment
from heartstrings.verdict import Open, decide

CONTROLS = {"general": 20, "span": 20, "topic": 0, "natural": 0}


@pytest.fixture(scope="module")
def model() -> Engine:
    return world.engine()


@pytest.fixture(scope="module")
def bundle(model: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.make_bundle(model, tmp_path_factory.mktemp("bundle"))


def asked(**changes: object) -> Plan:
    samples = {"select": 2, "effect": 2, "matched": 2, "capability": 2, "harm": 2, "writing": 2}
    values = {
        "controls": CONTROLS, "control_round": 16, "claims": {"mixture": 20, "other": 4, "stripped": False},
        "doses": (-0.2, 0.0, 0.2), "prompting": False, "samples": samples,
    }  # fmt: skip
    return world.plan(**values).changed(**changes)


class Script:
    """Opens what it is told to, whatever the samples say."""

    def __init__(self, rounds: dict[int, bool], reached: tuple[str, ...] = ()) -> None:
        self.rounds, self.claims = rounds, reached

    def undecided(self, number: int) -> frozenset[str]:
        return frozenset({"choice"} if self.rounds[number] else ())

    def reached(self, kind: str) -> bool:
        return kind in self.claims


def kinds(rows: list[tuple]) -> dict[str, set[str]]:  # type: ignore[type-arg]
    """Directions that were sampled, by kind."""
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row[2], set()).add(row[3])
    return found


def test_stages_ask_what_is_open_and_no_more(bundle: Path, model: Engine, tmp_path: Path) -> None:
    plan = asked()
    whole = world.run(plan, bundle, tmp_path / "whole.sqlite", model=model)
    said: list[tuple[int, int]] = []

    def run(name: str, still_open: Script) -> list[tuple]:  # type: ignore[type-arg]
        said.clear()
        return world.run(
            plan, bundle, tmp_path / name, model=model, still_open=still_open,
            progress=lambda done, total: said.append((done, total)),
        )  # fmt: skip

    none = run("none.sqlite", Script({0: False}))
    assert not set(kinds(none)) & {*CONTROL_KINDS, *CLAIM_KINDS}
    assert said[-1] == (len(none), len(none)), "progress ends at what was asked"
    some = run("some.sqlite", Script({0: True, 16: False}))
    assert kinds(some)["general"] == {f"general/{number}" for number in range(16)}
    assert not set(kinds(some)) & set(CLAIM_KINDS)
    assert said[-1][0] == said[-1][1] == len(some)
    every = run("every.sqlite", Script({0: True, 16: True, 20: True}, ("mixture", "other")))
    assert {row[:8] for row in every} == {row[:8] for row in whole}, "all stages together are the whole experiment"
    first = run("first.sqlite", Script({0: True, 16: True, 20: True}, ("mixture",)))
    assert set(kinds(every)) - set(kinds(first)) == {"other"}
    assert (
        {row[:8] for row in none} < {row[:8] for row in some} < {row[:8] for row in first} < {row[:8] for row in every}
    )


@pytest.mark.parametrize("scenarios", [2, 8])
def test_a_real_run_gives_the_verdict_of_the_whole(bundle: Path, model: Engine, tmp_path: Path, scenarios: int) -> None:
    """With two scenarios nothing is shown, and no control is asked; with eight the direction exceeds them all."""
    plan, suite = asked(samples={"effect": scenarios, "select": 4}), behaviours.suite("organism")
    directions, answers, sizes = world.directions(plan, bundle), [], []
    for number in range(2):
        with SampleLedger(tmp_path / f"{number}.sqlite", plan) as ledger:
            still_open = Open(plan, suite, ledger) if number else None
            run_experiment(plan, model, directions, ledger, still_open=still_open)
            (card,) = decide(plan, ledger, suite, model="m", encoded="encoded").answers
            # Not the whole card: batches of other sizes round an outcome's eighth digit in another way.
            answers.append((card.answer, card.p, card.missing, [claim.state for claim in card.claims]))
            sizes.append(len(ledger.samples()))
    assert answers[0] == answers[1]
    assert sizes[1] < sizes[0], "what is not shown is not compared any further"


def test_an_interrupted_run_asks_the_same(bundle: Path, model: Engine, tmp_path: Path) -> None:
    plan = asked()
    script = Script({0: True, 16: True, 20: True}, ("mixture",))
    once = world.run(plan, bundle, tmp_path / "once.sqlite", model=model, still_open=script)

    class Stop(Exception):
        pass

    for limit in (1, 25, 200, 500):

        def stop(done: int, total: int, limit: int = limit) -> None:
            if done > limit:
                raise Stop

        with pytest.raises(Stop):
            world.run(plan, bundle, tmp_path / "often.sqlite", model=model, still_open=script, progress=stop)
    assert world.run(plan, bundle, tmp_path / "often.sqlite", model=model, still_open=script) == once
