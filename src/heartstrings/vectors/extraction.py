"""From stories and a model to a bundle of emotion vectors, in one resumable pass over the texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from heartstrings.core.engine import Pooler, default_token_budget
from heartstrings.core.errors import BundleError, InputError, NumericalError
from heartstrings.core.storage import locked, remove_folder
from heartstrings.core.types import ModelInfo, Pooling, Precision, Provenance, Site, Weighting
from heartstrings.core.version import __version__
from heartstrings.corpus import Corpus, NeutralTexts, calibration_texts, halves
from heartstrings.vectors._contrast import (
    half_contrasts,
    split_half_reliability,
    story_scores,
    story_table,
    sum_by_emotion,
)
from heartstrings.vectors._denoise import denoise, neutral_basis
from heartstrings.vectors.activations import WORK, Activations, Progress, TextFacts, fill, plain, rule_of
from heartstrings.vectors.bundle import HEADER, is_intact, load, read_header, save
from heartstrings.vectors.emotion_vectors import EmotionVectors, StoryTable
from heartstrings.vectors.story_rounds import read_in_rounds, used_stories

_SAME = (
    "corpus_hash",
    "neutral_hash",
    "calibration_hash",
    "pooling",
    "weighting",
    "site",
    "max_tokens",
    "seed",
    "denoise_variance",
    "rounds",
)
"""Fields of the provenance that tell whether a finished bundle is the one asked for. The token budget is none of them:
it decides memory and speed, and no result beyond rounding."""


def extract(
    engine: Pooler,
    corpus: Corpus,
    *,
    out: str | Path,
    neutral: NeutralTexts | None = None,
    calibration: NeutralTexts | None = None,
    layers: Sequence[int] | None = None,
    poolings: Sequence[Pooling] = (Pooling(),),
    weighting: Weighting = "story",
    site: Site = "block",
    token_budget: int | None = None,
    max_tokens: int = 512,
    seed: int = 0,
    progress: Progress | None = None,
    keep_activations: bool = False,
    overwrite: bool = False,
    precision: Precision | None = None,
    reliability: float | None = None,
) -> dict[str, EmotionVectors]:
    """Extract emotion vectors and write them as bundles; returns them by pooling label.

    Interrupted at any moment and called again with the same arguments, it continues where it stopped and ends with
    the same bytes. Called again after it has finished, it reads the bundles.

    Args:
        engine: the model.
        corpus: stories of at least two emotions.
        out: folder of the bundle; with several poolings, `out/<label>` is the bundle of each.
        neutral: texts without emotion, pooled by the same rule; without them there are no denoised vectors.
        calibration: texts that define the unit of dose; by default the package's own, which never change.
        layers: block indices; all by default.
        poolings: rules, all served by the same pass over the texts.
        weighting: `story`, all stories of an emotion weigh equally; `token`, all their pooled tokens do.
        site: where the residual is read.
        token_budget: tokens in a batch, padding included; None: what suits the device (`default_token_budget`).
        max_tokens: longer texts are cut there, and counted.
        seed: of the split into topic-disjoint halves.
        progress: called with (texts done, texts in all).
        keep_activations: keep the pooled activations of every text under `out/.work`.
        overwrite: replace a bundle in `out` that was made from other inputs.
        precision: the comparison that chose the model's precision, for the provenance.
        reliability: read the stories in rounds of whole topics, and stop when every emotion has this reliability
            (`heartstrings.vectors.story_rounds`); `used_stories` tells which were read. None: all stories.

    Raises:
        InputError: fewer than two emotions; stories that cannot be read in rounds; an emotion whose stories are all too
            short for a rule (named); `out` holds something made from other inputs, or another process is writing to it;
            the disk is full.
        NumericalError: NaN or Inf in the activations of a text.
    """
    out, work = Path(out), Path(out) / WORK
    calibration = calibration_texts() if calibration is None else calibration
    layers = tuple(range(engine.info.n_layers)) if layers is None else tuple(sorted(layers))
    poolings = tuple(poolings)
    token_budget = default_token_budget(engine.info.device, engine.info.dtype) if token_budget is None else token_budget
    _check_request(corpus, layers, poolings, engine, max_tokens)
    places = {pooling: out if len(poolings) == 1 else out / pooling.label for pooling in poolings}
    # A `from` pooling has no rule of its own where a `centred` one is stored, which serves it as well.
    centred = {pooling.start: pooling for pooling in poolings if pooling.rule == "centred"}
    rules = tuple(dict.fromkeys(centred.get(p.start, p) if p.rule == "from" else p for p in poolings))
    rounds = None
    if reliability is not None:
        rounds = read_in_rounds(
            engine, corpus, out=out, places=tuple(places.values()), target=reliability, layers=layers, rules=rules,
            rule=rule_of(rules, poolings[0]), site=site, token_budget=token_budget, max_tokens=max_tokens, seed=seed,
            progress=progress, overwrite=overwrite,
        )  # fmt: skip
        corpus = used_stories(corpus, rounds)
    expected = {
        pooling: Provenance(
            package_version=__version__, source="extracted", model=engine.info, corpus_source=corpus.source,
            corpus_author=corpus.author, corpus_hash=corpus.hash, corpus_filtered=dict(corpus.filtered),
            neutral_hash=None if neutral is None else neutral.hash, calibration_hash=calibration.hash,
            pooling=pooling, weighting=weighting, site=site, max_tokens=max_tokens, token_budget=token_budget,
            seed=seed, notes=corpus.notes, precision=precision, rounds=rounds,
        )
        for pooling in poolings
    }  # fmt: skip

    def all_finished() -> bool:
        return all(_is_finished(places[pooling], expected[pooling], layers, overwrite) for pooling in poolings)

    def bundles() -> dict[str, EmotionVectors]:
        return {pooling.label: load(places[pooling]) for pooling in poolings}

    if not work.exists() and all_finished():
        return bundles()
    n_texts = len(corpus) + len(calibration) + (0 if neutral is None else len(neutral))
    n_before = 0

    def fill_store(name: str, texts: Sequence[str], rules: tuple[Pooling, ...]) -> Activations:
        nonlocal n_before
        before, n_before = n_before, n_before + len(texts)
        return fill(
            engine,
            texts,
            work / name,
            layers=layers,
            poolings=rules,
            site=site,
            token_budget=token_budget,
            max_tokens=max_tokens,
            restart=overwrite,
            progress=None if progress is None else lambda done, _: progress(before + done, n_texts),
        )

    with locked(work):
        if not all_finished():
            try:
                stories = fill_store("stories", corpus.texts, rules)
                seen = stories.facts()
                for pooling in poolings:
                    _check_coverage(corpus, seen, rule_of(rules, pooling), pooling)
                calibrated = fill_store("calibration", calibration.texts, (Pooling(start=0),))
                # Neutral texts are centred by the stories' position means, so their own sums are not needed.
                neutrals = None
                if neutral is not None:
                    neutrals = fill_store("neutral", neutral.texts, tuple(plain(rule) for rule in rules))
                norms = calibrated.residual_norms().astype(np.float32)
                table = story_table(corpus, seen, halves(corpus, seed=seed))
                for pooling in poolings:
                    rule, record = rule_of(rules, pooling), expected[pooling]
                    save(_vectors(stories, seen, rule, table, corpus, neutrals, record, norms), places[pooling])
            except (_Unusable, NumericalError):
                # No later run with these inputs can use what is there.
                remove_folder(work)
                raise
        if not keep_activations:
            remove_folder(work)
    return bundles()


def _vectors(
    store: Activations,
    seen: TextFacts,
    rule: int,
    table: StoryTable,
    corpus: Corpus,
    neutrals: Activations | None,
    provenance: Provenance,
    norms: Float32[np.ndarray, "layer"],
) -> EmotionVectors:
    """The bundle of one pooling rule. `table` has a row for every story of the corpus."""
    emotions, emotion, half = corpus.emotions, table.emotion.astype(np.int64), table.half
    centred = provenance.pooling is not None and provenance.pooling.rule == "centred"
    positions = store.position_means() if centred else None
    sums = sum_by_emotion(store, rule, positions, emotion, half, len(emotions), provenance.weighting)
    means = sums.sums.sum(0) / sums.weights.sum(0)[..., None]
    centre = means.mean(1)
    raw = (means - centre[:, None]).astype(np.float32)
    parts = half_contrasts(sums)
    denoised = basis = None
    notes = list(provenance.notes)
    if neutrals is not None:
        basis, n_short = neutral_basis(neutrals, rule, positions, provenance.denoise_variance)
        denoised = denoise(raw, basis)
        if n_short:
            notes.append(f"{n_short} of {neutrals.n_texts} neutral texts were too short and set aside")

    variants = [raw] if denoised is None else [raw, denoised]
    pooled = np.flatnonzero(seen.n_pooled[rule])
    counts = np.bincount(emotion[pooled], minlength=len(emotions))
    tokens = np.bincount(emotion, weights=seen.n_pooled[rule], minlength=len(emotions))
    return EmotionVectors(
        emotions=emotions,
        layers=store.layers,
        raw=raw,
        denoised=denoised,
        centre=centre.astype(np.float32),
        halves=parts,
        neutral_basis=basis,
        norms=norms,
        reliability=split_half_reliability(parts),
        counts=tuple(counts.tolist()),
        tokens=tuple(int(number) for number in tokens),
        stories=table.select(pooled),
        story_scores=story_scores(store, rule, positions, centre, variants, pooled),
        provenance=provenance.model_copy(
            update={
                "n_stories": len(pooled),
                "n_set_aside": len(corpus) - len(pooled),
                "n_truncated": int(seen.truncated[pooled].sum()),
                "n_sinks": int(seen.n_sinks[pooled].sum()),
                "notes": tuple(notes),
            }
        ),
    )


def _check_request(
    corpus: Corpus, layers: tuple[int, ...], poolings: tuple[Pooling, ...], engine: Pooler, max_tokens: int
) -> None:
    if len(corpus) == 0:
        raise InputError(f"{corpus.source} holds no story", "stories of at least two emotions")
    if len(corpus.emotions) < 2:
        raise InputError(
            f"{corpus.source} has one emotion, {corpus.emotions[0]!r}",
            "at least two: a vector is an emotion's mean minus the mean over emotions",
            "Add stories of other emotions",
        )
    wrong = [layer for layer in layers if not 0 <= layer < engine.info.n_layers]
    if wrong or not layers or len(set(layers)) != len(layers):
        raise InputError(
            f"layers {list(layers)}",
            f"distinct numbers from 0 to {engine.info.n_layers - 1}, the blocks of {engine.info.model_id}",
        )
    if not poolings or len(set(poolings)) != len(poolings):
        raise InputError(f"poolings {[pooling.label for pooling in poolings]}", "one or more, each once")
    for pooling in poolings:
        last = pooling.start + 1 if pooling.stop is None else pooling.stop
        if last > max_tokens:
            raise InputError(
                f"pooling {pooling.label} needs {last} tokens and texts are cut at {max_tokens}",
                "a pooling that ends before the cut",
                "Lower --offset, or raise the number of tokens kept",
            )


class _Unusable(InputError):
    """These texts are too short for this pooling."""


def _check_coverage(corpus: Corpus, seen: TextFacts, rule: int, pooling: Pooling) -> None:
    """Refuse a pooling that sets all stories of an emotion aside."""
    kept = {corpus.stories[index].emotion for index in np.flatnonzero(seen.n_pooled[rule]).tolist()}
    lost = [emotion for emotion in corpus.emotions if emotion not in kept]
    if not lost:
        return
    shown = ", ".join(lost[:8]) + (f" and {len(lost) - 8} more" if len(lost) > 8 else "")
    longest = max(int(seen.n_tokens[index]) for index, story in enumerate(corpus.stories) if story.emotion == lost[0])
    needed = pooling.start + 1 if pooling.stop is None else pooling.stop
    raise _Unusable(
        f"all stories are too short for pooling {pooling.label} in {len(lost)} of {len(corpus.emotions)} emotions: "
        f"{shown}; the longest of {lost[0]!r} has {longest} tokens",
        f"stories of at least {needed} tokens",
        "Give a smaller --offset or longer stories, or leave these emotions out",
    )


def _is_finished(place: Path, expected: Provenance, layers: tuple[int, ...], overwrite: bool) -> bool:
    """Whether the bundle asked for is already there. Another bundle is refused, unless it may be overwritten."""
    if not (place / HEADER).exists():
        return False
    try:
        header = read_header(place)
    except BundleError:
        if overwrite:
            return False
        raise
    provenance = header.provenance
    differing = [name.replace("_", " ") for name in _SAME if getattr(provenance, name) != getattr(expected, name)]
    if header.layers != layers:
        differing.append("choice of layers")
    if _identity(provenance.model) != _identity(expected.model):
        differing.append("model, revision or precision")
    if differing and not overwrite:
        raise InputError(
            f"{place} holds a bundle made with another {', another '.join(differing)}",
            "an empty place, or the same inputs",
            "Choose another --out, or replace it with --overwrite (overwrite=True)",
        )
    return not differing and is_intact(place, header)


def _identity(model: ModelInfo | None) -> tuple[str | None, ...]:
    return () if model is None else (model.weights_hash, model.revision, model.dtype, model.tokenizer_hash)
