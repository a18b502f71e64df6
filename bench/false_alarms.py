"""How often does the instrument say `controls` of a direction that should not?

    python bench/false_alarms.py --out alarms [--each 100] [--workers 2]

On `steerable`: directions drawn at random, and vectors that the stories give with shuffled labels. On `inert`: the real
emotion vectors and blends of them, along which emotion is encoded and behaviour ignores it. Each direction gets a
verdict of its own (one test, so that no correction hides an alarm) with 120 controls, the layer search included. Only
the effect and its validity gate are asked: accuracy and harm could only take `controls` back.

Directions on `steerable` meet forty controls of each kind of their own, drawn from 200: if all met the same forty, one
draw that happens to be weak would be counted a hundred times. Scores are remembered by request. Stopped, the same
command goes on with the next ten directions.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

SAMPLES = {"select": 6, "effect": 16}
SETS = ("random on steerable", "shuffled labels on steerable", "real on inert")


@dataclass
class Remembering:
    """An engine that scores a request once."""

    engine: Any
    known: dict[Any, Any] = field(default_factory=dict)

    @property
    def info(self) -> Any:
        return self.engine.info

    def score(self, requests: Sequence[Any]) -> list[Any]:
        keys = [(tuple(r.prompt), r.continuations, r.steering) for r in requests]
        new = {key: r for key, r in zip(keys, requests, strict=True) if key not in self.known}
        self.known.update(zip(new, self.engine.score(list(new.values())), strict=True))
        return [self.known[key] for key in keys]


@dataclass
class Stranger:
    """A direction set whose one tested direction is no emotion of the bundle, but a vector at hand."""

    base: Any
    name: str
    kind: str
    number: int
    plan: Any

    @property
    def layers(self) -> Any:
        return self.base.layers

    @property
    def kinds(self) -> Any:
        return self.base.kinds

    def controls(self, kind: Any, direction: str) -> tuple[str, ...]:
        """Drawn from the set's for this direction, as many as the plan asks for; never itself."""
        own = f"{kind}/{self.number}"
        names = [name for name in self.base.controls(kind, "desperate") if name.split(":")[0] != own]
        chosen = np.random.default_rng(self.number).choice(names, getattr(self.plan.controls, kind), replace=False)
        return tuple(str(name).replace("desperate", direction) for name in sorted(chosen))

    def length(self, layer: int) -> float:
        """Length of the tested vector relative to the real `desperate`: as long, for a random one."""
        return float(self.base.vector("shuffled", self.source, layer)[1]) if self.kind == "shuffled" else 1.0

    @property
    def source(self) -> str:
        return f"shuffled/{self.number}:desperate"

    def steering(self, cell: Any, plan: Any) -> Any:
        own = cell.model_copy(update={"direction": cell.direction.replace(self.name, "desperate")})
        if cell.kind == "shuffled":  # shuffles at their own length relative to the tested vector's
            own = own.model_copy(update={"dose": cell.dose / self.length(cell.layer)})
        if cell.kind == "direction":
            kind = "general" if self.kind == "random" else "shuffled"
            name = f"general/{self.number}" if kind == "general" else self.source
            dose = cell.dose if kind == "general" else cell.dose / self.length(cell.layer)
            own = cell.model_copy(update={"kind": kind, "direction": name, "dose": dose})
        return self.base.steering(own, plan)


def verdicts(kind: str, numbers: Sequence[int], names: Sequence[str], atlas: Path) -> list[dict[str, Any]]:
    """A verdict on each direction of one set."""
    import torch

    torch.set_num_threads(1)
    from heartstrings.behaviours.roles import Suite
    from heartstrings.behaviours.suites import suite
    from heartstrings.experiment.controls import direction_set, read_story_activations
    from heartstrings.experiment.ledger import SampleLedger
    from heartstrings.experiment.plan import preset, searched_layers
    from heartstrings.experiment.run import run_experiment
    from heartstrings.vectors.bundle import main_bundle
    from heartstrings.vectors.emotion_vectors import EmotionVectors
    from heartstrings.verdict import decide
    from heartstrings.workflows.atlas import open_model

    organism = "inert" if kind == "real" else "steerable"
    engine = Remembering(open_model(f"organism:{organism}"))
    bundle = main_bundle(atlas)
    vectors = EmotionVectors.load(bundle)
    stories = read_story_activations(bundle, vectors)
    asked = Suite("effect alone", suite("organism").effects)
    found = []
    for number, name in zip(numbers, names, strict=True):
        plan = preset("full", f"organism:{organism}", directions=(name,), samples=SAMPLES, prompting=False, seed=1)
        layers = searched_layers(plan, engine.info.n_layers)
        if kind == "real":
            directions: Any = direction_set(plan, vectors, layers=layers, stories=stories)
        else:
            # One set holds the tested vectors and their controls.
            wide = plan.changed(directions=("desperate",), controls=dict.fromkeys(("general", "span", "shuffled"), 200))
            base = direction_set(wide, vectors, layers=layers, stories=stories)
            directions = Stranger(base, name, kind, number, plan)
        with tempfile.TemporaryDirectory() as folder, SampleLedger(Path(folder) / "ledger.sqlite", plan) as ledger:
            run_experiment(plan, engine, directions, ledger, suite=asked)
            card = decide(plan, ledger, asked, model=organism, encoded="not examined").answers[0]
        found.append({"set": kind, "direction": name, "answer": card.answer, "p": card.p, "effect": card.effect.value})
    return found


def atlas_of(kind: str, out: Path) -> Path:
    from heartstrings.workflows.atlas import AtlasSettings, run_atlas

    folder = out / kind
    if not (folder / "report.html").is_file():
        run_atlas(f"organism:{kind}", folder, AtlasSettings(), keep_activations=True)
    return folder


def real_names(n: int) -> list[str]:
    """Every emotion, then differences of two drawn ones."""
    from heartstrings.corpus.lexicon import emotions

    draws = np.random.default_rng(0)
    names = list(emotions())[:n]
    while len(names) < n:
        one, other = draws.choice(list(emotions()), 2, replace=False)
        names.append(f"{one} - {other}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("alarms"))
    parser.add_argument("--each", type=int, default=100, help="directions of each of the two sets on steerable")
    parser.add_argument("--real", type=int, default=200, help="directions on inert")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    places = {kind: atlas_of(kind, given.out) for kind in ("steerable", "inert")}
    numbers = list(range(given.each))
    jobs: list[tuple[str, list[int], list[str]]] = []
    for start in range(0, given.each, 10):
        some = numbers[start : start + 10]
        jobs += [(kind, some, [f"{kind} {n}" for n in some]) for kind in ("random", "shuffled")]
    names = real_names(given.real)
    parts = [names[start : start + 10] for start in range(0, len(names), 10)]
    jobs += [("real", list(range(len(part))), part) for part in parts]
    kept = given.out / "alarms.json"
    found: list[dict[str, Any]] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else []
    done = {(one["set"], one["direction"]) for one in found}
    jobs = [(kind, some, called) for kind, some, called in jobs if (kind, called[0]) not in done]
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        tasks = [
            pool.submit(verdicts, kind, some, called, places["inert" if kind == "real" else "steerable"])
            for kind, some, called in jobs
        ]
        for task in tasks:
            found += task.result()
            kept.write_text(json.dumps(found, indent=1), encoding="utf-8")
            print(f"{len(found)} of {2 * given.each + given.real}", file=sys.stderr)
    print(table(found))


def table(found: list[dict[str, Any]]) -> str:
    """Answers by set, as Markdown, with the 95% interval of the share of alarms."""
    from heartstrings.stats.intervals import clopper_pearson

    lines = [
        "| directions | n | p < .05 | `controls` | at most (95%) | answers | largest effect, points |",
        "|---|--:|--:|--:|--:|---|--:|",
    ]
    for kind, words in zip(("random", "shuffled", "real"), SETS, strict=True):
        mine = [one for one in found if one["set"] == kind]
        alarms = sum(one["answer"].startswith("controls") for one in mine)
        small = sum(one["p"] is not None and one["p"] < 0.05 for one in mine)
        share = clopper_pearson(alarms, len(mine))
        given = ", ".join(f"{answer} ({n})" for answer, n in Counter(one["answer"] for one in mine).most_common())
        largest = max(abs(one["effect"] or 0) for one in mine)
        numbers = [words, len(mine), small, alarms, f"{100 * (share.high or 0):.1f}%", given, f"{100 * largest:.0f}"]
        lines.append(f"| {' | '.join(map(str, numbers))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
