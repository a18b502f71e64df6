"""Emotion in text: ratings of its words, negation, coverage; a classifier only where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers as hf

import models
from heartstrings.behaviours.base import Behaviour
from heartstrings.behaviours.choices.general_facts import GeneralFacts
from heartstrings.behaviours.organism._stories import Stories
from heartstrings.behaviours.writing.emotion_text import WithEmotion, classify, details, text_emotion
from heartstrings.core.engine import Completion
from heartstrings.core.errors import InputError
from heartstrings.corpus.lexicon import Ratings, built_in_ratings

HAPPY = built_in_ratings().values["happy"]
AFRAID = built_in_ratings().values["afraid"]


@pytest.mark.parametrize(
    ("text", "valence", "arousal"),
    [
        ("She was happy.", HAPPY[0], HAPPY[1]),
        ("HAPPY!", HAPPY[0], HAPPY[1]),
        ("She was not happy.", -0.5 * HAPPY[0], 0.5 * HAPPY[1]),
        ("She isn't very happy.", -0.5 * HAPPY[0], 0.5 * HAPPY[1]),
        ("She isn’t happy.", -0.5 * HAPPY[0], 0.5 * HAPPY[1]),
        ("He was never at all happy", -0.5 * HAPPY[0], 0.5 * HAPPY[1]),
        ("No, she was happy.", HAPPY[0], HAPPY[1]),
        ("It was not cheap, but she was happy.", HAPPY[0], HAPPY[1]),
        ("Not one of the four of us was happy", HAPPY[0], HAPPY[1]),  # out of reach: a stated limit
        ("afraid and happy", (HAPPY[0] + AFRAID[0]) / 2, (HAPPY[1] + AFRAID[1]) / 2),
        ("not afraid, happy", (HAPPY[0] - 0.5 * AFRAID[0]) / 2, (HAPPY[1] + 0.5 * AFRAID[1]) / 2),
    ],
)
def test_scores(text: str, valence: float, arousal: float) -> None:
    found = text_emotion(text)
    assert found.valence == pytest.approx(valence)
    assert found.arousal == pytest.approx(arousal)


@pytest.mark.parametrize("text", ["", "The table has four legs.", "unhappy-ish", "Sie war froh."])
def test_without_emotion_words_it_is_missing_and_not_zero(text: str) -> None:
    found = text_emotion(text)
    assert found.valence is None or "unhappy" in text
    if found.valence is None:
        assert "emotion_valence" not in details(text)
        assert details(text) == {"emotion_coverage": 0.0}


def test_coverage_and_own_ratings() -> None:
    own = Ratings({"at sea": (-0.4, 0.2), "sea": (0.5, 0.0), "odd": (0.9, 0.9)}, "mine", frozenset({"odd"}))
    found = text_emotion("He felt at sea and odd", own)
    assert (found.valence, found.arousal, found.n_found, found.n_words) == (-0.4, 0.2, 1, 6)
    assert found.coverage == pytest.approx(1 / 6)


def test_a_behaviour_s_grades_carry_it() -> None:
    plain, more = Stories(), WithEmotion(Stories())
    assert isinstance(more, Behaviour)
    scenario = plain.scenarios(n=1, seed=0)[0]
    assert more.scenarios(n=1, seed=0)[0] == scenario
    answer = Completion("She was not happy that day.", (1,), "eos", 1, 0)
    before, after = plain.grade(scenario, answer), more.grade(scenario, answer)
    assert (after.outcome, after.valid, after.text) == (before.outcome, before.valid, before.text)
    assert after.detail["emotion_valence"] == pytest.approx(-0.5 * HAPPY[0])
    with pytest.raises(InputError, match="answered in text"):
        WithEmotion(GeneralFacts())


def test_a_classifier_is_run_only_where_there_is_one(tmp_path: Path) -> None:
    assert classify(["a"], None) is None
    with pytest.raises(InputError, match="no model"):
        classify(["a"], tmp_path)
    config = hf.BertConfig(vocab_size=400, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                           num_attention_heads=2, num_labels=3, id2label={0: "joy", 1: "fear", 2: "none"})  # fmt: skip
    hf.BertForSequenceClassification(config).save_pretrained(tmp_path)
    models.word_piece().save_pretrained(tmp_path)
    found = classify(["The rain had stopped.", "A train went by."], tmp_path)
    assert found is not None
    assert [set(one) for one in found] == [{"joy", "fear", "none"}] * 2
    assert [sum(one.values()) for one in found] == pytest.approx([1.0, 1.0])
