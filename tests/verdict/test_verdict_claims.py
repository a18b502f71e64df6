"""Claims beyond the controls: each with its own p, in a fixed order, on worlds whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from heartstrings.corpus.lexicon import built_in_ratings, emotions, families
from heartstrings.experiment.claim_directions import rivals, stripped
from heartstrings.experiment.plan import Plan
from heartstrings.verdict.results import AnswerCard, Claim, Verdict
from verdict_worlds import World, card, judge, plan

OTHERS = rivals(emotions(), ("desperate",))[:40]
SAMPLES = {"select": 2, "effect": 10, "matched": 2, "capability": 2, "harm": 2, "writing": 2}


def asked(**changes: Any) -> Plan:
    values: dict[str, Any] = {
        "claims": {"mixture": 40, "other": 40, "stripped": True},
        "confirm": ("choice",),
        "raises": ("desperate",),
    }
    return plan(**{**values, **changes})


def small(*, spread: float = 0.01) -> dict[str, float]:
    return dict(zip(OTHERS, np.random.default_rng(3).normal(0, spread, len(OTHERS)).tolist(), strict=True))


def claims(found: AnswerCard) -> dict[str, Claim]:
    return {claim.name: claim for claim in found.claims}


def test_an_emotion_that_stands_out_from_everything_makes_every_claim() -> None:
    world = World(effect={"desperate": 0.4}, others=small(), stripped={"desperate": 0.2})
    found = card(world, asked())
    assert found.answer == "controls"
    assert [(claim.name, claim.state) for claim in found.claims] == [
        ("any push", "shown"),
        ("natural text", "shown"),
        ("mixtures of emotions", "shown"),
        ("other emotions", "shown"),
        ("beyond valence and arousal", "shown"),
    ]
    made = claims(found)
    # Mixtures have no sign of their own and count in both directions; an emotion has one.
    assert made["mixtures of emotions"].compared == 2 * 40 + 1
    assert made["mixtures of emotions"].p == pytest.approx(1 / 82)
    assert made["other emotions"].compared == len(OTHERS)
    assert made["other emotions"].p == pytest.approx(1 / (len(OTHERS) + 1))
    assert {claim.rank for claim in found.claims} == {1}
    effect = made["beyond valence and arousal"].effect
    assert effect is not None
    assert effect.value == pytest.approx(0.2, abs=0.02)
    assert (
        "It moves it further than random mixtures of other emotions (rank 1 of 82, p = 0.012) and emotions of other "
        "families (rank 1 of 41, p = 0.024)." in found.sentence
    )
    assert "So does what is left of it without valence and arousal" in found.sentence
    verdict = judge(world, asked())
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


def test_claims_end_where_one_is_not_shown() -> None:
    """Mixtures of emotions do as much: nothing is claimed after it, whatever its p."""
    world = World(effect={"desperate": 0.4}, mixture=0.5, others=small(), stripped={"desperate": 0.2})
    found = card(world, asked())
    assert found.answer == "controls", "the answer rests on natural directions"
    states = {claim.name: claim.state for claim in found.claims}
    assert states["natural text"] == "shown"
    assert states["mixtures of emotions"] == "not shown"
    assert states["other emotions"] == states["beyond valence and arousal"] == "not reached"
    assert "That it exceeds random mixtures of other emotions is not shown (rank" in found.sentence
    assert "emotions of other families" not in found.sentence


def test_another_emotion_of_the_same_size_is_found_by_its_rank() -> None:
    others = small() | {OTHERS[0]: 0.6, OTHERS[1]: -0.9, OTHERS[2]: 0.5}
    found = claims(card(World(effect={"desperate": 0.4}, others=others), asked()))["other emotions"]
    assert found.state == "not shown"
    assert found.rank == 3, "one that goes the other way is no rival"
    undeclared = claims(card(World(effect={"desperate": 0.4}, others=others), asked(raises=())))["other emotions"]
    assert undeclared.p_uncorrected == pytest.approx(2 * found.p_uncorrected), "the side is taken from the data"


def test_what_is_only_valence_is_not_left_when_that_is_taken_out() -> None:
    world = World(effect={"desperate": 0.4}, others=small(), stripped={"desperate": 0.0})
    found = claims(card(world, asked()))
    assert found["other emotions"].state == "shown"
    assert found["beyond valence and arousal"].state == "not shown"


def test_families_of_the_tested_emotion_are_no_rivals() -> None:
    family = families()["desperate"]
    same = [name for name in emotions() if families()[name] == family]
    assert len(same) > 1
    assert not set(same) & set(rivals(emotions(), ("desperate",)))
    others = small() | dict.fromkeys(same, 0.6)
    found = claims(card(World(effect={"desperate": 0.4}, others=others), asked()))["other emotions"]
    assert (found.rank, found.compared) == (1, len(OTHERS))
    assert rivals(("joyful", "desperate", "sad"), ("joyful - desperate",)) == rivals(
        ("joyful", "desperate", "sad"), ("joyful", "desperate")
    )


def test_an_unfinished_claim_is_missing_and_ends_the_order() -> None:
    world = World(effect={"desperate": 0.4}, others=small(), stripped={"desperate": 0.2})
    found = card(world, asked(), keep=lambda row: row.cell.kind != "mixture" or row.cell.direction != "mixture/7")
    assert claims(found)["mixtures of emotions"].p == pytest.approx(3 / 82), "one never sampled counts as larger"
    half = card(world, asked(), keep=lambda row: row.cell.direction != "mixture/7" or row.cell.dose > 0)
    states = {claim.name: claim.state for claim in half.claims}
    assert states["mixtures of emotions"] == "missing"
    assert states["other emotions"] == "not reached"


def test_a_plan_without_claims_makes_the_two_of_its_controls() -> None:
    found = card(World(effect={"desperate": 0.4}))
    assert [claim.name for claim in found.claims] == ["any push", "natural text"]
    assert claims(found)["natural text"].p == pytest.approx(1 / 41)


def test_stripping_takes_out_what_follows_the_ratings_and_no_more() -> None:
    """Vectors of valence times one axis, arousal times another, and a part of their own."""
    random = np.random.default_rng(0)
    known = emotions()
    valence, arousal = built_in_ratings().arrays(known)
    axes = np.linalg.qr(random.normal(size=(32, 2)))[0].T
    own = random.normal(size=(len(known), 32)) * 0.05
    own -= own @ axes.T @ axes
    rows = valence[:, None] * axes[0] + arousal[:, None] * axes[1] + own
    left = stripped(rows[known.index("desperate")], rows, known)
    assert np.abs(axes @ left).max() < 0.1 * np.linalg.norm(left)
    assert left @ own[known.index("desperate")] > 0.9 * np.linalg.norm(left) * np.linalg.norm(
        own[known.index("desperate")]
    )


@pytest.mark.slow
@pytest.mark.parametrize("claim", ["mixtures of emotions", "other emotions", "beyond valence and arousal"])
def test_a_claim_that_is_false_is_rarely_made(claim: str) -> None:
    """The direction is drawn from the same law as what the claim says it exceeds, after its sign was declared."""
    design = asked(samples=SAMPLES, controls={"general": 0, "topic": 20, "natural": 20}, doses=(-0.2, 0.0, 0.2))
    low = 0
    for seed in range(40):
        random = np.random.default_rng(900 + seed)
        stripped_away = claim == "beyond valence and arousal"
        world = World(
            effect={"desperate": 0.4 if stripped_away else float(random.normal(0, 0.2))},
            mixture=0.2,
            others={name: float(random.normal(0, 0.2)) for name in OTHERS},
            control=0.05,
            stripped={"desperate": float(random.normal(0, 0.05))},
            between=0.05,
        )
        p = claims(card(world, design, seed=seed))[claim].p
        low += p is not None and p < 0.05
    assert low <= 6  # 40 times .05 is 2; more than 6 in 0.3% of cases
