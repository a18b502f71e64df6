"""The sandbox against programs that try to get out of it, use it up, or deceive it about how they ended."""

from __future__ import annotations

import dataclasses
import errno
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import sandboxes
from heartstrings.core.errors import InputError
from heartstrings.sandbox import Limits, Ran, Sandbox, open_sandbox
from heartstrings.sandbox._bubblewrap import Bubblewrap
from heartstrings.sandbox._filter import system_call_filter
from heartstrings.sandbox.base import check_names

SMALL = Limits(seconds=10, memory_mb=256, processes=16, file_mb=4, output_kb=16)
SECRET = "MAGPIE-SECRET"
MODES = ["root", pytest.param("user", marks=pytest.mark.slow)] if os.geteuid() == 0 else ["user"]


@pytest.fixture(scope="module", params=MODES)
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    found = sandboxes.needed()
    assert isinstance(found, Bubblewrap)
    return dataclasses.replace(found, as_root=request.param == "root")


def run(sandbox: Sandbox, text: str, limits: Limits = SMALL, **more: object) -> Ran:
    return sandbox.run({"main.py": textwrap.dedent(text)}, ["main.py"], limits=limits, **more)  # type: ignore[arg-type]


def test_an_honest_program(sandbox: Sandbox) -> None:
    ran = sandbox.run(
        {"main.py": "import sys; print(open('in/a.txt').read(), sys.argv[1:]); open('out', 'w').write('ünd')",
         "in/a.txt": "Grüße"},
        ["main.py", "x"], keep=["out", "in/a.txt", "absent"],
    )  # fmt: skip
    assert (ran.status, ran.code, ran.stdout, ran.stderr, ran.cut) == ("ok", 0, "Grüße ['x']\n", "", False)
    assert ran.files == {"out": "ünd", "in/a.txt": "Grüße"}
    assert 0 < ran.seconds < 10


def test_a_sandbox_that_cannot_start_leaves_no_pipe_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> bytes:
        raise InputError("an unknown processor", "x86-64 or arm64")

    monkeypatch.setattr("heartstrings.sandbox._bubblewrap.system_call_filter", unknown)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(InputError, match="an unknown processor"):
        Bubblewrap("bwrap", (0, 8), as_root=False).run({}, ["-c", "1"])
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_how_it_ended(sandbox: Sandbox) -> None:
    ran = run(sandbox, "import sys; print('a'); sys.exit(3)")
    assert (ran.status, ran.code, ran.stdout) == ("failed", 3, "a\n")
    ran = run(sandbox, "1 / 0")
    assert (ran.status, ran.code) == ("failed", 1)
    assert "ZeroDivisionError" in ran.stderr
    ran = run(sandbox, "import os; os.abort()")
    assert (ran.status, ran.code) == ("failed", -6)
    assert sandbox.run({}, ["-c", "print(1"], limits=SMALL).status == "failed"
    assert run(sandbox, r"import os; os.write(1, b'\xff\n')").stdout == "\ufffd\n"


def test_the_same_program_has_the_same_end(sandbox: Sandbox) -> None:
    text = "print([hash('a'), list({'x', 'y', 'zz', 'w'})])"
    assert run(sandbox, text).stdout == run(sandbox, text).stdout


def test_this_interpreter_without_its_packages(sandbox: Sandbox) -> None:
    ran = run(sandbox, "import sys, ssl, sqlite3, json; print(sys.version)")
    assert ran.stdout.strip() == sys.version, ran.stderr
    for name in ("numpy", "torch", "heartstrings", "pytest"):
        assert "ModuleNotFoundError" in run(sandbox, f"import {name}").stderr
    # A file in the folder does not stand in for a standard module.
    ran = sandbox.run({"main.py": "import json; print(json.dumps(1))", "json.py": "1/0"}, ["main.py"], limits=SMALL)
    assert ran.stdout == "1\n"


def test_no_network(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ran = run(
            sandbox,
            f"""
            import socket, urllib.request
            for what in (lambda: socket.create_connection(("127.0.0.1", {port}), 2),
                         lambda: socket.create_connection(("1.1.1.1", 53), 2),
                         lambda: socket.create_connection(("169.254.169.254", 80), 2),
                         lambda: socket.getaddrinfo("example.com", 80),
                         lambda: urllib.request.urlopen("http://127.0.0.1:{port}/", timeout=2),
                         lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
                         lambda: socket.socket(getattr(socket, "AF_VSOCK", 40), socket.SOCK_STREAM),
                         lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)):
                try:
                    what()
                    print("REACHED")
                except OSError as error:
                    print("refused")
            print(socket.if_nameindex() if hasattr(socket, "if_nameindex") else "")
            """,
        )
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.accept()
    assert ran.stdout.count("refused") == 8, ran
    assert "REACHED" not in ran.stdout
    assert "eth" not in ran.stdout


def test_unix_sockets_of_the_host_are_out_of_reach(sandbox: Sandbox) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0heartstrings-test-sandbox")
        server.listen()
        ran = run(
            sandbox,
            """
            import socket
            socket.socket(socket.AF_UNIX).connect("\\0heartstrings-test-sandbox")
            """,
        )
    assert "ConnectionRefusedError" in ran.stderr


def test_fork_bomb(sandbox: Sandbox) -> None:
    start = time.monotonic()
    ran = run(
        sandbox,
        """
        import os
        while True:
            try:
                os.fork()
            except OSError:
                pass
        """,
        dataclasses.replace(SMALL, seconds=1),
    )
    assert ran.status in ("timeout", "killed", "memory", "failed")
    assert time.monotonic() - start < 12
    assert _left() == []


def test_threads_are_counted(sandbox: Sandbox) -> None:
    ran = run(
        sandbox,
        """
        import threading, time
        done = threading.Event()
        for n in range(200):
            threading.Thread(target=done.wait, daemon=True).start()
            print(n, flush=True)
        """,
    )
    if (isinstance(sandbox, Bubblewrap) and sandbox.as_root) or os.geteuid() != 0:
        assert ran.status == "failed"
        assert "can't start new thread" in ran.stderr


def test_memory(sandbox: Sandbox) -> None:
    ran = run(sandbox, "a = bytearray(8 << 30)")
    assert ran.status == "memory"
    # Several that keep within the limit each, and break it together.
    ran = run(
        sandbox,
        """
        import os, time
        for _ in range(6):
            if os.fork() == 0:
                a = bytearray(120 << 20)
                time.sleep(30)
        time.sleep(30)
        """,
    )
    assert (ran.status, ran.code) == ("memory", -9)
    for text in (
        "import ctypes; assert ctypes.CDLL(None).shmget(0, 1 << 30, 0o1600) < 0",
        "import os\ntry:\n os.memfd_create('x')\nexcept OSError: pass\nelse: raise SystemExit('MADE')",
    ):
        ran = run(sandbox, text)
        assert ran.status == "ok", ran


@pytest.mark.parametrize("folder", ["/work", "/tmp", "/dev/shm"])
def test_files(sandbox: Sandbox, folder: str) -> None:
    ran = run(
        sandbox,
        f"""
        import os
        def fill(name, size):
            with open("{folder}/" + name, "wb") as file:
                for _ in range(size):
                    file.write(bytes(1 << 20)); file.flush()
        try:
            fill("huge", 4096)
        except OSError as error:
            print(error.errno)
        print(os.path.getsize("{folder}/huge") >> 20)
        os.remove("{folder}/huge")
        try:
            for n in range(1000):
                fill(f"part{{n}}", 1)
        except OSError as error:
            print(error.errno, n)
        """,
    )
    assert ran.stdout.split()[0] in (str(errno.EFBIG), str(errno.ENOSPC)), ran
    assert int(ran.stdout.split()[1]) <= SMALL.file_mb
    assert ran.stdout.split()[2] == str(errno.ENOSPC)
    assert int(ran.stdout.split()[3]) <= SMALL.file_mb


def test_files_where_bwrap_is_old(sandbox: Sandbox) -> None:
    """Versions before 0.7 cannot size a folder: then process 1 sees to it."""
    assert isinstance(sandbox, Bubblewrap)
    old = dataclasses.replace(sandbox, version=(0, 6, 1))
    ran = run(
        old,
        """
        import time
        for n in range(100):
            with open(f"/tmp/{n}", "wb") as file:
                file.write(bytes(1 << 20))
            time.sleep(0.01)
        """,
    )
    assert (ran.status, ran.code) == ("killed", -9)


def test_a_million_empty_files(sandbox: Sandbox) -> None:
    ran = run(sandbox, "for n in range(10**6): open(f'/tmp/{n}', 'w').close()")
    assert (ran.status, ran.code) == ("killed", -9)


def test_output_is_cut_and_says_so(sandbox: Sandbox) -> None:
    ran = run(sandbox, "import sys; print('x' * 20000); print('y' * 100, file=sys.stderr)")
    assert (ran.status, ran.cut, ran.stdout, len(ran.stderr)) == ("ok", True, "x" * (16 << 10), 101)
    ran = run(sandbox, "print('x' * (16 * 1024 - 1))")
    assert (ran.cut, len(ran.stdout)) == (False, 16 << 10)
    ran = run(sandbox, "while True: print('x' * 1000)", dataclasses.replace(SMALL, seconds=1))
    assert (ran.status, ran.cut, len(ran.stdout)) == ("timeout", True, 16 << 10)


def test_time(sandbox: Sandbox) -> None:
    limits = dataclasses.replace(SMALL, seconds=0.5)
    deaf = "    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
    for text in (
        "while True: pass",
        "import time; time.sleep(60)",
        f"import signal, time\nfor n in range(1, 65):\n{deaf}time.sleep(60)",
    ):
        start = time.monotonic()
        ran = run(sandbox, "print('hello', flush=True)\n" + text, limits)
        assert (ran.status, ran.stdout) == ("timeout", "hello\n")
        assert time.monotonic() - start < 8


def test_nothing_of_the_host_can_be_read(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text(SECRET)
    monkeypatch.setenv("API_TOKEN", SECRET)
    home = Path.home()
    ran = run(
        sandbox,
        f"""
        import os
        for path in ("/root", "/home", {str(home)!r}, "/etc/shadow", "/etc/passwd", {str(tmp_path / "secret")!r},
                     {str(Path(__file__).resolve())!r}, "/var", "/usr/local", "/sys", "/boot", "/opt", "/run",
                     "/proc/1/root/etc/shadow", "/proc/1/environ", "/proc/1/mem", "/proc/1/fd/0", "/proc/1/fd/1",
                     "/dev/sda", "/dev/mem",
                     "/proc/1/fd/2", "/dev/kmsg", "/proc/kcore", "/proc/1/cwd/.."):
            try:
                os.listdir(path) if os.path.isdir(path) else open(path).read(10)
                print("READ", path)
            except OSError:
                pass
        print(sorted(os.listdir("/")), dict(os.environ), os.path.expanduser("~"))
        """,
    )
    assert ran.status == "ok", ran
    assert "READ" not in ran.stdout, ran
    assert SECRET not in ran.stdout
    assert "/root" not in ran.stdout.replace(str(home), "/root")
    assert set(eval(ran.stdout[: ran.stdout.index("]") + 1])) <= {
        "dev", "etc", "lib", "lib64", "proc", "python", "tmp", "usr", "work",
    }  # fmt: skip


def test_nothing_of_the_host_can_be_written(sandbox: Sandbox) -> None:
    ran = run(
        sandbox,
        """
        import os, sys
        for path in ("/x", "/usr/x", "/usr/lib/x", "/lib/x", "/etc/x", "/dev/x", "/python/x", sys.prefix + "/x",
                     os.__file__, sys.executable, "/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/1/mem",
                     "/proc/self/uid_map", "/proc/sys/vm/drop_caches"):
            try:
                open(path, "ab").write(b"1")
                print("WROTE", path)
            except OSError:
                pass
        for folder in ("/", "/usr", "/python"):
            try:
                os.mkdir(folder + "/made")
                print("WROTE", folder)
            except OSError:
                pass
        print("end")
        """,
    )
    assert ran.stdout == "end\n", ran
    assert not Path("/x").exists()


def test_the_parent_cannot_be_killed_or_seen(sandbox: Sandbox) -> None:
    ran = run(
        sandbox,
        """
        import os, signal
        print(os.getpid(), os.getppid(), sorted(int(n) for n in os.listdir("/proc") if n.isdigit()))
        for name in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP, signal.SIGINT, signal.SIGSEGV):
            for pid in (1, os.getppid()):
                try:
                    os.kill(pid, name)
                except OSError:
                    pass
        print("alive")
        """,
    )
    assert (ran.status, ran.stdout) == ("ok", "2 1 [1, 2]\nalive\n"), ran


def test_tracing_namespaces_mounts_and_setuid_are_refused(sandbox: Sandbox) -> None:
    ran = run(
        sandbox,
        """
        import ctypes, os, platform
        c = ctypes.CDLL(None, use_errno=True)
        def tried(name, *words):
            ctypes.set_errno(0)
            if getattr(c, name)(*words) >= 0:
                print("DID", name)
            elif ctypes.get_errno() != 1:
                print("OTHER", name, ctypes.get_errno())
        tried("ptrace", 16, 1, 0, 0)
        tried("ptrace", 0, 0, 0, 0)
        tried("process_vm_readv", 1, 0, 0, 0, 0, 0)
        for flag in (0x10000000, 0x40000000, 0x00020000, 0x20000000):
            tried("unshare", flag)
        tried("mount", b"none", b"/tmp", b"tmpfs", 0, 0)
        tried("umount2", b"/proc", 2)
        tried("chroot", b"/tmp")
        tried("setns", 0, 0)
        tried("sethostname", b"mine", 4)
        tried("keyctl", 0, -3, 0, 0, 0) if hasattr(c, "keyctl") else None
        bpf, uring, clone, clone3 = {"x86_64": (321, 425, 56, 435)}.get(platform.machine(), (280, 425, 220, 435))
        tried("syscall", bpf, 0, 0, 0)
        tried("syscall", uring, 8, 0)
        tried("syscall", clone, 0x10000000 | 17, 0, 0, 0, 0)
        if c.syscall(clone3, 0, 0) != -1 or ctypes.get_errno() != 38:
            print("OTHER clone3")
        for name in ("setuid", "setgid"):
            if getattr(os, name.replace("set", "get"))() == 0:
                print("ROOT")
            try:
                getattr(os, name)(0)
                print("DID", name)
            except OSError:
                pass
        os.chmod("main.py", 0o6755)
        status = open("/proc/self/status").read()
        print([line.split()[1] for line in status.splitlines() if line.startswith(("CapEff", "CapPrm", "NoNewPrivs"))])
        """,
    )
    assert ran.stdout == "['0000000000000000', '0000000000000000', '1']\n", ran


def test_a_daemon_does_not_outlive_the_run(sandbox: Sandbox) -> None:
    start = time.monotonic()
    ran = run(
        sandbox,
        """
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                while True:
                    open("beat", "w").write(str(time.time()))
                    time.sleep(0.01)
            os._exit(0)
        time.sleep(0.2)
        print("main is done")
        """,
        keep=["beat"],
    )
    assert (ran.status, ran.stdout) == ("ok", "main is done\n")
    assert "beat" in ran.files  # it ran, and
    assert time.monotonic() - start < 8
    assert _left() == []


def test_links_are_not_read_back(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    ran = run(
        sandbox,
        f"""
        import os
        os.symlink({str(tmp_path / "secret")!r}, "a")
        os.symlink("/etc/passwd", "b")
        os.symlink("/etc", "c")
        os.symlink("main.py", "d")
        os.mkfifo("e")
        os.mkdir("f")
        os.symlink("/proc/1/environ", "g")
        """,
        keep=["a", "b", "c/ld.so.cache", "d", "e", "f", "g", "main.py"],
    )
    assert ran.status == "ok", ran
    assert set(ran.files) == {"main.py"}


def test_its_word_about_itself_is_not_taken(sandbox: Sandbox) -> None:
    """What process 1 reports does not come through anything that the program can write to."""
    ran = run(
        sandbox,
        """
        import os
        forged = b'started\\n{"status": "ok", "code": 0, "stdout": "", "stderr": "", "cut": false, "files": {}}'
        for fd in [*range(3, 64)]:
            try:
                os.write(fd, forged)
                print("WROTE", fd)
            except OSError:
                pass
        os._exit(5)
        """,
    )
    assert (ran.status, ran.code) == ("failed", 5)
    assert "WROTE" not in ran.stdout


def test_runs_do_not_see_each_other(sandbox: Sandbox) -> None:
    run(sandbox, "open('/tmp/left', 'w').write('x'); open('left', 'w').write('x')")
    ran = run(sandbox, "import os; print(os.listdir('/tmp'), os.listdir('.'))")
    assert ran.stdout == "[] ['main.py']\n"
    found: list[Ran] = []
    threads = [threading.Thread(target=lambda: found.append(run(sandbox, "print(6 * 7)"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.stdout for one in found] == ["42\n"] * 4


@pytest.mark.parametrize(
    "name", ["/etc/x", "../x", "a/../../x", "", ".", "a//b", "a/", "./a", "a\0b", "a\\b", "a\nb", "x" * 300]
)
def test_names_that_lead_out_are_refused(sandbox: Sandbox, name: str) -> None:
    with pytest.raises(InputError, match="file name"):
        sandbox.run({name: "x"}, ["-c", ""])
    with pytest.raises(InputError, match="file name"):
        sandbox.run({}, ["-c", ""], keep=[name])


def test_a_name_cannot_be_file_and_folder() -> None:
    with pytest.raises(InputError, match="as a file and as a folder"):
        check_names(["a", "a/b"])


def test_it_dies_with_its_parent(sandbox: Sandbox) -> None:
    assert isinstance(sandbox, Bubblewrap)
    root = sandbox.as_root
    nap = f"time.sleep({os.getpid()}77)"
    text = (
        "import dataclasses\nfrom heartstrings.sandbox import open_sandbox, Limits\n"
        f"s = dataclasses.replace(open_sandbox(), as_root={root})\nprint('up', flush=True)\n"
        f"s.run({{}}, ['-c', 'import time; {nap}'], limits=Limits(seconds=60))"
    )
    process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    deadline = time.monotonic() + 10
    while not _left(nap) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert _left(nap)
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 5
    while _left(nap) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert _left(nap) == []


def test_without_bubblewrap_nothing_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="apt install bubblewrap"):
        open_sandbox()


@pytest.mark.parametrize("script", ["exit 1", "echo 'bwrap: No permissions to create new namespace' >&2; exit 1"])
def test_where_bubblewrap_does_not_work_nothing_is_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str
) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo bubblewrap 0.8.0 && exit 0\n{script}\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(InputError, match="does not work here") as caught:
        open_sandbox()
    assert ("No permissions" in str(caught.value)) == ("echo" in script)


def test_the_example_of_the_docs(sandbox: Sandbox) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "sandbox.md").read_text(encoding="utf-8")
    exec(page.partition("```python\n")[2].partition("```")[0], {})


def test_limits_are_checked() -> None:
    for bad in ({"seconds": 0}, {"seconds": float("nan")}, {"memory_mb": 0}, {"processes": 0}, {"output_kb": -1}):
        with pytest.raises(InputError):
            Limits(**bad)


def test_the_filter() -> None:
    for machine in ("x86_64", "aarch64"):
        assert len(system_call_filter(machine)) % 8 == 0
    with pytest.raises(InputError, match="riscv64"):
        system_call_filter("riscv64")


def _left(word: str = "/work") -> list[str]:
    """Command lines of processes of a sandbox that are still there."""
    return [line for line in _command_lines() if word in line and ("-s -P -B" in line)]


def _command_lines() -> Iterator[str]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                yield (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
