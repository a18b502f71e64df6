"""Plans: read, hashed, frozen."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import models
from heartstrings import organisms
from heartstrings.behaviours import suites
from heartstrings.core.errors import InputError
from heartstrings.experiment.plan import Claims, Controls, Plan, Samples, Thresholds, differences, searched_layers
from heartstrings.experiment.plan_directions import emotion
from heartstrings.experiment.plan_files import PRESETS, freeze, frozen, load_plan, preset, write_plan
from heartstrings.workflows import run as pipeline

BASE = Plan(model="organism:steerable")

# One other value for every field: each of them decides a sample or what is made of it.
OTHER = {
    "model": "organism:inert", "revision": "main", "dtype": "float32", "vectors": Path("v"), "variant": "raw",
    "directions": ("desperate", "sad"), "layers": (2, 3), "site": "mlp", "operation": "clamp",
    "positions": "generated", "doses": (-0.2, -0.1, 0.0, 0.1, 0.2), "slope_within": 0.3, "slope_from": 0.15,
    "fit_doses": True, "prompting": False, "confirm": ("choice",),
    "early_stopping": True, "seed": 1, "judges": ("self",), "looks": (64,),
    "control_round": 16,
}  # fmt: skip
FIXED = {
    "schema_version", "suite", "effects", "controls", "claims", "samples", "thresholds", "raises", "lowers",
    "small_doses", "look",
}  # fmt: skip
"""Fields with one value so far, or that need others, or tables, whose fields are all tried below."""


def inner() -> list[tuple[str, str]]:
    tables = {"controls": Controls, "claims": Claims, "samples": Samples, "thresholds": Thresholds}
    return [(table, name) for table, model in tables.items() for name in model.model_fields]


@pytest.mark.parametrize("field", sorted(set(Plan.model_fields) - FIXED - {"dose_factor"}))
def test_the_hash_changes_with_every_field(field):
    # Two looks halve alpha, so that more controls are needed.
    base = BASE.changed(controls={"general": 80, "topic": 80, "natural": 80}) if field == "looks" else BASE
    assert base.changed(**{field: OTHER[field]}).hash != base.hash


def test_the_hash_changes_with_what_is_declared_and_with_small_doses():
    declared = BASE.changed(confirm=("choice",))
    signs = [declared.changed(**{side: ("calm",)}) for side in ("raises", "lowers")]
    within = BASE.changed(slope_from=0.15)
    small = within.changed(small_doses=(-0.1, 0.1))
    assert len({one.hash for one in (BASE, declared, *signs, within, small)}) == 6
    assert (signs[0].sign("choice", "calm"), signs[1].sign("choice", "calm")) == (1, -1)
    assert signs[0].sign("choice", "desperate") == 0
    assert small.compared("choice") == (-0.2, -0.1, 0.1, 0.2)
    assert small.times(0.5).small_doses == (-0.05, 0.05)


def test_small_doses_are_asked_of_controls_for_what_is_declared():
    plan = preset("full", "m", suite="text")
    assert plan.compared("feels") == (-0.1, -0.025, 0.025, 0.1)
    assert plan.compared("vignette-honesty") == (-0.1, 0.1)
    assert preset("full", "m", suite="text", doses=(-0.1, 0.0, 0.1)).small_doses == ()


def test_the_suite_declares_signs_by_valence():
    plan = preset("full", "m", suite="text", directions=("joyful", "desperate", "calm - sad"))
    assert (plan.raises, plan.lowers) == (("joyful",), ("desperate",))
    assert preset("full", "m", suite="text", directions=("joyful",), lowers=("joyful",)).raises == ()
    quick = preset("full", "m", suite="text-quick", directions=("joyful", "desperate"))
    assert (quick.controls.topic, quick.controls.natural) == (20, 20)
    # A blend has no sign of its own, so that all of it is tested on both sides.
    assert preset("full", "m", suite="text-quick", directions=("joyful", "calm - sad")).controls.topic == 40


def test_the_hash_changes_with_the_factor_of_fitted_doses():
    fitted = BASE.changed(fit_doses=True, dose_factor=1.0)
    assert len({BASE.hash, BASE.changed(fit_doses=True).hash, fitted.hash, fitted.changed(dose_factor=2).hash}) == 4


@pytest.mark.parametrize(("table", "field"), inner())
def test_the_hash_changes_with_every_field_of_a_table(table, field):
    value = getattr(getattr(BASE, table), field)
    other = not value if isinstance(value, bool) else value * 0.999 if isinstance(value, float) else value + 40
    if field == "alpha":
        other = 0.06
    changed = BASE.changed(**{table: {field: other}})
    assert changed.hash != BASE.hash
    assert differences(BASE, changed).startswith(f"{table}.{field} was ")


def test_a_plan_from_before_a_field_was_there_keeps_its_hash():
    """A run of an older version is taken up again under the same hash; `slope_from` came later."""
    folder = Path(__file__).parents[1] / "data" / "before_slope_from"
    assert "slope_from" not in (folder / "plan.json").read_text(encoding="utf-8")
    assert frozen(folder).window == (-0.1, 0.1)  # refused if the hash were another


def test_the_smallest_doses_may_lie_outside_the_window():
    doses = (-0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2)
    plan = Plan(model="m", doses=doses, slope_from=0.1, slope_within=0.1)
    assert plan.window == (-0.1, 0.1)
    assert Plan(model="m", doses=doses, slope_within=0.1).window == (-0.1, -0.05, 0.05, 0.1)


def test_doses_of_ones_own_make_a_window_of_ones_own(tmp_path):
    """`--dose` on a model that the suite's doses are too large for."""
    assert preset("full", "m", suite="text").window == (-0.1, 0.1)
    own = preset("full", "m", suite="text", doses=(-0.05, -0.02, 0.0, 0.02, 0.05))
    assert own.window == (-0.05, -0.02, 0.02, 0.05)
    assert preset("full", "m", suite="text", doses=(-0.05, 0.0, 0.05), slope_from=0.02).slope_from == 0.02
    path = tmp_path / "plan.toml"
    path.write_text('model = "m"\nsuite = "text"\ndoses = [-0.05, 0, 0.05]\n', encoding="utf-8")
    assert load_plan(path).window == (-0.05, 0.05)


def test_the_hash_is_of_the_values_not_of_how_they_were_written():
    shuffled = Plan(model="organism:steerable", doses=list(reversed(BASE.doses)), controls={"topic": 40})
    assert shuffled == BASE
    assert shuffled.hash == BASE.hash
    assert Plan(model="m", doses=[0, 1, 0.1, -0.0 - 0.1], directions=["  a -  b"]).hash == Plan(
        model="m", doses=(-0.1, 0.0, 0.1, 1.0), directions=("a - b",)
    ).hash  # fmt: skip
    # Written out, so that a change of the canonical form, which makes every folder a stranger, is noticed.
    assert Plan(model="m").hash == Plan.model_validate_json(Plan(model="m").model_dump_json()).hash
    assert len(BASE.hash) == 64


def test_the_package_version_is_not_in_the_hash(monkeypatch):
    before = BASE.hash
    monkeypatch.setattr("heartstrings.__version__", "99")
    assert Plan(model="organism:steerable").hash == before


def test_a_plan_in_toml(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(
        'model = "organism:inert"\ndirections = ["calm", "0.5*joyful - sad"]\nlayers = [4, 2]\n'
        "doses = [0.1, 0, -0.1]\nseed = 3\n[controls]\nnatural = 0\n[samples]\neffect = 12\n"
        "[thresholds]\nalpha = 0.1\n"
    )
    plan = load_plan(path)
    assert (plan.model, plan.directions, plan.layers) == ("organism:inert", ("calm", "0.5*joyful - sad"), (2, 4))
    assert (plan.doses, plan.window) == ((-0.1, 0.0, 0.1), (-0.1, 0.1))
    assert (plan.controls.natural, plan.controls.topic) == (0, 40)
    assert (plan.samples.effect, plan.samples.harm, plan.thresholds.alpha) == (12, 64, 0.1)


def test_the_plan_in_the_documents(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text(encoding="utf-8")
    (tmp_path / "plan.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    assert load_plan(tmp_path / "plan.toml").directions == ("desperate", "calm")


def test_a_written_plan_reads_back(tmp_path):
    plan = BASE.changed(directions=('"at ease" - 0.5*sad', "calm"), seed=5, samples={"writing": 9}, revision='a"\\b')
    write_plan(tmp_path / "sub" / "plan.toml", plan)
    assert load_plan(tmp_path / "sub" / "plan.toml") == plan


def test_presets():
    organism = {"samples": {"harm": 300}, "thresholds": {"validity_drop": 0.3}, "control_round": 16}
    assert preset("full", "m") == preset("full", "m", suite="organism") == Plan(model="m").changed(**organism)
    quick = preset("quick", "m")
    assert (quick.samples.select, quick.samples.effect, quick.samples.repeats) == (6, 16, 1)
    assert 1.5 not in quick.doses
    assert preset("quick", "m", samples={"effect": 30}).samples.model_dump() == quick.samples.model_dump() | {
        "effect": 30
    }
    for name in PRESETS:
        preset(name, "m")
    with pytest.raises(InputError, match="quick"):
        preset("fast", "m")
    with pytest.raises(InputError, match="Did you mean seed"):
        preset("quick", "m", sed=1)


def test_a_preset_has_as_many_controls_as_its_tests_need():
    four = preset("quick", "m", directions=("a", "b", "c", "d")).controls
    assert four.model_dump() == dict.fromkeys(("general", "topic", "natural"), 80) | {"span": 0, "shuffled": 0}
    # A kind that a suite leaves out stays out, and the others are as many as needed too.
    words = preset("full", "m", suite="text", directions=("a", "b", "c", "d")).controls
    assert words.model_dump() == {"general": 0, "span": 0, "topic": 80, "natural": 80, "shuffled": 0}
    some = preset("quick", "m", directions=("a", "b", "c"), controls={"natural": 0})
    assert (some.controls.general, some.controls.natural) == (60, 0)
    with pytest.raises(InputError, match=r"60 \+ 1"):  # what was asked for by number is taken at its word
        preset("quick", "m", directions=("a", "b", "c", "d"), controls={"span": 60})


def test_a_plan_is_frozen_once(tmp_path):
    path = freeze(tmp_path / "run", BASE)
    content = path.read_bytes()
    assert json.loads(content)["hash"] == BASE.hash
    freeze(tmp_path / "run", BASE)
    assert path.read_bytes() == content
    assert frozen(tmp_path / "run") == BASE
    with pytest.raises(
        InputError, match=r"seed was 0 and is now 2, samples\.effect|samples\.effect was 32 and is now 3"
    ):
        freeze(tmp_path / "run", BASE.changed(seed=2, samples={"effect": 3}))
    assert path.read_bytes() == content


def test_a_frozen_plan_that_was_edited_is_refused(tmp_path):
    path = freeze(tmp_path, BASE)
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(InputError, match="changed after it was frozen"):
        frozen(tmp_path)
    path.write_text("{}")
    with pytest.raises(InputError, match="no frozen plan"):
        frozen(tmp_path)
    with pytest.raises(InputError, match=r"no plan\.json"):
        frozen(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("n", "layers"),
    [(1, (0,)), (2, (0,)), (3, (1,)), (4, (1, 2)), (6, (2, 3, 4)), (12, (4, 6, 7, 9)), (32, (10, 15, 20, 25))],
)
def test_the_middle_of_a_model(n, layers):
    assert searched_layers(BASE, n) == layers


def test_layers_that_the_model_or_the_vectors_lack():
    assert searched_layers(BASE, 6, known=(0, 2, 5)) == (2,)
    assert searched_layers(BASE.changed(layers=(1, 5)), 6) == (1, 5)
    with pytest.raises(InputError, match="the model has 6 layers"):
        searched_layers(BASE.changed(layers=(6,)), 6)
    with pytest.raises(InputError, match="the vectors lack it"):
        searched_layers(BASE.changed(layers=(1,)), 6, known=(2, 3))
    with pytest.raises(InputError, match="Name the layers"):
        searched_layers(BASE, 6, known=(0, 5))


def test_which_directions_are_an_emotion_alone():
    texts = ("calm", "at ease", "'at ease'", "-calm", "0.5*calm", "a - b", "self-confident")
    found = [emotion(text) for text in texts]
    assert found == ["calm", "at ease", "at ease", None, None, None, "self-confident"]


def test_importing_plans_is_light():
    code = (
        "import sys; from heartstrings.experiment.plan import Plan; Plan(model='m'); "
        "print('torch' in sys.modules, 'scipy' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("kind", organisms.KINDS)
def test_a_nameless_organism_is_asked_what_it_can_read(kind, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(organisms.path(kind), copy, ignore=shutil.ignore_patterns("organism.json"))
    for name in (str(copy), f"organism:{kind}"):
        (plan,) = pipeline.plans_for([name], "full").values()
        assert plan.suite == "organism"


def test_any_other_model_is_asked_the_suite_of_a_chat_model(tmp_path):
    models.folder(tmp_path / "model", "llama")
    for settings, suite in (("full", "standard"), ("quick", "quick")):
        for name in (str(tmp_path / "model"), "owner/name"):
            (plan,) = pipeline.plans_for([name], settings).values()
            assert plan.suite == suite
    (plan,) = pipeline.plans_for(["owner/name"], "full", effects=("pushback",)).values()
    assert (plan.suite, plan.effects) == ("quick", ("pushback",))
    (plan,) = pipeline.plans_for(["owner/name"], "full", effects=("facts", "pushback")).values()
    assert plan.suite == "chosen"


def test_every_effect_is_held_against_questions_of_its_own_kind():
    """A choice against choices, a dialogue against dialogues; every match exists."""
    for make in suites.SUITES.values():
        suite = make()
        for effect in suite.effects:
            matched = suite.matched_of(effect.name)
            assert matched or effect.name == "tone"  # a text without tone would be another text
            if not matched:
                continue
            assert {one.ask for one in matched} == {effect.ask}, effect.name
        known = {one.name for one in suite.matched}
        names = {one.name for one in suite.effects}
        assert all(set(found) <= known for effect, found in suite.matches.items() if effect in names)


def test_some_counts_of_controls_leave_the_others_as_they_are() -> None:
    """Three kinds named, as plans of before did: the natural kinds stay."""
    plan = preset("full", "organism:steerable", controls={"general": 40, "span": 0, "shuffled": 0})
    usual = preset("full", "organism:steerable").controls
    assert (plan.controls.topic, plan.controls.natural) == (usual.topic, usual.natural) != (0, 0)
