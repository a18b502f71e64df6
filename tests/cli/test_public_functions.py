"""Every command is one public function, with the same names and defaults; it works from Python without a console."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

import heartstrings as hs
import models
from heartstrings import cli, organisms
from heartstrings.cli import _console as console
from heartstrings.core.errors import BundleError, InputError
from heartstrings.corpus import Corpus, calibration_texts, shipped_neutral
from heartstrings.workflows.atlas import material

PYTHON_ONLY = {"progress", "ask", "warn"}
ROOT = typer.main.get_command(cli.app)
COMMANDS: dict[str, Any] = ROOT.commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_a_public_function(name: str) -> None:
    function = getattr(hs, cli.PYTHON_NAMES.get(name, name))
    assert function.__name__ in hs.__all__
    assert COMMANDS[name].callback.function is function
    flags = {one.name: one for one in COMMANDS[name].params if one.name not in ("json", "config", "help")}
    parameters = {key: one for key, one in inspect.signature(function).parameters.items() if key not in PYTHON_ONLY}
    assert list(flags) == list(parameters)
    for key, parameter in parameters.items():
        required = parameter.default is parameter.empty
        assert flags[key].required == required or (name, key) == ("import", "out"), key
        if not required:
            given = flags[key].default
            assert (given or None if parameter.default is None else given) == parameter.default, key
        assert f"\n    {key}: " in function.__doc__, key
        assert flags[key].help, key


def test_names_that_differ_have_to() -> None:
    """Only where the command's own name cannot be the function's."""
    for name in cli.PYTHON_NAMES:
        taken = hasattr(hs, name) or (Path(hs.__file__).parent / name).is_dir()
        assert taken or not name.isidentifier() or name in ("import", "export"), name
        assert cli.PYTHON_NAMES[name] not in COMMANDS


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="no option 'stories_'"):
        hs.extract("nowhere", out="nowhere", stories_="x")  # type: ignore[call-arg]


@pytest.fixture(scope="module")
def few() -> Corpus:
    every = organisms.stories(per_emotion=4)
    some = ("joyful", "calm", "sad", "afraid", "angry", "desperate")
    return Corpus(tuple(one for one in every.stories if one.emotion in some), every.author, every.source)


def test_from_stories_to_texts_in_python(few: Corpus, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Objects go from one function to the next; nothing is printed; progress is a plain callable."""
    titles: dict[str, int | None] = {}

    def progress(title: str, done: int, total: int | None) -> None:
        assert total is None or 0 <= done <= total
        titles[title] = total

    model = hs.load("organism:steerable")
    vectors = hs.extract(model, few, out=tmp_path / "v", progress=progress)
    assert vectors.denoised is not None, "neutral texts come with the organisms' own stories"
    assert vectors.emotions == few.emotions
    found = hs.analyse(vectors, permutations=99, out=tmp_path / "g")
    assert found.n_emotions == 6
    assert (tmp_path / "g" / "report.html").is_file()
    side = hs.steer(model, "The tests fail.", vectors=vectors, emotion="calm - sad", dose=(0.3, 0), max_new_tokens=4)
    assert [one.dose for one in side.texts] == [0.0, 0.3]
    assert "calm - sad" in side.steering
    file = hs.export_vectors(vectors, tmp_path / "v.npz", layers=[1, 3])
    back = hs.import_vectors(file, tmp_path / "back")
    np.testing.assert_allclose(back.raw, vectors.raw[[1, 3]], atol=1e-6)
    both = hs.compare({"first": vectors, "back": back}, permutations=99)
    assert both.n_common == 6
    assert hs.info(tmp_path / "v").counts == vectors.counts  # type: ignore[union-attr]
    assert titles == {f"reading {len(few)} stories": len(few) + 48 + 200}
    assert capfd.readouterr() == ("", "")


def test_vectors_of_another_model_are_refused(few: Corpus, tmp_path: Path) -> None:
    vectors = hs.extract(models.engine("llama"), few, out=tmp_path / "v", offset=5, no_neutral=True)
    with pytest.raises(BundleError, match="width"):
        hs.steer("organism:blank", "The tests fail.", vectors=vectors, emotion="calm")
    with pytest.raises(BundleError, match="other weights"):
        hs.analyse(vectors, model=models.engine("llama", seed=1))


def test_a_plan_in_python(tmp_path: Path) -> None:
    made = hs.plan("organism:steerable", emotion=("calm", "sad"), dose=(-0.1, 0, 0.1), dry_run=False)
    assert made.plan.directions == ("calm", "sad")
    assert made.estimate.samples > 0
    again = hs.plan(made.plan, seed=3, dry_run=False, out=tmp_path / "plan.toml").plan
    assert again == made.plan.changed(seed=3)
    assert hs.plan(plan=tmp_path / "plan.toml", dry_run=False).plan == again
    with pytest.raises(InputError, match="neither a model nor a plan"):
        hs.plan()
    with pytest.raises(InputError, match="--settings 'fast'"):
        hs.plan("organism:steerable", settings="fast")


def test_a_loaded_model_keeps_its_dtype() -> None:
    """Options of loading are refused where they would do nothing, and the plan has what the model has."""
    model = models.engine("llama")
    for options in ({"dtype": "bfloat16"}, {"revision": "main"}, {"device": "cuda"}):
        with pytest.raises(InputError, match="and a loaded model"):
            hs.plan(model, emotion="calm", dry_run=False, **options)
        with pytest.raises(InputError, match="Leave out"):
            hs.selftest(model, **options)
    planned = hs.plan(model, emotion="calm", settings="quick", dtype="float32", device="cpu", dry_run=False)
    assert planned.plan.dtype == "float32"


def test_an_object_where_a_path_is_expected(few: Corpus) -> None:
    for call in (
        lambda: hs.info(few),  # type: ignore[arg-type]
        lambda: hs.plan("organism:steerable", vectors=few, dry_run=False),  # type: ignore[call-arg]
        lambda: hs.plan(plan=few, dry_run=False),  # type: ignore[call-arg]
        lambda: hs.analyse(few),  # type: ignore[arg-type]
    ):
        with pytest.raises(InputError, match="an object of type Corpus"):
            call()


def test_notes_on_vectors_are_no_part_of_the_geometry(few: Corpus, tmp_path: Path) -> None:
    vectors = hs.extract("organism:steerable", few, out=tmp_path / "v")
    noted = replace(vectors, provenance=vectors.provenance.model_copy(update={"notes": ("a planted note",)}))
    told: list[str] = []
    found = hs.analyse(noted, permutations=99, out=tmp_path / "g", warn=told.append)
    assert told == ["a planted note"]
    assert told[0] not in found.notes
    assert told[0] not in (tmp_path / "g" / "geometry.json").read_text(encoding="utf-8")


def test_no_emotion_is_not_all_of_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--emotions ','"):
        hs.generate_stories("organism:steerable", tmp_path, emotions=",")


def test_stories_by_where_they_are(few: Corpus, tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    rows = [{"emotion": one.emotion, "topic": one.topic, "text": one.text} for one in few.stories]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert len(hs.stories()) == 480
    assert hs.stories("organism:inert").hash == organisms.stories().hash
    assert hs.stories(file).hash == few.hash
    assert hs.stories(few) is few
    assert sum(hs.stories(file, min_words=1000).filtered.values()) > 0
    assert material("gpt2", stories=hs.stories(), neutral=None).neutral is shipped_neutral()
    assert material("gpt2", stories=hs.stories(file), neutral=None).neutral is calibration_texts()


def test_progress_is_one_bar_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    reports: list[tuple[int, int]] = []

    class Bar:
        def __init__(self, title: str, quiet: bool) -> None:
            self.title = title

        def __enter__(self) -> Any:
            opened.append(f"+{self.title}")
            return lambda *at: reports.append(at)

        def __exit__(self, *_: object) -> None:
            opened.append(f"-{self.title}")

    monkeypatch.setattr(console, "progress", Bar)
    with console.bars(False) as progress:
        progress("loading", 0, None)
        progress("reading", 1, 3)
        progress("reading", 2, 3)
    assert opened == ["+loading", "-loading", "+reading", "-reading"]
    assert reports == [(1, 3), (2, 3)]


def test_a_model_in_memory_is_taken_as_it_is(few: Corpus, tmp_path: Path) -> None:
    engine = models.engine("llama")
    vectors = hs.extract(engine, few, out=tmp_path / "v", offset=5, layers=[2], no_neutral=True)
    assert vectors.layers == (2,)
    assert vectors.variants == ("raw",)
    assert vectors.provenance.model == engine.info
