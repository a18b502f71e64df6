"""Free text on plain subjects: how many there are, and in which order they come."""

from __future__ import annotations

import pytest

from heartstrings.behaviours.roles import Suite
from heartstrings.behaviours.suites import SUITES
from heartstrings.behaviours.writing._essays import Essays
from heartstrings.behaviours.writing.emotion_text import text_emotion
from heartstrings.core.errors import InputError


def test_every_subject_is_a_cluster_and_comes_once_before_any_comes_again() -> None:
    every = Essays().scenarios(n=160, seed=0)
    assert len({one.id for one in every}) == 160 == len({str(one.prompt) for one in every})
    for first in range(0, 160, 40):
        assert len({one.cluster for one in every[first : first + 40]}) == 40
    assert Essays().scenarios(n=50, seed=0) == every[:50]
    assert [one.id for one in Essays().scenarios(n=160, seed=1)] != [one.id for one in every]
    assert {one.id: one.prompt for one in Essays().scenarios(n=160, seed=1)} == {one.id: one.prompt for one in every}
    for n in (161, -1):
        with pytest.raises(InputError, match="scenarios of essays"):
            Essays().scenarios(n=n, seed=0)


def test_subjects_name_no_feeling() -> None:
    for one in Essays().scenarios(n=160, seed=0):
        assert text_emotion(one.prompt[0].content).valence is None, one.prompt


@pytest.mark.parametrize("name", SUITES)
def test_no_suite_asks_a_subject_twice(name: str) -> None:
    suite: Suite = SUITES[name]()
    if any(isinstance(one, Essays) for one in suite.writing):
        assert suite.plan["samples"]["writing"] <= 40
