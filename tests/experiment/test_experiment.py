"""Experiments: which cells, in which order, what is recorded, where errors are named. On a bundled organism."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import experiment_world as world
from heartstrings.behaviours.base import Grade
from heartstrings.behaviours.roles import Suite
from heartstrings.behaviours.suites import suite as named_suite
from heartstrings.core.errors import HeartstringsError, InputError, NumericalError
from heartstrings.experiment.cells import FORMS, SIDE_BY_SIDE, Planned, anywhere, cells, select_jobs, steered, test_jobs
from heartstrings.experiment.dry_run import estimate
from heartstrings.experiment.layer_choice import choose_layer
from heartstrings.experiment.ledger import SampleLedger
from heartstrings.experiment.plan import Plan
from heartstrings.experiment.run import chosen_layers, run_experiment, sampling_seed
from heartstrings.verdict import decide

SUITE = named_suite("organism")


@pytest.fixture(scope="module")
def engine():
    return world.engine()


@pytest.fixture(scope="module")
def bundle(engine, tmp_path_factory) -> Path:
    return world.make_bundle(engine, tmp_path_factory.mktemp("bundle") / "out")


@pytest.fixture(scope="module")
def done(engine, bundle, tmp_path_factory) -> Path:
    """The ledger of an undisturbed run."""
    path = tmp_path_factory.mktemp("done") / "l.sqlite"
    world.run(world.plan(), bundle, path, model=engine)
    return path


# Cells


def test_the_cells_of_a_plan():
    kinds = {"topic": 0, "natural": 0, "span": 40, "shuffled": 40}
    plan = Plan(model="m", directions=("calm", "calm - sad"), layers=(1, 2, 3), controls=kinds)
    names = Planned(plan)
    found = cells(plan, SUITE, names, layers=plan.layers)
    assert len(set(found)) == len(found)
    count = Counter((cell.phase, cell.behaviour, cell.kind) for cell in found)
    (low, high), window, all_doses = (-0.2, 0.2), 4, len(plan.doses) - 1
    assert count["select", "choice", "direction"] == 2 * 3 * 2
    assert count["select", "choice", "general"] == count["select", "choice", "span"] == 40 * 3 * 2
    assert count["select", "choice", "shuffled"] == 2 * 40 * 3 * 2
    assert {cell.dose for cell in found if cell.phase == "select" and cell.kind != "baseline"} == {low, high}
    assert count["test", "choice", "direction"] == 2 * all_doses
    assert count["test", "choice", "general"] == 40 * window
    assert count["test", "choice", "shuffled"] == 2 * 40 * window
    assert count["test", "choice", "prompting"] == len(FORMS)  # a blend cannot be asked for in words
    assert count["test", "preferences", "direction"] == 2 * window
    for name in ("sums", "facts", "harm", "stories"):
        assert count["test", name, "direction"] == 2 * all_doses
        assert count["test", name, "prompting"] == count["test", name, "general"] == 0
    for phase, name in {(cell.phase, cell.behaviour) for cell in found}:
        assert count[phase, name, "baseline"] == 1
        assert phase == "test" or name == "choice"


def test_one_layer_needs_no_search_and_its_test_half_is_the_same():
    plan = world.plan()
    one = plan.changed(layers=(2,))
    names = Planned(plan)
    assert select_jobs(one, SUITE, names, (2,)) == ()
    (select,) = select_jobs(plan, SUITE, names, (2, 3))
    test = test_jobs(plan, SUITE, names, anywhere(plan, names, 2))[0]
    alone = test_jobs(one, SUITE, names, anywhere(one, names, 2))[0]
    assert [s.id for s in alone.scenarios] == [s.id for s in test.scenarios]
    assert not {s.id for s in select.scenarios} & {s.id for s in test.scenarios}
    assert (len(select.scenarios), len(test.scenarios)) == (3, 4)


def test_setting_a_component_to_0_is_no_baseline():
    plan = world.plan()
    names = Planned(plan)

    def doses(of: Plan) -> set[float]:
        found = cells(of, SUITE, names, layers=(2,))
        return {cell.dose for cell in found if cell.kind == "direction" and cell.behaviour == "choice"}

    assert doses(plan) == {-0.2, 0.2, 1.0}
    assert doses(plan.changed(operation="clamp")) == {-0.2, 0.0, 0.2, 1.0}


def test_effects_that_choose_different_layers_have_their_costs_at_each():
    plan = world.plan()
    names = Planned(plan)
    one = steered(plan, names)[0]
    suite = replace(SUITE, effects=(*SUITE.effects, *SUITE.harm), harm=())
    two = plan.model_copy(update={"effects": ("choice", "harm")})  # as a suite with two effects would have it
    chosen = {**anywhere(two, names, 2), ("harm", one): 3}
    costs = [job for job in test_jobs(two, suite, names, chosen) if job.behaviour.name == "sums"]
    assert Counter(cell.layer for cell in costs[0].cells) == {-1: 1, 2: 3, 3: 3}


def test_the_work_is_in_an_order_that_lets_rows_share_their_trunk():
    plan = world.plan()
    job = select_jobs(plan, SUITE, Planned(plan), (2, 3))[0]
    items = list(job.items())
    assert len(items) == len(job) == len({item.key for item in items})
    runs = [(item.scenario.id, item.cell.layer) for item in items]
    changes = sum(one != other for one, other in pairwise(runs))
    size = next(at for at, item in enumerate(items) if item.scenario != items[0].scenario)
    blocks = [job.cells[start : start + size] for start in range(0, len(job.cells), size)]
    assert len(blocks) == -(-len(job.cells) // SIDE_BY_SIDE) > 1
    assert len(blocks[-1]) > SIDE_BY_SIDE // 2, "no block is much smaller than the others"
    assert {item.cell for item in items[: 3 * size]} == set(blocks[0]), "all scenarios before the next cells"
    assert changes == 3 * sum(len({cell.layer for cell in block}) for block in blocks) - 1  # three scenarios


def test_the_seed_of_a_text_knows_no_cell():
    seeds = {
        sampling_seed(plan, behaviour, scenario, repeat)
        for plan in (0, 1) for behaviour in ("a", "b") for scenario in ("x", "y") for repeat in (0, 1)
    }  # fmt: skip
    assert len(seeds) == 16
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert sampling_seed(0, "stories", "stories/0000", 0) == sampling_seed(0, "stories", "stories/0000", 0)


# Running


def test_every_cell_and_scenario_is_recorded_once(done):
    plan = world.plan()
    with SampleLedger.read(done) as ledger:
        rows = ledger.samples()
        assert len(rows) == len(ledger.keys()) == ledger.count()
        layers = {row.cell.layer for row in rows if row.cell.phase == "test" and row.cell.direction == "desperate"}
    assert len(layers) == 1
    sizes = Counter((row.cell.phase, row.cell.behaviour, row.cell.kind) for row in rows)
    assert sizes["select", "choice", "baseline"] == 3
    assert sizes["select", "choice", "direction"] == 2 * 2 * 3
    assert sizes["select", "choice", "span"] == 20 * 2 * 2 * 3
    assert sizes["test", "choice", "general"] == 20 * 2 * 4
    assert sizes["test", "choice", "prompting"] == 2 * 4
    assert sizes["test", "sums", "direction"] == 3 * 4
    assert sizes["test", "stories", "direction"] == 3 * 2
    assert all(row.outcome is None or 0 <= row.outcome <= 1 for row in rows)
    assert all(row.text and "log_perplexity" in row.detail for row in rows if row.cell.behaviour == "stories")
    total = estimate(plan, suite=SUITE).samples
    assert total == len(rows)


def test_steering_does_what_it_says(done):
    """Desperate moves the choice on `steerable`, and the outcome is the engine's own probability."""
    with SampleLedger.read(done) as ledger:
        rows = ledger.samples(phase="test", behaviour="choice", kind="direction")
        before = {
            row.scenario: row.outcome for row in ledger.samples(phase="test", behaviour="choice", kind="baseline")
        }
        changes = {dose: [r.outcome - before[r.scenario] for r in rows if r.cell.dose == dose] for dose in (-0.2, 0.2)}
    assert np.mean(changes[0.2]) > 0.1 > -0.1 > np.mean(changes[-0.2])


def test_layers_are_chosen_from_the_select_rows_by_the_rule(done, bundle):
    plan = world.plan()
    found = world.directions(plan, bundle)
    with SampleLedger.read(done) as ledger:
        chosen = chosen_layers(plan, found, ledger, (2, 3), SUITE)
        for one in steered(plan, found):
            rows = ledger.samples(phase="select", behaviour="choice", kind=one.kind, direction=one.direction)
            assert chosen["choice", one] == choose_layer(rows).layer
            at = {row.cell.layer for row in ledger.samples(phase="test", kind=one.kind, direction=one.direction)}
            assert at == {chosen["choice", one]}
    assert len(chosen) == 41


def test_a_finished_run_asks_nothing_more(done, bundle, engine, tmp_path):
    before = world.table(done)

    class Silent:
        info = engine.info

        def score(self, requests):
            raise AssertionError("asked again")

        generate = score

    seen: list[tuple[int, int]] = []
    after = world.run(
        world.plan(), bundle, done, model=Silent(), progress=lambda done, total: seen.append((done, total))
    )
    assert after == before
    assert seen[-1] == (len(before), len(before))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_what_is_found_does_not_count_for_the_pace(done, bundle, engine, tmp_path):
    """The first report of a run that goes on includes all that was there: the time left is that of what is asked."""
    total, calls = len(world.table(done)), 0

    class Stopping:
        info, generate = engine.info, engine.generate

        def score(self, requests):
            nonlocal calls
            calls += 1
            if calls > 6:
                raise KeyboardInterrupt
            return engine.score(requests)

    path = tmp_path / "l.sqlite"
    with pytest.raises(KeyboardInterrupt):
        world.run(world.plan(), bundle, path, model=Stopping())
    there = len(world.table(path))
    seen: list[tuple[int, int]] = []
    world.run(world.plan(), bundle, path, model=engine, progress=lambda *step: seen.append(step))
    assert 0 < there < seen[0][0] < total
    assert seen[-1] == (total, total)


def test_missing_rows_alone_are_filled_in(done, bundle, engine, tmp_path):
    """Rows that another chunk size left out are asked, and no other."""
    with SampleLedger.read(done) as ledger:
        rows = ledger.samples()
    gone = {n for n in range(len(rows)) if n % 7 == 3}
    with SampleLedger(tmp_path / "l.sqlite", world.plan()) as ledger:
        ledger.add([row for n, row in enumerate(rows) if n not in gone])
    world.run(world.plan(), bundle, tmp_path / "l.sqlite", model=engine)
    with SampleLedger.read(tmp_path / "l.sqlite") as ledger:
        again = ledger.samples()
    assert [(row.cell, row.scenario, row.repeat) for row in again] == [(r.cell, r.scenario, r.repeat) for r in rows]
    kept = [n for n in range(len(rows)) if n not in gone]
    assert [again[n] for n in kept] == [rows[n] for n in kept]
    near = [abs(again[n].outcome - rows[n].outcome) for n in gone if rows[n].cell.behaviour == "choice"]
    assert max(near) < 1e-4  # other batches round otherwise


def test_another_model_or_other_vectors_are_refused(done, bundle, engine, tmp_path):
    (tmp_path / "l.sqlite").write_bytes(done.read_bytes())
    other = SimpleNamespace(info=engine.info.model_copy(update={"weights_hash": "sha256:0"}))
    with pytest.raises(InputError, match="begun with a model"):
        world.run(world.plan(), bundle, tmp_path / "l.sqlite", model=other)
    vectors = world.load_bundle(bundle)
    changed = replace(vectors, norms=vectors.norms * np.float32(1.5))
    changed.save(tmp_path / "bundle")
    with pytest.raises(InputError, match="begun with vectors"):
        world.run(world.plan(), tmp_path / "bundle", tmp_path / "l.sqlite", model=engine)


def test_too_few_kinds_of_control(bundle, engine, tmp_path):
    plan = world.plan(controls={"general": 20, "span": 0, "topic": 0, "natural": 0, "shuffled": 20})
    with pytest.raises(InputError, match="20 controls of the kinds that can be made"):
        world.run(plan, bundle, tmp_path / "l.sqlite", model=engine)


def with_grader(name: str, grade) -> tuple[Suite, str]:
    """The organisms' suite in which one behaviour grades its second scenario in another way."""
    real = SUITE.behaviour(name)
    at = real.scenarios(n=2, seed=5)[1].id

    class Odd(type(real)):
        def grade(self, scenario, answer, follow_up=None):
            return grade(scenario) if scenario.id == at else super().grade(scenario, answer, follow_up)

    assert SUITE.harm == (real,)
    return replace(SUITE, harm=(Odd(),)), at


def fail(scenario):
    raise ZeroDivisionError("no words")


@pytest.mark.parametrize(
    ("grade", "error", "said"),
    [
        (fail, HeartstringsError, "grading failed with ZeroDivisionError: no words"),
        (lambda scenario: Grade(1.5, 1.0), NumericalError, "outcome 1.5"),
        (lambda scenario: Grade(float("nan"), 1.0), NumericalError, "outcome nan"),
        (lambda scenario: Grade(0.5, -0.1), NumericalError, "valid -0.1"),
        (lambda scenario: Grade(0.5, 1.0, detail={"x": float("inf")}), NumericalError, "x is inf"),
    ],
)
def test_a_grade_that_cannot_be_names_its_cell(bundle, engine, tmp_path, grade, error, said):
    suite, at = with_grader("harm", grade)
    with pytest.raises(error) as caught:
        world.run(world.plan(layers=(2,)), bundle, tmp_path / "l.sqlite", model=engine, suite=suite)
    assert said in str(caught.value)
    assert f"harm, scenario {at}, baseline" in str(caught.value)
    with SampleLedger.read(tmp_path / "l.sqlite") as ledger:  # what was finished before stays
        assert ledger.count() > 0
        assert not ledger.keys(behaviour="harm")


def test_a_missing_grade_is_a_row_with_nothing_in_it(bundle, engine, tmp_path):
    suite, at = with_grader("harm", lambda scenario: Grade(None, None))
    world.run(world.plan(layers=(2,)), bundle, tmp_path / "l.sqlite", model=engine, suite=suite)
    with SampleLedger.read(tmp_path / "l.sqlite") as ledger:
        rows = ledger.samples(behaviour="harm")
    assert {(row.outcome, row.valid) for row in rows if row.scenario == at} == {(None, None)}
    assert len([row for row in rows if row.scenario == at]) == 4
    assert all(row.outcome is not None for row in rows if row.scenario != at)


def test_numbers_that_break_in_the_model_name_the_cell(bundle, engine, tmp_path):
    class Broken:
        info = engine.info

        def score(self, requests):
            for request in requests:
                if request.steering is not None and request.steering.interventions[0].dose > 0.5:
                    raise NumericalError("NaN in the logits", "finite numbers")
            return engine.score(requests)

        generate = engine.generate

    with pytest.raises(NumericalError, match=r"choice, scenario \S+, direction desperate, layer 2, dose 1: NaN"):
        world.run(world.plan(layers=(2,)), bundle, tmp_path / "l.sqlite", model=Broken())


def test_a_ledger_of_another_plan(bundle, engine, tmp_path):
    plan = world.plan()
    with (
        SampleLedger(tmp_path / "l.sqlite", plan.changed(seed=1)) as ledger,
        pytest.raises(InputError, match="another"),
    ):
        run_experiment(plan, engine, world.directions(plan, bundle), ledger)


# What the model does not understand


class Guessed:
    """Known answers that the model gets right in this share of cases, whatever it says."""

    def __init__(self, right: float) -> None:
        self.right = right
        self.inner = SUITE.capability[1]

    name, role, chance = "guessed", "check", 0.5

    def __getattr__(self, what: str):
        return getattr(self.inner, what)

    def grade(self, scenario, answer, follow_up=None) -> Grade:
        draw = np.random.default_rng(sum(map(ord, scenario.id)))
        return Grade(float(draw.random() < self.right), None)


@pytest.mark.parametrize(("right", "asked"), [(0.97, True), (0.5, False)])
def test_controls_are_asked_only_what_the_model_understands(engine, bundle, tmp_path, right, asked):
    plan = world.plan(samples={**world.plan().samples.model_dump(), "check": 24})
    suite = replace(SUITE, check=(Guessed(right),), checks={"choice": ("guessed",)})
    said: list[tuple[int, int]] = []
    directions = world.directions(plan, bundle)
    with SampleLedger(tmp_path / "l.sqlite", plan) as ledger:
        run_experiment(
            plan, engine, directions, ledger, suite=suite, progress=lambda done, total: said.append((done, total))
        )
        kinds = {(row.cell.phase, row.cell.kind) for row in ledger.samples(behaviour="choice")}
        behaviours = {row.cell.behaviour for row in ledger.samples()}
        verdict = decide(plan, ledger, suite, model=plan.model, encoded="encoded")
    assert said[-1][0] == said[-1][1]
    assert (behaviours == {"choice", "guessed"}) == (not asked), "costs and matched questions are not asked either"
    assert {("select", "direction"), ("test", "direction")} <= kinds, "the curve is drawn all the same"
    assert (("select", "general") in kinds, ("test", "general") in kinds) == (asked, asked)
    (card,) = verdict.answers
    assert bool(card.controls) == asked
    assert [check.holds for check in card.checks] == [asked]
    if not asked:
        assert card.answer == "inconclusive"
        assert "does not tell the options of choice apart" in card.sentence
        assert any("controls were not asked" in words for words in card.missing)
        assert any("costs and matched questions were not asked" in words for words in card.missing)
    # Taken up again, nothing is left to ask.
    with SampleLedger(tmp_path / "l.sqlite", plan) as ledger:
        before = len(ledger.samples())
        run_experiment(plan, engine, directions, ledger, suite=suite)
        assert len(ledger.samples()) == before
