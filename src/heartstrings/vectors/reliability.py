"""How well the stories of a corpus determine each emotion's contrast: reliability over topics, and its uncertainty.

The contrast of an emotion is the mean of its contrasts by topic: the emotion's stories on the topic, minus the mean
over emotions of that topic. The reliability of that mean is Cronbach's alpha (Psychometrika 16, 1951) with topics as
items:

    alpha = m / (m - 1) * (1 - sum_t |c_t|^2 / |sum_t c_t|^2)

for m topics with contrasts c_t. It is the mean, over all ways to split the topics in halves, of the split-half
coefficient for all topics (Flanagan and Rulon; equal to Spearman-Brown where both halves are equally long). It
estimates the cosine of this contrast with the one that as many other topics would give; the cosine with the contrast of
infinitely many topics is its square root.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64
from scipy.stats import t as student

LEVEL = 0.95


class Reliability(NamedTuple):
    """Cronbach's alpha of each emotion, and an interval that holds the true reliability 95 times in 100."""

    value: Float64[np.ndarray, "emotion"]
    """NaN where an emotion has stories on fewer than two topics."""
    low: Float64[np.ndarray, "emotion"]
    """NaN with fewer than three topics."""
    high: Float64[np.ndarray, "emotion"]


def reliability_over_topics(
    means: Float64[np.ndarray, "emotion topic width"], there: Bool[np.ndarray, "emotion topic"]
) -> Reliability:
    """The reliability of each emotion's contrast at one layer.

    The interval is a jackknife over topics of log(1 - alpha), with Student's t of m - 1 degrees of freedom (Miller,
    Biometrika 61, 1974): topics are a sample of those that stories could have.

    Args:
        means: mean activation of the stories of each emotion on each topic; ignored where there are none.
        there: whether there are any.
    """
    kept = np.where(there[..., None], means, 0.0)
    common = kept.sum(0) / np.maximum(there.sum(0), 1)[:, None]
    estimates = [
        _alpha((means[row, own] - common[own]) @ (means[row, own] - common[own]).T) for row, own in enumerate(there)
    ]
    value, low, high = np.array(estimates, dtype=np.float64).T
    return Reliability(value, low, high)


def _alpha(products: Float64[np.ndarray, "topic topic"]) -> tuple[float, float, float]:
    """Alpha and its interval, from the inner products of the topics' contrasts."""
    m = len(products)
    if m < 2:
        return np.nan, np.nan, np.nan
    own, whole = float(np.trace(products)), float(products.sum())
    value = _stepped(m, own, whole, m)
    if m < 3:
        return value, np.nan, np.nan
    # Without one topic, but stepped up to all m: alpha of fewer topics is another quantity.
    without = [
        _stepped(m - 1, own - products[i, i], whole - 2 * products[i].sum() + products[i, i], m) for i in range(m)
    ]
    logs = np.log(1 - np.array([value, *without]))
    pseudo = m * logs[0] - (m - 1) * logs[1:]
    error = float(pseudo.std(ddof=1) / np.sqrt(m) * student.ppf((1 + LEVEL) / 2, m - 1))
    middle = float(pseudo.mean())
    return value, float(1 - np.exp(middle + error)), float(1 - np.exp(middle - error))


def _stepped(m: int, own: float, whole: float, to: int) -> float:
    """The reliability of the mean of `to` topics, from m topics with these sums of inner products: of each topic with
    itself, and of each with each. Spearman-Brown; with `to` = m it is alpha. Between -1 and a little under 1."""
    if own <= 0:
        return -1.0
    single = (whole - own) / (m - 1) / own  # of the mean of one topic
    return min(max(to * single / (1 + (to - 1) * single), -1.0), 1 - 1e-9) if 1 + (to - 1) * single > 0 else -1.0
