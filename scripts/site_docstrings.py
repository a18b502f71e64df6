"""An extension of griffe, which reads docstrings for the site: a section needs no blank line above it."""

from __future__ import annotations

import re
from typing import Any

import griffe

SECTION = re.compile(r"(?<!\n)\n(?=(?:Args|Returns|Yields|Raises):\n)")


class Sections(griffe.Extension):
    """Our docstrings write `Raises:` right below the arguments; griffe wants an empty line between."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = SECTION.sub("\n\n", obj.docstring.value)
