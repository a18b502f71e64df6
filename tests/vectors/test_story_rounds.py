"""Reliability against known truth, and stories that are read in rounds."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heartstrings import engines
from heartstrings.core.errors import InputError
from heartstrings.core.types import Pooling, Provenance, StoryRounds
from heartstrings.corpus import Corpus, Story
from heartstrings.vectors import EmotionVectors, extract, used_stories
from heartstrings.vectors.activations import WORK
from heartstrings.vectors.reliability import reliability_over_topics
from heartstrings.vectors.story_activations import read_story_activations
from heartstrings.vectors.story_rounds import LEAST_TOPICS, _parts, middle

WIDTH = 60
SCALE = 1 / np.sqrt(1 + np.arange(WIDTH) / 3)
NOISE = float((SCALE**2).sum())


def simulated(
    draws: np.random.Generator, emotions: int, topics: int, ratio: float, spread: float
) -> tuple[np.ndarray, np.ndarray]:
    """(signals, means by emotion and topic): a signal of an emotion, an effect of the topic, and noise of both with
    unequal variances. The squared length of a signal is `ratio` times that of the noise of one topic, more or less."""
    signal = draws.standard_normal((emotions, WIDTH)) * SCALE
    signal /= np.linalg.norm(signal, axis=1, keepdims=True)
    signal *= np.sqrt(ratio * NOISE * np.exp(draws.normal(0, spread, emotions)))[:, None]
    signal -= signal.mean(0)
    common = 3 * draws.standard_normal((1, topics, WIDTH)) * SCALE
    return signal, signal[:, None] + common + draws.standard_normal((emotions, topics, WIDTH)) * SCALE


def truth(signal: np.ndarray, topics: int) -> np.ndarray:
    """The expected cosine of two contrasts from so many topics each; centring removes a share of the noise."""
    size = (signal**2).sum(1)
    noise = NOISE * (len(signal) - 1) / len(signal) / topics
    return size / (size + noise)


@pytest.mark.parametrize("topics", [6, 12, 24])
def test_the_interval_holds_the_true_reliability(topics: int) -> None:
    draws, held, off = np.random.default_rng(topics), [], []
    for _ in range(40):
        signal, means = simulated(draws, 20, topics, ratio=0.4, spread=0.5)
        found, true = reliability_over_topics(means, np.ones((20, topics), bool)), truth(signal, topics)
        held.append((found.low <= true) & (true <= found.high))
        off.append(found.value - true)
    assert 0.92 <= np.mean(held) <= 0.995
    assert abs(np.mean(off)) < 0.02


def test_it_is_the_mean_over_all_splits_in_halves() -> None:
    """Flanagan's coefficient of a split is 4 a.b / |a + b|^2, for sums a and b of the two halves (Cronbach 1951)."""
    _, means = simulated(np.random.default_rng(0), 5, 6, ratio=0.5, spread=0.3)
    found = reliability_over_topics(means, np.ones((5, 6), bool)).value
    contrasts = means - means.mean(0)
    for row in range(5):
        each = []
        for half in combinations(range(6), 3):
            a = contrasts[row, list(half)].sum(0)
            whole = contrasts[row].sum(0)
            each.append(4 * a @ (whole - a) / (whole @ whole))
        assert found[row] == pytest.approx(np.mean(each), abs=1e-9)


def test_emotions_without_stories_on_some_topics() -> None:
    _, means = simulated(np.random.default_rng(1), 4, 8, ratio=1.0, spread=0.0)
    there = np.ones((4, 8), bool)
    there[0, 3:] = there[1, 1:] = False
    lost = means.copy()
    lost[~there] = np.nan
    found = reliability_over_topics(lost, there)
    assert np.isfinite(found.value).tolist() == [True, False, True, True]
    assert found.value[2] == pytest.approx(reliability_over_topics(means, np.ones((4, 8), bool)).value[2], abs=0.1)
    nothing = reliability_over_topics(np.random.default_rng(2).standard_normal((6, 12, 40)), np.ones((6, 12), bool))
    assert (np.abs(nothing.value) < 0.8).all()
    assert nothing.value.min() >= -1


def test_when_reading_stops_the_true_reliabilities_are_seldom_under_the_target() -> None:
    """The rule as `read_in_rounds` has it, on simulated topics: the lowest estimate of many is rather too low."""
    draws, target, true, read = np.random.default_rng(3), 0.8, [], []
    for _ in range(40):
        signal, means = simulated(draws, 20, 40, ratio=0.5, spread=0.3)
        topics = LEAST_TOPICS
        while topics < 40:
            if reliability_over_topics(means[:, :topics], np.ones((20, topics), bool)).value.min() >= target:
                break
            topics += max(1, topics // 4)
        true.append(truth(signal, min(topics, 40)))
        read.append(topics)
    assert (np.array(true) >= target).mean() > 0.97
    assert np.mean([one.min() for one in true]) > target
    assert LEAST_TOPICS < np.mean(read) < 40


def test_rounds_are_whole_topics_and_their_order_depends_on_the_seed() -> None:
    corpus = stories(topics=14)
    parts = _parts(corpus, seed=0)
    assert [len(part.topics) for part in parts] == [6, 1, 1, 2, 2, 2]
    assert sorted(story.text for part in parts for story in part.stories) == sorted(corpus.texts)
    assert not any(set(a.topics) & set(b.topics) for a, b in combinations(parts, 2))
    assert all(part.emotions == corpus.emotions for part in parts)
    assert [part.topics for part in _parts(corpus, seed=1)] != [part.topics for part in parts]


def test_reliability_is_checked_where_steering_is_searched() -> None:
    assert middle(range(30), 30) == (10, 15, 19, 24)  # as plan.searched_layers
    assert middle(range(6), 6) == (2, 3, 4)
    assert middle((0, 29), 30) == (0, 29)


# --- With a model ----------------------------------------------------------------------------------------------

WORDS = {
    "calm": "quiet slow soft still", "angry": "loud harsh sharp hot", "sad": "grey heavy cold wet",
    "joyful": "bright warm light gay",
}  # fmt: skip


def stories(topics: int = 10) -> Corpus:
    made = []
    for topic in range(topics):
        for emotion, words in WORDS.items():
            text = f"Ida drove to the place with number {topic}. It was {words} there. " * 2 + f"All was {words}."
            made.append(Story(emotion, f"topic {topic:02d}", text, "a test"))
    return Corpus(tuple(made), author="a test", source="made for a test")


@pytest.fixture(scope="module")
def engine() -> Any:
    return engines.load("organism:steerable")


HOW: dict[str, Any] = {"poolings": (Pooling(start=4), Pooling(rule="centred", start=4)), "keep_activations": True}


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


class Dies:
    """An engine that is interrupted after some batches."""

    def __init__(self, engine: Any, batches: int) -> None:
        self.engine, self.info, self.left = engine, engine.info, batches

    def pool(self, *args: Any, **given: Any) -> Any:
        for batch in self.engine.pool(*args, **given):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            yield batch


def test_reading_stops_when_all_emotions_are_reliable(engine: Any, tmp_path: Path) -> None:
    corpus, told = stories(), []
    made = extract(
        engine, corpus, out=tmp_path, reliability=0.5, progress=lambda *at: told.append(at), **HOW
    )["from4"]  # fmt: skip
    rounds = made.provenance.rounds
    assert rounds is not None
    assert rounds.reached
    assert rounds.rounds[-1][1] >= 0.5
    assert len(rounds.topics) == LEAST_TOPICS
    assert rounds.sentence == (
        "24 of 40 stories were enough: reliability at least 0.5 for all 4 emotions; 40% of the reading saved"
    )
    assert rounds.sentence in made.provenance.notes
    used = used_stories(corpus, rounds)
    assert (len(used), used.hash, len(made.stories or ())) == (24, made.provenance.corpus_hash, 24)
    assert {story.topic for story in used.stories} == set(rounds.topics)
    assert all(done <= total for done, total in told)
    # The same vectors as of these stories alone, up to the order of batches.
    alone = extract(engine, used_stories(corpus, rounds), out=tmp_path / "alone", **HOW)["from4"]
    np.testing.assert_allclose(made.raw, alone.raw, atol=1e-5 * float(np.abs(alone.raw).max()))
    assert EmotionVectors.load(tmp_path / "from4").provenance.rounds == rounds
    kept = read_story_activations(tmp_path / "from4", made)
    assert kept is not None
    assert kept.n_crossed_topics == LEAST_TOPICS
    assert not list((tmp_path / WORK).glob("round-*"))


def test_a_target_that_is_not_reached_reads_everything(engine: Any, tmp_path: Path) -> None:
    corpus = stories(8)
    shuffled = tuple(
        replace(story, emotion=corpus.stories[(at * 7 + at // 4) % 4].emotion)
        for at, story in enumerate(corpus.stories)
    )
    labels = [story.emotion for story in shuffled]
    assert set(labels) == set(WORDS)
    made = extract(engine, replace(corpus, stories=shuffled), out=tmp_path, reliability=0.999, **HOW)["from4"]
    rounds = made.provenance.rounds
    assert rounds is not None
    assert not rounds.reached
    assert rounds.rounds[-1][0] == len(corpus)
    assert rounds.sentence.startswith("all 32 stories were read: ")
    assert rounds.weakest in WORDS


def test_an_interruption_changes_no_byte(engine: Any, tmp_path: Path) -> None:
    corpus = stories()
    how = HOW | {"reliability": 0.9999, "token_budget": 300}
    extract(engine, corpus, out=tmp_path / "whole", **how)
    whole, stops = files(tmp_path / "whole"), 0
    while True:
        try:
            extract(Dies(engine, 3), corpus, out=tmp_path / "parts", **how)  # type: ignore[arg-type]
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops > 3
    record = json.loads((tmp_path / "whole" / WORK / "rounds.json").read_text())
    assert len(record["rounds"]) > 2
    assert files(tmp_path / "parts") == whole
    # Called again it reads nothing.
    extract(Dies(engine, 0), corpus, out=tmp_path / "parts", **how)  # type: ignore[arg-type]
    assert files(tmp_path / "parts") == whole


@pytest.mark.parametrize("at", ["join", "removal"])
def test_an_interruption_between_the_rounds_and_the_vectors(
    at: str, engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heartstrings.vectors import activations, story_rounds

    corpus = stories()
    extract(engine, corpus, out=tmp_path / "whole", reliability=0.9999, **HOW)
    real, calls = activations.write_bytes, []

    def dies(path: Path, content: bytes) -> None:
        calls.append(path)
        if path.parent.name == "stories" and path.name == "batch-00001.safetensors":
            raise KeyboardInterrupt
        real(path, content)

    def removes(folder: Path) -> None:
        if folder.name == "round-002":
            raise KeyboardInterrupt
        removed(folder)

    removed = story_rounds.remove_folder
    if at == "join":
        monkeypatch.setattr(activations, "write_bytes", dies)
    else:
        monkeypatch.setattr(story_rounds, "remove_folder", removes)
    with pytest.raises(KeyboardInterrupt):
        extract(engine, corpus, out=tmp_path / "parts", reliability=0.9999, **HOW)
    monkeypatch.undo()
    extract(engine, corpus, out=tmp_path / "parts", reliability=0.9999, **HOW)
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_what_cannot_be_read_in_rounds_is_refused(engine: Any, tmp_path: Path) -> None:
    corpus = stories()
    one = replace(corpus, stories=tuple(s for s in corpus.stories if s.topic != "topic 03" or s.emotion == "sad"))
    few = replace(corpus, stories=tuple(s for s in corpus.stories if s.emotion != "sad" or s.topic < "topic 04"))
    for bad, target, found in (
        (corpus, 1.0, "a reliability of 1"), (corpus, 0.0, "a reliability of 0"), (stories(6), 0.9, "6 topics"),
        (one, 0.9, "a topic with stories of one emotion: 'topic 03'"),
        (few, 0.9, "an emotion with stories on fewer than 6 topics: 'sad'"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=found) as error:
            extract(engine, bad, out=tmp_path / "bad", reliability=target, **HOW)
        assert error.value.fix
        assert "--reliability" in error.value.fix
    extract(engine, corpus, out=tmp_path / "made", reliability=0.5, **HOW)
    for changed in ({"reliability": 0.6}, {}):
        with pytest.raises(InputError, match="another") as error:
            extract(engine, corpus, out=tmp_path / "made", **(HOW | changed))
        assert "--overwrite" in (error.value.fix or "")
    again = extract(engine, corpus, out=tmp_path / "made", overwrite=True, reliability=0.6, **HOW)["from4"]
    assert again.provenance.rounds is not None
    assert again.provenance.rounds.target == 0.6


def test_bundles_without_rounds_have_the_bytes_they_had() -> None:
    plain = Provenance(package_version="0", source="extracted", model=None)
    assert "rounds" not in json.loads(plain.model_dump_json())
    rounds = StoryRounds(
        target=0.9, layers=(1,), seed=0, corpus_hash="x", n_stories=480, n_emotions=40, topics=("a", "b"),
        rounds=((72, 0.91),), n_below=0, weakest="calm",
    )  # fmt: skip
    with_rounds = plain.model_copy(update={"rounds": rounds})
    assert Provenance.model_validate_json(with_rounds.model_dump_json()) == with_rounds
    assert rounds.sentence == (
        "72 of 480 stories were enough: reliability at least 0.9 for all 40 emotions; 85% of the reading saved"
    )
