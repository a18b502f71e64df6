"""Which layer a direction is reported at: the rule that the experiment and the verdict share.

Only the select half of the scenarios is looked at, and every control direction goes through the same search, so
that the search itself cannot make a direction look better than its controls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from heartstrings.experiment.ledger import Sample


@dataclass(frozen=True)
class LayerChange:
    """What one layer did on the select half: the outcome at the highest window dose minus that at the lowest."""

    layer: int
    changes: Float64[np.ndarray, "scenarios"]
    """One a scenario that has an outcome at both doses; repeats are averaged first. In order of scenario."""
    groups: tuple[str, ...]
    """Cluster of each scenario, for an interval."""
    width: float
    """Highest dose minus lowest dose, in units of dose."""

    @property
    def mean(self) -> float | None:
        """Mean change, as a fraction; None without a scenario."""
        return float(self.changes.mean()) if len(self.changes) else None


@dataclass(frozen=True)
class LayerSearch:
    """The outcome of the search for one direction: the layer, and what each searched layer did."""

    layer: int | None
    """The layer with the largest |mean change|, the lowest of equals; None where nothing could be compared."""
    searched: tuple[LayerChange, ...]
    """In rising order of layer."""


def choose_layer(samples: Iterable[Sample]) -> LayerSearch:
    """Choose the layer of one direction (or control) on one behaviour.

    Args:
        samples: rows of the select phase for that direction and behaviour alone, in any order; rows of the test
            phase and of other kinds must not be among them. The two outermost doses found are compared. A row
            without an outcome is left out, and so is a scenario that lacks one of the two doses.
    """
    outcomes: dict[tuple[int, str], dict[float, list[float]]] = {}
    groups: dict[str, str] = {}
    doses: set[float] = set()
    layers: set[int] = set()
    for sample in samples:
        cell = sample.cell
        layers.add(cell.layer)
        doses.add(cell.dose)
        groups[sample.scenario] = sample.group
        if sample.outcome is not None:
            by_dose = outcomes.setdefault((cell.layer, sample.scenario), {})
            by_dose.setdefault(cell.dose, []).append(sample.outcome)
    if len(doses) < 2:
        return LayerSearch(None, ())
    low, high = min(doses), max(doses)
    searched = tuple(_change(layer, outcomes, groups, low, high) for layer in sorted(layers))
    sizes = {change.layer: abs(mean) for change in searched if (mean := change.mean) is not None}
    # Sizes that differ by rounding only are equal: a direction and its opposite choose the same layer.
    largest = [layer for layer, size in sizes.items() if size >= max(sizes.values()) - 1e-12]
    return LayerSearch(min(largest, default=None), searched)


def _change(
    layer: int,
    outcomes: Mapping[tuple[int, str], Mapping[float, list[float]]],
    groups: Mapping[str, str],
    low: float,
    high: float,
) -> LayerChange:
    pairs = {}
    for scenario in sorted(groups):
        by_dose = outcomes.get((layer, scenario), {})
        if low in by_dose and high in by_dose:
            pairs[scenario] = mean_of_repeats(by_dose[high]) - mean_of_repeats(by_dose[low])
    changes = np.array(list(pairs.values()), dtype=np.float64)
    return LayerChange(layer, changes, tuple(groups[scenario] for scenario in pairs), high - low)


def mean_of_repeats(repeats: Sequence[float]) -> float:
    """Mean of one cell and scenario; sorted first, so that the order of the rows cannot change the last bit."""
    return float(np.mean(sorted(repeats))) if len(repeats) > 1 else repeats[0]
