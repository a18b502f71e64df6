"""What was not declared beforehand: discoveries among the other behaviours, at a false discovery rate."""

from __future__ import annotations

from collections.abc import Sequence

from heartstrings.experiment.plan import Plan
from heartstrings.stats.importance import hierarchical_fdr
from heartstrings.verdict.measured import Measured


def discoveries(plan: Plan, found: Sequence[Measured]) -> dict[tuple[str, str], bool]:
    """Whether each behaviour and direction that no one declared is a discovery, at a rate of alpha.

    One group a direction (`hierarchical_fdr`), from p that is corrected for nothing. Answers do not rest on it: their p
    holds for all behaviours together, which is more than a list of what to look at next needs. Empty where the plan
    declares nothing, as then everything is what the experiment is about.
    """
    rest = [measured for measured in found if measured.behaviour.name not in plan.declared]
    groups = [[measured for measured in rest if measured.direction == direction] for direction in plan.directions]
    if not rest:
        return {}
    each = hierarchical_fdr([[measured.p for measured in group] for group in groups], plan.thresholds.alpha).found
    return {
        (measured.behaviour.name, measured.direction): made
        for group, of_group in zip(groups, each, strict=True)
        for measured, made in zip(group, of_group, strict=True)
    }
