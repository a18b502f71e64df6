"""What the report shows beside the numbers: texts, asking in words, and preferences at both ends of the window."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from heartstrings.behaviours.base import Behaviour
from heartstrings.behaviours.choices.strengths import strengths
from heartstrings.core.engine import Prompt
from heartstrings.core.errors import InputError, NumericalError
from heartstrings.experiment.cells import every_scenario
from heartstrings.experiment.ledger import Sample
from heartstrings.experiment.plan import Plan
from heartstrings.stats.estimate import estimate
from heartstrings.stats.intervals import mean_interval
from heartstrings.verdict.results import PromptBaseline, Strength, TextSample
from heartstrings.verdict.tables import Column, Suite, Table, change

RESAMPLES = 100
"""Of the bootstrap behind strengths."""
SHOWN = 2
"""Scenarios shown side by side at every dose; the clearest one and the least coherent text come on top."""


def texts(
    plan: Plan, table: Table, suite: Suite, behaviours: Sequence[Behaviour], direction: str, layer: int
) -> tuple[TextSample, ...]:
    """For each dose the same scenarios: the first ones and the one that moves most. And at each dose the text with the
    highest perplexity under the unsteered model."""
    text_samples = []
    for behaviour in behaviours:
        columns = dict(table.doses(behaviour.name, "direction", direction, layer))
        baseline = table.baseline(behaviour.name)
        if len(baseline):
            columns[0.0] = baseline
        if not any(row.text is not None for column in columns.values() for row in column.rows):
            continue
        prompts = {scenario.id: _shown(scenario.prompt) for scenario in every_scenario(plan, suite, behaviour)}
        names = sorted(
            {row.scenario for row in baseline.rows} or {r.scenario for c in columns.values() for r in c.rows}
        )
        clearest = _clearest(columns, plan.window)
        kept = {*names[:SHOWN], clearest}
        for dose, column in sorted(columns.items()):
            rows = [row for row in column.rows if row.text is not None]
            measured = [row for row in rows if "log_perplexity" in row.detail]
            worst = max(measured, key=lambda row: row.detail["log_perplexity"], default=None)
            shown = [row for row in rows if row.scenario in kept and row.repeat == 0]
            if worst is not None and worst not in shown:
                shown.append(worst)
            text_samples += [
                _text(dose, row, prompts.get(row.scenario, ""), row is worst, row.scenario == clearest) for row in shown
            ]
    return tuple(text_samples)


def _clearest(columns: Mapping[float, Column], window: Sequence[float]) -> str | None:
    """The scenario whose outcome moves most between the ends of the window, the way that the mean moves; None without
    outcomes at two doses there."""
    doses = [dose for dose in columns if dose in window]
    if len(doses) < 2:
        return None
    low, high = (
        {row.scenario: row.outcome for row in columns[end].rows if row.repeat == 0 and row.outcome is not None}
        for end in (min(doses), max(doses))
    )
    moves = {name: high[name] - low[name] for name in sorted(low.keys() & high.keys())}
    way = math.copysign(1, math.fsum(moves.values()))
    return max(moves, key=lambda name: way * moves[name], default=None)


def prompting(table: Table, behaviour: str, direction: str) -> tuple[PromptBaseline, ...]:
    """The behaviour where an emotion of this direction is asked for in words, against the plain question."""
    baseline = table.baseline(behaviour)
    prompt_baselines = []
    for name in sorted(table.names(behaviour, "prompting")):
        form, _, emotion = name.partition(":")
        if not re.search(rf"(?<!\w){re.escape(emotion)}(?!\w)", direction):
            continue
        column = table.doses(behaviour, "prompting", name, -1).get(0.0)
        if column is None:
            continue
        moved = change(baseline, column, "outcome")
        outcome = mean_interval(column.outcome, column.groups)
        prompt_baselines.append(
            PromptBaseline(form=form, emotion=emotion, outcome=estimate(outcome), change=estimate(moved))
        )
    return tuple(prompt_baselines)


def _shown(prompt: Prompt) -> str:
    """A chat as lines of `role: content`."""
    return prompt if isinstance(prompt, str) else "\n".join(f"{turn.role}: {turn.content}" for turn in prompt)


def _text(dose: float, row: Sample, prompt: str, worst: bool, clearest: bool) -> TextSample:
    return TextSample(
        dose=dose,
        scenario=row.scenario,
        prompt=prompt,
        text=row.text or "",
        outcome=row.outcome,
        log_perplexity=row.detail.get("log_perplexity"),
        worst=worst,
        clearest=clearest,
    )


class Preferences:
    """Strengths by cell; the unsteered ones, which all directions share, are fitted once."""

    def __init__(self, plan: Plan, table: Table, suite: Suite) -> None:
        self._plan, self._table = plan, table
        asked = [behaviour for behaviour in suite.matched if len(table.baseline(behaviour.name))]
        by_name = {behaviour.name: every_scenario(plan, suite, behaviour) for behaviour in asked}
        self._pairs = {
            name: {scenario.id: scenario for scenario in scenarios if {"first", "second"} <= set(scenario.data)}
            for name, scenarios in by_name.items()
        }
        self._baseline = {
            name: self._fit(name, table.baseline(name), 0.0) for name, pairs in self._pairs.items() if pairs
        }

    def of(self, direction: str, layer: int) -> tuple[Strength, ...]:
        """One entry an activity and dose, by behaviour, dose and activity; empty where no choice is between pairs."""
        ends = (self._plan.window[0], self._plan.window[-1])
        preferences: list[Strength] = []
        for name, baseline in self._baseline.items():
            cells = self._table.doses(name, "direction", direction, layer)
            steered = [strength for dose in ends if dose in cells for strength in self._fit(name, cells[dose], dose)]
            preferences += sorted((*baseline, *steered), key=lambda strength: (strength.dose, strength.item))
        return tuple(preferences)

    def _fit(self, name: str, column: Column, dose: float) -> list[Strength]:
        pairs = self._pairs[name]
        rows = [row for row in column.rows if row.scenario in pairs]
        try:
            fitted = strengths(
                [pairs[row.scenario] for row in rows],
                [row.outcome for row in rows],
                resamples=RESAMPLES,
                seed=self._plan.seed,
            )
        except (InputError, NumericalError):
            return []  # too few pairs to link all activities, or none yet
        return [
            Strength(item=item, dose=dose, strength=estimate(interval), n=interval.n)
            for item, interval in fitted.items.items()
        ]
