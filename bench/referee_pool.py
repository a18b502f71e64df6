"""How often is a direction found that does nothing, and one that does much, when few of many controls are sampled?

    python bench/referee_pool.py [--runs 4000] [--json FILE]
    python bench/referee_pool.py --run RUN [--layers 14,20] [--behaviour feels] [--controls 40] [--pool 1000]

The first draws pools whose effects are known and prints type I error and power, by how far the first-order score goes
with the exact effect. The second takes the vectors of a finished folder of `heartstrings run` (with its kept
activations, `.work`) and asks its model: how far does the score go with the exact change along natural controls, and
how long do both take? docs/pool.md keeps the tables.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from heartstrings.stats import p_value
from heartstrings.stats.importance import SHARE, TOP, Opposite, draw, hierarchical_fdr, strata, weighted_p

POOL, DRAWS, EFFECT, ALPHA, STRICT = 1001, 120, 4.2, 0.05, 0.05 / 14
CORRELATIONS = (0.95, 0.8, 0.5, 0.0)
Random = np.random.Generator
Screen = Callable[[Random, np.ndarray], np.ndarray]


def correlated(random: Random, effects: np.ndarray, *, r: float) -> np.ndarray:
    return r * effects + np.sqrt(1 - r * r) * random.standard_normal(effects.shape)


def reversed_order(random: Random, effects: np.ndarray) -> np.ndarray:
    """The smallest effects get the largest scores."""
    return 1 / (np.abs(effects) + 1e-9)


def rounded(random: Random, effects: np.ndarray) -> np.ndarray:
    """Three values only, so that nearly all directions tie."""
    return np.clip(np.round(effects / 2), -1, 1)


SCREENS: dict[str, Screen] = {
    **{f"correlation {r:g}": partial(correlated, r=r) for r in CORRELATIONS},
    "smallest first": reversed_order,
    "three values": rounded,
}


@dataclass(frozen=True)
class Setting:
    """What is the same over the runs of a table's cell."""

    screen: Screen
    effect: float | None = None
    """Of the tested direction, in standard deviations of its controls'; None: it is one of them."""
    pool: int = POOL
    draws: int = DRAWS
    share: float = SHARE
    rho: float = TOP
    heavy: bool = False
    """Effects by a t distribution with two degrees of freedom, not a normal one."""
    missing: float = 0.0
    """Share of controls without a value."""


def effects_of(random: Random, at: Setting, shape: tuple[int, ...]) -> np.ndarray:
    """The tested direction is the first row."""
    found = random.standard_t(2, shape) if at.heavy else random.standard_normal(shape)
    if at.effect is not None:
        found[0] = at.effect
    return found


def plain(random: Random, at: Setting) -> float:
    """As many controls as there are draws, each once."""
    effects = effects_of(random, at, (at.draws + 1,))
    return p_value(float(effects[0]), effects[1:]) or 0.0


def weighted(random: Random, at: Setting, *, signed: bool = False) -> float:
    effects = effects_of(random, at, (at.pool,))
    top = strata(at.screen(random, effects), at.share)
    drawn = draw(top, n=at.draws, rho=at.rho, seed=int(random.integers(2**32)))
    null = effects[drawn.controls]
    null = np.where(random.random(len(null)) < at.missing, np.nan, null)
    own = float(effects[0])
    back = Opposite(-own, -null) if signed else None
    return weighted_p(own, null, drawn, opposite=back) or 0.0


def rate(one: Callable[[Random], float], alpha: float, *, runs: int, seed: int) -> float:
    random = np.random.default_rng(seed)
    return sum(one(random) <= alpha for _ in range(runs)) / runs


def false_discoveries(
    *, runs: int, seed: int, groups: int = 12, tests: int = 8, moved: int = 3, q: float = 0.05
) -> tuple[float, float, float]:
    """(share of false ones among selected groups; mean over selected groups of the share of false tests; power), of
    directions of which `moved` move half of their behaviours; p of one direction correlate positively."""
    from scipy.stats import norm

    random = np.random.default_rng(seed)
    wrong_groups, wrong_tests, hits = [], [], []
    for _ in range(runs):
        z = np.sqrt(0.5) * (random.standard_normal((groups, 1)) + random.standard_normal((groups, tests)))
        z[:moved, : tests // 2] += 3.5
        found = hierarchical_fdr(norm.sf(z).tolist(), q)
        selected = np.flatnonzero(found.selected)
        wrong_groups.append(float((selected >= moved).sum()) / max(1, len(selected)))
        shares = []
        for at in selected:
            chosen = np.flatnonzero(found.found[at])
            false = (chosen >= tests // 2).sum() if at < moved else len(chosen)
            shares.append(float(false) / max(1, len(chosen)))
        wrong_tests.append(sum(shares) / max(1, len(shares)))
        hits.append(np.mean([found.found[at][: tests // 2] for at in range(moved)]))
    return float(np.mean(wrong_groups)), float(np.mean(wrong_tests)), float(np.mean(hits))


def simulate(runs: int) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    print(f"{DRAWS} draws from {POOL}, pi {SHARE}, rho {TOP}; {runs} runs\n")
    head = ["plain p", "weighted p", "declared sign", "heavy tails", "5% missing"]
    print(f"| type I error at .05 | {' | '.join(head)} |\n|---{'|---' * len(head)}|")
    for number, (name, screen) in enumerate(SCREENS.items()):
        at = Setting(screen)
        ways: list[Callable[[Random], float]] = [
            partial(plain, at=at), partial(weighted, at=at), partial(weighted, at=at, signed=True),
            partial(weighted, at=Setting(screen, heavy=True)), partial(weighted, at=Setting(screen, missing=0.05)),
        ]  # fmt: skip
        found = [rate(way, ALPHA, runs=runs, seed=10 * number + place) for place, way in enumerate(ways)]
        kept[f"type I, {name}"] = dict(zip(head, found, strict=True))
        print(f"| {name} | {' | '.join(f'{one:.3f}' for one in found)} |", flush=True)

    some = max(200, runs // 4)
    head = [f"{r:g}" for r in CORRELATIONS]
    print(f"\n| found: {EFFECT} sd at .05 / 14, {some} runs; correlation | {' | '.join(head)} | controls sampled |")
    print(f"|---{'|---' * (len(head) + 1)}|")

    def row(label: str, way: Callable[[Random, Setting], float], sampled: float, **more: Any) -> None:
        found = [
            rate(partial(way, at=Setting(partial(correlated, r=r), EFFECT, **more)), STRICT, runs=some, seed=number)
            for number, r in enumerate(CORRELATIONS)
        ]
        kept[f"power, {label}"] = dict(zip(head, found, strict=True))
        print(f"| {label} | {' | '.join(f'{one:.2f}' for one in found)} | {sampled:.0f} |", flush=True)

    row(f"plain p, {DRAWS} controls", plain, DRAWS)
    row(f"plain p, {POOL - 1} controls", plain, POOL - 1, draws=POOL - 1)
    for share in (0.005, 0.02, SHARE, 0.1, 0.2):
        for rho in (0.5, TOP, 0.9):
            row(f"pi {share}, rho {rho}", weighted, distinct(share, rho), share=share, rho=rho)
    row("the defaults, with a declared sign", partial(weighted, signed=True), distinct(SHARE, TOP))

    groups, tests, power = false_discoveries(runs=some, seed=5)
    kept["hierarchical"] = {"groups": groups, "tests": tests, "power": power}
    print(f"\nHierarchical FDR at .05: false groups {groups:.3f}, false tests in selected groups {tests:.3f}; ", end="")
    print(f"of the effects {power:.0%} found")
    return kept


def distinct(share: float, rho: float) -> float:
    """Controls that are sampled: those drawn at least once, expected."""
    top = max(1, round(share * POOL))
    return float(sum(size * (1 - (1 - part / size) ** DRAWS) for size, part in ((top, rho), (POOL - top, 1 - rho))))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Score and exact change of natural controls on a real model, with the time of each."""
    from scipy.stats import pearsonr, spearmanr

    from heartstrings.behaviours.suites import suite_of
    from heartstrings.cli._console import bars
    from heartstrings.experiment.plan_files import frozen
    from heartstrings.experiment.screen import first_order
    from heartstrings.workflows.atlas import open_model
    from heartstrings.workflows.run import ATLAS, prepare

    layers = tuple(int(one) for one in args.layers.split(","))
    was = frozen(args.run)
    none = dict.fromkeys(dict(was.controls), 0)
    plan = was.changed(
        effects=(args.behaviour,), confirm=(), raises=(), lowers=(), directions=was.directions[:1], layers=layers,
        doses=(-args.dose, 0.0, args.dose), slope_within=args.dose, slope_from=0.0, small_doses=(), prompting=False,
        fit_doses=False, dose_factor=None, controls={**none, "natural": args.pool},
        vectors=str((args.run / ATLAS).resolve()),
    )  # fmt: skip
    engine = open_model(plan.model, revision=plan.revision, dtype=plan.dtype, device=None)
    directions = prepare(plan, engine, args.run).directions
    behaviour = suite_of(plan).behaviour(args.behaviour)
    asked = behaviour.scenarios(n=args.scenarios + args.test, seed=plan.seed)
    select, test = asked[: args.scenarios], asked[args.scenarios :]
    began = time.process_time()
    screen = first_order(engine, plan, behaviour, select, directions, layers)
    screening = time.process_time() - began
    names = [plan.directions[0], *directions.controls("natural", plan.directions[0])[: args.controls]]
    kept: dict[str, Any] = {
        "screen, CPU seconds": screening,
        "controls screened": len(screen.by_layer) - 1,
        "layers": {},
    }
    best = np.zeros((len(names), len(layers)))
    began = time.process_time()
    with bars(quiet=False) as progress:
        for at, (row, name) in enumerate((r, n) for r in range(len(layers)) for n in enumerate(names)):
            place, own = name
            best[place, row] = change(engine, plan, behaviour, test, directions, own, layers[row])
            progress("steering", at + 1, len(names) * len(layers))
    each = (time.process_time() - began) / best.size
    kept["exact, CPU seconds a control and layer"] = each
    print(f"\nscreen of {len(screen.by_layer) - 1} controls at {len(layers)} layers, {len(select)} scenarios: ", end="")
    print(f"{screening:.1f} s of CPU; exact, {len(test)} scenarios at two doses: {each:.2f} s a control and layer\n")
    print("| layer | Pearson | Spearman | exact, sd | the direction: score, exact |\n|---|---|---|---|---|")
    predicted = np.array([screen.by_layer[name] for name in names])
    columns = [
        (str(layer), predicted[1:, row], best[1:, row], predicted[0, row], best[0, row])
        for row, layer in enumerate(layers)
    ]
    largest = [np.take_along_axis(some, np.abs(some).argmax(1)[:, None], 1)[:, 0] for some in (predicted, best)]
    columns.append(("largest of them", largest[0][1:], largest[1][1:], largest[0][0], largest[1][0]))
    for label, score, exact, own_score, own in columns:
        r, rank = float(pearsonr(score, exact)[0]), float(spearmanr(score, exact)[0])
        kept["layers"][label] = {"pearson": r, "spearman": rank, "size": float(spearmanr(abs(score), abs(exact))[0])}
        print(f"| {label} | {r:.2f} | {rank:.2f} | {exact.std():.4f} | {own_score:+.4f}, {own:+.4f} |")
    return kept


def change(
    engine: Any, plan: Any, behaviour: Any, scenarios: Sequence[Any], directions: Any, name: str, layer: int
) -> float:
    """Mean outcome at the highest dose minus that at the lowest."""
    from heartstrings.experiment.ledger import Cell

    kind = name.partition("/")[0] if "/" in name else "direction"
    means = []
    for dose in (plan.window[0], plan.window[-1]):
        cell = Cell(phase="test", behaviour=behaviour.name, kind=kind, direction=name, layer=layer, dose=dose)
        steering = directions.steering(cell, plan)
        scores = engine.score([behaviour.request(one, steering=steering, seed=0) for one in scenarios])
        means.append(
            np.mean([behaviour.grade(one, score).outcome for one, score in zip(scenarios, scores, strict=True)])
        )
    return float(means[1] - means[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=4000)
    parser.add_argument("--run", type=Path, help="a finished folder of `heartstrings run`, with its kept activations")
    parser.add_argument("--layers", default="14,20")
    parser.add_argument("--behaviour", default="feels", help="a choice that is held against no premise")
    parser.add_argument("--dose", type=float, default=0.1)
    parser.add_argument("--controls", type=int, default=40, help="natural controls that are steered along")
    parser.add_argument("--pool", type=int, default=1000, help="natural controls that are scored")
    parser.add_argument("--scenarios", type=int, default=12, help="that give the score")
    parser.add_argument("--test", type=int, default=40, help="that give the exact change")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    kept = simulate(args.runs) if args.run is None else measure(args)
    if args.json is not None:
        args.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
