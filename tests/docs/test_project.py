"""What a project has beside its code: pictures, citation, workflow, hooks, issue forms."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import yaml

import heartstrings

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import draw_concepts  # noqa: E402
import over_a_second  # noqa: E402
import wheel_contents  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", draw_concepts.PICTURES)
def test_a_picture_is_what_the_script_draws(name: str) -> None:
    path = draw_concepts.FOLDER / f"{name}.svg"
    drawn = draw_concepts.PICTURES[name]()
    assert path.read_text(encoding="utf-8") == drawn
    assert f"({path.name})" in path.with_suffix(".md").read_text(encoding="utf-8")
    root = ElementTree.fromstring(drawn)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        assert 0 < float(text.attrib["x"]) < width, text.text
        assert 0 < float(text.attrib["y"]) < height, text.text


def test_both_colour_schemes_name_the_same_colours() -> None:
    """The site's switch (assets/site.css) has the colours that a picture has by itself."""
    css = (ROOT / "docs" / "assets" / "site.css").read_text(encoding="utf-8")
    for scheme, colours in (("default", draw_concepts.LIGHT), ("slate", draw_concepts.DARK)):
        (block,) = re.findall(rf'\[data-md-color-scheme="{scheme}"\] \.hs-figure \{{(.*?)\}}', css, re.DOTALL)
        site = dict(re.findall(r"(--hs-\w+): (#\w+);", block))
        assert site == dict(pair.split(":") for pair in colours.split(";"))


def test_the_citation_is_of_this_version() -> None:
    citation = read("CITATION.cff")
    assert citation["version"] == PROJECT["version"] == heartstrings.__version__
    assert citation["license"] == PROJECT["license"]


def test_the_changelog_has_a_section_for_what_is_not_released() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    kinds = re.findall(r"^### (.*)$", text.partition("## [Unreleased]")[2], re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Known limits"}
    assert "Added" in kinds


def test_the_workflow_runs_what_ci_runs() -> None:
    workflow = read(".github/workflows/ci.yml")
    steps = [step.get("run", "") for step in workflow["jobs"]["everything"]["steps"]]
    assert ".ci/run" in steps
    matrix = workflow["jobs"]["quick"]["strategy"]["matrix"]["python"]
    classified = [one.rpartition(" ")[2] for one in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", one)]
    assert matrix == classified
    assert all(isinstance(version, str) for version in matrix)


def test_ci_runs_every_check() -> None:
    calls = re.findall(r"^make(?: -\S+)*((?: \w+)+)$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    targets = [target for call in calls for target in call.split()]
    assert targets == ["lint", "types", "docs", "wheel", "test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert [name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []


def test_the_hooks_are_those_of_make() -> None:
    (repo,) = read(".pre-commit-config.yaml")["repos"]
    assert repo["repo"] == "local"
    assert {hook["id"] for hook in repo["hooks"]} == {"ruff", "ruff-format", "lint-imports", "mypy"}
    assert all(hook["language"] == "system" and hook["entry"].startswith(".venv/bin/") for hook in repo["hooks"])


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_can_be_read(path: Path) -> None:
    form = read(str(path.relative_to(ROOT)))
    if path.stem == "config":
        return
    assert {"name", "description", "body"} <= set(form)
    ids = [part["id"] for part in form["body"]]
    assert len(set(ids)) == len(ids)
    assert all(part["attributes"]["label"] and part["type"] in ("textarea", "input") for part in form["body"])


def test_the_scripts_are_right_for_a_shell() -> None:
    for path in (*(ROOT / "scripts").glob("*.sh"), ROOT / ".ci" / "run"):
        subprocess.run(["bash", "-n", str(path)], check=True)


def test_what_the_wheel_has_to_contain_exists() -> None:
    assert set(wheel_contents.NEEDED) <= wheel_contents.source_files()
    assert [name for name in wheel_contents.IN_SDIST if not (ROOT / name).exists()] == []


def test_a_wheel_with_too_much_or_too_little_is_refused(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "heartstrings-0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("organism_training/train.py", "")
        for name in sorted(wheel_contents.source_files())[1:]:
            archive.writestr(name, "")
    (lost, extra, licence) = wheel_contents.wheel_problems(path, most_mb=1)
    assert "lacks" in lost
    assert "organism_training/train.py" in extra
    assert "licence" in licence


def test_the_slow_tests_on_the_list_exist() -> None:
    for line in (ROOT / "tests" / "over_a_second.txt").read_text(encoding="utf-8").split():
        file, _, name = line.partition("::")
        assert f"def {name}" in (ROOT / file).read_text(encoding="utf-8"), line


def test_a_slow_fixture_makes_its_file_slow() -> None:
    log = "1.40s setup    tests/a.py::test_one[x]\n0.10s call     tests/a.py::test_two\n"
    log += "2.00s call     tests/b.py::test_b[1]\n0.90s call     tests/b.py::test_c\n"
    assert over_a_second.over(log) == ["tests/a.py", "tests/b.py::test_b"]
