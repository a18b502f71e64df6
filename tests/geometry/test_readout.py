"""Texts that the vectors never saw: held-out stories and scenarios."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import geometry_worlds as worlds
import models
from heartstrings.core.errors import InputError
from heartstrings.core.types import Pooling
from heartstrings.corpus import Corpus, Story
from heartstrings.corpus.lexicon import emotions, families
from heartstrings.geometry.readout import ReadoutResult, Scenario, held_out, read_out, read_scenarios, scenarios
from heartstrings.vectors.emotion_vectors import EmotionVectors
from heartstrings.vectors.extraction import extract

N, LAYERS, WIDTH = 12, 2, 20
NAMES = emotions()[:N]


def made(signal: float, *, seed: int = 0, offset: float = 50.0):  # type: ignore[no-untyped-def]
    """Stories of 12 emotions, 4 topics a half, with a large common part and a topic effect; and their vectors."""
    rng = np.random.default_rng(seed)
    emotion, topic = (grid.ravel() for grid in np.meshgrid(np.arange(N), np.arange(8), indexing="ij"))
    half = (topic % 2).astype(np.int64)
    states = offset * rng.normal(size=(1, LAYERS, WIDTH)) + rng.normal(size=(len(emotion), LAYERS, WIDTH))
    states = states + signal * rng.normal(size=(N, LAYERS, WIDTH))[emotion] + 2 * rng.normal(size=(8, 1, WIDTH))[topic]
    states = states.astype(np.float32)
    means = np.stack([[states[(half == h) & (emotion == e)].mean(0) for e in range(N)] for h in (0, 1)])
    halves = (means - means.mean(1, keepdims=True)).transpose(0, 2, 1, 3).astype(np.float32)
    vectors = EmotionVectors(
        emotions=NAMES, layers=(3, 5), raw=halves.mean(0), halves=halves, provenance=worlds.provenance()
    )

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for rows in np.array_split(np.random.default_rng(1).permutation(len(emotion)), 5):
            yield rows, states[rows]

    return batches, emotion.astype(np.int64), half, vectors, states


def naive_ranks(emotion: np.ndarray, half: np.ndarray, vectors: EmotionVectors, states: np.ndarray) -> np.ndarray:
    """[layer story], by loops."""
    assert vectors.halves is not None
    out = np.zeros((LAYERS, len(emotion)))
    for layer in range(LAYERS):
        for row in range(len(emotion)):
            mine = half == half[row]
            centre = np.mean([states[mine & (emotion == e), layer].mean(0) for e in range(N)], axis=0)
            x = states[row, layer] - centre
            other = vectors.halves[1 - half[row], layer]
            cosine = other @ x / np.linalg.norm(other, axis=1) / np.linalg.norm(x)
            out[layer, row] = 1 + (cosine > cosine[emotion[row]]).sum()
    return out


def test_ranks_equal_a_naive_loop() -> None:
    batches, emotion, half, vectors, states = made(0.7)
    found = held_out(batches, emotion, half, vectors, shown_layer=5)
    assert found is not None
    assert (found.n_stories, found.n_emotions) == (96, N)
    for row, ranks in zip(naive_ranks(emotion, half, vectors, states), found.layers, strict=True):
        assert ranks.mean_rank.value == pytest.approx(row.mean())
        assert ranks.top1.value == pytest.approx((row == 1).mean())
        assert ranks.top5.value == pytest.approx((row <= 5).mean())
        assert ranks.reciprocal_rank.value == pytest.approx((1 / row).mean())
        assert ranks.percentile.value == pytest.approx(((N - row) / (N - 1)).mean())
        for one in (ranks.top1, ranks.mean_rank, ranks.percentile, ranks.family):
            assert one.low is not None
            assert one.high is not None
            assert one.low <= one.value <= one.high


def test_planted_emotions_are_read_and_noise_is_not() -> None:
    batches, emotion, half, vectors, _ = made(5.0)
    clear = held_out(batches, emotion, half, vectors, shown_layer=3)
    batches, emotion, half, vectors, _ = made(0.0)
    noise = held_out(batches, emotion, half, vectors, shown_layer=3)
    assert clear is not None
    assert noise is not None
    for ranks in clear.layers:
        assert ranks.top1.value > 0.95
        assert ranks.p == 1 / 2001
    for ranks in noise.layers:
        assert ranks.p > 0.01
        assert abs(ranks.percentile.value - 0.5) < 0.1
    assert clear.layers[0].top1.chance == pytest.approx(1 / N)
    assert clear.layers[0].mean_rank.chance == (N + 1) / 2


def test_p_is_uniform_where_stories_hold_no_emotion() -> None:
    ps = []
    for seed in range(150):
        found = held_out(*made(0.0, seed=seed)[:4], shown_layer=3)
        assert found is not None
        ps.append(min(ranks.p for ranks in found.layers))
    for level in (0.05, 0.2, 0.5):
        assert abs((np.array(ps) <= level).mean() - level) < 3.5 * np.sqrt(level * (1 - level) / 150)


def test_the_common_part_of_all_residuals_does_not_matter() -> None:
    """Uncentred readouts fail on it; here it changes nothing."""
    plain = held_out(*made(1.0, offset=0.0)[:4], shown_layer=3)
    shifted = held_out(*made(1.0, offset=200.0)[:4], shown_layer=3)
    assert plain is not None
    assert shifted is not None
    assert plain.layers[0].mean_rank.value == pytest.approx(shifted.layers[0].mean_rank.value, abs=0.15)


def test_the_confusion_of_families_adds_up() -> None:
    batches, emotion, half, vectors, _ = made(0.5)
    found = held_out(batches, emotion, half, vectors, shown_layer=5)
    assert found is not None
    known = sorted({families()[name] for name in NAMES})
    assert found.confusion.families == tuple(known)
    assert sum(found.confusion.texts) == 96
    right = sum(
        share * n for i, (row, n) in enumerate(zip(found.confusion.shares, found.confusion.texts, strict=True))
        for j, share in enumerate(row) if i == j and share is not None
    )  # fmt: skip
    assert right / 96 == pytest.approx(found.layers[1].family.value)
    assert all(sum(share or 0 for share in row) == pytest.approx(1) for row in found.confusion.shares)
    worst = found.confusion.worst[0]
    assert worst.true != worst.read_as
    assert worst.share == pytest.approx(worst.texts / 8)


def test_emotions_missing_from_a_half_and_rows_left_out_do_not_count() -> None:
    batches, emotion, half, vectors, _ = made(5.0)
    assert vectors.halves is not None
    halves = vectors.halves.copy()
    halves[1, :, 4] = np.nan
    emotion[0] = -1
    found = held_out(batches, emotion, half, replace(vectors, halves=halves), shown_layer=3)
    assert found is not None
    assert (found.n_stories, found.n_emotions) == (96 - 8 - 1, N - 1)
    assert found.layers[0].top1.value > 0.95
    assert held_out(batches, emotion, half, replace(vectors, halves=None), shown_layer=3) is None


def small_corpus() -> Corpus:
    told = models.stories(48, words=(60, 90))
    stories = tuple(Story(NAMES[i % 4], f"topic {i // 8}", text, "a test") for i, text in enumerate(told))
    return Corpus(stories, "a test", "made here")


def test_both_readouts_of_a_real_engine(tmp_path: Path) -> None:
    """From stories to ranks through a random model: the store's vectors are those the bundle was made from."""
    engine, corpus = models.engine("llama"), small_corpus()
    poolings = (Pooling(start=5), Pooling(rule="centred", start=5))
    bundles = extract(engine, corpus, out=tmp_path, poolings=poolings, keep_activations=True)
    texts = [Scenario(NAMES[i % 4], text) for i, text in enumerate(models.stories(6, words=(20, 30), seed=9))]
    for vectors in bundles.values():
        result = read_out(engine, vectors, tmp_path, corpus, texts, layer=2)
        assert result.held_out is not None
        assert result.held_out.n_stories == 48
        assert [ranks.layer for ranks in result.held_out.layers] == [0, 1, 2, 3]
        assert result.scenarios is not None
        assert result.scenarios.n == 6
        assert "48 stories" in result.sentence
        assert ReadoutResult.model_validate_json(result.model_dump_json()) == result


def test_activations_that_were_not_kept_leave_a_note(tmp_path: Path) -> None:
    engine, corpus = models.engine("llama"), small_corpus()
    (vectors,) = extract(engine, corpus, out=tmp_path, poolings=(Pooling(start=5),)).values()
    result = read_out(engine, vectors, tmp_path, corpus, layer=2)
    assert result.held_out is None
    assert result.scenarios is None
    assert "not kept" in result.notes[0]


def test_activations_of_another_pooling_leave_a_note(tmp_path: Path) -> None:
    engine, corpus = models.engine("llama"), small_corpus()
    extract(engine, corpus, out=tmp_path, poolings=(Pooling(start=5),), keep_activations=True)
    (vectors,) = extract(engine, corpus, out=tmp_path / "other", poolings=(Pooling(start=6),)).values()
    result = read_out(engine, vectors, tmp_path, corpus, layer=2)
    assert result.held_out is None
    assert "of another pooling" in result.notes[0]


def test_activations_of_another_corpus_are_refused(tmp_path: Path) -> None:
    engine, corpus = models.engine("llama"), small_corpus()
    (vectors,) = extract(engine, corpus, out=tmp_path, poolings=(Pooling(start=5),), keep_activations=True).values()
    fewer = replace(corpus, stories=corpus.stories[:-1])
    with pytest.raises(InputError, match="47 stories"):
        read_out(engine, vectors, tmp_path, fewer, layer=2)


def test_scenarios_equal_a_naive_reference(tmp_path: Path) -> None:
    engine, corpus = models.engine("llama"), small_corpus()
    (vectors,) = extract(engine, corpus, out=tmp_path, poolings=(Pooling(start=5),)).values()
    texts = [Scenario(("no such emotion", *NAMES[:4])[i % 5], text)
             for i, text in enumerate(models.stories(8, words=(20, 30), seed=9))]  # fmt: skip
    found = scenarios(engine, vectors, texts, layer=1)
    states = np.zeros((8, vectors.width))
    for batch in engine.pool([item.text for item in texts], layers=(1,), poolings=(Pooling(start=0),)):
        states[batch.indices] = batch.means[0, :, 0]
    states -= states.mean(0)
    for item, state in zip(found.rows, states, strict=True):
        cosine = vectors.raw[1] @ state / np.linalg.norm(vectors.raw[1], axis=1) / np.linalg.norm(state)
        assert item.nearest[0] == vectors.emotions[int(np.argmax(cosine))]
        if item.target in vectors.emotions:
            at = vectors.emotions.index(item.target)
            assert item.rank == 1 + (cosine > cosine[at]).sum()
            assert item.cosine == pytest.approx(cosine[at], abs=1e-4)
        else:
            assert item.rank is None
    assert (found.n, found.n_left_out) == (6, 2)
    assert found.mean_rank == pytest.approx(np.mean([item.rank for item in found.rows if item.rank]))
    with pytest.raises(InputError, match="at least two"):
        scenarios(engine, vectors, texts[:1], layer=1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"target": "calm", "text": "x"}\nnot json', ":2: "),
        ('{"target": "calm"}', ":1: no target and text"),
        ('["calm", "x"]', ":1: no target and text"),
        ('{"target": " ", "text": "x"}', ":1: no target and text"),
        ("\n\n", "holds no scenario"),
    ],
)
def test_scenario_files_that_cannot_be_read(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "scenarios.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_scenarios(path)
    with pytest.raises(InputError, match="no file"):
        read_scenarios(tmp_path / "absent.jsonl")


@pytest.mark.data
def test_the_shared_scenarios_are_read(shared_data: Path) -> None:
    found = read_scenarios(shared_data / "scenarios" / "evb_implicit_10.jsonl")
    assert len(found) == 10
    assert found[0].target == "desperate"
