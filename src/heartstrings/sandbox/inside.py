"""Process 1 of the sandbox: sets the limits, starts the program, watches it, and reports the result.

The sandboxed Python gets this text with `-c`, so it imports only the standard library. The program cannot kill process
1 (the kernel drops such signals within the namespace) and cannot trace or read it (it is not dumpable, and may have
another user id). So the program cannot forge the report.
"""

import contextlib
import ctypes
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from typing import Any

WORK = "/work"
TICK = 0.02
"""Seconds between two looks at memory, processes and files."""
MOST_FILES = 20_000
"""Of all kinds, including empty ones: each takes kernel memory that no other limit counts."""


def drop(uid: int) -> None:
    """Change to a user id that nobody else has, so that the limit on processes counts only this sandbox."""
    if os.geteuid() == 0 and uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE


def hold(limits: dict[str, Any]) -> None:
    """Set the limits that the kernel enforces. The program and all its children inherit them and cannot raise them."""
    megabyte = 1 << 20
    cpu = int(-(-limits["seconds"] // 1)) + 1
    for limit, most in (
        (resource.RLIMIT_AS, limits["memory_mb"] * megabyte),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_FSIZE, limits["file_mb"] * megabyte),
        (resource.RLIMIT_NPROC, limits["processes"] + 1),  # and process 1
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        resource.setrlimit(limit, (most, most))


def used() -> tuple[int, int, int, int]:
    """(processes without this one, their resident bytes, bytes in the fuller folder, files in both folders)."""
    processes = resident = 0
    for name in os.listdir("/proc"):
        if name.isdigit() and name != "1":
            try:
                with open(f"/proc/{name}/statm") as file:
                    resident += int(file.read().split()[1]) * resource.getpagesize()
                processes += 1
            except (OSError, IndexError):
                continue
    disks = [os.statvfs(folder) for folder in (WORK, "/tmp")]
    full = max((disk.f_blocks - disk.f_bfree) * disk.f_frsize for disk in disks)
    return processes, resident, full, sum(disk.f_files - disk.f_ffree for disk in disks)


def over(limits: dict[str, Any]) -> str:
    """The status of a program that is over a limit now; empty if it is within all of them."""
    processes, resident, full, files = used()
    if resident > limits["memory_mb"] << 20:
        return "memory"
    if processes > limits["processes"] or full > (limits["file_mb"] + 1) << 20 or files > MOST_FILES:
        return "killed"
    return ""


def clear() -> None:
    """Kill all other processes and wait until they are gone."""
    while True:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def kept(names: list[str]) -> dict[str, str]:
    contents = {}
    for name in names:
        path = os.path.join(WORK, name)
        # No other process is left, so the file cannot change between this check and the reading.
        if os.path.realpath(path) == path and os.path.isfile(path):
            try:
                with open(path, "rb") as file:
                    contents[name] = file.read().decode("utf-8", "replace")
            except OSError:
                continue
    return contents


def watch(child: "subprocess.Popen[bytes]", limits: dict[str, Any], alive: int) -> dict[str, Any]:
    """Collect output until the program ends or goes over a limit, then kill what is left of it."""
    most = limits["output_kb"] << 10
    texts, cut, status, ended = {"stdout": bytearray(), "stderr": bytearray()}, False, "", None
    pipes = selectors.DefaultSelector()
    for name in texts:
        os.set_blocking(getattr(child, name).fileno(), False)
        pipes.register(getattr(child, name).fileno(), selectors.EVENT_READ, name)
    pipes.register(alive, selectors.EVENT_READ)
    start = looked = time.monotonic()
    while True:
        for key, _ in pipes.select(TICK):
            if key.fd == alive:  # closed: nobody waits for the result
                os._exit(1)
            cut |= gather(key.fd, texts[key.data], most, pipes)
        now = time.monotonic()
        while ended is None:  # process 1 also has to reap orphans
            try:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == child.pid:
                ended = os.waitstatus_to_exitcode(wait_status)
            elif not pid:
                break
        if ended is not None:
            break
        if now - start > limits["seconds"]:
            status = "timeout"
        elif now - looked > TICK:
            looked, status = now, over(limits)
        if status:
            break
    took = time.monotonic() - start
    clear()
    pipes.unregister(alive)
    for key in list(pipes.get_map().values()):
        cut |= gather(key.fd, texts[key.data], most, None)
    out, err = (bytes(text).decode("utf-8", "replace") for text in texts.values())
    code = -signal.SIGKILL if ended is None else ended
    if not status:
        status = "ok" if code == 0 else "timeout" if code == -signal.SIGXCPU else "failed"
        if status == "failed" and err.rstrip().rpartition("\n")[2].startswith("MemoryError"):
            status = "memory"
    return {"status": status, "code": code, "stdout": out, "stderr": err, "cut": cut, "seconds": took}


def gather(fd: int, text: bytearray, most: int, pipes: "selectors.BaseSelector | None") -> bool:
    """Read what is in a pipe, up to a mebibyte. True if some of it was over the limit and dropped."""
    cut = False
    for _ in range(16):
        try:
            more = os.read(fd, 1 << 16)
        except BlockingIOError:
            break
        if not more:
            if pipes is not None:
                pipes.unregister(fd)
            break
        room = most - len(text)
        text += more[:room]
        cut |= len(more) > room
    return cut


def main() -> None:
    # The kernel drops a signal to process 1 only if it has no handler for it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    task = json.load(sys.stdin)
    limits = task["limits"]
    drop(task["uid"])
    for name, text in task["files"].items():
        path = os.path.join(WORK, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8", errors="replace", newline="") as file:
            file.write(text)
    print("started", flush=True)
    # A fixed hash seed: the same program gives the same result. -s, -P and this environment do what -I does.
    environment = {"HOME": WORK, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TMPDIR": "/tmp", "PYTHONHASHSEED": "0"}
    if "LD_LIBRARY_PATH" in os.environ:
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    child = subprocess.Popen(
        [sys.executable, "-s", "-P", "-B", *task["argv"]],
        cwd=WORK,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: hold(limits),
    )
    result = watch(child, limits, task["alive"])
    json.dump(result | {"files": kept(task["keep"])}, sys.stdout)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
