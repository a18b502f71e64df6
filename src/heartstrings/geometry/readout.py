"""Whether vectors read the emotion of texts that they were not made from: held-out stories, and scenarios.

Texts and vectors are always centred. Residuals share one large component: unless it is subtracted, every text is
nearest to the same few emotions, whatever the quality of the vectors.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float64, Int64

from heartstrings.core.errors import InputError
from heartstrings.core.types import Pooling, Variant
from heartstrings.corpus.lexicon import Ratings, families
from heartstrings.geometry._axes import p_value, ranks, unit_rows
from heartstrings.geometry._held_out import Batches, held_out, story_stream
from heartstrings.geometry.own_emotion import arrange, kernels, own_emotions
from heartstrings.geometry.readout_results import (
    HeldOut,
    OwnEmotion,
    ReadoutResult,
    ScenarioRank,
    ScenarioResult,
    WordsAlone,
)
from heartstrings.vectors.emotion_vectors import EmotionVectors

if TYPE_CHECKING:
    from heartstrings.core.engine import Engine
    from heartstrings.corpus import Corpus
    from heartstrings.geometry._axes import Target

PERMUTATIONS = 2000

__all__ = ["ReadoutResult", "Scenario", "held_out", "read_out", "read_scenarios", "scenarios"]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A text and the emotion it should evoke."""

    target: str
    text: str


def read_scenarios(path: str | Path) -> tuple[Scenario, ...]:
    """Scenarios from JSONL, one `{"target", "text"}` a line.

    Raises:
        InputError: no such file, a line that is no such object (with its number), or no scenario at all.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputError(f"no file {path}", "scenarios, one a line", "Check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}", "a UTF-8 text file") from None
    wanted = 'a line such as {"target": "calm", "text": "..."}'
    out = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}:{number}: {error.msg}", wanted) from None
        target, text = (value.get("target"), value.get("text")) if isinstance(value, dict) else (None, None)
        if not (isinstance(target, str) and isinstance(text, str) and target.strip() and text.strip()):
            raise InputError(f"{path}:{number}: no target and text", wanted)
        out.append(Scenario(" ".join(target.lower().split()), text))
    if not out:
        raise InputError(f"{path} holds no scenario", wanted)
    return tuple(out)


def scenarios(
    engine: Engine,
    vectors: EmotionVectors,
    texts: Sequence[Scenario],
    *,
    layer: int,
    variant: Variant = "raw",
    pooling: Pooling | None = None,
    seed: int = 0,
) -> ScenarioResult:
    """Rank each scenario's target among all emotions by cosine.

    A scenario's state is its mean over tokens (all, unless `pooling` says otherwise: these texts are short)
    minus the mean over the scenarios.

    Raises:
        InputError: fewer than two usable scenarios: one alone has nothing to be centred by.
    """
    pooling = pooling or Pooling(start=0)
    pooled = np.full((len(texts), vectors.width), np.nan, dtype=np.float32)
    for batch in engine.pool(
        [item.text for item in texts], layers=(layer,), poolings=(pooling,), site=vectors.provenance.site
    ):
        pooled[batch.indices] = batch.means[0, :, 0]
    usable: Bool[np.ndarray, "text"] = np.asarray(np.isfinite(pooled).all(axis=1))
    n_usable = int(usable.sum())
    if n_usable < 2:
        raise InputError(
            f"{n_usable} scenario{'s' * (n_usable != 1)} long enough for pooling {pooling.label}",
            "at least two: each is centred by the mean over all of them",
            "Add scenarios",
        )
    states = pooled.astype(np.float64) - pooled[usable].astype(np.float64).mean(0)
    contrasts = vectors.contrasts(variant)[vectors.layers.index(layer)].astype(np.float64)
    directions = unit_rows(contrasts - contrasts.mean(0))
    cosines = unit_rows(states) @ directions.T
    family = families()
    known = {item.target: vectors.emotions.index(item.target) for item in texts if item.target in vectors.emotions}
    rows = []
    for row, item in enumerate(texts):
        if not usable[row]:
            rows.append(ScenarioRank(target=item.target, text=item.text, rank=None, nearest=(), cosine=None))
            continue
        order = np.argsort(-cosines[row], kind="stable")
        at = known.get(item.target)
        rows.append(
            ScenarioRank(
                target=item.target,
                text=item.text,
                rank=None if at is None else int((cosines[row] > cosines[row, at]).sum()) + 1,
                nearest=tuple(vectors.emotions[int(other)] for other in order[:5]),
                cosine=None if at is None else float(cosines[row, at]),
            )
        )
    ranked = [item for item in rows if item.rank is not None]
    ranks = np.array([item.rank for item in ranked], dtype=np.float64)
    told = [
        family[item.nearest[0]] == family[item.target]
        for item in ranked
        if item.nearest[0] in family and item.target in family
    ]
    tested = [row for row, item in enumerate(rows) if item.rank is not None]
    return ScenarioResult(
        layer=layer,
        pooling=pooling.label,
        n=len(ranked),
        n_left_out=len(rows) - len(ranked),
        top1=_share(ranks <= 1),
        top5=_share(ranks <= 5),
        mean_rank=float(ranks.mean()) if len(ranks) else None,
        chance_rank=(len(vectors.emotions) + 1) / 2,
        family=_share(np.array(told)),
        p=_permuted_targets(cosines[tested], np.array([known[rows[row].target] for row in tested]), seed),
        rows=tuple(rows),
    )


def read_out(
    engine: Engine,
    vectors: EmotionVectors,
    work: Path,
    corpus: Corpus,
    texts: Sequence[Scenario] = (),
    *,
    layer: int,
    ratings: Ratings | None = None,
    seed: int = 0,
) -> ReadoutResult:
    """All readouts of one bundle; `work` is the folder `extract` wrote to with its activations kept.

    The vectors are denoised where the bundle has that. What cannot be read is None, and a note says why.

    Args:
        layer: the layer of the confusion of families and of the scenarios.
        ratings: of valence and arousal, to be predicted from words alone; None leaves that out.
    """
    variant: Variant = "raw" if vectors.denoised is None else "denoised"
    notes = []
    stories = None
    own: tuple[OwnEmotion, ...] = ()
    words = None
    stream = story_stream(work, vectors, corpus)
    if stream is None:
        notes.append(
            "The stories' activations were not kept, or are of another pooling, model or site than the vectors: no "
            "held-out readout."
        )
    else:
        stories = held_out(*stream, vectors, shown_layer=layer, variant=variant, seed=seed)
        if stories is None:
            notes.append("Fewer than three emotions have stories in both topic halves: no held-out readout.")
        else:
            own, words = _own_and_words(*stream, vectors, corpus, variant, ratings, seed)
    scenario_result = scenarios(engine, vectors, texts, layer=layer, variant=variant, seed=seed) if texts else None
    return ReadoutResult(
        sentence=sentence(stories, scenario_result, layer),
        shown_layer=layer,
        variant=variant,
        held_out=stories,
        scenarios=scenario_result,
        notes=tuple(notes),
        own=own,
        words=words,
    )


def _own_and_words(
    batches: Batches,
    emotion: Int64[np.ndarray, "row"],
    half: Int64[np.ndarray, "row"],
    vectors: EmotionVectors,
    corpus: Corpus,
    variant: Variant,
    ratings: Ratings | None,
    seed: int,
) -> tuple[tuple[OwnEmotion, ...], WordsAlone | None]:
    """Each emotion tested by itself, and the same from the words of the stories."""
    from heartstrings.geometry.analysis import targets_of
    from heartstrings.geometry.words_alone import own_aucs, read_words, unigrams

    number = {topic: row for row, topic in enumerate(corpus.topics)}
    topic = np.array([number[story.topic] for story in corpus.stories], dtype=np.int64)
    stories = arrange(vectors.emotions, emotion, topic, half, seed=seed)
    own: tuple[OwnEmotion, ...] = ()
    if stories is not None:
        basis = None if variant == "raw" else vectors.neutral_basis
        layered = kernels(batches, stories, basis, n_layers=len(vectors.layers), width=vectors.width)
        own = own_emotions(layered, stories, vectors.layers, seed=seed)
    rows = np.flatnonzero(emotion >= 0)
    words = unigrams([corpus.texts[row] for row in rows], emotion[rows], half[rows])
    if words is None:
        return own, None
    if stories is not None:
        aucs = own_aucs(words, stories, np.searchsorted(rows, stories.rows))
        own = tuple(own_emotion.model_copy(update={"words": aucs.get(own_emotion.emotion)}) for own_emotion in own)
    targets: tuple[Target, ...] = ()
    if ratings is not None:
        both = targets_of(vectors, ratings, permutations=1, bootstrap=0, seed=seed)
        targets = (both.valence, both.arousal)
    return own, read_words(words, vectors.emotions, targets, seed=seed)


def sentence(stories: HeldOut | None, scenarios: ScenarioResult | None, layer: int) -> str:
    """Stories and scenarios in plain words."""
    parts = []
    if stories is not None:
        ranks = next(item for item in stories.layers if item.layer == layer)
        parts.append(
            f"At layer {layer}, {stories.n_stories} stories read with vectors of other topics: the true emotion "
            f"is nearest in {ranks.top1.value:.0%} (guessing {ranks.top1.chance:.1%}), among the five nearest of "
            f"{stories.n_emotions} in {ranks.top5.value:.0%} (guessing {ranks.top5.chance:.1%}), of the right "
            f"family in {ranks.family.value:.0%} (guessing {ranks.family.chance:.0%}); p = {ranks.p:.4f}."
        )
    if scenarios is not None and scenarios.mean_rank is not None:
        chance = "" if scenarios.p is None else f"; p = {scenarios.p:.4f}"
        parts.append(
            f"Of {scenarios.n} scenarios that name no emotion, the target's mean rank is {scenarios.mean_rank:.1f} "
            f"(guessing {scenarios.chance_rank:.0f}){chance}."
        )
    return " ".join(parts) or "Nothing was read."


def _permuted_targets(
    cosines: Float64[np.ndarray, "text emotion"], targets: Int64[np.ndarray, "text"], seed: int
) -> float | None:
    """p of the mean rank when targets are permuted over the texts; None with fewer than four."""
    if len(targets) < 4:
        return None
    order, rows = ranks(cosines), np.arange(len(targets))
    rng = np.random.default_rng(seed)
    null = np.array([order[rows, rng.permutation(targets)].mean() for _ in range(PERMUTATIONS)])
    return p_value(-float(order[rows, targets].mean()), -null, tie=1e-9)


def _share(hits: np.ndarray) -> float | None:
    return float(np.mean(np.asarray(hits))) if len(hits) else None
