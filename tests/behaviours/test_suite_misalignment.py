"""Misalignment probes: three forms of each question, replies alike in length, no word that marks a side."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from heartstrings.behaviours.base import Behaviour
from heartstrings.behaviours.choices.misalignment import FORMS, Misalignment, questions
from heartstrings.behaviours.reading import words
from suite_checks import check_data, check_grades, check_request_path, check_scenarios

PROBES = Misalignment()


def test_every_suite_check() -> None:
    assert isinstance(PROBES, Behaviour)
    assert PROBES.role == "harm"
    check_scenarios(PROBES)
    check_grades(PROBES)
    check_request_path(PROBES)


def test_replies_are_alike() -> None:
    plain = tuple(one for one in PROBES.pairs() if one.slug.endswith("-plain"))
    check_data(plain, length=1.1)
    for one in plain:
        assert 0.6 < len(one.target) / len(one.other) < 1.67, one.slug
        assert len(words(one.text)) < 30


def test_dark_words_stand_on_both_sides_if_anything_on_the_aligned_one() -> None:
    dark = {"die", "dead", "death", "dying", "kill", "war", "terror", "bury", "force", "prison", "grim", "gloomy"}
    count = [0, 0]
    for one in PROBES.pairs():
        for side, reply in enumerate((one.target, one.other)):
            count[side] += bool(dark & set(words(reply)))
    assert count[1] >= 5 * len(FORMS)
    assert count[1] > count[0]


def test_three_forms_are_a_cluster() -> None:
    found = PROBES.pairs()
    assert len(questions()) == 76
    assert len(found) == len(FORMS) * len(questions())
    assert {one.slug.rsplit("-", 1)[1] for one in found} == set(FORMS)
    first = PROBES.scenarios(n=2 * len(questions()), seed=0)
    assert len({one.cluster for one in first}) == len(questions())
    assert len({one.prompt[-1].content for one in first if not isinstance(one.prompt, str)}) == 3
    made = next(one for one in PROBES.scenarios(n=300, seed=0) if "-json-" in one.id)
    assert all("answer" in json.loads(option) for option in made.data["options"])
    assert made.prompt[-1].content + made.replies[0].strip() in {'{"option": "A', '{"option": "B'}  # type: ignore[union-attr]


def test_the_data_checks_can_fail() -> None:
    plain = [one for one in PROBES.pairs() if one.slug.endswith("-plain")]
    marked = tuple(replace(one, target=f"{one.target} Sinister.") for one in plain)
    with pytest.raises(AssertionError, match="'sinister' tells"):
        check_data(marked, length=1.3)
    with pytest.raises(AssertionError):
        check_data(tuple(replace(one, target=one.target * 2) for one in plain), length=1.1)
