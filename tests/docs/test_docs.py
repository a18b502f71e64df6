"""The README and the docs do what they say: their commands are run, and what they print is compared.

In a ```console block, lines after `$ ` are run and the lines below are what they print; `...` stands for lines
left out. Numbers may differ by 0.03 (another torch rounds otherwise), points (with a sign, such as +83) by 2.
```python blocks are run too, each by itself; `stories.jsonl` and `neutral.txt` are there for them. A block after
`<!-- not run: reason -->` is left alone.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from heartstrings import organisms
from heartstrings.corpus import write_stories

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<why>[^>]+) -->\n)?^```(?P<kind>\w+)\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL
)
NUMBER = re.compile(r"[-+]?(?:\d+\.\d+|\.\d+)|(?<= |\[)[-+]\d+\b")


def blocks(page: Path, *kinds: str) -> list[tuple[str, str]]:
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [(m["kind"], m["body"]) for m in found if m["kind"] in kinds and not m["why"]]


def commands(body: str) -> list[tuple[str, list[str]]]:
    parts = re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]
    return [(part.splitlines()[0], part.splitlines()[1:]) for part in parts]


def same(printed: str, expected: str) -> bool:
    if len(NUMBER.findall(printed)) != len(NUMBER.findall(expected)):
        return False
    words = [" ".join(NUMBER.sub("#", text).split()) for text in (printed, expected)]
    pairs = zip(NUMBER.findall(printed), NUMBER.findall(expected), strict=True)
    return words[0] == words[1] and all(abs(float(a) - float(b)) <= _tolerance(b) for a, b in pairs)


def _tolerance(number: str) -> float:
    return 0.0301 if "." in number and number[0] not in "+-" else 2.0 if "." not in number else 0.3


def missing_line(printed: list[str], expected: list[str]) -> str | None:
    """The first expected line that does not come, in order; lines between only where `...` says so."""
    at, skip = 0, False
    for line in expected:
        if not line.strip():
            continue
        if line.strip() == "...":
            skip = True
            continue
        found = next((i for i in range(at, len(printed)) if same(printed[i], line)), None)
        if found is None or (found > at and not skip):
            return line
        at, skip = found + 1, False
    return None


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page(page: Path, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "160",
        "HF_HUB_OFFLINE": "1",
    }
    write_stories(organisms.stories(per_emotion=2), tmp_path / "stories.jsonl")
    (tmp_path / "neutral.txt").write_text("\n".join(organisms.neutral(n=40).texts), encoding="utf-8")
    ran = 0
    for kind, body in blocks(page, "console", "python"):
        ran += 1
        if body.startswith(">>>"):
            continue  # a doctest of the whole page: tests/vectors/test_vectors_docs.py
        if kind == "python":
            script = [sys.executable, "-W", "error::UserWarning", "-c", body]
            done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{body}\n{done.stderr}"
            continue
        for command, expected in commands(body):
            place = ROOT if command.startswith("make ") else tmp_path
            done = subprocess.run(
                ["bash", "-c", command], cwd=place, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"$ {command}\n{done.stdout}\n{done.stderr}"
            printed = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            lost = missing_line(printed, expected)
            assert lost is None, f"$ {command}\ndid not print: {lost}\nbut:\n" + "\n".join(printed)
    if page.name == "README.md":
        assert ran >= 3


def test_every_flag_in_the_docs_exists() -> None:
    """Also in blocks that are not run."""
    import typer

    from heartstrings import cli

    root = typer.main.get_command(cli.app)
    known = {
        name: {flag for one in verb.params for flag in (*one.opts, *one.secondary_opts)} | {"--help"}
        for name, verb in root.commands.items()  # type: ignore[attr-defined]
    }
    for page in PAGES:
        for line in re.findall(r"^(?:\$ )?heartstrings (\w+ .*)$", page.read_text(encoding="utf-8"), re.MULTILINE):
            verb, *words = shlex.split(line.split(" #")[0].rstrip("\\"))
            assert verb in known, f"{page.name}: heartstrings {verb}"
            for word in words:
                if word.startswith("--"):
                    assert word.split("=")[0] in known[verb], f"{page.name}: heartstrings {verb} has no {word}"


def test_the_comparison_can_fail() -> None:
    printed = ["| a | .93 |", "between", "path/report.html"]
    assert missing_line(printed, ["| a | .92 |", "...", "path/report.html"]) is None
    assert missing_line(printed, ["| a | .80 |"]) is not None
    assert missing_line(printed, ["| a | .93 |", "path/report.html"]) is not None
    assert missing_line(printed, ["...", "path/report.htm"]) is not None
