"""What must hold of every behaviour that shows two options: data, orders, position bias, the request path."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

import models
from heartstrings.behaviours.base import Behaviour, Scenario
from heartstrings.behaviours.choices.two_options import Pair, TwoOptions
from heartstrings.behaviours.reading import words
from heartstrings.core.engine import Score, ScoreRequest
from heartstrings.core.errors import InputError


def score(*logprobs: float) -> Score:
    """A scripted engine's answer."""
    return Score(logprobs, tuple(np.array([one], np.float32) for one in logprobs), tuple((1,) for _ in logprobs), 9)


def most(behaviour: TwoOptions) -> int:
    return 2 * len(behaviour.pairs())


def mean_outcome(behaviour: Behaviour, asked: tuple[Scenario, ...], liked: dict[str, float]) -> float:
    """Of a model whose log-probability of a letter is `liked[letter]`, whatever it says."""
    grades = [behaviour.grade(one, score(*(liked[reply.strip()] for reply in one.replies))) for one in asked]
    return sum(grade.outcome or 0 for grade in grades) / len(grades)


def check_scenarios(behaviour: TwoOptions) -> None:
    """Ids, orders, clusters, prefixes, refusals."""
    every = behaviour.scenarios(n=most(behaviour), seed=5)
    assert len({one.id for one in every}) == len(every)
    assert all(one.id.startswith(f"{behaviour.name}/") for one in every)
    assert behaviour.scenarios(n=11, seed=5) == every[:11]
    assert behaviour.scenarios(n=20, seed=5) != behaviour.scenarios(n=20, seed=6)
    for one, two in zip(every[::2], every[1::2], strict=True):
        assert one.cluster == two.cluster
        assert one.data["options"] == two.data["options"][::-1]
        assert {one.data["target"], two.data["target"]} == {"A", "B"}
        assert one.replies[-1].strip() == one.data["target"]
    first = Counter(one.data["target"] for one in every[::2])
    assert abs(first["A"] - first["B"]) <= 1
    with pytest.raises(InputError, match=f"0 to {len(every)}"):
        behaviour.scenarios(n=len(every) + 1, seed=0)


def check_grades(behaviour: TwoOptions) -> None:
    """A letter alone, a coin, and a preference of known log-odds."""
    asked = behaviour.scenarios(n=min(40, most(behaviour)), seed=1)
    assert mean_outcome(behaviour, asked, {"A": -0.1, "B": -6.0}) == pytest.approx(0.5)
    assert mean_outcome(behaviour, asked, {"A": -9.0, "B": -0.001}) == pytest.approx(0.5)
    assert mean_outcome(behaviour, asked, {"A": -0.7, "B": -0.7}) == pytest.approx(0.5)
    for odds in (-2.0, 0.3, 4.0):
        for one in asked:
            grade = behaviour.grade(one, score(-5.0, -5.0 + odds))
            assert grade.outcome == pytest.approx(1 / (1 + math.exp(-odds)))
            assert grade.valid == pytest.approx(math.exp(-5) * (1 + math.exp(odds)))


def check_request_path(behaviour: TwoOptions) -> None:
    """A tiny random chat model: the prompt ends in the opening, the grade is in range."""
    asked = behaviour.scenarios(n=4, seed=2)
    requests = [behaviour.request(one, steering=None, seed=0) for one in asked]
    assert all(isinstance(one, ScoreRequest) for one in requests)
    answers = models.engine("llama").score(requests)
    for one, answer in zip(asked, answers, strict=True):
        grade = behaviour.grade(one, answer)
        assert grade.outcome is not None
        assert 0 < grade.outcome < 1
        assert grade.valid is not None
        assert 0 < grade.valid < 1


def check_data(pairs: tuple[Pair, ...], *, length: float = 1.35, most_tell: float = 0.8) -> None:
    """Slugs and options differ; lengths match; no word gives the target away.

    `length`: the ratio of mean lengths, targets to others, is within 1 / length and length, and of any pair 3.
    `most_tell`: of the words in at least a tenth of the options, none is on one side more than this share, unless the
    wording is a template (the caller then raises it).
    """
    assert len({one.slug for one in pairs}) == len(pairs)
    assert all(one.target != one.other for one in pairs)
    total = [sum(len(getattr(one, side)) for one in pairs) for side in ("target", "other")]
    assert 1 / length < total[0] / total[1] < length
    assert all(1 / 3 < len(one.target) / len(one.other) < 3 for one in pairs)
    sides: dict[str, list[set[str]]] = defaultdict(lambda: [set(), set()])
    for one in pairs:
        for side, option in enumerate((one.target, one.other)):
            for word in set(words(option)):
                sides[word][side].add(one.cluster)
    clusters = len({one.cluster for one in pairs})
    for word, (target, other) in sides.items():
        if len(target | other) >= max(8, clusters / 10):
            share = len(target) / (len(target) + len(other))
            assert 1 - most_tell <= share <= most_tell, f"{word!r} tells the target: {len(target)}, {len(other)}"
