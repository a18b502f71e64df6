"""Choices by likelihood on real weights, with and without sharing: prompts, and the blocks below the steered one.

    OMP_NUM_THREADS=1 python bench/choices.py [--model smollm2] [--rounds 5] [--ways 24]

Three questions of the suite `text`, a few scenarios each, asked in many ways: unsteered and along random directions at
four depths, as an experiment with controls does. `plain` feeds every prompt with every option through all blocks, in
batches of the same budget, which is what a loop over hooks does at best; `sharing` is what `score` does. Both take
turns, a figure is the median of the rounds' ratios, and the log-probabilities are compared.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np

import heartstrings
from heartstrings import Intervention, Steering
from heartstrings.behaviours.suites import suite
from heartstrings.engines.base import ScoreRequest
from heartstrings.engines.torch_session import calibration_norms

QUESTIONS = {"vignette-reward-hacking": 3, "facts-in-words": 3, "few-shot-sums": 3}
DEPTHS = (1 / 3, 1 / 2, 2 / 3, 4 / 5)


def requests(engine: Any, question: str, n: int, ways: int) -> list[ScoreRequest]:
    behaviour, found = suite("text").behaviour(question), []
    norms = calibration_norms(engine, engine.parts, "block")
    for scenario in behaviour.scenarios(n=n, seed=0):
        for way in range(ways):
            layer = int(DEPTHS[way % len(DEPTHS)] * engine.info.n_layers)
            direction = np.random.default_rng(way).normal(size=engine.info.width).astype(np.float32)
            steering = Steering((Intervention(layer, direction, 0.1, float(norms[layer])),)) if way else None
            request = behaviour.request(scenario, steering=steering, seed=0)
            assert isinstance(request, ScoreRequest)
            found.append(request)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", type=int, default=24)
    given = parser.parse_args()
    engine: Any = heartstrings.load(given.model)
    for question, n in QUESTIONS.items():
        asked = requests(engine, question, n, given.ways)
        engine.score(asked[:2])  # what can be shared is found out once
        ratios, seconds, apart = [], [], 0.0
        for _ in range(given.rounds):
            taken, found = {}, {}
            for sharing in (True, False):
                engine.share_trunk = sharing
                began = time.perf_counter()
                found[sharing] = np.concatenate([one.logprobs for one in engine.score(asked)])
                taken[sharing] = time.perf_counter() - began
            ratios.append(taken[False] / taken[True])
            seconds.append(taken[True] / len(asked))
            apart = max(apart, float(np.abs(found[True] - found[False]).max()))
        print(
            f"{question:24} {len(asked)} requests: {1000 * statistics.median(seconds):.0f} ms each with sharing, "
            f"{statistics.median(ratios):.2f} x without ({min(ratios):.2f} to {max(ratios):.2f}); "
            f"log-probabilities apart by {apart:.1e} at most"
        )


if __name__ == "__main__":
    main()
