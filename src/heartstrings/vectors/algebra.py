"""Arithmetic on directions: `0.5*joyful - sad`, mean, projection, cosine, and the small parser for it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from heartstrings.core.errors import InputError, NumericalError

Number = float | int | np.floating
"""A factor; numbers of numpy are allowed."""


@dataclass(frozen=True, eq=False)
class Direction:
    """One vector a layer, with a name that says how it was made. Arithmetic is in float64.

    >>> up = Direction("up", (3,), np.array([[1.0, 0.0]]))
    >>> right = Direction("right", (3,), np.array([[0.0, 2.0]]))
    >>> mix = 0.5 * up - right
    >>> mix.name, mix.at(3).tolist()
    ('0.5*up - right', [0.5, -2.0])
    >>> up.cosine(right).tolist()
    [0.0]
    """

    name: str
    layers: tuple[int, ...]
    values: Float64[np.ndarray, "layer width"]

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[0] != len(self.layers):
            raise InputError(
                f"direction {self.name!r} has shape {self.values.shape} for {len(self.layers)} layers",
                "one row a layer",
            )
        if not np.isfinite(self.values).all():
            raise NumericalError(f"direction {self.name!r} holds NaN or infinite numbers", "finite numbers")

    @property
    def width(self) -> int:
        return int(self.values.shape[1])

    def at(self, layer: int | None = None) -> Float32[np.ndarray, "width"]:
        """The vector at one layer; the layer may be left out where there is only one.

        Raises:
            InputError: no such layer.
        """
        row: np.ndarray = self.values[layer_row(self.layers, layer, self.name)]
        return row.astype(np.float32)

    def only(self, layer: int) -> Direction:
        """The same direction at one layer alone."""
        row = layer_row(self.layers, layer, self.name)
        return Direction(self.name, (layer,), self.values[row : row + 1])

    def norm(self) -> Float64[np.ndarray, "layer"]:
        """L2 norm at each layer, in the model's own activation units."""
        return np.asarray(np.linalg.norm(self.values, axis=1))

    def unit(self) -> Direction:
        """Scaled to norm 1 at every layer.

        Raises:
            NumericalError: all zeros at a layer, so that there is no direction.
        """
        norm = self.norm()
        if (norm == 0).any():
            layer = self.layers[int(np.flatnonzero(norm == 0)[0])]
            raise NumericalError(f"direction {self.name!r} is all zeros at layer {layer}", "a direction")
        return Direction(self.name, self.layers, self.values / norm[:, None])

    def cosine(self, other: Direction) -> Float64[np.ndarray, "layer"]:
        """Cosine with another direction at each layer, from -1 to 1."""
        _check_match(self, other)
        cosine: np.ndarray = (self.unit().values * other.unit().values).sum(1)
        return cosine.clip(-1.0, 1.0)

    def project(self, onto: Direction) -> Direction:
        """The part of this direction that lies along `onto`."""
        _check_match(self, onto)
        axis = onto.unit().values
        along = (self.values * axis).sum(1, keepdims=True) * axis
        return Direction(f"({self.name} along {onto.name})", self.layers, along)

    def orthogonal_to(self, *others: Direction) -> Direction:
        """What is left after taking out the span of `others` (all of it, also where they overlap)."""
        for other in others:
            _check_match(self, other)
        values = self.values.copy()
        for row in range(len(self.layers)):
            span = np.stack([other.unit().values[row] for other in others]) if others else values[:0]
            basis = orthonormal(span)
            # Twice: one pass leaves a rounding error in proportion to the part that was removed.
            for _ in range(2):
                values[row] -= (values[row] @ basis.T) @ basis
        label = ", ".join(other.name for other in others)
        return Direction(f"({self.name} without {label})", self.layers, values)

    def __add__(self, other: Direction) -> Direction:
        _check_match(self, other)
        return Direction(f"{self.name} + {other.name}", self.layers, self.values + other.values)

    def __sub__(self, other: Direction) -> Direction:
        _check_match(self, other)
        return Direction(f"{self.name} - {_group(other.name)}", self.layers, self.values - other.values)

    def __mul__(self, factor: Number) -> Direction:
        number = float(factor)
        return Direction(f"{number:g}*{_group(self.name)}", self.layers, self.values * number)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Number) -> Direction:
        if float(divisor) == 0:
            raise InputError(f"direction {self.name!r} divided by zero", "another divisor")
        number = float(divisor)
        return Direction(f"{_group(self.name)}/{number:g}", self.layers, self.values / number)

    def __neg__(self) -> Direction:
        return Direction(f"-{_group(self.name)}", self.layers, -self.values)


def mean(directions: Iterable[Direction]) -> Direction:
    """The mean of several directions.

    Raises:
        InputError: none given, or they differ in layers or width.
    """
    items = list(directions)
    if not items:
        raise InputError("the mean of no directions", "at least one")
    for item in items[1:]:
        _check_match(items[0], item)
    name = f"mean({', '.join(item.name for item in items)})"
    return Direction(name, items[0].layers, np.mean([item.values for item in items], axis=0))


def orthonormal(rows: Float64[np.ndarray, "_ width"]) -> Float64[np.ndarray, "_ width"]:
    """Orthonormal rows that span the same space; fewer where the given rows depend on each other."""
    if rows.shape[0] == 0:
        return rows
    _, sizes, basis = np.linalg.svd(rows, full_matrices=False)
    # Rows come from float32, so what is under float32 precision is rounding, not a direction.
    return np.asarray(basis[sizes > sizes[0] * np.finfo(np.float32).eps * max(rows.shape)])


def layer_row(layers: Sequence[int], layer: int | None, what: str) -> int:
    """Row of a layer number; None means the only layer there is.

    Raises:
        InputError: no such layer, or several and none named.
    """
    if layer is None:
        if len(layers) == 1:
            return 0
        raise InputError(f"no layer was named for {what}", f"one of {list(layers)}")
    if layer not in layers:
        raise InputError(f"{what} has no layer {layer}", f"one of {list(layers)}")
    return list(layers).index(layer)


def unknown_name(name: str, names: Sequence[str], what: str = "emotion") -> InputError:
    """The error for an unknown name, with the nearest known ones."""
    lower = {known.lower(): known for known in names}
    near = [lower[word] for word in difflib.get_close_matches(name.strip().lower(), list(lower), n=3, cutoff=0.5)]
    shown = ", ".join(near or list(names)[:8]) + ("" if near or len(names) <= 8 else ", ...")
    return InputError(
        f"there is no {what} {name.strip()!r} among the {len(names)} here",
        "an exact name",
        f"Did you mean {shown}?" if near else f"The names are: {shown}",
    )


def parse(expression: str, names: Sequence[str], look_up: Callable[[str], Direction]) -> Direction:
    """Evaluate `+ - * /`, numbers, parentheses and names; nothing else is accepted, and no code is executed.

    A name is the longest known one that starts there and ends at a word's end, so `self-confident`, `at ease`
    and `0.5*grief-stricken - sad` need no quotes; quotes ('...' or "...") always work.

    Raises:
        InputError: a name that is not there (with the nearest), or anything that is no expression.
    """
    return _Parser(expression, names, look_up).result()


_NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])")
_WORD = re.compile(r"[^\W\d_][\w'’ -]*")
Value = float | Direction


class _Parser:
    """Recursive descent over one expression; `at` is the next character to read."""

    def __init__(self, text: str, names: Sequence[str], look_up: Callable[[str], Direction]) -> None:
        self.text, self.at, self.names, self.look_up = " ".join(text.split()), 0, names, look_up
        self.longest_first = sorted(names, key=len, reverse=True)

    def result(self) -> Direction:
        if not self.text:
            raise InputError("an empty expression", "e.g. 0.5*joyful - sad")
        value = self.sum()
        if self.peek():
            raise self.error("an operator or the end")
        if not isinstance(value, Direction):
            raise InputError(f"{self.text!r} is a number", "an expression with at least one emotion")
        return value

    def sum(self) -> Value:
        value = self.product()
        while self.peek() in ("+", "-"):
            sign = self.take()
            other = self.product()
            if isinstance(value, Direction) != isinstance(other, Direction):
                raise self.error("directions added to directions, not to numbers")
            value = value + other if sign == "+" else value - other  # type: ignore[operator]
        return value

    def product(self) -> Value:
        value = self.factor()
        while self.peek() in ("*", "/"):
            sign = self.take()
            other = self.factor()
            if sign == "/":
                if isinstance(other, Direction):
                    raise self.error("a number to divide by")
                if other == 0:
                    raise self.error("a divisor other than zero")
                value = value / other
            elif isinstance(value, Direction):
                if isinstance(other, Direction):
                    raise self.error("a number times an emotion, not an emotion times an emotion")
                value = value * other
            else:
                value = other * value
        return value

    def factor(self) -> Value:
        sign = self.peek()
        if sign == "-":
            self.take()
            return -self.factor()
        if sign == "+":
            self.take()
            return self.factor()
        if sign == "(":
            self.take()
            value = self.sum()
            if self.peek() != ")":
                raise self.error("a closing parenthesis")
            self.take()
            return value
        number = _NUMBER.match(self.text, self.at)
        if number:
            self.at = number.end()
            return float(number.group())
        return self.look_up(self.name())

    def name(self) -> str:
        quote = self.peek()
        if quote in ("'", '"'):
            end = self.text.find(quote, self.at + 1)
            if end < 0:
                raise self.error("a closing quotation mark")
            name, self.at = self.text[self.at + 1 : end], end + 1
            if name not in self.names:
                raise unknown_name(name, self.names)
            return name
        for known in self.longest_first:
            end = self.at + len(known)
            if self.text.startswith(known, self.at) and not re.match(r"\w", self.text[end : end + 1]):
                self.at = end
                return known
        word = _WORD.match(self.text, self.at)
        raise unknown_name(word.group(), self.names) if word else self.error("a number, an emotion or (")

    def peek(self) -> str:
        while self.text[self.at : self.at + 1] == " ":
            self.at += 1
        return self.text[self.at : self.at + 1]

    def take(self) -> str:
        self.at += 1
        return self.text[self.at - 1]

    def error(self, expected: str) -> InputError:
        rest = self.text[self.at :] or "the end"
        return InputError(f"cannot read {self.text!r} at {rest!r}", expected, "Write e.g. 0.5*joyful - sad")


def _check_match(direction: Direction, other: Direction) -> None:
    if direction.layers != other.layers or direction.width != other.width:
        raise InputError(
            f"{direction.name!r} has layers {list(direction.layers)} and width {direction.width}, "
            f"{other.name!r} has layers {list(other.layers)} and width {other.width}",
            "directions of the same layers and model",
        )


def _group(name: str) -> str:
    return f"({name})" if " + " in name or " - " in name else name
