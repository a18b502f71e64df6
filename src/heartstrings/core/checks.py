"""Checks of a dataclass by pydantic: a constraint stands in the field's annotation and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, get_origin, get_type_hints

import numpy as np
from pydantic import TypeAdapter, ValidationError

from heartstrings.core.errors import InputError


def check_fields(value: Any) -> None:
    """Check every field that is annotated like `Annotated[int, Field(ge=1)]`; call it in `__post_init__`.

    Values are checked and not converted, except that a NumPy scalar such as `np.int64(3)` becomes the Python value.

    Raises:
        InputError: the first field whose value breaks its constraint.
    """
    for name, rule in _rules(value.__class__).items():
        field_value = getattr(value, name)
        plain = field_value.item() if isinstance(field_value, np.generic) else field_value
        try:
            rule.validate_python(plain, strict=True)
        except ValidationError as error:
            expected = error.errors()[0]["msg"].removeprefix("Input should be ")
            raise InputError(
                f"{value.__class__.__name__}.{name} is {field_value!r}", expected, f"Change {name}"
            ) from None
        if plain is not field_value:
            object.__setattr__(value, name, plain)  # JSON takes no NumPy scalar; the dataclass may be frozen


def first_problem(error: ValidationError, whole: str = "the file") -> str:
    """`place: what is wrong` of the first value that pydantic refused; `whole` where that is all of the input."""
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"]) or whole
    return f"{place}: {problem['msg']}"


@cache
def _rules(kind: type) -> Mapping[str, TypeAdapter[Any]]:
    hints = get_type_hints(kind, include_extras=True)
    return {name: TypeAdapter(hint) for name, hint in hints.items() if get_origin(hint) is Annotated}
