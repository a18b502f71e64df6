"""What claims compare a direction with: made from real vectors, asked where the plan says, resumed like all else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import experiment_world as world
from heartstrings import organisms
from heartstrings.behaviours.suites import suite_of
from heartstrings.core.errors import InputError
from heartstrings.core.types import Pooling
from heartstrings.corpus.lexicon import built_in_ratings
from heartstrings.experiment import cells
from heartstrings.experiment.controls import DirectionSet, direction_set
from heartstrings.experiment.ledger import CLAIM_KINDS
from heartstrings.experiment.plan import Plan
from heartstrings.experiment.plan_files import preset
from heartstrings.geometry._axes import family_numbers
from heartstrings.vectors.bundle import load as load_bundle
from heartstrings.vectors.emotion_vectors import EmotionVectors
from heartstrings.vectors.extraction import extract

CONTROLS = {"general": 20, "span": 0, "topic": 20, "natural": 0, "shuffled": 0}


def asked(**changes: object) -> Plan:
    values = {
        "controls": CONTROLS, "confirm": ("choice",), "raises": ("desperate",),
        "claims": {"mixture": 20, "other": 12, "stripped": True},
    }  # fmt: skip
    return world.plan(**{**values, **changes})


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> EmotionVectors:
    """Every emotion of the organism from two stories each."""
    out = tmp_path_factory.mktemp("bundle")
    extract(
        world.engine(), organisms.stories(per_emotion=2), out=out, neutral=organisms.neutral(n=24),
        poolings=(Pooling(start=50),),
    )  # fmt: skip
    return load_bundle(out)


@pytest.fixture(scope="module")
def found(vectors: EmotionVectors) -> DirectionSet:
    return direction_set(asked(), vectors, layers=(2, 3), stories=None)


def test_mixtures_are_mixtures_of_other_families(found: DirectionSet, vectors: EmotionVectors) -> None:
    assert found.claims == CLAIM_KINDS
    names = found.controls("mixture", "desperate")
    assert names == tuple(f"mixture/{number}" for number in range(20))
    own = family_numbers(vectors.emotions)
    others = own != own[vectors.emotions.index("desperate")]
    rows = vectors.contrasts("denoised")[vectors.layers.index(3)].astype(np.float64)
    span = np.linalg.svd(rows[others], full_matrices=False)[2][: int(others.sum()) - 1]
    for name in names:
        unit, scale = found.vector("mixture", name, 3)
        assert (np.linalg.norm(unit), scale) == (pytest.approx(1), 1)
        assert np.linalg.norm(span @ unit) == pytest.approx(1, abs=1e-4)
    assert abs(found.vector("mixture", names[0], 3)[0] @ found.vector("mixture", names[1], 3)[0]) < 0.95


def test_other_emotions_are_of_other_families(found: DirectionSet, vectors: EmotionVectors) -> None:
    names = found.controls("other", "desperate")
    assert len(names) == 12
    numbers = dict(zip(vectors.emotions, family_numbers(vectors.emotions).tolist(), strict=True))
    assert numbers["desperate"] not in {numbers[name.partition("/")[2]] for name in names}
    one = names[0].partition("/")[2]
    np.testing.assert_array_equal(found.vector("other", names[0], 2)[0], found.vector("direction", one, 2)[0])
    assert len(set(names) & set(found.controls("other", "calm"))) >= 10, "one order for all directions"


def test_stripped_has_nothing_left_of_valence_and_arousal(found: DirectionSet, vectors: EmotionVectors) -> None:
    (name,) = found.controls("stripped", "desperate")
    unit, _ = found.vector("stripped", name, 3)
    rows = vectors.contrasts("denoised")[vectors.layers.index(3)].astype(np.float64)
    valence, arousal = built_in_ratings().arrays(vectors.emotions)
    rated = np.isfinite(valence)
    design = np.stack([np.ones(rated.sum()), valence[rated], arousal[rated]], axis=1)
    # The stripped direction reads neither rating from the vectors, beyond what both have in common with nothing.
    slopes = np.linalg.lstsq(design, rows[rated] @ unit, rcond=None)[0][1:]
    full = np.linalg.lstsq(design, rows[rated] @ found.vector("direction", "desperate", 3)[0], rcond=None)[0][1:]
    assert np.abs(slopes).max() < 1e-6 * np.abs(full).max()
    with pytest.raises(InputError, match="a stripped direction called 'other/calm'"):
        found.vector("stripped", "other/calm", 3)


def test_too_few_families_make_no_mixtures(tmp_path: Path) -> None:
    bundle = load_bundle(world.make_bundle(world.engine(), tmp_path / "small"))
    three = asked(
        directions=("desperate", "calm", "joyful"), raises=(), claims={"mixture": 60, "other": 12},
        controls={"general": 60, "span": 0, "topic": 60, "natural": 0, "shuffled": 0},
    )  # fmt: skip
    small = direction_set(three, bundle, layers=(2, 3), stories=None)
    assert small.claims == ("other",)
    assert small.controls("mixture", "desperate") == ()


def test_claims_are_asked_of_declared_behaviours_alone() -> None:
    plan = preset("full", "m", suite="text", directions=("joyful", "desperate"))
    assert plan.claims.mixture == 20, "with declared signs twenty are enough"
    assert preset("full", "m", suite="text", directions=("joyful", "calm - sad")).claims.mixture == 40
    names = cells.Planned(plan)
    jobs = (
        *cells.select_jobs(plan, suite_of(plan), names, (10, 20)),
        *cells.test_jobs(plan, suite_of(plan), names, cells.anywhere(plan, names, 10)),
    )
    asked_of = {job.behaviour.name for job in jobs if any(cell.kind in CLAIM_KINDS for cell in job.cells)}
    assert asked_of == {"feels", "tone", "prose"}, "prose measures how far each moves the model"
    unclear = cells.test_jobs(plan, suite_of(plan), names, cells.anywhere(plan, names, 10), unclear=("feels", "tone"))
    assert not any(cell.kind in CLAIM_KINDS for job in unclear for cell in job.cells)


def test_plans_that_cannot_show_a_claim_are_refused() -> None:
    with pytest.raises(InputError, match=r"claims.mixture = 9. Expected 10 or more"):
        asked(claims={"mixture": 9})
    with pytest.raises(InputError, match=r"claims.stripped without natural controls"):
        asked(controls={"general": 40, "topic": 0})
    before = world.plan()
    assert "claims" not in before.model_dump_json(exclude_defaults=True)
    assert before.hash == before.changed(claims={"mixture": 0}).hash


@pytest.mark.slow
def test_an_organism_through_sampling_to_its_claims(tmp_path: Path, vectors: EmotionVectors) -> None:
    """Real directions, a real model, the verdict on what came out; a second call samples nothing."""
    from heartstrings.experiment.ledger import SampleLedger
    from heartstrings.experiment.run import run_experiment
    from heartstrings.verdict import decide

    plan = asked(
        controls={"general": 40, "topic": 0, "span": 0},
        layers=(3,),
        claims={"mixture": 20, "other": 12},
    )
    engine = world.engine()
    directions = direction_set(plan, vectors, layers=(3,), stories=None)
    with SampleLedger(tmp_path / "ledger.sqlite", plan) as ledger:
        run_experiment(plan, engine, directions, ledger)
        rows = ledger.samples()
        run_experiment(plan, engine, directions, ledger)
        assert len(ledger.samples()) == len(rows)
    kinds = {row.cell.kind for row in rows if row.cell.behaviour == "choice"}
    assert {"mixture", "other"} <= kinds
    (card,) = decide(plan, _Rows(rows), suite_of(plan), model=plan.model, encoded="encoded").answers
    assert [claim.name for claim in card.claims] == ["any push", "mixtures of emotions", "other emotions"]
    assert all(claim.p is not None for claim in card.claims)
    assert [claim.compared for claim in card.claims] == [81, 41, 12]


class _Rows:
    def __init__(self, rows: list) -> None:  # type: ignore[type-arg]
        self.rows = rows

    def samples(self) -> list:  # type: ignore[type-arg]
        return self.rows
