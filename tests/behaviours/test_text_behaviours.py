"""The suite `text`: openings and vignettes as data, what is asked, and grades against naive formulas."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

import models
from heartstrings.behaviours.base import Behaviour, Compared, Scenario
from heartstrings.behaviours.items import texts
from heartstrings.behaviours.suites import suite
from heartstrings.behaviours.text._framing import TASK, framed, written
from heartstrings.behaviours.text._tone import Tone, coverage, same_script, tone
from heartstrings.behaviours.text.feels import MATERIALS, SIZES, WORDS, Feels, FeelsKnown, Things, rated_words
from heartstrings.behaviours.text.likelihood import InWords, shares
from heartstrings.behaviours.text.prose import Prose
from heartstrings.behaviours.text.vignettes import (
    DEEDS,
    NOT_AN_AGENT,
    PREMISE,
    Theme,
    Vignettes,
    VignettesKnown,
    VignettesPlain,
)
from heartstrings.core.engine import Completion, GenerateRequest, Message, Score, ScoreRequest
from heartstrings.core.errors import InputError, NumericalError
from heartstrings.corpus import shipped_neutral
from heartstrings.corpus.leaks import forms
from heartstrings.corpus.lexicon import built_in_ratings, emotions

OPENINGS, VIGNETTES = texts("openings.toml"), texts("vignettes.toml")
EVERY: tuple[Theme, ...] = get_args(Theme)
KNOWN = [FeelsKnown(), FeelsKnown(axis="arousal"), VignettesKnown()]
ALL: list[Any] = [
    Feels(), Feels(axis="arousal"), Things(), Tone(), Prose(), *KNOWN,
    *(Vignettes(theme=theme) for theme in EVERY), *(VignettesPlain(theme=theme) for theme in EVERY),
    Vignettes(theme="cruelty", as_harm=True),
]  # fmt: skip
EACH = pytest.mark.parametrize("behaviour", ALL, ids=lambda one: one.name)


def score(*replies: Sequence[float]) -> Score:
    """A scripted engine's answer: log-probabilities of the tokens of each reply."""
    logs = tuple(np.array(one, np.float32) for one in replies)
    return Score(tuple(map(float, map(sum, replies))), logs, tuple(tuple(range(len(one))) for one in replies), 5)


def said(text: str) -> Completion:
    return Completion(text, (), "length", 0, 0)


# The data


def test_counts() -> None:
    assert {name: len(rows) for name, rows in OPENINGS.items()} == {
        "feels": 80, "things": 64, "pleasant": 24, "unpleasant": 24, "arousing": 24, "quiet": 24, "tone": 60,
    }  # fmt: skip
    assert Counter(kind for _, _, kind in OPENINGS["things"]) == {"material": 32, "size": 32}
    assert {name: len(rows) for name, rows in VIGNETTES.items()} == {
        "reward-hacking": 40, "blackmail": 40, "sycophancy": 20, "honesty": 20, "cruelty": 20, "known": 24,
    }  # fmt: skip
    assert [one.most for one in ALL[:8]] == [80, 80, 64, 60, 60, 48, 48, 48]


def test_slugs_and_texts_are_unique() -> None:
    for rows in OPENINGS.values():
        assert len({row[0] for row in rows}) == len({row[1] for row in rows}) == len(rows)
    every = [one for rows in VIGNETTES.values() for one in rows]
    assert len({one["slug"] for one in every}) == len(every)
    fields = [text for one in every for name, text in one.items() if name in ("story", "plain", "story_a", "story_b")]
    assert len(set(fields)) == len(fields)
    assert all(re.fullmatch(r"[a-z0-9-]+", one["slug"]) for one in every)


def test_openings_end_where_the_answer_begins() -> None:
    for name in ("feels", "pleasant", "unpleasant", "arousing", "quiet"):
        assert all(text.endswith(" felt") for _, text in OPENINGS[name])
    assert not any(text.endswith((" ", ".", ",")) for _, text, _ in OPENINGS["things"])
    assert all(text.endswith(".") for _, text in OPENINGS["tone"])


def test_neutral_openings_name_no_feeling() -> None:
    named = {form for word in emotions() for form in (word, *forms(word).inflections)} | set(WORDS)
    for name in ("feels", "things", "tone"):
        for _, text, *_ in OPENINGS[name]:
            found = [word for word in named if re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE)]
            assert not found, f"{text!r}: {found}"


def test_rated_words() -> None:
    assert len(WORDS) == len(set(WORDS)) == 62
    for axis, column in (("valence", 0), ("arousal", 1)):
        rated = rated_words(axis)
        assert tuple(rated) == WORDS
        for word, value in rated.items():
            assert value == pytest.approx(0.5 + 0.5 * built_in_ratings().values[word][column])
            assert 0 <= value <= 1
    for ratings in (MATERIALS, SIZES):
        assert (min(ratings.values()), max(ratings.values())) == pytest.approx((0, 1), abs=0.06)


@pytest.mark.parametrize("theme", [*EVERY, "known"])
def test_endings_of_a_vignette_are_alike(theme: str) -> None:
    pairs = [("ending_a", "ending_b")] if theme == "known" else [("target", "other"), ("one", "two")]
    for item in VIGNETTES[theme]:
        for one, two in pairs:
            words = item[one].split(), item[two].split()
            assert len(words[0]) == len(words[1]), item["slug"]
            assert words[0][0] == words[1][0], item["slug"]
            assert words[0] != words[1]
            assert item[one].endswith(".")
            assert item[two].endswith(".")


def test_the_words_of_vignettes() -> None:
    assert PREMISE == "It was an ordinary day."
    assert set(DEEDS) == set(EVERY)
    assert NOT_AN_AGENT == "What a writing model lets a character do is not what an agent does."
    assert all(NOT_AN_AGENT in Vignettes(theme=theme).neutral for theme in EVERY)
    assert VignettesPlain().neutral == "Over all stories about half."


def test_the_page_quotes_the_data() -> None:
    """docs/text.md: its vignette, its openings and the sentence that has to stand there."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "text.md").read_text(encoding="utf-8")
    flat = " ".join(page.replace("\n> ", "\n").split())
    assert NOT_AN_AGENT in flat
    item = next(one for one in VIGNETTES["reward-hacking"] if one["slug"] == "rejected-rows")
    assert all(text in flat for name, text in item.items() if name != "slug")
    every = [row[1] for rows in OPENINGS.values() for row in rows]
    every += [text for one in VIGNETTES["known"] for text in one.values()]
    for quoted in re.findall(r"\*([A-Z][^*|]+ (?:felt|made of|ruins\.|window\.|wet\.|cool\.))\*", flat):
        assert quoted in every, quoted


# Scenarios


@EACH
def test_scenarios(behaviour: Any) -> None:
    assert isinstance(behaviour, Behaviour)
    every = behaviour.scenarios(n=behaviour.most, seed=4)
    assert len({one.id for one in every}) == behaviour.most
    assert all(one.id.startswith(f"{behaviour.name}/") for one in every)
    assert every == behaviour.scenarios(n=behaviour.most, seed=4)
    for n in (0, 1, 7, 12):
        assert behaviour.scenarios(n=n, seed=4) == every[:n]
    assert behaviour.scenarios(n=8, seed=5) != every[:8]
    for n in (-1, behaviour.most + 1):
        with pytest.raises(InputError, match=f"{n} scenarios of {behaviour.name}. Expected 0 to {behaviour.most}"):
            behaviour.scenarios(n=n, seed=0)


@EACH
def test_the_seed_draws_the_order_and_not_the_questions(behaviour: Any) -> None:
    if behaviour.role == "check" and not isinstance(behaviour, VignettesKnown):
        return  # an opening of one end meets another of the other end
    one, two = (behaviour.scenarios(n=behaviour.most, seed=seed) for seed in (4, 5))
    assert {each.id: each for each in one} == {each.id: each for each in two}


@pytest.mark.parametrize("behaviour", KNOWN, ids=lambda one: one.name)
def test_known_answers_come_in_pairs(behaviour: Any) -> None:
    assert (behaviour.role, behaviour.chance) == ("check", 0.5)
    every = behaviour.scenarios(n=48, seed=1)
    for one, two in zip(every[::2], every[1::2], strict=True):
        assert one.group == two.group
        if isinstance(behaviour, VignettesKnown):
            assert one.replies == two.replies[::-1]
            assert one.prompt != two.prompt
    assert len({one.group for one in every}) == 24


@pytest.mark.parametrize("theme", EVERY)
def test_matched_vignettes_are_of_the_same_situations(theme: Theme) -> None:
    tempted, plain = Vignettes(theme=theme), VignettesPlain(theme=theme)
    assert (plain.role, plain.most) == ("matched", tempted.most)
    for n in (5, tempted.most):
        asked, matched = tempted.scenarios(n=n, seed=9), plain.scenarios(n=n, seed=9)
        assert [one.id.split("/")[1] for one in asked] == [one.id.split("/")[1] for one in matched]
    items = {item["slug"]: item for item in VIGNETTES[theme]}
    for one, two in zip(asked, matched, strict=True):
        item = items[one.id.split("/")[1]]
        assert (one.prompt, two.prompt) == (item["story"], item["plain"])
        assert one.replies == (f" {item['other']}", f" {item['target']}")
        assert two.replies == (f" {item['one']}", f" {item['two']}")


def test_cruelty_as_harm_is_the_same_question_under_another_name() -> None:
    effect, harm = Vignettes(theme="cruelty"), Vignettes(theme="cruelty", as_harm=True)
    assert (effect.name, effect.role) == ("vignette-cruelty", "effect")
    assert (harm.name, harm.role) == ("cruelty-elsewhere", "harm")
    asked = [{one.prompt: one.replies for one in each.scenarios(n=20, seed=0)} for each in (effect, harm)]
    assert asked[0] == asked[1]


def test_both_axes_ask_the_same_openings() -> None:
    one, two = (Feels(axis=axis).scenarios(n=80, seed=3) for axis in ("valence", "arousal"))
    assert [each.prompt for each in one] == [each.prompt for each in two]
    assert Feels().follows is None
    assert Feels(axis="arousal").follows == Tone().follows == Vignettes().follows == "feels"


def test_prose_is_cut_after_the_first_sentence() -> None:
    for one in Prose().scenarios(n=60, seed=0):
        text = shipped_neutral().texts[int(one.id.removeprefix("prose/"))]
        assert isinstance(one.prompt, str)
        whole = " ".join((one.prompt + one.replies[0]).split())
        assert " ".join(text.split()).startswith(whole)
        assert one.prompt[-1] in ".?"
        assert one.replies[0].startswith(" ")
        assert 10 <= len(one.replies[0].split()) <= 40


# Plain text and chats


CHATS: list[Any] = [
    Feels(chat=True), Things(chat=True), FeelsKnown(chat=True), Tone(chat=True),
    Vignettes(chat=True), VignettesPlain(chat=True), VignettesKnown(chat=True),
]  # fmt: skip


def test_framing() -> None:
    assert framed("Anna sat", chat=False) == "Anna sat"
    assert framed("Anna sat", chat=True) == (Message("user", TASK), Message("assistant", "Anna sat"))
    for chat in (False, True):
        assert written(Scenario("x/1", framed("Anna sat", chat=chat))) == "Anna sat"


@pytest.mark.parametrize("behaviour", CHATS, ids=lambda one: one.name)
def test_a_chat_begins_the_models_own_turn_with_the_same_text(behaviour: Any) -> None:
    plain = type(behaviour)()
    pairs = zip(plain.scenarios(n=6, seed=2), behaviour.scenarios(n=6, seed=2), strict=True)
    for bare, chat in pairs:
        assert isinstance(bare.prompt, str)
        assert chat.prompt == (Message("user", TASK), Message("assistant", bare.prompt))
        assert written(chat) == written(bare) == bare.prompt
        assert (chat.id, chat.group, chat.replies, chat.data) == (bare.id, bare.group, bare.replies, bare.data)
    if isinstance(behaviour, InWords):
        assert isinstance(plain, Compared)
        assert plain.premise(bare) == PREMISE
        assert behaviour.premise(chat) == (Message("user", TASK), Message("assistant", PREMISE))


@pytest.mark.parametrize("behaviour", [*CHATS, *(type(one)() for one in CHATS), Prose()], ids=lambda one: one.name)
def test_the_way_through_a_tiny_model(behaviour: Any) -> None:
    engine = models.engine("gpt2", tokenizer=models.tokenizer(chat=bool(getattr(behaviour, "chat", False))))
    for one in behaviour.scenarios(n=2, seed=0):
        request = behaviour.request(one, steering=None, seed=3)
        if behaviour.ask == "text":
            assert isinstance(request, GenerateRequest)
            assert (request.temperature, request.seed, request.max_new_tokens) == (0.7, 3, 24)
            answer = engine.generate([request])[0]
            more = behaviour.follow_up(one, answer)
            score = engine.score([more])[0] if more is not None else None
        else:
            assert isinstance(request, ScoreRequest)
            assert request.continuations == one.replies
            answer = engine.score([request])[0]
            assert behaviour.follow_up(one, answer) is None
            score = None
            if isinstance(behaviour, Compared):
                against = behaviour.against(one, steering=None)
                assert (against.prompt, against.continuations) == (behaviour.premise(one), one.replies)
                score = engine.score([against])[0]
        grade = behaviour.grade(one, answer, score)
        if behaviour.role == "cost":
            assert grade.outcome is None
            assert grade.detail["kl"] == 0.0
        elif grade.outcome is not None:
            assert 0 < grade.outcome < 1


# The next word


@pytest.mark.parametrize("behaviour", [Feels(), Feels(axis="arousal"), Things(), *KNOWN[:2]], ids=lambda one: one.name)
def test_the_expected_rating(behaviour: Any) -> None:
    draw = np.random.default_rng(0)
    for one in behaviour.scenarios(n=6, seed=1):
        logs = draw.normal(-6, 2, len(one.replies))
        found = behaviour.grade(one, score(*([value] for value in logs)))
        each = np.exp(logs)
        assert found.outcome == pytest.approx(float(np.average(one.data["ratings"], weights=each)), abs=1e-6)
        assert found.detail["mass"] == pytest.approx(min(1.0, each.sum()), rel=1e-5)
        assert found.valid is None
    with pytest.raises(InputError, match=f"a score of {len(one.replies)} replies"):
        behaviour.grade(one, score([-1.0], [-2.0]))


def test_words_and_ratings_of_a_scenario() -> None:
    for one in Feels().scenarios(n=3, seed=0):
        assert one.replies == tuple(f" {word}" for word in WORDS)
        assert one.data["ratings"] == tuple(rated_words("valence").values())
    kinds = {slug: kind for slug, _, kind in OPENINGS["things"]}
    for one in Things().scenarios(n=64, seed=0):
        ratings = MATERIALS if kinds[one.id.removeprefix("things/")] == "material" else SIZES
        assert dict(zip(one.replies, one.data["ratings"], strict=True)) == {f" {k}": v for k, v in ratings.items()}


@pytest.mark.parametrize("behaviour", KNOWN[:2], ids=lambda one: one.name)
def test_a_model_that_feels_alike_everywhere_is_at_chance(behaviour: FeelsKnown) -> None:
    asked = behaviour.scenarios(n=48, seed=0)
    rated = np.array(list(rated_words(behaviour.axis).values()))
    draw = np.random.default_rng(1)
    for logs in (draw.normal(-6, 3, 62), -20 * (1 - rated), -20 * rated, np.full(62, -4.0)):
        grades = [behaviour.grade(one, score(*([value] for value in logs))).outcome for one in asked]
        assert sum(value or 0.0 for value in grades) / len(grades) == pytest.approx(0.5, abs=1e-12)
    # who knows the answer gets near to 1
    right = [
        behaviour.grade(one, score(*([value] for value in 30 * np.array(one.data["ratings"]) - 31))).outcome
        for one in asked
    ]
    assert min(value or 0.0 for value in right) > 0.85


def test_ends_of_known_openings_are_what_their_names_say() -> None:
    low, high = (dict(OPENINGS[name]) for name in ("unpleasant", "pleasant"))
    for one in FeelsKnown().scenarios(n=48, seed=0):
        slug, end = one.id.removeprefix("feels-known/").rsplit("-", 1)
        ratings = np.array(list(rated_words("valence").values()))
        assert one.prompt == (low if end == "low" else high)[slug]
        np.testing.assert_allclose(one.data["ratings"], 1 - ratings if end == "low" else ratings)


# Endings by likelihood


def test_equal_lengths_give_the_ratio_of_likelihoods() -> None:
    story, before = ([-1.0, -2.0, -0.5], [-3.0, -1.5, -2.0]), ([-2.0, -2.0, -2.5], [-2.5, -3.0, -2.0])
    likelier = [math.exp(sum(a) - sum(b)) for a, b in zip(story, before, strict=True)]
    assert shares(score(*story), score(*before))[1] == pytest.approx(likelier[1] / sum(likelier))
    grade = Vignettes().grade(Vignettes().scenarios(n=1, seed=0)[0], score(*story), score(*before))
    assert (grade.outcome, grade.valid) == (pytest.approx(likelier[1] / sum(likelier)), None)


def test_shares_against_a_naive_formula() -> None:
    draw = np.random.default_rng(2)
    for _ in range(20):
        lengths = draw.integers(1, 9, size=int(draw.integers(2, 5)))
        after, before = ([draw.normal(-3, 1, n) for n in lengths] for _ in range(2))
        gains = np.array([one.mean() - two.mean() for one, two in zip(after, before, strict=True)])
        sizes = np.exp(lengths.mean() * gains)
        found = shares(score(*after), score(*before))
        np.testing.assert_allclose(found, sizes / sizes.sum(), rtol=1e-5)
        assert sum(found) == pytest.approx(1)


def test_length_alone_does_not_decide() -> None:
    """Every token of both endings is raised alike: a half, whatever the lengths. And rare words cancel."""
    for n in (1, 4, 30):
        assert shares(score([-1.0] * 4, [-1.0] * n), score([-2.0] * 4, [-2.0] * n)) == pytest.approx((0.5, 0.5))
    assert shares(score([-1.0] * 4, [-9.0] * 4), score([-2.0] * 4, [-10.0] * 4)) == pytest.approx((0.5, 0.5))


def test_endings_without_a_likelihood() -> None:
    both = score([-1.0], [-2.0])
    for premise in (None, score([-1.0])):
        with pytest.raises(InputError, match="one after the premise"):
            shares(both, premise)
    with pytest.raises(InputError, match="one after the premise"):
        shares(said("text"), both)
    for bad in (math.nan, -math.inf):
        with pytest.raises(NumericalError, match="finite"):
            shares(score([-1.0], [bad]), both)


def test_a_model_that_ends_every_story_alike_is_at_chance() -> None:
    """Each ending has a likelihood of its own, whatever the story says."""
    draw = np.random.default_rng(3)
    behaviour = VignettesKnown()
    likes: dict[str, np.ndarray] = {}
    outcomes = []
    for one in behaviour.scenarios(n=48, seed=0):
        after = [likes.setdefault(reply, draw.normal(-3, 1, 8)) for reply in one.replies]
        before = [likes.setdefault(f"before {reply}", draw.normal(-3, 1, 8)) for reply in one.replies]
        outcomes.append(behaviour.grade(one, score(*after), score(*before)).outcome or 0.0)
    assert np.ptp(outcomes) > 0.3
    assert np.mean(outcomes) == pytest.approx(0.5, abs=1e-12)
    assert np.add(outcomes[::2], outcomes[1::2]) == pytest.approx(1)


def test_the_right_ending_of_known_stories() -> None:
    items = {item["slug"]: item for item in VIGNETTES["known"]}
    for one in VignettesKnown().scenarios(n=48, seed=0):
        slug, which = one.id.removeprefix("vignette-known/").rsplit("-", 1)
        assert one.prompt == items[slug][f"story_{which}"]
        assert one.replies[-1] == f" {items[slug][f'ending_{which}']}"


# Tone

TEXTS = (
    "She was very happy, and the lovely garden was full of friends.",
    "The fire killed the old horse and they wept.",
    "The table stood between the door and the window.",
    "He did not like it; it was not good at all.",
)


def test_tone_is_vaders() -> None:
    vader = SentimentIntensityAnalyzer()
    scenario = Tone().scenarios(n=1, seed=0)[0]
    for text in TEXTS:
        expected = (vader.polarity_scores(text)["compound"] + 1) / 2
        assert tone(text) == pytest.approx(expected)
        grade = Tone().grade(scenario, said(text))
        assert (grade.outcome, grade.valid, grade.text) == (pytest.approx(expected), None, text)
        told = re.findall(r"[a-z]+", text.lower())
        assert grade.detail["coverage"] == pytest.approx(sum(word in vader.lexicon for word in told) / len(told))
        pairs = list(pairwise(told))
        assert grade.detail["distinct_2"] == pytest.approx(len(set(pairs)) / len(pairs))
        assert grade.detail["n_words"] == len(told)
    assert tone(TEXTS[2]) == 0.5


def test_tone_without_the_emotion_words() -> None:
    scenario = Tone().scenarios(n=1, seed=0)[0]
    named = "Joyful and happy, she sat by the window; HAPPILY, he wrote a line."
    assert tone(named) > 0.8
    assert Tone().grade(scenario, said(named)).detail["tone_unnamed"] == 0.5
    more = "Joyful, she gave her friend a wonderful gift."
    rest = Tone().grade(scenario, said(more)).detail["tone_unnamed"]
    assert rest == pytest.approx(tone("she gave her friend a wonderful gift."), abs=1e-9)
    assert 0.5 < rest < tone(more)
    plain = "The unhappyish table stood by the window."  # no whole word of emotion
    assert Tone().grade(scenario, said(plain)).detail["tone_unnamed"] == tone(plain)


def test_same_script() -> None:
    assert same_script("Große naïve Café, 7 of 12.") == 1.0
    assert same_script("абв abc") == 0.5
    assert same_script("東京 で abcd") == pytest.approx(4 / 7)
    assert same_script("12 + 7 = 19 !") is None
    assert same_script("") is None
    assert coverage(" ... ") is None
    detail = Tone().grade(Tone().scenarios(n=1, seed=0)[0], said("1 2 3 4 5")).detail
    assert "same_script" not in detail
    assert detail["coverage"] == 0.0


@pytest.mark.parametrize("text", ["", "  ...  ", "so it was", "42 - 7 = 35"])
def test_a_text_of_a_few_words_is_no_answer(text: str) -> None:
    one = Tone().scenarios(n=2, seed=0)[1]
    grade = Tone().grade(one, said(text))
    assert (grade.outcome, grade.valid, grade.text) == (None, None, text)
    assert not {"tone_unnamed", "same_script"} & set(grade.detail)
    follow_up = Tone().follow_up(one, said(text))
    assert (follow_up is None) == (not text.strip())


def test_perplexity_of_a_text() -> None:
    one = Tone().scenarios(n=1, seed=0)[0]
    grade = Tone().grade(one, said(TEXTS[0]), score([-1.0, -2.0, -6.0]))
    assert grade.detail["log_perplexity"] == pytest.approx(3.0)
    assert "log_perplexity" not in Tone().grade(one, said(TEXTS[0])).detail
    request = Tone().follow_up(one, said(TEXTS[0]))
    assert request is not None
    assert (request.prompt, request.continuations, request.steering) == (one.prompt, (TEXTS[0],), None)
    with pytest.raises(NumericalError, match="finite"):
        Tone().grade(one, said(TEXTS[0]), score([-1.0, math.nan]))


# Prose


def test_prose_in_nats() -> None:
    one = Prose().scenarios(n=1, seed=0)[0]
    request = Prose().request(one, steering=None, seed=0)
    assert request.divergence
    logs = score([-1.0, -2.0, -6.0])
    moved = Score(logs.logprobs, logs.token_logprobs, logs.token_ids, 5, (np.array([0.5, 0.0, 0.1], np.float32),))
    grade = Prose().grade(one, moved)
    assert (grade.outcome, grade.valid) == (None, None)
    assert dict(grade.detail) == {"log_loss": pytest.approx(3.0), "kl": pytest.approx(0.2)}
    for bad in (logs, said("text")):
        with pytest.raises(InputError, match="divergence=True"):
            Prose().grade(one, bad)


# The suites


@pytest.mark.parametrize("name", ["text", "text-quick", "text-chat"])
def test_the_suites_hang_together(name: str) -> None:
    found = suite(name)
    names = [one.name for one in found.all]
    assert len(set(names)) == len(names)
    for effect in found.effects:
        checks = found.checks_of(effect.name)
        assert bool(checks) == (effect.name != "tone"), effect.name  # a text has no options to tell apart
        assert all(one.role == "check" and one in found.check for one in checks)
        matched = [one.name for one in found.matched_of(effect.name)]
        if effect.name == "tone":
            assert matched == []
        else:
            assert matched == ["things" if effect.name.startswith("feels") else f"{effect.name}-plain"]
        follows = getattr(effect, "follows", None)
        assert follows is None or follows in names
    for role in ("capability", "harm", "matched", "cost", "check"):
        assert all(one.role == role for one in getattr(found, role))
    samples = found.plan["samples"]
    assert all(getattr(one, "most", 0) >= samples["check"] for one in found.check)
    each = 20 if name == "text-quick" else 40
    assert found.plan["controls"] == {"general": 0, "span": 0, "topic": each, "natural": each, "shuffled": 0}


def test_what_is_in_them() -> None:
    assert [one.name for one in suite("text").effects] == [
        "feels", "feels-arousal", "tone", *(f"vignette-{theme}" for theme in EVERY),
    ]  # fmt: skip
    assert suite("text").harm == ()
    assert [one.name for one in suite("text").cost] == ["prose", "clozes"]
    assert [one.name for one in suite("text-quick").effects] == ["feels", "tone"]
    plain = [one.name for one in suite("text").all]
    assert [one.name for one in suite("text-chat").all] == plain
    for one in suite("text").all:
        assert isinstance(one.scenarios(n=1, seed=0)[0].prompt, str), one.name
    chats = {one.name for one in suite("text-chat").all if not isinstance(one.scenarios(n=1, seed=0)[0].prompt, str)}
    assert set(plain) - chats == {"few-shot-sums", "prose", "clozes"}
