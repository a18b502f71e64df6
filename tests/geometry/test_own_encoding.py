"""Each emotion read for itself on held-out topics, what words alone tell, and how both reach report and verdict."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import roc_auc_score

import models
import report_atlas
from heartstrings.core.types import Pooling, Provenance
from heartstrings.corpus import Corpus, NeutralTexts, Story, halves, shipped_stories
from heartstrings.corpus.lexicon import built_in_ratings, families
from heartstrings.experiment.ledger import SampleLedger
from heartstrings.geometry import _readouts as readouts
from heartstrings.geometry import own_emotion
from heartstrings.geometry._axes import family_numbers
from heartstrings.geometry._held_out import story_stream
from heartstrings.geometry.analysis import Targets, targets_of
from heartstrings.geometry.own_emotion import Stories, arrange, own_emotions
from heartstrings.geometry.readout import read_out
from heartstrings.geometry.readout_results import Estimate, OwnEmotion, ReadoutResult, WordsAlone
from heartstrings.geometry.words_alone import own_aucs, read_words, unigrams
from heartstrings.report import render
from heartstrings.vectors.emotion_vectors import EmotionVectors
from heartstrings.vectors.extraction import extract
from heartstrings.verdict import decide
from heartstrings.verdict._own import BLEND, FEW, own_encodings, read_own, unread
from heartstrings.verdict.results import AnswerCard, Encoded, OwnEncoding, Verdict
from heartstrings.workflows.run import read_encoding, weigh
from verdict_worlds import Ledger, Questionnaire, World, plan, rows

SHIPPED = shipped_stories()
NAMES = SHIPPED.emotions
FAMILY = family_numbers(NAMES)
N, TOPICS, WIDTH = len(NAMES), 12, 32
SPREAD = np.arange(1, WIDTH + 1) ** -0.5
EMOTION, TOPIC = (grid.ravel() for grid in np.meshgrid(np.arange(N), np.arange(TOPICS), indexing="ij"))


def arranged(
    emotion: np.ndarray, topic: np.ndarray, half: np.ndarray, names: Sequence[str] = NAMES, seed: int = 0
) -> Stories:
    found = arrange(names, emotion, topic, half, seed=seed)
    assert found is not None
    return found


CROSSED = arranged(EMOTION, TOPIC, TOPIC % 2)


def pair(states: np.ndarray, stories: Stories) -> own_emotion.Kernels:
    between = states[stories.half == 1] @ states[stories.half == 0].T
    return between, between.T


# --- Against loops ---


def naive_auc(states: np.ndarray, stories: Stories, plays: dict[int, int]) -> float:
    """AUC of one emotion by definition; `plays`: which emotion's stories are its own, by stratum."""
    won = []
    for half in (0, 1):
        contrast = np.zeros(states.shape[1])
        for stratum, who in plays.items():
            here = stories.stratum == stratum
            if stories.half_of[stratum] == half:
                continue
            means = [states[here & (stories.emotion == e)].mean(0) for e in np.unique(stories.emotion[here])]
            mine = states[here & (stories.emotion == who)]
            contrast += (mine - np.mean(means, axis=0)).sum(0)
        for stratum, who in plays.items():
            if stories.half_of[stratum] != half:
                continue
            here = stories.stratum == stratum
            others = states[here & (stories.family[stories.emotion] != stories.family[who])] @ contrast
            for state in states[here & (stories.emotion == who)]:
                score = state @ contrast
                won += [np.mean((others < score) + 0.5 * (others == score))] if len(others) else []
    return float(np.mean(won))


def uneven(crossed: bool) -> tuple[np.ndarray, Stories]:
    """Stories of 14 emotions, some cells with two or three of them and a few with none; or topics of their own."""
    rng = np.random.default_rng(4)
    emotion, topic = (grid.ravel() for grid in np.meshgrid(np.arange(14), np.arange(8), indexing="ij"))
    times = rng.choice([1, 1, 1, 2, 3], size=len(emotion))
    times[[3, 50]] = 0
    emotion, topic = np.repeat(emotion, times), np.repeat(topic, times)
    half = topic % 2
    if not crossed:
        topic = topic + 8 * emotion
    order = rng.permutation(len(emotion))
    stories = arranged(emotion[order], topic[order], half[order], NAMES[:14])
    place = 0.8 * rng.normal(size=(14, WIDTH))
    return place[stories.emotion] + rng.normal(size=(len(stories.rows), WIDTH)), stories


@pytest.mark.parametrize("crossed", [True, False])
def test_auc_and_p_equal_loops(crossed: bool) -> None:
    states, stories = uneven(crossed)
    assert len(stories.half_of) == (8 if crossed else 2)
    second = states[::-1].copy()
    found = own_emotions([pair(states, stories), pair(second, stories)], stories, (3, 7), permutations=60, seed=2)
    assert [one.emotion for one in found] == list(NAMES[:14])
    strata = own_emotion._Strata(stories)
    places, groups = strata.places, strata.stand_ins(60, np.random.default_rng(2))
    for emotion, one in enumerate(found):
        mine = [s for s in range(len(places)) if ((stories.stratum == s) & (stories.emotion == emotion)).any()]
        aucs = [naive_auc(layer, stories, dict.fromkeys(mine, emotion)) for layer in (states, second)]
        assert one.by_layer == pytest.approx(aucs)
        assert (one.auc, one.layer) == (pytest.approx(max(aucs)), (3, 7)[int(np.argmax(aucs))])
        assert one.n == (stories.emotion == emotion).sum()
        if len(mine) < len(places):
            continue  # a stand-in has stories in more topics; tested by simulation
        (orders,) = [orders for members, orders in groups if emotion in members]
        null = [
            max(naive_auc(layer, stories, dict(enumerate(row))) for layer in (states, second))
            for row in orders.tolist()
        ]
        assert one.p == pytest.approx((np.sum(np.array(null) >= one.auc - 1e-12) + 1) / 61)


def test_stand_ins_keep_families_of_like_size_together() -> None:
    """Every place that a stand-in may take is in a family of the emotion's own group of sizes."""
    size = np.bincount(FAMILY)
    groups = own_emotion._Strata(CROSSED).stand_ins(400, np.random.default_rng(0))
    assert sorted(np.concatenate([members for members, _ in groups]).tolist()) == list(range(N))
    for members, orders in groups:
        assert set(np.unique(orders)) == set(members.tolist())
        assert len(np.unique(orders, axis=0)) == 400  # each topic is drawn for itself
        shares = np.bincount(FAMILY[orders.ravel()], minlength=len(size))[np.unique(FAMILY[members])] / orders.size
        assert shares == pytest.approx(1 / len(shares), abs=0.02)


def test_it_reads_the_bundle_s_own_vectors(tmp_path: Path) -> None:
    """From stories through a model: the AUC is scikit-learn's, of the bundle's denoised half contrasts, by topic."""
    told = models.stories(64, words=(60, 90))
    stories = tuple(Story(NAMES[i % 8], f"topic {i // 16}", text, "a test") for i, text in enumerate(told))
    corpus = Corpus(stories, "a test", "made here")
    engine = models.engine("llama")
    neutral = NeutralTexts(tuple(models.stories(12, words=(60, 90), seed=5)), "made here")
    (vectors,) = extract(
        engine, corpus, out=tmp_path, poolings=(Pooling(start=5),), neutral=neutral, keep_activations=True
    ).values()
    result = read_out(engine, vectors, tmp_path, corpus, layer=2, ratings=built_in_ratings())
    stream = story_stream(tmp_path, vectors, corpus)
    assert stream is not None
    batches, emotion, half = stream
    states = np.zeros((len(corpus), len(vectors.layers), vectors.width))
    for at, found in batches():
        states[at] = found
    contrasts = vectors.halves_of("denoised")
    assert contrasts is not None
    family, topic = family_numbers(vectors.emotions), np.array([int(story.topic[6:]) for story in stories])
    assert [one.emotion for one in result.own] == list(vectors.emotions)
    for row, one in enumerate(result.own):
        aucs = []
        for layer in range(len(vectors.layers)):
            by_topic = []
            for number in np.unique(topic):
                compared = (topic == number) & ((emotion == row) | (family[emotion] != family[row]))
                (part,) = np.unique(half[compared])
                scores = states[compared, layer] @ contrasts[1 - part, layer, row].astype(np.float64)
                by_topic.append(roc_auc_score(emotion[compared] == row, scores))
            aucs.append(np.mean(by_topic))
        assert one.by_layer == pytest.approx(aucs, abs=0.02)  # float32 contrasts may turn a near tie
        assert one.words is not None
    assert result.words is not None
    assert ReadoutResult.model_validate_json(result.model_dump_json()) == result


def test_blocks_of_layers_and_large_common_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(len(EMOTION), 3, WIDTH)) + 300.0
    basis = [np.linalg.qr(rng.normal(size=(WIDTH, 2)))[0].T.astype(np.float32) for _ in range(3)]

    def batches():  # type: ignore[no-untyped-def]
        for at in np.array_split(np.random.default_rng(1).permutation(len(EMOTION)), 7):
            yield at, states[at].astype(np.float32)

    whole = list(own_emotion.kernels(batches, CROSSED, basis, n_layers=3, width=WIDTH))
    monkeypatch.setattr(own_emotion, "BLOCK", 1)
    for layer, (one, other) in enumerate(
        zip(whole, own_emotion.kernels(batches, CROSSED, basis, n_layers=3, width=WIDTH), strict=True)
    ):
        assert np.array_equal(one[0], other[0])
        centred = states[:, layer] - states[:, layer].mean(0)
        clean = centred - centred @ basis[layer].T.astype(float) @ basis[layer]
        assert one[0] == pytest.approx(pair(clean, CROSSED)[0], abs=0.05)


def test_what_cannot_be_read() -> None:
    half = TOPIC % 2
    assert arrange(NAMES, EMOTION, TOPIC, np.zeros_like(half)) is None  # nothing is held out
    one_family = [name for name in NAMES if families()[name] == families()[NAMES[0]]][:1]
    assert arrange(one_family, np.zeros(4, dtype=np.int64), np.arange(4), np.arange(4) % 2) is None
    lost = EMOTION.copy()
    lost[(EMOTION == 3) & (half == 1)] = -1
    found = arranged(lost, TOPIC, half)
    assert len(found.emotions) == N - 1
    assert NAMES[3] not in found.emotions


def test_a_large_corpus_is_cut_by_whole_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_emotion, "MOST_STORIES", 200)
    found = arranged(EMOTION, TOPIC, TOPIC % 2)
    assert len(found.rows) == 160
    assert np.bincount(found.topic).tolist() == [N] * 4
    assert np.bincount(found.half).tolist() == [80, 80]


# --- Worlds whose truth is known ---


def world(rng: np.random.Generator, *, clusters: float = 0.0, own: float = 0.0) -> np.ndarray:
    """Stories of 40 emotions on 12 topics, with topic effects. `clusters`: share of the variance that the stories of
    one family share within a topic, at another random place in each topic; `own`: size of each emotion's place."""
    states = np.sqrt(1 - clusters) * rng.normal(size=(len(EMOTION), WIDTH))
    states += np.sqrt(clusters) * rng.normal(size=(int(FAMILY.max()) + 1, TOPICS, WIDTH))[FAMILY[EMOTION], TOPIC]
    states += own * rng.normal(size=(N, WIDTH))[EMOTION]
    return states * SPREAD + 2 * rng.normal(size=(TOPICS, WIDTH))[TOPIC]


@pytest.mark.parametrize("clusters", [0.0, 0.2, 0.5])
def test_p_is_uniform_where_no_emotion_is_encoded(clusters: float) -> None:
    """Also where the stories of a family are alike within a topic; the search over layers is paid for."""
    shares = []
    for run in range(40):
        rng = np.random.default_rng([run, 1])
        layered = [pair(world(rng, clusters=clusters), CROSSED) for _ in range(2)]
        ps = np.array([one.p for one in own_emotions(layered, CROSSED, (0, 1), permutations=99, seed=run)])
        shares.append([(ps <= level).mean() for level in (0.05, 0.2, 0.5)])
    rates, errors = np.mean(shares, axis=0), np.std(shares, axis=0, ddof=1) / np.sqrt(len(shares))
    assert (np.abs(rates - (0.05, 0.2, 0.5)) < 3.5 * errors).all(), rates
    assert rates[0] < 0.07


def test_planted_emotions_are_read() -> None:
    found = own_emotions([pair(world(np.random.default_rng(0), own=2.0), CROSSED)], CROSSED, (5,), permutations=199)
    assert min(one.auc for one in found) > 0.9
    assert {one.p for one in found} == {1 / 200}
    for one in found:
        assert (one.low is None) == (one.high is None)
        assert one.low is None or one.high is None or one.low <= one.auc <= one.high
    weak = own_emotions([pair(world(np.random.default_rng(0), own=0.5), CROSSED)], CROSSED, (5,), permutations=199)
    assert 0.65 < np.mean([one.auc for one in weak]) < 0.95
    assert sum(one.p is not None and one.p < 0.05 for one in weak) > N / 2


def test_intervals_cover_what_new_topics_would_give() -> None:
    """Of 95% intervals, 89% to 93% (12 topics; fewer where nearly every comparison is won)."""
    covered = []
    for run in range(10):
        rng = np.random.default_rng([run, 3])
        place = 0.5 * rng.normal(size=(N, WIDTH))
        told = (place[EMOTION] + rng.normal(size=(len(EMOTION), WIDTH))) * SPREAD
        found = own_emotions([pair(told, CROSSED)], CROSSED, (0,), permutations=0, seed=run)
        new = (place[:, None] + rng.normal(size=(N, 200, WIDTH))) * SPREAD
        for row, one in enumerate(found):
            truth = []
            for half in (0, 1):
                train = half != TOPIC % 2
                contrast = told[train & (row == EMOTION)].mean(0) - told[train].mean(0)
                scores = new @ contrast
                truth.append((scores[row] > scores[[family != FAMILY[row] for family in FAMILY]]).mean())
            assert one.low is not None
            assert one.high is not None
            covered.append(one.low <= np.mean(truth) <= one.high)
            assert one.p is None
    assert 0.88 < np.mean(covered) < 0.98


# --- Words ---


def by_hand(texts: Sequence[str], half: np.ndarray, part: int) -> tuple[np.ndarray, np.ndarray]:
    """TF-IDF of the stories of the other half, which it is fitted on, and of those of `part`."""
    tfidf = TfidfVectorizer(sublinear_tf=True)
    train = tfidf.fit_transform([text for text, own in zip(texts, half, strict=True) if own != part])
    test = tfidf.transform([text for text, own in zip(texts, half, strict=True) if own == part])
    return train.toarray(), test.toarray()


def test_words_alone_equal_scikit_learn_by_hand() -> None:
    """The shipped stories: figures that docs/corpus.md and docs/geometry.md have."""
    emotion = np.array([NAMES.index(story.emotion) for story in SHIPPED.stories])
    topic = np.array([SHIPPED.topics.index(story.topic) for story in SHIPPED.stories])
    half = halves(SHIPPED).astype(np.int64)
    words = unigrams(SHIPPED.texts, emotion, half)
    assert words is not None
    stories = arranged(emotion, topic, half)
    aucs, first, contrasts, crosses = np.zeros((N, TOPICS)), [], [], []
    for part in (0, 1):
        train, test = by_hand(SHIPPED.texts, half, part)
        fitted, read = emotion[half != part], emotion[half == part]
        vectors = np.stack([train[fitted == e].mean(0) for e in range(N)])
        vectors -= vectors.mean(0)
        told = np.stack([test[read == e].mean(0) for e in range(N)])
        contrasts.append(vectors)
        crosses.append(told - told.mean(0))
        scores = test @ vectors.T
        for e, number in np.ndindex(N, TOPICS):
            here = (topic[half == part] == number) & ((read == e) | (FAMILY[read] != FAMILY[e]))
            if here.any():
                aucs[e, number] = roc_auc_score(read[here] == e, scores[here, e])
        nearest = ((test - told.mean(0)) @ (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).T).argmax(1)
        first += (nearest == read).tolist()
    found = own_aucs(words, stories, np.arange(len(emotion)))
    assert [found[name] for name in NAMES] == pytest.approx(aucs.mean(1), abs=1e-9)
    targets = shipped_targets()
    alone = read_words(words, NAMES, (targets.valence, targets.arousal))
    assert alone.top1 is not None
    assert alone.top1.value == pytest.approx(np.mean(first))
    goal = targets.valence
    y, folds = goal.values, readouts.splits(goal.family, seed=0)[0]
    lost, base = 0.0, 0.0
    for vectors, told in zip(contrasts, crosses, strict=True):
        said = readouts.hat(vectors @ vectors.T, told @ vectors.T, folds) @ y
        lost += ((y - said) ** 2).sum()
        base += ((y - readouts.mean_hat(N, folds) @ y) ** 2).sum()
    assert alone.valence_r2 == pytest.approx(1 - lost / base)
    figures = (alone.top1.value, float(np.mean(list(found.values()))), alone.valence_r2, alone.arousal_r2)
    assert figures == pytest.approx((0.921, 0.997, 0.274, 0.315), abs=0.001)


def shipped_targets() -> Targets:
    nothing = Provenance(package_version="0", source="derived", model=None)
    vectors = EmotionVectors(emotions=NAMES, layers=(0,), raw=np.zeros((1, N, 2), np.float32), provenance=nothing)
    return targets_of(vectors, built_in_ratings(), permutations=1, bootstrap=0, seed=0)


def test_words_come_from_the_training_topics() -> None:
    """A word that marks an emotion in one half of the topics and is absent from the other tells nothing."""
    rng = np.random.default_rng(0)
    common = [f"word{number}" for number in range(60)]
    half = TOPIC % 2

    def told(mark: Sequence[str]) -> list[str]:
        return [" ".join([*rng.choice(common, 30), *[name] * 3]) for name in mark]

    same = told([f"mark{e}" for e in EMOTION])
    apart = told([f"mark{e}in{part}" for e, part in zip(EMOTION, half, strict=True)])
    for texts, low, high in ((same, 0.95, 1.0), (apart, 0.4, 0.6)):
        words = unigrams(texts, EMOTION, half)
        assert words is not None
        found = own_aucs(words, CROSSED, np.arange(len(EMOTION)))
        assert low <= np.mean(list(found.values())) <= high
    assert unigrams(["一", "二", "三", "四"], np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])) is None


# --- Files, report, verdict ---

READ = (
    OwnEmotion(emotion="desperate", auc=0.93, low=0.88, high=0.97, p=0.0005, layer=1, n=12, by_layer=(0.9, 0.93, 0.8),
               words=0.96),
    OwnEmotion(emotion="calm", auc=0.55, low=None, high=None, p=0.31, layer=0, n=12, by_layer=(0.55, 0.5, 0.5)),
)  # fmt: skip


def test_a_readout_of_before_is_read(tmp_path: Path) -> None:
    folder = report_atlas.full(tmp_path / "old")
    content = json.loads((folder / "readout.json").read_text())
    del content["own"], content["words"]
    (folder / "readout.json").write_text(json.dumps(content))
    old = ReadoutResult.model_validate(content)
    assert (old.own, old.words) == ((), None)
    assert read_own(folder) == ()
    assert own_encodings(("desperate",), read_own(folder)) is None
    assert "Words alone" not in render(folder).read_text(encoding="utf-8")
    (folder / "readout.json").write_text("{")
    assert read_own(folder) == read_own(tmp_path) == ()


def test_the_report_shows_words_beside_the_model(tmp_path: Path) -> None:
    folder = report_atlas.full(tmp_path / "new")
    share = Estimate(value=0.42, low=0.3, high=0.5, chance=1 / 60)
    words = WordsAlone(words=1234, top1=share, top5=share, family=None, valence_r2=0.271, arousal_r2=None)
    before = ReadoutResult.model_validate_json((folder / "readout.json").read_bytes())
    (folder / "readout.json").write_text(before.model_copy(update={"own": READ, "words": words}).model_dump_json())
    text = render(folder).read_text(encoding="utf-8")
    assert "Where words alone do as well, a readout proves nothing beyond words." in text
    assert "Each emotion for itself: 1 of 2 are read at p &lt; .05" in text
    flat = text.replace(' class="number"', "")
    mean = '<th scope="row">AUC of each emotion&#39;s own stories, mean</th><td>.715</td><td>.960</td><td>.500</td>'
    assert mean in flat  # at the shown layer, 1
    assert "<td>.271</td>" in flat
    assert '<th scope="row">calm</th><td>.550</td><td>0</td><td>.310</td><td>–</td><td>12</td>' in flat
    assert '<th scope="row">desperate</th><td>.930 [.880, .970]</td>' in flat


def weighed(
    directions: tuple[str, ...], own: dict[str, OwnEncoding | None] | None, found: World, encoded: Encoded = "encoded"
) -> Verdict:
    design = plan(directions=directions)
    suite = Questionnaire()
    return decide(design, Ledger(rows(found, design, suite)), suite, model="simulated", encoded=encoded, own=own)


@pytest.mark.parametrize("found", [World(effect={"desperate": 0.7}), World()])
def test_the_verdict_tells_it_and_changes_no_answer_of_an_encoded_model(found: World) -> None:
    (without,) = weighed(("desperate",), None, found).answers
    (card,) = weighed(("desperate",), own_encodings(("desperate",), READ), found).answers
    assert card.own_encoding == OwnEncoding(auc=0.93, low=0.88, high=0.97, p=0.0005, layer=1, words=0.96)
    told = "Its own emotion is read on held-out topics (AUC 0.93, p < 0.001; from words alone AUC 0.96)."
    assert told in card.sentence
    assert card.sentence.replace(f" {told}", "") == without.sentence
    assert card.model_copy(update={"own_encoding": None, "sentence": without.sentence}) == without
    assert AnswerCard.model_validate_json(card.model_dump_json()) == card
    old = json.loads(without.model_dump_json())
    del old["own_encoding"]
    assert AnswerCard.model_validate(old) == without


def test_an_emotion_that_is_read_is_never_called_not_encoded() -> None:
    """Steering does nothing, and the atlas finds no axis. Of `calm` nothing is read, of `desperate` its own emotion."""
    found = own_encodings(("desperate", "calm"), READ)
    read, unread_one = weighed(("desperate", "calm"), found, World(), "not encoded").answers
    assert unread_one.answer == "not encoded"
    assert (read.answer, read.encoded) == ("inconclusive", "not encoded")
    assert "finds no emotion encoded in this model, and yet desperate itself is read" in read.sentence
    moved, _ = weighed(("desperate", "calm"), found, World(effect={"desperate": 0.7}), "not encoded").answers
    assert moved.answer == "controls"
    blank = weighed(("desperate", "calm"), None, World(), "not encoded").answers
    assert {card.answer for card in blank} == {"not encoded"}


def test_an_emotion_that_is_not_read_and_blends() -> None:
    found = own_encodings(("calm", "-desperate", "desperate - calm", "joyful"), READ)
    assert found is not None
    assert found["desperate - calm"] is None
    assert found["joyful"] is None
    own = found["-desperate"]
    assert own is not None
    assert own.auc == 0.93
    calm, blend = weighed(("calm", "desperate - calm"), found, World()).answers
    assert "Its own emotion is not shown to be read on held-out topics (AUC 0.55, p = 0.31)." in calm.sentence
    assert blend.own_encoding is None
    assert BLEND in blend.missing
    assert "not examined for blends" in BLEND
    assert unread(found, "joyful") == (FEW,)
    assert unread(None, "joyful") == ()
    assert {BLEND, FEW} & set(calm.missing) == set()
    assert "own emotion" not in blend.sentence


def test_the_pipeline_hands_it_to_the_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = report_atlas.full(tmp_path / "atlas")
    before = ReadoutResult.model_validate_json((folder / "readout.json").read_bytes())
    (folder / "readout.json").write_text(before.model_copy(update={"own": READ}).model_dump_json())
    seen: dict[str, object] = {}
    monkeypatch.setattr("heartstrings.verdict.decide", lambda *_, **named: seen.update(named))
    design = plan(directions=("desperate",))
    with SampleLedger(tmp_path / "ledger.sqlite", design) as ledger:
        weigh(design, ledger, read_encoding(folder))
        assert seen["own"] == own_encodings(("desperate",), READ)
        weigh(design, ledger, read_encoding(tmp_path))
        assert seen["own"] is None
