#!/usr/bin/env bash
# Builds the sdist and, from it, the wheel; installs the wheel in an empty environment and uses it outside the checkout.
#
#   scripts/check_wheel.sh [FOLDER]      leaves the two packages in FOLDER
#
# The empty environment borrows torch, transformers and the other dependencies from .venv, so that this takes a minute.
# It does not see the checkout: the editable install of .venv is not on its path.
set -euo pipefail
cd "$(dirname "$0")/.."

MOST_MB=32
PYTHON=${PYTHON:-.venv/bin/python}
PYTHON=$(cd "$(dirname "$PYTHON")" && pwd)/$(basename "$PYTHON")
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
DIST=${1:-$WORK/dist}
mkdir -p "$DIST"
DIST=$(cd "$DIST" && pwd)

echo "wheel: building"
"$PYTHON" -m venv "$WORK/build"
"$WORK/build/bin/pip" --disable-pip-version-check -q install build "hatchling>=1.27"
"$WORK/build/bin/python" -m build --no-isolation --outdir "$DIST" . >"$WORK/build.log" 2>&1 || { cat "$WORK/build.log" >&2; exit 1; }
"$PYTHON" scripts/wheel_contents.py "$DIST" --most-mb "$MOST_MB"

echo "wheel: installing in an empty environment"
"$PYTHON" -m venv "$WORK/clean"
"$WORK/clean/bin/pip" --disable-pip-version-check -q install --no-deps --no-index "$DIST"/*.whl
# Only after the installation, so that pip has nothing of .venv to replace. A .pth file within these folders (such as that of an
# editable install) is not read.
"$PYTHON" -c 'import sys; print("\n".join(p for p in sys.path if p.endswith("-packages")))' \
  >"$("$WORK/clean/bin/python" -c 'import site; print(site.getsitepackages()[0])')/borrowed.pth"

mkdir "$WORK/elsewhere"
cd "$WORK/elsewhere"
unset PYTHONPATH
export HF_HUB_OFFLINE=1 COLUMNS=120
heartstrings() { "$WORK/clean/bin/heartstrings" "$@"; }
"$WORK/clean/bin/python" - "$WORK/clean" <<'PY'
import sys
from pathlib import Path
import heartstrings
assert Path(heartstrings.__file__).is_relative_to(Path(sys.argv[1]).resolve()), heartstrings.__file__
from heartstrings import organisms
from heartstrings.corpus import write_stories
write_stories(organisms.stories(per_emotion=1), Path("stories.jsonl"))
Path("neutral.txt").write_text("\n".join(organisms.neutral(n=24).texts), encoding="utf-8")
PY
cat >plan.toml <<'TOML'
model = "organism:steerable"
directions = ["desperate"]
layers = [3]
doses = [-0.2, 0, 0.2]
prompting = false
controls = {general = 20, topic = 0, natural = 20}
samples = {select = 2, effect = 4, matched = 2, capability = 4, harm = 4, writing = 2}
TOML

echo "wheel: using it"
version=$(heartstrings --version)
heartstrings info organism:steerable >/dev/null
heartstrings run --plan plan.toml --stories stories.jsonl --neutral neutral.txt --permutations 99 --out run >run.log 2>&1 ||
  { cat run.log >&2; exit 1; }
for file in run/verdict.json run/report.html run/atlas/report.html; do
  [ -s "$file" ] || { echo "wheel: the run did not write $file" >&2; exit 1; }
done
echo "wheel: $version runs from $(ls "$DIST"/*.whl | xargs -n1 basename)"
