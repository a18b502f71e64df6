"""What does bfloat16 save, and what does its rounding change?

    OMP_NUM_THREADS=1 python bench/bfloat16.py speed [MODEL] [--rounds 4] [--budgets 1024,2048,4096]
    OMP_NUM_THREADS=1 python bench/bfloat16.py vectors [MODEL]
    OMP_NUM_THREADS=1 python bench/bfloat16.py outcomes [MODEL] [--behaviours feels,vignette-blackmail] [--scenarios 24]

`speed` pools every tenth shipped story in both precisions, in turns; the figure is the median ratio of processor time.
`vectors` compares the contrasts of all shipped stories, and what samples of several sizes predict of them. `outcomes`
compares the effect of a dose along `joyful` and along a random direction, scenario by scenario.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from typing import Any

import numpy as np

import heartstrings
from heartstrings import behaviours
from heartstrings.behaviours.base import Compared
from heartstrings.core.steering import Intervention, Steering
from heartstrings.core.types import Pooling
from heartstrings.corpus import halves, shipped_stories
from heartstrings.engines.hf import _pool
from heartstrings.stats import error_share

BOTH = ("float32", "bfloat16")
RULES = (Pooling(rule="window", start=50, stop=114), Pooling(rule="centred", start=50))


def speed(engines: dict[str, Any], given: argparse.Namespace) -> None:
    texts = list(shipped_stories().texts[::10])
    budgets = [int(budget) for budget in given.budgets.split(",")]
    jobs = [(dtype, budget) for dtype in BOTH for budget in budgets]
    add, pooling = _pool._Sums.add, [0.0]

    def timed(*args: Any, **named: Any) -> None:
        begun = time.process_time()
        add(*args, **named)
        pooling[0] += time.process_time() - begun

    _pool._Sums.add = timed  # type: ignore[method-assign]
    times: dict[tuple[str, int], list[float]] = {job: [] for job in jobs}
    shares: dict[tuple[str, int], list[float]] = {job: [] for job in jobs}
    for number in range(given.rounds + 1):  # the first warms up
        random.Random(number).shuffle(jobs)
        for dtype, budget in jobs:
            pooling[0], begun = 0.0, time.process_time()
            for _ in engines[dtype].pool(texts, poolings=RULES, token_budget=budget):
                pass
            spent = time.process_time() - begun
            if number:
                times[dtype, budget].append(spent)
                shares[dtype, budget].append(pooling[0] / spent)
    first = times["float32", budgets[0]]
    for (dtype, budget), own in sorted(times.items(), reverse=True):
        faster = [one / other for one, other in zip(first, own, strict=True)]
        print(
            f"{dtype:>8} {budget:>5} {statistics.median(faster):.2f} x ({min(faster):.2f} to {max(faster):.2f}), "
            f"pooling {100 * statistics.median(shares[dtype, budget]):.1f}%"
        )


def means(engine: Any, texts: Any) -> tuple[np.ndarray, np.ndarray]:
    found: Any = None
    for batch in engine.pool(texts, poolings=(Pooling(),)):
        if found is None:
            found = np.zeros((len(texts), *batch.means.shape[2:])), np.zeros((len(texts), batch.norms.shape[1]))
        found[0][batch.indices], found[1][batch.indices] = batch.means[0], batch.norms
    return found


def vectors(engines: dict[str, Any], given: argparse.Namespace) -> None:
    corpus = shipped_stories()
    exact, rounded = (means(engines[dtype], corpus.texts)[0] for dtype in BOTH)
    half = halves(corpus, seed=0)
    row = {(story.emotion, story.topic): at for at, story in enumerate(corpus.stories)}
    topics = [sorted({corpus.stories[at].topic for at in np.flatnonzero(half == part)}) for part in (0, 1)]

    def contrasts(states: np.ndarray, emotions: Any, parts: Any) -> np.ndarray:
        by = [[states[[row[name, topic] for topic in part]].mean(0) for name in emotions] for part in parts]
        stacked = np.array(by).swapaxes(1, 2)
        return stacked - stacked.mean(2, keepdims=True)

    one, other = (contrasts(states, corpus.emotions, topics) for states in (exact, rounded))
    error = np.linalg.norm(other.mean(0) - one.mean(0), axis=-1)
    ratio = error / (np.linalg.norm(one[0] - one[1], axis=-1) / 2)
    whole = error_share(one, other, growth=1.0).ratio
    over, quantile = (ratio > 0.1).sum(), np.quantile(ratio, 0.99)
    print(
        f"all {len(corpus)} stories, a ratio for each layer and emotion: median {np.median(ratio):.3f}, 99% under "
        f"{quantile:.3f}, largest {ratio.max():.2f}, {over} of {ratio.size} over .1"
    )
    print(f"over layers: median {np.median(whole):.4f}, worst {whole.max():.4f} at {whole.argmax()}")
    draw = np.random.default_rng(0)
    for n in (8, 12, 16, 24, 40):
        found = []
        for _ in range(300):
            some = draw.choice(corpus.emotions, n, replace=False)
            parts = [[draw.choice(part)] for part in topics]
            share = error_share(contrasts(exact, some, parts), contrasts(rounded, some, parts), growth=6.0).ratio
            found.append((np.median(share), share.max()))
        median, worst = np.array(found).T
        print(f"{2 * n:>3} stories predict {median.mean():.4f} (sd {median.std():.4f}), worst layer {worst.mean():.4f} "
              f"(sd {worst.std():.4f}), over .1 in {100 * (worst > 0.1).mean():.1f}%")  # fmt: skip


def outcomes(engines: dict[str, Any], given: argparse.Namespace) -> None:
    some = [one for at, one in enumerate(shipped_stories().stories) if one.emotion == "joyful" or at % 10 == 0]
    states, norms = means(engines["float32"], [one.text for one in some])
    named = np.array([one.emotion for one in some])
    layer = states.shape[1] // 2
    joyful = states[named == "joyful", layer].mean(0) - states[:, layer].mean(0)
    along = {"joyful": joyful, "random": np.random.default_rng(0).standard_normal(len(joyful))}
    for name in given.behaviours.split(","):
        one = behaviours.suite("text").behaviour(name)
        scenarios = one.scenarios(n=given.scenarios, seed=0)
        for what, direction in along.items():
            effects = []
            for dtype in BOTH:
                ends = []
                for dose in (-0.1, 0.1):
                    at = Intervention(layer, direction.astype(np.float32), dose, float(norms[:, layer].mean()))
                    steering = Steering((at,))
                    answers = engines[dtype].score([one.request(s, steering=steering, seed=0) for s in scenarios])
                    second: Any = [None] * len(scenarios)
                    if isinstance(one, Compared):
                        second = engines[dtype].score([one.against(s, steering=steering) for s in scenarios])
                    graded = map(one.grade, scenarios, answers, second)
                    ends.append(np.array([grade.outcome for grade in graded], dtype=float))
                effects.append(ends[1] - ends[0])
            error = effects[1] - effects[0]
            spread, share = effects[0].std(ddof=1), error.std(ddof=1) / effects[0].std(ddof=1)
            print(
                f"{name}, {what}: effect {effects[0].mean():+.3f}, sd over scenarios {spread:.3f}; error "
                f"{error.mean():+.4f}, sd {error.std(ddof=1):.4f}, {share:.2f} of the sd over scenarios"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("speed", "vectors", "outcomes"))
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--budgets", default="1024,2048,4096")
    parser.add_argument("--behaviours", default="feels,feels-arousal,vignette-reward-hacking,vignette-blackmail")
    parser.add_argument("--scenarios", type=int, default=24)
    given = parser.parse_args()
    engines = {dtype: heartstrings.load(given.model, dtype=dtype) for dtype in BOTH}
    {"speed": speed, "vectors": vectors, "outcomes": outcomes}[given.part](engines, given)


if __name__ == "__main__":
    main()
