"""Whether other processes slow a measurement of time down, and how long the work would take without them."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

from heartstrings.core.types import Frozen

STAT = Path("/proc/stat")
"""Where Linux counts the time that its processors were busy."""
SPARE = 0.25
"""Processors. Where others leave less than this beside our threads, the machine counts as busy: a system that is called
idle has some background work."""


class Contention(Frozen):
    """What else the processors did during a measurement."""

    processors: int
    threads: int
    """Those that the model computes with."""
    others: float | None
    """Processors that other processes kept busy, on average; None where this system does not say it."""
    share: float
    """Processor time of this process, relative to the elapsed time."""

    @property
    def busy(self) -> bool:
        """Whether the others needed processors that the threads of this process were waiting for."""
        return self.others is not None and self.others + self.threads > self.processors + SPARE

    @property
    def idle(self) -> float | None:
        """The elapsed time on an idle machine, relative to the time that was measured; None where it is not known.

        On one thread it is the processor time: a thread that computes without a pause takes as long as its processor
        time when no other process interrupts it. Caches and the memory are still shared, so the true value is
        a little lower. With several threads there is no such rule: they wait for one another, and waiting counts as
        processor time.
        """
        return min(1.0, self.share) if self.threads == 1 else None


class Reading(NamedTuple):
    """The clocks at one moment, in seconds."""

    wall: float
    own: float
    """Processor time of this process, all threads."""
    all: float | None
    """Processor time of all processes."""


def read() -> Reading:
    """The clocks now."""
    return Reading(time.perf_counter(), time.process_time(), _busy_seconds())


def between(before: Reading, after: Reading) -> Contention:
    """What the processors did from one moment to another."""
    wall, own = after.wall - before.wall, after.own - before.own
    others = None
    if before.all is not None and after.all is not None and wall > 0:
        others = max(0.0, after.all - before.all - own) / wall
    return Contention(
        processors=os.cpu_count() or 1, threads=_threads(), others=others, share=own / wall if wall > 0 else 1.0
    )


def _busy_seconds() -> float | None:
    """The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal, in ticks (proc(5))."""
    try:
        words = STAT.read_text(encoding="ascii").split("\n", 1)[0].split()
        user, nice, system, _, _, irq, softirq, steal = (int(word) for word in words[1:9])
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):
        return None


def _threads() -> int:
    """Of torch, if it was loaded: an engine that runs elsewhere computes nothing here."""
    torch = sys.modules.get("torch")
    return 1 if torch is None else int(torch.get_num_threads())
