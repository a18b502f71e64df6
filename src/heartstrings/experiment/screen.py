"""What steering would change, to first order: one backward pass for any number of directions.

Two uses. In `heartstrings.workflows.pool` it decides how likely a control is to be sampled
(`heartstrings.stats.importance`), and nothing else: it may be wrong without making a p-value wrong, as long as it
treats the tested direction and its controls alike and looks at no sample of the test half. In
`heartstrings.workflows.screen` it is described, beside its agreement with exact steering, and nothing is concluded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float32, Float64

from heartstrings import engines
from heartstrings.behaviours.base import Behaviour, Compared, Scenario
from heartstrings.core.engine import Engine, Score, ScoreRequest
from heartstrings.core.errors import InputError
from heartstrings.core.steering import Positions
from heartstrings.core.types import Site
from heartstrings.experiment.controls import DirectionSet
from heartstrings.experiment.ledger import Kind
from heartstrings.experiment.plan import Plan
from heartstrings.vectors.algebra import layer_row

NO_GRADIENT = "its answers are sampled text, and sampled text has no gradient here"
SLAB = 2**22
"""Numbers in the matrix of directions that is held at a time."""
STEP = 2.0**-7
"""Of the central differences, in nats. A power of two, so that float32 log-probabilities take it without rounding."""


@dataclass(frozen=True, eq=False)
class OutcomeGradient:
    """Unsteered outcomes of some scenarios and their gradients."""

    layers: tuple[int, ...]
    outcomes: Float64[np.ndarray, "scenario"]
    """NaN where the grader gives none."""
    values: Float32[np.ndarray, "scenario layer width"]
    """Outcome per unit of residual stream, added at every steered position; NaN without an outcome."""

    @property
    def mean(self) -> Float64[np.ndarray, "layer width"]:
        """Over the scenarios that have an outcome; each has equal weight.

        Raises:
            InputError: none has one.
        """
        graded = ~np.isnan(self.outcomes)
        if not graded.any():
            raise InputError("no scenario with an outcome", "one at least", "Ask other scenarios")
        mean: Float64[np.ndarray, "layer width"] = self.values[graded].astype(np.float64).mean(axis=0)
        return mean


@dataclass(frozen=True, eq=False)
class FirstOrder:
    """First-order scores of directions and controls on one behaviour."""

    by_layer: Mapping[str, tuple[float, ...]]
    """By name (`joyful`, `natural/7`): the predicted change of the outcome from the lowest to the highest dose of the
    slope window, at each of `layers`."""
    layers: tuple[int, ...]
    behaviour: str
    n_scenarios: int
    """Those with an outcome."""

    @property
    def scores(self) -> Mapping[str, float]:
        """By name, the change with the largest size over layers, signed; of the lowest layer among equals."""
        return {name: max(values, key=abs) for name, values in self.by_layer.items()}

    def pool(self, tested: str, controls: Sequence[str]) -> Float64[np.ndarray, "pool"]:
        """Scores of a direction and of the controls of one kind, the direction first: what `strata` takes.

        Raises:
            InputError: a name that was not scored.
        """
        scores = self.scores
        lacking = [name for name in (tested, *controls) if name not in scores]
        if lacking:
            raise InputError(f"no score of {lacking[0]}", "names that the screen has", "Screen with the same plan")
        return np.array([scores[name] for name in (tested, *controls)], dtype=np.float64)


def first_order(
    engine: Engine,
    plan: Plan,
    behaviour: Behaviour,
    scenarios: Sequence[Scenario],
    directions: DirectionSet,
    layers: Sequence[int],
) -> FirstOrder:
    """Scores of every direction and control of a plan on one behaviour: dose * norm * (unit direction . gradient).

    A function of the model, the plan's seed, the scenarios and the directions; nothing is sampled. A control is scored
    as the tested direction is: by the largest change over the layers that both will search, at its own length.

    Args:
        scenarios: of the half that chooses layers, never of the half that is reported.
        layers: those that will be searched.
    Raises:
        InputError: a plan whose operation is no addition (setting a component is not small at any dose), a plan without
            a dose in its slope window, a behaviour or engine that has no gradient, or no scenario with an outcome.
            NumericalError: NaN or Inf.
    """
    if plan.operation != "add" or not plan.window:
        raise InputError(
            f"a first-order screen of operation {plan.operation!r} at doses {plan.window}",
            "operation add, and a dose in the slope window",
            "Draw controls evenly",
        )
    gradient = outcome_gradient(engine, behaviour, scenarios, layers=layers, positions=plan.positions, site=plan.site)
    between = plan.window[-1] - (plan.window[0] if len(plan.window) > 1 else 0.0)
    groups: list[tuple[Kind, tuple[str, ...]]] = [("direction", plan.directions)]
    for control_kind in directions.kinds:
        named = (name for direction in plan.directions for name in directions.controls(control_kind, direction))
        groups.append((control_kind, tuple(dict.fromkeys(named))))
    by_layer: dict[str, tuple[float, ...]] = {}
    for kind, names in groups:
        changes = [
            predicted(directions, kind, names, layer, slope[None], between)[:, 0]
            for layer, slope in zip(gradient.layers, gradient.mean, strict=True)
        ]
        by_layer.update(zip(names, map(tuple, np.stack(changes, axis=1).tolist()), strict=True))
    return FirstOrder(by_layer, gradient.layers, behaviour.name, int((~np.isnan(gradient.outcomes)).sum()))


def predicted(
    directions: DirectionSet,
    kind: Kind,
    names: Sequence[str],
    layer: int,
    slopes: Float64[np.ndarray, "slope width"],
    between: float,
) -> Float64[np.ndarray, "name slope"]:
    """First-order change of outcomes along directions or controls of one kind at a layer, as one matrix product.

    between * scale * norm * (unit direction . slope), with the mean residual norm of the layer and the scale of the
    kind (1 but for `shuffled`). Memory grows with the width and not with the number of names.

    Args:
        slopes: outcome per unit of residual stream at this layer, such as one row for each behaviour.
        between: the difference of two doses, in mean residual norms.
    Raises:
        InputError: a name that is none of this kind, or a layer that the vectors lack.
    """
    norms = directions.vectors.norms
    assert norms is not None  # direction_set saw to it
    norm = float(norms[layer_row(directions.vectors.layers, layer, "the bundle")])
    changes = np.empty((len(names), len(slopes)))
    step = max(1, SLAB // directions.vectors.width)
    for begin in range(0, len(names), step):
        units, scales = directions.rows(kind, names[begin : begin + step], layer)
        changes[begin : begin + step] = (between * norm * scales)[:, None] * (units @ slopes.T)
    return changes


def outcome_gradient(
    engine: Engine,
    behaviour: Behaviour,
    scenarios: Sequence[Scenario],
    *,
    layers: Sequence[int],
    positions: Positions = "all",
    site: Site = "block",
) -> OutcomeGradient:
    """The gradient of a behaviour's outcome with respect to what steering adds at each layer, scenario by scenario.

    The outcome's derivative with respect to each option's token log-probabilities is taken by central differences on
    `Behaviour.grade`. Both requests of a behaviour that holds its replies against a premise (`Compared`) are steered,
    so both count. An outcome that is a step (0 or 1 by which option is likelier) has gradient 0.

    Raises:
        InputError: a behaviour that samples text (the gradient of a sampled outcome is not implemented), or what
            `heartstrings.engines.hf._gradient.gradient` refuses.
    """
    firsts = [_scored(behaviour, scenario) for scenario in scenarios]
    seconds = (
        [behaviour.against(scenario, steering=None) for scenario in scenarios]
        if isinstance(behaviour, Compared)
        else []
    )
    scores = engine.score([*firsts, *seconds])
    answers = scores[: len(firsts)]
    premises: list[Score | None] = [*scores[len(firsts) :]] or [None] * len(firsts)
    outcomes = np.full(len(scenarios), np.nan)
    requests: list[ScoreRequest] = []
    slopes: list[list[Float64[np.ndarray, "_"]]] = []
    owners: list[int] = []
    for number, (scenario, answer, premise) in enumerate(zip(scenarios, answers, premises, strict=True)):
        graded = behaviour.grade(scenario, answer, premise).outcome
        if graded is None:
            continue
        outcomes[number] = graded
        requests.append(firsts[number])
        slopes.append(_slopes(partial(_outcome, behaviour, scenario, premise=premise), answer))
        owners.append(number)
        if premise is not None:
            requests.append(seconds[number])
            slopes.append(_slopes(partial(_outcome, behaviour, scenario, answer), premise))
            owners.append(number)
    gradients = engines.gradient(engine, requests, slopes, layers=layers, positions=positions, site=site)
    values = np.zeros((len(scenarios), *gradients.shape[1:]), np.float32)
    np.add.at(values, owners, gradients)
    values[np.isnan(outcomes)] = np.nan
    return OutcomeGradient(tuple(int(layer) for layer in layers), outcomes, values)


def _scored(behaviour: Behaviour, scenario: Scenario) -> ScoreRequest:
    # A choice draws nothing: the seed is unused.
    request = behaviour.request(scenario, steering=None, seed=0) if behaviour.ask == "choice" else None
    if not isinstance(request, ScoreRequest):
        raise InputError(
            f"a first-order screen of behaviour {behaviour.name!r}, which is asked by sampled text",
            "a behaviour whose outcome is a function of the log-probabilities of its options",
            "Screen by a choice, or draw controls evenly",
        )
    return request


def _outcome(behaviour: Behaviour, scenario: Scenario, answer: Score, premise: Score | None) -> float | None:
    return behaviour.grade(scenario, answer, premise).outcome


def _slopes(outcome: Callable[[Score], float | None], score: Score) -> list[Float64[np.ndarray, "_"]]:
    """Derivative of the outcome with respect to each token's log-probability."""
    derivatives = []
    for at, tokens in enumerate(score.token_logprobs):
        slopes = np.zeros(len(tokens))
        for token in range(len(tokens)):
            up, down = (outcome(_moved(score, at, token, step)) for step in (STEP, -STEP))
            # Where there is no outcome a step away, nothing is known of the derivative: it counts for nothing.
            slopes[token] = 0.0 if up is None or down is None else (up - down) / (2 * STEP)
        derivatives.append(slopes)
    return derivatives


def _moved(score: Score, at: int, token: int, step: float) -> Score:
    """The score with one token's log-probability changed, and its continuation's sum."""
    tokens = score.token_logprobs[at].copy()
    tokens[token] += np.float32(step)
    sums = (*score.logprobs[:at], score.logprobs[at] + step, *score.logprobs[at + 1 :])
    token_logprobs = (*score.token_logprobs[:at], tokens, *score.token_logprobs[at + 1 :])
    return replace(score, logprobs=sums, token_logprobs=token_logprobs)
