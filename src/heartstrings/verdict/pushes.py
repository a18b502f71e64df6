"""The effect against the push: how far a direction and its controls move the model, and how far the outcome."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from heartstrings.behaviours.base import Behaviour
from heartstrings.experiment.ledger import CONTROL_KINDS, ControlKind
from heartstrings.experiment.plan import Plan
from heartstrings.stats.nulls import p_value
from heartstrings.verdict.measured import Measured
from heartstrings.verdict.results import Push, Pushed
from heartstrings.verdict.tables import EMPTY, Table

EVEN = "both sides"
"""The contrast in which a push and its opposite count alike."""


def pushes(plan: Plan, table: Table, measured: Measured) -> tuple[Push, ...]:
    """The direction and every control that was sampled, each at its own layer, along the contrast that the answer
    speaks of. Empty where the direction has no such contrast."""
    shape = measured.fit.shape
    if shape is None:
        return ()
    asked = [
        behaviour
        for behaviour in measured.others
        if behaviour.role == "cost" and table.baseline(behaviour.name).has("kl")
    ]

    def push(kind: Pushed, name: str, layer: int | None, change: float | None) -> Push:
        kl = _divergence(plan, table, asked, kind, name, layer)
        known = change is not None and not math.isnan(change)
        return Push(kind=kind, name=name, kl=kl, change=change if known else None)

    pushed = [push("direction", measured.direction, measured.layer, shape.change.value)]
    for kind in CONTROL_KINDS:
        group = measured.controls.get(kind)
        if group is not None:
            pushed += [
                push(kind, control.name, control.layer, control.changes.get(shape.name)) for control in group.each
            ]
    return tuple(pushed)


def _divergence(
    plan: Plan, table: Table, asked: Sequence[Behaviour], kind: Pushed, name: str, layer: int | None
) -> float | None:
    """Nats a token, mean over the ends of the slope window; None unless it was measured at each of them."""
    if layer is None or not asked or not plan.window:
        return None
    ends = sorted({plan.window[0], plan.window[-1]})
    cells = [table.doses(behaviour.name, kind, name, layer) for behaviour in asked]
    means = [doses.get(dose, EMPTY).mean("kl") for doses in cells for dose in ends]
    known = [mean for mean in means if mean is not None]
    return sum(known) / len(known) if len(known) == len(means) else None


def power_of_kl(contrast: str) -> float:
    """The power of the divergence that an effect grows with: 1/2, or 1 where it is the same for a push and its
    opposite."""
    return 1.0 if contrast == EVEN else 0.5


def p_at_equal_kl(pushes: Sequence[Push], planned: Mapping[ControlKind, int], contrast: str) -> float | None:
    """p of the direction against its controls at equal divergence: the largest over the kinds of controls.

    A control that moves the model further than the direction does at the same norm is not a fair match. To first order
    in the dose d, the outcome changes by d g, where g is its gradient along the direction. The divergence KL(unsteered
    to steered) has its minimum, 0, at d = 0, so that its first term is d^2 F / 2, where F is the Fisher information
    along the direction (Kullback 1959, Information Theory and Statistics, section 2.6). The ratio of the change to the
    root of the divergence, g / sqrt(F / 2), is then the same at every small dose: ratios compare the directions as if
    each control's dose were the one that moves the model as far as the direction does. Of a contrast in which a push
    and its opposite count alike, the first-order terms cancel; what is left is of second order as KL is, and the ratio
    is that to KL itself. Beyond small doses this is an approximation, so that p describes and decides nothing.

    Args:
        found: the direction first; from `pushes`.
        planned: how many controls of each kind there will be; those that were not sampled count as larger.
        contrast: that the changes are along.
    Returns: the largest over kinds of (b + 1) / (n + 1), b of n controls whose ratio is at least the direction's in
        size. A control without a divergence or a change counts as larger. None: the direction lacks one of the two, or
        no control has a divergence.
    """
    if not pushes:
        return None
    own, *controls = pushes
    size = _ratio(own, contrast)
    if size is None or not any(push.kl is not None for push in controls):
        return None
    ps = []
    for kind, wanted in planned.items():
        ratios = [_ratio(push, contrast) for push in controls if push.kind == kind]
        ps.append(p_value(size, ratios + [None] * (wanted - len(ratios))))
    return max((p for p in ps if p is not None), default=None)


def _ratio(push: Push, contrast: str) -> float | None:
    """None without both numbers, or where nothing was pushed at all."""
    if push.kl is None or push.change is None or push.kl <= 0:
        return None
    return float(push.change / push.kl ** power_of_kl(contrast))
