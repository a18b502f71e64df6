"""How far a first-order screen can be trusted: predictions beside the changes that steering makes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float64
from scipy.stats import spearmanr

from heartstrings.behaviours.base import Behaviour, Compared, Scenario
from heartstrings.core.engine import Engine, Score, ScoreRequest
from heartstrings.experiment.controls import DirectionSet
from heartstrings.experiment.ledger import Cell, ControlKind
from heartstrings.experiment.plan import Plan
from heartstrings.experiment.screen_results import CheckedCell, Drawn, Fidelity

MULTIPLES = (0.25, 1.0, 2.0)
"""Doses of the check, in doses of the screen."""
SCENARIOS = 4
"""Scenarios that the check asks at most. They are compared with predictions for the same scenarios, so that asking few
of them adds no noise."""
LEAST_LAYERS = 4
RESAMPLES = 2000
LEAST_CELLS = 4
"""Fewer cells have no correlation."""


def drawn_cells(
    n: int,
    emotions: Sequence[str],
    layers: Sequence[int],
    predicted: Float64[np.ndarray, "layer emotion"],
    kinds: Sequence[ControlKind],
    controls: int,
    draws: np.random.Generator,
) -> list[tuple[str, str, int, Drawn]]:
    """(kind, name, layer, how it was drawn) of about `n` different cells.

    A third are emotions drawn evenly, a third emotions drawn with a probability in proportion to the size of their
    prediction, and a third controls. The layers are spread evenly over the depth, and each has some of every third;
    there are few of them, since steered texts share the blocks below their layer.
    """
    several = min(len(layers), max(LEAST_LAYERS, n // 6))
    edges = np.linspace(0, len(layers), several + 1)
    rows = [int(draws.integers(int(low), max(int(low) + 1, int(high)))) for low, high in pairwise(edges)]
    drawn: dict[tuple[str, str, int], Drawn] = {}
    ways: tuple[Drawn, ...] = ("evenly", "by size", "control") if kinds and controls else ("evenly", "by size")
    for number in range(n):
        how, row = ways[number % len(ways)], rows[number // len(ways) % several]
        for _ in range(20):  # another one where it was drawn before
            if how == "control":
                kind = kinds[number // len(ways) % len(kinds)]
                key: tuple[str, str, int] = (kind, f"{kind}/{draws.integers(controls)}", layers[row])
            else:
                sizes = np.abs(predicted[row])
                even = how == "evenly" or not sizes.sum()
                column = draws.choice(len(emotions), p=None if even else sizes / sizes.sum())
                key = ("direction", emotions[column], layers[row])
            if key not in drawn:
                drawn[key] = how
                break
    return [(*key, how) for key, how in drawn.items()]


def exact_outcomes(
    engine: Engine,
    plan: Plan,
    behaviour: Behaviour,
    scenarios: Sequence[Scenario],
    directions: DirectionSet,
    cells: Sequence[tuple[str, str, int]],
    doses: Sequence[float],
) -> Float64[np.ndarray, "cell dose scenario"]:
    """Outcomes of really steered answers; NaN where the grader gives none.

    A request against a premise is steered too, as in an experiment. Requests of one scenario are neighbours, and among
    them those of one layer: the engine shares what they have in common.
    """
    order = sorted(range(len(cells)), key=lambda at: cells[at][2])
    steerings = [
        directions.steering(
            Cell(
                phase="select",
                behaviour=behaviour.name,
                kind=cells[at][0],  # type: ignore[arg-type]
                direction=cells[at][1],
                layer=cells[at][2],
                dose=dose,
            ),
            plan,
        )
        for at in order
        for dose in doses
    ]
    asked = [behaviour.request(scenario, steering=steering, seed=0) for scenario in scenarios for steering in steerings]
    firsts = [request for request in asked if isinstance(request, ScoreRequest)]
    assert len(firsts) == len(asked)  # a choice scores
    seconds = (
        [behaviour.against(scenario, steering=steering) for scenario in scenarios for steering in steerings]
        if isinstance(behaviour, Compared)
        else []
    )
    scores = engine.score([*firsts, *seconds])
    premises: list[Score | None] = [*scores[len(firsts) :]] or [None] * len(firsts)
    grades = [
        behaviour.grade(scenarios[at // len(steerings)], answer, premise).outcome
        for at, (answer, premise) in enumerate(zip(scores[: len(firsts)], premises, strict=True))
    ]
    shape = (len(scenarios), len(cells), len(doses))
    values = np.array([np.nan if outcome is None else outcome for outcome in grades], dtype=np.float64).reshape(shape)
    outcomes: Float64[np.ndarray, "cell dose scenario"] = np.empty((len(cells), len(doses), len(scenarios)))
    outcomes[order] = np.moveaxis(values, 0, 2)
    return outcomes


def fidelity(
    cells: Sequence[CheckedCell], dose: float, doses: Sequence[float], draws: np.random.Generator
) -> tuple[Fidelity, ...]:
    """Agreement at each dose, over the cells that have a change there.

    Args:
        dose: of the predictions.
        doses: of the exact changes, in the order of `CheckedCell.exact`.
        draws: of the bootstrap.
    """
    fidelities = []
    for at, checked in enumerate(doses):
        measured = [cell for cell in cells if cell.exact[at] is not None]
        predicted = np.array([cell.predicted * checked / dose for cell in measured])
        exact = np.array([cell.exact[at] for cell in measured], dtype=np.float64)
        even = np.array([cell.drawn != "by size" for cell in measured], dtype=bool)
        picks = draws.integers(len(measured), size=(RESAMPLES, len(measured))) if measured else np.zeros((0, 0), int)
        resampled = [value for pick in picks if (value := _rank(predicted[pick], exact[pick])) is not None]
        # Of too few cells most resamples have no correlation either.
        ends = np.percentile(resampled, (2.5, 97.5)) if len(resampled) > RESAMPLES / 2 else (None, None)
        square = float(predicted @ predicted)
        fidelities.append(
            Fidelity(
                dose=checked,
                cells=len(measured),
                rank=_rank(predicted, exact),
                rank_low=_rounded(ends[0]),
                rank_high=_rounded(ends[1]),
                slope=_rounded(float(predicted @ exact) / square) if square else None,
                even_rank=_rank(predicted[even], exact[even]),
                same_sign=_rounded(float((np.sign(predicted) == np.sign(exact)).mean())) if measured else None,
            )
        )
    return tuple(fidelities)


def _rank(first: Float64[np.ndarray, "cell"], second: Float64[np.ndarray, "cell"]) -> float | None:
    """Spearman's; None of too few cells, or where one of the two does not vary."""
    if len(first) < LEAST_CELLS or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return _rounded(float(spearmanr(first, second).statistic))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)
