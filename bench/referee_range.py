"""Where does a range end? Outward dose by dose, or by one band over all doses: error rates and power of both.

    OMP_NUM_THREADS=1 python bench/referee_range.py [--runs 400]

Questions with a right answer are asked unsteered and at four doses; steering loses some of the right answers, and
changes others both ways. *Fixed sequence* is the verdict's rule: from 0 outward, each dose by its own one-sided bound
(`paired_change`), up to the first that does not hold. *Band* assumes that costs do not fall with the dose: the mean
over a dose and any number of larger ones is then at least its cost, so the least of their bounds is one too, and the
bounds of all of them hold together (largest t over all, by a wild bootstrap of the questions). Prints Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

from heartstrings.stats import paired_change, wilson

DOSES = (0.025, 0.05, 0.1, 0.2)
LIMIT, RIGHT, DRAWS = 0.05, 0.8, 300
Outcomes = Float64[np.ndarray, "question dose"]
WORLDS: dict[str, tuple[float, ...]] = {
    "nothing is lost": (0.0, 0.0, 0.0, 0.0),
    "loss grows with the dose, 3 points at .1": (0.0075, 0.015, 0.03, 0.06),
    "2.5 points are lost at every dose": (0.025, 0.025, 0.025, 0.025),
    "loss grows with the dose, the limit at .1": (0.0125, 0.025, 0.05, 0.1),
    "the limit is lost at every dose": (0.05, 0.05, 0.05, 0.05),
}


def asked(n: int, loss: tuple[float, ...], noise: float, draw: np.random.Generator) -> tuple[np.ndarray, Outcomes]:
    """Unsteered and steered answers of n questions; `noise`: the share that is drawn anew at a dose of .1 or more."""
    before = draw.random(n) < RIGHT
    fate = draw.random(n)
    after = np.zeros((n, len(DOSES)))
    for at, (dose, lost) in enumerate(zip(DOSES, loss, strict=True)):
        kept = before & (fate >= lost / RIGHT)
        anew = draw.random(n) < noise * min(1.0, dose / 0.1)
        after[:, at] = np.where(anew, draw.random(n) < RIGHT - lost, kept)
    return before.astype(float), after


def fixed_sequence(before: np.ndarray, after: Outcomes, draw: np.random.Generator) -> int:
    """How many doses are in the range."""
    for at in range(len(DOSES)):
        low = paired_change(before, after[:, at], level=0.90).low
        if low is None or low <= -LIMIT:
            return at
    return len(DOSES)


def band(before: np.ndarray, after: Outcomes, draw: np.random.Generator) -> int:
    """How many doses are in the range."""
    size = len(DOSES)
    spans = [(first, last) for first in range(size) for last in range(first, size)]
    costs = np.stack([(before[:, None] - after)[:, first : last + 1].mean(axis=1) for first, last in spans], axis=1)
    mean, error = costs.mean(axis=0), np.maximum(costs.std(axis=0, ddof=1) / np.sqrt(len(costs)), 1e-9)
    signs = 1 - 2.0 * draw.integers(0, 2, size=(DRAWS, len(costs)))
    reach = float(np.quantile((signs @ (costs - mean) / len(costs) / error).max(axis=1), 0.95))
    bounds = [min(mean[at] + reach * error[at] for at, (one, _) in enumerate(spans) if one >= d) for d in range(size)]
    return int(np.sum(np.array(bounds) < LIMIT))


RULES: tuple[Callable[[np.ndarray, Outcomes, np.random.Generator], int], ...] = (fixed_sequence, band)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400)
    runs = parser.parse_args().runs
    print("| questions | answers drawn anew | world | event | fixed sequence | band |\n|--:|--:|---|---|---|---|")
    for n in (166, 400, 1166):
        for noise in (0.05, 0.2):
            for world, loss in WORLDS.items():
                over = [at for at, lost in enumerate(loss) if lost >= LIMIT and at < 3]
                event = f"a dose of at least {DOSES[over[0]]:g} is in it" if over else "reaches .1"
                least = over[0] + 1 if over else 3
                hits = np.zeros(len(RULES), dtype=int)
                for seed in range(runs):
                    draw = np.random.default_rng([seed, n])
                    before, after = asked(n, loss, noise, draw)
                    hits += [rule(before, after, draw) >= least for rule in RULES]
                shares = [wilson(int(hit), runs) for hit in hits]
                cells = " | ".join(f"{share.value:.3f} ({share.low:.3f} to {share.high:.3f})" for share in shares)
                print(f"| {n} | {noise:.0%} | {world} | {event} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
