"""What a sandbox takes and returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Literal, Protocol, runtime_checkable

from pydantic import Field

from heartstrings.core.checks import check_fields
from heartstrings.core.errors import InputError

Positive = Annotated[int, Field(ge=1)]
Status = Literal["ok", "failed", "timeout", "memory", "killed"]
"""`ok`: exit code 0. `failed`: another exit code, or a signal that it caused. `timeout`, `memory`: over that limit.
`killed`: over another limit (processes, files), or the program ended its sandbox."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one run may use. Raises InputError for a limit of 0 or less."""

    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10
    """Wall time. The processor time of each process has the same limit, rounded up."""
    memory_mb: Positive = 512
    """Address space of each process, and resident memory of all processes together."""
    processes: Positive = 16
    """Processes and threads at the same time, including the program itself."""
    file_mb: Positive = 16
    """Size of any one file, of all files in the work folder together, and of all files in /tmp together."""
    output_kb: Positive = 64
    """Of standard output and of standard error each. The rest is dropped, and `Ran.cut` is true."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True)
class Ran:
    """The result of one run."""

    status: Status
    code: int | None
    """Exit code; minus the number of the signal that ended it; None if the sandbox ended with it."""
    stdout: str
    stderr: str
    cut: bool
    """Whether output was dropped."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Text by name, of the files in `keep` that exist afterwards as regular files. Links are left out."""
    seconds: float = 0.0
    """Wall time of the program."""


@runtime_checkable
class Sandbox(Protocol):
    """Runs programs. Every run starts with an empty folder, and nothing of it is left afterwards."""

    def run(
        self, files: Mapping[str, str], argv: Sequence[str], *, limits: Limits = ..., keep: Sequence[str] = ()
    ) -> Ran:
        """Run Python with `argv` (a script and its arguments, or `-c` and a text) in a folder that holds `files`.

        The folder is /work. It is not on `sys.path`, so that a file in it cannot replace a standard module: a script
        that imports other files of the folder has to add it. Text is UTF-8; invalid output gets replacement characters.

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
            raise InputError(f"the file name {name[:40]!r}", "at most 200 bytes, all of them printable")
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    for name in folders.intersection(names):
        raise InputError(f"{name!r} as a file and as a folder", "one or the other")
