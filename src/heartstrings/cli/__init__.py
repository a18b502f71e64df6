"""The command line: one function call a verb. Everything it does can be done from Python with the same names."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from heartstrings.cli import console, experiments, files, grade, pool, stages
from heartstrings.core.version import __version__

app = typer.Typer(
    name="heartstrings",
    help="Find the emotion directions inside an open-weight language model, and whether pulling on them controls it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_VERBS: dict[str, Callable[..., int]] = {
    "run": experiments.run,
    "atlas": stages.atlas,
    "stories": files.stories,
    "extract": stages.extract,
    "geometry": stages.geometry,
    "compare": stages.compare,
    "plan": experiments.plan,
    "evaluate": experiments.evaluate,
    "grade": grade.grade,
    "verdict": experiments.verdict,
    "pool": pool.pool,
    "steer": experiments.steer,
    "logs": experiments.logs,
    "import": files.import_,
    "export": files.export,
    "info": files.info,
}
for _name, _verb in _VERBS.items():
    app.command(_name)(_verb)


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


def main() -> None:
    """Entry point of the `heartstrings` command."""
    command = typer.main.get_command(app)
    sys.exit(console.guarded(lambda: command.main(args=sys.argv[1:], prog_name="heartstrings", standalone_mode=False)))
