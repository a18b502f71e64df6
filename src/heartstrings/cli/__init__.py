"""The command line: each command calls the public function of the same name and prints what it returns."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from heartstrings.cli import _console as console
from heartstrings.cli import _grade as grade
from heartstrings.cli import _screen_summary as screen_summary
from heartstrings.cli import _summary as summary
from heartstrings.cli import _verdict_summary as verdict_summary
from heartstrings.cli._command import command
from heartstrings.core.version import __version__
from heartstrings.integrations.commands import logs
from heartstrings.workflows import commands

app = typer.Typer(
    name="heartstrings",
    help="Find the emotion directions of an open-weight language model, and whether steering along them controls it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
PYTHON_NAMES = {
    "stories": "generate_stories",  # heartstrings.stories reads stories
    "geometry": "analyse",  # heartstrings.geometry and heartstrings.verdict are packages
    "verdict": "decide",
    "import": "import_vectors",  # `import` is no name in Python
    "export": "export_vectors",
}
"""Commands whose public function has another name."""

COMMANDS = {
    "run": command(commands.run, verdict_summary.runs),
    "atlas": command(commands.atlas, summary.atlas),
    "stories": command(commands.generate_stories, summary.stories),
    "extract": command(commands.extract, summary.bundle),
    "geometry": command(commands.analyse, summary.analysis, warn=console.warn),
    "compare": command(commands.compare, summary.comparison),
    "plan": command(commands.plan, verdict_summary.planned),
    "evaluate": command(commands.evaluate, verdict_summary.evaluation),
    "grade": command(commands.grade, grade.tell, ask=grade.ask),
    "verdict": command(commands.decide, verdict_summary.runs),
    "pool": command(commands.pool, verdict_summary.pool),
    "screen": command(commands.screen, screen_summary.screen),
    "steer": command(commands.steer, verdict_summary.texts),
    "logs": command(logs, verdict_summary.logs),
    "import": command(commands.import_vectors, summary.bundle, required=("out",)),
    "export": command(commands.export_vectors, summary.exported),
    "info": command(commands.info, summary.info),
    "selftest": command(commands.selftest, summary.selftest),
}
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)


def _version(value: bool) -> bool:
    if value:
        typer.echo(__version__)
        raise typer.Exit
    return value


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


def _yield_processors() -> None:
    """Have torch's threads wait for one another without keeping a processor busy for long.

    GNU OpenMP reads the variable when torch is imported. By default a thread that waits spins for milliseconds: on two
    cores beside another such process, an extraction took 2 to 3 times as long. Alone it takes the same time with this
    (docs/measured.md)."""
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = "1000"


def main() -> None:
    """Entry point of the `heartstrings` command."""
    _yield_processors()
    root = typer.main.get_command(app)
    sys.exit(console.guarded(lambda: root.main(args=sys.argv[1:], prog_name="heartstrings", standalone_mode=False)))
