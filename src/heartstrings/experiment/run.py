"""The experiment: every sample of a plan that the ledger does not have yet, in an order that never changes.

Work is cut into chunks, and a chunk is recorded in one transaction: after a crash it is there or not, so the same
batches run again and the table that comes out is bitwise that of an undisturbed run.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, Protocol, cast

from heartstrings import behaviours, stats
from heartstrings.behaviours.base import Compared, Dialogue
from heartstrings.core.engine import Score
from heartstrings.core.errors import HeartstringsError, InputError, NumericalError
from heartstrings.core.steering import Steering
from heartstrings.experiment._early_stopping import undecided
from heartstrings.experiment.cells import (
    Chosen,
    Item,
    Job,
    Named,
    Part,
    anywhere,
    cells,
    select_jobs,
    steered,
    test_jobs,
)
from heartstrings.experiment.layer_choice import choose_layer
from heartstrings.experiment.ledger import CLAIM_KINDS, CONTROL_KINDS, Cell, ClaimKind, Kind, Sample, SampleLedger
from heartstrings.experiment.plan import ROUND, Plan, searched_layers
from heartstrings.experiment.sample_counts import leader
from heartstrings.experiment.told_apart import not_told_apart

if TYPE_CHECKING:
    from heartstrings.behaviours.base import Answer, Behaviour, Grade, Request, Scenario
    from heartstrings.behaviours.roles import Suite
    from heartstrings.core.engine import Completion, Engine, GenerateRequest, Prompt, ScoreRequest
    from heartstrings.experiment.controls import DirectionSet

__all__ = ["cells", "chosen_layers", "run_experiment", "sampling_seed"]

CHUNK = {"choice": 512, "text": 128, "dialogue": 64}
"""Requests a transaction."""
Progress = Callable[[int, int], None]


class StillOpen(Protocol):
    """What is still open in a plan: the verdict's, on what the ledger has by now (`heartstrings.verdict.Open`)."""

    def undecided(self, asked: int) -> frozenset[str]:
        """The effect behaviours to ask along more than the first `asked` controls of each kind; after all of them,
        those whose claims could be shown."""

    def reached(self, kind: ClaimKind) -> bool:
        """Whether a claim that rests on this kind of comparison could be shown."""


def run_experiment(
    plan: Plan,
    engine: Engine,
    directions: DirectionSet,
    ledger: SampleLedger,
    *,
    progress: Progress | None = None,
    suite: Suite | None = None,
    still_open: StillOpen | None = None,
) -> None:
    """Take every sample that is missing: first questions with a known answer, then those that choose layers, then those
    that are reported. A behaviour that the model does not understand is asked without controls (`told_apart`).

    With `still_open` and a plan with `control_round`, directions are asked alone first. Controls follow in rounds, of
    the behaviours that are undecided by then, and what the claims compare comes last.

    Args:
        directions: of the plan, at the layers it searches.
        ledger: of the same plan.
        progress: called with (samples done, samples in all); the second number falls where samples turn out not to be
            needed.
        suite: the behaviours; None takes the plan's from `heartstrings.behaviours.suites`.
        still_open: says after each stage what more samples could change; None: everything is asked.
    Raises:
        InputError: the ledger is of another plan, model or vectors; too few controls exist. NumericalError: NaN or Inf
            in the model, or a grade outside [0, 1]; the cell and scenario are named. What was recorded stays.
    """
    if suite is None:
        suite = behaviours.suite_of(plan)
    if ledger.plan.hash != plan.hash:
        raise InputError("a ledger of another plan", f"the ledger of plan {plan.hash[:12]}", "Open it with this plan")
    _check_controls(plan, directions)
    layers = searched_layers(plan, engine.info.n_layers, getattr(directions, "layers", None))
    ledger.bind("weights", engine.info.weights_hash, "a model")
    ledger.bind("directions", directions_fingerprint(plan, directions, layers), "vectors")

    run = Sampling(plan, engine, directions, ledger, progress, total=0)
    stages = Stages(run, suite, layers)
    # The layers are not known yet; how many samples there are depends on them only if effects disagree.
    run.total = stages.size(directions, ())
    for job in test_jobs(plan, suite, directions, anywhere(plan, directions, layers[0])):
        if job.behaviour.role == "check":
            run.job(job)
    unclear = not_told_apart(plan, suite, ledger.samples(phase="test"))
    if still_open is None or not plan.control_round:
        stages.take(directions, unclear)
    else:
        _in_rounds(stages, still_open, unclear)
    run.report()


def _in_rounds(stages: Stages, still_open: StillOpen, unclear: frozenset[str]) -> None:
    """The directions, then controls in rounds, then what the claims compare."""
    plan, directions = stages.run.plan, stages.run.directions
    effects, rounds = frozenset(plan.effects), plan.rounds
    # Emotions of other families are many, and their claim comes after that of mixtures.
    compared: tuple[tuple[ClaimKind, ...], ...] = (("mixture", "stripped"), ("other",))
    last = [Part(directions, claimed=kinds) for kinds in compared]
    stages.take(Part(directions), unclear)
    for number, (asked, following) in enumerate(pairwise(rounds)):
        closed = unclear | (effects - still_open.undecided(asked))
        later = [Part(directions, range(*ends)) for ends in pairwise(rounds[number:])]
        stages.run.total = stages.run.done + sum(stages.size(part, closed) for part in (*later, *last))
        if closed == effects:
            return
        stages.take(Part(directions, range(asked, following)), closed)
    closed = unclear | (effects - still_open.undecided(rounds[-1]))
    for part in last:
        if part.claims and still_open.reached(part.claimed[0]):
            stages.take(part, closed)


@dataclass
class Stages:
    """Takes the samples of some directions and controls: their search for layers, then what is reported."""

    run: Sampling
    suite: Suite
    layers: Sequence[int]

    def take(self, names: Named, closed: Collection[str]) -> None:
        """Everything but the questions with a known answer, which are asked first.

        Args:
            closed: effect behaviours whose controls are not asked.
        """
        run, plan = self.run, self.run.plan
        for job in _within(names, select_jobs(plan, self.suite, names, self.layers, unclear=closed)):
            run.job(job)
        chosen = chosen_layers(plan, names, run.ledger, self.layers, self.suite)
        second = [
            job
            for job in _within(names, test_jobs(plan, self.suite, names, chosen, unclear=closed))
            if job.behaviour.role != "check"
        ]
        if not isinstance(names, Part):
            run.total = run.done + sum(map(len, second))
        for job in second:
            if plan.early_stopping and job.behaviour.role in ("capability", "harm"):
                run.rounds(job)
            else:
                run.job(job)

    def size(self, names: Named, closed: Collection[str]) -> int:
        """Samples that `take` would ask for, if all layers chosen were the first."""
        plan, suite = self.run.plan, self.suite
        jobs = (
            *select_jobs(plan, suite, names, self.layers, unclear=closed),
            *test_jobs(plan, suite, names, anywhere(plan, names, self.layers[0]), unclear=closed),
        )
        return sum(map(len, _within(names, jobs)))


def _within(names: Named, jobs: Iterable[Job]) -> tuple[Job, ...]:
    """The cells that a part of the controls asks; those of the whole set as they are."""
    if not isinstance(names, Part):
        return tuple(jobs)
    narrowed = [job.of(job.scenarios, [cell for cell in job.cells if cell in names]) for job in jobs]
    return tuple(job for job in narrowed if job.cells)


def chosen_layers(plan: Plan, directions: Named, ledger: SampleLedger, layers: Sequence[int], suite: Suite) -> Chosen:
    """The layer of each direction and control on each effect behaviour, from the ledger's select rows alone.

    The lowest layer where no select row has an outcome: no layer can then be preferred, and the verdict finds nothing.
    """
    if len(layers) == 1:
        return anywhere(plan, directions, layers[0])
    chosen = {}
    for effect in plan.effects:
        behaviour = leader(plan, suite, effect)
        rows: dict[tuple[Kind, str], list[Sample]] = {}
        for sample in ledger.samples(phase="select", behaviour=behaviour):
            rows.setdefault((sample.cell.kind, sample.cell.direction), []).append(sample)
        for vector in steered(plan, directions):
            layer = choose_layer(rows.get((vector.kind, vector.direction), ())).layer
            chosen[effect, vector] = layers[0] if layer is None else layer
    return chosen


def sampling_seed(plan_seed: int, behaviour: str, scenario: str, repeat: int) -> int:
    """32 bits. The cell plays no part: doses are compared under common random numbers."""
    text = "\n".join((str(plan_seed), behaviour, scenario, str(repeat)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


@dataclass
class Sampling:
    """Asks a model what a plan lacks, job by job, into a ledger."""

    plan: Plan
    engine: Engine
    directions: DirectionSet
    ledger: SampleLedger
    progress: Progress | None
    total: int
    done: int = 0
    steerings: dict[Cell, Steering | None] = field(default_factory=dict)

    def job(self, job: Job) -> None:
        """All samples of a job that are missing, chunk by chunk."""
        there = {
            key
            for phase in {cell.phase for cell in job.cells}
            for key in self.ledger.keys(phase=phase, behaviour=job.behaviour.name)
        }
        self.steerings = {cell: self.directions.steering(cell, self.plan) for cell in job.cells}
        # Chunks are cut from the whole list, never from what is missing: a batch must not depend on the past.
        for chunk in _chunks(job.items(), CHUNK[job.behaviour.ask]):
            missing = [item for item in chunk if item.key not in there]
            self.done += len(chunk)
            if missing:
                # Only what is asked tells the pace: what the ledger has already comes in no time.
                self.ledger.add(self.take(job.behaviour, missing))
                self.report()

    def rounds(self, job: Job) -> None:
        """The same in rounds of scenarios, after each of which decided cells stop."""
        live = job.cells
        name = job.behaviour.name
        for start in range(0, len(job.scenarios), ROUND):
            self.job(job.of(job.scenarios[start : start + ROUND], live))
            asked = [scenario.id for scenario in job.scenarios[: start + ROUND]]
            rows = self.ledger.samples(phase="test", behaviour=name)
            still = undecided(live, rows, asked, job.behaviour.role, self.plan.spent.thresholds)
            left = len(job.scenarios) - len(asked)
            self.total -= (len(live) - len(still)) * left * job.repeats
            live = still
            if not live:
                return

    def take(self, behaviour: Behaviour, items: Sequence[Item]) -> list[Sample]:
        """Ask and grade some samples in one batch."""
        asked = [worded(item) for item in items]
        requests = [request_for(self.plan, behaviour, item, self.steerings[item.cell]) for item in items]
        if isinstance(behaviour, Dialogue):
            return self.talk(behaviour, items, asked, cast("Sequence[GenerateRequest]", requests))
        verb = self.engine.score if behaviour.ask == "choice" else self.engine.generate
        answers = _answers(cast("Callable[[Any], Sequence[Answer]]", verb), requests, items)
        with_more = []
        for number, (item, scenario) in enumerate(zip(items, asked, strict=True)):
            more = self.second(behaviour, item, scenario, answers[number])
            if more is not None:
                with_more.append((number, more))
        second: Mapping[int, Score] = {}
        if with_more:
            scores = _answers(self.engine.score, [more for _, more in with_more], [items[n] for n, _ in with_more])
            second = {number: score for (number, _), score in zip(with_more, scores, strict=True)}
        return [
            _sample(item, _named(item, partial(behaviour.grade, scenario, answers[number], second.get(number))))
            for number, (item, scenario) in enumerate(zip(items, asked, strict=True))
        ]

    def second(self, behaviour: Behaviour, item: Item, scenario: Scenario, answer: Answer) -> ScoreRequest | None:
        """What grading needs beside the answer."""
        if isinstance(behaviour, Compared):
            premise = behaviour.against(scenario, steering=self.steerings[item.cell])
            # The premise is asked in the same words, which would otherwise look like a change of the decision.
            return replace(premise, prompt=_prompt_in(item, premise.prompt))
        if item.cell.kind in (*CONTROL_KINDS, *CLAIM_KINDS):
            return None  # no gate uses how likely a control's text is
        request: ScoreRequest | None = _named(item, partial(behaviour.follow_up, scenario, answer))
        return request

    def talk(
        self,
        behaviour: Dialogue,
        items: Sequence[Item],
        asked: Sequence[Scenario],
        first: Sequence[GenerateRequest],
    ) -> list[Sample]:
        """Dialogues side by side, a turn of all that go on in one batch."""
        answers: list[list[Completion]] = [[] for _ in items]
        live: list[tuple[int, GenerateRequest]] = list(enumerate(first))
        for turn in range(1, behaviour.turns + 1):
            said = _answers(self.engine.generate, [request for _, request in live], [items[n] for n, _ in live])
            going = []
            for (number, _), answer in zip(live, said, strict=True):
                answers[number].append(answer)
                call = partial(behaviour.further, asked[number], first[number], tuple(answers[number]))
                request = _named(items[number], call) if turn < behaviour.turns else None
                if request is not None:
                    # Of one sample, every turn is steered alike and drawn apart.
                    seed = sampling_seed(first[number].seed, behaviour.name, asked[number].id, turn)
                    going.append((number, replace(request, seed=seed, steering=first[number].steering)))
            live = going
            if not live:
                break
        return [
            _sample(item, _named(item, partial(behaviour.grade_dialogue, scenario, tuple(said))))
            for item, scenario, said in zip(items, asked, answers, strict=True)
        ]

    def report(self) -> None:
        if self.progress is not None:
            self.progress(self.done, self.total)


def request_for(plan: Plan, behaviour: Behaviour, item: Item, steering: Steering | None) -> Request:
    """What the engine is asked for one sample."""
    seed = sampling_seed(plan.seed, behaviour.name, item.scenario.id, item.repeat)
    return behaviour.request(worded(item), steering=steering, seed=seed)


def worded(item: Item) -> Scenario:
    """The scenario as it is asked in this cell: for a prompting baseline, with the emotion in words."""
    return replace(item.scenario, prompt=_prompt_in(item, item.scenario.prompt))


def _prompt_in(item: Item, prompt: Prompt) -> Prompt:
    if item.cell.kind != "prompting":
        return prompt
    form, emotion = item.cell.direction.split(":", 1)
    return behaviours.prompted(prompt, cast("Any", form), emotion)


def _answers(verb: Callable[[Any], Sequence[Any]], requests: Sequence[Any], items: Sequence[Item]) -> Sequence[Any]:
    """One batch; where it fails on numbers, each request alone, to find the one at fault."""
    try:
        return verb(requests)
    except NumericalError as error:
        for request, item in zip(requests, items, strict=True):
            try:
                verb([request])
            except NumericalError as single:
                raise NumericalError(f"{_words(item)}: {single.found}", single.expected, single.fix) from error
        raise NumericalError(
            f"{_words(items[0])} to {_words(items[-1])}, in one batch: {error.found}", error.expected, error.fix
        ) from error


def _named(item: Item, call: Callable[[], Any]) -> Any:
    """What a behaviour's own code returns; an error in it says where it was."""
    try:
        return call()
    except HeartstringsError as error:
        raise type(error)(f"{_words(item)}: {error.found}", error.expected, error.fix) from error
    except Exception as error:
        raise HeartstringsError(
            f"{_words(item)}: grading failed with {type(error).__name__}: {error}",
            "a grade of every answer",
            "Correct the behaviour and run again: what is recorded stays",
        ) from error


def _sample(item: Item, grade: Grade) -> Sample:
    for name, value in (("outcome", grade.outcome), ("valid", grade.valid)):
        if value is not None and not 0 <= value <= 1:  # NaN is refused too
            problem = f"{_words(item)}: {name} {value}"
            raise NumericalError(problem, "a number from 0 to 1, or None", "Correct its grader")
    for name, value in grade.detail.items():
        if not math.isfinite(value):
            raise NumericalError(f"{_words(item)}: {name} is {value}", "a finite number", "Leave out what is missing")
    return Sample(
        cell=item.cell,
        scenario=item.scenario.id,
        group=item.scenario.group,
        repeat=item.repeat,
        outcome=grade.outcome,
        valid=grade.valid,
        text=grade.text,
        detail=dict(grade.detail),
    )


def _words(item: Item) -> str:
    cell = item.cell
    where = f", layer {cell.layer}, dose {cell.dose:g}" if cell.layer >= 0 else ""
    what = f"{cell.kind} {cell.direction}".strip()
    return f"{cell.behaviour}, scenario {item.scenario.id}, {what}{where}"


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def _check_controls(plan: Plan, directions: DirectionSet) -> None:
    """Again with the kinds that exist: shuffled ones need the stories' activations."""
    if not plan.controlled:
        return
    total = sum(getattr(plan.controls, kind) for kind in CONTROL_KINDS if kind in directions.kinds)
    if total < stats.LEAST_CONTROLS:
        raise InputError(
            f"{total} controls of the kinds that can be made ({', '.join(directions.kinds) or 'none'})",
            f"{stats.LEAST_CONTROLS} at least",
            "Raise general and span under [controls], or keep the stories' activations beside the vectors",
        )


def directions_fingerprint(plan: Plan, directions: DirectionSet, layers: Sequence[int]) -> str:
    """Of the directions, of one control of each kind and one comparison of each claim, at every layer: other vectors
    are another experiment."""
    kinds = (*directions.kinds, *directions.claims)
    digest = hashlib.sha256(",".join(kinds).encode())
    names: list[tuple[Kind, str]] = [("direction", text) for text in plan.directions]
    names += [(kind, first[0]) for kind in kinds if (first := directions.controls(kind, plan.directions[0]))]
    for kind, name in names:
        for layer in layers:
            cell = Cell(phase="test", behaviour="", kind=kind, direction=name, layer=layer, dose=plan.window[-1])
            steering = directions.steering(cell, plan)
            digest.update((steering.to_json() if steering is not None else "").encode())
    return digest.hexdigest()
