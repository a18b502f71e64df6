"""Values as people give them, at the command line or in Python: doses, layers, names, choices, progress."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from os import PathLike
from pathlib import Path

from heartstrings.core.errors import InputError

Progress = Callable[[str, int, int | None], None]
"""Called with (title of the stage, done, total) as the work goes on; the total is None where it is not known."""


def silent(title: str, done: int, total: int | None) -> None:
    """Shows no progress."""


def checked(flag: str, value: str, choices: Sequence[str]) -> str:
    """The value, if it is one of the choices.

    Raises:
        InputError: it is not.
    """
    if value not in choices:
        raise InputError(f"{flag} {value!r}", "one of " + ", ".join(choices))
    return value


def path_of(flag: str, value: object) -> Path:
    """A path that was given as text or as a path.

    Raises:
        InputError: it is an object of another type.
    """
    if not isinstance(value, str | PathLike):
        raise InputError(
            f"{flag}: an object of type {type(value).__name__}",
            "the path of a file or folder",
            "Give the path; an object that has no file yet has to be saved first",
        )
    return Path(value)


def names_of(value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """`calm,angry`, or the names as a sequence."""
    if value is None:
        return None
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(part.strip() for part in parts if part.strip())


def whole_numbers(flag: str, value: str | int | Sequence[int] | None) -> tuple[int, ...] | None:
    """`3,5`, or the numbers themselves: 0 or more, each once.

    Raises:
        InputError: anything else.
    """
    if value is None:
        return None
    try:
        parts = value.split(",") if isinstance(value, str) else [value] if isinstance(value, int | Integral) else value
        numbers = tuple(int(part) for part in parts)
    except ValueError:
        raise InputError(f"{flag} {value!r}", "whole numbers such as 14 or 12,14") from None
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise InputError(f"{flag} {value!r}", "numbers of 0 or more, each once")
    return numbers


def doses_of(value: str | float | Sequence[float]) -> tuple[float, ...]:
    """`-0.1,0,0.1`, `-0.1:0.1:5` for five evenly spaced doses from the first to the last, or the numbers themselves.

    Raises:
        InputError: not of that form, or not finite.
    """
    problem = InputError(f"--dose {value!r}", "doses such as -0.1,0,0.1 or -0.1:0.1:5 (first, last, how many)")
    try:
        if isinstance(value, str) and ":" in value:
            first, last, count = value.split(":")
            low, high, steps = float(first), float(last), int(count)
            if steps < 2:
                raise problem
            doses = tuple(low + (high - low) * step / (steps - 1) for step in range(steps))
        else:
            parts = (
                value.split(",")
                if isinstance(value, str)
                else [value]
                if isinstance(value, int | float | Real)
                else value
            )
            doses = tuple(float(part) for part in parts)
    except ValueError:
        raise problem from None
    if not all(math.isfinite(dose) for dose in doses):
        raise problem
    # Evenly spaced numbers are off in their last bit: 0.1 + 0.2 is to be 0.3, and the middle of -0.1:0.1:5 is 0.
    return tuple(round(dose, 12) + 0.0 for dose in doses)


def prices_of(value: str | tuple[float, float] | None) -> tuple[float, float]:
    """`0.15,0.60`, or the two numbers themselves; 0 each for None.

    Raises:
        InputError: anything else.
    """
    if value is None:
        return 0.0, 0.0
    try:
        read, written = (float(part) for part in (value.split(",") if isinstance(value, str) else value))
    except ValueError:
        raise InputError(f"--judge-prices {value!r}", "two numbers with a comma, such as 0.15,0.60") from None
    return read, written
