"""Would a referee accept a rate that a judge graded? Judges whose errors are known, with and without hand grades.

    python bench/referee_judges.py [--runs 1000] [--only RISE] [--json FILE]

Each world has texts before and after steering, a truth, a judge that errs, and a person who grades a random sample
rightly. Each row says how often the 95% interval of the change misses the truth (at most 0.05 is right): that of the
judge's grades alone, and that of the same grades corrected with the sample (`heartstrings.stats.ppi_change`); and how
wide the corrected interval is beside that of the hand grades alone. docs/calibration.md keeps the table.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from heartstrings import stats
from heartstrings.stats.ppi import contrast_mean

CHANGE = {0.0: -1.0, 1.0: 1.0}
Both = tuple[float, float]
"""Before and after steering."""


@dataclass(frozen=True)
class World:
    """A judge, a truth, and how many texts a person grades."""

    name: str
    rates: Both
    sensitivity: Both = (0.80, 0.80)
    specificity: Both = (0.94, 0.94)
    unclear: Both = (0.0, 0.0)
    """Share of true 1s, before and after, that the judge leaves unclear."""
    situations: int = 150
    texts: int = 1
    """Texts a situation, on either side."""
    hand: int = 50
    """Hand grades on either side."""


WORLDS = (
    World("sensitivity .80, specificity .94; harm rises from 10 to 30%", (0.10, 0.30)),
    World("the same with 25 hand grades a side instead of 50", (0.10, 0.30), hand=25),
    World("the same with 40 situations of four texts instead of 150", (0.10, 0.30), situations=40, texts=4),
    World("the same judge; harm rises from 2 to 4.7%, 1,000 texts, 200 hand grades", (0.02, 0.047), situations=1000,
          hand=200),
    World("specificity falls from .98 to .85 with steering; harm stays at 10%", (0.10, 0.10), specificity=(0.98, 0.85)),
    World("specificity falls from 1 to .95 with steering; 12 hand grades a side of 800 texts", (0.10, 0.10),
          (1.0, 1.0), (1.0, 0.95), situations=800, hand=12),
    World("half of blackmail is left unclear; it rises from 20 to 60%", (0.20, 0.60), (1.0, 1.0), (1.0, 1.0),
          (0.5, 0.5)),
    World("half of blackmail is left unclear only where steered", (0.20, 0.60), (1.0, 1.0), (1.0, 1.0), (0.0, 0.5)),
    World("a judge that guesses; harm rises from 10 to 30%", (0.10, 0.30), (0.5, 0.5), (0.5, 0.5)),
    World("a judge that is never wrong; harm rises from 10 to 30%", (0.10, 0.30), (1.0, 1.0), (1.0, 1.0)),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """Shares of intervals that miss the truth, and mean half widths in points."""

    world: str
    truth: float
    seen: float
    """Mean change by the judge's grades alone."""
    judge: float
    corrected: float
    by_hand: float
    bounds: float
    """Share of runs whose bounds, with every unclear grade at its worst, miss the truth."""
    half_corrected: float
    half_by_hand: float
    runs: int


def draw(world: World, random: np.random.Generator) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """(automatic, hand) on either side, and the situation of each text."""
    n = world.situations * world.texts
    luck = np.repeat(random.uniform(-0.6, 0.6, world.situations), world.texts)
    sides = []
    for rate, right, wrong, lost in zip(world.rates, world.sensitivity, world.specificity, world.unclear, strict=True):
        truth = (random.random(n) < rate * (1 + luck)).astype(float)
        judge = np.where(truth == 1, random.random(n) < right, random.random(n) >= wrong).astype(float)
        judge[(truth == 1) & (random.random(n) < lost)] = np.nan
        hand = np.full(n, np.nan)
        chosen = random.choice(n, world.hand, replace=False)
        hand[chosen] = truth[chosen]
        sides.append((judge, hand))
    return sides, np.repeat(np.arange(world.situations), world.texts)


def run(world: World, runs: int) -> Row:
    truth = world.rates[1] - world.rates[0]
    found = np.array([_one(world, truth, np.random.default_rng([seed, 29])) for seed in range(runs)])
    seen, judge, corrected, by_hand, bounds, half_corrected, half_by_hand = found.mean(axis=0).tolist()
    return Row(world.name, truth, seen, judge, corrected, by_hand, bounds, half_corrected, half_by_hand, runs)


def _one(world: World, truth: float, random: np.random.Generator) -> list[float]:
    (before, after), groups = draw(world, random)
    values, side, own = np.concatenate([before[0], after[0]]), np.repeat([0.0, 1.0], len(groups)), np.tile(groups, 2)
    judge = contrast_mean(values, side, own, weights=CHANGE)
    corrected = stats.ppi_change(before, after, groups).estimate
    by_hand = stats.ppi_change(before, after, groups, tuning=0.0).estimate
    worst = stats.bounds(values, side, own, weights=CHANGE)
    assert judge.value is not None
    assert worst.low.low is not None
    assert worst.high.high is not None
    outside = not worst.low.low <= truth <= worst.high.high
    halves = [float(one.half_width or np.nan) for one in (corrected, by_hand)]
    return [judge.value, *(float(misses(one, truth)) for one in (judge, corrected, by_hand)), float(outside), *halves]


def misses(interval: stats.Interval, truth: float) -> bool:
    """No interval makes no claim."""
    return interval.low is not None and interval.high is not None and not interval.low <= truth <= interval.high


def share(value: float, runs: int) -> str:
    interval = stats.wilson(round(value * runs), runs)
    return f"{value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--only", default="", help="part of a world's name")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(
        "| judge with errors | true change | seen by the judge | judge alone misses it | corrected misses it "
        "| unclear at worst misses it | half width, corrected | by hand alone |"
    )
    print("|---|--:|--:|---|---|---|--:|--:|")
    kept = []
    for world in (one for one in WORLDS if options.only.lower() in one.name.lower()):
        start = time.monotonic()
        row = run(world, options.runs)
        worst = share(row.bounds, row.runs) if any(world.unclear) else "–"
        print(f"| {row.world} | {100 * row.truth:+.1f} | {100 * row.seen:+.1f} | {share(row.judge, row.runs)} | "
              f"{share(row.corrected, row.runs)} | {worst} | {100 * row.half_corrected:.1f} | "
              f"{100 * row.half_by_hand:.1f} |", flush=True)  # fmt: skip
        kept.append(asdict(row) | {"seconds": round(time.monotonic() - start, 1)})
    if options.json:
        options.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
