"""What further claims compare a direction with: mixtures of emotions, other emotions, and the direction stripped.

Beating natural directions says that an effect is no property of text in general. These ask how much of it is the
emotion's own: more than a random mixture of emotions, this emotion rather than another, more than valence and arousal.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import cast

import numpy as np
from jaxtyping import Float64

from heartstrings.core.errors import InputError
from heartstrings.corpus.lexicon import built_in_ratings, emotions, families
from heartstrings.experiment.ledger import ClaimKind
from heartstrings.experiment.plan import Plan
from heartstrings.experiment.plan_directions import factors

LEAST_FAMILIES = 6
"""With fewer families left, mixtures of emotions are nearly one direction."""
LEAST_RATED = 8
"""Rated emotions: from fewer, the directions of valence and arousal are mostly noise."""


def claim_kinds(plan: Plan, known: Sequence[str]) -> tuple[ClaimKind, ...]:
    """The comparisons that a plan asks for and that vectors of these emotions allow."""
    left = {_family(name) for name in rivals(known, plan.directions)}
    by_kind = {
        "mixture": bool(plan.claims.mixture) and len(left) >= LEAST_FAMILIES,
        "other": bool(plan.claims.other) and any(rivals(known, (direction,)) for direction in plan.directions),
        "stripped": plan.claims.stripped and built_in_ratings().rated(known) >= LEAST_RATED,
    }
    return tuple(cast("ClaimKind", kind) for kind, allowed in by_kind.items() if allowed)


def rivals(known: Collection[str], directions: Sequence[str]) -> tuple[str, ...]:
    """The emotions of other families of feeling than any in these directions (emotions or blends), in their order."""
    own = {_family(name) for direction in directions for name in emotions_in(direction, known)}
    return tuple(name for name in known if _family(name) not in own)


def stripped(
    direction: Float64[np.ndarray, "width"], contrasts: Float64[np.ndarray, "emotion width"], known: Sequence[str]
) -> Float64[np.ndarray, "width"]:
    """A direction without its parts along valence and arousal.

    These are the two directions along which the emotion vectors vary with their ratings: the slopes of the
    least-squares fit of the vectors on valence and arousal, from the rated emotions.

    Args:
        contrasts: the vectors of `known`, one layer.
    """
    valence, arousal = built_in_ratings().arrays(known)
    rated = np.isfinite(valence) & np.isfinite(arousal)
    design = np.stack([np.ones(int(rated.sum())), valence[rated], arousal[rated]], axis=1)
    slopes = np.linalg.lstsq(design, contrasts[rated].astype(np.float64), rcond=None)[0][1:]
    basis = np.linalg.qr(slopes.T)[0]
    left: np.ndarray = direction - basis @ (basis.T @ direction)
    return left


def _family(name: str) -> str:
    """A word outside the lexicon is a family of its own."""
    return families().get(name, name)


def emotions_in(expression: str, known: Collection[str]) -> tuple[str, ...]:
    """The emotions that a direction is made of."""
    names = list(dict.fromkeys((*known, *emotions())))

    try:
        row = factors(expression, names)
    except InputError:  # an emotion of vectors that are not at hand
        return (expression,)
    return tuple(name for name, factor in zip(names, row.tolist(), strict=True) if factor)
