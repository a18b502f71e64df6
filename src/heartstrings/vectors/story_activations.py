"""The activations of each story, read from what an extraction kept: for controls with shuffled labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int64

from heartstrings.core.errors import InputError
from heartstrings.core.types import Variant
from heartstrings.vectors.activations import (
    MANIFEST,
    WORK,
    Activations,
    PooledTexts,
    PositionMeans,
    read_manifest,
    rule_of,
)
from heartstrings.vectors.emotion_vectors import EmotionVectors, project_out

NEUTRAL = "neutral"
LEAST_NEUTRAL = 12
"""Mixtures of fewer texts are nearly one direction."""


@dataclass(frozen=True, eq=False)
class StoryActivations:
    """The pooled stories of a bundle, in the order of its story table. They stay on disk: every method reads the store
    once, one batch at a time, so that memory does not grow with the number of stories."""

    vectors: EmotionVectors
    store: Activations
    rule: int
    """Which of the store's poolings is the bundle's."""
    rows: Int64[np.ndarray, "story"]
    """Row of each story among the texts of the store, rising."""
    emotion: Int64[np.ndarray, "story"]
    """Index into the bundle's emotions."""
    topic: Int64[np.ndarray, "story"]

    def __len__(self) -> int:
        return len(self.emotion)

    @property
    def crossed(self) -> bool:
        """Whether every topic has stories of at least two emotions. Labels can then be shuffled within topics, so that
        effects of topics on the activations do not enter the null."""
        return all(len(np.unique(self.emotion[self.topic == topic])) > 1 for topic in np.unique(self.topic))

    @property
    def n_crossed_topics(self) -> int:
        """The number of topics if each has a story of every emotion, so that topic means contain no emotion; else 0."""
        cells = {(int(topic), int(emotion)) for topic, emotion in zip(self.topic, self.emotion, strict=True)}
        topics = len(np.unique(self.topic))
        return topics if len(cells) == topics * len(np.unique(self.emotion)) else 0

    @property
    def parts(self) -> tuple[Int64[np.ndarray, "_"], ...]:
        """The stories among which labels are exchanged: those of each topic, or all where topics are not `crossed`."""
        if not self.crossed:
            return (np.arange(len(self)),)
        return tuple(np.flatnonzero(self.topic == topic) for topic in np.unique(self.topic))

    @property
    def arrangements(self) -> float:
        """The number of different ways to shuffle the labels, the real one included; inf beyond e^30."""
        total = 0.0
        for rows in self.parts:
            counts = np.unique(self.emotion[rows], return_counts=True)[1].tolist()
            total += math.lgamma(len(rows) + 1) - sum(math.lgamma(count + 1) for count in counts)
        return float(round(math.exp(total))) if total < 30 else math.inf

    def shuffled(self, draws: np.random.Generator) -> Int64[np.ndarray, "story"]:
        """The stories' labels in random order within `parts`: each emotion keeps its number of stories in each part."""
        labels = self.emotion.copy()
        for rows in self.parts:
            labels[rows] = draws.permutation(labels[rows])
        return labels

    def contrasts(
        self,
        labels: Int64[np.ndarray, "labelling story"],
        factors: Float64[np.ndarray, "blend emotion"],
        layers: Sequence[int],
        variant: Variant,
    ) -> Float64[np.ndarray, "labelling blend layer width"]:
        """The contrasts of the bundle with other labels, for blends of emotions.

        Emotion means (weighted as in the bundle) minus the mean over emotions, times the factors and summed; then the
        neutral components are projected out where `variant` is denoised. With the stories' own labels these are the
        bundle's vectors. A blend of contrasts is a weighted sum of stories, so any number of labellings, blends and
        layers takes one pass over the store.

        Args:
            labels: index of an emotion a story; every emotion at least once a labelling.
            factors: of each emotion in each blend.
        Raises:
            InputError: a layer that was not kept, or denoised contrasts of a bundle that has none.
        """
        columns, n = self._columns(layers), len(self.vectors.emotions)
        weights = self._weights[:, columns]
        sizes = np.stack([_sums_by_label(row, weights, n) for row in labels])
        # The mean over emotions is taken off each contrast: with it, the factors of all emotions sum to 0.
        centred = factors - factors.mean(1, keepdims=True)
        contrasts = np.zeros((len(labels), len(factors), len(columns), self.vectors.width))
        for at, batch in self._batches():
            for column, stored in enumerate(columns):
                states = batch.vectors[:, stored].astype(np.float64)
                for row, own in enumerate(labels[:, at]):
                    share = weights[at, column] / sizes[row, own, column]
                    contrasts[row, :, column] += (centred[:, own] * share) @ states
        flat = contrasts.reshape(-1, *contrasts.shape[2:])
        return self._denoised(flat, layers, variant).reshape(contrasts.shape)

    def topic_contrasts(self, layers: Sequence[int], variant: Variant) -> Float64[np.ndarray, "topic layer width"]:
        """Mean of each topic's stories minus the mean over topics, denoised as the bundle's vectors are: the effect of
        topics on the activations. It contains no emotion where every topic has every emotion (`n_crossed_topics`).

        Raises:
            InputError: a layer that was not kept, or denoised contrasts of a bundle that has none.
        """
        columns = self._columns(layers)
        topics, own = np.unique(self.topic, return_inverse=True)
        sizes = _sums_by_label(own, self._weights[:, columns], len(topics))
        means = np.zeros((len(topics), len(columns), self.vectors.width))
        for at, batch in self._batches():
            for column, stored in enumerate(columns):
                share = self._weights[at, columns[column]] / sizes[own[at], column]
                np.add.at(means, (own[at], column), share[:, None] * batch.vectors[:, stored].astype(np.float64))
        means -= means.mean(axis=0)
        return self._denoised(means, layers, variant)

    def neutral_deviations(
        self, layers: Sequence[int], variant: Variant
    ) -> Float64[np.ndarray, "text layer width"] | None:
        """Each neutral text's activation minus the mean over these texts, pooled and denoised as the stories are: the
        variation of text without emotion. None where they were not kept, or fewer than `LEAST_NEUTRAL` are long enough
        for the pooling.

        Raises:
            InputError: a layer that was not kept, or denoised activations of a bundle that has none.
        """
        place = self.store.directory.parent / NEUTRAL
        if not (place / MANIFEST).is_file():
            return None
        store = Activations.of(place, read_manifest(place))
        columns = self._columns(layers)
        rows = [batch.vectors[:, columns].astype(np.float64) for batch in store.pooled(self.rule, self._positions)]
        activations = np.concatenate(rows) if rows else np.zeros((0, len(columns), self.vectors.width))
        if len(activations) < LEAST_NEUTRAL:
            return None
        return self._denoised(activations - activations.mean(axis=0), layers, variant)

    def _denoised(
        self, rows: Float64[np.ndarray, "row layer width"], layers: Sequence[int], variant: Variant
    ) -> Float64[np.ndarray, "row layer width"]:
        if variant == "denoised":
            for column, layer in enumerate(layers):
                rows[:, column] = project_out(rows[:, column].astype(np.float32), self._basis(layer))
        return rows

    def cosines(
        self, directions: Float64[np.ndarray, "direction layer width"], layers: Sequence[int], variant: Variant
    ) -> Float64[np.ndarray, "direction layer story"]:
        """Cosine of each story, minus the bundle's centre and denoised like its vectors, with each direction."""
        columns, vectors = self._columns(layers), self.vectors
        if vectors.centre is None:
            raise InputError("vectors without their centre", "a bundle extracted here", "Extract it again")
        unit = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
        cosines = np.zeros((len(directions), len(columns), len(self)))
        for at, batch in self._batches():
            for column, (stored, layer) in enumerate(zip(columns, layers, strict=True)):
                rows = batch.vectors[:, stored] - vectors.centre[vectors.layers.index(layer)]
                if variant == "denoised":
                    rows = project_out(rows, self._basis(layer))
                wide = rows.astype(np.float64)
                size = np.linalg.norm(wide, axis=1)
                cosines[:, column, at] = unit[:, column] @ wide.T / np.where(size > 0, size, np.inf)
        return cosines

    def batches(self) -> Iterator[PooledTexts]:
        """All stories, one batch of the store at a time."""
        yield from self.store.pooled(self.rule, self._positions)

    def _batches(self) -> Iterator[tuple[Int64[np.ndarray, "_"], PooledTexts]]:
        """(indices of the stories, their vectors)."""
        for batch in self.batches():
            yield np.searchsorted(self.rows, batch.indices), batch

    @cached_property
    def _positions(self) -> PositionMeans | None:
        pooling = self.vectors.provenance.pooling
        return self.store.position_means() if pooling is not None and pooling.rule == "centred" else None

    @cached_property
    def _weights(self) -> Float64[np.ndarray, "story layer"]:
        """What each story counts at each layer of the store: 1, or its tokens where the bundle weighs tokens."""
        if self.vectors.provenance.weighting == "story":
            return np.ones((len(self), len(self.store.layers)))
        return np.asarray(self.store.weights(self.rule)[self.rows].astype(np.float64))

    def _columns(self, layers: Sequence[int]) -> list[int]:
        lacking = [layer for layer in layers if layer not in self.store.layers or layer not in self.vectors.layers]
        if lacking:
            known = ", ".join(str(layer) for layer in self.store.layers if layer in self.vectors.layers)
            raise InputError(f"no activations of layer {lacking[0]} were kept", f"one of {known}", "Change the layers")
        return [self.store.layers.index(layer) for layer in layers]

    def _basis(self, layer: int) -> Float32[np.ndarray, "_ width"]:
        basis = self.vectors.neutral_basis
        if basis is None:
            raise InputError("vectors without a neutral basis", "a bundle with denoised vectors", "Extract it again")
        return basis[self.vectors.layers.index(layer)]


def read_story_activations(folder: Path, vectors: EmotionVectors) -> StoryActivations | None:
    """The activations in a bundle's folder or beside it; None if they were not kept, or are of another pooling, model
    or site than the bundle.

    They are the whole folder `.work/stories` of the extraction that made the bundle.

    Args:
        folder: the bundle's own, e.g. `atlas/vectors/from50`, or what holds it, `atlas/vectors`.
    Raises:
        InputError: other stories than the bundle's, or files that cannot be read.
    """
    table, record = vectors.stories, vectors.provenance
    for place in (folder / WORK / "stories", folder.parent / WORK / "stories"):
        if table is None or record.pooling is None or not (place / MANIFEST).is_file():
            continue
        manifest = read_manifest(place)
        store = Activations.of(place, manifest)
        rule = rule_of(store.poolings, record.pooling)
        same_model = record.model is None or manifest["model"]["weights_hash"] == record.model.weights_hash
        if rule < 0 or not same_model or manifest["site"] != record.site:
            continue
        rows = np.flatnonzero(store.facts().n_pooled[rule])
        if len(rows) != len(table):
            raise _other_stories(place, f"{len(rows)} pooled stories, the bundle {len(table)}")
        return StoryActivations(
            vectors, store, rule, rows, table.emotion.astype(np.int64), table.topic.astype(np.int64)
        )
    return None


def check_same(stories: StoryActivations, again: Float64[np.ndarray, "_"], kept: Float64[np.ndarray, "_"]) -> None:
    """Check that a contrast computed from the stories with their own labels is the bundle's.

    Raises:
        InputError: it differs, so these are other stories.
    """
    if float(np.linalg.norm(again - kept)) > 1e-3 * float(np.linalg.norm(kept)):
        raise _other_stories(stories.store.directory, "stories that do not give the bundle's vectors")


def _other_stories(place: Path, contents: str) -> InputError:
    return InputError(
        f"{place} holds {contents}", "the activations that the bundle was made from", "Extract the vectors again"
    )


def _sums_by_label(
    labels: Int64[np.ndarray, "story"], weights: Float64[np.ndarray, "story layer"], n: int
) -> Float64[np.ndarray, "emotion layer"]:
    sums = np.stack([np.bincount(labels, weights=column, minlength=n) for column in weights.T], axis=1)
    if not sums.all():
        raise InputError("a labelling that leaves an emotion without a story", "every emotion at least once")
    return sums
