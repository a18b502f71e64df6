"""Runs programs in the sandbox of an Inspect task (docker, or whichever it names) instead of our own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import anyio.from_thread
from inspect_ai.util import SandboxEnvironment, sandbox

from heartstrings.sandbox import Limits, Ran
from heartstrings.sandbox.base import check_names

_borrowed: WeakKeyDictionary[SandboxEnvironment, Borrowed] = WeakKeyDictionary()


def borrowed() -> Borrowed | None:
    """The sandbox of the running sample; None if its task names none."""
    try:
        environment = sandbox()
    except (ProcessLookupError, LookupError):
        return None
    return _borrowed.setdefault(environment, Borrowed(environment))


@dataclass(eq=False)
class Borrowed:
    """See `heartstrings.sandbox.Sandbox`. Time is limited by the command's timeout; memory, processes, files and
    network by the configuration of that sandbox. Called from a thread that Inspect's event loop started."""

    environment: SandboxEnvironment
    done: dict[Any, Ran] = field(default_factory=dict)
    """The same content is run once, so that replaying a dialogue from its start at every turn costs nothing extra."""
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def run(
        self,
        files: Mapping[str, str],
        argv: Sequence[str],
        *,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        keep: Sequence[str] = (),
    ) -> Ran:
        """In a folder of its own, which is removed afterwards."""
        check_names([*files, *keep])
        key = (tuple(sorted(files.items())), tuple(argv), limits, tuple(keep))
        if key not in self.done:
            self.done[key] = anyio.from_thread.run(self._run, dict(files), list(argv), limits, list(keep))
        return self.done[key]

    async def _run(self, files: dict[str, str], argv: list[str], limits: Limits, keep: list[str]) -> Ran:
        folder = f"heartstrings-{next(self.numbers)}"
        for name, content in files.items():
            await self.environment.write_file(f"{folder}/{name}", content)
        most = limits.output_kb * 1024
        try:
            # -I: nothing of the environment and no file of the folder stands in for a standard module.
            ran = await self.environment.exec(
                ["python3", "-I", *argv], cwd=folder, timeout=max(1, round(limits.seconds)), timeout_retry=False
            )
        except TimeoutError:
            return Ran("timeout", None, "", "", cut=False)
        there = {}
        for name in keep:
            try:
                there[name] = await self.environment.read_file(f"{folder}/{name}")
            except (FileNotFoundError, IsADirectoryError, PermissionError, UnicodeDecodeError):
                continue  # removed by the program, or not text: left out, as in our own sandbox
        await self.environment.exec(["rm", "-rf", folder])
        cut = max(len(ran.stdout), len(ran.stderr)) > most
        status = "ok" if ran.success else "failed"
        return Ran(status, ran.returncode, ran.stdout[:most], ran.stderr[:most], cut, there)  # type: ignore[arg-type]
