"""The screen: the organisms, whose answer is known; its cache; what it refuses; its report in a browser."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import typer

import experiment_world as world
import heartstrings
from heartstrings import cli, organisms
from heartstrings.behaviours.base import Scenario
from heartstrings.behaviours.suites import suite
from heartstrings.cli import _console as console
from heartstrings.core.errors import InputError
from heartstrings.core.types import Pooling
from heartstrings.corpus import Corpus
from heartstrings.engines.hf.engine import TorchEngine
from heartstrings.experiment.cells import every_scenario
from heartstrings.experiment.controls import DirectionSet, direction_set, read_story_activations
from heartstrings.experiment.plan_files import preset
from heartstrings.experiment.sample_counts import searched
from heartstrings.experiment.screen import first_order, outcome_gradient, predicted
from heartstrings.experiment.screen_check import drawn_cells, exact_outcomes, fidelity
from heartstrings.experiment.screen_results import FILE, CheckedCell, Screen
from heartstrings.report._palette import PAPER
from heartstrings.report.screen import page, render_screen
from heartstrings.vectors.bundle import load as load_bundle
from heartstrings.vectors.extraction import extract
from heartstrings.workflows import screen as stage
from report_browser import Browser

CONTROLS = 200
LAYERS = (0, 2, 3, 5)
DOSE = 0.05


def command(*args: str) -> int:
    verb = typer.main.get_command(cli.app)
    return console.guarded(lambda: verb.main(args=[*args], prog_name="heartstrings", standalone_mode=False))


def made(kind: str, out: Path) -> Path:
    """Vectors of eight emotions told of five topics each, at four layers, with kept activations."""
    every = organisms.stories(per_emotion=5)
    some = tuple(story for story in every.stories if story.emotion in world.EMOTIONS)
    extract(
        heartstrings.load(f"organism:{kind}"), Corpus(some, author=every.author, source=every.source), out=out,
        neutral=organisms.neutral(n=40), poolings=(Pooling(start=50),), layers=LAYERS, keep_activations=True,
    )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def engine() -> TorchEngine:
    return cast(TorchEngine, heartstrings.load(world.MODEL))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made("steerable", tmp_path_factory.mktemp("screen") / "vectors")


@pytest.fixture(scope="module")
def folder(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("steerable") / "screen"
    heartstrings.screen("organism:steerable", out, vectors=bundle, controls=CONTROLS)
    return out


def directions(bundle: Path, n: int = CONTROLS) -> DirectionSet:
    vectors = load_bundle(bundle)
    controls = {"general": 0, "span": 0, "topic": n, "natural": n, "shuffled": 0}
    of = world.plan(controls=controls, doses=(-DOSE, 0.0, DOSE), slope_within=DOSE, seed=0)
    return direction_set(of, vectors, layers=LAYERS, stories=read_story_activations(bundle, vectors))


# The matrix form


def test_rows_are_the_vectors_one_by_one(bundle: Path) -> None:
    of = directions(bundle)
    for kind in ("topic", "natural", "direction"):
        names = ["desperate", "calm"] if kind == "direction" else [f"{kind}/{n}" for n in (0, 7, 3)]
        for layer in (0, 3):
            units, scales = of.rows(cast(Any, kind), names, layer)
            single = [of.vector(cast(Any, kind), name, layer) for name in names]
            np.testing.assert_allclose(units, [unit for unit, _ in single], atol=1e-12)
            assert scales.tolist() == [scale for _, scale in single]
    with pytest.raises(InputError, match=f"one of the plan's {CONTROLS}"):
        of.rows("natural", ["natural/0", f"natural/{CONTROLS}"], 2)
    with pytest.raises(InputError, match="a topic control called 'natural/0'"):
        of.rows("topic", ["natural/0"], 2)


def test_predictions_are_dot_products(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a loop; in pieces as whole."""
    of, draw = directions(bundle), np.random.default_rng(0)
    slopes = draw.standard_normal((3, of.vectors.width))
    names = [f"natural/{n}" for n in range(30)]
    norms = of.vectors.norms
    assert norms is not None
    norm = norms[of.vectors.layers.index(3)]
    expected = [[2 * DOSE * norm * of.vector("natural", name, 3)[0] @ slope for slope in slopes] for name in names]
    found = predicted(of, "natural", names, 3, slopes, 2 * DOSE)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    monkeypatch.setattr("heartstrings.experiment.screen.SLAB", 7 * of.vectors.width)
    np.testing.assert_allclose(predicted(of, "natural", names, 3, slopes, 2 * DOSE), found, rtol=1e-9)


# Known truth


def test_steerable(folder: Path, bundle: Path, engine: TorchEngine) -> None:
    """Emotions exceed every control at every layer, and the predictions are those of the pool's screen."""
    found = Screen.load(folder)
    (one,) = found.behaviours
    assert (found.emotions, found.layers, found.kinds) == (load_bundle(bundle).emotions, LAYERS, ("topic", "natural"))
    assert (one.name, one.understood, one.flat, one.without_outcome, one.reported_too) == ("choice", None, False, 0, 0)
    top = found.strongest("choice")
    assert abs(top[0].predicted) > 20
    assert top[0].larger == {"topic": 0, "natural": 0}
    assert (np.sign([each.predicted for each in top if each.emotion in ("desperate", "calm")])).sum() == 0
    of = directions(bundle)
    behaviour = suite("organism").behaviour("choice")
    scenarios = [s for s in behaviour.scenarios(n=200, seed=0) if s.id in one.scenarios]
    assert len(scenarios) == len(one.scenarios)
    reference = first_order(engine, of.plan, behaviour, scenarios, of, LAYERS)
    column = found.emotions.index("desperate")
    if len({s.group for s in scenarios}) == len(scenarios):
        assert [row[column] for row in one.predicted] == pytest.approx(
            [100 * value for value in reference.by_layer["desperate"]], abs=1e-3
        )
    by_hand = by_groups(outcome_gradient(engine, behaviour, scenarios, layers=LAYERS).values, scenarios)
    norms = of.vectors.norms
    assert norms is not None
    for row, layer in enumerate(LAYERS):
        unit = of.vector("direction", "desperate", layer)[0]
        change = 200 * DOSE * norms[of.vectors.layers.index(layer)] * unit @ by_hand[row]
        assert one.predicted[row][column] == pytest.approx(change, abs=1e-3)
        assert (one.low[row][column] or 0) <= one.predicted[row][column] <= (one.high[row][column] or 0)
    for each in one.fidelity:
        assert each.cells == 12
        assert (each.rank or 0) > 0.9
        assert 0.8 < (each.slope or 0) < 1.1
    assert found.cost.times_cheaper is not None
    assert found.cost.times_cheaper > 1


def by_groups(values: np.ndarray, scenarios: list[Scenario]) -> np.ndarray:
    """Mean over situations of each situation's mean, by a loop."""
    groups: dict[str, list[np.ndarray]] = {}
    for value, scenario in zip(values.astype(np.float64), scenarios, strict=True):
        groups.setdefault(scenario.group, []).append(value)
    found: np.ndarray = np.mean([np.mean(one, axis=0) for one in groups.values()], axis=0)
    return found


def test_ranks_and_bands_by_hand(folder: Path, bundle: Path, engine: TorchEngine) -> None:
    found = Screen.load(folder)
    (one,) = found.behaviours
    of, behaviour = directions(bundle), suite("organism").behaviour("choice")
    scenarios = [s for s in behaviour.scenarios(n=200, seed=0) if s.id in one.scenarios]
    slope = by_groups(outcome_gradient(engine, behaviour, scenarios, layers=LAYERS).values, scenarios)
    norms = of.vectors.norms
    assert norms is not None
    for band in one.bands:
        sizes = np.array([
            [abs(200 * DOSE * norms[of.vectors.layers.index(layer)] * of.vector(band.kind, f"{band.kind}/{n}", layer)[0]
                 @ slope[row]) for n in range(CONTROLS)]
            for row, layer in enumerate(LAYERS)
        ])  # fmt: skip
        assert band.largest == pytest.approx(sizes.max(axis=1), abs=1e-3)
        assert band.most == pytest.approx(np.percentile(sizes, 95, axis=1), abs=1e-3)
        for row, column in itertools.product(range(len(LAYERS)), range(len(found.emotions))):
            counted = int((sizes[row] >= abs(one.predicted[row][column])).sum())
            assert one.larger[band.kind][row][column] == counted
        for column in range(len(found.emotions)):
            own = max(abs(row[column]) for row in one.predicted)
            assert one.larger_anywhere[band.kind][column] == int((sizes.max(axis=0) >= own).sum())


def test_inert(tmp_path: Path) -> None:
    """Emotion is encoded as well, and next to nothing is predicted; below the last block, less than of controls."""
    bundle = made("inert", tmp_path / "vectors")
    found = heartstrings.screen("organism:inert", tmp_path / "out", vectors=bundle, controls=CONTROLS, check=0)
    (one,) = found.behaviours
    assert max(abs(value) for row in one.predicted for value in row) < 3
    for row, layer in enumerate(LAYERS):
        for band in one.bands if layer < 5 else ():
            assert np.median(np.abs(one.predicted[row])) < band.most[row]
    assert (one.check, one.fidelity, found.cost.times_cheaper) == ((), (), None)
    assert "No prediction was compared with steering" in page(found)


# The check


def test_exact_outcomes_as_one_by_one(bundle: Path, engine: TorchEngine) -> None:
    of, behaviour = directions(bundle), suite("organism").behaviour("choice")
    scenarios = behaviour.scenarios(n=3, seed=0)
    cells = [("direction", "calm", 3), ("natural", "natural/4", 0), ("topic", "topic/1", 3)]
    found = exact_outcomes(engine, of.plan, behaviour, scenarios, of, cells, (-0.1, 0.1))
    assert found.shape == (3, 2, 3)
    for at, dose, number in itertools.product(range(3), range(2), range(3)):
        alone = exact_outcomes(engine, of.plan, behaviour, [scenarios[number]], of, [cells[at]], [(-0.1, 0.1)[dose]])
        assert found[at, dose, number] == pytest.approx(alone.item(), abs=1e-4)


def test_cells_are_spread() -> None:
    draws, sizes = np.random.default_rng(0), np.zeros((30, 10))
    sizes[:, 4] = 5.0
    cells = drawn_cells(36, [f"e{n}" for n in range(10)], range(30), sizes, ("topic", "natural"), 1000, draws)
    assert len(set(cells)) == len(cells)
    assert {name for _, name, _, how in cells if how == "by size"} == {"e4"}
    assert {kind for kind, _, _, how in cells if how == "control"} == {"topic", "natural"}
    layers = {layer for _, _, layer, _ in cells}
    assert len(layers) == 6
    assert [sum(5 * part <= layer < 5 * part + 5 for layer in layers) for part in range(6)] == [1] * 6
    assert len(drawn_cells(9, ["e"], (3,), np.zeros((1, 1)), (), 0, draws)) == 1  # there is one cell only


def test_fidelity() -> None:
    """A perfect prediction that halves at the largest dose; a reversed one; too few; one without an outcome."""

    def cell(value: float, *exact: float | None) -> CheckedCell:
        return CheckedCell(kind="direction", direction="e", layer=0, drawn="evenly", predicted=value, exact=exact)

    draws = np.random.default_rng(0)
    values = [-2.0, -1.0, 0.5, 1.0, 3.0, 4.0]
    good, half = fidelity([cell(v, v, v) for v in values], 0.05, (0.05, 0.1), draws)
    assert (good.rank, good.slope, good.even_rank, good.same_sign) == (1, 1, 1, 1)
    assert (half.rank, half.slope) == (1, 0.5)  # twice the dose predicts twice the change
    (bad,) = fidelity([cell(v, -v) for v in values], 0.05, (0.05,), draws)
    assert (bad.rank, bad.slope, bad.same_sign) == (-1, -1, 0)
    (few,) = fidelity([cell(v, v) for v in values[:3]], 0.05, (0.05,), draws)
    assert (few.rank, few.rank_low, few.cells) == (None, None, 3)
    (gap,) = fidelity([cell(1.0, None), *(cell(v, v) for v in values)], 0.05, (0.05,), draws)
    assert (gap.cells, gap.rank) == (6, 1)
    (noisy,) = fidelity([cell(v, v + (-1) ** n * 2) for n, v in enumerate(values)], 0.05, (0.05,), draws)
    assert (noisy.rank_low or 0) < (noisy.rank or 0) < (noisy.rank_high or 0)


# Scenarios


def test_no_reported_scenario_is_screened() -> None:
    asked = stage.ask("smollm2", stage.ScreenSettings())
    plan = preset("full", "smollm2", suite="text")
    for name, some in asked.scenarios.items():
        behaviour = asked.suite.behaviour(name)
        every = every_scenario(plan, asked.suite, behaviour)
        choose = searched(plan, asked.suite, behaviour)
        reported = {one.group for one in every[choose:]}
        assert len(some) == 12
        assert sum(one.group in reported for one in some) == asked.reported_too[name]
        if name.startswith("feels"):
            assert asked.reported_too[name] == 0
        else:  # a run of the suite reports every situation; alone, these would choose the layers
            assert asked.reported_too[name] == 12
    assert asked.scenarios["feels"] == every_scenario(plan, asked.suite, asked.suite.behaviour("feels"))[:12]
    assert list(asked.scenarios) == [name for name in plan.effects if name != "tone"]
    assert [(one.behaviour, "sampled text" in one.reason) for one in asked.left_out] == [("tone", True)]
    more = stage.ask("smollm2", stage.ScreenSettings(scenarios=20, behaviour="feels"))
    assert more.scenarios["feels"][:12] == asked.scenarios["feels"]
    assert (len(more.scenarios["feels"]), more.reported_too, more.left_out) == (20, {"feels": 0}, ())


# Going on, and refusals


def test_gradients_are_read_back(
    folder: Path, bundle: Path, engine: TorchEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    again = Path(shutil.copytree(folder, tmp_path / "again"))
    calls: list[str] = []

    def counted(*args: Any, **more: Any) -> Any:
        calls.append("gradient")
        return outcome_gradient(*args, **more)

    def steered(*args: Any, **more: Any) -> Any:
        calls.append("check")
        return exact_outcomes(*args, **more)

    monkeypatch.setattr(stage, "outcome_gradient", counted)
    monkeypatch.setattr(stage, "exact_outcomes", steered)

    def run(**changes: Any) -> Screen:
        calls.clear()
        return heartstrings.screen(engine, again, **{"vectors": bundle, "controls": CONTROLS, **changes})

    first = Screen.load(folder)
    second = run()
    assert calls == []
    timeless = {"cost": first.cost, "model": first.model}
    assert second.model_copy(update=timeless) == first
    # Other controls and doses need no other gradient; other scenarios and layers do.
    twice = run(dose=2 * DOSE, check=0)
    assert calls == []
    np.testing.assert_allclose(twice.behaviours[0].predicted, 2 * np.array(first.behaviours[0].predicted), atol=2e-4)
    run(scenarios=4, check=0)
    assert calls == ["gradient"]
    run(layers="2,3", check=0)
    assert calls == ["gradient"]
    file = again / stage.GRADIENTS / "choice.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    run(layers="2,3", check=0)
    assert calls == ["gradient"]  # damaged: made again


def test_what_it_refuses(bundle: Path, tmp_path: Path, engine: TorchEngine) -> None:
    def refused(match: str, model: Any = "organism:steerable", **options: Any) -> None:
        with pytest.raises(InputError, match=match):
            heartstrings.screen(model, tmp_path / "out", **{"vectors": bundle, **options})
        assert not (tmp_path / "out").exists()

    refused("behaviour 'tone' cannot be screened: its answers are sampled text", "smollm2", behaviour="feels,tone")
    refused("no effect behaviour .fels.", "smollm2", behaviour="fels", suite="text")
    refused("cannot be screened", "smollm2", suite="agents")
    refused("question in the organisms' small language", "smollm2", suite="organism")
    refused("--controls 5.*40 at least", controls=5)
    refused("--dose 0", dose=0.0)
    refused("--check -1", check=-1)
    refused("--scenarios 1", scenarios=1)
    refused("no vectors of layer 1", engine, layers="1")
    refused("'cheerfull'|cheerfull", engine, emotion="cheerfull")
    bare = world.make_bundle(engine, tmp_path / "bare")
    refused("without the activations of their stories", engine, vectors=bare)
    assert heartstrings.screen(engine, tmp_path / "out", vectors=bare, controls=0, check=0, layers="3").kinds == ()


def test_reading_back(folder: Path, tmp_path: Path) -> None:
    assert Screen.load(folder / FILE) == Screen.load(folder)
    with pytest.raises(InputError, match="no screen of 'feels'"):
        Screen.load(folder).behaviour("feels")
    with pytest.raises(InputError, match="cannot be read"):
        Screen.load(tmp_path)
    later = json.loads((folder / FILE).read_text()) | {"schema_version": 99}
    (tmp_path / FILE).write_text(json.dumps(later))
    with pytest.raises(InputError, match="schema version 99"):
        Screen.load(tmp_path)


# The command and its report


def test_the_command(folder: Path, bundle: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    args = ("screen", "organism:steerable", "--vectors", str(bundle), "--controls", str(CONTROLS), "--out", str(folder))
    assert command(*args) == 0
    out, err = capsys.readouterr()
    assert out.rstrip().endswith(str(folder / "screen.html"))
    assert "Nothing is concluded from the screen alone" in err
    assert "times as long" in " ".join(err.split())
    assert command(*args, "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert value["strongest"][0]["larger"] == {"topic": 0, "natural": 0}
    assert value["report"] == str(folder / "screen.html")
    assert command("screen", "smollm2", "--behaviour", "tone", "--out", str(tmp_path / "no")) == 2
    assert "cannot be screened" in capsys.readouterr().err


def test_the_report_in_a_browser(browser: Browser, folder: Path) -> None:
    path = render_screen(folder)
    assert path.stat().st_size < 2_000_000
    browser.problems.clear()
    browser.look(width=1280, height=900, dark=False)
    browser.open(path)
    drawn = "[...document.querySelectorAll('.plot')].map(box => [box.id, box.querySelectorAll('svg.main-svg').length])"
    assert [(key, layers > 0) for key, layers in browser.evaluate(drawn)] == [
        ("maps", True), ("bands", True), ("calibration", True)
    ]  # fmt: skip
    assert browser.evaluate("document.querySelectorAll('#maps .heatmaplayer image').length") == 1
    assert browser.evaluate("document.documentElement.scrollWidth") <= 1280
    assert "Nothing is concluded" in browser.evaluate("document.querySelector('header.top').textContent")
    browser.look(width=390, height=844, dark=True)
    browser.wait("document.querySelector('.plot .main-svg').getBoundingClientRect().width < 391")
    rgb = ", ".join(str(int(PAPER[1][at : at + 2], 16)) for at in (1, 3, 5))
    browser.wait(f"getComputedStyle(document.body).backgroundColor === 'rgb({rgb})'")
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    assert browser.problems == []
