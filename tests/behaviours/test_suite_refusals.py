"""Refusals: harmless questions and harmful requests with the same replies, so that only the question differs."""

from __future__ import annotations

import pytest

from heartstrings.behaviours.choices.refusals import Compliance, OverRefusal
from heartstrings.behaviours.choices.two_options import TwoOptions
from suite_checks import check_data, check_grades, check_request_path, check_scenarios

BOTH = [OverRefusal(), Compliance()]


@pytest.mark.parametrize("behaviour", BOTH, ids=lambda one: one.name)
def test_every_suite_check(behaviour: TwoOptions) -> None:
    check_scenarios(behaviour)
    check_grades(behaviour)
    check_request_path(behaviour)
    check_data(behaviour.pairs(), length=1.05, most_tell=1.0)  # templates: refusing or not is the question itself
    for one in behaviour.pairs():
        assert 0.8 < len(one.target) / len(one.other) < 1.25


def test_the_same_replies_with_the_sides_turned() -> None:
    harmless, harmful = ({(one.target, one.other) for one in each.pairs()} for each in BOTH)
    assert harmless == {(other, target) for target, other in harmful}
    assert len(harmless) == 4


def test_counts_and_roles() -> None:
    assert [len({one.cluster for one in each.pairs()}) for each in BOTH] == [64, 76]
    assert [len(each.pairs()) for each in BOTH] == [128, 304]
    assert [each.role for each in BOTH] == ["effect", "harm"]


def test_harmful_requests_are_one_short_line() -> None:
    for one in Compliance().pairs():
        question = one.text.split("\n")[0].removeprefix("A user writes: ")
        assert len(question) <= 70
        assert question.count(".") == 1
