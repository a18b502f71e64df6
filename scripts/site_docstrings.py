"""An extension of griffe, which reads signatures and docstrings for the site."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import griffe

SECTION = re.compile(r"(?<!\n)\n(?=(?:Args|Returns|Yields|Raises):\n)")
COMMANDS = ("heartstrings.workflows.commands", "heartstrings.integrations.commands")
"""Modules whose functions get their options, and the help of each, when they are imported."""


class Docstrings(griffe.Extension):
    """- Our docstrings write `Raises:` right below the arguments; griffe wants an empty line between.
    - The public functions of the commands are shown with all their options."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        if func.parent is None or func.parent.path not in COMMANDS or func.name.startswith("_"):
            return
        found = getattr(importlib.import_module(func.parent.path), func.name)
        own = {one.name: one for one in func.parameters}
        func.parameters = griffe.Parameters(
            *(
                griffe.Parameter(
                    name,
                    kind=own[name].kind if name in own else griffe.ParameterKind.keyword_only,
                    annotation=_written(one.annotation),
                    default=own[name].default if name in own else repr(one.default),
                )
                for name, one in inspect.signature(found).parameters.items()
            )
        )
        if func.docstring is not None:
            func.docstring.value = SECTION.sub("\n\n", inspect.getdoc(found) or "")

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = SECTION.sub("\n\n", obj.docstring.value)


def _written(annotation: Any) -> str:
    """A type as a reader writes it: `str | Path | None`."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    while "Union[" in text:  # the innermost first
        text = re.sub(
            r"(?:\w+\.)*Union\[((?:[^\[\]]|\[[^\[\]]*\])*)\]", lambda found: " | ".join(_split(found[1])), text
        )
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", text).replace("NoneType", "None")


def _split(items: str) -> list[str]:
    """`a, b[c, d]` as `a` and `b[c, d]`."""
    return re.split(r", (?![^\[]*\])", items)
