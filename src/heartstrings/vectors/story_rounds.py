"""Stories in rounds: read topic by topic until the contrasts of all emotions are reliable.

A round is whole topics, so that stories stay crossed: each topic has every emotion. Topics come in a random order that
depends on the seed alone. After each round the reliability of every emotion's contrast is computed at the layers that
steering searches (`heartstrings.vectors.reliability`), and reading stops when the lowest of all is at least the target.
The lowest of many estimates is more often too low than too high, so that the true reliabilities are seldom under the
target when reading stops.

Stopping looks at nothing that a model does when it is steered, and not at valence either, so that it selects no
direction by its effect. Fewer stories make contrasts noisier, which costs power.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64
from pydantic import ValidationError

from heartstrings.core.engine import Pooler
from heartstrings.core.errors import BundleError, InputError
from heartstrings.core.storage import locked, remove_folder, write_text
from heartstrings.core.types import Pooling, Site, StoryRounds
from heartstrings.corpus import Corpus
from heartstrings.vectors.activations import WORK, Activations, Progress, fill, join
from heartstrings.vectors.bundle import HEADER, read_header
from heartstrings.vectors.reliability import reliability_over_topics

LEAST_TOPICS = 6
"""Topics of the first round. Controls of the kind `topic` are mixtures of the topics' contrasts: of n topics they have
n - 1 dimensions, and there are no such controls of fewer than four. Each half of the stories has three topics then."""
GROWTH = 4
"""A later round adds a topic, or the number of topics so far divided by this."""
CHECKED = 4
FILE = "rounds.json"


def used_stories(corpus: Corpus, rounds: StoryRounds | None) -> Corpus:
    """The stories of a corpus that were read; without rounds all of them."""
    if rounds is None:
        return corpus
    topics = set(rounds.topics)
    notes = (*corpus.notes, rounds.sentence)
    return replace(corpus, stories=tuple(story for story in corpus.stories if story.topic in topics), notes=notes)


def middle(layers: Sequence[int], n_layers: int) -> tuple[int, ...]:
    """At most four of some layers, evenly spaced over those that end after a third of the depth and not after five
    sixths: where an experiment searches by default. All layers if there is none."""
    inside = [layer for layer in layers if 2 * n_layers < 6 * (layer + 1) <= 5 * n_layers] or list(layers)
    at = np.linspace(0, len(inside) - 1, min(CHECKED, len(inside)))
    return tuple(inside[round(position)] for position in at.tolist())


def read_in_rounds(
    engine: Pooler,
    corpus: Corpus,
    *,
    out: Path,
    places: Sequence[Path],
    target: float,
    layers: Sequence[int],
    rules: Sequence[Pooling],
    rule: int,
    site: Site,
    token_budget: int,
    max_tokens: int,
    seed: int,
    progress: Progress | None,
    overwrite: bool,
) -> StoryRounds:
    """Pool stories in rounds into `out/.work/stories`, which then holds the stories that were used and no others.

    Interrupted at any moment and called again, it ends with the same bytes.

    Args:
        out: folder of the bundles.
        places: the bundles that will be made. If one is there that was made of the same stories with the same target,
            its rounds are returned.
        target: of the reliability, over 0 and under 1.
        layers: those that are pooled; at some of them reliability is checked (`middle`).
        rules: pooling rules of the pass over the texts.
        rule: index of the one whose means are checked; positions are not subtracted for it, and stories weigh equally.
    Raises:
        InputError: a target that is no reliability; topics without stories of at least two emotions, or an emotion with
            stories on fewer topics than the first round has; an interrupted extraction with other stories or target.
    """
    checked = middle(layers, engine.info.n_layers)
    _check(corpus, target)
    asked = (target, corpus.hash, checked, seed)
    for place in places:
        before = _of_bundle(place)
        if before is not None and _asked(before) == asked:
            return before
        if (place / HEADER).exists() and not overwrite:
            raise InputError(
                f"{place} holds a bundle made with another reliability, from other stories or with another seed",
                "an empty place, or the same inputs",
                "Choose another --out, or replace it with --overwrite (overwrite=True)",
            )
    work = out / WORK
    with locked(work):
        record = _recorded(work / FILE)
        if record is not None and _asked(record) != asked:
            if not overwrite:
                raise InputError(
                    f"{work} was begun with another reliability, other stories or another seed",
                    "the same inputs as when it was begun",
                    "Choose another --out, or start over with --overwrite (overwrite=True)",
                )
            for folder in (*work.glob("round-*"), work / "stories"):
                remove_folder(folder)
            record = None

        def pool(name: str, part: Corpus, before: int) -> Activations:
            return fill(
                engine,
                part.texts,
                work / name,
                layers=layers,
                poolings=rules,
                site=site,
                token_budget=token_budget,
                max_tokens=max_tokens,
                restart=overwrite,
                progress=None if progress is None else lambda done, _: progress(before + done, len(corpus)),
            )

        parts = _parts(corpus, seed)
        if record is None:
            record = _rounds(corpus, parts, pool, checked=checked, layers=layers, rule=rule, target=target, seed=seed)
            write_text(work / FILE, record.model_dump_json(indent=1) + "\n")
        used = used_stories(corpus, record)
        folders = [work / f"round-{number:03d}" for number in range(1, len(record.rounds) + 1)]
        if all(folder.exists() for folder in folders):
            row = {id(story): number for number, story in enumerate(used.stories)}
            rows = [
                np.array([row[id(story)] for story in part.stories], dtype=np.int64) for part in parts[: len(folders)]
            ]
            join(
                list(zip(folders, rows, strict=True)),
                work / "stories",
                engine.info,
                used.texts,
                layers=layers,
                poolings=rules,
                site=site,
                token_budget=token_budget,
                max_tokens=max_tokens,
            )
        # Where one of them is gone already, `stories` is complete.
        for folder in folders:
            remove_folder(folder)
    return record


def _asked(rounds: StoryRounds) -> tuple[object, ...]:
    return (rounds.target, rounds.corpus_hash, rounds.layers, rounds.seed)


def _check(corpus: Corpus, target: float) -> None:
    if not 0 < target < 1:
        raise InputError(
            f"a reliability of {target:g}", "a number over 0 and under 1, such as 0.8", "Change --reliability"
        )
    emotions_on = {
        topic: {story.emotion for story in corpus.stories if story.topic == topic} for topic in corpus.topics
    }
    alone = [topic for topic, emotions in emotions_on.items() if len(emotions) < 2]
    few = [name for name in corpus.emotions if sum(name in own for own in emotions_on.values()) < LEAST_TOPICS]
    if alone or few or len(corpus.topics) <= LEAST_TOPICS:
        problem = (
            f"{len(corpus.topics)} topics"
            if len(corpus.topics) <= LEAST_TOPICS
            else f"a topic with stories of one emotion: {alone[0]!r}"
            if alone
            else f"an emotion with stories on fewer than {LEAST_TOPICS} topics: {few[0]!r}"
        )
        raise InputError(
            f"stories in rounds (--reliability), and {problem}",
            f"more than {LEAST_TOPICS} topics, each with stories of several emotions, and every emotion on at least "
            f"{LEAST_TOPICS} of them",
            "Leave out --reliability: then all stories are read",
        )


def _parts(corpus: Corpus, seed: int) -> list[Corpus]:
    """The stories of each round, in corpus order."""
    order = np.random.default_rng(seed).permutation(len(corpus.topics)).tolist()
    parts, start, size = [], 0, LEAST_TOPICS
    while start < len(order):
        topics = {corpus.topics[at] for at in order[start : start + size]}
        parts.append(replace(corpus, stories=tuple(story for story in corpus.stories if story.topic in topics)))
        start += size
        size = max(1, start // GROWTH)
    return parts


def _rounds(
    corpus: Corpus,
    parts: Sequence[Corpus],
    pool: Callable[[str, Corpus, int], Activations],
    *,
    checked: tuple[int, ...],
    layers: Sequence[int],
    rule: int,
    target: float,
    seed: int,
) -> StoryRounds:
    """Read round by round until the target is reached or the stories are used up."""
    rows = [list(layers).index(layer) for layer in checked]
    means: list[np.ndarray] = []
    there: list[np.ndarray] = []
    topics: list[str] = []
    history: list[tuple[int, float]] = []
    lowest, read = np.full(len(corpus.emotions), -1.0), 0
    for number, part in enumerate(parts, start=1):
        store = pool(f"round-{number:03d}", part, read)
        read += len(part)
        topics += part.topics
        own, counts = _means(store, part, corpus.emotions, rule, rows)
        means.append(own)
        there.append(counts > 0)
        all_means, known = np.concatenate(means, axis=1), np.concatenate(there, axis=1)
        values = [
            reliability_over_topics(all_means[:, :, at].astype(np.float64), known).value for at in range(len(checked))
        ]
        lowest = np.where(np.isnan(values), -1.0, values).min(axis=0)
        history.append((read, round(float(lowest.min()), 4)))
        if lowest.min() >= target:
            break
    return StoryRounds(
        target=target,
        layers=checked,
        seed=seed,
        corpus_hash=corpus.hash,
        n_stories=len(corpus),
        n_emotions=len(corpus.emotions),
        topics=tuple(sorted(topics)),
        rounds=tuple(history),
        n_below=int((lowest < target).sum()),
        weakest=corpus.emotions[int(lowest.argmin())],
    )


def _means(
    store: Activations, part: Corpus, emotions: Sequence[str], rule: int, rows: Sequence[int]
) -> tuple[Float32[np.ndarray, "emotion topic layer width"], Float64[np.ndarray, "emotion topic"]]:
    """Mean activation of each emotion's stories on each topic, and the number of these stories."""
    emotion_of = {name: number for number, name in enumerate(emotions)}
    topic_of = {name: number for number, name in enumerate(part.topics)}
    where = np.array([(emotion_of[story.emotion], topic_of[story.topic]) for story in part.stories], dtype=np.int64)
    sums: np.ndarray = np.zeros(())
    counts = np.zeros((len(emotions), len(part.topics)))
    for batch in store.pooled(rule):
        vectors, at = batch.vectors[:, rows].astype(np.float64), where[batch.indices]
        if not sums.shape:
            sums = np.zeros((*counts.shape, *vectors.shape[1:]))
        np.add.at(sums, (at[:, 0], at[:, 1]), vectors)
        np.add.at(counts, (at[:, 0], at[:, 1]), 1)
    return (sums / np.maximum(counts, 1)[..., None, None]).astype(np.float32), counts


def _of_bundle(place: Path) -> StoryRounds | None:
    if not (place / HEADER).exists():
        return None
    try:
        return read_header(place).provenance.rounds
    except BundleError:
        return None  # `extract` tells


def _recorded(path: Path) -> StoryRounds | None:
    """What an earlier call decided; None where it did not come so far, or where the file cannot be read."""
    try:
        return StoryRounds.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError):
        return None
