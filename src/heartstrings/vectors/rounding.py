"""How far bfloat16 moves the contrast vectors, measured on a small sample of the stories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from heartstrings.core.engine import Pooler
from heartstrings.core.types import Pooling, Precision, Site
from heartstrings.corpus import Corpus, halves
from heartstrings.stats import ErrorShare, error_share
from heartstrings.vectors.activations import plain

PAIRS = 12
"""Stories in each half of the sample. With SmolLM2, samples of this size predict the ratio of all 480 shipped stories
to about a tenth of its value (docs/measured.md)."""
SAVES_FROM = 4
"""Corpora of fewer samples than this are read sooner than compared: the sample is read twice, and bfloat16 saves less
than half of the time."""
LIMIT = 0.1
"""Largest rounding error, as a share of the split-half noise. Independent errors add as squares: a tenth makes the
error of a vector half a percent larger."""

Contrasts = Float64[np.ndarray, "half layer emotion width"]


@dataclass(frozen=True)
class Sample:
    """Stories of some emotions, equally many from each half of the corpus."""

    texts: tuple[str, ...]
    """By half, then by emotion."""
    emotions: tuple[str, ...]
    growth: float
    """Stories an emotion in the corpus, over those in the sample."""

    @property
    def n_each(self) -> int:
        """Stories of an emotion in one half."""
        return len(self.texts) // (2 * len(self.emotions))


def draw(corpus: Corpus, lengths: Int64[np.ndarray, "story"], pooling: Pooling, *, seed: int = 0) -> Sample | None:
    """At most 2 * PAIRS stories, balanced over emotions and over topic-disjoint halves; None where the corpus is too
    small for a comparison to save time, or has fewer than two emotions in both halves.

    In each half all emotions have the same topics, as far as the corpus allows: the effect of a topic then cancels in
    the contrasts, as it does in those of a whole crossed corpus.

    Args:
        lengths: tokens of each story; those that the pooling rule sets aside are not drawn.
        seed: of the split into halves, as in `extract`.
    """
    needed = pooling.start + 1 if pooling.stop is None else pooling.stop
    half = halves(corpus, seed=seed)
    rows: dict[tuple[int, str], list[int]] = {(part, emotion): [] for part in (0, 1) for emotion in corpus.emotions}
    for row, story in enumerate(corpus.stories):
        if lengths[row] >= needed:
            rows[int(half[row]), story.emotion].append(row)
    there = [emotion for emotion in corpus.emotions if rows[0, emotion] and rows[1, emotion]]
    if len(there) < 2:
        return None
    n_emotions = min(len(there), PAIRS)
    chosen = [there[at * len(there) // n_emotions] for at in range(n_emotions)]
    n_each = min([PAIRS // n_emotions, *(len(rows[part, emotion]) for part in (0, 1) for emotion in chosen)])
    if len(corpus) < SAVES_FROM * 2 * n_each * n_emotions:
        return None
    texts = [
        corpus.texts[row]
        for part in (0, 1)
        for some in _same_topics(corpus, [rows[part, emotion] for emotion in chosen], n_each)
        for row in some
    ]
    n_usable = sum(len(rows[part, emotion]) for part in (0, 1) for emotion in there)
    return Sample(tuple(texts), tuple(chosen), n_usable / len(there) / (2 * n_each))


def _same_topics(corpus: Corpus, rows: Sequence[Sequence[int]], n: int) -> list[list[int]]:
    """`n` rows from each list, those of the topics that most of the lists have first."""
    topic = {row: corpus.stories[row].topic for some in rows for row in some}
    shared = {name: sum(any(topic[row] == name for row in some) for some in rows) for name in corpus.topics}
    rank = {name: at for at, name in enumerate(sorted(corpus.topics, key=lambda name: -shared[name]))}
    return [sorted(some, key=lambda row: rank[topic[row]])[:n] for some in rows]


def sampled_contrasts(
    engine: Pooler,
    sample: Sample,
    pooling: Pooling,
    *,
    layers: Sequence[int],
    site: Site,
    token_budget: int | None,
    max_tokens: int,
) -> Contrasts:
    """The contrasts of each half of the sample: an emotion's mean minus the mean over emotions. NaN at a layer where
    all tokens of a story are attention sinks.

    Raises:
        NumericalError: NaN or Inf in the activations of a text.
    """
    means: np.ndarray | None = None
    for batch in engine.pool(
        sample.texts,
        layers=layers,
        poolings=(plain(pooling),),
        site=site,
        token_budget=token_budget,
        max_tokens=max_tokens,
    ):
        if means is None:
            means = np.zeros((len(sample.texts), *batch.means.shape[2:]))
        means[batch.indices] = batch.means[0]
    assert means is not None
    by_story = means.reshape(2, len(sample.emotions), sample.n_each, *means.shape[1:])
    by_emotion = by_story.mean(2).swapaxes(1, 2)
    centred: np.ndarray = by_emotion - by_emotion.mean(2, keepdims=True)
    return centred


def compared(
    exact: Contrasts,
    rounded: Contrasts | None,
    sample: Sample,
    *,
    layers: Sequence[int],
    stored: str,
    weights_hash: str,
) -> Precision:
    """The comparison as a record, and the choice that follows from it.

    Args:
        rounded: contrasts in bfloat16; None: they could not be computed.
        stored: the precision that is used where bfloat16 is not good enough.
    """
    share: ErrorShare | None = None
    if rounded is not None:
        # Where all tokens of a story are sinks, a layer has no contrasts.
        usable = np.flatnonzero(np.isfinite(exact).all((0, 2, 3)) & np.isfinite(rounded).all((0, 2, 3)))
        exact, rounded = exact[:, usable], rounded[:, usable]
        share = error_share(exact, rounded, growth=sample.growth) if len(usable) else None
    record = Precision(
        dtype=stored,
        weights_hash=weights_hash,
        n_sample=len(sample.texts),
        n_emotions=len(sample.emotions),
        limit=LIMIT,
    )
    if share is None or rounded is None or not np.isfinite(share.ratio).all():
        return record
    at = int(share.ratio.argmax())
    figures = {
        "ratio": float(np.median(share.ratio)),
        "worst": float(share.ratio[at]),
        "worst_layer": layers[int(usable[at])],
        "shared": float(share.shared[at]),
        "least_cosine": float(_cosines(exact.mean(0), rounded.mean(0)).min()),
    }
    record = record.model_copy(update=figures)
    return record.model_copy(update={"dtype": "bfloat16"}) if record.passed else record


def _cosines(exact: np.ndarray, rounded: np.ndarray) -> np.ndarray:
    sizes = np.linalg.norm(exact, axis=-1) * np.linalg.norm(rounded, axis=-1)
    product = (exact * rounded).sum(-1)
    cosines: np.ndarray = np.divide(product, sizes, out=np.ones_like(product), where=sizes > 0)
    return cosines
