"""The time that `heartstrings plan` predicts, against the time that the experiment takes.

    OMP_NUM_THREADS=1 python bench/plan_time.py MODEL --atlas FOLDER [--suite text-quick] [--behaviour feels,tone]
        [--controls 20] [--timing 60] [--times 3]

The prediction is made several times, then every sample of the plan is taken, into a ledger that is thrown away. On one
thread the processor times are compared too: they mean something while other processes run. A later prediction finds
shared blocks already checked; so does the experiment.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import heartstrings
from heartstrings import experiment, vectors
from heartstrings.behaviours.suites import suite_of
from heartstrings.experiment.plan import searched_layers
from heartstrings.experiment.plan_files import preset
from heartstrings.vectors.bundle import main_bundle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--atlas", required=True, type=Path)
    parser.add_argument("--suite", default="organism")
    parser.add_argument("--behaviour", default=None)
    parser.add_argument("--controls", type=int, default=None, help="of each of the kinds topic and natural")
    parser.add_argument("--timing", type=float, default=60.0)
    parser.add_argument("--times", type=int, default=3)
    given = parser.parse_args()
    changes: dict[str, object] = {"suite": given.suite}
    if given.behaviour:
        changes["effects"] = tuple(given.behaviour.split(","))
    if given.controls:
        changes["controls"] = {"general": 0, "topic": given.controls, "natural": given.controls}
    plan = preset("quick", given.model, **changes)
    suite, engine = suite_of(plan), heartstrings.load(given.model)
    bundle = main_bundle(given.atlas)
    emotions = vectors.EmotionVectors.load(bundle)
    directions = experiment.direction_set(
        plan, emotions, layers=searched_layers(plan, engine.info.n_layers),
        stories=experiment.read_story_activations(bundle, emotions),
    )  # fmt: skip
    predicted = []
    for _ in range(given.times):
        start = time.perf_counter()
        found = experiment.measured(plan, engine, suite, limit=given.timing)
        predicted.append(found)
        print(
            f"predicted {found.seconds:8.1f} s, standard error {found.seconds_error:.1f}, idle "
            f"{'-' if found.idle_seconds is None else format(found.idle_seconds, '.1f')}; took "
            f"{time.perf_counter() - start:.0f} s",
            flush=True,
        )
    for note in found.notes:
        print(note)
    with (
        tempfile.TemporaryDirectory() as folder,
        experiment.SampleLedger(Path(folder) / "ledger.sqlite", plan) as ledger,
    ):
        wall, own = time.perf_counter(), time.process_time()
        experiment.run_experiment(plan, engine, directions, ledger, suite=suite)
        wall, own = time.perf_counter() - wall, time.process_time() - own
        n = sum(1 for _ in ledger.samples())
    print(f"taken     {wall:8.1f} s, processor {own:.1f} s, {n:,} samples of {found.samples:,}")
    for one in predicted:
        idle = "-" if one.idle_seconds is None else f"{one.idle_seconds / own:.2f}"
        print(f"predicted / taken {one.seconds / wall:.2f}, idle / processor {idle}")


if __name__ == "__main__":
    main()
