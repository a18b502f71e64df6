"""Is the comparison with controls fair? Controls of one natural kind, tested as if they were directions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from heartstrings.experiment.plan import Plan
from heartstrings.stats.contrasts import in_units, largest
from heartstrings.stats.nulls import p_value
from heartstrings.verdict._missing import NATURAL
from heartstrings.verdict.effects import Controls
from heartstrings.verdict.measured import Measured
from heartstrings.verdict.results import Calibration


def calibration(plan: Plan, measurements: Sequence[Measured]) -> tuple[Calibration, ...]:
    """Each natural kind of controls against each other natural kind, once a behaviour.

    A control has no emotion in it. If kinds of natural directions are alike, its p against another kind is uniform;
    many small p mean that the other kind moves behaviour too little for a fair comparison, and many large p mean
    that it moves it too much. The statistic is the verdict's: the largest contrast, by size, in its units.
    A control whose doses do not have every contrast takes no part. The controls do not depend on the tested direction,
    so the first direction that could be fitted stands for all.
    """
    of_behaviour: dict[str, Measured] = {}
    for measured in measurements:
        if measured.fit.shapes and len(NATURAL & set(measured.controls)) > 1:
            of_behaviour.setdefault(measured.behaviour.name, measured)
    made, least = [], plan.thresholds.smallest_effect
    for name, measured in of_behaviour.items():
        sizes = {kind: _sizes(group) for kind, group in measured.controls.items() if kind in NATURAL}
        for kind, own in sizes.items():
            for against, null in sizes.items():
                if against != kind and len(own) and len(null):
                    made.append(
                        Calibration(
                            behaviour=name, kind=kind, against=against, controls=len(null), ps=_ps(own, null, least)
                        )
                    )
    return tuple(made)


def _sizes(group: Controls) -> Float64[np.ndarray, "control contrast"]:
    changes = np.array([list(control.changes.values()) for control in group.each], dtype=np.float64)
    changes = changes.reshape(len(group.each), -1)
    return changes[~np.isnan(changes).any(axis=1)]


def _ps(
    own: Float64[np.ndarray, "control contrast"], null: Float64[np.ndarray, "other contrast"], least: float
) -> tuple[float, ...]:
    tops = [largest(in_units(np.vstack([row, null]), least=least)) for row in own]
    ps = [p_value(float(top[0]), top[1:]) for top in tops]
    return tuple(sorted(p for p in ps if p is not None))
