"""The ledger: one row a sample in SQLite, whole after any crash."""

from __future__ import annotations

from typing import Literal

from heartstrings.types import Frozen

Kind = Literal["baseline", "direction", "general", "span", "shuffled", "prompting"]
Phase = Literal["select", "test"]


class Cell(Frozen):
    """What one sample was taken under."""

    phase: Phase
    behaviour: str
    kind: Kind
    """`baseline`: unsteered, `dose` 0, `layer` -1, `direction` empty."""
    direction: str
    """An expression of the plan; for a control `general/7`, `span/7` or `shuffled/7:EXPRESSION`; for prompting
    `instruct:EMOTION` or `first-person:EMOTION` (then `layer` -1, `dose` 0)."""
    layer: int
    dose: float


class Sample(Frozen):
    """One row: a cell, a scenario, a repeat, and what came of it."""

    cell: Cell
    scenario: str
    group: str
    repeat: int
    outcome: float | None
    valid: float | None
    text: str | None
    detail: dict[str, float]
