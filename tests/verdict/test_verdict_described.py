"""What a verdict tells beside its answer: pushes, the band, other choices, whether the comparison is fair."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import kstest

from heartstrings.experiment.ledger import Cell, Sample
from heartstrings.stats.nulls import p_value
from heartstrings.verdict import decide
from heartstrings.verdict._curves import together
from heartstrings.verdict.pushes import p_at_equal_kl
from heartstrings.verdict.results import AnswerCard, Push, Specification, Verdict
from verdict_worlds import Ledger, Questionnaire, Questions, World, judge, plan, rows

PROSE = Questions("prose", "cost", "likelihood", outcome_name="log-loss of prose")  # type: ignore[arg-type]
LAYERS = {"layers": (2, 3, 4), "controls": {"general": 40, "topic": 40, "natural": 40}}
HARD = World(effect={"desperate": 0.3}, control=0.03)


def prose(design: Any, found: list[Sample], kl: Any) -> list[Sample]:
    """Divergences on neutral prose, as `kl(kind, name, dose)`, of every direction and control at its own layer."""
    made = [_row("baseline", "", -1, 0.0, i, 0.0) for i in range(12)]
    cells = {
        (row.cell.kind, row.cell.direction, row.cell.layer)
        for row in found
        if row.cell.phase == "test" and row.cell.behaviour == "choice" and row.cell.kind != "baseline"
    }
    for kind, name, layer in sorted(cells):
        for dose in design.window if kind != "direction" else (dose for dose in design.doses if dose):
            value = kl(kind, name, dose)
            if value is not None:
                made += [_row(kind, name, layer, dose, i, value) for i in range(12)]
    return made


def _row(kind: Any, name: str, layer: int, dose: float, i: int, kl: float) -> Sample:
    cell = Cell(phase="test", behaviour="prose", kind=kind, direction=name, layer=layer, dose=dose)
    return Sample(
        cell=cell, scenario=f"prose/{i}", group=f"prose/{i}", repeat=0, outcome=None, valid=None, text=None,
        detail={"kl": kl, "log_loss": 3.0},
    )  # fmt: skip


def verdict(world: World, kl: Any, *, seed: int = 0, **changes: Any) -> Verdict:
    design, suite = plan(**(LAYERS | changes)), Questionnaire(cost=(PROSE,))
    found = rows(world, design, suite, seed)
    return decide(
        design, Ledger([*found, *prose(design, found, kl)]), suite, model="simulated", encoded="encoded"
    )  # fmt: skip


def alike(kind: str, name: str, dose: float) -> float:
    return 2.0 * dose * dose


@pytest.fixture(scope="module")
def found() -> AnswerCard:
    return verdict(HARD, lambda kind, name, dose: (5 if kind == "direction" else 2) * dose * dose).answers[0]


def test_every_direction_has_its_push(found: AnswerCard) -> None:
    own, *controls = found.pushes
    assert (own.kind, own.name) == ("direction", "desperate")
    assert own.change == pytest.approx(found.told.value, abs=1e-9)
    assert own.kl == pytest.approx(5 * 0.04)
    assert [sum(push.kind == kind for push in controls) for kind in ("general", "topic", "natural")] == [40, 40, 40]
    assert [push.kl for push in controls] == pytest.approx([2 * 0.04] * 120)
    assert found.p_at_equal_kl == pytest.approx(1 / 41)


def test_what_only_pushes_further_is_not_larger_at_equal_divergence() -> None:
    """At a hundred times the divergence, 30 points are what controls of 3 points do at theirs."""
    far = verdict(HARD, lambda kind, name, dose: (100 if kind == "direction" else 1) * dose * dose).answers[0]
    assert far.p_uncorrected == pytest.approx(1 / 41)
    assert far.p_at_equal_kl is not None
    assert far.p_at_equal_kl > 0.05
    assert far.answer == verdict(HARD, alike).answers[0].answer == "controls"  # it describes


def test_missing_divergences_count_as_larger_and_none_at_all_is_none() -> None:
    lost = ("topic/3", "topic/4")
    some = verdict(HARD, lambda kind, name, dose: None if name in lost else 2 * dose * dose).answers[0]
    assert some.p_at_equal_kl == pytest.approx(3 / 41)
    one_end = verdict(HARD, lambda kind, name, dose: None if name in lost and dose < 0 else dose * dose).answers[0]
    assert one_end.p_at_equal_kl == pytest.approx(3 / 41)
    assert judge(HARD, plan(**LAYERS)).answers[0].p_at_equal_kl is None
    assert (
        verdict(HARD, lambda kind, name, dose: 1e-3 if kind == "direction" else None).answers[0].p_at_equal_kl is None
    )
    none = judge(HARD, plan(**LAYERS), keep=lambda row: row.cell.behaviour != "choice").answers[0]
    assert (none.pushes, none.p_at_equal_kl, none.specifications, none.curve.band) == ((), None, (), ())


def equal(direction: tuple[float, float], controls: list[tuple[float, float]], contrast: str = "line") -> float | None:
    """p at equal divergence of (change, divergence) among others."""
    made = [Push(kind="direction", name="d", change=direction[0], kl=direction[1])]
    made += [Push(kind="topic", name=f"topic/{i}", change=c, kl=k) for i, (c, k) in enumerate(controls)]
    return p_at_equal_kl(made, {"topic": len(controls)}, contrast)


def test_p_at_equal_divergence_is_uniform_whatever_the_push() -> None:
    """A direction like its controls, three times as long: at equal norm it looks special, at equal divergence not."""
    random = np.random.default_rng(0)
    ps, at_norm = [], []
    for _ in range(1500):
        gradient, fisher = random.normal(size=41), random.gamma(4.0, size=41)
        dose = np.r_[0.3, np.full(40, 0.1)]
        change, kl = gradient * dose, fisher * dose**2 / 2
        controls = list(zip(change[1:].tolist(), kl[1:].tolist(), strict=True))
        p = equal((float(change[0]), float(kl[0])), controls)
        assert p is not None
        ps.append(p)
        at_norm.append(p_value(float(change[0]), change[1:]))
    assert abs(np.mean(np.array(ps) <= 2 / 41 + 1e-9) - 2 / 41) < 0.02
    assert kstest(np.array(ps) - random.random(1500) / 41, "uniform").pvalue > 0.001
    assert np.mean(np.array(at_norm) <= 2 / 41 + 1e-9) > 0.3


def test_an_even_response_grows_as_divergence_does() -> None:
    controls = [(0.1 * d * d, 0.2 * d * d) for d in np.linspace(0.5, 1.5, 40).tolist()]
    twice = (0.101 * 4, 0.2 * 4)  # a little more than they do, at twice the dose
    assert equal(twice, controls, "both sides") == pytest.approx(1 / 41)
    half = (0.101 / 16, 0.2 / 16)
    assert equal(half, controls, "both sides") == pytest.approx(1 / 41)
    assert equal(half, controls, "line") == 1.0


def test_the_band_holds_the_intervals_and_the_truth(found: AnswerCard) -> None:
    assert [point.dose for point in found.curve.band] == [point.dose for point in found.curve.change]
    for one, alone in zip(found.curve.band, found.curve.change, strict=True):
        assert one.estimate.value == alone.estimate.value
        ends = (one.estimate.low, alone.estimate.low, alone.estimate.high, one.estimate.high)
        assert list(ends) == sorted(ends)  # type: ignore[type-var]
        assert ends[0] is not None
        assert ends[0] < ends[1]  # type: ignore[operator]


@pytest.mark.parametrize(("rate", "n"), [(0.3, 40), (0.5, 100)])
def test_a_band_of_rates_holds_where_flips_are_rare(rate: float, n: int) -> None:
    random = np.random.default_rng(5)
    truth = np.linspace(0.0, 0.1, 5)
    runs, hits = 120, 0
    groups = [str(i) for i in range(n)]
    for seed in range(runs):
        before = (random.random((n, 1)) < rate).astype(float)
        after = np.maximum(before, random.random((n, 5)) < truth / (1 - rate))
        band = together([(before[:, 0], column, groups) for column in after.T], seed=seed)
        hits += all(
            one.low is not None and one.high is not None and one.low - 1e-9 <= value <= one.high + 1e-9
            for one, value in zip(band, truth, strict=True)
        )
    assert hits / runs >= 0.94


def only(found: tuple[Specification, ...], **wanted: Any) -> list[Specification]:
    return [one for one in found if all(getattr(one, name) == value for name, value in wanted.items())]


def test_every_choice_is_a_specification(found: AnswerCard) -> None:
    every = found.specifications
    assert [one.effect.value for one in every] == sorted(one.effect.value for one in every)  # type: ignore[type-var]
    searched = only(every, half="search")
    assert sorted(one.layer for one in searched) == [2, 3, 4]
    best = max(searched, key=lambda one: one.effect.value or 0.0)
    assert best.layer == found.layer == 3
    assert (best.effect.value or 0) > 1.5 * (only(searched, layer=2)[0].effect.value or 0)
    reported = only(every, half="report")
    assert {one.contrast for one in reported} >= {"line", "at -0.2", "at 0.2", "both sides", "positive", "negative"}
    assert [one.contrast for one in every if one.chosen] == [found.shape] == ["line"]
    # Turned round: pushing backwards lowers the outcome, so the effect at -0.2 is above 0 too.
    assert all((one.effect.low or 0) > 0 for one in reported if one.contrast in ("line", "at -0.2", "at 0.2", "step"))
    assert only(reported, contrast="line")[0].effect == found.effect
    assert {tuple(one.ps) for one in every} == {("general", "topic", "natural")}
    assert set(only(every, chosen=True)[0].ps.values()) == {1 / 41}
    assert only(reported, contrast="both sides")[0].ps["topic"] > 0.05
    assert not any(one.collapsed for one in every)


def test_doses_that_collapse_are_kept_in_one_half_of_the_choices() -> None:
    broken = HARD.but(valid=lambda dose: -0.6 if dose == 0.2 else 0.0)
    every = judge(broken, plan(**LAYERS)).answers[0].specifications
    with_it, without = only(every, collapsed=True), only(every, collapsed=False, half="report")
    assert "at 0.2" in {one.contrast for one in with_it}
    assert "at 0.2" not in {one.contrast for one in without}
    assert all(set(one.ps) == {"general", "topic", "natural"} for one in with_it)
    assert not any(one.chosen for one in with_it)


def test_controls_that_were_not_sampled_count_in_every_choice() -> None:
    lost = judge(HARD, plan(**LAYERS), keep=lambda row: row.cell.direction not in ("topic/1", "topic/2")).answers[0]
    assert only(lost.specifications, chosen=True)[0].ps == {
        "general": pytest.approx(1 / 41), "topic": pytest.approx(3 / 41), "natural": pytest.approx(1 / 41)
    }  # fmt: skip


def test_a_fair_comparison_is_uniform_and_an_unfair_one_is_not() -> None:
    quick = {"samples": plan().samples.model_copy(update={"effect": 12}).model_dump(), "layers": (3,)}
    fair, small = [], []
    for seed in range(8):
        design = plan(**(LAYERS | quick))
        fair += judge(World(control=0.05), design, seed=seed).calibration
        small += judge(World(control=0.05, natural=0.2), design, seed=seed).calibration
    assert {(one.kind, one.against, one.controls) for one in fair} == {
        ("topic", "natural", 40),
        ("natural", "topic", 40),
    }
    assert all(len(one.ps) == 40 and list(one.ps) == sorted(one.ps) for one in fair)
    under = np.mean([p <= 0.1 for one in fair for p in one.ps])
    assert 0.06 < under < 0.14
    against = {kind: [p for one in small if one.kind == kind for p in one.ps] for kind in ("topic", "natural")}
    assert np.mean(np.array(against["natural"]) <= 0.1) > 0.5
    assert np.mean(np.array(against["topic"]) <= 0.1) < 0.08


def test_one_natural_kind_alone_calibrates_nothing() -> None:
    assert judge(HARD, plan(controls={"general": 40, "topic": 40, "natural": 0})).calibration == ()


def test_hashes_are_passed_on() -> None:
    design, suite = plan(), Questionnaire()
    made = decide(
        design, Ledger([]), suite, model="simulated", encoded="encoded", weights_hash="w" * 8, vectors_hash="v" * 8
    )  # fmt: skip
    assert (made.weights_hash, made.vectors_hash) == ("w" * 8, "v" * 8)
    assert judge(HARD, design).weights_hash is None


def test_old_verdicts_are_read(found: AnswerCard) -> None:
    new = {"pushes", "p_at_equal_kl", "specifications"}
    old = found.model_dump(mode="json")
    old = {name: value for name, value in old.items() if name not in new}
    del old["curve"]["band"]
    read = AnswerCard.model_validate(old)
    assert (read.pushes, read.p_at_equal_kl, read.specifications, read.curve.band) == ((), None, (), ())
    assert AnswerCard.model_validate_json(found.model_dump_json()) == found
