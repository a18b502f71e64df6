"""What a sandbox takes and gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal, Protocol, runtime_checkable

from heartstrings.core.errors import InputError

Status = Literal["ok", "failed", "timeout", "memory", "killed"]
"""`ok`: exit code 0. `failed`: another exit code, or a signal of its own. `timeout`, `memory`: over that limit.
`killed`: ended by the sandbox for another reason (processes, files), or it took its own sandbox down."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one run may use."""

    seconds: float | int = 10
    """Wall time; processor time of each process is held to the same, rounded up."""
    memory_mb: int = 512
    """Address space of each process, and resident memory of all together."""
    processes: int = 16
    """Processes and threads at one time, the program itself included."""
    file_mb: int = 16
    """Size of any one file, and of all files in the work folder, and of all in /tmp."""
    output_kb: int = 64
    """Of standard output and of standard error each; the rest is dropped and `Ran.cut` set."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise InputError(f"a time limit of {self.seconds} s", "a number over 0", "Set Limits.seconds")
        for name in ("memory_mb", "processes", "file_mb", "output_kb"):
            if getattr(self, name) < 1:
                raise InputError(f"Limits.{name} is {getattr(self, name)}", "at least 1", f"Set Limits.{name}")


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of one run."""

    status: Status
    code: int | None
    """Exit code; minus the number of the signal that ended it; None when the sandbox went with it."""
    stdout: str
    stderr: str
    cut: bool
    """Whether output was dropped."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Those asked for that are there afterwards as regular files; links are left out, wherever they point."""
    seconds: float = 0.0
    """Wall time of the program."""


@runtime_checkable
class Sandbox(Protocol):
    """A place to run a program in. Every run starts from nothing and leaves nothing."""

    def run(
        self, files: Mapping[str, str], argv: Sequence[str], *, limits: Limits = ..., keep: Sequence[str] = ()
    ) -> Ran:
        """Run Python with `argv` (a script and its arguments, or `-c` and a text) in a folder that holds `files`.

        The folder is /work. It is not on `sys.path`, so that a file in it cannot stand in for a standard module:
        a script that imports its neighbours adds it. Text is UTF-8; output that is not gets replacement characters.

        Args:
            files: text by name; names are relative, `a/b.py` makes the folder.
            keep: names of files to read back.
        Raises:
            InputError: a name that leads out of the folder. HeartstringsError: the sandbox did not start.
        """
        ...


def check_names(names: Sequence[str]) -> None:
    """Raises InputError for a name that is no plain relative path.

    >>> check_names(["solution.py", "data/rows.txt"])
    """
    for name in names:
        parts = name.split("/")
        if not name or "\0" in name or "\\" in name or any(part in ("", ".", "..") for part in parts):
            raise InputError(f"the file name {name!r}", "a relative path without '..', such as data/rows.txt")
        if len(name.encode(errors="replace")) > 200 or not name.isprintable():
            raise InputError(f"the file name {name[:40]!r}", "up to 200 printable bytes")
    inner = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    for name in names:
        if name in inner:
            raise InputError(f"{name!r} as a file and as a folder", "one or the other")
