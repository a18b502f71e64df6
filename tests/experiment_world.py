"""A small experiment on a bundled organism: a bundle from a few stories, a plan of some hundred samples."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any
from unittest.mock import patch

from heartstrings import organisms
from heartstrings.core.engine import Engine
from heartstrings.core.types import Pooling
from heartstrings.corpus import Corpus
from heartstrings.experiment.controls import DirectionSet, direction_set
from heartstrings.experiment.ledger import SampleLedger
from heartstrings.experiment.plan import Plan, searched_layers
from heartstrings.vectors.bundle import load as load_bundle
from heartstrings.vectors.extraction import extract

EMOTIONS = ("desperate", "calm", "joyful", "sad", "afraid", "angry", "proud", "bored")
MODEL = "organism:steerable"


def engine() -> Engine:
    import heartstrings

    return heartstrings.load(MODEL)


def make_bundle(model: Engine, out: Path) -> Path:
    """A bundle of eight emotions from four stories each; returns its folder."""
    stories = organisms.stories(per_emotion=4)
    some = tuple(story for story in stories.stories if story.emotion in EMOTIONS)
    corpus = Corpus(some, author=stories.author, source=stories.source)
    extract(model, corpus, out=out, neutral=organisms.neutral(n=24), poolings=(Pooling(start=50),))
    return out


def plan(**changes: Any) -> Plan:
    """One direction, two layers, the fewest controls that a plan may have."""
    small = Plan(
        model=MODEL, directions=("desperate",), layers=(2, 3), doses=(-0.2, 0.0, 0.2, 1.0), seed=5,
        controls={"general": 20, "span": 20, "topic": 0, "natural": 0, "shuffled": 0},
        samples={"select": 3, "effect": 4, "matched": 3, "capability": 4, "harm": 3, "writing": 2},
    )  # fmt: skip
    return small.changed(**changes)


def directions(of: Plan, bundle: Path) -> DirectionSet:
    vectors = load_bundle(bundle)
    return direction_set(of, vectors, layers=searched_layers(of, len(vectors.layers)), stories=None)


def table(path: Path) -> list[tuple[Any, ...]]:
    """Every row and column as SQLite holds them: floats bit by bit."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        rows = db.execute("SELECT * FROM samples").fetchall()
    db.close()
    return sorted(rows, key=repr)


def run(of: Plan, bundle: Path, path: Path, *, model: Engine | None = None, **more: Any) -> list[tuple[Any, ...]]:
    """Run a plan to its end, in small chunks, and return its table."""
    from heartstrings.experiment import run as experiment

    small = patch.object(experiment, "CHUNK", {"choice": 24, "text": 4, "dialogue": 4})
    with small, SampleLedger(path, of) as ledger:
        experiment.run_experiment(of, model or engine(), directions(of, bundle), ledger, **more)
    return table(path)


if __name__ == "__main__":  # run in a process of its own: BUNDLE LEDGER; prints each step
    import sys

    import torch

    torch.set_num_threads(1)
    where, ledger_path = Path(sys.argv[1]), Path(sys.argv[2])
    run(plan(), where, ledger_path, progress=lambda done, total: print(done, total, os.getpid(), flush=True))
