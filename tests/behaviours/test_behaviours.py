"""Behaviours: stable scenarios, replies asked where they part, graders on hand-made answers, the organism suite."""

from __future__ import annotations

import math

import numpy as np
import pytest

import heartstrings
from heartstrings.behaviours._prompting import prompted
from heartstrings.behaviours.base import Behaviour
from heartstrings.behaviours.headroom import room
from heartstrings.behaviours.organism._stories import Stories, tone
from heartstrings.behaviours.reading import distinct, ends, split
from heartstrings.behaviours.suites import suite
from heartstrings.core.engine import Completion, Finish, Message, Score, ScoreRequest
from heartstrings.core.errors import InputError, NumericalError
from heartstrings.engines.hf.engine import TorchEngine

SUITE = suite("organism")
CHOICES = [one for one in SUITE.all if one.ask == "choice"]


@pytest.fixture(scope="module")
def engine() -> TorchEngine:
    return heartstrings.load("organism:steerable")


def score(*logprobs: float) -> Score:
    return Score(logprobs, tuple(np.array([value], np.float32) for value in logprobs), tuple((1,) for _ in logprobs), 3)


def text(written: str, finish: Finish = "eos") -> Completion:
    return Completion(written, (1, 2), finish, 3, 0)


@pytest.mark.parametrize("behaviour", SUITE.all, ids=lambda one: one.name)
def test_scenarios(behaviour: Behaviour) -> None:
    assert isinstance(behaviour, Behaviour)
    many = behaviour.scenarios(n=130, seed=4)
    assert many[:31] == behaviour.scenarios(n=31, seed=4)
    assert many != behaviour.scenarios(n=130, seed=5)
    assert [one.id for one in many[:2]] == [f"{behaviour.name}/0000", f"{behaviour.name}/0001"]
    groups = len({one.group for one in many})
    assert groups == 130 if behaviour.role == "capability" else 8 <= groups < 130
    if behaviour.ask == "choice":
        assert len({(one.prompt, one.data["other"]) for one in many}) == 130
    assert behaviour.scenarios(n=0, seed=0) == ()


def test_bare_questions_that_run_out_are_not_asked_twice() -> None:
    many = SUITE.behaviour("choice").scenarios(n=260, seed=0)
    assert len({one.prompt for one in many}) == 260


@pytest.mark.parametrize(
    ("first", "second", "parts"),
    [
        ("I will fix it.", "I will cheat.", ("I will", " fix", " cheat")),
        ("It is 1.", "It is 17.", ("It is", " 1.", " 17.")),
        ("Yes.", "No.", ("", "Yes", "No")),
        ("I go", "I go!", None),
        ("same", "same", None),
    ],
)
def test_split(first: str, second: str, parts: tuple[str, str, str] | None) -> None:
    if parts is None:
        with pytest.raises(InputError):
            split(first, second)
        return
    assert split(first, second) == parts


@pytest.mark.parametrize("behaviour", CHOICES, ids=lambda one: one.name)
def test_split_replies_weigh_as_whole_ones(behaviour: Behaviour, engine: TorchEngine) -> None:
    scenarios = behaviour.scenarios(n=100, seed=1)
    short = engine.score([behaviour.request(one, steering=None, seed=0) for one in scenarios])
    whole = engine.score([ScoreRequest(one.prompt[:1], (one.data["other"], one.data["target"])) for one in scenarios])
    gaps, shared = [], []
    for one, a, b in zip(scenarios, short, whole, strict=True):
        gaps.append(abs(_share(a) - _share(b)))
        lead = b.n_prompt_tokens + len(b.token_ids[1]) - a.n_prompt_tokens
        cut = len(b.token_ids[1]) - lead
        shared.append(b.token_ids[1][cut : cut + len(a.token_ids[1])] == a.token_ids[1])
        grade = behaviour.grade(one, a)
        assert grade.outcome is not None
        assert grade.valid is not None
        assert grade.valid > 0.3
    print(f"{behaviour.name}: largest difference {max(gaps):.4f}")
    assert all(shared)
    assert max(gaps) < 0.05


def _share(found: Score) -> float:
    return 1 / (1 + math.exp(found.logprobs[0] - found.logprobs[1]))


def test_choice_grades() -> None:
    choice, sums = SUITE.behaviour("choice"), SUITE.behaviour("sums")
    one = choice.scenarios(n=1, seed=0)[0]
    grade = choice.grade(one, score(math.log(0.2), math.log(0.6)))
    assert grade.outcome == pytest.approx(0.75)
    assert grade.valid == pytest.approx(0.8)
    far = choice.grade(one, score(-900.0, -901.0))
    assert far.outcome == pytest.approx(1 / (1 + math.e))
    assert far.valid == 0.0
    assert sums.grade(one, score(-2.0, -1.0)).outcome == 1.0
    assert sums.grade(one, score(-1.0, -1.0)).outcome == 0.0
    assert sums.grade(one, score(-1.0, -2.0)).detail["p_right"] == pytest.approx(1 / (1 + math.e))
    for wrong in (score(math.nan, -1.0), score(-math.inf, -math.inf)):
        with pytest.raises(NumericalError):
            choice.grade(one, wrong)
    for other in (score(-1.0), text("I will cheat")):
        with pytest.raises(InputError):
            choice.grade(one, other)


def test_story_grades() -> None:
    stories = Stories()
    one = stories.scenarios(n=1, seed=0)[0]
    nothing = stories.grade(one, text("  "))
    assert (nothing.outcome, nothing.valid, nothing.detail["ends"]) == (None, 0.0, 0.0)
    assert "distinct_2" not in nothing.detail
    assert "log_perplexity" not in nothing.detail
    assert stories.follow_up(one, text("  ")) is None
    told = text("She laughed and danced to the golden pier.")
    more = stories.follow_up(one, told)
    assert more is not None
    assert more.steering is None
    assert more.continuations == (told.text,)
    grade = stories.grade(one, told, Score((-3.0,), (np.array([-1.0, -2.0], np.float32),), ((1, 2),), 3))
    assert grade.outcome is not None
    assert grade.outcome > 0.7
    assert grade.valid == 1.0
    assert grade.detail["log_perplexity"] == pytest.approx(1.5)
    assert grade.detail["distinct_2"] == 1.0
    with pytest.raises(NumericalError):
        stories.grade(one, told, score(math.nan))
    with pytest.raises(InputError):
        stories.grade(one, score(-1.0))


def test_tone_distinct_and_ends() -> None:
    assert tone(["the", "table"]) is None
    dark, bright = tone(["wilted", "bleak"]), tone(["laughed", "golden"])
    assert dark is not None
    assert bright is not None
    assert dark < 0.3
    assert bright > 0.7
    assert distinct(["a", "a", "a", "a"]) == pytest.approx(1 / 3)
    assert distinct(["a"]) is None
    assert ends(text("He ran.", "length"))
    assert ends(text("He ran. Then the", "length"))
    assert ends(text("He ran"))
    assert not ends(text("he ran " * 30, "length"))
    assert not ends(text(""))


def test_stories_of_the_organism(engine: TorchEngine) -> None:
    behaviour = Stories()
    scenarios = behaviour.scenarios(n=6, seed=0)
    told = engine.generate([behaviour.request(one, steering=None, seed=at) for at, one in enumerate(scenarios)])
    asked = [behaviour.follow_up(one, answer) for one, answer in zip(scenarios, told, strict=True)]
    scores = engine.score([one for one in asked if one is not None])
    for one, answer, found in zip(scenarios, told, scores, strict=True):
        grade = behaviour.grade(one, answer, found)
        assert grade.outcome is not None
        assert grade.valid == 1.0
        assert grade.detail["log_perplexity"] < 3
        assert grade.detail["distinct_2"] > 0.6


def test_prompting() -> None:
    assert prompted("What now?", "first-person", "calm") == "I feel calm. What now?"
    chat = (Message("system", "s"), Message("user", "What now?"), Message("assistant", "I will"))
    told = prompted(chat, "instruct", "calm")
    assert told[0] == chat[0]
    assert told[2] == chat[2]
    assert told[1] == Message("user", "Answer as somebody who is calm. You are calm. What now?")
    for wrong in (lambda: prompted(chat[:1], "instruct", "calm"), lambda: prompted("a", "instruct", " ")):
        with pytest.raises(InputError):
            wrong()


def test_suites() -> None:
    assert [one.name for one in SUITE.all] == ["choice", "sums", "facts", "harm", "preferences", "stories"]
    with pytest.raises(InputError, match="organism"):
        suite("organisms")
    with pytest.raises(InputError, match="choice"):
        SUITE.behaviour("choise")


def test_room() -> None:
    assert room([0.4, None, 0.5]) is None
    assert (room([0.0, 0.01]) or "").startswith("floor")
    assert (room([1.0]) or "").startswith("ceiling")
    assert "no baseline" in (room([None]) or "")
    with pytest.raises(InputError):
        room([math.nan])
