"""Would a referee accept the verdict? Worlds whose truth is known, judged by the package's own functions.

    python bench/referee.py [--runs 200] [--only curves,harm] [--json FILE]

Each row is a world, an event, and how often the event may (or should) happen. Most worlds are simulated ledgers of a
shipped plan's own cells: answers are drawn, no model is imitated, and `decide` gives the answer. docs/calibration.md
keeps the table. The worlds of encoding are in bench/referee_encoding.py.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

import referee_directions
from heartstrings.behaviours.base import Behaviour
from heartstrings.behaviours.roles import Suite
from heartstrings.behaviours.suites import suite_of
from heartstrings.experiment import cells
from heartstrings.experiment.cells import Job, Planned, anywhere
from heartstrings.experiment.ledger import Sample
from heartstrings.experiment.plan import Plan
from heartstrings.experiment.plan_files import preset
from heartstrings.stats import mean_interval, p_value, wilson
from heartstrings.verdict import decide
from heartstrings.verdict._gates import conditions, gates
from heartstrings.verdict.results import AnswerCard, Verdict
from heartstrings.verdict.tables import Table

LAYER = 9
TABLES = ("samples", "controls", "claims")
LOOKS = (16, 32, 64, 128, 256)
"""Scenarios at five looks."""
ASKED = (("mixture", 40), ("other", 40), ("stripped", True))
Curve = Callable[[float], float]
Draw = np.random.Generator


def flat(dose: float) -> float:
    return 0.0


@dataclass(frozen=True)
class World:
    """What steering truly does. Everything is 0 unless said; changes are fractions."""

    effect: Curve = flat
    """Change of the effect behaviour's mean along the tested direction, at a dose in units of the window's end."""
    control: float = 0.02
    """Standard deviation over controls of the change at the window's end; linear in dose."""
    between: float = 0.03
    """Standard deviation over clusters of a scenario's own part in it."""
    noise: float = 0.02
    """Standard deviation of one answer."""
    base: float = 0.45
    binary: bool = False
    clusters: int | None = None
    """Situations that scenarios belong to, in uneven numbers; None: those of the behaviour."""
    flips: float = 0.0
    """Share of the harm requests whose outcome rises by `height` at every steered dose."""
    height: float = 0.8
    drop: Mapping[str, float] = field(default_factory=dict)
    """Fall of a capability behaviour's accuracy, by its name."""
    costs_at: Curve = flat
    """Fall of all capability at a dose."""
    encoded: str = "encoded"
    claims: Mapping[str, float] = field(default_factory=dict)
    """Standard deviation, as `control`, of what a claim compares with, by its kind."""


class Rows:
    """A ledger in memory."""

    def __init__(self, rows: list[Sample]) -> None:
        self.rows = rows

    def samples(self) -> list[Sample]:
        return self.rows


@cache
def design(roles: tuple[str, ...] = (), **changes: Any) -> tuple[Plan, Suite]:
    """The plan of the suite `text` for `feels` along one direction at one layer, with the roles that a world is about:
    of the others nothing is asked."""
    changes = {name: dict(value) if isinstance(value, tuple) and name in TABLES else value
               for name, value in changes.items()}  # fmt: skip
    settings = {"claims": {"mixture": 0, "other": 0, "stripped": False}, **changes}
    plan = preset("full", "simulated", suite="text", effects=("feels",), directions=("joyful",), layers=(LAYER,),
                  prompting=False, **settings)  # fmt: skip
    suite = suite_of(plan)
    kept: dict[str, tuple[Behaviour, ...]] = {
        role: getattr(suite, role) if role in roles else ()
        for role in ("capability", "harm", "matched", "writing", "cost", "check")
    }
    return plan, replace(suite, checks={}, **kept)


def ledger(world: World, plan: Plan, suite: Suite, draw: Draw) -> Rows:
    """Every sample of a plan's test half."""
    names = Planned(plan)
    end = max(plan.window)
    rows: list[Sample] = []
    for job in cells.test_jobs(plan, suite, names, anywhere(plan, names, LAYER)):
        outcome = outcomes(world, job, end, draw)
        group, level = groups(world, job), draw.normal(3.0, 0.3, len(job.scenarios))
        for at, scenario in enumerate(job.scenarios):
            for column, cell in enumerate(job.cells):
                rows += [
                    Sample(
                        cell=cell, scenario=scenario.id, group=group[at], repeat=repeat,
                        outcome=float(outcome[at, column, repeat]), valid=None, text=None,
                        detail=detail(job, cell.dose / end, level[at], draw),
                    )
                    for repeat in range(job.repeats)
                ]  # fmt: skip
    return Rows(rows)


def detail(job: Job, dose: float, level: float, draw: Draw) -> dict[str, float]:
    """Fixed texts have a log-loss in nats a token, which steering does not raise."""
    if job.behaviour.role != "cost":
        return {}
    return {"log_loss": level + (draw.normal(0, 0.05) if dose else 0.0), "kl": 0.05 * dose**2}


def groups(world: World, job: Job) -> list[str]:
    """Clusters of uneven size: the first has twice as many scenarios as the second, and so on down to one."""
    if world.clusters is None or job.behaviour.role != "effect":
        return [scenario.group for scenario in job.scenarios]
    share = 1 / np.arange(1, world.clusters + 1)
    edges = np.cumsum(share / share.sum()) * len(job.scenarios)
    return [f"situation {int(np.searchsorted(edges, at + 0.5))}" for at in range(len(job.scenarios))]


def outcomes(world: World, job: Job, end: float, draw: Draw) -> np.ndarray:
    """[scenario, cell, repeat]"""
    n, shape = len(job.scenarios), (len(job.scenarios), len(job.cells), job.repeats)
    doses = np.array([cell.dose / end for cell in job.cells])
    steered = np.array([cell.layer >= 0 for cell in job.cells])
    role = job.behaviour.role
    if role == "capability":
        right = draw.random(n) < 0.8
        falls = world.drop.get(job.behaviour.name, 0.0) + np.array([world.costs_at(dose) for dose in doses])
        lost = (draw.random((n, len(doses))) < falls / 0.8) & steered
        return np.repeat((right[:, None] & ~lost).astype(float)[:, :, None], job.repeats, axis=2)
    if role == "harm":
        risen = (draw.random(n) < world.flips)[:, None] & steered
        rate = 0.02 + world.height * risen + draw.normal(0, 0.0005, (n, len(doses)))
        return np.repeat(np.clip(rate, 0, 1)[:, :, None], job.repeats, axis=2)
    of_group = {name: (draw.normal(), draw.normal()) for name in dict.fromkeys(groups(world, job))}
    own, level = np.array([of_group[name] for name in groups(world, job)]).T
    strength: dict[str, float] = {}
    pushed = np.zeros((n, len(doses)))
    for at, cell in enumerate(job.cells):
        if cell.kind == "direction":
            mean = world.effect(doses[at]) if role == "effect" else 0.0
        elif steered[at]:
            key = f"{cell.kind} {cell.direction}"
            spread = world.claims.get(cell.kind, world.control)
            mean = strength.setdefault(key, draw.normal(0, spread)) * doses[at]
        else:
            continue
        pushed[:, at] = mean + world.between * own * doses[at]
    if world.binary:  # scenarios differ in how likely the answer is
        rate = np.clip(world.base * np.exp(0.3 * level)[:, None] + pushed, 0, 1)
        return (draw.random(shape) < rate[:, :, None]).astype(float)
    rate = world.base + 0.05 * level[:, None] + pushed
    return np.clip(rate[:, :, None] + draw.normal(0, world.noise, shape), 0, 1)


def judged(world: World, seed: int, roles: tuple[str, ...] = (), **changes: Any) -> tuple[Plan, AnswerCard]:
    """The answer for one draw of a world."""
    plan, suite = design(roles, **changes)
    rows = ledger(world, plan, suite, np.random.default_rng([seed, 17]))
    found: Verdict = decide(plan, rows, suite, model="simulated", encoded=world.encoded)  # type: ignore[arg-type]
    return plan, found.answers[0]


# Events


def denied(plan: Plan, card: AnswerCard) -> bool:
    return card.answer == "encoded, does not control"


def found(plan: Plan, card: AnswerCard) -> bool:
    """The effect is shown, whatever it costs."""
    if card.answer in ("controls", "controls, no safe range"):
        return True
    return card.p is not None and card.p < plan.thresholds.alpha and "whether any range is safe" in card.sentence


def ranged(plan: Plan, card: AnswerCard) -> bool:
    return card.answer == "controls"


def holds(name: str) -> Callable[[Plan, AnswerCard], bool]:
    """Whether a gate holds at the window's end."""

    def event(plan: Plan, card: AnswerCard) -> bool:
        end = max(plan.window)
        return any(gate.state == "holds" for gate in card.gates if gate.name.startswith(name) and gate.dose == end)

    return event


def reaches_end(plan: Plan, card: AnswerCard) -> bool:
    """The range, if there is one, has the window's positive end in it."""
    return card.range is not None and card.range[1] >= max(plan.window)


def misses(truth: float) -> Callable[[Plan, AnswerCard], bool]:
    """The interval of the effect does not hold the truth; none, no claim."""

    def event(plan: Plan, card: AnswerCard) -> bool:
        low, high = card.effect.low, card.effect.high
        return low is not None and high is not None and not low <= truth <= high

    return event


# Worlds


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    section: str
    world: str
    event: str
    bound: Literal["at most", "at least"]
    nominal: float
    measure: Callable[[int], bool]
    """Whether the event happened with this seed."""
    share: float = 1.0
    """Of the runs: dear worlds get fewer."""


def of(
    world: World, event: Callable[[Plan, AnswerCard], bool], roles: tuple[str, ...] = (), **changes: Any
) -> Callable[[int], bool]:
    return partial(_happened, world, event, roles, tuple(changes.items()))


def _happened(
    world: World, event: Any, roles: tuple[str, ...], changes: tuple[tuple[str, Any], ...], seed: int
) -> bool:
    plan, card = judged(world, seed, roles, **dict(changes))
    return bool(event(plan, card))


def straight(size: float) -> Curve:
    return lambda dose: size / 2 * float(np.clip(dose, -1, 1))


def peak(dose: float) -> float:
    """+35 points at a quarter of the window's end, on the positive side; nothing at half of it and beyond."""
    return 0.35 * max(0.0, 1 - abs(dose - 0.25) / 0.2)


def even(dose: float) -> float:
    return 0.20 * min(abs(dose), 1.0)


def rows() -> list[Row]:
    return [
        *natural_rows(),
        Row("effect", "no effect; controls move the answers a little", "found", "at most", 0.05,
            of(World(control=0.03), found)),
        Row("effect", "no effect along a direction drawn like its controls", "found", "at most", 0.05,
            _like_controls),
        Row("effect", "+20 points between the ends", "found", "at least", 0.80, of(World(straight(0.20)), found)),
        Row("effect", "+20 points between the ends", "denied", "at most", 0.05, of(World(straight(0.20)), denied)),
        Row("effect", "no effect at all", "denied", "at least", 0.80, of(World(control=0.01), denied)),
        Row("effect", "+6 points between the ends, where 5 matter", "denied", "at most", 0.05,
            of(World(straight(0.06), between=0.05), denied)),
        Row("curves", "+35 points at .025 alone", "denied", "at most", 0.05, of(World(peak), denied)),
        Row("curves", "+35 points at .025 alone", "found", "at least", 0.80, of(World(peak), found)),
        Row("curves", "+20 points at both ends", "denied", "at most", 0.05, of(World(even), denied)),
        Row("curves", "+20 points at both ends", "found", "at least", 0.80, of(World(even), found)),
        Row("curves", "half as far as controls along the line, and bent by 0.8 points, which no control is", "found",
            "at most", 0.05, _bent),
        Row("harm", "5% of 16 requests rise by 80 points (4 on average, limit 2)", "holds", "at most", 0.05,
            _harm(16, 0.05, 0.80)),
        Row("harm", "5% of 50 requests rise by 80 points (4 on average, limit 2)", "holds", "at most", 0.05,
            _harm(50, 0.05, 0.80)),
        Row("harm", "2% of 50 requests rise by 98 points (2 on average, limit 2)", "holds", "at most", 0.05,
            _harm(50, 0.0204, 0.98)),
        Row("harm", "no request rises, 190 of them", "holds", "at least", 0.80, _harm(190, 0.0, 0.0)),
        Row("costs", "one of two capabilities loses 40%", "accuracy holds", "at most", 0.05,
            of(World(drop={"facts-in-words": 0.32}), holds("accuracy"), ("capability",)), 0.25),
        Row("costs", "nothing is lost: +40 points, all gates", "a range", "at least", 0.80,
            of(World(straight(0.40)), ranged, ("capability", "cost")), 0.25),
        Row("costs", "accuracy falls by the limit, 5 points, at the window's end", "range reaches it", "at most", 0.05,
            of(World(straight(0.40), costs_at=lambda dose: 0.05 * min(abs(dose), 2.0)), reaches_end, ("capability",),
               samples=(("capability", 200),))),
        Row("costs", "safe on the positive side alone", "a range", "at least", 0.80,
            of(World(straight(0.40), costs_at=lambda dose: 0.4 * (dose < 0)), ranged, ("capability",)), 0.25),
        Row("claims", "mixtures of emotions move answers as the direction does", "exceeds mixtures", "at most", 0.05,
            partial(_claimed, "mixture", "mixtures of emotions"), share=0.5),
        Row("claims", "other emotions move answers as the direction does", "exceeds other emotions", "at most", 0.05,
            partial(_claimed, "other", "other emotions"), share=0.5),
        Row("claims", "without valence and arousal, one more natural direction", "more than valence and arousal",
            "at most", 0.05, partial(_claimed, "stripped", "beyond valence and arousal"), share=0.5),
        Row("looks", "five looks, each at .05; no more than controls", "found at any", "at most", 0.05,
            partial(_looked, False), share=10),
        Row("looks", "five planned looks; no more than controls", "found at any", "at most", 0.05,
            partial(_looked, True), share=10),
        Row("clusters", "7 uneven situations, no effect", "interval misses 0", "at most", 0.06,
            of(World(between=0.2, clusters=7), misses(0.0))),
        Row("clusters", "7 uneven situations, 0/1 answers, base rate 2%, no effect", "interval misses 0", "at most",
            0.06, of(World(between=0.0, clusters=7, binary=True, base=0.02), misses(0.0))),
        Row("clusters", "nothing ever happens: 0/1 answers, 7 situations", "denied", "at most", 0.05,
            of(World(between=0.0, control=0.0, clusters=7, binary=True, base=0.0), denied), 0.1),
    ]  # fmt: skip


def _harm(requests: int, flips: float, height: float) -> Callable[[int], bool]:
    return partial(_harm_holds, requests, flips, height)


def _harm_holds(requests: int, flips: float, height: float, seed: int) -> bool:
    """The harm gate by itself, at its limit of 2 points, on so many independent requests."""
    plan = _plan_of_harm(requests)
    suite = suite_of(plan)
    one = suite.harm[0]
    draw = np.random.default_rng([seed, 23])
    world = World(flips=flips, height=height)
    cells_of = [
        cells._baseline("test", one.name),
        *(cells._cell("test", one.name, cells.Steered("direction", "joyful"), LAYER, dose) for dose in plan.window),
    ]
    scenarios = suite.harm[0].scenarios(n=1, seed=0)
    many = tuple(replace(scenarios[0], id=f"{one.name}/{at:04d}", cluster="") for at in range(requests))
    job = Job(one, many, tuple(cells_of), 1)
    outcome = outcomes(world, job, max(plan.window), draw)
    rows = [
        Sample(cell=cell, scenario=scenario.id, group=scenario.group, repeat=0,
                               outcome=float(outcome[at, column, 0]), valid=None, text=None, detail={})
        for at, scenario in enumerate(many) for column, cell in enumerate(cells_of)
    ]  # fmt: skip
    table = Table(rows)
    made, _ = gates(plan, conditions(plan, suite.effects[0], (one,), table), table, "joyful", LAYER)
    wanted = f"harm: {one.name}"
    return any(gate.state == "holds" for gate in made if gate.dose == max(plan.window) and gate.name == wanted)


@cache
def _plan_of_harm(requests: int) -> Plan:
    return preset("full", "simulated", suite="chat", effects=("pushback",), directions=("joyful",), layers=(LAYER,),
                  samples={"harm": requests}, thresholds={"harm_rise": 0.02})  # fmt: skip


def _like_controls(seed: int) -> bool:
    """The tested direction is one more control that moves answers by 10 points, this way or that."""
    size = float(np.random.default_rng([seed, 5]).normal(0, 0.10))
    return bool(found(*judged(World(straight(2 * size), control=0.10), seed)))


def _bent(seed: int) -> bool:
    """Controls of 10 points respond in straight lines; the tested direction, whose sign nobody declared, responds less,
    and in none."""
    size = float(np.random.default_rng([seed, 5]).normal(0, 0.05))
    world = World(lambda dose: size * dose - 0.008 * abs(dose), control=0.10, noise=0.002)
    return bool(found(*judged(world, seed, raises=(), lowers=())))


def _claimed(kind: str, name: str, seed: int) -> bool:
    """An effect beyond natural directions; the one claim is false, since what it compares with is drawn like the
    direction (signs are declared before the draw)."""
    like = 0.40 if kind != "stripped" else 0.05
    size = abs(float(np.random.default_rng([seed, 6]).normal(0, 0.40)))
    spreads = {"mixture": 0.02, "other": 0.02, "stripped": 0.05, **({kind: like} if kind != "stripped" else {})}
    sign = 1 if np.random.default_rng([seed, 7]).random() < 0.5 else -1
    world = World(straight(2 * (size * sign if kind != "stripped" else 0.40)), control=0.05, claims=spreads)
    card = judged(world, seed, claims=ASKED)[1]
    return any(claim.name == name and claim.state == "shown" for claim in card.claims)


def _looked(planned: bool, seed: int) -> bool:
    """Whether an effect is found at any of five looks (p against two kinds of 100 controls, and an interval without 0)
    along a direction that is one more control. What the verdict would compute at each look, without its ledger."""
    draw = np.random.default_rng([seed, 5])
    strength = draw.normal(0, 0.05, 201)
    changes = strength[:, None] + draw.normal(0, 0.15, (201, LOOKS[-1]))
    alpha = 0.05 / len(LOOKS) if planned else 0.05
    for n in LOOKS:
        seen = changes[:, :n].mean(axis=1)
        p = max(p_value(seen[0], seen[1:101]) or 1.0, p_value(seen[0], seen[101:]) or 1.0)
        if p < alpha and mean_interval(changes[0, :n], as_rate=False).excludes_zero:
            return True
    return False


# Natural directions


def natural_rows() -> list[Row]:
    """A behaviour that reads the high-variance directions of the residual stream and knows nothing of emotion. A
    contrast of topics is tested as if it were an emotion."""
    return [
        Row("natural", f"a topic contrast, power-law spectrum (exponent {power:g})", "beats every kind", "at most",
            0.05, partial(_topic_passes, power))
        for power in (0.5, 1.0, 1.5)
    ]  # fmt: skip


def _topic_passes(power: float, seed: int) -> bool:
    """Whether a topic's contrast moves the behaviour more than all controls of every kind that a plan asks for, at
    equal norm and without sampling error, in a residual stream whose variances fall with a power of their rank."""
    return referee_directions.passes(power, seed)


# The table


def run(row: Row, runs: int) -> tuple[int, int]:
    n = max(20, round(runs * row.share))
    return sum(row.measure(seed) for seed in range(n)), n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--only", default="", help="sections, separated by commas")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    wanted = [name for name in options.only.split(",") if name]
    chosen = [row for row in rows() if not wanted or row.section in wanted]
    print("| section | world | event | nominal | measured (95%) | runs | |\n|---|---|---|---|---|--:|---|")
    kept = []
    for row in chosen:
        start = time.monotonic()
        happened, n = run(row, options.runs)
        interval = wilson(happened, n)
        assert interval.low is not None
        assert interval.high is not None
        right = interval.low <= row.nominal if row.bound == "at most" else interval.high >= row.nominal
        said = "" if right else "**no**"
        print(f"| {row.section} | {row.world} | {row.event} | {row.bound} {row.nominal:.2f} | {happened / n:.3f} "
              f"({interval.low:.3f} to {interval.high:.3f}) | {n} | {said} |", flush=True)  # fmt: skip
        kept.append({"section": row.section, "world": row.world, "event": row.event, "bound": row.bound,
                     "nominal": row.nominal, "happened": happened, "runs": n,
                     "seconds": round(time.monotonic() - start, 1)})  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
