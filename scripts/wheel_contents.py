"""Checks what is in the wheel and the sdist of a folder: python scripts/wheel_contents.py DIST [--most-mb 32]

Every file of `src/heartstrings` has to be in the wheel, data files and templates included, and nothing else but
metadata.
"""

from __future__ import annotations

import argparse
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NEEDED = (  # what code reads at run time: a list by hand, so that a wrong folder in `src` is noticed too
    "heartstrings/__init__.pyi",
    "heartstrings/data/lexicon.csv",
    "heartstrings/report/templates/verdict.html",
    "heartstrings/report/static/plotly-cartesian.min.js",
    "heartstrings/report/static/report.js",
    "heartstrings/report/static/report.css",
    "heartstrings/judges/data/misalignment.jsonl",
    "heartstrings/organisms/lexis.toml",
    "heartstrings/organisms/checkpoints/steerable/model.safetensors",
)
IN_SDIST = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "mkdocs.yml", "tests/conftest.py",
            "docs/verdict.md", "organism_training/train.py")  # fmt: skip


def source_files() -> set[str]:
    folder = ROOT / "src"
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in files}


def wheel_problems(path: Path, most_mb: float) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    package = {name for name in names if ".dist-info/" not in name}
    size = path.stat().st_size / 1e6
    problems = [f"lacks {name}" for name in sorted((source_files() | set(NEEDED)) - package)]
    problems += [f"has {name}, which is not in src" for name in sorted(package - source_files())]
    if size > most_mb:
        problems.append(f"is {size:.1f} MB large, expected at most {most_mb:g}")
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in names):
        problems.append("lacks the licence")
    return [f"{path.name} {problem}" for problem in problems]


def sdist_problems(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    return [f"{path.name} lacks {name}" for name in IN_SDIST if name not in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dist", type=Path)
    parser.add_argument("--most-mb", type=float, default=32)
    given = parser.parse_args()
    (wheel,), (sdist,) = given.dist.glob("*.whl"), given.dist.glob("*.tar.gz")
    problems = [*wheel_problems(wheel, given.most_mb), *sdist_problems(sdist)]
    if problems:
        sys.exit("\n".join(problems))
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, {len(source_files())} files of the package")


if __name__ == "__main__":
    main()
