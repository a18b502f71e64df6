"""Nuisances that components may follow instead of emotion: story length, narrative person, dialogue, topic.

A mean over tokens depends on the tokens' positions, so emotions whose stories are longer differ in a direction that has
nothing to do with feeling. On real models that direction can be the first component.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64

from heartstrings.geometry._axes import MIN_RATED, unit
from heartstrings.geometry._spectra import Spectrum
from heartstrings.geometry.results import Nuisance, NuisanceFit
from heartstrings.stats.nulls import permutation_p
from heartstrings.vectors.emotion_vectors import StoryTable

NAMED_FROM = 0.5
"""A component is named after length, person or dialogue from this |r| on."""
TOPIC_NAMED_FROM = 0.5**0.5
"""A component is named after topic when the topics drawn explain most of the variance between emotions: for a factor
with hundreds of levels, a share of variance is weaker evidence than a correlation with one measured quantity."""
MAX_TOPIC_STORIES = 6000
TOPIC_PERMUTATIONS = 199


@dataclass(frozen=True, eq=False)
class Facts:
    """Emotion means of one nuisance, over the stories that went into the vectors."""

    name: Nuisance
    known: Bool[np.ndarray, "emotion"]
    values: Float64[np.ndarray, "known"]
    """Mean 0, length 1."""
    shuffled: Float64[np.ndarray, "known permutation"]


def emotion_facts(stories: StoryTable, n_emotions: int, *, permutations: int, seed: int) -> tuple[Facts, ...]:
    """Mean length (words), person and dialogue of each emotion's stories, where they differ between emotions."""
    columns: tuple[tuple[Nuisance, Float64[np.ndarray, "story"]], ...] = (
        ("length", stories.words.astype(np.float64)),
        ("person", stories.person.astype(np.float64)),
        ("dialogue", stories.dialogue.astype(np.float64)),
    )
    out = []
    for number, (name, column) in enumerate(columns):
        there = np.isfinite(column)
        counts = np.bincount(stories.emotion[there], minlength=n_emotions)
        sums = np.bincount(stories.emotion[there], weights=column[there], minlength=n_emotions)
        known = counts > 0
        means = sums[known] / counts[known]
        if known.sum() < MIN_RATED or np.ptp(means) <= 1e-9 * max(float(np.abs(means).max()), 1e-300):
            continue
        values = unit(means)
        rng = np.random.default_rng([seed, number])
        shuffled = rng.permuted(np.repeat(values[:, None], permutations, axis=1), axis=0)
        out.append(Facts(name, known, values, shuffled))
    return tuple(out)


def emotion_fits(spectrum: Spectrum, facts: Sequence[Facts]) -> tuple[NuisanceFit, ...]:
    """|r| of every component's scores with every nuisance over emotions.

    p is for this one component and nuisance: a null that permutes the nuisance over emotions, no search.
    """
    out = []
    for fact in facts:
        scores = spectrum.scores[fact.known]
        table = np.stack([unit(column) for column in scores.T]) if scores.shape[1] else np.zeros((0, len(scores)))
        r = np.abs(table @ fact.values)
        null = np.abs(table @ fact.shuffled)
        p = [permutation_p(larger, null.shape[1]) for larger in (null >= r[:, None] - 1e-12).sum(1)]
        out += [
            NuisanceFit(
                component=c + 1, nuisance=fact.name, r=float(r[c]), p=float(p[c]), n=len(fact.values), level="emotion"
            )
            for c in range(len(r))
        ]
    return tuple(out)


def topics_testable(stories: StoryTable) -> bool:
    """Whether effects of topic can be tested within emotions: some emotion has several topics, some topic several
    stories."""
    pairs = np.unique(np.stack([stories.emotion.astype(np.int64), stories.topic.astype(np.int64)]), axis=1)
    several = len(pairs[0]) > len(np.unique(pairs[0]))
    return bool(several and len(stories) > len(np.unique(stories.topic)))


def topics_crossed(stories: StoryTable) -> bool:
    """Whether (almost) every emotion has every topic, so that topic cannot make emotions differ."""
    pairs = np.unique(np.stack([stories.emotion.astype(np.int64), stories.topic.astype(np.int64)]), axis=1)
    return bool(pairs.shape[1] >= 0.9 * len(np.unique(pairs[0])) * len(np.unique(pairs[1])))


def topic_fits(
    story_scores: Float32[np.ndarray, "layer story component"], stories: StoryTable, *, seed: int
) -> tuple[tuple[NuisanceFit, ...], ...]:
    """How much of the variance of story scores goes with topic, for every layer and component.

    Level `story`: within emotions. r is from eta squared of topic on the scores minus their emotion mean; its
    null permutes the stories of an emotion among themselves. With hundreds of topics eta squared is large by
    chance, so r is the root of what is left above the null's mean m: (eta2 - m) / (1 - m), at least 0.

    Level `emotion`, only where topics are not crossed with emotions: the root of the share of the variance
    between emotions that comes from which topics each was given (same p).
    """
    n_layers, n_components = int(story_scores.shape[0]), int(story_scores.shape[2])
    if not topics_testable(stories):
        return ((),) * n_layers
    rng = np.random.default_rng([seed, 7])
    rows = np.arange(len(stories), dtype=np.int64)
    if len(rows) > MAX_TOPIC_STORIES:
        rows = np.sort(rng.choice(rows, MAX_TOPIC_STORIES, replace=False))
    emotion, topic = stories.emotion[rows].astype(np.int64), stories.topic[rows]
    scores = story_scores[:, rows].transpose(1, 0, 2).reshape(len(rows), -1).astype(np.float64)
    deviations = scores - _group_means(scores, emotion)[emotion]
    size = (deviations**2).sum(0)
    deviations = np.divide(
        deviations, np.sqrt(size), out=np.zeros_like(deviations), where=size > 1e-12 * (scores**2).sum(0)
    )
    observed = _eta2(deviations, topic)
    null = np.stack([_eta2(deviations[_within(emotion, rng)], topic) for _ in range(TOPIC_PERMUTATIONS)])
    chance = null.mean(0)
    above = np.maximum((observed - chance) / np.maximum(1 - chance, 1e-12), 0.0)
    p = [permutation_p(larger, TOPIC_PERMUTATIONS) for larger in (null >= observed - 1e-12).sum(0)]
    at_story, share = np.sqrt(above), _from_topic_draw(scores, emotion, topic)
    crossed = topics_crossed(stories)
    out: list[tuple[NuisanceFit, ...]] = []
    for layer in range(n_layers):
        fits: list[NuisanceFit] = []
        for c in range(n_components):
            at = layer * n_components + c
            named = {"component": c + 1, "nuisance": "topic", "p": float(p[at]), "n": len(rows)}
            fits.append(NuisanceFit.model_validate({**named, "r": float(at_story[at]), "level": "story"}))
            if not crossed:
                r = float(np.sqrt(share[at]))
                fits.append(NuisanceFit.model_validate({**named, "r": r, "level": "emotion"}))
        out.append(tuple(fits))
    return tuple(out)


def _from_topic_draw(
    scores: Float64[np.ndarray, "story column"], emotion: Int64[np.ndarray, "story"], topic: Int32[np.ndarray, "story"]
) -> Float64[np.ndarray, "column"]:
    """Share of the variance between emotions that drawing other topics for each emotion would explain.

    Analysis of variance with topics nested in emotions: the variance of topics by the method of moments,
    divided by an emotion's (effective) number of topics and by the variance of the emotion means.
    """
    cells, cell = np.unique(emotion * (int(topic.max()) + 1) + topic, return_inverse=True)
    owner = cells // (int(topic.max()) + 1)
    size = np.bincount(cell).astype(np.float64)
    per_emotion = np.bincount(owner, weights=size)
    kinds = int((per_emotion > 0).sum())
    cell_means, means = _group_means(scores, cell), _group_means(scores, emotion)
    within = ((scores - cell_means[cell]) ** 2).sum(0) / max(len(scores) - len(cells), 1)
    between = (size[:, None] * (cell_means - means[owner]) ** 2).sum(0) / max(len(cells) - kinds, 1)
    # Sum over an emotion's topics of (its share of the stories) squared is one over its effective topics.
    squares = np.bincount(owner, weights=size**2)
    there = per_emotion > 0
    effective = np.mean(squares[there] / per_emotion[there] ** 2)
    stories_a_topic = (len(scores) - float((squares[there] / per_emotion[there]).sum())) / max(len(cells) - kinds, 1)
    of_topic = np.maximum(between - within, 0.0) / max(stories_a_topic, 1e-12)
    spread = means[there].var(0, ddof=1)
    share = np.divide(of_topic * effective, spread, out=np.zeros_like(spread), where=spread > 0)
    return np.asarray(np.clip(share, 0.0, 1.0))


def first_component(
    fits: Sequence[NuisanceFit], valence: float | None, arousal: float | None, *, named_from: float = NAMED_FROM
) -> NuisanceFit | None:
    """The nuisance that component 1 follows more closely than valence and arousal, if there is one.

    Only effects on the differences between emotions count. Effects of topics on single stories, as in a crossed corpus,
    do not.
    """
    emotional = max(valence or 0.0, arousal or 0.0)
    candidates = [
        fit
        for fit in fits
        if fit.component == 1
        and fit.level == "emotion"
        and fit.p < 0.05
        and fit.r >= max(named_from, TOPIC_NAMED_FROM if fit.nuisance == "topic" else 0.0)
        and fit.r > emotional
    ]
    return max(candidates, key=lambda fit: fit.r, default=None)


def _group_means(
    values: Float64[np.ndarray, "story column"], group: Int64[np.ndarray, "story"]
) -> Float64[np.ndarray, "group column"]:
    sums = _group_sums(values, group)
    return sums / np.maximum(np.bincount(group), 1)[:, None]


def _group_sums(
    values: Float64[np.ndarray, "story column"], group: Int64[np.ndarray, "story"] | Int32[np.ndarray, "story"]
) -> Float64[np.ndarray, "group column"]:
    from scipy.sparse import csr_matrix

    entries = np.ones(len(group))
    indicator = csr_matrix((entries, (group, np.arange(len(group)))), shape=(int(group.max()) + 1, len(group)))
    return np.asarray(indicator @ values)


def _eta2(
    deviations: Float64[np.ndarray, "story column"], topic: Int32[np.ndarray, "story"]
) -> Float64[np.ndarray, "column"]:
    """Share of the (unit) variance of each column between topics."""
    counts = np.maximum(np.bincount(topic), 1)
    return np.asarray((_group_sums(deviations, topic) ** 2 / counts[:, None]).sum(0))


def _within(emotion: Int64[np.ndarray, "story"], rng: np.random.Generator) -> Int64[np.ndarray, "story"]:
    """A random order of the stories that keeps each within its emotion."""
    order = np.argsort(emotion, kind="stable")
    mixed = np.lexsort((rng.random(len(emotion)), emotion))
    out = np.empty(len(emotion), dtype=np.int64)
    out[order] = mixed
    return out
