"""What the bench ran on: processor, versions, and the rate of matrix products of the machine as it is now."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PEERS = ("transformer-lens", "nnsight", "steering-vectors", "repeng")
PACKAGES = ("heartstrings", "torch", "transformers", "tokenizers", "numpy", *PEERS)


def versions() -> dict[str, str]:
    """By package; `not installed` where it is not there."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def describe(device: str) -> dict[str, Any]:
    """The machine in words and numbers, without its name."""
    gpu = torch.cuda.get_device_name() if device.startswith("cuda") else None
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": _memory(),
        "device": device,
        "gpu": gpu,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def label(machine: dict[str, Any]) -> str:
    """A file name for a machine: the GPU or the processor, and the threads of a CPU."""
    words = machine["gpu"] or f"{machine['processor']} {machine['threads']} threads"
    return "".join(letter if letter.isalnum() else "-" for letter in words.lower()).strip("-")


def matmul_rate(dtype: torch.dtype, *, device: str, size: int, repeats: int = 5) -> float:
    """Floating-point operations a second of the fastest of some products of two square matrices."""
    torch.manual_seed(0)
    left = torch.randn(size, size, device=device).to(dtype)
    right = torch.randn(size, size, device=device).to(dtype)
    best = float("inf")
    for _ in range(repeats + 1):
        began = time.perf_counter()
        left @ right
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def gauge(device: str, size: int) -> dict[str, float]:
    """`matmul_rate` by dtype."""
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    return {name: matmul_rate(dtype, device=device, size=size) for name, dtype in dtypes.items()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
