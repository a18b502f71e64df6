"""The geometry of one bundle: every layer of every variant, and the finding over all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count

import numpy as np
from jaxtyping import Float64

from heartstrings.core.errors import InputError
from heartstrings.core.types import Variant
from heartstrings.corpus.lexicon import Ratings, families
from heartstrings.geometry import _axes as axes
from heartstrings.geometry import _clusters as clusters
from heartstrings.geometry import _finding as finding
from heartstrings.geometry import _nuisance as nuisance
from heartstrings.geometry import _readouts as readouts
from heartstrings.geometry import similarity
from heartstrings.geometry._lens import TokenStrings, Unembed, logit_lens
from heartstrings.geometry._spectra import TREATMENTS, Spectrum, Treatment, gram, spectrum, treat
from heartstrings.geometry.results import Geometry, LayerGeometry, NuisanceFit
from heartstrings.vectors.bundle import fingerprint
from heartstrings.vectors.emotion_vectors import EmotionVectors

Progress = Callable[[int, int], None]

SHOWN_DEPTH = 2 / 3
"""The layer that maps, clusters and neighbours are drawn from: fixed in advance, not chosen for its fit."""


@dataclass(frozen=True, eq=False)
class Targets:
    """Both ratings, ready for tests."""

    valence: axes.Target
    arousal: axes.Target


@dataclass(frozen=True, eq=False)
class Survey:
    """All layers of one bundle, with what later steps need of them."""

    layers: tuple[LayerGeometry, ...]
    gate: finding.Gate
    inner: Mapping[Variant, tuple[Float64[np.ndarray, "emotion emotion"], ...]]
    """Inner products of the contrasts as they are in the bundle, a layer."""


def analyse(
    vectors: EmotionVectors,
    ratings: Ratings,
    *,
    others: Mapping[str, EmotionVectors] | None = None,
    permutations: int = 2000,
    bootstrap: int = 1000,
    seed: int = 0,
    unembed: Unembed | None = None,
    token_strings: TokenStrings | None = None,
    umap: bool = False,
    progress: Progress | None = None,
) -> Geometry:
    """Where valence and arousal lie in a bundle; docs/geometry.md defines every number.

    Args:
        others: the same stories under other poolings, by label: the geometry after correcting for position.
        permutations: size of every null; the smallest possible p is 1 / (permutations + 1).
        unembed: states [state width] to logits [state vocab], through the final norm; gives the logit lens.
        token_strings: token numbers to strings, for the lens.
        umap: also draw a UMAP (half a minute; needs umap-learn).
        progress: called with (layers done, layers in all).

    Raises:
        InputError: fewer than three emotions, or nonsensical sizes of null or bootstrap.
    """
    others = others or {}
    if len(vectors.emotions) < 3:
        raise InputError(
            f"{len(vectors.emotions)} emotion{'s' * (len(vectors.emotions) != 1)} in the bundle",
            "at least three: a geometry is about differences between emotions",
            "Extract with stories of more emotions",
        )
    if permutations < 19 or bootstrap < 0:
        raise InputError(
            f"{permutations} permutations, {bootstrap} bootstrap resamples",
            "at least 19 permutations (p cannot be under .05 otherwise), 0 or more resamples",
        )
    step = layer_counter((vectors, *others.values()), progress)
    sizes = {"permutations": permutations, "bootstrap": bootstrap, "seed": seed}
    survey_of = {
        label: survey(bundle, targets_of(bundle, ratings, **sizes), seed=seed, step=step)
        for label, bundle in {"": vectors, **others}.items()
    }
    main = survey_of.pop("")
    targets = targets_of(vectors, ratings, permutations=1, bootstrap=0, seed=seed)
    layer, variant = shown(vectors)
    row = vectors.layers.index(layer)
    inner = main.inner[variant][row]
    full = spectrum(gram(treat(vectors.contrasts(variant)[row], "plain")), n=len(vectors.emotions))
    corrected = {label: result.layers for label, result in survey_of.items()}
    n_rated = targets.valence.n
    return Geometry(
        model=vectors.provenance.model.model_id if vectors.provenance.model else "unknown",
        bundle_hash=fingerprint(vectors),
        pooling=vectors.provenance.pooling.label if vectors.provenance.pooling else None,
        ratings_source=ratings.source,
        n_emotions=len(vectors.emotions),
        n_rated=n_rated,
        permutations=permutations,
        detectable_r=main.gate.detectable_r,
        encoded=main.gate.open,
        encoded_p=main.gate.p,
        verdict=finding.verdict(main.gate),
        sentence=finding.sentence(main.layers, main.gate, n_rated=n_rated, corrected=corrected),
        notes=notes(vectors, targets),
        shown_layer=layer,
        shown_variant=variant,
        layers=main.layers,
        cka={name: similarity.linear_cka(grams, grams) for name, grams in main.inner.items()},
        rsa={name: similarity.similarity_of_similarities(grams, grams) for name, grams in main.inner.items()},
        stability={
            name: similarity.valence_stability(vectors.contrasts(name), targets.valence) for name in vectors.variants
        },
        map=clusters.draw(
            full, vectors.emotions, targets.valence, targets.arousal, layer=layer, variant=variant, umap=umap, seed=seed
        ),
        clusters=clusters.group(full, inner, vectors.emotions, seed=seed),
        nearest=clusters.nearest(inner, vectors.emotions),
        lens=None
        if unembed is None
        else logit_lens(vectors.contrasts(variant)[row], vectors.emotions, unembed, token_strings),
        corrected=corrected,
        corrected_sentences={
            label: finding.sentence(result.layers, result.gate, n_rated=n_rated, corrected={})
            for label, result in survey_of.items()
        },
    )


def layer_counter(bundles: Iterable[EmotionVectors], progress: Progress | None) -> Callable[[], None]:
    """Reports progress each time it is called, once a layer and variant of all bundles."""
    total = sum(len(bundle.layers) * len(bundle.variants) for bundle in bundles)
    done = count(1)
    return lambda: None if progress is None else progress(next(done), total)


def targets_of(vectors: EmotionVectors, ratings: Ratings, *, permutations: int, bootstrap: int, seed: int) -> Targets:
    """Both ratings over the emotions that have both."""
    valence, arousal = ratings.arrays(vectors.emotions)
    both = np.isfinite(valence) & np.isfinite(arousal)
    sizes = {"permutations": permutations, "bootstrap": bootstrap}
    family = axes.family_numbers(vectors.emotions)
    return Targets(
        axes.target("valence", np.where(both, valence, np.nan), family=family, seed=seed, **sizes),
        axes.target("arousal", np.where(both, arousal, np.nan), family=family, seed=seed + 1, **sizes),
    )


def shown(vectors: EmotionVectors) -> tuple[int, Variant]:
    """The layer nearest to two thirds of the model's depth, denoised where that exists."""
    model = vectors.provenance.model
    aim = SHOWN_DEPTH * (model.n_layers if model else max(vectors.layers) + 1) if len(vectors.layers) > 1 else 0
    layer = min(vectors.layers, key=lambda number: (abs(number - aim), number))
    return layer, "raw" if vectors.denoised is None else "denoised"


def survey(vectors: EmotionVectors, targets: Targets, *, seed: int, step: Callable[[], None]) -> Survey:
    """Every layer of every variant, and the gate over all of them."""
    facts: tuple[nuisance.Facts, ...] = ()
    if vectors.stories is not None and len(vectors.stories):
        facts = nuisance.emotion_facts(
            vectors.stories, len(vectors.emotions), permutations=max(199, targets.valence.shuffled.shape[1]), seed=seed
        )
    parts = {name: _variant(vectors, name, targets, facts, seed=seed, step=step) for name in vectors.variants}
    passed = finding.gate([part.found for part in parts.values()], [part.readings[0] for part in parts.values()])
    layers = tuple(layer for part in parts.values() for layer in _conclude(part, gate_open=passed.open))
    return Survey(layers, passed, {name: part.inner for name, part in parts.items()})


def notes(vectors: EmotionVectors, targets: Targets) -> tuple[str, ...]:
    """What is missing in the result, and why."""
    out = []
    unrated = len(vectors.emotions) - targets.valence.n
    if unrated:
        out.append(f"{unrated} of {len(vectors.emotions)} emotions have no rating and enter no correlation.")
    if not targets.valence.usable or not targets.arousal.usable:
        out.append(f"At least {axes.MIN_RATED} emotions with different ratings are needed for correlations.")
    if vectors.stories is None:
        out.append("No table of stories: what components follow besides emotion cannot be told.")
    if vectors.halves is None:
        out.append("No topic halves: the readout is held out by emotion only.")
    elif (lost := int((~readouts.readable(vectors.halves, targets.valence.rated)).sum()) - unrated) > 0:
        out.append(f"{lost} rated emotions have stories in one topic half only and enter no held-out readout.")
    if vectors.denoised is None:
        out.append("No denoised vectors: there were no neutral texts.")
    return tuple(out)


@dataclass(frozen=True, eq=False)
class _Part:
    """One variant before the gate is known."""

    drafts: tuple[LayerGeometry, ...]
    found: axes.Found
    readings: tuple[readouts.Reading, ...]
    inner: tuple[Float64[np.ndarray, "emotion emotion"], ...]


def _variant(
    vectors: EmotionVectors,
    variant: Variant,
    targets: Targets,
    facts: tuple[nuisance.Facts, ...],
    *,
    seed: int,
    step: Callable[[], None],
) -> _Part:
    contrasts = vectors.contrasts(variant)
    spectra: dict[Treatment, list[Spectrum]] = {how: [] for how in TREATMENTS}
    inner = []
    for layer in contrasts:
        for how in TREATMENTS:
            spectra[how].append(spectrum(gram(treat(layer, how)), axes.N_COMPONENTS))
        inner.append(gram(layer.astype(np.float64)))
        step()
    plain = spectra["plain"]
    valence, arousal = axes.search(plain, targets.valence, first=0), axes.search(plain, targets.arousal, first=1)
    readings = readouts.read(contrasts, vectors.halves_of(variant), (targets.valence, targets.arousal), seed=seed)
    treated = {how: axes.axes_of(spectra[how], targets.valence, targets.arousal) for how in TREATMENTS[1:]}
    columns = {
        "pc1_valence": axes.correlations(plain, targets.valence, 0),
        "pc2_arousal": axes.correlations(plain, targets.arousal, 1),
        "pc1_arousal": axes.correlations(plain, targets.arousal, 0),
    }
    topics = _topics(vectors, variant, seed)
    grouped = families()
    drafts = []
    for row, number in enumerate(vectors.layers):
        fits = (*nuisance.emotion_fits(plain[row], facts), *topics[row])
        reads = [reading.results[row] for reading in readings]
        within, between = similarity.family_cosines(inner[row], vectors.emotions, grouped)
        drafts.append(LayerGeometry(
            layer=number, variant=variant, explained=tuple(map(float, plain[row].explained)),
            **{name: column[row] for name, column in columns.items()},
            best_valence=axes.best_of(valence, row), best_arousal=axes.best_of(arousal, row),
            pc1_valence_p=_known(valence.p_first[row]), pc2_arousal_p=_known(arousal.p_first[row]),
            component_valence=tuple(_known(abs(r)) for r in valence.r[row]),
            component_arousal=tuple(_known(abs(r)) for r in arousal.r[row]),
            standardised=treated["standardised"][row], row_normalised=treated["row_normalised"][row],
            readout_valence_r2=reads[0].r2 if reads[0] else None,
            readout_arousal_r2=reads[1].r2 if reads[1] else None,
            readout_valence=reads[0], readout_arousal=reads[1], nuisances=fits,
            first_component_nuisance=nuisance.first_component(
                fits, columns["pc1_valence"][row].r, columns["pc1_arousal"][row].r,
            ),
            family_within=within, family_between=between, reliability=_reliability(vectors, row, variant),
            finding="absent",
        ))  # fmt: skip
    return _Part(tuple(drafts), valence, readings, tuple(inner))


def _topics(vectors: EmotionVectors, variant: Variant, seed: int) -> tuple[tuple[NuisanceFit, ...], ...]:
    if vectors.stories is None or vectors.story_scores is None or not len(vectors.stories):
        return ((),) * len(vectors.layers)
    return nuisance.topic_fits(vectors.story_scores[vectors.variants.index(variant)], vectors.stories, seed=seed)


def _reliability(vectors: EmotionVectors, row: int, variant: Variant) -> float | None:
    """Mean over emotions; the bundle keeps the reliability of raw vectors only."""
    if vectors.reliability is None or variant != "raw":
        return None
    known = vectors.reliability[row][np.isfinite(vectors.reliability[row])]
    return float(known.mean()) if len(known) else None


def _conclude(part: _Part, *, gate_open: bool) -> tuple[LayerGeometry, ...]:
    return tuple(
        draft.model_copy(
            update={
                "finding": finding.classify(
                    first_r=draft.pc1_valence.r,
                    first_p=draft.pc1_valence_p,
                    best_component=draft.best_valence.component,
                    best_r=draft.best_valence.r,
                    best_p=draft.best_valence.p,
                    readout_p=draft.readout_valence.p if draft.readout_valence else None,
                    gate_open=gate_open,
                    first_is_nuisance=draft.first_component_nuisance is not None,
                )
            }
        )
        for draft in part.drafts
    )


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
