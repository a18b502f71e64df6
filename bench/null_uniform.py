"""Do the statistics keep their word? Simulations with known truth, on one thread, under a minute.

    python bench/null_uniform.py [--runs 1000] [--seed 0]

Scenarios have their own baseline and their own slope, which makes the samples of one scenario alike; outcomes are
probabilities (a graded answer) or 0/1 draws of them (a sampled one). Prints: p-values of directions that are nothing
but another control; coverage of each interval; how often a confidence sequence that is looked at after each sample
ever misses the truth; how often a planted effect is found, beside the power formula. docs/statistics.md
keeps the table.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from dataclasses import dataclass

import numpy as np
from scipy.stats import kstest, multinomial

from heartstrings import stats

DOSES = np.array([-0.2, -0.1, 0.0, 0.1, 0.2])
WIDTH = 0.4


@dataclass(frozen=True)
class World:
    """A law of scenarios: log-odds = intercept + slope * dose."""

    binary: bool
    intercept: float = -0.8
    intercept_sd: float = 1.0
    slope: float = 0.0
    """Mean slope, log-odds per unit of dose."""
    slope_sd: float = 1.0
    repeats: int = 1

    def draw(self, random: np.random.Generator, scenarios: int, directions: int = 1) -> np.ndarray:
        """Outcomes [direction, scenario, dose, repeat]; directions share scenarios, and the sample at dose 0."""
        base = self.intercept + self.intercept_sd * random.standard_normal((1, scenarios, 1, 1))
        slope = self.slope + self.slope_sd * random.standard_normal((directions, scenarios, 1, 1))
        p = 1 / (1 + np.exp(-(base + slope * DOSES[:, None])))
        p = np.broadcast_to(p, (directions, scenarios, len(DOSES), self.repeats)).copy()
        if self.binary:
            p = (random.random(p.shape) < p).astype(np.float64)
        p[:, :, 2] = p[:1, :, 2]
        return p

    def truth(self, draws: int = 400_000) -> tuple[float, float]:
        """The mean effect and the population's logistic slope, from very many scenarios, without 0/1 noise."""
        expected = World(False, self.intercept, self.intercept_sd, self.slope, self.slope_sd)
        mean = expected.draw(np.random.default_rng(99), draws)[0].mean(axis=(0, 2))
        slope = float((DOSES * mean).sum() / (DOSES**2).sum())
        return slope * WIDTH, float(stats.logistic_slopes(DOSES, np.ones(len(DOSES)), mean))


def logistic(outcomes: np.ndarray) -> np.ndarray:
    """Logistic slopes [direction] of outcomes [direction, scenario, dose, repeat]."""
    count = np.full((len(outcomes), len(DOSES)), float(outcomes.shape[1] * outcomes.shape[3]))
    return stats.logistic_slopes(DOSES, count, outcomes.sum(axis=(1, 3)))


def null_ps(world: World, *, runs: int, seed: int, scenarios: int = 24, controls: int = 39) -> tuple[np.ndarray, ...]:
    """p against one kind of control, and the largest over three kinds, of a direction that is one of them."""
    random = np.random.default_rng(seed)
    one, worst = np.empty(runs), np.empty(runs)
    for run in range(runs):
        slopes = logistic(world.draw(random, scenarios, 1 + 3 * controls))
        ps = [stats.p_value(float(slopes[0]), kind) or 0.0 for kind in np.split(slopes[1:], 3)]
        one[run], worst[run] = ps[0], max(ps)
    return one, worst


def uniformity(ps: np.ndarray, *, seed: int, controls: int = 39) -> float:
    """p of Kolmogorov and Smirnov's test; the steps of 1 / (n + 1) are filled in at random."""
    filled = ps - np.random.default_rng(seed + 1).random(len(ps)) / (controls + 1)
    return float(kstest(filled, "uniform").pvalue)


def coverage(world: World, *, scenarios: int, runs: int, seed: int) -> tuple[float, float, float]:
    """Shares of the intervals of `effect` and `logistic_slope` that hold the truth; how often the latter has none.

    `effect` has one in each run."""
    random = np.random.default_rng(seed)
    truth = world.truth()
    dose = np.tile(np.repeat(DOSES, world.repeats), scenarios)
    group = np.repeat(np.arange(scenarios), len(DOSES) * world.repeats)
    held, given = np.zeros(2), np.zeros(2)
    for _ in range(runs):
        y = world.draw(random, scenarios)[0].reshape(-1)
        for which, found in enumerate((stats.effect(dose, y, group), stats.logistic_slope(dose, y, group))):
            if found.low is not None and found.high is not None:
                given[which] += 1
                held[which] += found.low <= truth[which] <= found.high
    shares = [float(h / g) if g else math.nan for h, g in zip(held, given, strict=True)]
    return shares[0], shares[1], float(1 - given[1] / runs)


def newcombe_coverage(n: int, *, points: int, seed: int) -> tuple[float, float]:
    """Exact coverage (all tables, no sampling) at random tables of probabilities: the mean and the lowest."""
    tables = np.array([t for t in itertools.product(range(n + 1), repeat=3) if sum(t) <= n])
    tables = np.column_stack([tables, n - tables.sum(axis=1)])
    found = [stats.newcombe_paired(*(float(k) for k in table)) for table in tables]
    low, high = np.array([f.low for f in found]), np.array([f.high for f in found])
    random = np.random.default_rng(seed)
    held = []
    for _ in range(points):
        base, moved = random.uniform(0.05, 0.95), random.uniform(0.02, 0.3, size=2)
        p = np.array([base * (1 - moved[0]), base * moved[0], (1 - base) * moved[1], (1 - base) * (1 - moved[1])])
        inside = (low <= p[1] - p[2]) & (p[1] - p[2] <= high)
        held.append(float(multinomial.pmf(tables[inside], n, p).sum()))
    return float(np.mean(held)), min(held)


def clustered_coverage(*, groups: int, size: int, runs: int, seed: int) -> tuple[float, float]:
    """`paired_change` of 0/1 pairs, `size` a group and alike within it: with its groups, and as if there were none."""
    random = np.random.default_rng(seed)
    held = np.zeros(2)
    labels = np.repeat(np.arange(groups), size)
    for _ in range(runs):
        before, after = random.beta(0.6, 1.4, size=(2, groups))  # both rates 0.3: the true change is 0
        pairs = [(random.random(groups * size) < rate[labels]).astype(float) for rate in (before, after)]
        for which, given in enumerate((labels, None)):
            found = stats.paired_change(*pairs, given)
            held[which] += found.low is not None and found.high is not None and found.low <= 0 <= found.high
    return float(held[0] / runs), float(held[1] / runs)


def peeking(rate: float, *, n: int, runs: int, seed: int) -> tuple[float, float]:
    """Share of runs in which an interval, looked at after each sample from the fifth, ever leaves out the true rate:
    the confidence sequence, and Wilson's."""
    random = np.random.default_rng(seed)
    missed = np.zeros(2)
    z2 = 1.959964**2
    t = np.arange(1, n + 1)
    for _ in range(runs):
        x = (random.random(n) < rate).astype(float)
        bounds = stats.confidence_bounds(x)
        missed[0] += bool(((bounds[:, 0] > rate) | (bounds[:, 1] < rate)).any())
        away = (np.cumsum(x) / t - rate) ** 2 > z2 * rate * (1 - rate) / t  # Wilson's interval leaves the rate out
        missed[1] += bool(away[4:].any())
    return float(missed[0] / runs), float(missed[1] / runs)


@dataclass(frozen=True)
class Planted:
    """How often a planted effect is found, and what else is said of it."""

    found: float
    formula: float
    denied: float
    """The effect interval lies wholly within the smallest effect that matters (5 points)."""


def planted(
    effect: float, scenarios: int, *, spread_between: float, binary: bool, tests: int, runs: int, seed: int
) -> Planted:
    """The whole test of the verdict on linear outcomes, baseline near 0.3: 40 controls of each of three kinds."""
    random = np.random.default_rng(seed)
    dose, group = np.tile(DOSES, scenarios), np.repeat(np.arange(scenarios), len(DOSES))
    spread = stats.sampled_spread(math.sqrt(0.21), DOSES.tolist(), between=spread_between) if binary else spread_between
    mean = np.zeros((121, 1, 1))
    mean[0] = effect
    found = denied = 0
    for _ in range(runs):
        base = np.clip(0.3 + 0.05 * random.standard_normal((1, scenarios, 1)), 0.15, 0.45)
        change = mean + spread_between * random.standard_normal((121, scenarios, 1))
        p = np.clip(base + change * DOSES / WIDTH, 0, 1)
        y = (random.random(p.shape) < p).astype(np.float64) if binary else p
        slopes = logistic(y[..., None])
        ps = [stats.p_value(float(slopes[0]), kind) or 0.0 for kind in np.split(slopes[1:], 3)]
        interval = stats.effect(dose, y[0].reshape(-1), group)
        found += max(ps) * tests < 0.05 and interval.excludes_zero
        denied += interval.within(0.05)
    return Planted(found / runs, stats.power_of(effect, scenarios, stats.Design(spread, tests=tests)), denied / runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    runs, seed, start = given.runs, given.seed, time.perf_counter()

    print("| null p-values, 24 scenarios | KS p | p < .05, one kind of 39 | p < .05, worst of three |")
    print("|---|---|---|---|")
    for binary in (False, True):
        one, worst = null_ps(World(binary), runs=runs, seed=seed)
        cells = f"{uniformity(one, seed=seed):.2f} | {(one < 0.0501).mean():.3f} | {(worst < 0.0501).mean():.3f}"
        print(f"| {'0/1' if binary else 'fractions'} | {cells} |")

    print("\n| coverage of 95% | 8 | 24 | 40 scenarios |\n|---|---|---|---|")
    worlds = {
        "fractions": World(False, slope=1.2),
        "0/1": World(True, slope=1.2),
        "0/1, rare (5%)": World(True, intercept=-3.4, slope=1.2),
    }
    for name, world in worlds.items():
        cells = [coverage(world, scenarios=n, runs=runs, seed=seed) for n in (8, 24, 40)]
        for which, what in enumerate(("effect", "logistic slope", "(no interval for the slope)")):
            print(f"| {what}, {name} | " + " | ".join(f"{cell[which]:.3f}" for cell in cells) + " |")
    exact = [newcombe_coverage(n, points=100, seed=seed) for n in (8, 24, 40)]
    print("| Newcombe, mean of 100 laws (exact) | " + " | ".join(f"{mean:.3f}" for mean, _ in exact) + " |")
    print("| Newcombe, lowest of them | " + " | ".join(f"{low:.3f}" for _, low in exact) + " |")
    pairs = [clustered_coverage(groups=n, size=4, runs=runs, seed=seed) for n in (8, 24, 40)]
    print("| Newcombe, 4 alike a group | " + " | ".join(f"{robust:.3f}" for robust, _ in pairs) + " |")
    print("| the same, groups ignored | " + " | ".join(f"{naive:.3f}" for _, naive in pairs) + " |")

    print("\n| ever wrong in 200 looks | confidence sequence | Wilson at each look |\n|---|---|---|")
    for rate in (0.05, 0.3, 0.5):
        ours, naive = peeking(rate, n=200, runs=runs, seed=seed)
        print(f"| rate {rate} | {ours:.3f} | {naive:.3f} |")

    print(
        "\n| planted effect, 2 tests, 3 x 40 controls | scenarios | found | formula | denied |\n|---|---|---|---|---|"
    )
    for binary, effect, between in ((False, 0.10, 0.12), (True, 0.30, 0.12), (True, 0.10, 0.05)):
        spread = stats.sampled_spread(math.sqrt(0.21), DOSES.tolist(), between=between) if binary else between
        asked = stats.needed(effect, stats.Design(spread, tests=2))
        assert asked is not None
        for n in (asked, math.ceil(asked / 4)):
            got = planted(
                effect, n, spread_between=between, binary=binary, tests=2, runs=min(runs, 60_000 // n + 200), seed=seed
            )
            name = f"{effect * 100:.0f} points, {'0/1' if binary else 'fractions'}"
            print(f"| {name} | {n} | {got.found:.2f} | {got.formula:.2f} | {got.denied:.2f} |")
    print(f"\n{time.perf_counter() - start:.0f} s, {runs} runs, seed {seed}")


if __name__ == "__main__":
    main()
