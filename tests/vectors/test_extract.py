"""Extraction: equal to naive sums, resumable at any moment, refusals. The engine is a small network in numpy."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from heartstrings.core.errors import BundleError, InputError
from heartstrings.core.types import SINK_RATIO, Pooling
from heartstrings.corpus import Corpus, NeutralTexts, Story, calibration_texts, halves
from heartstrings.vectors._contrast import split_half_reliability
from heartstrings.vectors._denoise import neutral_components
from heartstrings.vectors.activations import Activations, fill
from heartstrings.vectors.bundle import HEADER, TENSORS
from heartstrings.vectors.emotion_vectors import components
from heartstrings.vectors.extraction import extract
from numpy_engine import EMOTIONS, N_LAYERS, POOLINGS, WIDTH, NumpyEngine, corpus, info, neutral, states

SETTINGS = {"neutral": neutral(), "calibration": neutral(4), "poolings": POOLINGS, "token_budget": 120}


def span(pooling: Pooling, length: int) -> range:
    if pooling.stop is not None:
        return range(pooling.start, pooling.stop) if length >= pooling.stop else range(0)
    return range(pooling.start, length)


def naive_sinks(h: np.ndarray) -> np.ndarray:
    size = np.sqrt((h.astype(np.float64) ** 2).sum(-1))
    return size > SINK_RATIO * np.median(size)


def naive_positions(texts: tuple[str, ...], layer: int) -> dict[int, np.ndarray]:
    """Mean state at each position over the tokens that are no sinks."""
    found: dict[int, list[np.ndarray]] = {}
    for text in texts:
        h = states(text)[layer]
        for position in np.flatnonzero(~naive_sinks(h)).tolist():
            found.setdefault(position, []).append(h[position].astype(np.float64))
    return {position: np.mean(rows, axis=0) for position, rows in found.items()}


def naive_tokens(text: str, layer: int, pooling: Pooling, positions: dict[int, np.ndarray]) -> np.ndarray:
    """The states that are averaged for one text."""
    h = states(text)[layer]
    kept = [i for i in span(pooling, len(h)) if not naive_sinks(h)[i]]
    rows = [h[i].astype(np.float64) - (positions[i] if pooling.rule == "centred" else 0) for i in kept]
    return np.array(rows).reshape(len(rows), WIDTH)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an undisturbed run writes."""
    out = tmp_path_factory.mktemp("reference") / "out"
    extract(NumpyEngine(), corpus(), out=out, **SETTINGS)
    return out


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize("weighting", ["story", "token"])
@pytest.mark.parametrize("pooling", POOLINGS, ids=lambda pooling: pooling.label)
def test_everything_equals_plain_sums_over_tokens(tmp_path, pooling, weighting):
    stories, quiet = corpus(), neutral()
    vectors = extract(
        NumpyEngine(), stories, out=tmp_path / "o", neutral=quiet, calibration=neutral(4), poolings=(pooling,),
        weighting=weighting, token_budget=90,
    )[pooling.label]  # fmt: skip
    half = halves(stories)
    for layer in range(N_LAYERS):
        positions = naive_positions(stories.texts, layer)
        rows = [naive_tokens(text, layer, pooling, positions) for text in stories.texts]
        named = np.array([story.emotion for story in stories.stories])

        def contrast(some: np.ndarray, rows: list = rows, named: np.ndarray = named) -> np.ndarray:
            means = []
            for emotion in EMOTIONS:
                own = [rows[i] for i in np.flatnonzero((named == emotion) & some) if len(rows[i])]
                flat = np.concatenate(own) if weighting == "token" else np.array([r.mean(0) for r in own])
                means.append(flat.mean(0))
            return np.array(means) - np.mean(means, axis=0)

        raw = contrast(np.ones(len(stories), dtype=bool))
        np.testing.assert_allclose(vectors.raw[layer], raw, atol=2e-6)
        for part in (0, 1):
            np.testing.assert_allclose(vectors.halves[part, layer], contrast(half == part), atol=2e-6)
        # Denoising: a QR of the covariance's eigenvectors does the same in another way.
        still = np.array([naive_tokens(text, layer, pooling, positions).mean(0) for text in quiet.texts])
        values, axes = np.linalg.eigh(np.cov(still.T))
        share = np.cumsum(values[::-1]) / values.sum()
        k = next(i + 1 for i, s in enumerate(share) if s >= 0.5)
        assert vectors.k[layer] == k
        outside = np.eye(WIDTH) - axes[:, ::-1][:, :k] @ axes[:, ::-1][:, :k].T
        np.testing.assert_allclose(vectors.denoised[layer], raw @ outside, atol=1e-5)
        # Norm: over all tokens of the calibration texts that are no sinks.
        sizes = []
        for text in neutral(4).texts:
            h = states(text)[layer].astype(np.float64)
            sizes += np.sqrt((h[~naive_sinks(h)] ** 2).sum(-1)).tolist()
        np.testing.assert_allclose(vectors.norms[layer], np.mean(sizes), rtol=1e-6)
        # Scores: stories minus the centre, on the components of the contrasts.
        pooled = [i for i, row in enumerate(rows) if len(row)]
        basis = components(vectors.raw[layer])[1]
        story = np.array([rows[i].mean(0) for i in pooled])
        np.testing.assert_allclose(vectors.story_scores[0, layer], (story - vectors.centre[layer]) @ basis.T, atol=1e-5)


def test_the_record_of_what_went_in(reference):
    from heartstrings.vectors.bundle import load

    found = {pooling.label: load(reference / pooling.label) for pooling in POOLINGS}
    vectors = found["from5"]
    stories = corpus()
    assert vectors.emotions == EMOTIONS
    assert vectors.counts == (8, 8, 8, 8)
    n_tokens = [len(story.text.split()) + 1 for story in stories.stories]
    assert sum(vectors.tokens) == sum(n - 5 for n in n_tokens)
    table = vectors.stories
    assert table.n_tokens.tolist() == n_tokens
    assert [vectors.emotions[i] for i in table.emotion] == [story.emotion for story in stories.stories]
    assert [table.topics[i] for i in table.topic] == [story.topic for story in stories.stories]
    assert table.half.tolist() == halves(stories).tolist()
    made = vectors.provenance
    assert (made.n_stories, made.n_set_aside, made.n_truncated, made.n_sinks) == (32, 0, 0, 32)
    assert made.model == info()
    assert (made.corpus_hash, made.neutral_hash) == (stories.hash, neutral().hash)
    assert found["window5-20"].tokens == (120,) * 4
    assert not (reference / ".work").exists()


def test_reliability_is_spearman_brown_of_the_halves():
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(2, 1, 4, 30)).astype(np.float32)
    parts[1, 0, 0] = parts[0, 0, 0]
    parts[1, 0, 1] = -parts[0, 0, 1]
    parts[1, 0, 2] = np.nan
    found = split_half_reliability(parts)
    a, b = parts[:, 0, 3].astype(np.float64)
    r = a @ b / np.sqrt(a @ a * (b @ b))
    np.testing.assert_allclose(found[0], [1, -1, np.nan, 2 * r / (1 + abs(r))], rtol=1e-5)


def test_neutral_components_explain_half_of_the_variance():
    rows = np.random.default_rng(1).normal(size=(30, 8)) * np.array([9, 8, 7, 1, 1, 1, 1, 1])
    basis = neutral_components(rows, 0.5).astype(np.float64)
    centred = rows - rows.mean(0)
    total = (centred**2).sum()
    assert ((centred @ basis.T) ** 2).sum() / total >= 0.5
    assert ((centred @ basis[:-1].T) ** 2).sum() / total < 0.5
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-6)
    assert len(neutral_components(rows, 1.0)) == 8
    with pytest.raises(InputError, match="same activations"):
        neutral_components(np.ones((5, 3)))


def test_without_neutral_texts_there_is_no_denoised_variant(tmp_path):
    vectors = extract(NumpyEngine(), corpus(), out=tmp_path, poolings=(Pooling(start=5),))["from5"]
    assert (vectors.denoised, vectors.neutral_basis, vectors.variants) == (None, None, ("raw",))
    assert vectors.story_scores.shape[:2] == (1, N_LAYERS)
    assert vectors.provenance.calibration_hash == calibration_texts().hash


def test_some_layers_are_the_same_as_among_all(tmp_path, reference):
    from heartstrings.vectors.bundle import load

    some = extract(NumpyEngine(), corpus(), out=tmp_path / "o", layers=(2, 0), **SETTINGS)["centred5"]
    whole = load(reference / "centred5")
    assert some.layers == (0, 2)
    np.testing.assert_array_equal(some.raw, whole.raw[[0, 2]])


def test_short_stories_are_set_aside_and_counted(tmp_path):
    short = tuple(Story("calm", "topic 0", "a b c", author="x") for _ in range(2))
    mixed = Corpus(corpus().stories[:5] + short + corpus().stories[5:], author="x", source="t")
    quiet = NeutralTexts((*neutral().texts, "too short"), source="t")
    vectors = extract(NumpyEngine(), mixed, out=tmp_path, neutral=quiet, poolings=(Pooling(start=5),))["from5"]
    plain = extract(NumpyEngine(), corpus(), out=tmp_path / "p", neutral=neutral(), poolings=(Pooling(start=5),))[
        "from5"
    ]
    assert (vectors.provenance.n_stories, vectors.provenance.n_set_aside) == (32, 2)
    assert vectors.provenance.notes == ("1 of 10 neutral texts were too short and set aside",)
    assert len(vectors.stories) == 32
    np.testing.assert_allclose(vectors.denoised, plain.denoised, atol=1e-5)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [0, 4, 9, 13])
def test_stopped_and_run_again_gives_the_same_bytes_and_no_text_twice(tmp_path, reference, after):
    engine = NumpyEngine()
    seen = []

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        if len(seen) > after:
            raise Killed

    with pytest.raises(Killed):
        extract(engine, corpus(), out=tmp_path / "o", progress=stop, **SETTINGS)
    # What a kill in the middle of a write leaves behind.
    for folder in (tmp_path / "o" / ".work").glob("*/"):
        (folder / ".batch-00099.safetensors.partial").write_bytes(b"torn")
    progress: list[tuple[int, int]] = []
    extract(engine, corpus(), out=tmp_path / "o", progress=lambda *at: progress.append(at), **SETTINGS)
    assert contents(tmp_path / "o") == contents(reference)
    assert len(engine.log) == 32 + 4 + 9
    assert progress[-1] == (45, 45)
    assert progress == sorted(progress)


def test_a_batch_in_the_position_sums_but_not_on_disk_is_not_added_twice(tmp_path):
    centred, texts = (Pooling(rule="centred", start=5),), corpus().texts
    whole = fill(NumpyEngine(), texts, tmp_path / "whole", poolings=centred, token_budget=120)
    store = fill(NumpyEngine(), texts, tmp_path / "again", poolings=centred, token_budget=120)
    last = sorted(store.directory.glob("batch-*"))[-1]
    last.unlink()  # killed after the sums were written and before the batch was
    again = fill(NumpyEngine(), texts, tmp_path / "again", poolings=centred, token_budget=120)
    assert contents(whole.directory) == contents(again.directory)


def test_batches_without_a_manifest_are_not_trusted(tmp_path):
    """A removal that was cut short may leave batches of other texts behind."""
    others = tuple(text + " end" for text in corpus().texts)
    fill(NumpyEngine(), others, tmp_path / "s", token_budget=120)
    (tmp_path / "s" / "manifest.json").unlink()
    engine = NumpyEngine()
    fill(engine, corpus().texts, tmp_path / "s", token_budget=120)
    assert len(engine.log) == len(corpus())


def test_an_unreadable_batch_is_run_again(tmp_path):
    engine = NumpyEngine()
    store = fill(engine, corpus().texts, tmp_path / "s", poolings=POOLINGS, token_budget=120)
    before = contents(store.directory)
    (store.directory / "batch-00002.safetensors").write_bytes(b"damaged")
    assert fill(engine, corpus().texts, tmp_path / "s", poolings=POOLINGS, token_budget=120) == store
    assert contents(store.directory) == before


def test_killed_at_random_moments_and_run_again_gives_the_same_bytes(tmp_path, reference):
    """kill -9 on a real process, several times, until one run gets through."""
    script = str(Path(__file__).parents[1] / "numpy_engine.py")
    rng, kills = random.Random(11), 0
    command = [sys.executable, script, str(tmp_path / "o"), "0.05"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for _ in range(4):
        process = subprocess.Popen(command, env=environment)
        # Wait until it is at work, so that the kill falls into it and not into the imports.
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline and not (tmp_path / "o/.work").exists():
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.3))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills
    subprocess.run(command, check=True, env=environment)
    assert contents(tmp_path / "o") == contents(reference)


@pytest.mark.parametrize("steps", [(60, 113, 118, 123, 130), pytest.param(range(0, 145, 7), marks=pytest.mark.slow)])
def test_dying_between_any_two_writes_gives_the_same_bytes(tmp_path, reference, steps):
    """Each time a little further: the last of these steps fall between and after the bundles' own writes."""
    script = str(Path(__file__).parents[1] / "numpy_engine.py")
    for step in steps:
        out = tmp_path / str(step)
        died = subprocess.run([sys.executable, script, str(out), "0", str(step)], check=False).returncode
        assert died == 9 or (died == 0 and step > 130)
        # In the test's own process: the numbers must not depend on where the work was begun.
        extract(NumpyEngine(), corpus(), out=out, **SETTINGS)
        assert contents(out) == contents(reference)


def test_finished_is_finished(tmp_path, reference):
    engine = NumpyEngine()
    out = tmp_path / "o"
    first = extract(engine, corpus(), out=out, **SETTINGS)
    before, n_run = contents(out), len(engine.log)
    again = extract(engine, corpus(), out=out, **SETTINGS)
    assert len(engine.log) == n_run
    assert contents(out) == before == contents(reference)
    np.testing.assert_array_equal(first["from5"].raw, again["from5"].raw)
    # Damaged arrays are made again; the header says from what.
    (out / "from5" / TENSORS).write_bytes(b"damaged")
    extract(engine, corpus(), out=out, **SETTINGS)
    assert contents(out) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corpus": corpus(n_each=3)}, "another corpus hash"),
        ({"neutral": neutral(7)}, "neutral hash"),
        ({"neutral": None}, "neutral hash"),
        ({"weighting": "token"}, "weighting"),
        ({"poolings": (Pooling(start=6),)}, "pooling"),
        ({"layers": (0,)}, "choice of layers"),
        ({"seed": 1}, "seed"),
        ({"engine": NumpyEngine(info(weights_hash="sha256:other"))}, "model"),
    ],
)
def test_another_bundle_in_the_way_is_refused_or_overwritten(tmp_path, changes, message):
    base = {"engine": NumpyEngine(), "corpus": corpus(), "neutral": neutral(), "poolings": (Pooling(start=5),)}
    extract(out=tmp_path, **base)
    before = contents(tmp_path)
    with pytest.raises(InputError, match=message):
        extract(out=tmp_path, **(base | changes))
    assert contents(tmp_path) == before
    extract(out=tmp_path, overwrite=True, **(base | changes))
    assert contents(tmp_path) != before
    extract(out=tmp_path, **(base | changes))


def test_work_begun_with_other_settings_is_refused_or_begun_anew(tmp_path):
    def stop(done: int, total: int) -> None:
        if done:
            raise Killed

    with pytest.raises(Killed):
        extract(NumpyEngine(), corpus(), out=tmp_path / "o", progress=stop, **SETTINGS)
    with pytest.raises(InputError, match="begun with another token budget"):
        extract(NumpyEngine(), corpus(), out=tmp_path / "o", **(SETTINGS | {"token_budget": 121}))
    extract(NumpyEngine(), corpus(), out=tmp_path / "o", overwrite=True, **(SETTINGS | {"token_budget": 121}))


def test_a_damaged_header_in_the_way_is_said_and_can_be_overwritten(tmp_path):
    one = {"poolings": (Pooling(start=5),)}
    extract(NumpyEngine(), corpus(), out=tmp_path, **one)
    before = contents(tmp_path)
    (tmp_path / HEADER).write_text("{")
    with pytest.raises(BundleError, match="damaged"):
        extract(NumpyEngine(), corpus(), out=tmp_path, **one)
    extract(NumpyEngine(), corpus(), out=tmp_path, overwrite=True, **one)
    assert contents(tmp_path) == before


def test_two_processes_in_one_folder(tmp_path):
    """The second is told who the first is; when the first is gone, the folder is free."""
    script = str(Path(__file__).parents[1] / "numpy_engine.py")
    first = subprocess.Popen([sys.executable, script, str(tmp_path / "o"), "30"])
    try:
        lock = tmp_path / "o" / ".work" / "lock"
        deadline = time.monotonic() + 60
        while not (lock.exists() and lock.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(InputError, match=f"number {first.pid}"):
            extract(NumpyEngine(), corpus(), out=tmp_path / "o", **SETTINGS)
    finally:
        first.kill()
        first.wait()
    extract(NumpyEngine(), corpus(), out=tmp_path / "o", **SETTINGS)


def test_a_full_disk_during_the_work_is_one_error_and_can_be_taken_up(tmp_path, monkeypatch, reference):
    real, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    engine = NumpyEngine()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"disk is full.*run the same command again"):
        extract(engine, corpus(), out=tmp_path / "o", **SETTINGS)
    assert not list((tmp_path / "o").rglob("*.partial"))
    monkeypatch.setattr(os, "fsync", real)
    extract(engine, corpus(), out=tmp_path / "o", **SETTINGS)
    assert contents(tmp_path / "o") == contents(reference)


def test_kept_activations_can_be_read(tmp_path):
    extract(NumpyEngine(), corpus(), out=tmp_path, keep_activations=True, **SETTINGS)
    stories = corpus()
    # `centred` stores plain means, so `from` has no store of its own.
    store = Activations(
        tmp_path / ".work" / "stories", len(stories), tuple(range(N_LAYERS)), (POOLINGS[2], POOLINGS[1])
    )
    rows = {int(i): v for batch in store.pooled(0) for i, v in zip(batch.indices, batch.vectors, strict=True)}
    for index in (0, 17):
        np.testing.assert_allclose(rows[index], states(stories.texts[index])[:, 5:].mean(1), atol=1e-5)
