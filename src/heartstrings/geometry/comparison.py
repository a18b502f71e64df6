"""Comparison of two or more bundles: corpora, models, base against instruct."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np
from jaxtyping import Float32, Float64

from heartstrings.core.errors import InputError
from heartstrings.corpus.lexicon import Ratings
from heartstrings.geometry import _finding as finding
from heartstrings.geometry import similarity
from heartstrings.geometry._spectra import gram
from heartstrings.geometry.analysis import Progress, Survey, layer_counter, survey, targets_of
from heartstrings.geometry.results import Compared, ComparedLayer, Comparison, Pair
from heartstrings.vectors.emotion_vectors import EmotionVectors

MIN_COMMON = 3


def compare(
    bundles: Mapping[str, EmotionVectors],
    ratings: Ratings,
    *,
    permutations: int = 2000,
    bootstrap: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """The geometry of every bundle on the emotions that all of them have, and the similarity of every pair.

    Contrasts are centred again over the common emotions, so that a contrast has the same meaning in all bundles.
    Vectors are compared coordinate by coordinate only between bundles of the same weights.

    Raises:
        InputError: fewer than two bundles, or fewer than three emotions in common.
    """
    if len(bundles) < 2:
        raise InputError(f"{len(bundles)} bundle{'s' * (len(bundles) != 1)} to compare", "two or more")
    first = next(iter(bundles.values()))
    common = tuple(word for word in first.emotions if all(word in other.emotions for other in bundles.values()))
    if len(common) < MIN_COMMON:
        raise InputError(
            f"{len(common)} emotions that all of {', '.join(bundles)} have",
            "at least three in common",
            "Compare bundles of the same emotion words",
        )
    reduced = {label: restrict(bundle, common) for label, bundle in bundles.items()}
    step = layer_counter(reduced.values(), progress)
    sizes = {"permutations": permutations, "bootstrap": bootstrap, "seed": seed}
    rows = []
    for label, bundle in reduced.items():
        targets = targets_of(bundle, ratings, **sizes)
        rows.append(_compared(label, bundle, survey(bundle, targets, seed=seed, step=step), targets.valence.n))
    return Comparison(
        ratings_source=ratings.source,
        n_common=len(common),
        n_rated=ratings.rated(common),
        common=common,
        left_out={label: len(bundle.emotions) - len(common) for label, bundle in bundles.items()},
        bundles=tuple(rows),
        pairs=tuple(
            _pair(first_label, second_label, reduced[first_label], reduced[second_label])
            for first_label, second_label in combinations(reduced, 2)
        ),
    )


def restrict(vectors: EmotionVectors, emotions: tuple[str, ...]) -> EmotionVectors:
    """The bundle on some of its emotions, contrasts centred over these; without its story table."""
    rows = list(vectors.select(emotions))

    def centred(array: Float32[np.ndarray, "layer emotion width"]) -> Float32[np.ndarray, "layer chosen width"]:
        kept = array[:, rows].astype(np.float64)
        there = np.isfinite(kept).all(axis=(0, 2))
        if there.any():
            kept = kept - kept[:, there].mean(1, keepdims=True)
        return np.asarray(kept.astype(np.float32))

    return replace(
        vectors,
        emotions=emotions,
        raw=centred(vectors.raw),
        denoised=None if vectors.denoised is None else centred(vectors.denoised),
        centre=None,
        halves=None if vectors.halves is None else np.stack([centred(half) for half in vectors.halves]),
        reliability=None if vectors.reliability is None else vectors.reliability[:, rows],
        counts=None if vectors.counts is None else tuple(vectors.counts[row] for row in rows),
        tokens=None if vectors.tokens is None else tuple(vectors.tokens[row] for row in rows),
        stories=None,
        story_scores=None,
    )


def same_space(left: EmotionVectors, right: EmotionVectors) -> bool:
    """Whether coordinates have the same meaning in both: the same stored weights, width and site."""
    first, second = left.provenance.model, right.provenance.model
    if first is None or second is None or left.width != right.width or left.provenance.site != right.provenance.site:
        return False
    return first.weights_hash == second.weights_hash


def contrast_cosines(
    left: Float32[np.ndarray, "emotion width"], right: Float32[np.ndarray, "emotion width"]
) -> Float64[np.ndarray, "emotion"]:
    """Cosine of each emotion's two contrasts; 0 where one has no length."""
    first, second = left.astype(np.float64), right.astype(np.float64)
    size = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray(np.divide((first * second).sum(1), size, out=np.zeros(len(size)), where=size > 0))


def _compared(label: str, bundle: EmotionVectors, bundle_survey: Survey, n_rated: int) -> Compared:
    model = bundle.provenance.model
    depth = model.n_layers if model else None
    return Compared(
        label=label,
        model=model.model_id if model else "unknown",
        corpus_author=bundle.provenance.corpus_author,
        pooling=bundle.provenance.pooling.label if bundle.provenance.pooling else None,
        width=bundle.width,
        n_layers=depth,
        verdict=finding.verdict(bundle_survey.gate),
        sentence=finding.sentence(bundle_survey.layers, bundle_survey.gate, n_rated=n_rated, corrected={}),
        layers=tuple(
            ComparedLayer(
                depth=(row.layer + 1) / depth if depth else None,
                **{name: getattr(row, name) for name in ComparedLayer.model_fields if name != "depth"},
            )
            for row in bundle_survey.layers
        ),
    )


def _pair(first: str, second: str, first_bundle: EmotionVectors, second_bundle: EmotionVectors) -> Pair:
    first_grams = [gram(layer.astype(np.float64)) for layer in first_bundle.raw]
    second_grams = [gram(layer.astype(np.float64)) for layer in second_bundle.raw]
    cka = similarity.linear_cka(first_grams, second_grams)
    at = np.unravel_index(int(np.argmax(np.array(cka))), (len(first_bundle.layers), len(second_bundle.layers)))
    shared = same_space(first_bundle, second_bundle)
    cosines = tuple(
        (
            layer,
            float(contrast_cosines(first_bundle.raw[row], second_bundle.raw[second_bundle.layers.index(layer)]).mean()),
        )
        for row, layer in enumerate(first_bundle.layers)
        if layer in second_bundle.layers
    )
    return Pair(
        first=first,
        second=second,
        first_layers=first_bundle.layers,
        second_layers=second_bundle.layers,
        cka=cka,
        rsa=similarity.similarity_of_similarities(first_grams, second_grams),
        same_space=shared,
        cosines=cosines if shared else None,
        best_cka=float(cka[at[0]][at[1]]),
        best_layers=(first_bundle.layers[at[0]], second_bundle.layers[at[1]]),
    )
