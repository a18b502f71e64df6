"""Pools of controls on a finished run: p against a naive reference made from the samples, and the command.

The simulation's bound is 4 standard errors wide."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

import experiment_world as world
import heartstrings
from heartstrings import cli, organisms
from heartstrings.cli import _console as console
from heartstrings.core.errors import InputError
from heartstrings.core.types import Pooling
from heartstrings.corpus import Corpus
from heartstrings.engines.hf.engine import TorchEngine
from heartstrings.experiment import run as experiment
from heartstrings.experiment.controls import DirectionSet, direction_set, read_story_activations
from heartstrings.experiment.ledger import CONTROL_KINDS, Cell, Sample, SampleLedger
from heartstrings.experiment.plan import Plan
from heartstrings.experiment.plan_files import write_plan
from heartstrings.report.verdict_page import render_verdict
from heartstrings.stats import Drawn, draw, strata, weighted_p
from heartstrings.vectors.bundle import load as load_bundle
from heartstrings.vectors.extraction import extract
from heartstrings.verdict.pool_results import LeftOut, PoolReport, PoolTest, read_pool
from heartstrings.verdict.results import Verdict
from heartstrings.workflows import pool as pool_test
from heartstrings.workflows.pool import pool_p, pool_plan, weighted_top_p

SIZE, DRAWS = 60, 40
NO_GRADIENT = "sampled text has no gradient here"


def command(*args: str) -> int:
    verb = typer.main.get_command(cli.app)
    return console.guarded(lambda: verb.main(args=[*args], prog_name="heartstrings", standalone_mode=False))


@pytest.fixture(scope="module")
def engine() -> TorchEngine:
    found = heartstrings.load(world.MODEL)
    assert isinstance(found, TorchEngine)
    return found


@pytest.fixture(scope="module")
def bundle(engine: TorchEngine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight emotions told of five topics each, at two layers, with kept activations."""
    out = tmp_path_factory.mktemp("pool") / "vectors"
    every = organisms.stories(per_emotion=5)
    some = tuple(story for story in every.stories if story.emotion in world.EMOTIONS)
    extract(
        engine, Corpus(some, author=every.author, source=every.source), out=out, neutral=organisms.neutral(n=40),
        poolings=(Pooling(start=50),), layers=(2, 3), keep_activations=True,
    )  # fmt: skip
    return out


def plan(bundle: Path, **changes: Any) -> Plan:
    controls = {"general": 0, "span": 0, "topic": 20, "natural": 20, "shuffled": 0}
    return world.plan(vectors=bundle, controls=controls, doses=(-0.1, 0.0, 0.1), slope_within=0.1, **changes)


def directions(of: Plan, bundle: Path) -> DirectionSet:
    vectors = load_bundle(bundle)
    return direction_set(of, vectors, layers=(2, 3), stories=read_story_activations(bundle, vectors))


def finish(of: Plan, out: Path) -> Path:
    """A finished run, and its verdict."""
    write_plan(out.with_suffix(".toml"), of)
    assert command("run", "--plan", str(out.with_suffix(".toml")), "--out", str(out), "--json") == 0
    return out


@pytest.fixture(scope="module")
def finished(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish(plan(bundle), tmp_path_factory.mktemp("run") / "run")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to be worked in."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture(scope="module")
def made(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another, with the stage done by the command."""
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("made") / "run"))
    assert command("pool", str(folder), "--size", str(SIZE), "--draws", str(DRAWS)) == 0
    return folder


@pytest.fixture
def pooled(made: Path, tmp_path: Path) -> Path:
    """A copy of that."""
    return Path(shutil.copytree(made, tmp_path / "pooled"))


def stage(folder: Path, engine: TorchEngine, of: Plan, made: DirectionSet, **more: Any) -> PoolReport:
    with SampleLedger.read(folder / "ledger.sqlite") as ledger:
        return pool_p(of, engine, made, ledger, **{"size": SIZE, "draws": DRAWS, **more})


# A naive reference, from rows of samples


def mean(rows: list[Sample], wanted: Callable[[Cell], bool]) -> dict[str, float]:
    """Outcome of each scenario in one cell."""
    return {row.scenario: row.outcome for row in rows if wanted(row.cell) and row.outcome is not None}


def changes(rows: list[Sample], kind: str, name: str) -> list[float]:
    """The contrasts of doses -0.1, 0, 0.1: line, each dose, both sides; at the layer with the largest mean change."""
    ends: dict[int, list[float]] = {}
    for layer in sorted({row.cell.layer for row in rows if (row.cell.kind, row.cell.direction) == (kind, name)}):
        low, high = (
            mean(rows, lambda cell, at=layer, d=dose: (cell.phase, cell.kind, cell.direction, cell.layer, cell.dose)
                 == ("select", kind, name, at, d))
            for dose in (-0.1, 0.1)
        )  # fmt: skip
        ends[layer] = [high[one] - low[one] for one in low] or [0.0]  # one layer: nothing was searched
    layer = max(ends, key=lambda at: (abs(np.mean(ends[at])), -at))
    at_0 = mean(rows, lambda cell: (cell.phase, cell.kind, cell.behaviour) == ("test", "baseline", "choice"))
    low, high = (
        mean(rows, lambda cell, d=dose: (cell.phase, cell.kind, cell.direction, cell.layer, cell.dose)
             == ("test", kind, name, layer, d))
        for dose in (-0.1, 0.1)
    )  # fmt: skip
    assert low.keys() == high.keys() == at_0.keys()
    each = [
        (high[one] - low[one], low[one] - at_0[one], high[one] - at_0[one], (low[one] + high[one]) / 2 - at_0[one])
        for one in at_0
    ]
    return np.mean(each, axis=0).tolist()


def naive(pool: dict[int, list[float]], drawn: Drawn, sign: int) -> float:
    """p draw by draw. A place in the pool has its contrasts; one-sided, contrasts that a rise says nothing of are out,
    and each of 2 (n + 1) signed directions has half its weight."""
    inside, outside = drawn.share / drawn.rho, (1 - drawn.share) / (1 - drawn.rho) if drawn.rho < 1 else 1.0
    weigh = [inside if top else outside for top in drawn.top]
    tried = [drawn.tested, *drawn.indices.tolist()]
    squares = sum(weigh[place] * np.array(pool[place]) ** 2 for place in tried)
    unit = np.sqrt(squares / sum(weigh[place] for place in tried))
    signs = np.array([1, -1, 1, 0]) * sign
    total = 0.0
    for number, place in enumerate(tried):
        value = np.array(pool[place]) / unit
        if not sign:
            own = np.abs(np.array(pool[drawn.tested]) / unit).max()
            total += weigh[place] * (number == 0 or np.abs(value).max() >= own - 1e-12)
            continue
        own = max(0.0, float((signs * np.array(pool[drawn.tested]) / unit).max()))
        for way in (1, -1):
            itself = number == 0 and way == 1
            total += weigh[place] / 2 * (itself or max(0.0, float((way * signs * value).max())) >= own - 1e-12)
    return min(1.0, total / (len(drawn.indices) + 1))


def check_against_naive(folder: Path, of: Plan, found: PoolReport, *, size: int, draws: int) -> None:
    with SampleLedger.read(folder / "ledger.sqlite") as ledger, SampleLedger.read(folder / "pool.sqlite") as own:
        rows = [row for row in ledger.samples(behaviour="choice") if row.cell.kind not in CONTROL_KINDS]
        rows += own.samples()
        scores = {
            (one.direction, kind.kind): json.loads(own.fact(f"screen choice {one.direction} {kind.kind}") or "")
            for one in found.tests for kind in one.kinds
        }  # fmt: skip
        assert own.count() == found.samples
    seen: set[str] = set()
    for one in found.tests:
        tested = changes(rows, "direction", one.direction)
        for kind in one.kinds:
            assert len(scores[one.direction, kind.kind]) == size + 1
            seed = pool_test._seed(of.seed, kind.kind, "choice", one.direction)
            drawn = draw(strata(scores[one.direction, kind.kind]), n=draws, seed=seed)
            assert (kind.controls, kind.size, kind.draws) == (len(drawn.controls), size, draws)
            pool = {place: changes(rows, kind.kind, f"{kind.kind}/{place - 1}") for place in drawn.controls.tolist()}
            seen |= {f"{kind.kind}/{place - 1}" for place in pool}
            assert kind.p == pytest.approx(naive({0: tested, **pool}, drawn, one.sign))
            assert kind.smallest_p == drawn.smallest_p / (2 if one.sign else 1) <= (kind.p or 0)
            line = [pool[place][0] for place in drawn.controls.tolist()]
            predicted = np.array(scores[one.direction, kind.kind])[drawn.controls]
            assert kind.correlation == pytest.approx(np.corrcoef(predicted, line)[0, 1])
        assert one.p == max(kind.p or 0 for kind in one.kinds)
    # Nothing but what was drawn was steered along.
    assert seen == {row.cell.direction for row in rows if row.cell.kind in CONTROL_KINDS}


# The stage


def test_p_as_by_a_naive_reference(finished: Path, pooled: Path, bundle: Path, engine: TorchEngine) -> None:
    of = plan(bundle)
    found = read_pool(pooled)
    assert found is not None
    (one,) = found.tests
    assert [kind.kind for kind in one.kinds] == ["topic", "natural"]
    assert (one.behaviour, one.direction, one.sign, found.left_out) == ("choice", "desperate", 0, ())
    assert one.p == one.p_corrected  # one test
    assert found.plan_hash == of.hash
    check_against_naive(pooled, of, found, size=SIZE, draws=DRAWS)
    assert (pooled / "ledger.sqlite").read_bytes() == (finished / "ledger.sqlite").read_bytes()

    # From Python, again: nothing is left to sample, and the same is found.
    table, steps = world.table(pooled / "pool.sqlite"), []
    again = stage(pooled, engine, of, directions(of, bundle), progress=lambda *at: steps.append(at))
    assert world.table(pooled / "pool.sqlite") == table
    assert same(again) == same(found)
    assert steps[-1] == (found.samples, found.samples)


def same(found: PoolReport) -> PoolReport:
    return found.model_copy(update={"seconds": 0.0, "screen_seconds": 0.0})


def test_a_control_of_the_run_does_the_same_in_the_pool(pooled: Path) -> None:
    """One pipeline: every row of a control that both have, in both halves, at the same layer."""
    with SampleLedger.read(pooled / "ledger.sqlite") as ledger, SampleLedger.read(pooled / "pool.sqlite") as own:
        first, second = (
            {(row.cell, row.scenario): row.outcome for row in each.samples(behaviour="choice")}
            for each in (ledger, own)
        )
    both = {cell.direction for cell, _ in first} & {cell.direction for cell, _ in second}
    assert len(both) > 8
    first, second = ({key: one for key, one in each.items() if key[0].direction in both} for each in (first, second))
    assert first.keys() == second.keys()
    for key, outcome in second.items():
        assert outcome == pytest.approx(first[key], abs=1e-4)


def test_declared_signs_and_several_tests(bundle: Path, tmp_path: Path, engine: TorchEngine) -> None:
    """One-sided against both directions of each control; Holm over directions; a control is sampled once for both.
    One layer: there is no search."""
    signs = {"confirm": ("choice",), "raises": ("desperate",), "lowers": ("calm",)}
    of = plan(bundle, directions=("desperate", "calm"), layers=(3,), **signs)
    folder = finish(of, tmp_path / "run")
    found = stage(folder, engine, of, directions(of, bundle))
    assert [(one.direction, one.sign) for one in found.tests] == [("desperate", 1), ("calm", -1)]
    check_against_naive(folder, of, found, size=SIZE, draws=DRAWS)
    ps = [one.p or 0 for one in found.tests]
    low, high = sorted(range(2), key=lambda at: ps[at])
    holm = {low: min(1, 2 * ps[low]), high: min(1, max(2 * ps[low], ps[high]))}
    assert [one.p_corrected for one in found.tests] == pytest.approx([holm[0], holm[1]])


def test_interrupted(finished: Path, bundle: Path, engine: TorchEngine, tmp_path: Path,
                     monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Cut off in the search and in the reported half, the same call goes on, and the table is bitwise the same."""
    monkeypatch.setattr(experiment, "CHUNK", {"choice": 100, "text": 4, "dialogue": 4})
    of = plan(bundle)
    made = directions(of, bundle)
    whole, cut = (Path(shutil.copytree(finished, tmp_path / name)) for name in ("whole", "cut"))
    expected = stage(whole, engine, of, made)

    def stop(done: int, total: int, share: float) -> None:
        if done >= share * total:
            raise KeyboardInterrupt

    for share in (0.2, 0.8):
        with pytest.raises(KeyboardInterrupt):
            stage(cut, engine, of, made, progress=partial(stop, share=share))
        assert 0 < len(world.table(cut / "pool.sqlite")) < expected.samples
    monkeypatch.setattr(pool_test, "first_order", lambda *_: pytest.fail("the screen is read back"))
    assert same(stage(cut, engine, of, made)) == same(expected)
    assert world.table(cut / "pool.sqlite") == world.table(whole / "pool.sqlite")


def test_the_pool_of_a_larger_number_begins_with_the_same_controls(bundle: Path) -> None:
    of = plan(bundle)
    few, many = directions(of, bundle), directions(pool_plan(of, SIZE, DRAWS), bundle)
    for kind in ("topic", "natural"):
        assert few.vector(kind, f"{kind}/7", 2)[0].tolist() == many.vector(kind, f"{kind}/7", 2)[0].tolist()  # type: ignore[arg-type]


# Validity


@pytest.mark.parametrize("runs", [500, pytest.param(4000, marks=pytest.mark.slow)])
def test_unit_by_weights_keeps_its_word(runs: int) -> None:
    """P(p <= .05) under the null: several contrasts of other sizes, heavy tails, some missing; a screen that knows one
    of them, and one that knows none; two-sided and one-sided."""
    random, wrong = np.random.default_rng(11), np.zeros((2, 2))
    signs = np.array([1.0, -1.0, 0.0])
    for _ in range(runs):
        pool = random.standard_t(4, (81, 3)) * [1.0, 0.3, 5.0]
        pool[random.random(81) < 0.03] = np.nan
        for row, screen in enumerate((np.nan_to_num(pool[:, 0]), random.standard_normal(81))):
            drawn = draw(strata(screen + 0.3 * random.standard_normal(81)), n=40, seed=int(random.integers(2**32)))
            if np.isnan(pool[0]).all():
                continue  # nothing observed, no p
            rows = np.concatenate([pool[:1], pool[drawn.controls]])
            for column, ways in enumerate((None, signs)):
                p, _ = weighted_top_p(rows, drawn, ways, least=0)
                assert p is not None
                wrong[row, column] += p <= 0.05
    print("P(p <= .05):", (wrong / runs).round(4).tolist())
    assert (wrong / runs <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / runs)).all()


def test_one_contrast_needs_no_unit() -> None:
    random = np.random.default_rng(3)
    pool = random.standard_normal(200)
    pool[0] = 2.5
    drawn = draw(strata(pool), n=60, seed=1)
    values = np.concatenate([pool[:1], pool[drawn.controls]])
    p, larger = weighted_top_p(values[:, None], drawn, None, least=0)
    assert p == weighted_p(2.5, values[1:], drawn)
    assert larger == int((np.abs(values[1:]) >= 2.5).sum())
    values[3] = np.nan
    assert weighted_top_p(values[:, None], drawn, None, least=0)[1] == larger + (abs(pool[drawn.controls[2]]) < 2.5)
    values[0] = np.nan
    assert weighted_top_p(values[:, None], drawn, None, least=0)[0] is None


# The command


def test_the_command(pooled: Path, capfd: pytest.CaptureFixture[str]) -> None:
    answers = Verdict.model_validate_json((pooled / "verdict.json").read_bytes())
    file = read_pool(pooled)
    assert file is not None
    assert (file.tests[0].kinds[0].correlation or 0) > 0.5
    asked = ("pool", str(pooled), "--size", str(SIZE), "--draws", str(DRAWS))
    assert command(*asked) == 0
    said = capfd.readouterr()
    assert said.out.rstrip().endswith("report.html")
    assert "p from the pool" in said.out
    assert "desperate" in said.out
    assert "changes no answer" in said.err
    assert command(*asked, "--json") == 0
    value = json.loads(capfd.readouterr().out)
    (one,) = value["tests"]
    assert (one["p"], one["run"]["p"]) == (file.tests[0].p, answers.answers[0].p)

    # The report has it, and keeps it when the verdict is weighed again; the answers are the same.
    assert "Against a pool of controls" in (pooled / "report.html").read_text()
    assert command("verdict", str(pooled), "--json") == 0
    text = (pooled / "report.html").read_text()
    assert "Against a pool of controls" in text
    assert "changes no answer" in text
    assert Verdict.model_validate_json((pooled / "verdict.json").read_bytes()) == answers


def test_draws_that_can_find_nothing_are_told(pooled: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from heartstrings.cli._verdict_summary import pool

    file = read_pool(pooled)
    assert file is not None
    pool(file.model_copy(update={"alpha": 0.001}), {"folder": pooled}, False)
    assert "is not under 0.001" in " ".join(capfd.readouterr().err.split())
    left = LeftOut(behaviour="tone", direction="calm", reason=NO_GRADIENT)
    pool(file.model_copy(update={"left_out": (left,)}), {"folder": pooled}, False)
    said = " ".join(capfd.readouterr().err.split())
    assert f"Left out: tone, calm: {NO_GRADIENT}" in said.replace("its answers are sampled text, and ", "")
    assert "smallest p that some direction can have" not in said


def test_a_report_without_a_pool_and_with_a_damaged_one(run: Path) -> None:
    assert "Against a pool" not in render_verdict(run).read_text()
    (run / "pool.json").write_text("{}")
    assert "No pool is shown." in render_verdict(run).read_text()
    with pytest.raises(InputError, match="cannot be read"):
        read_pool(run)


def test_of_another_plan_it_is_not_shown(pooled: Path) -> None:
    found = read_pool(pooled)
    assert found is not None
    for changed, words in (({"plan_hash": "0" * 64}, "of another plan"), ({"look": 2}, "The pools are of look 2")):
        (pooled / "pool.json").write_text(found.model_copy(update=changed).model_dump_json())
        assert words in render_verdict(pooled).read_text()


def test_bad_input(
    pooled: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(words: str, *args: str) -> None:
        capfd.readouterr()
        assert command("pool", *args) == 2
        assert words in " ".join(capfd.readouterr().err.split())

    monkeypatch.setattr(
        "heartstrings.workflows.atlas.open_model", lambda *_, **__: pytest.fail("told before a model loads")
    )
    refused("no verdict.json", str(tmp_path / "nothing"))
    refused("a pool of 20 controls", str(pooled), "--size", "20")
    refused("a pool of 0 controls", str(pooled), "--size", "0")
    refused("3 draws", str(pooled), "--draws", "3")
    refused(f"Use --size {SIZE} --draws {DRAWS}", str(pooled))
    refused(f"Use --size {SIZE} --draws {DRAWS}", str(pooled), "--size", str(SIZE), "--draws", "60")
    stale = json.loads((pooled / "verdict.json").read_text())
    (pooled / "verdict.json").write_text(json.dumps(stale | {"plan_hash": "0" * 64}))
    refused("heartstrings verdict", str(pooled), "--size", str(SIZE), "--draws", str(DRAWS))


def test_vectors_without_activations(run: Path, bundle: Path, tmp_path: Path, engine: TorchEngine) -> None:
    of = plan(bundle)
    made = direction_set(of, load_bundle(bundle), layers=(2, 3), stories=None)
    with pytest.raises(InputError, match="natural controls cannot be made"):
        stage(run, engine, of, made)
    assert not (run / "pool.sqlite").exists()


def test_an_unfinished_run_another_model_and_another_plan(
    finished: Path, bundle: Path, tmp_path: Path, engine: TorchEngine
) -> None:
    of = plan(bundle)
    made = directions(of, bundle)
    with SampleLedger.read(finished / "ledger.sqlite") as ledger:
        rows, facts = ledger.samples(), {name: ledger.fact(name) or "" for name in ("weights", "directions")}

    def ledger_of(name: str, kept: list[Sample], **changed: str) -> Path:
        with SampleLedger(tmp_path / name / "ledger.sqlite", of) as other:
            other.add(kept)
            for fact, value in {**facts, **changed}.items():
                other.bind(fact, value, fact)
        return tmp_path / name

    some = [row for row in rows if (row.cell.phase, row.cell.kind, row.cell.dose) != ("test", "direction", 0.1)]
    with pytest.raises(InputError, match="a finished run"):
        stage(ledger_of("unfinished", some), engine, of, made)
    with pytest.raises(InputError, match="sampled with model of fingerprint"):
        stage(ledger_of("model", rows, weights="another"), engine, of, made)
    with pytest.raises(InputError, match="sampled with vectors of fingerprint"):
        stage(ledger_of("vectors", rows, directions="another"), engine, of, made)
    with pytest.raises(InputError, match="a ledger of another plan"):
        stage(finished, engine, of.changed(seed=6), directions(of.changed(seed=6), bundle))


def test_what_cannot_be_screened(run: Path, bundle: Path, engine: TorchEngine) -> None:
    """Sampled text, layers that another behaviour chooses, another operation."""
    text = Plan(model="smollm2", suite="text", effects=("feels", "tone", "feels-arousal"), directions=("joyful",))
    from heartstrings.behaviours.suites import suite_of

    every = suite_of(text)
    why = {name: pool_test._why_not(text, every, every.behaviour(name)) for name in text.effects}
    assert why["feels"] is None
    assert NO_GRADIENT in (why["tone"] or "")
    assert "chosen by feels" in (why["feels-arousal"] or "")
    of = plan(bundle)
    pools = directions(pool_plan(of, SIZE, DRAWS), bundle)
    with pytest.raises(InputError, match="no declared behaviour can be screened: tone, its answers are sampled text"):
        pool_test.check_possible(text.changed(confirm=("tone",)), every, pools)
    with pytest.raises(InputError, match="operation 'clamp'"):
        pool_test.check_possible(of.changed(operation="clamp"), suite_of(of), pools)
    left = [LeftOut(behaviour="tone", direction="joyful", reason=NO_GRADIENT)]
    one = PoolTest(
        behaviour="feels", direction="joyful", layer=2, sign=0, kinds=(), p=0.01, p_corrected=None
    )  # fmt: skip
    assert pool_test._corrected([one], left)[0].p_corrected == pytest.approx(0.02)  # tone counts as a test


@pytest.mark.slow
def test_a_thousand(run: Path, bundle: Path, engine: TorchEngine) -> None:
    of = plan(bundle)
    found = stage(run, engine, of, directions(of, bundle), size=1000, draws=120)
    check_against_naive(run, of, found, size=1000, draws=120)
    for kind in found.tests[0].kinds:
        print(kind)
        assert kind.share == 50 / 1001
        assert kind.controls < 95
    assert found.tests[0].p is not None
    assert (run / "pool.sqlite").exists()
