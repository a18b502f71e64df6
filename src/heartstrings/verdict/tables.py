"""From ledger rows to arrays: the samples of one cell, in an order that does not depend on the ledger's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float64

from heartstrings.behaviours.base import Behaviour
from heartstrings.experiment.ledger import Kind, Phase, Sample
from heartstrings.experiment.plan import Plan
from heartstrings.experiment.sample_counts import repeats, tested
from heartstrings.stats.intervals import Interval, paired_change


@runtime_checkable
class Rows(Protocol):
    """A ledger, as far as the verdict needs one."""

    def samples(self) -> list[Sample]: ...


@runtime_checkable
class Suite(Protocol):
    """Which behaviours were asked (`heartstrings.behaviours.suites`)."""

    @property
    def capability(self) -> tuple[Behaviour, ...]: ...
    @property
    def harm(self) -> tuple[Behaviour, ...]: ...
    @property
    def matched(self) -> tuple[Behaviour, ...]: ...
    @property
    def writing(self) -> tuple[Behaviour, ...]: ...
    def behaviour(self, name: str) -> Behaviour: ...
    @property
    def cost(self) -> tuple[Behaviour, ...]: ...
    def matched_of(self, effect: str) -> tuple[Behaviour, ...]: ...
    def checks_of(self, effect: str) -> tuple[Behaviour, ...]: ...


class Column:
    """The samples of one cell, by scenario and repeat."""

    def __init__(self, rows: Iterable[Sample]) -> None:
        self.rows = tuple(sorted(rows, key=lambda row: (row.scenario, row.repeat)))
        self._values: dict[str, Float64[np.ndarray, "samples"]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def scenarios(self) -> tuple[str, ...]:
        """One a sample."""
        return tuple(row.scenario for row in self.rows)

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """Cluster of each sample."""
        return tuple(row.group for row in self.rows)

    @property
    def outcome(self) -> Float64[np.ndarray, "samples"]:
        return self.values("outcome")

    def values(self, quantity: str) -> Float64[np.ndarray, "samples"]:
        """`outcome`, `valid`, or a number of the detail by its name; NaN where there is none. Read-only."""
        known = self._values.get(quantity)
        if known is None:
            if quantity in ("outcome", "valid"):
                numbers = [getattr(row, quantity) for row in self.rows]
            else:
                numbers = [row.detail.get(quantity) for row in self.rows]
            known = np.array([np.nan if value is None else value for value in numbers], dtype=np.float64)
            known.flags.writeable = False
            self._values[quantity] = known
        return known

    def has(self, quantity: str) -> bool:
        """Whether any sample has this number."""
        return bool(len(self.rows)) and not bool(np.isnan(self.values(quantity)).all())

    def mean(self, quantity: str) -> float | None:
        """Over the samples that have it; None where none has."""
        return float(np.nanmean(self.values(quantity))) if self.has(quantity) else None


EMPTY = Column(())
_Key = tuple[Phase, str, Kind, str, int]


class Table:
    """Every cell of a ledger. A cell that was never sampled reads as an empty column."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        rows: dict[_Key, dict[float, list[Sample]]] = {}
        for sample in samples:
            cell = sample.cell
            key = (cell.phase, cell.behaviour, cell.kind, cell.direction, cell.layer)
            rows.setdefault(key, {}).setdefault(cell.dose, []).append(sample)
        self._cells: dict[_Key, dict[float, Column]] = {
            key: {dose: Column(cell_samples) for dose, cell_samples in sorted(by_dose.items())}
            for key, by_dose in sorted(rows.items())
        }
        self._layers: dict[tuple[Phase, str, Kind, str], list[int]] = {}
        self._names: dict[tuple[str, Kind], dict[str, None]] = {}
        self._searched: dict[str, set[int]] = {}
        for phase, behaviour, kind, direction, layer in self._cells:
            self._layers.setdefault((phase, behaviour, kind, direction), []).append(layer)
            self._names.setdefault((behaviour, kind), {})[direction] = None
            if phase == "select" and kind != "baseline":
                self._searched.setdefault(behaviour, set()).add(layer)

    def doses(self, behaviour: str, kind: Kind, direction: str, layer: int) -> Mapping[float, Column]:
        """Cells of the test half by dose, the baseline not among them."""
        return self._cells.get(("test", behaviour, kind, direction, layer), {})

    def baseline(self, behaviour: str, phase: Phase = "test") -> Column:
        """Unsteered."""
        return self._cells.get((phase, behaviour, "baseline", "", -1), {}).get(0.0, EMPTY)

    def select(self, behaviour: str, kind: Kind, direction: str) -> list[Sample]:
        """Rows of the layer search for one direction or control."""
        layers = self.layers("select", behaviour, kind, direction)
        columns = [self._cells["select", behaviour, kind, direction, layer].values() for layer in layers]
        return [row for by_dose in columns for column in by_dose for row in column.rows]

    def layers(self, phase: Phase, behaviour: str, kind: Kind, direction: str) -> tuple[int, ...]:
        """Layers at which a direction was sampled."""
        return tuple(self._layers.get((phase, behaviour, kind, direction), ()))

    def searched(self, behaviour: str) -> tuple[int, ...]:
        """Layers that any direction or control was searched over."""
        return tuple(sorted(self._searched.get(behaviour, ())))

    def names(self, behaviour: str, kind: Kind) -> tuple[str, ...]:
        """Directions of one kind that were sampled at all."""
        return tuple(self._names.get((behaviour, kind), {}))


def steered_doses(plan: Plan) -> tuple[float, ...]:
    """Doses that a direction is asked at, rising: all but 0, unless 0 does something too (clamping)."""
    return tuple(dose for dose in plan.doses if dose or plan.operation == "clamp")


def zero(plan: Plan, baseline: Column) -> Column:
    """The samples that slopes have at dose 0: the baseline, unless dose 0 is not the baseline (clamping)."""
    return EMPTY if plan.operation == "clamp" else baseline


def planned(plan: Plan, behaviour: Behaviour) -> int:
    """Samples that one cell of the test half should have: scenarios times repeats."""
    return tested(plan, behaviour) * repeats(plan, behaviour)


def whole(column: Column, expected: int) -> bool:
    """Whether a cell is finished."""
    return len(column) >= expected


Pairs: TypeAlias = tuple[np.ndarray, np.ndarray, list[str]]
"""Values before, values after, and the cluster of each pair."""


def pairs(before: Column, after: Column, quantity: str) -> Pairs:
    """A quantity before and after, paired by scenario and repeat, and each pair's cluster."""
    places = {(row.scenario, row.repeat): at for at, row in enumerate(before.rows)}
    both = [(places[key], at) for at, row in enumerate(after.rows) if (key := (row.scenario, row.repeat)) in places]
    first = before.values(quantity)[[pair[0] for pair in both]]
    second = after.values(quantity)[[pair[1] for pair in both]]
    return first, second, [after.groups[at] for _, at in both]


def change(before: Column, after: Column, quantity: str, *, level: float = 0.95) -> Interval:
    """Mean of `after` minus `before`, paired by scenario and repeat."""
    return paired_change(*pairs(before, after, quantity), level=level)


NOTHING = Interval(None, None, None)
