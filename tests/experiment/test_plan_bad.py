"""Bad plans: one clear error each, before a model is loaded or torch is imported."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from geometry_worlds import provenance
from heartstrings.core.errors import BundleError, HeartstringsError, InputError
from heartstrings.experiment.plan import Plan
from heartstrings.experiment.plan_directions import check_against_vectors
from heartstrings.experiment.plan_files import freeze, load_plan
from heartstrings.vectors.emotion_vectors import EmotionVectors

GOOD = 'model = "organism:steerable"\n'

# What the file says, and what the message must say of it.
CASES: dict[str, tuple[str, str]] = {
    "not TOML": ("model = ", "is not TOML"),
    "not UTF-8": ("\udcff", "is not TOML"),
    "no model": ("seed = 1", "lacks 'model'"),
    "an empty model": ('model = " "', "without a model"),
    "an unknown organism": ('model = "organism:steerble"', "no organism is called 'steerble'"),
    "an unknown field": (GOOD + "dosis = [0]", "Did you mean doses"),
    "an unknown table": (GOOD + "[threshold]\nalpha = 0.1", "Did you mean thresholds"),
    "an unknown field of a table": (GOOD + "[samples]\neffects = 3", "'samples.effects'.*Did you mean effect"),
    "text for a number": (GOOD + 'seed = "7"', "seed = '7'.*integer"),
    "a fraction for a count": (GOOD + "[samples]\neffect = 2.5", r"samples\.effect = 2\.5.*integer"),
    "a number for a truth value": (GOOD + "prompting = 1", "prompting = 1.*boolean"),
    "text for a list": (GOOD + 'directions = "calm"', "directions = 'calm'"),
    "a truth value for a dose": (GOOD + "doses = [0, true]", "True.*number"),
    "a number for a table": (GOOD + "controls = 40", "controls = 40"),
    "no direction": (GOOD + "directions = []", "directions is empty"),
    "an empty direction": (GOOD + 'directions = [" "]', "empty expression"),
    "a direction twice": (GOOD + 'directions = ["calm", "sad", "calm"]', "'calm' is there twice"),
    "a blend twice": (GOOD + 'directions = ["0.5*calm", "0.5 * calm"]', "twice"),
    "an unreadable blend": (GOOD + 'directions = ["0.5*"]', "cannot read '0.5[*]'"),
    "a blend with an unknown sign": (GOOD + 'directions = ["calm^2"]', "cannot read 'calm.2'"),
    "a product of emotions": (GOOD + 'directions = ["calm*sad"]', "a number times an emotion"),
    "a blend that is a number": (GOOD + 'directions = ["0.5"]', "is a number"),
    "a blend that cancels": (GOOD + 'directions = ["calm - calm"]', "cancels"),
    "no dose": (GOOD + "doses = []", "doses is empty"),
    "no dose 0": (GOOD + "doses = [-0.1, 0.1]", "doses without 0"),
    "a dose twice": (GOOD + "doses = [0, 0.1, 0.2, 0.10]", "dose 0.1 is there twice"),
    "0 and -0": (GOOD + "doses = [0.0, -0.0, 0.1, 0.2]", "dose 0 is there twice"),
    "a dose that is no number": (GOOD + "doses = [0, nan]", "dose nan.*finite"),
    "an infinite dose": (GOOD + "doses = [0, inf]", "dose inf.*finite"),
    "a dose in percent": (GOOD + "doses = [0, 20]", "dose 20.*at most 10"),
    "no negative dose in the window": (GOOD + "doses = [-1, 0, 0.1, 0.2]", "no negative dose.*window of 0.2"),
    "no positive dose in the window": (GOOD + "doses = [-0.2, -0.1, 0, 1]", "no positive dose.*window of 0.2"),
    "one dose in the window": (GOOD + "doses = [0, 0.1, 0.5]", "1 doses besides 0"),
    "only dose 0": (GOOD + "doses = [0]", "0 doses besides 0"),
    "a window that ends before it begins": (GOOD + "slope_from = 0.3", "slope_from = 0.3.*slope_within = 0.2"),
    "a negative start of the window": (GOOD + "slope_from = -0.1", "slope_from = -0.1"),
    "no positive dose from where the window starts": (
        GOOD + "doses = [-0.2, -0.1, 0, 0.1, 0.5]\nslope_from = 0.15", "no positive dose.*from 0.15 to 0.2",
    ),
    "a window of 0": (GOOD + "slope_within = 0", "slope_within = 0"),
    "an unknown suite": (GOOD + 'suite = "organisms"', "organisms"),
    "an unknown effect": (GOOD + 'effects = ["choise"]', "Did you mean choice"),
    "a capability as an effect": (GOOD + 'effects = ["sums"]', "no effect behaviour 'sums'"),
    "no effect": (GOOD + "effects = []", "effects is empty"),
    "an unknown behaviour to confirm": (GOOD + 'confirm = ["choise"]', "Did you mean choice"),
    "a behaviour to confirm twice": (GOOD + 'confirm = ["choice", "choice"]', "confirm.*twice"),
    "an effect twice": (GOOD + 'effects = ["choice", "choice"]', "twice"),
    "an unknown operation": (GOOD + 'operation = "ad"', "operation = 'ad'.*'add' or 'clamp'"),
    "an operation without a dose": (GOOD + 'operation = "ablate"', "'ablate'.*'clamp'.*has no dose"),
    "an unknown site": (GOOD + 'site = "residual"', "site = 'residual'.*'block'"),
    "unknown positions": (GOOD + 'positions = "last"', "positions = 'last'.*'generated'"),
    "an unknown variant": (GOOD + 'variant = "clean"', "variant = 'clean'.*'denoised'"),
    "an unknown dtype": (GOOD + 'dtype = "int4"', "dtype = 'int4'.*bfloat16"),
    "no layer": (GOOD + "layers = []", "layers is empty"),
    "a negative layer": (GOOD + "layers = [-1]", "layer -1"),
    "a layer twice": (GOOD + "layers = [3, 3]", "twice"),
    "a layer by another word": (GOOD + 'layers = "centre"', "middle"),
    "a fraction for a layer": (GOOD + "layers = [0.5]", "block numbers"),
    "a negative number of controls": (GOOD + "[controls]\nspan = -1", r"controls\.span = -1.*0 or more"),
    "too few controls of a kind": (
        GOOD + "[controls]\nspan = 39",
        r"p = 1/\(39 \+ 1\), and times 2 directions that is 0\.05, not under alpha = 0\.05.*40 or more",
    ),
    "too few for three directions": (GOOD + 'directions = ["a", "b", "c"]', r"times 3 directions.*60 or more"),
    "too few controls in all": (
        GOOD + 'directions = ["calm"]\n[controls]\ntopic = 0\nnatural = 0\ngeneral = 31', "31 controls in all.*32",
    ),
    "a sign of no direction": (
        GOOD + 'confirm = ["choice"]\nraises = ["joyful"]', "raises or lowers has 'joyful'.*desperate",
    ),
    "two signs": (
        GOOD + 'confirm = ["choice"]\nraises = ["calm"]\nlowers = ["calm"]', "'calm' in raises and in lowers",
    ),
    "a sign of nothing declared": (GOOD + 'raises = ["calm"]', "without confirm"),
    "a small dose that is not asked": (GOOD + "slope_from = 0.1\nsmall_doses = [0.05]", "small_doses has 0.05"),
    "a judge that is none": (GOOD + 'judges = ["gpt"]', "judge 'gpt'.*self, URL#MODEL"),
    "a key in a judge's URL": (GOOD + 'judges = ["https://secret@host/v1#m"]', "a name or key before host"),
    "an effect for a judge, without one": (
        GOOD + 'suite = "chosen"\neffects = ["free-praise"]', "free-praise without a judge.*--judge self",
    ),
    "no scenarios": (GOOD + "[samples]\neffect = 0", r"samples\.effect = 0.*2 or more"),
    "one scenario": (GOOD + "[samples]\nselect = 1", r"samples\.select = 1.*2 or more"),
    "no repeat": (GOOD + "[samples]\nrepeats = 0", r"samples\.repeats = 0.*1 or more"),
    "alpha 0": (GOOD + "[thresholds]\nalpha = 0.0", r"thresholds\.alpha = 0"),
    "alpha 1": (GOOD + "[thresholds]\nalpha = 1.0", r"thresholds\.alpha = 1.*at most 0\.5"),
    "points for a fraction": (GOOD + "[thresholds]\nsmallest_effect = 5", "smallest_effect = 5.*not percent"),
    "a negative threshold": (GOOD + "[thresholds]\nharm_rise = -0.02", "harm_rise = -0.02"),
    "a threshold that is no number": (GOOD + "[thresholds]\naccuracy_drop = nan", "accuracy_drop = nan"),
    "a negative seed": (GOOD + "seed = -1", "seed = -1"),
    "a plan of the future": (GOOD + "schema_version = 2", "version 2.*Update heartstrings"),
    "a plan of the future with a value of the future": (
        GOOD + 'schema_version = 2\ndtype = "fp8"', "version 2.*Update heartstrings"
    ),
    "a huge seed": (GOOD + "seed = 9223372036854775808", "seed = 9223372036854775808"),
    "a plan of the past": (GOOD + "schema_version = 0", "version 0"),
    "vectors that are not there": (GOOD + 'vectors = "nowhere"', "no vectors at .*nowhere"),
    "early stopping with one round": (
        GOOD + "early_stopping = true\n[samples]\ncapability = 20\nharm = 12", "every 20 scenarios",
    ),
}  # fmt: skip


def refused(path: Path) -> HeartstringsError:
    with pytest.raises(HeartstringsError) as caught:
        load_plan(path)
    error = caught.value
    assert error.found
    assert error.expected
    return error


@pytest.mark.parametrize("case", CASES)
def test_bad_plans_are_refused(tmp_path, case):
    text, said = CASES[case]
    path = tmp_path / "plan.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    error = refused(path)
    assert isinstance(error, InputError)
    assert str(path) in str(error)
    assert re.search(said, str(error), re.DOTALL), str(error)


def test_the_good_plan_is_good(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(GOOD + "doses = [0.2, 0, -0.1]\n")  # unsorted is fine
    assert load_plan(path).doses == (-0.1, 0.0, 0.2)


def test_files_that_are_none(tmp_path):
    assert "no plan" in str(refused(tmp_path / "absent.toml"))
    assert "no plan" in str(refused(tmp_path))


def test_python_gets_the_same_errors():
    with pytest.raises(InputError, match="doses without 0"):
        Plan(model="m", doses=(1.0,))
    with pytest.raises(InputError, match="model = 3"):
        Plan(model=3)


def test_nothing_heavy_is_imported_to_refuse(tmp_path):
    for number, (text, _) in enumerate(CASES.values()):
        (tmp_path / f"{number}.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    code = f"""
    import sys
    from pathlib import Path
    from heartstrings.core.errors import InputError
    from heartstrings.experiment.plan_files import load_plan
    refused = 0
    for path in Path({str(tmp_path)!r}).glob("*.toml"):
        try:
            load_plan(path)
        except InputError:
            refused += 1
    print(refused, "torch" in sys.modules, "transformers" in sys.modules)
    """
    out = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert out.stdout.split() == [str(len(CASES)), "False", "False"]
    assert len(CASES) >= 30


def vectors(**more: object) -> EmotionVectors:
    raw = np.random.default_rng(0).normal(size=(2, 4, 6)).astype(np.float32)
    raw[:, 3] = 2 * raw[:, 2]
    return EmotionVectors(("calm", "sad", "joyful", "happy"), (2, 4), raw, provenance(), **more)


WITH_VECTORS = {
    "an unknown emotion": ('directions = ["calmm"]\nvariant = "raw"', "Did you mean calm"),
    "an unknown emotion in a blend": ('directions = ["calm - 0.5*saad"]\nvariant = "raw"', "Did you mean sad"),
    "a layer that the bundle lacks": ('directions = ["calm"]\nvariant = "raw"\nlayers = [2, 3]', "no layer 3"),
    "a variant that it lacks": ('directions = ["calm"]', "no denoised vectors"),
    "another site": ('directions = ["calm"]\nvariant = "raw"\nsite = "mlp"', "of site block, the plan of site mlp"),
}


@pytest.mark.parametrize("case", WITH_VECTORS)
def test_vectors_that_lack_what_the_plan_asks_for(tmp_path, case):
    vectors(norms=np.ones(2, dtype=np.float32)).save(tmp_path / "bundle")
    text, said = WITH_VECTORS[case]
    path = tmp_path / "plan.toml"
    path.write_text(GOOD + 'vectors = "bundle"\n' + text)
    assert said in str(refused(path))
    good = GOOD + 'vectors = "bundle"\ndirections = ["calm"]\nvariant = "raw"\n'
    path.write_text(good)
    assert load_plan(path).vectors == tmp_path / "bundle"


def test_a_bundle_without_norms_or_damaged(tmp_path):
    vectors(norms=None).save(tmp_path / "bundle")
    path = tmp_path / "plan.toml"
    path.write_text(GOOD + 'vectors = "bundle"\ndirections = ["calm"]\nvariant = "raw"\n')
    assert "has no norms" in str(refused(path))
    (tmp_path / "bundle" / "bundle.json").write_text("{")
    with pytest.raises(BundleError, match="damaged"):
        load_plan(path)
    (tmp_path / "bundle" / "bundle.json").unlink()
    assert "holds no bundle" in str(refused(path))


def test_freezing_looks_at_the_vectors_too(tmp_path):
    plan = Plan(model="m", vectors=tmp_path / "nowhere")
    with pytest.raises(InputError, match="no vectors"):
        freeze(tmp_path / "run", plan)
    assert not (tmp_path / "run").exists()


def test_directions_that_point_the_same_way():
    found = vectors(norms=np.ones(2, dtype=np.float32))
    plan = Plan(model="m", variant="raw", directions=("joyful", "happy"))
    with pytest.raises(InputError, match="'joyful' and 'happy' are the same"):
        check_against_vectors(plan, found)
    check_against_vectors(plan.changed(directions=("joyful", "-happy")), found)
    with pytest.raises(InputError, match="are the same"):
        check_against_vectors(plan.changed(directions=("calm", "0.5*calm")), found)
