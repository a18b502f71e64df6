"""The sandbox on bubblewrap (`bwrap`): new namespaces of every kind, and a root of a few read-only folders.

As root, bwrap builds the sandbox with root's rights, and process 1 then changes to a user id that nobody else has.
Otherwise bwrap builds it in a user namespace. Whatever can be written to is in memory, not on a disk of the host.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from heartstrings.core.errors import HeartstringsError, InputError
from heartstrings.sandbox._filter import system_call_filter
from heartstrings.sandbox.base import Limits, Ran, Sandbox, check_names

INSTALL = "On Debian or Ubuntu: apt install bubblewrap. Elsewhere: its package of the same name"
_GRACE = 10.0
"""Seconds for the start and the end of a sandbox. The time limit itself is enforced by process 1."""
_CHECK = "import os; pid = os.fork() or os._exit(0); os.waitpid(pid, 0); print('it works')"


@dataclass(frozen=True)
class Bubblewrap:
    """See `heartstrings.sandbox.base.Sandbox`."""

    bwrap: str
    version: tuple[int, ...]
    as_root: bool
    """Built with root's rights; False: in a user namespace."""
    programs: bool = False
    """With the host's /usr/bin, read-only: shells and their tools. False: Python only."""

    def run(
        self,
        files: Mapping[str, str],
        argv: Sequence[str],
        *,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        keep: Sequence[str] = (),
    ) -> Ran:
        """See `Sandbox.run`."""
        check_names([*files])
        check_names(keep)
        with ExitStack() as ours:
            with ExitStack() as theirs:
                rules, write = os.pipe()
                theirs.callback(os.close, rules)
                with os.fdopen(write, "wb") as pipe:
                    pipe.write(system_call_filter())
                # Process 1 ends when `ours` is closed: a signal from here may not reach a process of another user.
                alive, end = os.pipe()
                theirs.callback(os.close, alive)
                ours.callback(os.close, end)
                task = {
                    "files": dict(files),
                    "argv": list(argv),
                    "keep": list(keep),
                    "limits": asdict(limits),
                    "alive": alive,
                    # An id that nobody has, another one for each run: the kernel counts processes by user.
                    "uid": 1_000_000_000 + secrets.randbelow(1_000_000_000) if self.as_root else 0,
                }
                process = subprocess.Popen(
                    self._command(limits, rules),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=(rules, alive),
                    env={},
                )
            try:
                out, err = process.communicate(json.dumps(task).encode(), timeout=limits.seconds + _GRACE)
            except BaseException as error:  # over time, or an interrupt
                process.kill()
                ours.close()
                out, err = process.communicate()
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
        first, _, report = out.decode(errors="replace").partition("\n")
        if first != "started":
            why = err.decode(errors="replace").strip()[-500:] or f"exit code {process.returncode}"
            raise HeartstringsError(
                f"the sandbox did not start: {why}", "bwrap to work as it did when the sandbox was opened", INSTALL
            )
        with suppress(ValueError):
            return Ran(**json.loads(report))
        return Ran("killed", None, "", "", cut=True)

    def _command(self, limits: Limits, rules: int) -> list[str]:
        size = ["--size", str(limits.file_mb << 20)] if self.version >= (0, 7) else []  # else process 1 enforces it
        word = [
            self.bwrap, "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try",
            "--die-with-parent", "--new-session", "--as-pid-1", "--hostname", "sandbox", "--seccomp", str(rules),
        ]  # fmt: skip
        if self.as_root:
            word += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        else:
            word += ["--unshare-user", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"]
            word += ["--disable-userns"] if self.version >= (0, 8) else []
        word += ["--clearenv"]
        folders, python, environment = _python()
        # Folders that bwrap makes by itself are closed to all but root.
        for folder in ("/dev", "/etc", "/usr", "/usr/bin"):
            word += ["--dir", folder]
        if self.programs:
            word += ["--ro-bind", "/usr/bin", "/usr/bin"]
            word += ["--symlink", "usr/bin", "/bin"] if os.path.islink("/bin") else ["--ro-bind", "/bin", "/bin"]
        word += folders
        for name, value in environment.items():
            word += ["--setenv", name, value]
        for device in ("null", "zero", "random", "urandom"):
            word += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
        for folder in ("/tmp", "/work"):
            word += ["--perms", "1777", *size, "--tmpfs", folder]
        word += ["--symlink", "/tmp", "/dev/shm", "--proc", "/proc"]
        # /proc/sys is the host's, and root may write there even without capabilities.
        word += ["--tmpfs", "/proc/sys", "--remount-ro", "/proc/sys", "--remount-ro", "/", "--chdir", "/work"]
        return [*word, "--", python, "-I", "-S", "-c", _inside()]


@cache
def _inside() -> str:
    return Path(__file__).with_name("inside.py").read_text(encoding="utf-8")


@cache
def _python() -> tuple[list[str], str, dict[str, str]]:
    """(options that bind this interpreter read-only without its site packages, its path inside, its environment).

    The system's interpreter stays at its path. Any other (a build under a home folder, conda) is bound as /python, so
    that neither its path nor the home folder is visible inside.
    """
    word: list[str] = []
    for folder in ("/usr/lib", "/usr/lib64", "/lib", "/lib64"):
        if os.path.islink(folder):
            word += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            word += ["--ro-bind", folder, folder]
    if os.path.exists("/etc/ld.so.cache"):
        word += ["--ro-bind", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    prefix = os.path.realpath(sys.base_prefix)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if prefix == "/usr":
        binary = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
        packages = ["/usr/lib/python3/dist-packages", f"/usr/lib/{version}/site-packages"]
        word += ["--ro-bind", binary, binary]
        environment = {}
    else:
        binary = f"/python/bin/{version}"
        packages = [f"/python/lib/{version}/site-packages"]
        word += ["--ro-bind", prefix, "/python"]
        environment = {"LD_LIBRARY_PATH": "/python/lib"}
    for folder in packages:
        if os.path.isdir(folder.replace("/python/", f"{prefix}/", 1) if folder.startswith("/python/") else folder):
            word += ["--tmpfs", folder, "--remount-ro", folder]
    return word, binary, environment


def open_sandbox(*, programs: bool = False) -> Sandbox:
    """A sandbox, after a first program has run in it.

    Args:
        programs: with the host's shells and tools (/usr/bin, read-only), for programs that start other programs.
    Raises:
        InputError: there is no bubblewrap, or it does not work on this machine. Nothing is ever run without it.
    """
    path = shutil.which("bwrap")
    if path is None:
        raise InputError("no bubblewrap (bwrap), which runs programs that a model wrote", "bwrap on the PATH", INSTALL)
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    version = tuple(int(part) for part in re.findall(r"\d+", said)[:3])
    why = ""
    for as_root in (True, False) if os.geteuid() == 0 else (False,):
        sandbox = Bubblewrap(path, version, as_root, programs)
        try:
            ran = sandbox.run({}, ["-c", _CHECK], limits=Limits(seconds=20))
        except InputError:
            raise
        except HeartstringsError as error:
            why = error.found
            continue
        if ran.stdout == "it works\n":
            return sandbox
        why = f"a first program ended with {ran.status}: {ran.stderr.strip()[-200:]}"
    raise InputError(
        f"bubblewrap {'.'.join(map(str, version))} does not work here: {why}",
        "version 0.5 or later, and user namespaces or root's rights",
        "Allow user namespaces (in a container: run it privileged; on Ubuntu: load AppArmor's profile for bwrap)",
    )
