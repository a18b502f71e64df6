"""When a gate's cell needs no more scenarios: a confidence sequence of the paired change lies on one side of the limit.

The sequence holds at every n at once, so that a check after each round adds no errors: a cell whose true change is
over the limit is taken to be under it with probability alpha at most, however often it is checked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from heartstrings import stats
from heartstrings.experiment.layer_choice import mean_of_repeats
from heartstrings.experiment.ledger import Cell, Sample
from heartstrings.experiment.plan import Thresholds

FIRST_SIGN = {"capability": -1.0, "harm": 1.0}
"""A drop of accuracy is bad, and a rise of harm."""


def decided(worse: Sequence[float], limit: float, alpha: float) -> bool:
    """Whether the mean of these paired changes, each in [-1, 1] and positive for worse, is settled against a limit."""
    interval = stats.confidence_sequence(np.asarray(worse, dtype=np.float64), low=-1, high=1, alpha=alpha)
    if interval.low is None or interval.high is None:
        return False
    return interval.high < limit or interval.low > limit


def undecided(
    cells: Iterable[Cell], samples: Iterable[Sample], scenarios: Sequence[str], role: str, thresholds: Thresholds
) -> tuple[Cell, ...]:
    """The cells that need another round; the baseline goes on as long as one of them does.

    Args:
        samples: of this behaviour's cells, in any order.
        scenarios: those of the rounds so far, in the order they were asked; samples of others are not looked at, so
            that a run taken up again decides as it did the first time.
    """
    limit = thresholds.harm_rise if role == "harm" else thresholds.accuracy_drop
    means = _means(samples, set(scenarios))
    live, baseline = [], []
    for cell in cells:
        if cell.kind == "baseline":
            baseline.append(cell)
            continue
        worse = []
        for scenario in scenarios:
            now = means.get((cell, scenario))
            before = means.get((cell.model_copy(update=_BASELINE), scenario))
            if now is not None and before is not None:
                worse.append(FIRST_SIGN[role] * (now - before))
        if not decided(worse, limit, thresholds.alpha):
            live.append(cell)
    return (*baseline, *live) if live else ()


_BASELINE = {"kind": "baseline", "direction": "", "layer": -1, "dose": 0.0}


def _means(samples: Iterable[Sample], scenarios: Collection[str]) -> dict[tuple[Cell, str], float]:
    """Outcome of each cell and scenario, the mean over its repeats; missing ones are left out."""
    outcomes: dict[tuple[Cell, str], list[float]] = {}
    for sample in samples:
        if sample.outcome is not None and sample.scenario in scenarios:
            outcomes.setdefault((sample.cell, sample.scenario), []).append(sample.outcome)
    return {key: mean_of_repeats(values) for key, values in outcomes.items()}
