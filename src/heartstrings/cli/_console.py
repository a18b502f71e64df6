"""How the command line speaks: progress with time left, one clear error, a table at the end, JSON for machines."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any, Self

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from heartstrings.core.errors import HeartstringsError

# A pipe has no width, and rich would fold the tables into 80 columns.
out = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 160)
err = Console(stderr=True, soft_wrap=True)

Report = Callable[[int, int], None]
"""Called with (done, total) as work goes on."""

LOG_EVERY = 30.0
"""Seconds between two lines about progress where there is no terminal."""
PACE_OVER = 120.0
"""Seconds whose pace tells the time that is left."""

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

# Newer typer carries its own copy of click: take the exception classes from typer, whichever it is.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


@contextmanager
def progress(title: str, *, quiet: bool = False) -> Iterator[Report]:
    """A bar with time left on standard error, gone when the work is done. In a log file, a line now and then."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    if quiet or not err.is_terminal:
        yield (lambda done, total: None) if quiet else _logged(title)
        return
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(escape(title), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _logged(title: str) -> Report:
    """A line every half minute, for whoever reads the log of a long run; none for a short one."""
    last = time.monotonic()
    # Time and samples done, oldest first. The pace is that of the last minutes: a run that goes on where it stopped
    # counts what it finds in no time, and texts take longer than choices.
    seen: deque[tuple[float, int]] = deque()

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        seen.append((now, done))
        while len(seen) > 2 and seen[1][0] <= now - PACE_OVER:
            seen.popleft()
        since, before = seen[0]
        if now - last < LOG_EVERY or done == before:
            return
        last = now
        left = (now - since) * (total - done) / (done - before)
        say(f"{title}: {done:,} of {total:,}, about {timedelta(seconds=round(left))} left")

    return report


def say(text: str) -> None:
    """One line to the person at the terminal (standard error, so that --json stays clean)."""
    err.print(escape(text), highlight=False)


def warn(text: str) -> None:
    err.print(f"[yellow]note:[/yellow] {escape(text)}", highlight=False)


def show(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "", left: bool = False
) -> None:
    """A table on standard output. The first column is left-aligned, the others right-aligned unless `left`."""
    table = Table(
        title=escape(title),
        title_justify="left",
        caption=escape(caption) or None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for i, name in enumerate(columns):
        table.add_column(escape(name), justify="left" if i == 0 or left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    out.print(table)


def show_facts(title: str, facts: Mapping[str, object]) -> None:
    """Names and values, a line each, on standard output. Lists and tables within are written out."""
    table = Table(title=escape(title), title_justify="left", show_header=False, box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(escape(name.replace("_", " ")), escape(_written(value)))
    out.print(table)


def _written(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_written(item)}" for name, item in value.items()) or "–"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_written(item) for item in value) or "–"
    return str(value)


def emit_json(value: Mapping[str, Any] | str) -> None:
    """One JSON object on standard output. A string is taken as JSON already."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, allow_nan=False)
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()


def fail(problem: str, code: int) -> int:
    err.print(f"[bold red]error:[/bold red] {escape(problem)}", highlight=False)
    return code


def guarded(run: Callable[[], Any]) -> int:
    """Runs a command and turns whatever goes wrong into one clear line and an exit code.

    2 is a usage or input error, 130 an interrupt, 74 a full or failing disk, 70 a defect of ours
    (set HEARTSTRINGS_DEBUG=1 to see where).
    """
    # A polite kill (`timeout`, a batch system) must clean up as Ctrl-C does.
    if hasattr(signal, "SIGTERM"):
        signal.signal(signal.SIGTERM, _interrupt)
    debug = os.environ.get("HEARTSTRINGS_DEBUG") == "1"
    try:
        result = run()
        if result == _INTERRUPTED:
            # Some versions of typer turn Ctrl-C into this code instead of an exception.
            raise KeyboardInterrupt
        return int(result) if isinstance(result, int) else 0
    except HeartstringsError as problem:
        if debug:
            raise
        return fail(str(problem), problem.exit_code)
    except UsageError as problem:
        context = getattr(problem, "ctx", None)
        where = f" Run '{context.command_path} --help' for the options." if context else ""
        message = getattr(problem, "format_message", lambda: str(problem))()
        return fail(message.rstrip(".") + "." + where, 2)
    except (KeyboardInterrupt, typer.Abort):
        return fail("interrupted; run the same command again to go on where it stopped.", _INTERRUPTED)
    except typer.Exit as leaving:
        return int(leaving.exit_code)
    except BrokenPipeError:
        # The reader of our output (say, `head`) has had enough; nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as problem:
        if debug:
            raise
        if problem.errno == errno.ENOSPC:
            return fail(
                f"the disk is full ({problem.filename or 'while writing'}). Free some space and run the same "
                "command again; finished batches are kept.",
                74,
            )
        if problem.errno == errno.EACCES:
            return fail(f"no permission for {problem.filename}. Choose another --out or file.", 74)
        return fail(f"{problem.strerror or problem} ({problem.filename or 'no file named'}).", 74)
    except MemoryError:
        return fail("out of memory. Use a smaller --token-budget or fewer --layers.", 71)
    except Exception as problem:
        if debug:
            raise
        return fail(
            f"a defect in heartstrings: {type(problem).__name__}: {problem}. "
            "Set HEARTSTRINGS_DEBUG=1 to see where, and please report it.",
            70,
        )


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


class bars:
    """Progress by stage: `with bars(quiet) as progress: progress(title, done, total)`. One bar at a time."""

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.title = quiet, ""
        self.report: Report | None = None
        self.open = ExitStack()

    def __call__(self, title: str, done: int, total: int | None) -> None:
        if self.report is None or title != self.title:
            self.open.close()
            self.title, self.report = title, self.open.enter_context(progress(title, quiet=self.quiet))
        if total is not None:
            self.report(done, total)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.open.close()
