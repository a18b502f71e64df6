"""From pooled activations to contrasts: sums by emotion, halves, reliability, story scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int8, Int64

from heartstrings.core.errors import InputError
from heartstrings.core.types import Weighting
from heartstrings.corpus import Corpus, facts
from heartstrings.vectors.activations import Activations, PositionMeans, TextFacts
from heartstrings.vectors.emotion_vectors import N_STORY_COMPONENTS, StoryTable, components


@dataclass(frozen=True)
class EmotionSums:
    """Running sums of pooled activations, in float64 and in a fixed order, so that they repeat bit for bit."""

    sums: Float64[np.ndarray, "half layer emotion width"]
    weights: Float64[np.ndarray, "half layer emotion"]
    """Stories, or tokens with token weighting."""


def sum_by_emotion(
    store: Activations,
    rule: int,
    positions: PositionMeans | None,
    emotion: Int64[np.ndarray, "text"],
    half: Int8[np.ndarray, "text"],
    n_emotions: int,
    weighting: Weighting,
) -> EmotionSums:
    """Sums over the stories of each emotion and half; `emotion` and `half` have an entry a story of the store."""
    sums: np.ndarray | None = None
    weights = np.zeros((2, len(store.layers), n_emotions))
    for batch in store.pooled(rule, positions):
        if sums is None:
            sums = np.zeros((2, len(store.layers), n_emotions, batch.vectors.shape[2]))
        for index, vector, n_tokens in zip(batch.indices.tolist(), batch.vectors, batch.weights, strict=True):
            weight = n_tokens.astype(np.float64) if weighting == "token" else np.ones(len(n_tokens))
            sums[half[index], :, emotion[index]] += vector.astype(np.float64) * weight[:, None]
            weights[half[index], :, emotion[index]] += weight
    if sums is None:
        raise InputError("no story was pooled", "at least one")
    return EmotionSums(sums, weights)


def half_contrasts(sums: EmotionSums) -> Float32[np.ndarray, "half layer emotion width"]:
    """Contrasts from each half alone, centred over the emotions it has; NaN where it has no story of one."""
    result = np.full(sums.sums.shape, np.nan, dtype=np.float32)
    for half in range(2):
        present = sums.weights[half].min(0) > 0
        if int(present.sum()) < 2:
            continue
        means = sums.sums[half][:, present] / sums.weights[half][:, present, None]
        result[half][:, present] = means - means.mean(1, keepdims=True)
    return result


def split_half_reliability(
    halves: Float32[np.ndarray, "half layer emotion width"],
) -> Float32[np.ndarray, "layer emotion"]:
    """Cosine c of the two halves' contrasts, stepped up to the full number of stories: 2c / (1 + |c|).

    Spearman-Brown for two halves; |c| keeps a negative cosine, which is noise, within -1 to 1. NaN where an
    emotion is missing from a half.
    """
    first, second = halves.astype(np.float64)
    size = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    product = (first * second).sum(-1)
    cosine = np.divide(product, size, out=np.full(size.shape, np.nan), where=size > 0)
    stepped_up: np.ndarray = 2 * cosine / (1 + np.abs(cosine))
    return stepped_up.astype(np.float32)


def story_scores(
    store: Activations,
    rule: int,
    positions: PositionMeans | None,
    centre: Float64[np.ndarray, "layer width"],
    variants: Sequence[Float32[np.ndarray, "layer emotion width"]],
    pooled: Int64[np.ndarray, "story"],
) -> Float32[np.ndarray, "variant layer story score"] | None:
    """Each pooled story minus the centre, on the first components of the contrasts; as many as every layer has."""
    bases = [[components(rows, N_STORY_COMPONENTS)[1] for rows in contrasts] for contrasts in variants]
    n = min(len(basis) for layers in bases for basis in layers)
    if n == 0:
        return None
    scores = np.zeros((len(variants), len(store.layers), len(pooled), n), dtype=np.float32)
    for batch in store.pooled(rule, positions):
        at = np.searchsorted(pooled, batch.indices)
        for layer in range(len(store.layers)):
            rows = batch.vectors[:, layer] - centre[layer]
            for variant, layers in enumerate(bases):
                scores[variant, layer, at] = rows @ layers[layer][:n].T
    return scores


def story_table(corpus: Corpus, seen: TextFacts, half: Int8[np.ndarray, "story"]) -> StoryTable:
    """What is known of every story of a corpus."""
    emotion_of = {emotion: index for index, emotion in enumerate(corpus.emotions)}
    topic_of = {topic: index for index, topic in enumerate(corpus.topics)}
    known = [facts(text) for text in corpus.texts]
    return StoryTable(
        emotion=np.array([emotion_of[story.emotion] for story in corpus.stories], dtype=np.int16),
        topic=np.array([topic_of[story.topic] for story in corpus.stories], dtype=np.int32),
        topics=corpus.topics,
        half=half.astype(np.int8),
        n_tokens=seen.n_tokens.astype(np.int32),
        words=np.array([fact.words for fact in known], dtype=np.int32),
        person=np.array([fact.person for fact in known], dtype=np.float32),
        dialogue=np.array([fact.dialogue for fact in known], dtype=np.float32),
    )
