"""Splits of a corpus into parts. No topic is in two parts, so the topic of a held-out story is new too."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int8, Int16, Int64

from heartstrings.core.errors import InputError
from heartstrings.corpus.stories import Corpus

BARRED = 2**60
"""Marks a move that is not allowed: larger than any change of cost."""


def halves(corpus: Corpus, *, seed: int = 0) -> Int8[np.ndarray, "story"]:
    """Half (0 or 1) of every story: no topic in both halves, and each emotion's stories divided as evenly as possible.

    A topic is in the same half for all emotions. An emotion with a single topic is wholly in one half: the first,
    unless other emotions have that topic too. `unsplit` names such emotions.
    """
    return topic_folds(corpus, 2, seed=seed).astype(np.int8)


def topic_folds(corpus: Corpus, k: int, *, seed: int = 0) -> Int16[np.ndarray, "story"]:
    """Fold (0 to k - 1) of every story: no topic in two folds, balanced within each emotion.

    A seeded tabu search (Glover 1989) over moves of one topic minimises first the number of emotions that are missing
    from a fold, then the sum over emotions and folds of (stories in the fold) squared. The result depends only on the
    counts of stories by emotion and topic, and on the seed.

    Raises:
        InputError: k under 2, or fewer topics than folds.
    """
    if k < 2:
        raise InputError(f"{k} folds", "2 or more")
    if k > 2 and len(corpus.topics) < k:
        raise InputError(f"{len(corpus.topics)} topics for {k} folds", f"at least {k} topics", "Use fewer folds")
    emotion_row = {emotion: row for row, emotion in enumerate(corpus.emotions)}
    topic_row = {topic: row for row, topic in enumerate(corpus.topics)}
    topic_of_story = np.array([topic_row[story.topic] for story in corpus.stories], dtype=np.int64)
    counts = np.zeros((len(emotion_row), len(topic_row)), dtype=np.int64)
    for story in corpus.stories:
        counts[emotion_row[story.emotion], topic_row[story.topic]] += 1
    fold_of_topic = _assign(counts, k, np.random.default_rng(seed))
    return fold_of_topic[topic_of_story].astype(np.int16)


def unsplit(corpus: Corpus, part: Int8[np.ndarray, "story"] | Int16[np.ndarray, "story"]) -> tuple[str, ...]:
    """The emotions whose stories are all in one part, so that nothing about them can be held out."""
    seen: dict[str, set[int]] = {}
    for story, number in zip(corpus.stories, part.tolist(), strict=True):
        seen.setdefault(story.emotion, set()).add(number)
    return tuple(emotion for emotion in corpus.emotions if len(seen[emotion]) < 2)


def _assign(counts: Int64[np.ndarray, "emotion topic"], k: int, rng: np.random.Generator) -> Int64[np.ndarray, "topic"]:
    n_topics = counts.shape[1]
    squares = (counts**2).sum(0)
    fold = np.zeros(n_topics, dtype=np.int64)
    filled = np.zeros((counts.shape[0], k), dtype=np.int64)
    # Start greedily, large topics first, then improve.
    order = rng.permutation(n_topics)
    for topic in order[np.argsort(-squares[order], kind="stable")]:
        shared = counts[:, topic] @ filled
        # Ties go to the fold with the fewest stories in all.
        fold[topic] = np.lexsort((filled.sum(0), shared))[0]
        filled[:, fold[topic]] += counts[:, topic]
    cost = int((filled**2).sum())
    n_own = (counts > 0).sum(1)  # topics of each emotion
    # First as few emotions as possible that are missing from a fold: they have no held-out measure there.
    best, best_cost = fold.copy(), (_empty(filled, n_own), cost)
    floor = int(sum(_least_squares(int(total), k) for total in counts.sum(1)))
    released = np.zeros(n_topics, dtype=np.int64)  # the step from which a topic may move again
    for step in range(2000):
        if best_cost <= (0, floor):
            break
        overlap = counts.T @ filled
        here = overlap[np.arange(n_topics), fold]
        change = 2 * (overlap - here[:, None]) + 2 * squares[:, None]  # of the cost, for topic -> fold
        change[np.arange(n_topics), fold] = BARRED
        barred = (released > step)[:, None] & (cost + change >= best_cost[1])
        change[np.broadcast_to(barred, change.shape)] = BARRED
        candidates = np.flatnonzero(change.ravel() == change.min())
        topic, target = divmod(int(rng.choice(candidates)), k)
        if change[topic, target] == BARRED:
            continue
        filled[:, fold[topic]] -= counts[:, topic]
        filled[:, target] += counts[:, topic]
        cost += int(change[topic, target])
        fold[topic] = target
        released[topic] = step + min(10, n_topics // 5) + int(rng.integers(min(20, n_topics // 4) + 1))
        if (now := (_empty(filled, n_own), cost)) < best_cost:
            best, best_cost = fold.copy(), now
    # Topics of emotions that have no other topic go to the first fold.
    single = n_own == 1
    alone = (counts[~single] == 0).all(0) if (~single).any() else np.ones(n_topics, dtype=bool)
    best[alone] = 0
    return best


def _empty(filled: Int64[np.ndarray, "emotion fold"], n_own: Int64[np.ndarray, "emotion"]) -> int:
    """Number of emotions that are missing from a fold although they have enough topics for all folds."""
    return int(((filled == 0).any(1) & (n_own >= filled.shape[1])).sum())


def _least_squares(total: int, k: int) -> int:
    """The smallest sum of squares of k whole numbers whose sum is `total`."""
    low, extra = divmod(total, k)
    return (k - extra) * low**2 + extra * (low + 1) ** 2
