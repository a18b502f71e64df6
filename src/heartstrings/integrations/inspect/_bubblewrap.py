"""Our sandbox for Inspect's tasks: `sandbox="bubblewrap"`, where no Docker runs.

Every command is a sandbox of its own, with the files that earlier ones left in the work folder; nothing else outlives
it, no process either. No network, no home folder, a read-only root. There is Python in it and no shell: `python FILE`
and `python -c TEXT` run, any other command is not there.
"""

from __future__ import annotations

import base64
import json
from pathlib import PurePosixPath
from typing import Any, Literal, overload

import anyio
from inspect_ai.util import (
    ExecResult,
    SandboxConnection,
    SandboxEnvironment,
    SandboxEnvironmentConfigType,
    sandboxenv,
)
from typing_extensions import override

from heartstrings.core.errors import InputError
from heartstrings.sandbox import Limits, Sandbox, open_sandbox

WORK = PurePosixPath("/work")
STATE = ".heartstrings-state.json"
SECONDS = 60
"""Of a command without a timeout of its own."""
_LIMITS = Limits(seconds=SECONDS, memory_mb=1024, processes=64, file_mb=32, output_kb=1024)
_RUN = """
import base64, json, os, signal, subprocess, sys
task = json.load(open(".heartstrings-state.json"))
os.remove(".heartstrings-state.json")
for name, content in task["files"].items():
    os.makedirs(os.path.dirname(os.path.abspath(name)), exist_ok=True)
    with open(name, "wb") as file:
        file.write(base64.b64decode(content))
    os.chmod(name, 0o755)
said = {"code": 127, "out": "", "err": ""}
program, *arguments = task["cmd"]
here = os.path.dirname(sys.executable)
env = {**os.environ, "PATH": here + ":/usr/bin:/bin", **task["env"]}
try:
    given = base64.b64decode(task["input"])
    program = sys.executable if program in ("python", "python3") else program
    ran = subprocess.run([program, *arguments], input=given, capture_output=True, cwd=task["cwd"], env=env)
    out, err = (text.decode(errors="replace") for text in (ran.stdout, ran.stderr))
    said = {"code": ran.returncode if ran.returncode >= 0 else 128 - ran.returncode, "out": out, "err": err}
except (OSError, ValueError) as error:
    said["err"] = str(error)
try:
    os.kill(-1, signal.SIGKILL)  # all but this and process 1: nothing writes while the files are gathered
except ProcessLookupError:
    pass
files = {}
for root, folders, names in os.walk("."):
    for name in names:
        path = os.path.join(root, name)
        if os.path.isfile(path) and not os.path.islink(path):
            with open(path, "rb") as file:
                files[os.path.relpath(path, ".")] = base64.b64encode(file.read()).decode()
with open(".heartstrings-state.json", "w") as file:
    json.dump({**said, "files": files}, file)
"""


@sandboxenv(name="bubblewrap")
class BubblewrapSandbox(SandboxEnvironment):
    """One sample's work folder, and a sandbox for each command in it."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.files: dict[str, str] = {}
        """Base64 by name within the work folder."""

    @override
    @classmethod
    async def sample_init(
        cls, task_name: str, config: SandboxEnvironmentConfigType | None, metadata: dict[str, str]
    ) -> dict[str, SandboxEnvironment]:
        """Raises InputError if no sandbox can be made here (with what to install), or if a configuration is given."""
        if config is not None:
            raise InputError(f"a configuration of the bubblewrap sandbox: {config!r}", "none", "Leave it out")
        return {"default": cls(open_sandbox(programs=True))}

    @override
    @classmethod
    async def sample_cleanup(
        cls,
        task_name: str,
        config: SandboxEnvironmentConfigType | None,
        environments: dict[str, SandboxEnvironment],
        interrupted: bool,
    ) -> None:
        for environment in environments.values():
            environment.as_type(cls).files.clear()

    @override
    async def exec(
        self,
        cmd: list[str],
        input: str | bytes | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        """Run a command. A result over a limit is a failure with the reason in its error output.

        Raises:
            TimeoutError: over `timeout`. InputError: another user, which there is not.
        """
        if user is not None:
            raise InputError(f"a command as user {user!r}", "the sandbox's only user", "Leave the user out")
        given = input.encode() if isinstance(input, str) else input or b""
        task = {
            "files": self.files,
            "cmd": cmd,
            "cwd": str(WORK / (cwd or "")),
            "env": env or {},
            "input": base64.b64encode(given).decode(),
        }
        limits = Limits(
            seconds=timeout or SECONDS,
            memory_mb=_LIMITS.memory_mb,
            processes=_LIMITS.processes,
            file_mb=_LIMITS.file_mb,
            output_kb=_LIMITS.output_kb,
        )
        ran = await anyio.to_thread.run_sync(
            lambda: self.sandbox.run({STATE: json.dumps(task)}, ["-c", _RUN], limits=limits, keep=[STATE])
        )
        if ran.status == "timeout" and timeout is not None:
            raise TimeoutError(f"no end within {timeout} s: {' '.join(cmd)}")
        said = _said(ran.files.get(STATE, ""))
        if said is None:
            # It exceeded a limit, or ended its sandbox: the files that it wrote are lost.
            return ExecResult(False, ran.code or 1, ran.stdout, ran.stderr or f"ended by the sandbox: {ran.status}")
        self.files = said["files"]
        return ExecResult(said["code"] == 0, said["code"], said["out"], said["err"])

    @override
    async def write_file(self, file: str, contents: str | bytes) -> None:
        """Write into the work folder; PermissionError anywhere else."""
        content = contents.encode() if isinstance(contents, str) else contents
        self.files[_inside(file)] = base64.b64encode(content).decode()

    @overload
    async def read_file(self, file: str, text: Literal[True] = True) -> str: ...

    @overload
    async def read_file(self, file: str, text: Literal[False]) -> bytes: ...

    @override
    async def read_file(self, file: str, text: bool = True) -> str | bytes:
        """Read from the work folder; FileNotFoundError where it is not there, PermissionError anywhere else."""
        name = _inside(file)
        if name not in self.files:
            raise FileNotFoundError(file)
        content = base64.b64decode(self.files[name])
        return content.decode() if text else content

    @override
    async def connection(self, *, user: str | None = None) -> SandboxConnection:
        raise NotImplementedError("the bubblewrap sandbox exists while a command runs: there is nothing to connect to")

    @override
    async def exec_remote(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError("nothing outlives its command in the bubblewrap sandbox: use exec, or docker")


def _said(text: str) -> dict[str, Any] | None:
    """The result; None if it is incomplete. A program may have written it, and must not stop an evaluation."""
    try:
        said = json.loads(text)
        if isinstance(said.get("code"), int) and all(isinstance(said[name], str) for name in ("out", "err")):
            for content in said["files"].values():
                base64.b64decode(content, validate=True)
            # Halves of surrogate pairs cannot be written to a log.
            whole: dict[str, Any] = said | {
                name: said[name].encode(errors="replace").decode() for name in ("out", "err")
            }
            return whole
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        pass
    return None


def _inside(file: str) -> str:
    path = PurePosixPath(file)
    parts = (path.relative_to(WORK) if path.is_absolute() and path.is_relative_to(WORK) else path).parts
    if (path.is_absolute() and not path.is_relative_to(WORK)) or ".." in parts or not parts:
        raise PermissionError(f"{file} is outside of the work folder {WORK}")
    return "/".join(parts)
