"""Each story's own activations, read back from what an extraction kept: for controls with shuffled labels."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int64

from heartstrings.activations import MANIFEST, Activations
from heartstrings.errors import InputError
from heartstrings.types import Pooling, Variant
from heartstrings.vectors import EmotionVectors, project_out

WORK = ".work"
"""Where `extract(..., keep_activations=True)` leaves them, beside the bundles of an atlas."""


@dataclass(frozen=True, eq=False)
class StoryActivations:
    """The pooled stories of a bundle, one vector a story and layer, read a layer at a time."""

    vectors: EmotionVectors
    store: Activations
    rule: int
    """Which of the store's poolings is the bundle's."""
    emotion: Int64[np.ndarray, "story"]
    """Index into the bundle's emotions, in the order of the bundle's story table."""
    topic: Int64[np.ndarray, "story"]
    _layers: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.emotion)

    @property
    def crossed(self) -> bool:
        """Does every topic that has a story have one of at least two emotions? Then labels can be shuffled within
        topics, which keeps what a topic does to the activations out of the null."""
        return all(len(np.unique(self.emotion[self.topic == topic])) > 1 for topic in np.unique(self.topic))

    def at(self, layer: int) -> tuple[Float32[np.ndarray, "story width"], Float64[np.ndarray, "story"]]:
        """(activations, weights: 1 a story, or its tokens where the bundle weighs tokens) at one layer."""
        if layer not in self._layers:
            self._layers[layer] = self._read(layer)
        return self._layers[layer]

    def contrasts(
        self, labels: Int64[np.ndarray, "story"], layer: int, variant: Variant
    ) -> Float64[np.ndarray, "emotion width"]:
        """The bundle's own steps with other labels: emotion means minus the mean over emotions, then the neutral
        components projected out where `variant` is denoised. With the stories' own labels, the bundle's vectors."""
        states, weights = self.at(layer)
        n = len(self.vectors.emotions)
        # A table of weights times the states: one product instead of a sum a label.
        table = np.zeros((n, len(labels)))
        table[labels, np.arange(len(labels))] = weights
        means = (table @ states.astype(np.float64)) / table.sum(1, keepdims=True)
        found: np.ndarray = means - means.mean(0)
        if variant == "denoised":
            found = project_out(found.astype(np.float32), self._basis(layer)).astype(np.float64)
        return found

    def coherence(
        self, emotion: int, vector: Float64[np.ndarray, "width"], layer: int, variant: Variant
    ) -> Float64[np.ndarray, "story"]:
        """Cosine of each story of an emotion, minus the centre, with a vector; denoised alike."""
        states, _ = self.at(layer)
        if self.vectors.centre is None:
            raise InputError("vectors without their centre", "a bundle extracted here", "Extract it again")
        rows = states[self.emotion == emotion] - self.vectors.centre[self.vectors.layers.index(layer)]
        if variant == "denoised":
            rows = project_out(rows, self._basis(layer))
        size = np.linalg.norm(rows.astype(np.float64), axis=1) * np.linalg.norm(vector)
        cosine: np.ndarray = (rows @ vector) / np.where(size > 0, size, np.inf)
        return cosine

    def _basis(self, layer: int) -> Float32[np.ndarray, "_ width"]:
        basis = self.vectors.neutral_basis
        if basis is None:
            raise InputError("vectors without a neutral basis", "a bundle with denoised vectors", "Extract it again")
        return basis[self.vectors.layers.index(layer)]

    def _read(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        if layer not in self.store.layers:
            raise InputError(f"no activations of layer {layer} were kept", f"one of {self.store.layers}")
        column = self.store.layers.index(layer)
        pooling = self.vectors.provenance.pooling
        centred = pooling is not None and pooling.rule == "centred"
        positions = self.store.position_means() if centred else None
        indices, states, weights = [], [], []
        for batch in self.store.pooled(self.rule, positions):
            indices.append(batch.indices)
            states.append(batch.vectors[:, column])
            weights.append(batch.weights[:, column])
        order = np.argsort(np.concatenate(indices), kind="stable")
        tokens = np.concatenate(weights)[order].astype(np.float64)
        by_token = self.vectors.provenance.weighting == "token"
        return np.concatenate(states)[order], tokens if by_token else np.ones(len(tokens))


def read_story_activations(folder: Path, vectors: EmotionVectors) -> StoryActivations | None:
    """The activations that lie beside a bundle, or None where none were kept.

    Args:
        folder: what holds the bundle, e.g. `atlas/vectors` for `atlas/vectors/from50`; a bundle that was extracted
            alone keeps them inside itself, so that its own folder is looked at too by the caller.
    Raises:
        InputError: activations of other stories or of another pooling than the bundle's.
    """
    place = folder / WORK / "stories"
    if vectors.stories is None or not (place / MANIFEST).is_file():
        return None
    manifest = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
    poolings = tuple(Pooling.model_validate(one) for one in manifest["poolings"])
    pooling = vectors.provenance.pooling
    # A `centred` rule is stored as plain means, so that it serves `from` as well.
    serving = [one for one in poolings if pooling in (one, _plain(one))]
    if not serving:
        return None
    store = Activations(place, int(manifest["number of texts"]), tuple(manifest["layers"]), poolings)
    rule = poolings.index(serving[0])
    kept = int((store.facts().n_pooled[rule] > 0).sum())
    if kept != len(vectors.stories):
        raise InputError(
            f"{place} holds {kept} pooled stories, the bundle {len(vectors.stories)}",
            "the activations that the bundle was made from",
            "Extract the vectors again",
        )
    table = vectors.stories
    return StoryActivations(vectors, store, rule, table.emotion.astype(np.int64), table.topic.astype(np.int64))


def _plain(pooling: Pooling) -> Pooling:
    return Pooling(start=pooling.start) if pooling.rule == "centred" else pooling
