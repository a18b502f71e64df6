"""p-values from thousands of controls of which few are sampled: importance weights (Harrison 2012, Biometrika 99:57).

A pool holds N control directions and the direction that is tested. A cheap score (`experiment.screen`) says
which of them may move the behaviour much. The top K by its size are one stratum, H; the rest is the other, A. Controls
are drawn with replacement, from H with probability rho and else from A, and only those drawn are sampled. Each counts
by how much more often an even draw would have taken it: w_H = pi / rho and w_A = (1 - pi) / (1 - rho), with
pi = K / (N + 1).

    p = min(1, [w(the tested direction's own stratum) + w_H b_H + w_A b_A] / (n + 1))

where b_H and b_A of the n draws are at least as large. Why P(p <= alpha) <= alpha under the null: the tested direction
and the draws are n + 1 directions that differ only in how they were picked, and the weights take that back; of n + 1
such directions, those with p <= alpha weigh at most alpha (n + 1) together. What it rests on:

- The pool is exchangeable: under the null, the tested direction is as good as any control of its kind. A pool holds one
  kind.
- H is the same whichever of the N + 1 is the tested one. The draws are made from all N + 1, the tested one among them.
- Scores and draws know nothing of the exact effects. Freeze them before the first control is sampled.
- Every direction goes through the same pipeline: search for a layer, doses, scenarios, validity gates.
- A control without a value counts as at least as large.

Nothing is assumed of the score: a bad one costs power, never validity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from heartstrings.core.errors import InputError
from heartstrings.stats.intervals import Values, as_floats
from heartstrings.stats.nulls import at_least

SHARE = 0.05
"""pi, the share of the pool in H. The smallest p is pi / rho / (n + 1), times 1 + how often the tested direction itself
is drawn, so a small H allows a small p; but a direction that the score underrates must still be in H. docs/pool.md has
what each pi and rho find. At 120 draws from 1,001 and rho .7, of effects of 4.2 standard deviations at alpha .05 / 14,
with scores that correlate .95, .8 and .5 with the effects: pi .005 finds 1.0, .82 and .20; .05 finds .99, .98 and .56;
.2 finds .66, .63 and .53."""
TOP = 0.7
"""rho, the share of draws from H. At pi .05 it finds what .9 finds and more than .5 (.95, .94, .53), and a control of A
that is as large costs w_A = 3.2, not 9.5 as at .9."""


class Opposite(NamedTuple):
    """What the same directions do when they are reversed, for tests whose sign was declared beforehand."""

    observed: float | int | None
    null: Values


@dataclass(frozen=True, eq=False)
class Drawn:
    """Which of a pool are sampled, and what each counts for. Made by `draw`."""

    tested: int
    """Place of the tested direction in the pool."""
    indices: Int64[np.ndarray, "draw"]
    """Place in the pool of each draw, in the order drawn; the tested direction may be among them."""
    top: Bool[np.ndarray, "pool"]
    """Whether each direction is in H."""
    share: float
    """pi: the share of the pool in H."""
    rho: float
    """The share of draws from H; 1 where H is the whole pool."""

    @property
    def n(self) -> int:
        """Number of draws, not of controls."""
        return len(self.indices)

    @cached_property
    def controls(self) -> Int64[np.ndarray, "control"]:
        """Places in the pool of the controls to be sampled, each once, rising."""
        different: Int64[np.ndarray, "_"] = np.unique(self.indices)
        places: Int64[np.ndarray, "control"] = different[different != self.tested]
        return places

    @cached_property
    def times(self) -> Int64[np.ndarray, "control"]:
        """How often each of `controls` was drawn."""
        counts = np.bincount(self.indices, minlength=len(self.top))
        times: Int64[np.ndarray, "control"] = counts[self.controls].astype(np.int64)
        return times

    @cached_property
    def weights(self) -> Float64[np.ndarray, "control"]:
        """What each of `controls` adds to the numerator of p when it is at least as large, all its draws together."""
        weights: Float64[np.ndarray, "control"] = self._weight(self.controls) * self.times
        return weights

    @cached_property
    def own(self) -> float:
        """What the tested direction adds by itself: once for being tested, once for each time that it was drawn."""
        return float(self._weight(np.array([self.tested]))[0]) * (1 + self._again)

    @property
    def smallest_p(self) -> float:
        """p if no control is as large: what the draws allow at best, known before anything is sampled."""
        return min(1.0, self.own / (self.n + 1))

    def _weight(self, places: Int64[np.ndarray, "_"]) -> Float64[np.ndarray, "_"]:
        return np.where(self.top[places], self.share / self.rho, self._rest)

    @property
    def _rest(self) -> float:
        return (1 - self.share) / (1 - self.rho) if self.rho < 1 else 1.0

    @property
    def _again(self) -> int:
        return int((self.indices == self.tested).sum())


def strata(scores: Values, share: float | int = SHARE) -> Bool[np.ndarray, "pool"]:
    """H: the top K of a pool by the size of their score, with K / (N + 1) as near to `share` as whole numbers allow.

    Directions that tie with the K-th are all in H, so that their order in the pool plays no part; H may then be larger,
    up to the whole pool, and p is that of an even draw.

    Args:
        scores: of the N controls and of the tested direction, by the same function. A score reversed in sign is the
            same: for tests with a declared sign, too, H must not depend on it.
    Raises:
        InputError: fewer than two scores, one that is missing, or a share outside 0 to 1.
    """
    sizes = np.abs(as_floats(scores))
    if len(sizes) < 2 or not np.isfinite(sizes).all():
        raise InputError(
            f"{len(sizes)} scores, {int((~np.isfinite(sizes)).sum())} of them missing",
            "a score of the tested direction and of each control, one at least",
            "Score the whole pool in the same way",
        )
    if not 0 < share <= 1:
        raise InputError(f"a share of {share}", "over 0 and at most 1", f"Give one such as {SHARE}")
    most = max(1, round(float(share) * len(sizes)))
    return at_least(sizes, float(np.sort(sizes)[-most]))


def draw(
    top: Bool[np.ndarray, "pool"], *, n: int, seed: int | Sequence[int], rho: float | int = TOP, tested: int = 0
) -> Drawn:
    """`n` independent draws with replacement: from H with probability `rho`, else from the rest.

    The same control may be drawn twice. It is sampled once and counts as often as it was drawn.

    Args:
        top: H, see `strata`.
        seed: of the plan, never one that was chosen after a look at effects.
        tested: place of the tested direction in the pool.
    Raises:
        InputError: no draw, an H without a member, a rho outside 0 to 1, or a place outside the pool.
    """
    if n < 1 or not 0 < rho < 1:
        raise InputError(f"{n} draws with rho {rho}", "one draw at least, and rho between 0 and 1", "Change them")
    if not 0 <= tested < len(top) or not top.any():
        raise InputError(
            f"the tested direction at place {tested} of a pool of {len(top)}, {int(top.sum())} of them in H",
            "a place in the pool, and one direction at least in H",
            "Make H with `strata`",
        )
    random = np.random.default_rng(seed)
    inside, outside = np.flatnonzero(top), np.flatnonzero(~top)
    if not len(outside):
        rho = 1.0
    from_top = random.random(n) < rho
    indices = np.empty(n, np.int64)
    indices[from_top] = random.choice(inside, int(from_top.sum()))
    if not from_top.all():
        indices[~from_top] = random.choice(outside, int((~from_top).sum()))
    return Drawn(tested, indices, top.copy(), len(inside) / len(top), float(rho))


def weighted_p(
    observed: float | int | None, null: Values, drawn: Drawn, *, opposite: Opposite | None = None
) -> float | None:
    """p of the tested direction against the controls that were drawn; None if there is nothing observed.

    Two-sided: by size. Ties and missing values count against the direction.

    With `opposite`, one-sided: values under 0 are 0. A control has no sign of its own, so it counts in both of its
    directions, and the tested direction reversed is compared too, each with half its weight: p is that of a pool of
    2 (N + 1) signed directions, whose draws come in pairs. This needs a kind of control whose law is the same reversed
    (Gaussian mixtures are), and the sign declared beforehand. If units depend on the data, they must be the same
    function of all directions, reversed ones included.

    Args:
        null: values of `drawn.controls`, in that order; NaN where there is none.
        opposite: the values of the same directions reversed.
    Raises:
        InputError: not one value for each control that was drawn.
    """
    if observed is None or np.isnan(observed):
        return None
    controls, own, weights, itself = _of_controls(null, drawn), as_floats([observed])[0], drawn.weights, drawn.own
    if opposite is None:
        own, others = abs(own), np.abs(controls)
    else:
        back = np.concatenate([_of_controls(opposite.null, drawn), as_floats([opposite.observed])])
        own, others = max(own, 0.0), np.maximum(np.concatenate([controls, back]), 0.0)
        weights, itself = np.concatenate([weights, weights, [itself]]) / 2, itself / 2
    against = np.isnan(others) | at_least(others, own)
    return float(min(1.0, (itself + weights[against].sum()) / (drawn.n + 1)))


def _of_controls(values: Values, drawn: Drawn) -> Float64[np.ndarray, "control"]:
    controls: Float64[np.ndarray, "control"] = as_floats(values)
    if len(controls) != len(drawn.controls):
        raise InputError(
            f"values of {len(controls)} controls",
            f"of the {len(drawn.controls)} controls that were drawn",
            "Give NaN where a control has no value",
        )
    return controls


@dataclass(frozen=True)
class Discoveries:
    """What `hierarchical_fdr` found, in the order given."""

    group_p: tuple[float | None, ...]
    """Simes p of each group; None for a group without a test."""
    selected: tuple[bool, ...]
    """Groups in which at least one effect is claimed to be."""
    found: tuple[tuple[bool, ...], ...]
    """Tests that are discoveries, by group; all false in a group that was not selected."""


def hierarchical_fdr(groups: Sequence[Sequence[float | None]], q: float | int = 0.05) -> Discoveries:
    """Discoveries among many tests in groups (one a direction), for what was not declared beforehand.

    A group's p is Simes's (1986) over its tests. Groups are selected by Benjamini and Hochberg (1995) at `q`; in those
    selected, the same procedure at q * selected / groups finds tests (Benjamini and Bogomolov 2014, JRSS-B 76:297,
    theorem 1). Holds, at `q` each: the expected share of false ones among selected groups, and the expected mean over
    selected groups of the share of false tests. Assumes that p-values within a group, and those of different groups,
    are independent or positively dependent. A missing p is a test that found nothing, p = 1.

    Raises:
        InputError: a p outside 0 to 1, or a q outside 0 to 1.
    """
    from statsmodels.stats.multitest import multipletests

    if not 0 < q < 1:
        raise InputError(f"a false discovery rate of {q}", "between 0 and 1", "Give one such as 0.05")
    tests = [np.where(np.isnan(flat := as_floats(group)), 1.0, flat) for group in groups]
    if any(((group < 0) | (group > 1)).any() for group in tests):
        raise InputError("a p-value outside 0 to 1", "probabilities")
    # The smallest p that Benjamini and Hochberg adjust is Simes's.
    simes = [float(multipletests(group, method="fdr_bh")[1].min()) if len(group) else None for group in tests]
    there = [at for at, p in enumerate(simes) if p is not None]
    chosen = np.zeros(len(tests), np.bool_)
    if there:
        chosen[there] = multipletests([simes[at] for at in there], alpha=float(q), method="fdr_bh")[0]
    level = float(q) * int(chosen.sum()) / max(1, len(there))
    rejected = [
        multipletests(group, alpha=level, method="fdr_bh")[0].tolist() if select else [False] * len(group)
        for group, select in zip(tests, chosen.tolist(), strict=True)
    ]
    return Discoveries(
        tuple(simes), tuple(chosen.tolist()), tuple(tuple(map(bool, decisions)) for decisions in rejected)
    )
