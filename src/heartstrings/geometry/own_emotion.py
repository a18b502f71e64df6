"""Whether each emotion can be read from stories of topics that its vector was not made from.

Valence may be encoded while the emotion that is steered is not. So each emotion is tested by itself: its contrast from
one half of the topics scores the stories of the other half, both ways. The area under the ROC curve (AUC; Hanley and
McNeil 1982) is the probability that a story of the emotion scores higher than a story of another family of feeling.
Near synonyms, the emotion's own family, are not used as negatives.

Stories are compared within their topic where emotions and topics are crossed, so that differences between topics do not
matter, else within their half. The null replaces the emotion by another one, drawn again for each topic (or half):
families of like size change places, and members within them (block permutation, Winkler et al. 2015). So a similarity
of the stories of one family within a topic is no evidence. Each permutation repeats the search over layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from heartstrings.geometry._axes import family_numbers, like_sized, p_value
from heartstrings.geometry._held_out import BOOTSTRAP, PERMUTATIONS, Batches
from heartstrings.geometry.readout_results import OwnEmotion
from heartstrings.stats.intervals import means_by

CROSSED = 0.9
"""Share of the pairs of emotion and topic that must have a story for comparisons within topics."""
FEWEST_TOPICS = 6
"""With stories of an emotion on fewer topics there is no interval."""
OF_HALVES = 499
"""Largest number of permutations where stories are compared within halves: with two strata, p cannot fall under about
one over the number of emotions in families of like size."""
MOST_STORIES = 3000
"""Beyond this number, whole topics are left out at random."""
BLOCK = 2**28
"""Bytes of activations that are held at a time."""

Kernels = tuple[Float64[np.ndarray, "train0 test0"], Float64[np.ndarray, "train1 test1"]]
"""Inner products of stories at one layer. `[h]`: stories of the other half (rows, the vectors are made from these) with
the stories of half h (columns), each in the order of `Stories`."""

Sums = tuple[Float64[np.ndarray, "stratum emotion test0"], Float64[np.ndarray, "stratum emotion test1"]]
"""`[h]`: for each emotion and stratum of the other half, inner products with the stories of half h."""


@dataclass(frozen=True, eq=False)
class Stories:
    """The stories that are read: those of emotions that have stories in both halves."""

    emotions: tuple[str, ...]
    family: Int64[np.ndarray, "emotion"]
    rows: Int64[np.ndarray, "story"]
    """Row of each story in the corpus, rising."""
    emotion: Int64[np.ndarray, "story"]
    """Index into `emotions`."""
    topic: Int64[np.ndarray, "story"]
    half: Int64[np.ndarray, "story"]
    stratum: Int64[np.ndarray, "story"]
    """Stories are compared, and labels exchanged, within a stratum: a topic, or a half where topics are not crossed."""

    @property
    def half_of(self) -> Int64[np.ndarray, "stratum"]:
        halves = np.zeros(int(self.stratum.max()) + 1, dtype=np.int64)
        halves[self.stratum] = self.half
        return halves


def arrange(
    names: Sequence[str],
    emotion: Int64[np.ndarray, "row"],
    topic: Int64[np.ndarray, "row"],
    half: Int64[np.ndarray, "row"],
    *,
    seed: int = 0,
) -> Stories | None:
    """Which stories are read, and in which strata; None where fewer than two families have stories in both halves.

    Args:
        names: the emotions.
        emotion: index into `names`, -1 for rows to leave out.
        half: 0 or 1; no topic is in both.
    """
    rows = np.flatnonzero(emotion >= 0)
    rows = rows[_some_topics(topic[rows], half[rows], np.random.default_rng(seed))]
    counts = np.stack([np.bincount(emotion[rows[half[rows] == part]], minlength=len(names)) for part in (0, 1)])
    kept = np.asarray((counts > 0).all(0))
    own = tuple(name for name, there in zip(names, kept, strict=True) if there)
    family = family_numbers(own)
    if len(np.unique(family)) < 2:
        return None
    place = np.cumsum(kept) - 1
    rows = rows[kept[emotion[rows]]]
    topics = np.unique(topic[rows], return_inverse=True)[1].astype(np.int64)
    pairs = len({*zip(place[emotion[rows]].tolist(), topics.tolist(), strict=True)})
    crossed = pairs >= CROSSED * len(own) * (int(topics.max()) + 1)
    return Stories(
        emotions=own,
        family=family,
        rows=rows,
        emotion=place[emotion[rows]].astype(np.int64),
        topic=topics,
        half=half[rows].astype(np.int64),
        stratum=topics if crossed else half[rows].astype(np.int64),
    )


def kernels(
    batches: Batches,
    stories: Stories,
    basis: Sequence[Float32[np.ndarray, "_ width"]] | None,
    *,
    n_layers: int,
    width: int,
) -> Iterator[Kernels]:
    """Kernels of the stories' activations, layer by layer, without what `basis` spans (one array a layer).

    The stream is read once for each `BLOCK` bytes of activations.
    """
    place = np.full(int(stories.rows.max()) + 1, -1, dtype=np.int64)
    place[stories.rows] = np.arange(len(stories.rows))
    size = max(1, BLOCK // (4 * len(stories.rows) * width))
    for first in range(0, n_layers, size):
        last = min(first + size, n_layers)
        states = np.empty((last - first, len(stories.rows), width), dtype=np.float32)
        for rows, activations in batches():
            at = np.where(rows < len(place), place[np.minimum(rows, len(place) - 1)], -1)
            states[:, at[at >= 0]] = activations[at >= 0, first:last].transpose(1, 0, 2)
        for layer in range(first, last):
            # Residuals share one large component, which would reduce the precision of the products.
            wide = states[layer - first].astype(np.float64)
            wide -= wide.mean(0)
            if basis is not None:
                axes = basis[layer].astype(np.float64)
                wide -= (wide @ axes.T) @ axes
            between = wide[stories.half == 1] @ wide[stories.half == 0].T
            yield between, between.T


def own_emotions(
    layered: Iterable[Kernels],
    stories: Stories,
    layers: Sequence[int],
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> tuple[OwnEmotion, ...]:
    """Each emotion's AUC at every layer, the largest with its interval and its p. Emotions without a story of another
    family in their topics (or halves) are left out.

    p = (b + 1) / (m + 1) over m permutations, b those whose largest AUC over the layers reaches the observed one; None
    with `permutations` = 0. `low` and `high`: 95% percentile bootstrap over topics at that layer, for these vectors.
    """
    strata = _Strata(stories)
    permutations = min(permutations, OF_HALVES) if len(strata.places) == 2 else permutations
    stand_ins = strata.stand_ins(permutations, np.random.default_rng(seed))
    best = np.full(len(stories.emotions), -np.inf)
    best_layer = np.zeros(len(stories.emotions), dtype=np.int64)
    placed_at_best = np.full(len(stories.rows), np.nan)
    aucs = []
    null = np.full((permutations, len(stories.emotions)), -np.inf)
    for layer, pair in zip(layers, layered, strict=True):
        sums = strata.cell_sums(pair)
        placed = strata.observed(sums)
        auc = means_by(placed, stories.emotion, len(stories.emotions))
        aucs.append(auc)
        better = auc > best
        best[better], best_layer[better] = auc[better], layer
        mine = better[stories.emotion]
        placed_at_best[mine] = placed[mine]
        for members, orders in stand_ins:
            null[:, members] = np.maximum(null[:, members], strata.permuted(sums, orders, members))
    rng = np.random.default_rng(seed + 1)
    own = []
    for row, name in enumerate(stories.emotions):
        if not np.isfinite(best[row]):
            continue
        mine = (stories.emotion == row) & np.isfinite(placed_at_best)
        low, high = _interval(placed_at_best[mine], stories.topic[mine], rng)
        p = p_value(float(best[row]), null[:, row]) if permutations else None
        own.append(
            OwnEmotion(
                emotion=name,
                auc=float(best[row]),
                low=low,
                high=high,
                p=p,
                layer=int(best_layer[row]),
                n=int(mine.sum()),
                by_layer=tuple(float(layer_auc[row]) for layer_auc in aucs),
            )
        )
    return tuple(own)


@dataclass(frozen=True, eq=False)
class _Stratum:
    """The stories of one topic or half, by cell: those of one emotion."""

    half: int
    stories: Int64[np.ndarray, "here"]
    """Rows of `Stories`."""
    columns: Int64[np.ndarray, "here"]
    """The same, counted within the half."""
    members: Int64[np.ndarray, "emotion most"]
    """Which of the stories here are the emotion's; -1 where there are no more."""
    others: Bool[np.ndarray, "emotion here"]
    """Which of the stories here are of another family than the emotion's."""
    present: Bool[np.ndarray, "emotion"]
    """Emotions with a story here, and one of another family to compare it with."""
    size: Int64[np.ndarray, "emotion"]

    @staticmethod
    def of(stories: Stories, number: int) -> _Stratum:
        here = np.flatnonzero(stories.stratum == number)
        half = int(stories.half[here[0]])
        n = len(stories.emotions)
        size = np.bincount(stories.emotion[here], minlength=n)
        members = np.full((n, int(size.max())), -1, dtype=np.int64)
        for emotion in np.flatnonzero(size):
            members[emotion, : size[emotion]] = np.flatnonzero(stories.emotion[here] == emotion)
        others = stories.family[stories.emotion[here]][None] != stories.family[:, None]
        columns = np.searchsorted(np.flatnonzero(stories.half == half), here)
        return _Stratum(half, here, columns, members, others, (size > 0) & others.any(1), size)

    def placed(
        self, scores: Float64[np.ndarray, "draw here"], who: Int64[np.ndarray, "draw"]
    ) -> Float64[np.ndarray, "draw most"]:
        """For each story of an emotion, the share of stories of other families that score lower, ties counting half;
        NaN where there is no such story. `who` is -1 where no emotion is asked for."""
        compared = self.others[who]
        n = np.maximum(np.count_nonzero(compared, axis=1), 1)
        out = np.full((len(who), self.members.shape[1]), np.nan)
        draws = np.arange(len(who))
        for column in range(self.members.shape[1]):
            at = self.members[who, column]
            mine = scores[draws, at][:, None]
            lower = np.count_nonzero((scores < mine) & compared, axis=1)
            tied = np.count_nonzero((scores == mine) & compared, axis=1)
            out[:, column] = np.where((who >= 0) & (at >= 0), (lower + 0.5 * tied) / n, np.nan)
        return out


class _Strata:
    """All strata of the stories, and the statistics that are computed over them."""

    def __init__(self, stories: Stories) -> None:
        self.stories = stories
        self.places = [_Stratum.of(stories, number) for number in range(len(stories.half_of))]
        emotions = np.arange(len(stories.emotions))
        self.own = np.stack([np.where(place.present, emotions, -1) for place in self.places], axis=1)
        """[emotion stratum]: the emotion itself where it has stories to compare, else -1."""

    def cell_sums(self, pair: Kernels) -> Sums:
        """Summed over the stories of each emotion in each stratum: inner product of story minus centre with every story
        of the other half. The centre of a stratum is the mean over its emotions. 0 where an emotion has no story."""
        out = []
        for half in (0, 1):
            sums = np.zeros((len(self.places), len(self.stories.emotions), pair[half].shape[1]))
            for at, place in enumerate(self.places):
                if place.half == half:
                    continue
                order = np.argsort(self.stories.emotion[place.stories], kind="stable")
                there = np.flatnonzero(place.size)
                starts = np.concatenate([[0], np.cumsum(place.size[there])[:-1]])
                mine = np.add.reduceat(pair[half][place.columns[order]], starts, axis=0)
                size = place.size[there, None]
                sums[at, there] = mine - size * (mine / size).mean(0)
            out.append(sums)
        return out[0], out[1]

    def _placed(
        self, sums: Sums, who: Int64[np.ndarray, "draw stratum"]
    ) -> Iterator[tuple[int, _Stratum, Float64[np.ndarray, "draw most"]]]:
        """For each stratum: `_Stratum.placed` of its stories under the contrasts from the other half, whose stories in
        each stratum are those of `who`. The length of a contrast does not matter, since stories are compared under the
        same contrast."""
        scores = []
        for half in (0, 1):
            total = np.zeros((len(who), sums[half].shape[2]))
            for at, place in enumerate(self.places):
                if place.half != half:
                    # An emotion numbered -1 has no stories here, so its sum is 0.
                    products = sums[half][at, who[:, at]]
                    total += np.where(who[:, at, None] >= 0, products, 0.0) if (who[:, at] < 0).any() else products
            scores.append(total)
        for at, place in enumerate(self.places):
            yield at, place, place.placed(scores[place.half][:, place.columns], who[:, at])

    def observed(self, sums: Sums) -> Float64[np.ndarray, "story"]:
        """Share of the stories of other families in its stratum that score lower under the story's own emotion."""
        out = np.full(len(self.stories.rows), np.nan)
        for _, place, placed in self._placed(sums, self.own):
            there = (place.members >= 0) & np.isfinite(placed)
            out[place.stories[place.members[there]]] = placed[there]
        return out

    def permuted(
        self, sums: Sums, orders: Int64[np.ndarray, "draw stratum"], members: Int64[np.ndarray, "member"]
    ) -> Float64[np.ndarray, "draw member"]:
        """AUC of the emotions that replace `members`, over the strata in which each member has stories itself."""
        total, count = np.zeros(orders.shape), np.zeros(orders.shape)
        for at, _, placed in self._placed(sums, orders):
            total[:, at], count[:, at] = np.nansum(placed, axis=1), np.isfinite(placed).sum(1)
        there = (self.own[members] >= 0).astype(np.float64).T
        n = count @ there
        return np.asarray(np.divide(total @ there, n, out=np.full(n.shape, 0.5), where=n > 0))

    def stand_ins(
        self, permutations: int, rng: np.random.Generator
    ) -> list[tuple[Int64[np.ndarray, "_"], Int64[np.ndarray, "draw stratum"]]]:
        """For each group of families of like size: its emotions, and the emotion that replaces them in each permutation
        and stratum (a random family of the group, then a random member)."""
        if not permutations:
            return []
        group = like_sized(np.bincount(self.stories.family))[self.stories.family]
        out = []
        for number in range(int(group.max()) + 1):
            orders = np.full((permutations, len(self.places)), -1, dtype=np.int64)
            for at, place in enumerate(self.places):
                able = np.flatnonzero((group == number) & place.present)
                if len(able):
                    family = self.stories.family[able]
                    chance = 1.0 / np.bincount(family)[family]
                    orders[:, at] = rng.choice(able, size=permutations, p=chance / chance.sum())
            out.append((np.flatnonzero(group == number), orders))
        return out


def _interval(
    placed: Float64[np.ndarray, "story"], topic: Int64[np.ndarray, "story"], rng: np.random.Generator
) -> tuple[float | None, float | None]:
    """Percentile bootstrap of the mean over topics; None with few topics, or where all topics agree.

    Half as many topics are drawn as there are: the mean score of either half's stories is the inner product of the two
    halves' contrasts, so the errors of the halves are the same and count once."""
    own = np.unique(topic, return_inverse=True)[1]
    count, total = np.bincount(own), np.bincount(own, weights=placed)
    if len(count) < FEWEST_TOPICS or np.ptp(total / count) < 1e-12:
        return None, None
    drawn = rng.multinomial(len(count) // 2, np.full(len(count), 1 / len(count)), size=BOOTSTRAP)
    low, high = np.quantile((drawn @ total) / (drawn @ count), (0.025, 0.975))
    return float(low), float(high)


def _some_topics(
    topic: Int64[np.ndarray, "row"], half: Int64[np.ndarray, "row"], rng: np.random.Generator
) -> Bool[np.ndarray, "row"]:
    """All rows, or those of topics drawn from each half in turn up to `MOST_STORIES`."""
    if len(topic) <= MOST_STORIES:
        return np.ones(len(topic), dtype=bool)
    kept = np.zeros(len(topic), dtype=bool)
    for part in (0, 1):
        for number in rng.permutation(np.unique(topic[half == part])).tolist():
            mine = (topic == number) & (half == part)
            if kept[half == part].any() and kept[half == part].sum() + mine.sum() > MOST_STORIES / 2:
                break
            kept |= mine
    return kept
