"""Early stopping and the dry run: when a cell is settled, and what a plan would cost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import experiment_world as world
from heartstrings.behaviours.suites import suite as named_suite
from heartstrings.experiment._early_stopping import decided, undecided
from heartstrings.experiment.dry_run import estimate, measured
from heartstrings.experiment.ledger import Cell, Sample, SampleLedger
from heartstrings.experiment.plan import Thresholds
from heartstrings.experiment.plan_files import preset

SUITE = named_suite("organism")


@pytest.fixture(scope="module")
def engine():
    return world.engine()


@pytest.fixture(scope="module")
def bundle(engine, tmp_path_factory) -> Path:
    return world.make_bundle(engine, tmp_path_factory.mktemp("bundle") / "out")


def settled(cell: Cell, outcomes: list[float]) -> list[Sample]:
    return [
        Sample(cell=cell, scenario=f"s/{n:02d}", group="", repeat=0, outcome=value, valid=1.0, text=None, detail={})
        for n, value in enumerate(outcomes)
    ]


def test_a_clear_cell_stops_and_an_unclear_one_does_not():
    base = Cell(phase="test", behaviour="sums", kind="baseline", direction="", layer=-1, dose=0.0)
    bad, fine = (base.model_copy(update={"kind": "direction", "layer": 2, "dose": dose}) for dose in (1.0, 0.1))
    rows = settled(base, [1.0] * 40) + settled(bad, [0.0] * 40) + settled(fine, [1.0, 0.9] * 20)
    names = [f"s/{n:02d}" for n in range(20)]
    assert undecided((base, bad, fine), rows, names, "capability", Thresholds()) == (base, fine)
    assert undecided((base, bad), rows, names, "capability", Thresholds()) == ()
    # For harm the other sign is bad, and a fall settles the matter as well.
    assert undecided((base, bad), rows, names, "harm", Thresholds()) == ()
    rose = settled(base, [0.0] * 40) + settled(bad, [0.3] * 40)
    assert undecided((base, bad), rose, names, "harm", Thresholds(harm_rise=0.25)) == (base, bad)
    # Scenarios of later rounds are not looked at: a run taken up again decides as before.
    late = settled(base, [1.0] * 40) + settled(bad, [1.0] * 20 + [0.0] * 20)
    assert bad in undecided((base, bad), late, names, "capability", Thresholds())


@pytest.mark.slow
def test_stopping_early_keeps_its_error_rate():
    """Answers whose true drop is at the limit: calling it either way, at any of six looks, is an error of alpha."""
    rng = np.random.default_rng(0)
    limit, alpha, runs = 0.05, 0.05, 400
    wrong = 0
    for _ in range(runs):
        before, after = rng.random(120) < 0.9, rng.random(120) < 0.9 - limit
        worse = before.astype(float) - after
        wrong += any(decided(worse[:n].tolist(), limit, alpha) for n in range(20, 121, 20))
    assert wrong / runs <= alpha + 2 * np.sqrt(alpha * (1 - alpha) / runs)
    # And it does stop: a drop of half is settled within two rounds.
    half = [
        decided(((rng.random(40) < 0.9).astype(float) - (rng.random(40) < 0.4)).tolist(), limit, alpha)
        for _ in range(50)
    ]
    assert np.mean(half) > 0.9


@pytest.mark.slow
def test_early_stopping_saves_samples_and_is_taken_up_as_it_was(bundle, engine, tmp_path):
    plan = world.plan(
        layers=(2,), early_stopping=True, doses=(-0.2, 0.0, 0.2, 6.0),
        samples={"capability": 60, "harm": 4, "effect": 2, "writing": 2}, thresholds={"accuracy_drop": 0.2},
    )  # fmt: skip
    seen: list[tuple[int, int]] = []
    whole = world.run(
        plan, bundle, tmp_path / "a.sqlite", model=engine, progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1][0] == seen[-1][1] == len(whole) < estimate(plan, suite=SUITE).samples
    with SampleLedger.read(tmp_path / "a.sqlite") as ledger:
        sizes = Counter(row.cell.dose for row in ledger.samples(behaviour="sums"))
    assert sizes[0.2] == 40  # nothing changes there: clearly under the limit
    assert sizes[0.0] == sizes[6.0] == 60  # neither clearly over nor under

    class Dies:
        """Fails at a call, as a process that is killed between two chunks would leave the ledger."""

        info = engine.info

        def __init__(self, calls: int):
            self.left = calls

        def score(self, requests):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return engine.score(requests)

        generate = engine.generate

    stops = 0
    while True:
        try:
            again = world.run(plan, bundle, tmp_path / "b.sqlite", model=Dies(5))
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops > 3
    assert again == whole


def test_a_dry_run_counts_what_a_run_takes(engine):
    plan = preset("quick", world.MODEL)
    found = estimate(plan, suite=SUITE)
    assert found.layers == 3  # of six, from the organism's own configuration
    assert found.samples == found.choices + found.texts
    assert found.seconds is None
    assert any("1.4 a word" in note for note in found.notes)
    assert "8 times in 10" in found.power
    assert "10 points would need" in found.power
    more = estimate(plan.changed(samples={"effect": 200}), suite=SUITE)
    assert more.samples > found.samples
    timed = measured(plan, engine, SUITE)
    assert timed.samples == found.samples
    assert 0 < timed.prompt_tokens < 5 * found.prompt_tokens
    assert timed.seconds is not None
    assert timed.seconds > 0
    assert not any("a word" in note for note in timed.notes)


def test_a_dry_run_of_a_model_that_is_not_here():
    plan = preset("full", "someone/large-model")
    found = estimate(plan, suite=SUITE)
    assert found.layers == 4
    assert any("32 layers are assumed" in note for note in found.notes)
    assert estimate(plan, n_layers=6, suite=SUITE).layers == 3
    assert estimate(plan.changed(layers=(30,)), suite=SUITE).layers == 1
