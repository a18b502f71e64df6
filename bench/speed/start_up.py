"""How long a command takes before it does anything: processes started anew, their files in the system's cache."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from bench.speed import subjects
from bench.speed.harness import Case, Run, Way

NAME = "start_up"
MODELS = ("none",)
LIGHT = "import heartstrings, sys; assert 'torch' not in sys.modules, 'import heartstrings loads torch'"
HEAVY = "import torch, transformers; from transformers import LlamaForCausalLM"


def case(model: str, size: str, device: str) -> Case:
    heartstrings = [sys.executable, "-m", "heartstrings"]
    opening = f"import heartstrings; heartstrings.load({subjects.SMOLLM2!r}, device={device!r})"
    ways = [
        Way("python -c pass", started([sys.executable, "-c", "pass"])),
        Way("import heartstrings (torch is not imported)", started([sys.executable, "-c", LIGHT])),
        Way("heartstrings --help", started([*heartstrings, "--help"])),
        Way(f"heartstrings info {subjects.TINY}", started([*heartstrings, "info", subjects.TINY])),
        Way("import torch, transformers", started([sys.executable, "-c", HEAVY])),
        Way(f"open {subjects.SMOLLM2}, not for the first time", started([sys.executable, "-c", opening])),
    ]
    return Case(bench=NAME, model=model, ways=tuple(ways if size == "full" else ways[:4]), memory=False)


def started(command: list[str]) -> Callable[[], Run]:
    """What starts a process and waits for it."""

    def run() -> None:
        subprocess.run(command, check=True, capture_output=True)

    def prepare() -> Run:
        return run

    return prepare
