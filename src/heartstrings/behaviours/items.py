"""Lists of questions: read from the package's data files, counted, and put in the order that a seed draws."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, TypeVar

from heartstrings.core.errors import InputError
from heartstrings.core.types import Frozen

Item = TypeVar("Item")
Entry = TypeVar("Entry", bound=Frozen)


@cache
def texts(file: str) -> Mapping[str, Any]:
    """One TOML file of `behaviours/data`, read once. The caller must not change it."""
    place = resources.files("heartstrings.behaviours") / "data" / file
    tables: dict[str, Any] = tomllib.loads(place.read_text(encoding="utf-8"))
    return tables


@cache
def rows(file: str, table: str, kind: type[Entry]) -> tuple[Entry, ...]:
    """The entries of one table of a file, in its order.

    Raises:
        pydantic.ValidationError: an entry has a field too many, too few or of another type.
    """
    return tuple(kind.model_validate(entry) for entry in texts(file)[table])


def check_number(n: int, most: int | None, name: str) -> None:
    """Check the number of scenarios that is asked for; without `most` there is no upper limit.

    Raises:
        InputError: n is negative, or over `most`.
    """
    if n < 0 and most is None:
        raise InputError(f"{n} scenarios", "0 or more")
    if most is not None and not 0 <= n <= most:
        raise InputError(f"{n} scenarios of {name}", f"0 to {most}: there are no more", "Ask for fewer")


def drawn(items: Sequence[Item], n: int, seed: int, name: str, *, order: str = "") -> tuple[Item, ...]:
    """The first n items in an order drawn by the seed.

    Args:
        name: of the behaviour, for the message.
        order: behaviours with the same `order` and seed draw the same order; by default the name.
    Raises:
        InputError: n is negative, or more than there are.
    """
    check_number(n, len(items), name)
    shuffled = list(items)
    random.Random(f"{order or name} {seed}").shuffle(shuffled)
    return tuple(shuffled[:n])
