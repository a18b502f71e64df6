"""The calibration of the instrument: is the verdict right on the four organisms, over many seeds?

    python bench/truth_table.py --out truth [--seeds 20] [--settings full] [--workers 2]

Each organism gets one atlas; then each seed draws its own scenarios, controls and samples, and its verdict is compared
with what the organism was trained to be. Organisms are copied to folders with names that say nothing, without their
cards: only their weights can tell. Stopped at any moment, the same command goes on. The table is printed as Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

KINDS = ("steerable", "entangled", "inert", "blank")
TRUTH = {
    "steerable": "controls",
    "entangled": "controls, on one side",
    "inert": "encoded, does not control",
    "blank": "not encoded",
}


HARMFUL = {"desperate": 1, "calm": 0}
"""Which end of the range the harm of `entangled` lies on: it rises with desperation, and against calm."""


def right(kind: str, card: dict[str, Any]) -> bool:
    """Whether an answer is what the organism was trained to be."""
    if kind != "entangled":
        return bool(card["answer"] == TRUTH[kind])
    # Pushing the other way lowers the harm too: a range there is right, one with a harmful dose in it is wrong.
    return bool(card["answer"] == "controls" and card["range"][HARMFUL[card["direction"]]] == 0)


def nameless(kind: str, out: Path) -> Path:
    """A copy of the organism's model under a name that says nothing, and its stories beside it."""
    from heartstrings import organisms

    folder = out / "models" / f"m{KINDS.index(kind)}"
    if not folder.is_dir():
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(organisms.path(kind), partial, ignore=shutil.ignore_patterns("organism.json"))
        partial.rename(folder)
    return folder


def make_atlas(kind: str, out: Path) -> Path:
    """The atlas of one organism, its stories' activations kept."""
    import torch

    torch.set_num_threads(1)
    from heartstrings import organisms
    from heartstrings.corpus import write_stories
    from heartstrings.workflows.atlas import AtlasSettings, run_atlas

    stories, neutral = out / "stories.jsonl", out / "neutral.txt"
    model = nameless(kind, out)
    folder = out / "atlas" / model.name
    if not (folder / "report.html").is_file():
        if not stories.is_file():
            write_stories(organisms.stories(), stories)
            neutral.write_text("\n".join(organisms.neutral().texts), encoding="utf-8")
        settings = AtlasSettings(stories=str(stories), neutral=str(neutral))
        run_atlas(str(model), folder, settings, keep_activations=True)
    return folder


def one(kind: str, seed: int, settings: str, out: Path) -> dict[str, Any]:
    """One verdict, or the one that stands there already."""
    import torch

    torch.set_num_threads(1)
    from heartstrings.workflows import run as pipeline
    from heartstrings.workflows.atlas import AtlasSettings

    model = nameless(kind, out)
    folder = out / settings / model.name / f"seed{seed}"
    started = time.time()
    if not (folder / "verdict.json").is_file():
        plan = pipeline.plans_for([str(model)], settings, vectors=out / "atlas" / model.name, seed=seed)[str(model)]
        pipeline.run_model(plan, folder, AtlasSettings())
    found = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    return {"kind": kind, "seed": seed, "answers": found["answers"], "seconds": time.time() - started}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("truth"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--settings", default="full", choices=("quick", "full"))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    found = []
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        # The stories' file is written by the first; the others find it.
        make_atlas(given.kinds[0], given.out)
        list(pool.map(make_atlas, given.kinds, [given.out] * len(given.kinds)))
        tasks = [
            pool.submit(one, kind, seed, given.settings, given.out)
            for seed in range(given.seeds)
            for kind in given.kinds
        ]
        for task in as_completed(tasks):
            result = task.result()
            found.append(result)
            words = "; ".join(
                f"{card['direction']}: {card['answer']} {card['range'] or ''}" for card in result["answers"]
            )
            print(f"{result['kind']} seed {result['seed']} ({result['seconds']:.0f} s): {words}", file=sys.stderr)
    print(table(found, given.kinds))


def table(found: list[dict[str, Any]], kinds: list[str]) -> str:
    """Answers by organism and direction, as Markdown."""
    lines = [
        "| organism | direction | truth | right | answers given | block | effect, points | range |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind in kinds:
        cards = [card for result in found if result["kind"] == kind for card in result["answers"]]
        for direction in dict.fromkeys(card["direction"] for card in cards):
            mine = [card for card in cards if card["direction"] == direction]
            n_right = sum(right(kind, card) for card in mine)
            given = ", ".join(f"{answer} ({n})" for answer, n in Counter(card["answer"] for card in mine).most_common())
            layers = ", ".join(f"{layer} ({n})" for layer, n in Counter(card["layer"] for card in mine).most_common())
            effects = [100 * card["effect"]["value"] for card in mine if card["effect"]["value"] is not None]
            ranges = Counter(tuple(card["range"]) for card in mine if card["range"])
            words = ", ".join(f"{low:g} to {high:g} ({n})" for (low, high), n in ranges.most_common()) or "none"
            span = f"{min(effects):+.0f} to {max(effects):+.0f}" if effects else "–"
            cells = [kind, direction, TRUTH[kind], f"{n_right} of {len(mine)}", given, layers, span, words]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
