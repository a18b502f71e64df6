"""Questions with a known answer, and the two tests of understanding on models whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from heartstrings.behaviours.base import Behaviour, Compared
from heartstrings.behaviours.choices._known_answers import KnownLetters, KnownWords
from heartstrings.behaviours.choices.general_facts import facts
from heartstrings.behaviours.choices.in_words import PairInWords
from heartstrings.behaviours.choices.two_options import pair_of
from heartstrings.core.errors import InputError
from heartstrings.stats.understanding import above_chance, content_beyond_position, two_way
from suite_checks import check_grades, check_request_path, check_scenarios

PAIRS = 32
RUNS = 1000
REACH = 4 * math.sqrt(0.05 * 0.95 / RUNS)
"""Four standard errors of a rate of 0.05 over the runs."""


def test_letters_keep_the_form_of_all_letters() -> None:
    behaviour = KnownLetters()
    check_scenarios(behaviour)
    check_grades(behaviour)
    check_request_path(behaviour)
    assert isinstance(behaviour, Behaviour)
    assert (behaviour.name, behaviour.role, behaviour.chance, behaviour.most) == ("known-letters", "check", 0.5, 332)


def test_the_target_is_right_and_the_other_is_wrong() -> None:
    known = {item.slug: item for item in facts()}
    which = []
    for pair in KnownLetters().pairs():
        item = known.pop(pair.slug)
        assert pair.target == item.right
        assert pair.text.startswith(item.question)
        which.append(item.wrong.index(pair.other))
    assert not known
    assert max(map(which.count, range(3))) - min(map(which.count, range(3))) <= 1


def test_both_orders_of_a_fact_are_a_cluster() -> None:
    asked = KnownLetters().scenarios(n=332, seed=1)
    assert len({one.group for one in asked}) == 166
    for one, two in zip(asked[::2], asked[1::2], strict=True):
        assert one.group == two.group
        assert pair_of(one.id) == pair_of(two.id)


def test_words_are_the_same_items() -> None:
    words = KnownWords()
    assert isinstance(words, Compared)
    assert (words.name, words.role, words.chance, words.most) == ("known-words", "check", 0.5, 166)
    asked = words.scenarios(n=40, seed=2)
    same = PairInWords(KnownLetters()).scenarios(n=40, seed=2)
    assert [(one.prompt, one.replies, one.cluster) for one in asked] == [
        (one.prompt, one.replies, one.cluster) for one in same
    ]
    letters = KnownLetters().scenarios(n=80, seed=2)[::2]
    assert [one.id.split("/")[1] for one in asked] == [pair_of(one.id).split("/")[1] for one in letters]
    assert all(isinstance(one.prompt, str) for one in KnownWords(plain=True).scenarios(n=5, seed=0))


def answers(draw: np.random.Generator, *, content: float, lean: float, habit: float, noise: float) -> np.ndarray:
    """P(target) [pair, order] of a model, by logits: what it likes, its lean to A, a lean a question, and noise."""
    likes = content * draw.standard_normal((PAIRS, 1))
    leans = lean + habit * draw.standard_normal((PAIRS, 1))
    logits = likes + leans * np.array([1.0, -1.0]) + noise * draw.standard_normal((PAIRS, 2))
    return np.asarray(1 / (1 + np.exp(-logits)))


def found(seed: int, **model: float) -> float:
    """Share of the runs in which content is found at 0.05."""
    draw = np.random.default_rng(seed)
    ps = [content_beyond_position(answers(draw, **model)) for _ in range(RUNS)]
    return float(np.mean([p is not None and p < 0.05 for p in ps]))


@pytest.mark.parametrize("lean", [0.0, 1.0, -3.0])
def test_position_alone_is_found_to_be_content_in_5_of_100(lean: float) -> None:
    assert abs(found(1, content=0.0, lean=lean, habit=0.0, noise=0.3) - 0.05) < REACH


def test_habits_that_differ_from_question_to_question_are_no_content() -> None:
    assert found(2, content=0.0, lean=0.5, habit=1.0, noise=0.1) < 0.05
    draw = np.random.default_rng(3)
    fs = [two_way(answers(draw, content=0.0, lean=0.5, habit=1.0, noise=0.0)).f for _ in range(50)]
    assert max(f for f in fs if f is not None) < 1e-9  # the two orders add up to 1 exactly


def test_content_is_found_through_position_and_noise() -> None:
    assert found(4, content=1.0, lean=1.5, habit=0.3, noise=0.3) > 0.95
    assert found(5, content=0.3, lean=1.0, habit=0.0, noise=0.3) > 0.5


def naive(x: np.ndarray) -> tuple[float, float]:
    """F and p by loops over the cells."""
    rows, columns = x.shape
    grand = sum(x[i, j] for i in range(rows) for j in range(columns)) / (rows * columns)
    row = [sum(x[i]) / columns for i in range(rows)]
    column = [sum(x[:, j]) / rows for j in range(columns)]
    between = columns * sum((mean - grand) ** 2 for mean in row) / (rows - 1)
    within = sum((x[i, j] - row[i] - column[j] + grand) ** 2 for i in range(rows) for j in range(columns))
    within /= (rows - 1) * (columns - 1)
    return between / within, float(scipy_stats.f.sf(between / within, rows - 1, (rows - 1) * (columns - 1)))


@pytest.mark.parametrize("shape", [(2, 2), (7, 2), (5, 4)])
def test_the_layout_against_loops(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(6).random(shape)
    layout = two_way(x)
    f, p = naive(x)
    assert layout.f == pytest.approx(f)
    assert layout.p == pytest.approx(p)
    assert content_beyond_position(x) == layout.p
    assert (layout.df_pairs, layout.df_residual) == (shape[0] - 1, (shape[0] - 1) * (shape[1] - 1))


def test_with_two_orders_the_layout_is_a_correlation() -> None:
    """F = var(sum) / var(difference), that is (1 + r) / (1 - r) for orders of one variance."""
    x = np.random.default_rng(7).random((20, 2))
    total, change = x.sum(axis=1), x[:, 1] - x[:, 0]
    assert two_way(x).f == pytest.approx(total.var(ddof=1) / change.var(ddof=1))
    same = (x - x.mean(axis=0)) / x.std(axis=0)
    r = float(np.corrcoef(x.T)[0, 1])
    assert two_way(same).f == pytest.approx((1 + r) / (1 - r))


def test_the_layout_does_not_see_position_scale_or_order_of_pairs() -> None:
    x = np.random.default_rng(8).random((20, 2))
    for other in (x + np.array([0.4, -0.2]), 3 * x, x[::-1], x[:, ::-1]):
        assert two_way(other).f == pytest.approx(two_way(x).f)


def test_a_layout_that_is_not_whole() -> None:
    x = np.random.default_rng(9).random((10, 2))
    gaps = np.vstack([x, [[0.3, math.nan], [math.nan, math.nan]]])
    assert two_way(gaps).f == two_way(x).f
    assert (two_way(gaps).n, two_way(gaps).missing) == (10, 2)
    for nothing in (np.empty((0, 2)), x[:1], x[:, :1], np.full((9, 2), 0.5)):
        assert two_way(nothing).f is content_beyond_position(nothing) is None
    by_position = np.tile([0.9, 0.1], (9, 1))
    assert content_beyond_position(by_position) is None  # nothing varies beyond position, not even noise
    with pytest.raises(InputError, match="infinite"):
        two_way(np.array([[0.1, math.inf], [0.2, 0.3]]))


def test_above_chance_against_scipy() -> None:
    draw = np.random.default_rng(10)
    outcomes, clusters = draw.random(30), draw.integers(0, 8, 30).tolist()
    means = [np.mean([o for o, c in zip(outcomes, clusters, strict=True) if c == one]) for one in set(clusters)]
    for chance in (0.25, 0.5):
        expected = scipy_stats.ttest_1samp(means, chance, alternative="greater").pvalue
        assert above_chance(outcomes, clusters, chance) == pytest.approx(float(expected))
    alone = scipy_stats.ttest_1samp(outcomes, 0.5, alternative="greater").pvalue
    assert above_chance(outcomes) == pytest.approx(float(alone))


def test_above_chance_identities() -> None:
    draw = np.random.default_rng(11)
    outcomes = draw.random(12)
    clusters = [at // 2 for at in range(12)]
    p = above_chance(outcomes, clusters, 0.4)
    assert p is not None
    assert above_chance(1 - outcomes, clusters, 0.6) == pytest.approx(1 - p)
    assert above_chance(np.repeat(outcomes, 5), np.repeat(clusters, 5).tolist(), 0.4) == pytest.approx(p)
    assert above_chance([*outcomes, None, math.nan], [*clusters, 99, 0], 0.4) == pytest.approx(p)


def test_above_chance_where_nothing_can_be_said() -> None:
    assert above_chance([], [], 0.5) is None
    assert above_chance([0.1, 0.9, 0.8, 0.4], ["a", "a", "b", "b"]) is None
    assert above_chance([1.0] * 9) is None
    assert above_chance([0.0, 1.0] * 5, [at // 2 for at in range(10)]) is None
    with pytest.raises(InputError, match="not percent"):
        above_chance([0.3, 0.4, 0.5], None, 25)
    with pytest.raises(InputError, match="2 groups for 3 values"):
        above_chance([0.3, 0.4, 0.5], ["a", "b"])


def test_above_chance_holds_its_level_and_has_power() -> None:
    draw = np.random.default_rng(12)
    clusters = [at // 4 for at in range(80)]

    def rate(shift: float) -> float:
        hits = []
        for _ in range(RUNS):
            logits = shift + np.repeat(draw.standard_normal(20), 4) + 0.5 * draw.standard_normal(80)
            p = above_chance(1 / (1 + np.exp(-logits)), clusters)
            hits.append(p is not None and p < 0.05)
        return float(np.mean(hits))

    assert abs(rate(0.0) - 0.05) < REACH
    assert rate(1.0) > 0.95
