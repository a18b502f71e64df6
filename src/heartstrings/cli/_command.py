"""Commands made from public functions: every option of a function becomes a flag, with the same name and default."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, no_type_check

import typer

from heartstrings.cli import _settings as settings
from heartstrings.cli._console import bars
from heartstrings.workflows.options import Option, option_of, parameters_of

Show = Callable[[Any, Mapping[str, Any], bool], int | None]
"""Prints what a function returned, given the flags and whether JSON is wanted; returns the exit code, None for 0."""
SCALARS = (Path, str, bool, int, float)


# typer announces its own Context class and hands over click's: no run-time checker can be pleased with that.
@no_type_check
def _load_settings(ctx: typer.Context, value: Path | None) -> Path | None:
    if value is not None:
        root: Any = ctx.find_root().command
        flags = {
            name: frozenset(p.name for p in command.params if p.name not in {"config", "help"})
            for name, command in root.commands.items()
        }
        ctx.default_map = settings.read_settings(value, ctx.info_name or "", flags)
    return value


EVERYWHERE = (
    inspect.Parameter(
        "json",
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[
            bool, typer.Option("--json", help="One JSON object on standard output instead of a table.")
        ],
    ),
    inspect.Parameter(
        "config",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            Path | None,
            typer.Option(
                "--config", help="TOML file with the same names as the flags.", callback=_load_settings, is_eager=True
            ),
        ],
    ),
)
"""Flags of every command."""


def command(
    function: Callable[..., Any], show: Show, *, required: tuple[str, ...] = (), **fixed: Any
) -> Callable[..., int]:
    """A command for typer that calls a public function with the flags, and prints what it returns.

    Args:
        required: options that may be left out in Python and not here, where nothing else would keep the result.
        fixed: further arguments of the function, which no flag stands for.
    """
    takes_progress = "progress" in inspect.signature(function).parameters

    def run(*, json: bool, config: Path | None, **given: Any) -> int:
        given = {name: None if value == [] else value for name, value in given.items()}
        with bars(json) as progress:
            more = {"progress": progress} if takes_progress else {}
            returned = function(**given, **more, **fixed)
        return show(returned, given, json) or 0

    flags = [
        _flag(parameter.replace(default=inspect.Parameter.empty) if name in required else parameter)
        for name, parameter in parameters_of(function).items()
    ]
    run.__signature__ = inspect.Signature([*flags, *EVERYWHERE])  # type: ignore[attr-defined]
    run.__annotations__ = {}
    run.function = function  # type: ignore[attr-defined]
    run.__doc__ = re.split(r"\n(?:Args|Returns|Raises):", inspect.getdoc(function) or "")[0].strip()
    return run


def _flag(parameter: inspect.Parameter) -> inspect.Parameter:
    option = option_of(parameter)
    assert option is not None
    words = re.sub(r" In Python also [^.]*\.", "", option.help)
    known: Any = typer.Argument(help=words)
    if not option.argument:
        known = typer.Option(option.flag or "--" + parameter.name.replace("_", "-"), help=words)
    return inspect.Parameter(
        parameter.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=parameter.default,
        annotation=Annotated[flag_type(parameter.annotation, option), known],
    )


def flag_type(annotation: Any, option: Option) -> Any:
    """What the command line takes where a function takes several types: a path, else text, else a number.

    Where some types are inside a sequence alone (`Sequence[str | Path]`), it is these.
    """
    members = _members(annotation)
    inside = {kind for member in members for kind in _members(next(iter(get_args(member)), None))}
    scalar: Any = next(kind for kinds in (members, inside) for kind in SCALARS if kind in kinds)
    several: Any = list[scalar] if option.many else scalar
    return several | None if type(None) in members else several


def _members(annotation: Any) -> set[Any]:
    """The types in a union, with `Annotated` taken off; a type that is no union by itself."""
    if hasattr(annotation, "__metadata__"):
        return _members(get_args(annotation)[0])
    return set(get_args(annotation)) if get_origin(annotation) in (Union, UnionType) else {annotation}
