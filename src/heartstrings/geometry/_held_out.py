"""Stories compared with the vectors of the other topic half: the rank of the true emotion."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Float64, Int64

from heartstrings.core.errors import InputError
from heartstrings.core.types import Variant
from heartstrings.corpus.lexicon import families
from heartstrings.geometry._axes import p_value, ranks, unit_rows
from heartstrings.geometry.readout_results import Confused, Confusion, Estimate, HeldOut, Ranks
from heartstrings.vectors.emotion_vectors import EmotionVectors
from heartstrings.vectors.story_activations import read_story_activations

if TYPE_CHECKING:
    from heartstrings.corpus import Corpus

BOOTSTRAP, PERMUTATIONS = 1000, 2000
N_CONFUSIONS = 20

Batches = Callable[[], Iterator[tuple[Int64[np.ndarray, "story"], Float32[np.ndarray, "story layer width"]]]]
"""Each call iterates over all stories again: (row of each story, its activations at the bundle's layers)."""


def held_out(
    batches: Batches,
    emotion: Int64[np.ndarray, "story"],
    half: Int64[np.ndarray, "story"],
    vectors: EmotionVectors,
    *,
    shown_layer: int,
    variant: Variant = "raw",
    seed: int = 0,
) -> HeldOut | None:
    """Rank the true emotion of every story among the vectors made from the other topic half.

    Stories are centred by their own half's mean over emotions, the vectors by theirs. Two passes over the
    stream; memory does not grow with the number of stories. None without halves, or with fewer than three
    emotions in both.

    Args:
        batches: streams story activations at the bundle's layers.
        emotion: index into the bundle's emotions, a row; -1 for rows to leave out.
        half: 0 or 1, a row.
    """
    halves = vectors.halves_of(variant)
    if halves is None:
        return None
    return read_halves(
        batches, emotion, half, halves, vectors.emotions, vectors.layers, shown_layer=shown_layer, seed=seed
    )


def read_halves(
    batches: Batches,
    emotion: Int64[np.ndarray, "story"],
    half: Int64[np.ndarray, "story"],
    halves: Float32[np.ndarray, "half layer emotion width"],
    emotions: Sequence[str],
    layers: Sequence[int],
    *,
    shown_layer: int,
    seed: int = 0,
) -> HeldOut | None:
    """`held_out` with the contrasts of both halves given; a row of NaN where an emotion has no story in a half."""
    there = np.isfinite(halves[..., 0]).all(axis=(0, 1))
    if there.sum() < 3:
        return None
    place = np.full(len(emotions) + 1, -1, dtype=np.int64)  # the last entry serves rows marked -1
    place[np.flatnonzero(there)] = np.arange(int(there.sum()))
    row_emotion = place[emotion]
    centre = _centres(batches, row_emotion, half, len(layers), halves.shape[3])
    directions = unit_rows(halves[:, :, there].astype(np.float64)).astype(np.float32)
    n, n_layers = int(there.sum()), len(layers)
    names = tuple(word for word, known in zip(emotions, there, strict=True) if known)
    shown = list(layers).index(shown_layer)
    tally = _Tally.empty(n_layers, n, _family_of(names))
    confusion = np.zeros((n, n), dtype=np.int64)
    for rows, states in batches():
        for part in (0, 1):
            mine = (half[rows] == part) & (row_emotion[rows] >= 0)
            true = row_emotion[rows[mine]]
            for layer in range(n_layers if mine.any() else 0):
                centred = states[mine, layer] - centre[part, layer].astype(np.float32)
                scores = centred @ directions[1 - part, layer].T
                tally.add(layer, part, true, scores)
                if layer == shown:
                    np.add.at(confusion, (true, scores.argmax(1)), 1)
    return HeldOut(
        n_stories=int(tally.count.sum()),
        n_emotions=n,
        layers=tally.ranks(layers, seed),
        confusion=_confusion(confusion, names),
    )


def story_stream(
    work: Path, vectors: EmotionVectors, corpus: Corpus
) -> tuple[Batches, Int64[np.ndarray, "story"], Int64[np.ndarray, "story"]] | None:
    """The kept activations of an extraction, and the emotion and half of each corpus row.

    None if they were not kept, or are of another pooling, model or site than the bundle.

    Raises:
        InputError: the activations are of another corpus or of other layers than the bundle.
    """
    stories = read_story_activations(work, vectors)
    if stories is None or vectors.stories is None:
        return None
    store = stories.store
    if store.n_texts != len(corpus) or store.layers != vectors.layers:
        raise InputError(
            f"{store.directory} holds {store.n_texts} texts at layers {list(store.layers)}",
            f"the {len(corpus)} stories and the layers of the bundle",
            "Extract again into an empty folder",
        )
    emotion = np.full(store.n_texts, -1, dtype=np.int64)
    half = np.zeros(store.n_texts, dtype=np.int64)
    emotion[stories.rows], half[stories.rows] = vectors.stories.emotion, vectors.stories.half

    def batches() -> Iterator[tuple[Int64[np.ndarray, "story"], Float32[np.ndarray, "story layer width"]]]:
        for batch in stories.batches():
            yield batch.indices, batch.vectors

    return batches, emotion, half


@dataclass(frozen=True, eq=False)
class _Tally:
    """Running sums over stories, by layer and true emotion."""

    count: Int64[np.ndarray, "emotion"]
    """Stories, counted at the first layer."""
    ranks_of: Float64[np.ndarray, "layer emotion other"]
    """Sum of the ranks that each emotion's vector got on stories of each true emotion: stories of half 0 in rows,
    stories of half 1 in columns. A permutation of columns is then one of half 1's names, in both roles."""
    sums: Float64[np.ndarray, "layer statistic emotion"]
    """top 1, top 5, rank, 1 / rank, family, of the true emotion."""
    family: Int64[np.ndarray, "emotion"]

    @staticmethod
    def empty(n_layers: int, n: int, family: Int64[np.ndarray, "emotion"]) -> _Tally:
        return _Tally(np.zeros(n, dtype=np.int64), np.zeros((n_layers, n, n)), np.zeros((n_layers, 5, n)), family)

    def add(
        self, layer: int, half: int, true: Int64[np.ndarray, "story"], scores: Float32[np.ndarray, "story emotion"]
    ) -> None:
        if layer == 0:
            np.add.at(self.count, true, 1)
        order = ranks(scores)
        # A similarity of the halves by chance helps stories of both, so a null that permuted them separately would be
        # too narrow.
        np.add.at(self.ranks_of[layer] if half == 0 else self.ranks_of[layer].T, true, order)
        mine = order[np.arange(len(true)), true]
        nearest = scores.argmax(1)
        same = (self.family[nearest] == self.family[true]) & (self.family[true] >= 0)
        for row, column in enumerate((mine <= 1, mine <= 5, mine, 1 / mine, same)):
            np.add.at(self.sums[layer, row], true, column)

    def ranks(self, layers: Sequence[int], seed: int) -> tuple[Ranks, ...]:
        n = len(self.count)
        known = self.family >= 0
        sizes = np.bincount(self.family[known], minlength=1)
        # An emotion without a family never counts as right, so its probability by chance is 0.
        family_chance = np.where(known, sizes[np.maximum(self.family, 0)] / n, 0.0)
        chances = (
            1 / n,
            min(5, n) / n,
            (n + 1) / 2,
            float((1 / np.arange(1, n + 1)).mean()),
            float((self.count * family_chance).sum() / self.count.sum()),
        )
        rng = np.random.default_rng(seed)
        weights = rng.multinomial(n, np.full(n, 1 / n), size=BOOTSTRAP).astype(np.float64)
        orders = np.argsort(rng.random((PERMUTATIONS, n)), axis=1)
        null = np.min([table[np.arange(n), orders].sum(1) for table in self.ranks_of], axis=0) / self.count.sum()
        out = []
        for row, layer in enumerate(layers):
            estimates = [self._estimate(self.sums[row, k], weights, chance) for k, chance in enumerate(chances)]
            rank = estimates[2]
            percentile = Estimate(
                value=(n - rank.value) / (n - 1), low=_above(rank.high, n), high=_above(rank.low, n), chance=0.5
            )
            p = p_value(-rank.value, -null, tie=1e-9)
            out.append(
                Ranks(
                    layer=layer,
                    top1=estimates[0],
                    top5=estimates[1],
                    mean_rank=rank,
                    reciprocal_rank=estimates[3],
                    percentile=percentile,
                    family=estimates[4],
                    p=p,
                )
            )
        return tuple(out)

    def _estimate(
        self, sums: Float64[np.ndarray, "emotion"], weights: Float64[np.ndarray, "resample emotion"], chance: float
    ) -> Estimate:
        totals = weights @ self.count
        drawn = (weights @ sums)[totals > 0] / totals[totals > 0]
        low, high = np.quantile(drawn, (0.025, 0.975))
        return Estimate(value=float(sums.sum() / self.count.sum()), low=float(low), high=float(high), chance=chance)


def _above(rank: float | None, n: int) -> float | None:
    """Share of the other n - 1 emotions that a mean rank leaves below."""
    return None if rank is None else (n - rank) / (n - 1)


def _centres(
    batches: Batches, emotion: Int64[np.ndarray, "story"], half: Int64[np.ndarray, "story"], n_layers: int, width: int
) -> Float64[np.ndarray, "half layer width"]:
    """Each half's mean over its emotions' means, without holding one mean an emotion."""
    n = int(emotion.max()) + 1
    counts = np.stack([np.bincount(emotion[(half == part) & (emotion >= 0)], minlength=n) for part in (0, 1)])
    kinds = (counts > 0).sum(1)
    centre = np.zeros((2, n_layers, width))
    for rows, states in batches():
        for part in (0, 1):
            mine = (half[rows] == part) & (emotion[rows] >= 0)
            weight = 1.0 / (counts[part, emotion[rows[mine]]] * kinds[part])
            centre[part] += np.einsum("s,slw->lw", weight, states[mine].astype(np.float64))
    return centre


def _confusion(table: Int64[np.ndarray, "emotion emotion"], names: Sequence[str]) -> Confusion:
    of = _family_of(names)
    grouped = families()
    labels = sorted({grouped[name] for name in names if name in grouped})
    counts = np.zeros((len(labels), len(labels)), dtype=np.int64)
    for true in range(len(names)):
        for said in range(len(names)):
            if of[true] >= 0 and of[said] >= 0:
                counts[of[true], of[said]] += table[true, said]
    totals = counts.sum(1)
    shares = tuple(
        tuple(float(x) / int(total) if total else None for x in row) for row, total in zip(counts, totals, strict=True)
    )
    wrong = table.copy()
    np.fill_diagonal(wrong, 0)
    worst = []
    for at in np.argsort(-wrong, axis=None, kind="stable")[:N_CONFUSIONS].tolist():
        true, said = divmod(at, len(names))
        if wrong[true, said]:
            texts = int(wrong[true, said])
            worst.append(
                Confused(true=names[true], read_as=names[said], texts=texts, share=texts / int(table[true].sum()))
            )
    return Confusion(families=tuple(labels), shares=shares, texts=tuple(map(int, totals)), worst=tuple(worst))


def _family_of(names: Sequence[str]) -> Int64[np.ndarray, "emotion"]:
    """Number of each emotion's family, in alphabetical order; -1 for words outside the lexicon."""
    grouped = families()
    labels = {label: row for row, label in enumerate(sorted({grouped[name] for name in names if name in grouped}))}
    return np.array([labels[grouped[name]] if name in grouped else -1 for name in names], dtype=np.int64)
