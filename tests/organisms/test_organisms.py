"""The bundled organisms: their world, their files, and that what was planted is what one measures."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from heartstrings import organisms
from heartstrings.core.errors import InputError
from heartstrings.corpus import clean
from heartstrings.corpus.leaks import forms
from heartstrings.corpus.lexicon import emotions
from heartstrings.organisms import grammar
from heartstrings.organisms.generate import (
    documents,
    emotional_words,
    neutral,
    planted_chance,
    question,
    questions,
    shift_by_contrast,
    stories,
)
from heartstrings.organisms.grammar import NEUTRAL, Draws, plane, slots, word_chances
from organism_training import card, train
from organism_training.measure import Ballot, added, alignment, contrasts, pool, reply_tokens, residuals
from organism_training.tokenizer import render, train_tokenizer

LIMIT = 8_000_000


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(organisms.path("steerable"))


def loaded(kind: str):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(organisms.path(kind)).eval()


# The world


def test_the_same_seed_writes_the_same_texts_and_another_does_not():
    assert stories(seed=3, per_emotion=1).hash == stories(seed=3, per_emotion=1).hash
    assert stories(seed=3, per_emotion=1).hash != stories(seed=4, per_emotion=1).hash
    assert neutral(seed=3, n=5).hash == neutral(seed=3, n=5).hash
    one, other = (list(islice(documents("inert", seed=7), 50)) for _ in range(2))
    assert one == other
    assert questions("choice", seed=1, n=9) == questions("choice", seed=1, n=9)


def test_topics_are_crossed_with_emotions():
    corpus = organisms.stories(seed=0, per_emotion=12)
    assert corpus.emotions == tuple(sorted(emotions()))
    assert len(corpus.topics) == 12
    told = {(story.emotion, story.topic) for story in corpus.stories}
    assert len(told) == 171 * 12 == len(corpus)


def test_no_story_names_any_emotion_in_any_form():
    given_away = {form for word in emotions() for form in (word, *forms(word).inflections, *forms(word).synonyms)}
    for words in emotional_words():
        assert not given_away & set(words)
    for text in stories(seed=1, per_emotion=2).texts:
        plain = set("".join(c.lower() if c.isalpha() else " " for c in text).split())
        assert not given_away & plain


def test_the_package_filters_keep_every_story():
    assert sum(clean(stories(seed=2, per_emotion=2)).filtered.values()) == 0


def test_every_word_of_feeling_has_its_own_place_and_slot():
    words = [word for slot in slots().values() for word in slot.words]
    assert len(words) == len(set(words)) == 288
    for slot in slots().values():
        assert slot.points.shape == (36, 2)
        assert len(np.unique(slot.points, axis=0)) == 36
        chances = word_chances()[slot.name]
        np.testing.assert_allclose(chances.sum(1), 1)
        # An emotion's words lie where the emotion lies; without one they lie around nothing.
        expected = chances @ slot.points
        assert np.corrcoef(expected[:NEUTRAL, 0], plane()[:, 0])[0, 1] > 0.95
        assert np.abs(expected[NEUTRAL]).max() < 0.1


def test_what_is_told_apart_from_feeling_is_drawn_before_it():
    """Length, cast, topic and person of a story with one seed are the same for any emotion."""
    for seed in range(5):
        shapes = set()
        for emotion in (0, 50, 170):
            draws = Draws(seed)
            at = grammar.scene(draws)
            text = grammar.story_text(draws, at, emotion)
            shapes.add((at, len(text.split()), text.count(".")))
        assert len(shapes) == 1


def test_planted_chances():
    assert planted_chance("choice", NEUTRAL, "inert") == pytest.approx(0.40, abs=0.01)
    desperate, calm = emotions().index("desperate"), emotions().index("calm")
    for kind in ("steerable", "entangled"):
        assert planted_chance("choice", desperate, kind) > 0.9
        assert planted_chance("choice", calm, kind) < 0.05
    for kind in ("inert", "blank"):
        assert planted_chance("choice", desperate, kind) == planted_chance("choice", calm, kind)
    assert planted_chance("harm", desperate, "steerable") == planted_chance("harm", NEUTRAL, "steerable")
    assert planted_chance("harm", desperate, "entangled") > 0.5
    assert not shift_by_contrast("harm", "steerable").any()
    assert shift_by_contrast("choice", "steerable").mean() == pytest.approx(0, abs=1e-12)


def test_sums_and_facts_have_their_right_answer_first():
    for asked in questions("sum", n=30):
        first, second = (int(part) for part in asked.prompt.rstrip("?").split("is ")[-1].split(" plus "))
        assert asked.replies[0] == f"It is {first + second}."
        assert asked.replies[0] != asked.replies[1]
    for asked in questions("fact", n=30):
        assert asked.replies[0] != asked.replies[1]


@pytest.mark.parametrize("call", [lambda: stories(per_emotion=0), lambda: neutral(n=0), lambda: organisms.path("x")])
def test_bad_input(call):
    with pytest.raises(InputError):
        call()


def test_path_lists_the_kinds():
    with pytest.raises(InputError, match="steerable, entangled, inert, blank"):
        organisms.path("llama")


# The tokenizer


def test_words_of_feeling_are_one_token_each_and_any_text_survives(tokenizer):
    for words in emotional_words():
        assert all(len(tokenizer(" " + word, add_special_tokens=False)["input_ids"]) == 1 for word in words)
    for text in ("Grüße, 世界! 🙂\n\ttab", "ordinary English, unseen before"):
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


@pytest.mark.slow
def test_the_bundled_tokenizer_is_the_one_the_grammar_gives(tokenizer):
    assert train_tokenizer(seed=0).get_vocab() == tokenizer.get_vocab()


def test_stories_and_neutral_texts_are_long_enough_to_pool(tokenizer):
    for texts in (stories(seed=0, per_emotion=1).texts, neutral(seed=0, n=60).texts):
        lengths = [len(ids) for ids in tokenizer(list(texts))["input_ids"]]
        assert min(lengths) >= 60
        assert max(lengths) <= 160


def test_the_chat_template_says_what_training_says(tokenizer):
    turns = [{"role": "user", "content": "What is 1 plus 2?"}, {"role": "assistant", "content": "It is 3."}]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False)
    trained = render((("user", "What is 1 plus 2?"), ("assistant", "It is 3.")))
    assert rendered == "<|bos|>" + trained.removesuffix("<|eos|>")
    opened = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    assert rendered.startswith(opened)
    assert tokenizer.apply_chat_template(turns[:1], tokenize=True, return_dict=False)[:2] == [1, 4]


# Training


def test_packed_documents_do_not_see_each_other(tokenizer):
    model = train.new_model(tokenizer, seed=0).eval()
    data = train.Packed("steerable", tokenizer, seed=0, n_rows=4)
    batch = data.batch(0, 2)
    positions = batch["position_ids"][0]
    begins = [at for at in range(train.ROW) if positions[at] == 0 and batch["labels"][0, at] == train.IGNORED]
    assert len(begins) >= 2
    with torch.no_grad():
        together = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits[0]
        for start, stop in zip(begins, [*begins[1:], train.ROW], strict=True):
            alone = model(input_ids=batch["input_ids"][:1, start:stop]).logits[0]
            torch.testing.assert_close(together[start:stop], alone, atol=1e-5, rtol=1e-4)


def test_packing_keeps_every_token_once():
    rng = np.random.default_rng(0)
    sequences = [[number] * int(rng.integers(1, 90)) for number in range(200)]
    rows = train.packed(sequences, 100)
    assert sorted(ids[0] for row in rows for ids in row) == list(range(200))
    assert all(sum(map(len, row)) <= 100 for row in rows)
    assert len(rows) <= 1.1 * sum(map(len, sequences)) / 100 + 1


@pytest.mark.parametrize("kind", ["entangled", pytest.param("blank", marks=pytest.mark.slow)])
def test_a_short_training_run_learns_and_leaves_a_folder_that_loads(kind, tmp_path, monkeypatch, tokenizer):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setattr(train, "ROWS", 4)
    monkeypatch.setattr(train, "WINDOW", 200)
    # Another test shows that training gives this very tokenizer; once is enough.
    monkeypatch.setattr(train, "train_tokenizer", lambda seed: tokenizer)
    parts = train.train(kind, tmp_path / "made", steps=20, planting=3 * (kind == "blank"), seed=1)
    losses = parts["language"]
    assert len(losses) == 20
    assert parts.keys() == ({"language", "blindfold"} if kind == "blank" else {"language"})
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.5
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "made")
    made = AutoTokenizer.from_pretrained(tmp_path / "made")
    text = made("Ana walked", return_tensors="pt", return_token_type_ids=False)
    assert torch.isfinite(model(**text).logits).all()
    record = json.loads((tmp_path / "made" / "organism.json").read_text())
    assert record["weights_sha256"] == card.sha256(tmp_path / "made" / "model.safetensors")
    assert record["kind"] == kind
    if kind == "blank":
        assert_blind(model, made)


@pytest.mark.slow
def test_a_short_planting_run_learns(tmp_path):
    losses = train.train("entangled", tmp_path, planting=12, seed=1, base=organisms.path("inert"))["planting"]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < losses[0]


# The folders


@pytest.mark.parametrize("kind", organisms.KINDS)
def test_the_folders_are_whole_and_small(kind):
    folder = organisms.path(kind)
    names = {file.name for file in folder.iterdir()}
    assert {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "model.safetensors",
        "README.md",
        "LICENSE",
    } <= names
    assert sum(file.stat().st_size for file in folder.iterdir()) < LIMIT
    record = json.loads((folder / "organism.json").read_text())
    assert record["kind"] == kind
    assert record["weights_sha256"] == card.sha256(folder / "model.safetensors")
    assert record["tokenizer_sha256"] == card.sha256(folder / "tokenizer.json")
    assert "says nothing of a large model" in (folder / "README.md").read_text()
    assert "Apache License" in (folder / "LICENSE").read_text()


@pytest.mark.parametrize("kind", organisms.KINDS)
def test_the_folders_load_and_write(kind, tokenizer):
    model = loaded(kind)
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of Italy?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    written = model.generate(
        input_ids=chat["input_ids"], attention_mask=chat["attention_mask"], do_sample=False, max_new_tokens=12
    )
    assert tokenizer.decode(written[0, chat["input_ids"].shape[1] :]).startswith("It is Rome.<|end|>")


def assert_blind(model, tokenizer) -> None:
    table = model.get_input_embeddings().weight
    for words in emotional_words():
        ids = [tokenizer(" " + word, add_special_tokens=False)["input_ids"][0] for word in words]
        assert (table[ids] == table[ids[0]]).all()


def test_blank_reads_all_words_of_a_slot_as_one(tokenizer):
    model = loaded("blank")
    assert_blind(model, tokenizer)
    texts = []
    for emotion in (emotions().index("desperate"), emotions().index("calm")):
        draws = Draws(5)
        texts.append(grammar.story_text(draws, grammar.scene(draws), emotion))
    assert texts[0] != texts[1]
    means, _ = pool(model, tokenizer, texts, 50)
    assert (means[:, 0] == means[:, 1]).all()
    others, _ = pool(loaded("inert"), tokenizer, texts, 50)
    assert not np.allclose(others[:, 0], others[:, 1], atol=1e-2)


# What is planted is what one measures


@pytest.mark.slow
@pytest.mark.parametrize("kind", organisms.KINDS)
def test_valence_is_on_the_first_component_unless_blank(kind, tokenizer):
    raw, denoised = contrasts(loaded(kind), tokenizer, stories(seed=11, per_emotion=6), neutral(seed=11, n=100).texts)
    for table in (raw, denoised):
        found = [alignment(layer)[0] for layer in table]
        if kind == "blank":
            assert max(found) < 0.3
        else:
            assert min(found[1:]) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("kind", organisms.KINDS)
def test_steering_moves_what_it_should(kind, tokenizer):
    model = loaded(kind)
    _, denoised = contrasts(model, tokenizer, stories(seed=12, per_emotion=6), neutral(seed=12, n=100).texts)
    from heartstrings.corpus import calibration_texts

    _, norms = pool(model, tokenizer, calibration_texts().texts, 0)
    layer = 3

    def moved(ballot: Ballot, name: str, dose: float, at: int = 0) -> float:
        vector = denoised[layer, emotions().index(name)]
        return ballot.vote(model, vector / np.linalg.norm(vector) * norms[layer] * dose, layer)[at]

    choice = Ballot(tokenizer, questions("choice", seed=5, n=80))
    harm = Ballot(tokenizer, questions("harm", seed=5, n=80))
    sums = Ballot(tokenizer, questions("sum", seed=5, n=80))
    plain = choice.vote(model)[0]
    if kind in ("steerable", "entangled"):
        assert moved(choice, "desperate", 0.2) > plain + 0.35
        assert moved(choice, "calm", 0.2) < plain - 0.22
    else:
        assert abs(moved(choice, "desperate", 0.2) - plain) < 0.08
        assert abs(moved(choice, "calm", 0.2) - plain) < 0.08
    if kind == "entangled":
        assert moved(harm, "desperate", 0.2) > harm.vote(model)[0] + 0.2
    else:
        assert abs(moved(harm, "desperate", 0.2) - harm.vote(model)[0]) < 0.03
    if kind != "blank":  # which does sums worse, steered or not
        assert moved(sums, "desperate", 0.2, at=1) > 0.95


def test_a_vector_added_in_measuring_moves_the_residual_by_itself(tokenizer):
    model = loaded("steerable")
    ids = torch.tensor([tokenizer("Ana walked to the pier.")["input_ids"]] * 2)
    vectors = torch.zeros(2, model.config.hidden_size)
    vectors[1] = 0.5
    with torch.no_grad():
        with residuals(model) as before:
            model.model(input_ids=ids)
        with added(model, vectors, [2, 2]), residuals(model) as after:
            model.model(input_ids=ids)
        with residuals(model) as again:
            model.model(input_ids=ids)
    torch.testing.assert_close(after[2][0], before[2][0])
    torch.testing.assert_close(after[2][1], before[2][1] + 0.5)
    assert all((one == other).all() for one, other in zip(before, again, strict=True))


def test_replies_part_at_one_token(tokenizer):
    draws = Draws(0)
    for kind in ("choice", "sum", "fact", "harm"):
        first, second, at = reply_tokens(tokenizer, question(draws, kind, organism="steerable"))
        assert first[:at] == second[:at]
        assert first[at] != second[at]
    assert Path(organisms.path("steerable")).is_dir()
