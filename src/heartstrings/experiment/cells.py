"""Which cells an experiment has: the conditions that each behaviour is asked under, and the scenarios it is asked of.

Everything here is a function of the plan and of the layers that were chosen; the order is part of the result.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Protocol, get_args, runtime_checkable

from heartstrings.core.errors import InputError
from heartstrings.experiment.ledger import CLAIM_KINDS, CONTROL_KINDS, Cell, ClaimKind, Key, Kind, Phase
from heartstrings.experiment.plan import Plan
from heartstrings.experiment.plan_directions import emotion
from heartstrings.experiment.sample_counts import Asked, leader, repeats, searched, tested

if TYPE_CHECKING:
    from heartstrings.behaviours.base import Behaviour, Scenario
    from heartstrings.behaviours.roles import Suite

FORMS = ("instruct", "first-person")
"""How an emotion is asked for in words."""
FEWEST = 2
"""Scenarios that choose layers, and that are reported."""
_ORDER = {kind: number for number, kind in enumerate(get_args(Kind))}


@runtime_checkable
class Named(Protocol):
    """As much of a direction set as counting cells needs."""

    @property
    def kinds(self) -> Any: ...
    @property
    def claims(self) -> Any: ...

    def controls(self, kind: Any, direction: Any) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Planned:
    """The controls that a plan asks for, before there are any vectors."""

    plan: Plan

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return tuple(kind for kind in CONTROL_KINDS if getattr(self.plan.controls, kind))

    @property
    def claims(self) -> tuple[ClaimKind, ...]:
        return tuple(kind for kind in CLAIM_KINDS if getattr(self.plan.claims, kind))

    def controls(self, kind: Any, direction: Any) -> tuple[str, ...]:
        if kind == "stripped":
            return (f"stripped/{direction}",)
        suffix = f":{direction}" if kind == "shuffled" else ""
        table = self.plan.claims if kind in CLAIM_KINDS else self.plan.controls
        return tuple(f"{kind}/{number}{suffix}" for number in range(getattr(table, kind)))


@dataclass(frozen=True)
class Part:
    """Some of the controls beside the directions, or what the claims compare, or neither."""

    names: Named
    numbers: range = range(0)
    """Of the controls of each kind."""
    claimed: tuple[ClaimKind, ...] = ()
    """Of the kinds that the claims compare."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return tuple(self.names.kinds) if self.numbers else ()

    @property
    def claims(self) -> tuple[ClaimKind, ...]:
        return tuple(kind for kind in self.names.claims if kind in self.claimed)

    def controls(self, kind: Any, direction: Any) -> tuple[str, ...]:
        names = self.names.controls(kind, direction)
        return names if kind in CLAIM_KINDS else names[self.numbers.start : self.numbers.stop]

    def __contains__(self, cell: Cell) -> bool:
        """Whether this part asks a cell: the directions, and what is not steered, belong to the part without others."""
        if self.numbers or self.claimed:
            return cell.kind in (*self.kinds, *self.claims)
        return cell.kind not in (*CONTROL_KINDS, *CLAIM_KINDS)


@dataclass(frozen=True)
class Steered:
    """One direction or control, as the search for its layer knows it."""

    kind: Kind
    direction: str


SIDE_BY_SIDE = 64
"""At most so many cells of a choice are asked about every scenario before the next cells are."""


@dataclass(frozen=True)
class Item:
    """One sample to take."""

    cell: Cell
    scenario: Scenario
    repeat: int

    @property
    def key(self) -> Key:
        return (self.cell, self.scenario.id, self.repeat)


@dataclass(frozen=True)
class Job:
    """One behaviour in one phase: every scenario under every cell."""

    behaviour: Behaviour
    scenarios: tuple[Scenario, ...]
    cells: tuple[Cell, ...]
    """Those of one layer sit together: the engine shares the blocks below it."""
    repeats: int

    def __len__(self) -> int:
        return len(self.scenarios) * len(self.cells) * self.repeats

    def items(self) -> Iterator[Item]:
        """In order of scenario, so that rows of one prompt sit together, then of cell. Choices go through some cells at
        a time: the engine also shares what different prompts of one cell begin with."""
        return map(self.item, range(len(self)))

    def item(self, number: int) -> Item:
        """One sample by its number in this order."""
        pair, repeat = divmod(number, self.repeats)
        together = len(self.cells)
        if self.behaviour.ask == "choice":
            together = math.ceil(together / math.ceil(together / SIDE_BY_SIDE))  # no block much smaller than the others
        block, rest = divmod(pair, together * len(self.scenarios))
        cells = self.cells[block * together : (block + 1) * together]
        scenario, cell = divmod(rest, len(cells))
        return Item(cells[cell], self.scenarios[scenario], repeat)

    def of(self, scenarios: Sequence[Scenario], cells: Sequence[Cell]) -> Job:
        """A part of it."""
        return replace(self, scenarios=tuple(scenarios), cells=tuple(cells))


Chosen = Mapping[tuple[str, Steered], int]
"""The layer of each direction and control, by effect behaviour."""


def steered(plan: Plan, names: Named) -> tuple[Steered, ...]:
    """Every direction and control of a plan, and what its claims compare, each once."""
    vectors = [Steered("direction", direction) for direction in plan.directions]
    for kind in (*names.kinds, *names.claims):
        for direction in plan.directions:
            vectors += [Steered(kind, name) for name in names.controls(kind, direction)]
    return tuple(dict.fromkeys(vectors))


def _steered(plan: Plan, names: Named, effects: Collection[str], unclear: Collection[str]) -> tuple[Steered, ...]:
    """Those that any of some effect behaviours is asked along: controls where the model tells the options apart, and
    what claims compare where the behaviour is declared."""
    clear = [effect for effect in effects if effect not in unclear]
    declared = any(effect in plan.declared for effect in clear)
    return tuple(
        vector
        for vector in steered(plan, names)
        if vector.kind == "direction" or (declared if vector.kind in CLAIM_KINDS else clear)
    )


def select_jobs(
    plan: Plan, suite: Suite, names: Named, layers: Sequence[int], *, unclear: Collection[str] = ()
) -> tuple[Job, ...]:
    """The search: the two outermost window doses at every layer. None where there is one layer only, nor for dialogues
    that take the layers of a choice.

    Args:
        unclear: effect behaviours whose options the model does not tell apart. Controls do not search a layer for
            these alone.
    """
    if len(layers) < 2:
        return ()
    jobs = []
    doses = (plan.window[0], plan.window[-1])
    for behaviour in _effects(plan, suite):
        if not searched(plan, suite, behaviour):
            continue
        cells = [_baseline("select", behaviour.name)]
        led = [effect for effect in plan.effects if leader(plan, suite, effect) == behaviour.name]
        for vector, layer, dose in product(_steered(plan, names, led, unclear), layers, doses):
            cells.append(_cell("select", behaviour.name, vector, layer, dose))
        jobs.append(_job(plan, behaviour, _halves(plan, suite, behaviour)[0], cells))
    return tuple(jobs)


def test_jobs(
    plan: Plan,
    suite: Suite,
    names: Named,
    chosen: Chosen,
    *,
    unclear: Collection[str] = (),  # noqa: PT028
) -> tuple[Job, ...]:
    """Everything that is reported, at the layers that were chosen.

    Args:
        unclear: effect behaviours whose options the model does not tell apart: no control is asked these, and neither
            matched questions nor costs are asked for them, as the answer is inconclusive whatever these are.
    """
    jobs = []
    for behaviour in _effects(plan, suite):
        name = behaviour.name
        cells = [_baseline("test", name)]
        for vector in _steered(plan, names, (name,), unclear):
            doses = _doses(plan) if vector.kind == "direction" else plan.compared(name)
            cells += [_cell("test", name, vector, chosen[name, vector], dose) for dose in doses]
        cells += _prompting(plan, name)
        jobs.append(_job(plan, behaviour, _halves(plan, suite, behaviour)[1], cells))
    for role in ("check", "matched", "capability", "harm", "cost", "writing"):
        doses = tuple(sorted({*plan.window, *plan.small_doses})) if role == "matched" else _doses(plan)
        for behaviour in getattr(suite, role):
            effects = [
                effect
                for effect in plan.effects
                if _belongs(suite, behaviour, effect) and (role == "check" or effect not in unclear)
            ]
            if not effects or behaviour.name in plan.effects or not tested(plan, behaviour):
                continue
            cells = [_baseline("test", behaviour.name)]
            along = {effect: frozenset(_steered(plan, names, (effect,), unclear)) for effect in effects}
            # Every control's distance from the unsteered model is known too: an effect is compared at equal distance.
            for vector in steered(plan, names) if role != "check" else ():
                if vector.kind != "direction" and not getattr(behaviour, "of_controls", False):
                    continue
                here = doses if vector.kind == "direction" else plan.window
                compared = [effect for effect in effects if vector in along[effect]]
                for layer in sorted({chosen[effect, vector] for effect in compared}):
                    cells += [_cell("test", behaviour.name, vector, layer, dose) for dose in here]
            scenarios = _scenarios(behaviour, tested(plan, behaviour), plan.seed)
            jobs.append(_job(plan, behaviour, scenarios, cells))
    return tuple(jobs)


test_jobs.__test__ = False  # type: ignore[attr-defined]  # it is no test, whatever its name tells pytest


def cells(plan: Plan, suite: Suite, names: Named, *, layers: Sequence[int], chosen: Chosen | None = None) -> list[Cell]:
    """All cells of an experiment in the order they run; without `chosen`, as if every layer chosen was the first."""
    if chosen is None:
        chosen = anywhere(plan, names, layers[0])
    jobs = (*select_jobs(plan, suite, names, layers), *test_jobs(plan, suite, names, chosen))
    # Known answers first, as the rest depends on them; the sort is stable.
    return [cell for job in sorted(jobs, key=lambda job: job.behaviour.role != "check") for cell in job.cells]


def anywhere(plan: Plan, names: Named, layer: int) -> Chosen:
    """One layer for all, where there is no search or it has not been made."""
    return {(effect, vector): layer for effect in plan.effects for vector in steered(plan, names)}


def _belongs(suite: Suite, behaviour: Behaviour, effect: str) -> bool:
    """Whether an effect needs these questions: its own matched ones and its own checks, and all others."""
    if behaviour.role == "matched":
        return behaviour in suite.matched_of(effect)
    return behaviour.role != "check" or behaviour in suite.checks_of(effect)


def _asked(plan: Plan, suite: Suite) -> list[Behaviour]:
    """Every behaviour that a plan asks: its effects, and what belongs to any of them."""
    return [
        behaviour
        for behaviour in suite.all
        if behaviour.name in plan.effects
        or (behaviour.role != "effect" and any(_belongs(suite, behaviour, effect) for effect in plan.effects))
    ]


def _effects(plan: Plan, suite: Suite) -> list[Behaviour]:
    return [suite.behaviour(name) for name in plan.effects]


def _doses(plan: Plan) -> tuple[float, ...]:
    """Adding nothing is the baseline, which is asked once; setting a component to 0 is not."""
    return plan.doses if plan.operation == "clamp" else tuple(dose for dose in plan.doses if dose != 0)


def _halves(plan: Plan, suite: Asked, behaviour: Behaviour) -> tuple[tuple[Scenario, ...], tuple[Scenario, ...]]:
    """Scenarios that choose layers, and those that are reported. No situation (cluster) is in both: variants of one
    that chose a layer would favour it. A later look reports those of the first, and more."""
    select, report = searched(plan, suite, behaviour), tested(plan, behaviour)
    first = tested(plan.at_look(0), behaviour)
    n = select + first
    if not select or not report:
        scenarios = _scenarios(behaviour, select + report, plan.seed)
        return scenarios[:select], scenarios[select:]
    most = getattr(behaviour, "most", None) or getattr(behaviour, "available", None)
    chosen: frozenset[str] = frozenset()
    while True:
        scenarios = _scenarios(behaviour, n, plan.seed)
        chosen = chosen or _choosers(scenarios, select, select / (select + first))
        half = tuple(scenario for scenario in scenarios if scenario.group in chosen)
        reported = tuple(scenario for scenario in scenarios if scenario.group not in chosen)
        if len(half) >= select and len(reported) >= report:
            return half[:select], reported[:report]
        if len(half) < select or len(reported) < first:
            chosen = frozenset()  # the first look's: not settled yet
        if n == most:
            raise InputError(
                f"behaviour {behaviour.name!r} has {len(half)} scenarios to choose layers and {len(reported)} of other "
                "situations to report",
                f"{select} and {report}",
                "Ask for fewer under [samples]",
            )
        n = 2 * n if most is None else min(2 * n, most)


def _choosers(scenarios: Sequence[Scenario], select: int, share: float) -> frozenset[str]:
    """The first situations, about a share of all and with enough scenarios for `select`."""
    sizes = Counter(scenario.group for scenario in scenarios)  # in order of appearance
    chosen: set[str] = set()
    inside = 0
    for situation in list(sizes)[:-1]:
        chosen.add(situation)
        inside += sizes[situation]
        if inside >= select and len(chosen) >= round(share * len(sizes)):
            break
    return frozenset(chosen)


def every_scenario(plan: Plan, suite: Asked, behaviour: Behaviour) -> tuple[Scenario, ...]:
    """All scenarios that a plan asks of a behaviour, those that choose layers first."""
    if behaviour.name in plan.effects:
        half, reported = _halves(plan, suite, behaviour)
        return (*half, *reported)
    n = tested(plan, behaviour)
    return _scenarios(behaviour, n, plan.seed) if n else ()


def situations(plan: Plan, suite: Asked, behaviour: Behaviour) -> int:
    """How many situations (clusters) the reported scenarios of a behaviour are of: what counts as independent."""
    asked = tested(plan, behaviour)
    return len({scenario.group for scenario in every_scenario(plan, suite, behaviour)[-asked:]}) if asked else 0


def check_scenarios(plan: Plan, suite: Suite) -> None:
    """Whether there are as many scenarios as a plan asks of each behaviour, at its last look too; told before anything
    loads.

    Raises:
        InputError: a behaviour has fewer, or too few for those that choose layers and those that are reported.
    """
    if plan.look < len(plan.looks):
        check_scenarios(plan.at_look(len(plan.looks)), suite)
    for behaviour in _asked(plan, suite):
        every_scenario(plan, suite, behaviour)
        if behaviour.name not in plan.effects:
            continue
        choose, report = searched(plan, suite, behaviour), tested(plan, behaviour)
        one_layer = isinstance(plan.layers, tuple) and len(plan.layers) == 1
        chooses = not one_layer and leader(plan, suite, behaviour.name) == behaviour.name
        if report < FEWEST or (chooses and choose < FEWEST):
            raise InputError(
                f"behaviour {behaviour.name!r} has {getattr(behaviour, 'most', choose + report)} scenarios: {choose} "
                f"would choose layers and {report} be reported",
                f"{FEWEST} of each at least",
                "Ask for fewer under [samples]: select" + (", dialogue" if behaviour.ask == "dialogue" else ""),
            )


def check_template(plan: Plan, suite: Suite, model: str, *, template: bool) -> None:
    """Whether a model can be asked a plan's questions at all: chats need a chat template.

    Raises:
        InputError: some are chats and the model has no template.
    """
    if template:
        return
    chats = []
    for behaviour in _asked(plan, suite):
        first = every_scenario(plan, suite, behaviour)[:1]
        chats += [behaviour.name for scenario in first if not isinstance(scenario.prompt, str)]
    if chats:
        raise InputError(
            f"{model} has no chat template, and suite {plan.suite} asks chats ({', '.join(chats[:4])}"
            f"{', ...' if len(chats) > 4 else ''})",
            "questions in plain text",
            "Ask the suite that any language model can be asked: --suite text",
        )


def _scenarios(behaviour: Behaviour, n: int, seed: int) -> tuple[Scenario, ...]:
    scenarios = behaviour.scenarios(n=n, seed=seed)
    different = len({scenario.id for scenario in scenarios})
    if len(scenarios) != n or different != n:
        raise InputError(
            f"behaviour {behaviour.name!r} gave {different} different scenarios of {n}",
            "as many as the plan asks for",
            "Ask for fewer under [samples]",
        )
    return scenarios


def _prompting(plan: Plan, behaviour: str) -> list[Cell]:
    """Only an emotion by itself can be asked for in words; a blend has none."""
    emotions = [name for text in plan.directions if (name := emotion(text)) is not None] if plan.prompting else []
    return [
        Cell(phase="test", behaviour=behaviour, kind="prompting", direction=f"{form}:{name}", layer=-1, dose=0.0)
        for form, name in product(FORMS, emotions)
    ]


def _baseline(phase: Phase, behaviour: str) -> Cell:
    return Cell(phase=phase, behaviour=behaviour, kind="baseline", direction="", layer=-1, dose=0.0)


def _cell(phase: Phase, behaviour: str, vector: Steered, layer: int, dose: float) -> Cell:
    return Cell(phase=phase, behaviour=behaviour, kind=vector.kind, direction=vector.direction, layer=layer, dose=dose)


def _job(plan: Plan, behaviour: Behaviour, scenarios: Sequence[Scenario], cells: Sequence[Cell]) -> Job:
    ordered = sorted(cells, key=lambda cell: (cell.layer, _ORDER[cell.kind]))  # stable: names and doses stay as made
    return Job(behaviour, tuple(scenarios), tuple(ordered), repeats(plan, behaviour))
