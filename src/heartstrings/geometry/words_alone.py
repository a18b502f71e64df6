"""The readouts from the words of the stories, without a model: a baseline.

The activations of any model contain the words of the text, so a readout of stories may use no more than these. So the
same readouts are run with TF-IDF unigrams (sublinear, rows of length 1; Salton and Buckley 1988) in place of
activations: the same contrasts, halves of topics, folds of families and stories. Vocabulary and document frequencies
come from the topics that the vectors are made from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Float64, Int64

from heartstrings.geometry._held_out import read_halves
from heartstrings.geometry._readouts import read_kernels
from heartstrings.geometry.own_emotion import Kernels, Stories, own_emotions
from heartstrings.geometry.readout_results import WordsAlone

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from heartstrings.geometry._axes import Target

BATCH = 256


@dataclass(frozen=True, eq=False)
class Unigrams:
    """TF-IDF features of every story, fitted on each half of the topics."""

    spaces: tuple[csr_matrix, csr_matrix]
    """`[h]`: TF-IDF of all stories, fitted on those of half h."""
    emotion: Int64[np.ndarray, "story"]
    half: Int64[np.ndarray, "story"]

    @property
    def size(self) -> int:
        """Different words, of the half that has more."""
        return max(space.shape[1] for space in self.spaces)

    def contrasts(self, space: int, half: int, n: int) -> Float64[np.ndarray, "emotion word"]:
        """Mean of each emotion's stories of a half minus the mean over emotions; NaN for one without a story there."""
        means = np.full((n, self.spaces[space].shape[1]), np.nan)
        for emotion in range(n):
            mine = np.flatnonzero((self.half == half) & (self.emotion == emotion))
            if len(mine):
                means[emotion] = self.spaces[space][mine].mean(axis=0)
        return np.asarray(means - np.nanmean(means, axis=0))

    def kernels(self, stories: Stories, place: Int64[np.ndarray, "read"]) -> Kernels:
        """For `own_emotions`; `place`: which row here each of its stories is."""
        out = []
        for half in (0, 1):
            space = self.spaces[1 - half]
            train, test = place[stories.half == 1 - half], place[stories.half == half]
            out.append(np.asarray((space[train] @ space[test].T).toarray(), dtype=np.float64))
        first, second = out
        return first, second


def unigrams(
    texts: Sequence[str], emotion: Int64[np.ndarray, "story"], half: Int64[np.ndarray, "story"]
) -> Unigrams | None:
    """The words of stories; None where a half has none at all."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    spaces = []
    for part in (0, 1):
        vectorizer = TfidfVectorizer(sublinear_tf=True)
        try:
            vectorizer.fit([text for text, own in zip(texts, half, strict=True) if own == part])
        except ValueError:  # an empty vocabulary, such as of a script without spaces between its signs
            return None
        spaces.append(vectorizer.transform(texts).tocsr())
    return Unigrams((spaces[0], spaces[1]), emotion, half)


def own_aucs(words: Unigrams, stories: Stories, place: Int64[np.ndarray, "read"]) -> dict[str, float]:
    """Each emotion's AUC as in `own_emotions`, from words."""
    own = own_emotions([words.kernels(stories, place)], stories, (0,), permutations=0)
    return {own_emotion.emotion: own_emotion.auc for own_emotion in own}


def read_words(words: Unigrams, names: Sequence[str], targets: Sequence[Target], *, seed: int = 0) -> WordsAlone:
    """Ranks of the true emotion as in `held_out`, and R2 of valence and arousal as in the geometry.

    Args:
        names: the emotions that `words.emotion` points into.
        targets: valence and arousal; none: no R2.
    """
    n, width = len(names), words.size
    halves = np.full((2, 1, n, width), np.nan, dtype=np.float32)
    for part in (0, 1):
        own = words.contrasts(part, part, n)
        halves[part, 0] = np.where(np.isfinite(own[:, :1]), 0, np.nan)
        halves[part, 0, :, : own.shape[1]] = own

    def batches() -> Iterator[tuple[Int64[np.ndarray, "story"], Float32[np.ndarray, "story 1 word"]]]:
        """Each story in the words of the other half, whose vectors it is read with."""
        for part in (0, 1):
            rows = np.flatnonzero(words.half == part)
            space = words.spaces[1 - part]
            for at in np.array_split(rows, max(1, len(rows) // BATCH)):
                states = np.zeros((len(at), 1, width), dtype=np.float32)
                states[:, 0, : space.shape[1]] = space[at].toarray()
                yield at, states

    held_out = read_halves(batches, words.emotion, words.half, halves, names, (0,), shown_layer=0, seed=seed)
    ranks = None if held_out is None else held_out.layers[0]
    valence, arousal = _ratings_read(words, n, targets, seed) if targets else (None, None)
    return WordsAlone(
        words=width,
        top1=None if ranks is None else ranks.top1,
        top5=None if ranks is None else ranks.top5,
        family=None if ranks is None else ranks.family,
        valence_r2=valence,
        arousal_r2=arousal,
    )


def _ratings_read(words: Unigrams, n: int, targets: Sequence[Target], seed: int) -> list[float | None]:
    """R2 of each rating: fitted on one half's vectors of the training emotions, predicted for the other half's of the
    held-out emotions, both in the features of the first half."""
    fitted = [words.contrasts(part, part, n) for part in (0, 1)]
    told = [words.contrasts(part, 1 - part, n) for part in (0, 1)]
    there = np.all([np.isfinite(rows[:, 0]) for rows in (*fitted, *told)], axis=0) & targets[0].rated
    layer = tuple(
        (train[there] @ train[there].T, test[there] @ train[there].T) for train, test in zip(fitted, told, strict=True)
    )
    readings = read_kernels([layer], targets, there, topics_held_out=True, seed=seed)
    results = [reading.results[0] for reading in readings]
    return [None if result is None else result.r2 for result in results]
