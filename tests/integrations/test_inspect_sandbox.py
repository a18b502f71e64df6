"""The sandbox for Inspect's tasks: files last within a sample, and nothing gets out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import sandboxes
from heartstrings.core.errors import InputError

pytest.importorskip("inspect_ai")
pytestmark = pytest.mark.filterwarnings("ignore")  # Inspect's own imports warn


def inside(use: Callable[[Any], Any]) -> Any:
    """What `use` gives for the sandbox of one sample."""
    from heartstrings.integrations.inspect._bubblewrap import BubblewrapSandbox

    sandboxes.needed()

    async def run() -> Any:
        (made,) = (await BubblewrapSandbox.sample_init("task", None, {})).values()
        try:
            return await use(made)
        finally:
            await BubblewrapSandbox.sample_cleanup("task", None, {"default": made}, False)

    return anyio.run(run)


SORT = """
import os, sys
with open("rows.txt") as rows, open("sorted.txt", "w") as out:
    out.writelines(sorted(rows))
print(os.environ["WHO"], sys.stdin.read())
print("so", file=sys.stderr)
sys.exit(3)
"""


def test_files_last_and_commands_do_what_they_say() -> None:
    async def use(box: Any) -> None:
        await box.write_file("data/rows.txt", "3\n1\n2\n")
        await box.write_file("/work/raw.bin", bytes(range(256)))
        await box.write_file("sort.py", SORT)
        ran = await box.exec(["python", "../sort.py"], cwd="data", input="in", env={"WHO": "me"})
        assert (ran.success, ran.returncode, ran.stdout, ran.stderr) == (False, 3, "me in\n", "so\n")
        assert await box.read_file("data/sorted.txt") == "1\n2\n3\n"
        assert await box.read_file("raw.bin", text=False) == bytes(range(256))
        ran = await box.exec(["python3", "-c", "print(open('data/sorted.txt').read(), end='')"])
        assert (ran.success, ran.stdout) == (True, "1\n2\n3\n")
        assert (await box.exec(["python3", "-c", "import os; os.remove('data/sorted.txt')"])).success
        with pytest.raises(FileNotFoundError):
            await box.read_file("data/sorted.txt")
        ran = await box.exec(["no-such-program"])
        assert (ran.success, ran.returncode) == (False, 127)
        assert "no-such-program" in ran.stderr

    inside(use)


def test_shells_and_their_tools() -> None:
    """As Inspect's own tools `bash` and `python` call them."""

    async def use(box: Any) -> None:
        ran = await box.exec(["bash", "--login", "-c", "printf '3\\n1\\n' | sort > a.txt; cat a.txt; exit 4"])
        assert (ran.returncode, ran.stdout) == (4, "1\n3\n")
        ran = await box.exec(["bash", "--login", "-c", "python3 -"], input="print(open('a.txt').read(), 6 * 7)")
        assert ran.stdout == "1\n3\n 42\n", ran
        assert (await box.exec(["bash", "-c", "kill -9 $$"])).returncode == 137

    inside(use)


ESCAPES = {
    "the network": "import socket; socket.create_connection(('1.1.1.1', 53), 2)",
    "the home folder": "import os; os.listdir(os.path.expanduser('~root')) or exit(1); exit(not os.listdir('/home'))",
    "the host's files": "print(open('/etc/shadow').read())",
    "the root": "open('/usr/lib/owned', 'w')",
    "a shell that reads": "import subprocess; subprocess.run(['/bin/sh', '-c', 'cat /etc/passwd'], check=True)",
    "a shell that writes": "import subprocess; subprocess.run(['bash', '-c', 'touch /usr/bin/owned'], check=True)",
    "a shell that calls out": "import os; exit(os.system('exec 3<>/dev/tcp/1.1.1.1/53') != 0)",
    "more rights": "import os; os.setuid(0); open('/etc/owned', 'w')",
    "a huge file": "open('big', 'wb').write(bytes(200_000_000))",
    "processes without end": "import os\nwhile True: os.fork()",
    "memory without end": "x = bytearray(10**11)",
    "the parent": "import os, signal; os.kill(os.getppid(), signal.SIGKILL)",
}


@pytest.mark.parametrize("what", ESCAPES)
def test_nothing_gets_out(what: str) -> None:
    async def use(box: Any) -> None:
        await box.write_file("kept.txt", "kept")
        ran = await box.exec(["python3", "-c", ESCAPES[what]], timeout=20)
        assert not ran.success
        assert await box.read_file("kept.txt") == "kept", "what was there before is there still"

    inside(use)
    assert not Path("/usr/lib/owned").exists()


FORGED = (
    "[]",
    "{}",
    '{"code": 0, "out": "", "err": "", "files": {"a": "?"}}',
    "[" * 100_000,
    '{"code": 0, "files": 3}',
)


@pytest.mark.parametrize("text", FORGED, ids=range(len(FORGED)))
def test_what_a_program_writes_in_place_of_the_result_ends_nothing(text: str) -> None:
    async def use(box: Any) -> None:
        await box.write_file("kept.txt", "kept")
        await box.write_file("text", text)
        forge = "import os, shutil; shutil.copy('text', '.heartstrings-state.json'); os.kill(os.getppid(), 9)"
        assert not (await box.exec(["python3", "-c", forge])).success
        assert await box.read_file("kept.txt") == "kept"

    inside(use)


def test_no_process_outlives_its_command() -> None:
    async def use(box: Any) -> None:
        late = "import os, time\nif not os.fork():\n    os.setsid(); os.closerange(0, 3); time.sleep(2)\n"
        late += "    open('late.txt', 'w')"
        await box.exec(["python3", "-c", late])
        await anyio.sleep(2.5)
        assert (await box.exec(["python3", "-c", "import os; print(os.listdir())"])).stdout == "[]\n"

    inside(use)


def test_what_is_refused() -> None:
    async def use(box: Any) -> None:
        for file in ("/etc/passwd", "../x", "/work/../etc/x"):
            with pytest.raises(PermissionError, match="outside"):
                await box.write_file(file, "x")
            with pytest.raises(PermissionError, match="outside"):
                await box.read_file(file)
        with pytest.raises(InputError, match="user"):
            await box.exec(["ls"], user="root")
        with pytest.raises(NotImplementedError, match="outlives"):
            await box.exec_remote(["python3"])
        with pytest.raises(NotImplementedError, match="connect"):
            await box.connection()
        with pytest.raises(InputError, match="configuration"):
            await type(box).sample_init("task", "compose.yaml", {})
        with pytest.raises(TimeoutError):
            await box.exec(["python3", "-c", "import time; time.sleep(5)"], timeout=1)

    inside(use)


@pytest.mark.slow
def test_a_task_uses_it_by_name(tmp_path: Path) -> None:
    from inspect_ai import Task
    from inspect_ai.dataset import Sample
    from inspect_ai.scorer import Score, mean, scorer
    from inspect_ai.solver import solver
    from inspect_ai.tool import bash
    from inspect_ai.util import sandbox
    from test_inspect_tasks import played, reply

    sandboxes.needed()

    @solver
    def work() -> Any:
        async def solve(state: Any, generate: Any) -> Any:
            await sandbox().write_file("a.py", "print(6 * 7)")
            state.store.set("said", await bash()("python3 a.py; cat b.txt"))
            return state

        return solve

    @scorer(metrics=[mean()])
    def said() -> Any:
        async def score(state: Any, target: Any) -> Score:
            return Score(value=float(state.store.get("said") == "42\nb"))

        return score

    task = Task(dataset=[Sample(input="go", files={"b.txt": "b"})], solver=work(), scorer=said(), sandbox="bubblewrap")
    log = played(task, lambda input, tools: reply(""), tmp_path)
    assert log.samples[0].scores["said"].value == 1
