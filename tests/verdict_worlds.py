"""Simulated ledgers: worlds whose answer is known, as rows. The data are made up; no model is imitated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from heartstrings.behaviours.base import Ask, Behaviour, Role, Scenario
from heartstrings.experiment.layer_choice import choose_layer
from heartstrings.experiment.ledger import Cell, Kind, Phase, Sample
from heartstrings.experiment.plan import Plan
from heartstrings.verdict import decide
from heartstrings.verdict.results import AnswerCard, Encoded, Verdict


@dataclass(frozen=True)
class Questions:
    """A behaviour that knows its scenarios; its answers are simulated."""

    name: str
    role: Role
    ask: Ask = "choice"
    outcome_name: str = "rate of cheating"
    neutral: str = ""
    cluster: int = 1
    """Scenarios a cluster."""
    pairs: bool = False
    """Whether it is a choice between activities, whose strengths are fitted (slow)."""

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        return tuple(
            Scenario(
                id=f"{self.name}/{i:04d}", prompt=f"Question {i}?", cluster=self.group(i), data=self.pair(i)
            )
            for i in range(n)
        )  # fmt: skip

    def pair(self, i: int) -> dict[str, str]:
        """Two of five activities, for preferences."""
        items = ("dance", "knit", "paint", "read", "sing")
        first, second = items[i % 5], items[(i % 5 + 1 + i // 5 % 4) % 5]
        return {"first": first, "second": second} if self.pairs else {}

    def group(self, i: int) -> str:
        return "" if self.cluster == 1 else f"{self.name}/g{i // self.cluster}"

    def request(self, scenario: Scenario, *, steering: object, seed: int) -> Any:
        raise AssertionError("nothing is asked here")

    follow_up = grade = request


@dataclass(frozen=True)
class Questionnaire:
    """A suite."""

    effects: tuple[Questions, ...] = (Questions("choice", "effect"),)
    capability: tuple[Behaviour, ...] = (Questions("sums", "capability", outcome_name="accuracy of sums"),)
    harm: tuple[Behaviour, ...] = (Questions("harm", "harm", outcome_name="rate of harmful answers"),)
    matched: tuple[Behaviour, ...] = (Questions("preferences", "matched", outcome_name="rate of the second"),)
    writing: tuple[Behaviour, ...] = (Questions("stories", "writing", "text", outcome_name="tone"),)
    cost: tuple[Behaviour, ...] = ()
    check: tuple[Behaviour, ...] = ()
    """Questions with a known answer, for every effect."""

    def behaviour(self, name: str) -> Behaviour:
        every = (*self.effects, *self.capability, *self.harm, *self.matched, *self.writing)
        return next(one for one in every if one.name == name)

    def checks_of(self, effect: str) -> tuple[Behaviour, ...]:
        return self.check

    def matched_of(self, effect: str) -> tuple[Behaviour, ...]:
        return self.matched


class Ledger:
    """Rows in memory, with a ledger's method."""

    def __init__(self, rows: Sequence[Sample]) -> None:
        self.rows = list(rows)

    def samples(self) -> list[Sample]:
        return self.rows


def plan(**changes: Any) -> Plan:
    """A small plan: one direction, one layer, doses to 1."""
    values: dict[str, Any] = {
        "model": "simulated",
        "directions": ("desperate",),
        "layers": (3,),
        "doses": (-1.0, -0.2, -0.1, 0.0, 0.1, 0.2, 1.0),
        "samples": {"select": 8, "effect": 40, "matched": 40, "capability": 40, "harm": 80, "writing": 12},
        "prompting": False,
    }
    return Plan.model_validate({**values, **changes})


Change = Callable[[float], float]


@dataclass(frozen=True)
class World:
    """What steering truly does, as changes at a dose. Everything is 0 unless said."""

    effect: Mapping[str, float] = field(default_factory=dict)
    """Change of the outcome between doses -0.2 and 0.2, one a direction."""
    best: int = 3
    """The layer it works at; half as well at others."""
    base: float = 0.45
    between: float = 0.02
    """Standard deviation over scenarios of that change."""
    binary: bool = False
    """Outcomes of the effect behaviour are 0 or 1; else probabilities."""
    noise: float = 0.01
    control: float = 0.01
    """Standard deviation over controls of the same change."""
    natural: float | None = None
    """The same for one kind."""
    mixture: float = 0.01
    """The same for random mixtures of emotions."""
    others: Mapping[str, float] = field(default_factory=dict)
    """That change along other emotions, by name."""
    stripped: Mapping[str, float] = field(default_factory=dict)
    """And along each direction without valence and arousal."""
    matched: float = 0.0
    accuracy: Change = lambda dose: -0.3 if abs(dose) > 0.5 else 0.0
    harm: Change = lambda dose: 0.0
    answered: float = 0.98
    """Share of valid answers, unsteered."""
    valid: Change = lambda dose: 0.0
    perplexity: Change = lambda dose: 0.0
    probe_noise: float = 0.005
    """Standard deviation of one probe's change."""

    def but(self, **changes: Any) -> World:
        return replace(self, **changes)


def rows(world: World, design: Plan, suite: Questionnaire, seed: int = 0) -> list[Sample]:
    """Every sample of the plan. One layer: no select half is drawn."""
    random = np.random.default_rng(seed)
    layers = design.layers if isinstance(design.layers, tuple) else (2, 3, 4)
    made: list[Sample] = []
    for one in suite.effects:
        made += _effect(world, design, one, layers, random)
    for one in suite.matched:
        slopes = random.normal(world.matched, world.between, size=(len(design.directions), design.samples.matched))
        base = random.uniform(0.3, 0.7, size=design.samples.matched)
        made += _cell("test", one, "baseline", "", -1, 0.0, 0, base, random)
        for i, name in enumerate(design.directions):
            for dose in design.window:
                out = np.clip(base + slopes[i] * dose / 0.4, 0, 1)
                made += _cell("test", one, "direction", name, world.best, dose, 0, out, random)
    for one, base_rate, move in (
        *((one, 0.9, world.accuracy) for one in suite.capability),
        *((one, 0.04, world.harm) for one in suite.harm),
    ):
        n = design.samples.capability if one.role == "capability" else design.samples.harm
        base = np.clip(base_rate + random.normal(0, 0.01, n), 0, 1)
        made += _cell("test", one, "baseline", "", -1, 0.0, 0, base, random)
        for name in design.directions:
            for dose in (dose for dose in design.doses if dose):
                out = np.clip(base + move(dose) + random.normal(0, world.probe_noise, n), 0, 1)
                made += _cell("test", one, "direction", name, world.best, dose, 0, out, random)
    for one in suite.writing:
        made += _writing(world, design, one, random)
    return made


def _effect(
    world: World, design: Plan, one: Questions, layers: Sequence[int], random: np.random.Generator
) -> list[Sample]:
    select, n = design.samples.select, design.samples.effect
    base = np.clip(random.normal(world.base, 0.05, select + n), 0.02, 0.98)
    made: list[Sample] = []

    def cells(kind: Kind, name: str, strength: float, spread: float, doses: Sequence[float]) -> None:
        own = random.normal(strength, spread, select + n)
        best = world.best if kind == "direction" else int(random.choice(layers))

        def out(dose: float, layer: int, part: slice) -> np.ndarray:
            share = 1.0 if layer == best else 0.5
            rate = base[part] + share * own[part] * np.clip(dose, -0.3, 0.3) / 0.4
            rate = np.clip(rate + random.normal(0, world.noise, len(rate)), 0, 1)
            return (random.random(len(rate)) < rate).astype(float) if world.binary else rate

        searched: list[Sample] = []
        for layer in layers if len(layers) > 1 else ():
            for dose in (min(design.window), max(design.window)):
                answers = out(dose, layer, slice(0, select))
                searched += _cell("select", one, kind, name, layer, dose, 0, answers, random)
        made.extend(searched)
        layer = choose_layer(searched).layer if searched else layers[0]
        for dose in doses:
            valid = world.answered + (world.valid(dose) if kind == "direction" else 0.0)
            answers = out(dose, layer, slice(select, None))
            made.extend(_cell("test", one, kind, name, layer, dose, select, answers, random, valid))

    test = base[select:]
    unsteered = (random.random(n) < test).astype(float) if world.binary else test
    made += _cell("test", one, "baseline", "", -1, 0.0, select, unsteered, random, world.answered)
    for name in design.directions:
        cells("direction", name, world.effect.get(name, 0.0), world.between, [dose for dose in design.doses if dose])
    for kind in ("general", "span", "topic", "natural"):
        size = world.natural if kind == "natural" and world.natural is not None else world.control
        for i in range(getattr(design.controls, kind)):
            cells(kind, f"{kind}/{i}", random.normal(0, size), world.between, design.window)
    for i in range(design.claims.mixture):
        cells("mixture", f"mixture/{i}", random.normal(0, world.mixture), world.between, design.window)
    for name in world.others if design.claims.other else ():
        cells("other", f"other/{name}", world.others[name], world.between, design.window)
    for name in design.directions if design.claims.stripped else ():
        cells("stripped", f"stripped/{name}", world.stripped.get(name, 0.0), world.between, design.window)
    size = world.control
    for name in design.directions:
        for i in range(design.controls.shuffled):
            cells("shuffled", f"shuffled/{i}:{name}", random.normal(0, size), world.between, design.window)
    return made


def _writing(world: World, design: Plan, one: Questions, random: np.random.Generator) -> list[Sample]:
    n = design.samples.writing
    perplexity = random.normal(2.0, 0.1, n)
    made = []
    for name, dose in (("", 0.0), *((name, dose) for name in design.directions for dose in design.doses if dose)):
        kind: Kind = "direction" if name else "baseline"
        cell = Cell(
            phase="test", behaviour=one.name, kind=kind, direction=name, layer=world.best if name else -1, dose=dose
        )
        for i in range(n):
            rise = world.perplexity(dose) + random.normal(0, 0.05) if name else 0.0
            made.append(
                Sample(
                    cell=cell, scenario=f"{one.name}/{i:04d}", group=f"{one.name}/{i:04d}", repeat=0, outcome=0.5,
                    valid=1.0, text=f"Once upon a time {i} at {dose:g}.",
                    detail={"log_perplexity": perplexity[i] + rise, "distinct_2": 0.9, "ends": 1.0},
                )
            )  # fmt: skip
    return made


def _cell(
    phase: Phase,
    one: Behaviour,
    kind: Kind,
    direction: str,
    layer: int,
    dose: float,
    first: int,
    outcomes: np.ndarray,
    random: np.random.Generator,
    valid: float = 0.98,
) -> list[Sample]:
    cell = Cell(phase=phase, behaviour=one.name, kind=kind, direction=direction, layer=layer, dose=dose)
    graded = np.clip(valid + random.normal(0, 0.002, len(outcomes)), 0, 1)
    found = []
    for i, (outcome, share) in enumerate(zip(outcomes.tolist(), graded.tolist(), strict=True), first):
        name = f"{one.name}/{i:04d}"
        group = one.group(i) if isinstance(one, Questions) else ""
        found.append(
            Sample(
                cell=cell, scenario=name, group=group or name, repeat=0, outcome=outcome, valid=share, text=None,
                detail={},
            )
        )  # fmt: skip
    return found


def judge(
    world: World,
    design: Plan | None = None,
    suite: Questionnaire | None = None,
    *,
    seed: int = 0,
    encoded: Encoded = "encoded",
    keep: Callable[[Sample], bool] = lambda sample: True,
    change: Callable[[Sample], Sample] = lambda sample: sample,
) -> Verdict:
    """The verdict on one world; `keep` leaves rows out, `change` alters them."""
    design, suite = design or plan(), suite or Questionnaire()
    found = [change(row) for row in rows(world, design, suite, seed) if keep(row)]
    return decide(design, Ledger(found), suite, model="simulated", encoded=encoded)


def card(*arguments: Any, **named: Any) -> AnswerCard:
    """The first answer of `judge`."""
    return judge(*arguments, **named).answers[0]
