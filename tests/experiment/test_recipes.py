"""Recipes: every file is read by the verbs it names, and gives a plan that can be run on a model of that depth."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from heartstrings import cli
from heartstrings.cli import _console as console

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
DEPTHS = {"gemma-4-e4b": 42, "apertus-8b": 32, "llama-3-8b": 32, "qwen-2.5-7b": 28, "pythia-6.9b": 32}
"""Blocks of the models, from their published configurations."""


def run(*args: str) -> int:
    command = typer.main.get_command(cli.app)
    return console.guarded(lambda: command.main(args=[*args], prog_name="heartstrings", standalone_mode=False))


def test_there_is_one_for_each_family() -> None:
    assert {file.stem for file in RECIPES} == set(DEPTHS)


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_a_recipe_gives_a_plan(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("plan", "--config", str(file), "--no-model", "--json") == 0
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    plan = found["plan"]
    assert plan["suite"] == ("text" if "pythia" in plan["model"] else "standard")
    expected = {"feels", "tone"} if plan["suite"] == "text" else {"blackmail", "reward-hacking", "pushback", "feels"}
    assert set(plan["effects"]) >= expected
    assert max(plan["layers"]) < DEPTHS[file.stem]
    assert (0.05 in plan["doses"], plan["slope_from"], plan["slope_within"]) == (True, 0.1, 0.1)
    assert plan["fit_doses"]
    assert found["estimate"]["gpu_hours"] < 24
    assert tomllib.loads(file.read_text())["run"]["models"] == [plan["model"]]


@pytest.mark.parametrize("verb", ["run", "evaluate", "atlas"])
@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_every_verb_reads_it(file: Path, verb: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Up to the model, which is not here: an error that names it, and no other."""
    pytest.importorskip("transformers")
    assert run(verb, "--config", str(file), "--out", str(tmp_path / "out")) == 3
    said = capfd.readouterr().err
    assert tomllib.loads(file.read_text())["plan"]["model"] in said
    assert "is not in the local cache" in said
