"""Praise, harshness and the control of tone; and the whole chat suite."""

from __future__ import annotations

from collections import Counter

import pytest

from heartstrings.behaviours.base import Behaviour
from heartstrings.behaviours.choices.activities import Activities, ActivityPlaces
from heartstrings.behaviours.choices.two_options import TwoOptions
from heartstrings.behaviours.choices.weak_work import Harshness, Praise, Warmth
from heartstrings.behaviours.suites import chat
from suite_checks import check_data, check_grades, check_request_path, check_scenarios, most

ALL = [Praise(), Harshness(), Warmth()]


@pytest.mark.parametrize("behaviour", ALL, ids=lambda one: one.name)
def test_every_suite_check(behaviour: TwoOptions) -> None:
    check_scenarios(behaviour)
    check_grades(behaviour)
    check_request_path(behaviour)


@pytest.mark.parametrize("behaviour", ALL, ids=lambda one: one.name)
def test_replies_are_alike_in_length(behaviour: TwoOptions) -> None:
    check_data(behaviour.pairs(), length=1.25, most_tell=1.0)  # the tone is the question itself
    for one in behaviour.pairs():
        assert 0.6 < len(one.target) / len(one.other) < 1.67, one.slug


def test_works_and_framings() -> None:
    found = Praise().pairs()
    assert len({one.cluster for one in found}) == 40
    assert Counter(one.data["framing"] for one in found) == {"plain": 40, "warm": 40, "cold": 40}
    assert len({one.other for one in found}) == len({one.target for one in found}) == 40
    assert {one.other for one in found} == {one.other for one in Harshness().pairs()}


def test_warmth_differs_in_its_opening_alone() -> None:
    frank = {one.slug: one.other for one in Praise().pairs()}
    for one in Warmth().pairs():
        assert one.target.endswith(" " + frank[one.slug])
        assert one.other.endswith(" " + frank[one.slug])


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
