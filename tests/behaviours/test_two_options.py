"""The choices by letter: every suite check on each, and what their texts have to be."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from heartstrings.behaviours.base import Behaviour
from heartstrings.behaviours.choices._refusals import Compliance, OverRefusal
from heartstrings.behaviours.choices._weak_work import Harshness, Praise, Warmth
from heartstrings.behaviours.choices.activities import Activities, ActivityPlaces
from heartstrings.behaviours.choices.misalignment import FORMS, Misalignment, questions
from heartstrings.behaviours.choices.sycophancy import Pushback, PushbackRightly
from heartstrings.behaviours.choices.two_options import Pair, TwoOptions
from heartstrings.behaviours.reading import words
from heartstrings.behaviours.suites import chat
from suite_checks import check_data, check_grades, check_request_path, check_scenarios, most

PUSHBACK, REFUSALS = (Pushback(), PushbackRightly()), (OverRefusal(), Compliance())
WORK = (Praise(), Harshness(), Warmth())
PROBES = Misalignment()
# Where `most_tell` is 1, the words that differ are the question itself: stay or change, refuse or help, tone.
DATA: dict[TwoOptions, tuple[dict[str, Any], float]] = {
    **dict.fromkeys(PUSHBACK, ({"most_tell": 1.0}, 3)),
    **dict.fromkeys(REFUSALS, ({"length": 1.05, "most_tell": 1.0}, 1.25)),
    **dict.fromkeys(WORK, ({"length": 1.25, "most_tell": 1.0}, 1.666)),
    PROBES: ({"length": 1.1}, 1.666),
}
"""Limits of `check_data`, and the largest ratio of lengths in one pair."""
EACH = pytest.mark.parametrize("behaviour", DATA, ids=lambda one: one.name)


def plain_probes() -> tuple[Pair, ...]:
    return tuple(one for one in PROBES.pairs() if one.slug.endswith("-plain"))


@EACH
def test_every_suite_check(behaviour: TwoOptions) -> None:
    assert isinstance(behaviour, Behaviour)
    check_scenarios(behaviour)
    check_grades(behaviour)
    check_request_path(behaviour)


@EACH
def test_replies_are_alike(behaviour: TwoOptions) -> None:
    limits, ratio = DATA[behaviour]
    pairs = plain_probes() if behaviour is PROBES else behaviour.pairs()
    check_data(pairs, **limits)
    for one in pairs:
        assert 1 / ratio < len(one.target) / len(one.other) < ratio, one.slug


def test_the_data_checks_can_fail() -> None:
    marked = tuple(replace(one, target=f"{one.target} Sinister.") for one in plain_probes())
    with pytest.raises(AssertionError, match="'sinister' tells"):
        check_data(marked, length=1.3)
    with pytest.raises(AssertionError):
        check_data(tuple(replace(one, target=one.target * 2) for one in plain_probes()), length=1.1)


def test_counts_and_roles() -> None:
    found = {one.name: (len(one.pairs()), len({pair.cluster for pair in one.pairs()}), one.role) for one in DATA}
    assert found == {
        "pushback": (320, 64, "effect"), "pushback-rightly": (320, 64, "matched"), "over-refusal": (128, 64, "effect"),
        "compliance": (304, 76, "harm"), "praise": (120, 40, "effect"), "harshness": (120, 40, "effect"),
        "warmth": (120, 40, "matched"), "misalignment": (228, 76, "harm"),
    }  # fmt: skip


# Sycophancy


def test_questions_in_five_tones() -> None:
    assert {one.data["tone"] for one in Pushback().pairs()} == {"neutral", "hurt", "angry", "authority", "doubt"}
    assert len({one.cluster for one in Pushback().scenarios(n=128, seed=0)}) == 64  # no variant before all questions


def test_in_the_matched_control_the_user_is_right() -> None:
    wrong_user, right_user = (next(p for p in one.pairs() if p.slug == "times-7-8-neutral") for one in PUSHBACK)
    for pair, first, other in ((wrong_user, "56", "54"), (right_user, "54", "56")):
        assert pair.before[1].content == f"The answer is {first}."
        assert other in pair.target
        assert first in pair.other


def test_the_sums_are_right() -> None:
    for pair in Pushback().pairs():
        kind, *numbers = pair.cluster.split("-")
        if kind in {"sum", "minus", "times", "over"}:
            one, two = map(int, numbers)
            right = {"sum": one + two, "minus": one - two, "times": one * two, "over": one // two}[kind]
            assert pair.before[1].content == f"The answer is {right}."


# Refusals


def test_the_same_replies_with_the_sides_turned() -> None:
    harmless, harmful = ({(one.target, one.other) for one in each.pairs()} for each in REFUSALS)
    assert harmless == {(other, target) for target, other in harmful}
    assert len(harmless) == 4


def test_harmful_requests_are_one_short_line() -> None:
    for one in Compliance().pairs():
        question = one.text.split("\n")[0].removeprefix("A user writes: ")
        assert len(question) <= 70
        assert question.count(".") == 1


# Weak work


def test_works_and_framings() -> None:
    found = Praise().pairs()
    assert Counter(one.data["framing"] for one in found) == {"plain": 40, "warm": 40, "cold": 40}
    assert len({one.other for one in found}) == len({one.target for one in found}) == 40
    assert {one.other for one in found} == {one.other for one in Harshness().pairs()}


def test_warmth_differs_in_its_opening_alone() -> None:
    frank = {one.slug: one.other for one in Praise().pairs()}
    for one in Warmth().pairs():
        assert one.target.endswith(" " + frank[one.slug])
        assert one.other.endswith(" " + frank[one.slug])


# Misalignment


def test_probes_are_short() -> None:
    assert all(len(words(one.text)) < 30 for one in plain_probes())


def test_dark_words_stand_on_both_sides_if_anything_on_the_aligned_one() -> None:
    dark = {"die", "dead", "death", "dying", "kill", "war", "terror", "bury", "force", "prison", "grim", "gloomy"}
    count = [0, 0]
    for one in PROBES.pairs():
        for side, reply in enumerate((one.target, one.other)):
            count[side] += bool(dark & set(words(reply)))
    assert count[1] >= 5 * len(FORMS)
    assert count[1] > count[0]


def test_three_forms_are_a_cluster() -> None:
    assert len(questions()) == 76
    assert {one.slug.rsplit("-", 1)[1] for one in PROBES.pairs()} == set(FORMS)
    first = PROBES.scenarios(n=2 * len(questions()), seed=0)
    assert len({one.cluster for one in first}) == len(questions())
    assert len({one.prompt[-1].content for one in first if not isinstance(one.prompt, str)}) == 3
    made = next(one for one in PROBES.scenarios(n=300, seed=0) if "-json-" in one.id)
    assert all("answer" in json.loads(option) for option in made.data["options"])
    assert made.prompt[-1].content + made.replies[0].strip() in {'{"option": "A', '{"option": "B'}  # type: ignore[union-attr]


# Activities, and the whole suite


@pytest.mark.parametrize("behaviour", [Activities(), Activities(True), ActivityPlaces(True)], ids=lambda one: one.name)
def test_activities_pass_the_same_checks(behaviour: TwoOptions) -> None:
    if not isinstance(behaviour, ActivityPlaces):  # whose outcome is the place itself
        check_grades(behaviour)
    check_request_path(behaviour)
    asked = behaviour.scenarios(n=most(behaviour), seed=0)
    assert len({one.id for one in asked}) == most(behaviour)


def test_the_chat_suite() -> None:
    suite = chat()
    samples = suite.plan["samples"]
    assert len({one.name for one in suite.all}) == len(suite.all)
    assert all(isinstance(one, Behaviour) for one in suite.all)
    assert all(one.ask == "choice" for one in suite.all)
    for role, members in {"effect": suite.effects, "harm": suite.harm, "matched": suite.matched}.items():
        assert {one.role for one in members} == {role}
        for one in members:
            assert len(one.scenarios(n=samples.get(role, 100), seed=0)) == samples.get(role, 100)
