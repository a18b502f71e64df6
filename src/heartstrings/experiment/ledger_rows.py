"""What a ledger's rows are: cells, samples, judgements; and the tables that hold them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from heartstrings.core.types import Frozen

SCHEMA_VERSION = 2
APPLICATION_ID = 0x48535452
"""`HSTR`, in the file's header: tells a ledger from other SQLite files."""

ControlKind = Literal["general", "span", "topic", "natural", "shuffled"]
CONTROL_KINDS: tuple[ControlKind, ...] = get_args(ControlKind)
NATURAL_KINDS: tuple[ControlKind, ...] = ("topic", "natural")
"""Gaussian mixtures of how natural text varies. Reversed, they have the same law, as a declared sign needs."""
ClaimKind = Literal["mixture", "other", "stripped"]
CLAIM_KINDS: tuple[ClaimKind, ...] = get_args(ClaimKind)
"""What further claims compare a direction with, beside its controls."""
Kind = Literal["baseline", "direction", ControlKind, ClaimKind, "prompting"]
Phase = Literal["select", "test"]


class Cell(Frozen):
    """What one sample was taken under."""

    phase: Phase
    behaviour: str
    kind: Kind
    """`baseline`: unsteered, `dose` 0, `layer` -1, `direction` empty."""
    direction: str
    """An expression of the plan; for a control `general/7`, `span/7` or `shuffled/7:EXPRESSION`; for a claim
    `mixture/7`, `other/EMOTION` or `stripped/EXPRESSION`; for prompting `instruct:EMOTION` or `first-person:EMOTION`
    (then `layer` -1, `dose` 0)."""
    layer: int
    dose: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One row: a cell, a scenario, a repeat, and what came of it. Not a model of pydantic: a ledger holds 100,000 of
    them and more, and its tables check the types."""

    cell: Cell
    scenario: str
    group: str
    repeat: int
    outcome: float | None
    valid: float | None
    text: str | None
    detail: dict[str, float]


Key = tuple[Cell, str, int]
"""Cell, scenario, repeat: what makes a sample one."""


class Judgement(Frozen):
    """What a judge said of one sample."""

    cell: Cell
    scenario: str
    repeat: int
    judge: str
    rubric: str
    """Its name and the first figures of its hash."""
    status: Literal["read", "unreadable", "no answer"]
    outcome: float | None
    """By the rubric; None where the text fell apart, or there is no score."""
    valid: float | None
    """None: the judgement adds its scores and decides nothing."""
    scores: dict[str, float]
    """By scale; details `judge_SCALE` of the sample."""


_JUDGEMENTS = """
CREATE TABLE judgements (
    phase TEXT NOT NULL, behaviour TEXT NOT NULL, kind TEXT NOT NULL, direction TEXT NOT NULL,
    layer INTEGER NOT NULL, dose REAL NOT NULL, scenario TEXT NOT NULL, repeat INTEGER NOT NULL,
    judge TEXT NOT NULL, rubric TEXT NOT NULL, status TEXT NOT NULL, outcome REAL, valid REAL,
    scores TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (phase, behaviour, kind, direction, layer, dose, scenario, repeat)
) STRICT, WITHOUT ROWID;
"""
CREATE = (
    """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE samples (
    phase TEXT NOT NULL, behaviour TEXT NOT NULL, kind TEXT NOT NULL, direction TEXT NOT NULL,
    layer INTEGER NOT NULL, dose REAL NOT NULL, scenario TEXT NOT NULL, repeat INTEGER NOT NULL,
    cluster TEXT NOT NULL, outcome REAL, valid REAL, text TEXT, detail TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (phase, behaviour, kind, direction, layer, dose, scenario, repeat)
) STRICT, WITHOUT ROWID;
"""
    + _JUDGEMENTS
)
KEY = ("phase", "behaviour", "kind", "direction", "layer", "dose", "scenario", "repeat")
COLUMNS = (*KEY, "cluster", "outcome", "valid", "text", "detail")
SAID = (*KEY, "judge", "rubric", "status", "outcome", "valid", "scores")


def _from_0(db: sqlite3.Connection) -> None:
    """Version 0 had no `detail`."""
    db.execute("ALTER TABLE samples ADD COLUMN detail TEXT NOT NULL DEFAULT '{}'")


def _from_1(db: sqlite3.Connection) -> None:
    """Version 1 had no judgements."""
    db.execute(_JUDGEMENTS)


MIGRATIONS: Mapping[int, Callable[[sqlite3.Connection], None]] = {0: _from_0, 1: _from_1}
"""How a file of each older version becomes one of the next."""
