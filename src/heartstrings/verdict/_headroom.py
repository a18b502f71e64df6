"""Can an outcome rise and fall? Unsteered baselines, with what a neutral model does, and floors, ceilings and
chance."""

from __future__ import annotations

from collections.abc import Sequence

from heartstrings.behaviours.base import Behaviour
from heartstrings.behaviours.headroom import room
from heartstrings.stats.estimate import estimate
from heartstrings.stats.intervals import mean_interval
from heartstrings.verdict.results import Baseline
from heartstrings.verdict.tables import Table


def baselines(table: Table, behaviours: Sequence[Behaviour]) -> tuple[Baseline, ...]:
    """One for each behaviour that was asked unsteered; its flag says which change could not be seen here, whatever
    steering does."""
    unsteered = []
    for behaviour in behaviours:
        column = table.baseline(behaviour.name)
        if len(column):
            mean = mean_interval(column.outcome, column.groups)
            flag = _flag(behaviour, [row.outcome for row in column.rows], mean.low)
            unsteered.append(
                Baseline(
                    behaviour=behaviour.name,
                    role=behaviour.role,
                    outcome=estimate(mean),
                    neutral=behaviour.neutral,
                    flag=flag,
                )
            )
    return tuple(unsteered)


def _flag(behaviour: Behaviour, outcomes: Sequence[float | None], low: float | None) -> str | None:
    chance: float | None = getattr(behaviour, "chance", None)
    if behaviour.role == "writing":  # tone is no rate
        return None
    if behaviour.role == "check":
        at_chance = chance is not None and low is not None and low <= chance
        return f"at chance ({chance:.2f}): the model does not tell the options apart" if at_chance else None
    if behaviour.role == "capability" and chance is not None and low is not None and low <= chance:
        return f"at chance ({chance:.2f}): what the model cannot do, steering cannot take from it"
    said = room(outcomes)
    harmless = behaviour.role in ("harm", "matched") and said is not None and said.startswith("floor")
    able = behaviour.role == "capability" and said is not None and said.startswith("ceiling")
    # A baseline without harm or mistakes is as it should be.
    return None if harmless or able else said
