"""Small atlas folders with real geometry of planted vectors, and names that try to break out of the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from geometry_worlds import N, bundle, model, names, planted, provenance, ratings, table
from heartstrings.geometry import analyse
from heartstrings.geometry.readout_results import Confused, Confusion, Estimate, HeldOut, Ranks, ReadoutResult
from heartstrings.geometry.results import Geometry, LensRow
from heartstrings.vectors.emotion_vectors import EmotionVectors

EVIL = '</script><script>document.title="broken"</script><img src=x onerror="document.title=\'broken\'">'


def full(folder: Path, *, name: str = "planted", encoded: bool = True, evil: bool = False) -> Path:
    """An atlas of three layers with every part there is. With `evil`, every text from outside is hostile."""
    strengths = {"valence": 3.0, "arousal": 2.0} if encoded else {"other": 3.0}
    raw = planted(strengths)
    stories = table()
    halves = np.stack([planted(strengths, seed=0), planted(strengths, seed=0, noise=0.31)]).astype(np.float32)
    basis = tuple(np.linalg.qr(np.random.default_rng(layer).normal(size=(raw.shape[2], 1)))[0].T for layer in range(3))
    basis = tuple(rows.astype(np.float32) for rows in basis)
    plain = bundle(raw, provenance=provenance(model(name)))
    denoised = np.stack([plain.raw[i] - plain.raw[i] @ basis[i].T @ basis[i] for i in range(3)]).astype(np.float32)
    vectors = bundle(
        raw, provenance=provenance(model(name)), denoised=denoised, neutral_basis=basis, stories=stories,
        halves=halves - halves.mean(2, keepdims=True), counts=(6,) * N, norms=np.ones(3, dtype=np.float32),
    )  # fmt: skip
    if evil:
        vectors = _renamed(vectors)
    geometry = _analyse(vectors, evil)
    token = EVIL if evil else " joy\n"
    lens = tuple(LensRow(emotion=word, top=(token, "", "\u2028"), bottom=("b",)) for word in vectors.emotions[:30])
    geometry = geometry.model_copy(update={"lens": lens, "model": EVIL if evil else name})
    if evil:
        geometry = geometry.model_copy(update={"sentence": EVIL, "notes": (EVIL,), "corrected_sentences": {EVIL: EVIL}})
    _write(folder, vectors, geometry)
    said = EVIL if evil else "held out"
    (folder / "readout.json").write_text(_readout(said, vectors).model_dump_json())
    filtered = {"emotion word": 2, EVIL if evil else "too short": 1}
    dropped = [{"emotion": "joy", "topic": said, "reason": "emotion word", "evidence": said}]
    (folder / "corpus.json").write_text(json.dumps({"author": said, "filtered": filtered, "dropped": dropped}))
    rated = ratings()
    values = {word: rated.values[old] for word, old in zip(vectors.emotions, names(), strict=True)}
    (folder / "ratings.json").write_text(json.dumps({"source": "planted", "values": values}))
    return folder


def imported(folder: Path) -> Path:
    """An atlas of vectors that came without model, stories, halves, readout or corpus: one layer, raw only."""
    vectors = bundle(planted({"valence": 3.0, "arousal": 2.0}, layers=1))
    _write(folder, vectors, _analyse(vectors, evil=False))
    return folder


def _renamed(vectors: EmotionVectors) -> EmotionVectors:
    from dataclasses import replace

    return replace(vectors, emotions=(EVIL, "<b>bold</b>", "%{x}", *vectors.emotions[3:]))


def _analyse(vectors: EmotionVectors, evil: bool) -> Geometry:
    rated = ratings()
    if evil:
        values = {word: rated.values[old] for word, old in zip(vectors.emotions, names(), strict=True)}
        rated = type(rated)(values, EVIL)
    return analyse(vectors, rated, permutations=60, bootstrap=60)


def _write(folder: Path, vectors: EmotionVectors, geometry: Geometry) -> None:
    folder.mkdir(parents=True)
    vectors.save(folder / "vectors" / (geometry.pooling or "imported"))
    (folder / "geometry.json").write_text(geometry.model_dump_json())


def _readout(text: str, vectors: EmotionVectors) -> ReadoutResult:
    share = Estimate(value=0.4, low=0.3, high=0.5, chance=1 / 60)
    rank = Estimate(value=9.0, low=8.0, high=10.0, chance=30.5)
    rows = tuple(
        Ranks(layer=layer, top1=share, top5=share, mean_rank=rank, reciprocal_rank=share, percentile=share,
              family=share, p=0.01)
        for layer in vectors.layers
    )  # fmt: skip
    confusion = Confusion(
        families=("joy", text, "empty"), shares=((0.8, 0.2, 0.0), (0.4, 0.6, 0.0), (None, None, None)),
        texts=(5, 5, 0), worst=(Confused(true=text, read_as="joy", texts=2, share=0.4),),
    )  # fmt: skip
    held_out = HeldOut(n_stories=10, n_emotions=60, layers=rows, confusion=confusion)
    return ReadoutResult(sentence=text, shown_layer=1, variant="raw", held_out=held_out, scenarios=None)
