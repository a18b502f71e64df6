"""Choices and texts on real weights, with and without sharing: prompts, and the blocks below the steered one.

    OMP_NUM_THREADS=1 python bench/sharing.py [--rounds 5] [--ways 24] [--only tone,blackmail] [--stems]

Questions of two suites, a few scenarios each, asked in many ways: unsteered and along random directions at four
depths, as an experiment with controls does. `plain` feeds every prompt with every option through all blocks, in batches
of the same budget, which is what a loop over hooks does at best; `sharing` is what `score` and `generate` do. Both take
turns, a figure is the median of the rounds' ratios, and log-probabilities or texts are compared. With `--stems`,
`plain` lacks one shortcut only: what all prompts begin with is fed for each of them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from typing import Any

import numpy as np

import heartstrings
from heartstrings import Intervention, Steering
from heartstrings.behaviours.suites import suite
from heartstrings.core.engine import GenerateRequest, ScoreRequest
from heartstrings.engines.hf._session import calibration_norms

QUESTIONS = {
    "vignette-reward-hacking": ("text", 3), "facts-in-words": ("text", 3), "few-shot-sums": ("text", 3),
    "activities-anchored-words": ("chat-words", 8), "pushback-words": ("chat-words", 8), "pushback": ("chat", 8),
    "tone": ("text", 2), "blackmail": ("agents", 1),
}  # fmt: skip
"""Suite and number of scenarios. Of a dialogue, the first turn."""
NEW_TOKENS = 64
"""Of the turn of a dialogue, at most."""
DEPTHS = (1 / 3, 1 / 2, 2 / 3, 4 / 5)


def requests(engine: Any, question: str, ways: int) -> list[ScoreRequest | GenerateRequest]:
    name, n = QUESTIONS[question]
    behaviour, found = suite(name).behaviour(question), []
    norms = calibration_norms(engine, engine.parts, "block")
    for scenario in behaviour.scenarios(n=n, seed=0):
        for way in range(ways):
            layer = int(DEPTHS[way % len(DEPTHS)] * engine.info.n_layers)
            direction = np.random.default_rng(way).normal(size=engine.info.width).astype(np.float32)
            steering = Steering((Intervention(layer, direction, 0.1, float(norms[layer])),)) if way else None
            request = behaviour.request(scenario, steering=steering, seed=way)
            if isinstance(request, GenerateRequest):
                request = replace(request, max_new_tokens=min(request.max_new_tokens, NEW_TOKENS))
            found.append(request)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", type=int, default=24)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--stems", action="store_true")
    parser.add_argument("--only", default=",".join(QUESTIONS))
    given = parser.parse_args()
    engine: Any = heartstrings.load(given.model, dtype=given.dtype)
    for question in given.only.split(","):
        asked = requests(engine, question, given.ways)
        writes = isinstance(asked[0], GenerateRequest)
        verb = engine.generate if writes else engine.score
        verb(asked)  # what can be shared is found out once
        ratios, seconds, apart, same = [], [], 0.0, 0
        for _ in range(given.rounds):
            taken, found = {}, {}
            for sharing in (True, False):
                if given.stems:
                    engine._stems.works = sharing
                else:
                    engine.share_trunk = sharing
                began = time.perf_counter()
                found[sharing] = verb(asked)
                taken[sharing] = time.perf_counter() - began
            ratios.append(taken[False] / taken[True])
            seconds.append(taken[True] / len(asked))
            for one, other in zip(found[True], found[False], strict=True):
                if writes:
                    same += one.token_ids == other.token_ids
                else:
                    apart = max(apart, float(np.abs(np.subtract(one.logprobs, other.logprobs)).max()))
        compared = (
            f"{same} of {given.rounds * len(asked)} texts the same"
            if writes
            else f"log-probabilities apart by {apart:.1e} at most"
        )
        print(
            f"{question:24} {len(asked)} requests: {1000 * statistics.median(seconds):.0f} ms each with sharing, "
            f"{statistics.median(ratios):.2f} x without ({min(ratios):.2f} to {max(ratios):.2f}); {compared}",
            flush=True,
        )


if __name__ == "__main__":
    main()
