"""How reliable contrasts are with fewer topics: `python bench/story_rounds.py ATLAS LAYERS`, such as 10,15,19,24.

For each number of topics, means over 20 random choices: lowest and median reliability over emotions, share of emotions
at .8 and at .9, the lowest and the median cosine with the contrasts of all stories, and PC1-valence |r|.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from heartstrings import vectors
from heartstrings.corpus.lexicon import built_in_ratings
from heartstrings.vectors.bundle import main_bundle
from heartstrings.vectors.emotion_vectors import project_out
from heartstrings.vectors.reliability import reliability_over_topics
from heartstrings.vectors.story_activations import read_story_activations

CHOICES = 20


def main() -> None:
    bundle = main_bundle(Path(sys.argv[1]))
    made = vectors.EmotionVectors.load(bundle)
    stories = read_story_activations(bundle, made)
    assert stories is not None, "an atlas with its activations"
    assert made.neutral_basis is not None, "an atlas with neutral texts"
    values = built_in_ratings().values
    valence = np.array([values[name][0] if name in values else np.nan for name in made.emotions])
    rated, topics = np.isfinite(valence), np.unique(stories.topic, return_inverse=True)[1]
    size, draws = (len(made.emotions), int(topics.max()) + 1), np.random.default_rng(0)
    for layer in map(int, sys.argv[2].split(",")):
        row = made.layers.index(layer)
        means, counts = np.zeros((*size, made.width)), np.zeros(size)
        for batch in stories.batches():
            at = np.searchsorted(stories.rows, batch.indices)
            np.add.at(means, (stories.emotion[at], topics[at]), batch.vectors[:, row].astype(np.float64))
            np.add.at(counts, (stories.emotion[at], topics[at]), 1)
        means /= np.maximum(counts, 1)[..., None]
        flat = project_out(means.reshape(-1, made.width).astype(np.float32), made.neutral_basis[row])
        for name, own in (("raw", means), ("denoised", flat.reshape(means.shape).astype(np.float64))):
            contrasts = own - own.mean(0)
            whole = contrasts.mean(1)
            for n in range(2, size[1] + 1):
                found = []
                for _ in range(CHOICES if n < size[1] else 1):
                    some = draws.permutation(size[1])[:n]
                    alpha = reliability_over_topics(own[:, some], counts[:, some] > 0).value
                    part = contrasts[:, some].mean(1)
                    cosine = (part * whole).sum(1) / np.linalg.norm(part, axis=1) / np.linalg.norm(whole, axis=1)
                    first = np.linalg.svd(part - part.mean(0), full_matrices=False)[0][:, 0]
                    r = abs(np.corrcoef(first[rated], valence[rated])[0, 1])
                    found.append(
                        (alpha.min(), np.median(alpha), (alpha >= 0.8).mean(), (alpha >= 0.9).mean(), cosine.min(),
                         np.median(cosine), r)
                    )  # fmt: skip
                print(name, layer, n, " ".join(f"{value:.2f}" for value in np.mean(found, axis=0)))


if __name__ == "__main__":
    main()
