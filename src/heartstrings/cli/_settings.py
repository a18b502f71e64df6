"""A TOML file with the names of the flags: `[extract]` `offset = 50` is `heartstrings extract --offset 50`."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heartstrings.core.errors import InputError


def read_settings(path: Path, command: str, flags: Mapping[str, frozenset[str]]) -> dict[str, Any]:
    """The values for one command: those at the top of the file, overlaid by those in the command's own table.

    Args:
        path: the TOML file.
        command: name of the command, e.g. `extract`.
        flags: parameter names (with underscores) of every command. A name at the top of the file serves the
            commands that have it, and must be a flag of at least one.

    Raises:
        InputError: no such file, not TOML, or a name that no command has.
    """
    if not path.is_file():
        raise InputError(f"no settings file {path}", "a TOML file whose names are those of the flags")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise InputError(f"{path} is not TOML: {problem}") from None
    values: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            if name not in flags:
                raise InputError(f"{path} has a table [{name}]", f"one of {', '.join(sorted(flags))}")
            continue
        parameter = _known(name, frozenset().union(*flags.values()), f"{path} sets {name!r}")
        if parameter in flags[command]:
            values[parameter] = value
    for name, value in content.get(command, {}).items():
        values[_known(name, flags[command], f"{path} sets {name!r} under [{command}]")] = value
    return values


def _known(name: str, flags: frozenset[str], problem: str) -> str:
    parameter = name.replace("-", "_")
    if parameter in flags:
        return parameter
    near = difflib.get_close_matches(parameter, flags, n=1)
    hint = f"Did you mean {near[0].replace('_', '-')}?" if near else "See --help for the flags"
    raise InputError(problem, "the name of a flag", hint)
