"""Memory of a CPU engine: freed memory is kept for the next operation."""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`, malloc.h."""
_LARGEST = 1 << 30
_KEPT = (1 << 31) - 1
_SET_BY_USER = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Have the C library keep up to 2 GiB of freed memory, in blocks of up to 1 GiB, for the whole process.

    By default glibc returns each large block to the system as soon as it is freed. A forward pass frees and takes
    several a layer, and every fresh page costs a fault. SmolLM2 on two cores takes .71 to .89 of the time with this.

    Returns:
        Whether the parameters were set: not with another C library, and not where the user has set them.
    """
    if any(name in os.environ for name in _SET_BY_USER):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT))
