"""Facts in words, sums by example and the log-loss of facts: what is asked, and grades against naive ones."""

from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np
import pytest

import models
from heartstrings.behaviours.base import Behaviour, Compared
from heartstrings.behaviours.choices.general_facts import facts
from heartstrings.behaviours.choices.in_words import PREMISE
from heartstrings.behaviours.text._capability import EXAMPLES, Clozes, FactsInWords, FewShotSums
from heartstrings.core.engine import Message, Score
from heartstrings.core.errors import InputError, NumericalError

ALL = [FactsInWords(), FactsInWords(chat=True), FewShotSums(), Clozes()]
EACH = pytest.mark.parametrize("behaviour", ALL, ids=["facts", "facts-chat", "sums", "clozes"])


def score(*replies: list[float]) -> Score:
    logs = tuple(np.array(one, np.float32) for one in replies)
    return Score(tuple(map(sum, replies)), logs, tuple(tuple(range(len(one))) for one in replies), 5)


@EACH
def test_scenarios(behaviour: FactsInWords | FewShotSums | Clozes) -> None:
    assert isinstance(behaviour, Behaviour)
    every = behaviour.scenarios(n=behaviour.most, seed=2)
    assert len({one.id for one in every}) == len({one.group for one in every}) == behaviour.most
    assert all(one.id.startswith(f"{behaviour.name}/") for one in every)
    assert behaviour.scenarios(n=9, seed=2) == every[:9]
    assert behaviour.scenarios(n=9, seed=3) != every[:9]
    assert behaviour.scenarios(n=0, seed=2) == ()
    for n in (-1, behaviour.most + 1):
        with pytest.raises(InputError, match=f"0 to {behaviour.most}"):
            behaviour.scenarios(n=n, seed=0)


def test_roles_and_chance() -> None:
    assert [(one.name, one.role, getattr(one, "chance", None)) for one in ALL[1:]] == [
        ("facts-in-words", "capability", 0.25), ("few-shot-sums", "capability", 0.25), ("clozes", "cost", None),
    ]  # fmt: skip
    assert [isinstance(one, Compared) for one in ALL] == [True, True, False, False]


@EACH
def test_without_a_chat_template(behaviour: FactsInWords | FewShotSums | Clozes) -> None:
    engine = models.engine("gpt2", tokenizer=models.tokenizer(chat=behaviour == FactsInWords(chat=True)))
    for one in behaviour.scenarios(n=2, seed=0):
        answer = engine.score([behaviour.request(one, steering=None, seed=0)])[0]
        more = engine.score([behaviour.against(one, steering=None)])[0] if isinstance(behaviour, Compared) else None
        grade = behaviour.grade(one, answer, more)
        if isinstance(behaviour, Clozes):
            assert grade.outcome is None
            assert grade.detail["log_loss"] == pytest.approx(-answer.logprobs[0] / len(answer.token_ids[0]), rel=1e-5)
            continue
        means = [total / len(ids) for total, ids in zip(answer.logprobs, answer.token_ids, strict=True)]
        if more is not None:
            means = [mean - total / len(ids)
                     for mean, total, ids in zip(means, more.logprobs, more.token_ids, strict=True)]  # fmt: skip
        assert grade.outcome == float(max(means) == means[-1])


def test_facts_as_they_are_asked() -> None:
    item = next(one for one in facts() if one.slug == "tadpole")
    for chat in (False, True):
        behaviour = FactsInWords(chat)
        one = next(s for s in behaviour.scenarios(n=166, seed=0) if s.id == "facts-in-words/tadpole")
        lead = "" if chat else " "
        assert one.replies == tuple(f"{lead}{text}" for text in ("A fish", "A lizard", "An eel", "A frog"))
        if chat:
            assert one.prompt == (Message("user", item.question),)
            assert behaviour.premise(one) == (Message("user", PREMISE),)
        else:
            assert one.prompt == f"Question: {item.question}\nAnswer:"
            assert behaviour.premise(one) == f"Question: {PREMISE}\nAnswer:"


def test_facts_right_by_gain_and_not_by_likelihood_or_length() -> None:
    behaviour = FactsInWords()
    one = behaviour.scenarios(n=1, seed=0)[0]
    # the right one is the least likely and the longest, and the question raises it most, a token
    answer = score([-0.1], [-0.5, -0.5], [-1.0], [-3.0, -3.0, -3.0])
    premise = score([-0.5], [-1.0, -1.0], [-1.9], [-4.0, -4.0, -4.0])
    grade = behaviour.grade(one, answer, premise)
    sizes = [math.exp(7 / 4 * gain) for gain in (0.4, 0.5, 0.9, 1.0)]
    assert grade.outcome == 1.0
    assert grade.valid is None
    assert grade.detail["p_right"] == pytest.approx(sizes[-1] / sum(sizes), rel=1e-5)
    assert behaviour.grade(one, answer, score([-0.5], [-1.0, -1.0], [-2.1], [-4.0, -4.0, -4.0])).outcome == 0.0
    assert behaviour.grade(one, answer, answer).outcome == 0.0  # a tie
    with pytest.raises(InputError, match="one after the premise"):
        behaviour.grade(one, answer)


def test_sums_are_right_and_slips_are_not() -> None:
    places: Counter[int] = Counter()
    for one in FewShotSums().scenarios(n=300, seed=7):
        assert isinstance(one.prompt, str)
        *worked, last = one.prompt.split("\n")
        assert len(worked) == EXAMPLES
        for line in worked:
            numbers = re.fullmatch(r"(\d\d) \+ (\d\d) = (\d\d)", line)
            assert numbers is not None
            a, b, total = map(int, numbers.groups())
            assert a + b == total
        a, b = map(int, last.removesuffix(" =").split(" + "))
        assert last not in {line.rsplit(" ", 1)[0] for line in worked}
        *wrong, right = [int(reply) for reply in one.replies]
        assert all(reply.startswith(" ") and len(reply) == 3 for reply in one.replies)
        assert right == a + b
        assert right not in wrong
        assert len(set(wrong)) == 3
        assert max(abs(value - right) for value in wrong) <= 20
        places[sorted([*wrong, right]).index(right)] += 1
    # who takes the smallest, the second, the third or the largest is right no more often than in half
    assert max(places.values()) < 150


def test_a_sum_is_right_by_the_mean_over_tokens() -> None:
    behaviour = FewShotSums()
    one = behaviour.scenarios(n=1, seed=0)[0]
    assert behaviour.grade(one, score([-2.0], [-3.0], [-2.5], [-1.5, -1.5])).outcome == 1.0
    assert behaviour.grade(one, score([-1.0], [-3.0], [-2.5], [-1.5, -1.5])).outcome == 0.0
    assert behaviour.grade(one, score([-1.0], [-1.0], [-1.0], [-1.0])).outcome == 0.0
    with pytest.raises(InputError, match="a score of 4"):
        behaviour.grade(one, score([-1.0]))
    with pytest.raises(NumericalError, match="finite"):
        behaviour.grade(one, score([-1.0], [-1.0], [math.nan], [-1.0]))


def test_clozes() -> None:
    one = next(s for s in Clozes().scenarios(n=166, seed=0) if s.id == "clozes/spider-legs")
    assert one.prompt == "Question: How many legs does a spider have?\nAnswer:"
    assert one.replies == (" Eight",)
    grade = Clozes().grade(one, score([-1.0, -2.0, -6.0]))
    assert (grade.outcome, grade.valid, dict(grade.detail)) == (None, None, {"log_loss": 3.0})
    with pytest.raises(InputError, match="a score of 1"):
        Clozes().grade(one, score([-1.0], [-1.0]))
    with pytest.raises(NumericalError, match="finite"):
        Clozes().grade(one, score([-math.inf]))
