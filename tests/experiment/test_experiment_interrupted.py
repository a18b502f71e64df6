"""Killed at random moments, and two at once: the table is bitwise that of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import experiment_world as world
from heartstrings.experiment.ledger import SampleLedger

SCRIPT = Path(__file__).parents[1] / "experiment_world.py"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return world.make_bundle(world.engine(), tmp_path_factory.mktemp("bundle") / "out")


def start(bundle: Path, ledger: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(bundle), str(ledger)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out, err


@pytest.mark.slow
def test_killed_ten_times_at_random_moments(bundle, tmp_path):
    undisturbed, disturbed = tmp_path / "a.sqlite", tmp_path / "b.sqlite"
    process = start(bundle, undisturbed)
    process.stdout.readline()  # imports and loading are not timed: on a busy machine they would take most of it
    began = time.monotonic()
    out, _ = finish(process)
    wanted = world.table(undisturbed)
    assert len(wanted) > 500
    whole = time.monotonic() - began
    total = int(out.splitlines()[-1].split()[1])
    assert total == len(wanted)

    draws = random.Random(7)
    grown = [0]
    for _ in range(10):
        process = start(bundle, disturbed)
        process.stdout.readline()  # it is at work: the first chunk is recorded or was there
        time.sleep(draws.uniform(0, 0.1 * whole))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        with SampleLedger.read(disturbed) as ledger:
            assert ledger.count() == len(ledger.keys()) <= total
            grown.append(ledger.count())
        # What is there is already what will be: nothing is written that a later run corrects.
        assert set(world.table(disturbed)) <= set(wanted)
    assert process.returncode == -signal.SIGKILL
    assert grown == sorted(grown)
    assert 0 < grown[1] < total  # at least one of the kills was in the midst of it
    finish(start(bundle, disturbed))
    assert world.table(disturbed) == wanted


@pytest.mark.slow
def test_two_at_once_on_one_ledger(bundle, tmp_path):
    path = tmp_path / "l.sqlite"
    first = start(bundle, path)
    first.stdout.readline()
    os.kill(first.pid, signal.SIGSTOP)  # so that it is still there when the second one comes
    second = start(bundle, path)
    _, err = second.communicate(timeout=120)
    assert second.returncode != 0
    assert f"another process (number {first.pid}) is writing to" in err
    with SampleLedger.read(path) as reader:
        assert reader.count() > 0
    os.kill(first.pid, signal.SIGCONT)
    finish(first)
    with SampleLedger.read(path) as reader:
        assert reader.count() == len(reader.keys()) > 500


@pytest.mark.slow
def test_an_interrupt_within_a_chunk_leaves_whole_chunks(bundle, tmp_path):
    """The quick version of the above, in this process: cut off at every call of the engine, once each."""
    model = world.engine()
    plan = world.plan(layers=(2,))
    wanted = world.run(plan, bundle, tmp_path / "a.sqlite", model=model)

    class Cut:
        info = model.info

        def __init__(self) -> None:
            self.calls = 0

        def ask(self, verb, requests):
            self.calls += 1
            if self.calls == 3:
                raise KeyboardInterrupt
            return verb(requests)

        def score(self, requests):
            return self.ask(model.score, requests)

        def generate(self, requests):
            return self.ask(model.generate, requests)

    cuts = 0
    while True:
        try:
            again = world.run(plan, bundle, tmp_path / "b.sqlite", model=Cut())
            break
        except KeyboardInterrupt:
            cuts += 1
            assert set(world.table(tmp_path / "b.sqlite")) <= set(wanted)
    assert cuts > 5
    assert again == wanted
