"""Peak memory of one way above the loaded model, measured in a process of its own."""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.speed.harness import Run

ROOT = Path(__file__).resolve().parents[2]
MARK = "peak bytes: "


def ask(arguments: list[str], bench: str, model: str, way: str) -> int | None:
    """Start the bench again for the memory of one way alone. None: this system does not tell."""
    asked = [*arguments, "--memory-of", json.dumps([bench, model, way])]
    value: int | None = in_process("bench.speed", asked, MARK, f"the memory of {bench}, {model}, {way}")
    return value


def in_process(module: str, arguments: list[str], mark: str, what: str) -> Any:
    """What a bench measures in a process of its own: the JSON behind `mark` on the last such line that it prints."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith(mark)]
    if done.returncode or not lines:
        raise RuntimeError(f"the process that measures {what} failed:\n{done.stderr}")
    return json.loads(lines[-1].removeprefix(mark))


def peak(small: Run, full: Run, device: str) -> int | None:
    """Bytes that `full` needs at most above what was taken before. `small` runs first: what a library loads or
    compiles at its first use is no part of the work."""
    small()
    gc.collect()
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        full()
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated() - before)
    _give_back()
    if not _reset():
        return None
    before = _status("VmRSS")
    full()
    return max(0, _status("VmHWM") - before)


def _give_back() -> None:
    """Freed memory goes back to the system: what is taken from it again would not be seen."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return


def _reset() -> bool:
    """Set the peak of the resident size (VmHWM in proc(5)) to what it is now."""
    try:
        Path("/proc/self/clear_refs").write_text("5", "ascii")
    except OSError:
        return False
    return True


def _status(name: str) -> int:
    lines: Any = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
