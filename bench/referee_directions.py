"""Directions in a residual stream with a power-law spectrum, for bench/referee.py: is a topic taken for an emotion?

Stories are sums of an emotion's vector, a topic's vector and noise, all drawn with the stream's covariance: what varies
most in natural text. The behaviour reads the stream along a vector of the same law. Control directions are drawn by
`DirectionSet` itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from heartstrings.core.types import Provenance, Variant
from heartstrings.experiment.controls import DirectionSet
from heartstrings.experiment.plan import Plan
from heartstrings.stats import p_value
from heartstrings.vectors.emotion_vectors import EmotionVectors

WIDTH, EMOTIONS, TOPICS, NEUTRALS = 256, 40, 12, 60


@dataclass(frozen=True, eq=False)
class Stories:
    """As much of the stories' activations as `DirectionSet` asks for."""

    topics: np.ndarray
    """[topic, width]"""
    neutral: np.ndarray
    """[text, width]"""
    n_crossed_topics: int = TOPICS

    def topic_contrasts(self, layers: Any, variant: Variant) -> np.ndarray:
        return self.topics[:, None]

    def neutral_deviations(self, layers: Any, variant: Variant) -> np.ndarray:
        return (self.neutral - self.neutral.mean(0))[:, None]


def passes(power: float, seed: int) -> bool:
    """Whether the contrast of one topic, tested as `joyful`, moves the behaviour more than the controls of every kind
    (p under .05), without sampling error."""
    draw = np.random.default_rng([seed, round(10 * power)])
    scale = np.arange(1, WIDTH + 1) ** (-power / 2)
    reads = scale * draw.standard_normal(WIDTH)
    emotions = scale * draw.standard_normal((EMOTIONS, WIDTH))
    topics = scale * draw.standard_normal((TOPICS + 1, WIDTH))  # the last is tested, and no control knows it
    contrasts = emotions - emotions.mean(0)
    contrasts[0] = topics[-1] - topics.mean(0)
    names = ("joyful", *(f"e{at}" for at in range(1, EMOTIONS)))
    vectors = EmotionVectors(
        emotions=names, layers=(0,), raw=contrasts[None].astype(np.float32), norms=np.ones(1, dtype=np.float32),
        provenance=Provenance(package_version="0", source="derived", model=None),
    )  # fmt: skip
    plan = Plan(model="m", directions=("joyful",), layers=(0,), seed=seed, variant="raw", controls=_kinds())
    stories: Any = Stories(topics[:-1] - topics[:-1].mean(0), scale * draw.standard_normal((NEUTRALS, WIDTH)))
    found = DirectionSet(plan, vectors, (0,), stories)
    own = found.vector("direction", "joyful", 0)[0] @ reads
    ps = []
    for kind in found.kinds:
        others = [found.vector(kind, name, 0)[0] @ reads for name in found.controls(kind, "joyful")]
        ps.append(p_value(float(own), others) or 1.0)
    return max(ps) < plan.thresholds.alpha


def _kinds() -> dict[str, int]:
    """What a plan asks for by itself; shuffled labels need stories of their own, and test something else."""
    return {**dict(Plan(model="m").controls), "shuffled": 0}
