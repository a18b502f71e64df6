"""What the plan asks for and the ledger lacks: in words, and which step of the decision it blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from heartstrings.behaviours.base import Behaviour
from heartstrings.experiment.ledger import CONTROL_KINDS, NATURAL_KINDS, ControlKind
from heartstrings.experiment.plan import Plan
from heartstrings.experiment.sample_counts import selecting
from heartstrings.verdict.effects import Controls, searched_whole
from heartstrings.verdict.results import Gate
from heartstrings.verdict.tables import EMPTY, Table, planned, steered_doses, whole

Part = Literal["effect", "kind", "controls", "matched", "gates", "check"]
"""`check`: questions with a known answer; `kind`: a whole kind of controls; `controls`: some of a kind."""


NATURAL = frozenset(NATURAL_KINDS)
"""Directions that natural text varies along: what an emotion has to exceed."""


@dataclass(frozen=True)
class Gap:
    """One thing that is missing."""

    part: Part | None
    """Which step of the decision it blocks; None: it is only reported."""
    words: str
    short: int = 0
    """Samples that the emptiest of its cells lacks."""


def effect_gaps(plan: Plan, table: Table, behaviour: Behaviour, direction: str, layer: int | None) -> list[Gap]:
    """Of the direction itself: its layer search, its doses, the baseline."""
    gaps = []
    name = behaviour.name
    rows = table.select(name, "direction", direction)
    if layer is None or not searched_whole(plan, table, behaviour, rows):
        gaps.append(
            Gap("effect", f"{name}: the layer search of {direction} is not finished", selecting(plan, behaviour))
        )
    expected = planned(plan, behaviour)
    cells = {} if layer is None else table.doses(name, "direction", direction, layer)
    columns = [table.baseline(name), *(cells.get(dose, EMPTY) for dose in plan.compared(name))]
    short = [expected - len(column) for column in columns if not whole(column, expected)]
    if short:
        words = f"{name}: {len(short)} of {len(columns)} cells of the slope window are not finished for {direction}"
        gaps.append(Gap("effect", words, max(short)))
    beyond = [dose for dose in steered_doses(plan) if dose not in plan.compared(name)]
    absent = [dose for dose in beyond if not whole(cells.get(dose, EMPTY), expected)]
    if absent and not short:
        listed = ", ".join(f"{dose:g}" for dose in absent)
        gaps.append(Gap(None, f"{name}: not finished at doses {listed} of {direction}", expected))
    ungraded = sum(row.outcome is None for column in columns for row in column.rows)
    if ungraded:
        gaps.append(Gap(None, f"{name}: {ungraded} answers within the slope window have no grade"))
    return gaps


def control_gaps(
    plan: Plan, behaviour: Behaviour, controls: Mapping[ControlKind, Controls], *, others: bool, unclear: bool = False
) -> list[Gap]:
    """Of the controls. `others`: whether anything else is missing; if so, a kind without samples is not yet done.
    `unclear`: the model does not tell the options apart, so that no control is asked."""
    expected = planned(plan, behaviour)
    if not plan.controlled:
        words = (
            f"{behaviour.name}: no control directions were asked, so whether any direction does as much is not known"
        )
        return [Gap("kind", words)]
    if unclear and not controls:
        return [Gap(None, f"{behaviour.name}: controls were not asked, as the model does not tell the options apart")]
    gaps = []
    for kind in CONTROL_KINDS:
        wanted = int(getattr(plan.controls, kind))
        if not wanted:
            continue
        if kind not in controls:
            # Three kinds need activations of the extraction: where all else is done, there were none. But one natural
            # kind at least is needed: against isotropic directions alone, any topic would pass for an emotion.
            alone = kind in NATURAL and not NATURAL & set(controls)
            pending = kind not in (*NATURAL, "shuffled") or others or not controls or alone
            words = f"{behaviour.name}: {kind} controls were not sampled"
            needs = {
                "topic": "the stories' activations, with topics that have every emotion",
                "natural": "the activations of stories and neutral texts",
            }.get(kind, "the stories' activations")
            words += " yet" if pending and not alone else f": they need {needs}"
            gaps.append(Gap("kind" if pending else None, words, expected))
        elif controls[kind].whole < wanted:
            lacking = wanted - controls[kind].whole
            words = f"{behaviour.name}: {lacking} of {wanted} {kind} controls are not finished"
            gaps.append(Gap("controls", words, controls[kind].short or expected))
    return gaps


def not_needed(behaviour: Behaviour, beside: Sequence[Gap]) -> list[Gap]:
    """The gaps of matched questions and costs where the model does not tell the options apart: the answer does not
    depend on them, so that they are not asked for it. Another effect at the same layer may have them."""
    reported = [gap for gap in beside if gap.part is None]
    if len(reported) < len(beside):
        words = "costs and matched questions were not asked, as the model does not tell the options apart"
        reported.append(Gap(None, f"{behaviour.name}: {words}"))
    return reported


def check_gaps(plan: Plan, table: Table, behaviours: Sequence[Behaviour]) -> list[Gap]:
    """Of the questions with a known answer."""
    gaps = []
    for behaviour in behaviours:
        lacking = planned(plan, behaviour) - len(table.baseline(behaviour.name))
        if lacking > 0:
            gaps.append(
                Gap("check", f"{behaviour.name}: {lacking} questions with a known answer are not asked yet", lacking)
            )
    return gaps


def matched_gaps(plan: Plan, behaviours: Sequence[Behaviour], *, finished: bool) -> list[Gap]:
    """Of the content-matched control questions."""
    if not behaviours or not plan.samples.matched:
        return [Gap(None, "content-matched control questions were not asked")]
    if finished:
        return []
    return [Gap("matched", "content-matched control questions are not finished", plan.samples.matched)]


def gate_gaps(plan: Plan, gates: Sequence[Gate], others: Sequence[Behaviour], effect: Behaviour) -> list[Gap]:
    """Of capability, harm and coherence."""
    gaps = []
    planned_for = {behaviour.name: planned(plan, behaviour) for behaviour in others}
    for name, of in {gate.name: gate.of for gate in gates}.items():
        doses = [f"{gate.dose:g}" for gate in gates if gate.name == name and gate.state == "missing"]
        if doses:
            short = planned_for.get(of, plan.samples.writing)
            gaps.append(Gap("gates", f"{name}: not sampled at doses {', '.join(doses)}", short))
    roles = {behaviour.role for behaviour in others}
    for role, words in (
        ("capability", "task accuracy was not examined"),
        ("harm", "unrelated harm was not examined"),
        ("writing", "coherence of free text was not examined"),
    ):
        if role not in roles and not (role == "writing" and effect.ask == "text"):
            gaps.append(Gap(None, words))
    return gaps
