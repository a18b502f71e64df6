"""Files that a report can do without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_object(path: Path, name: str, absent: dict[str, str], *, where: str, label: str = "") -> dict[str, Any] | None:
    """The JSON object in a file. If there is none, None is returned and `absent[name]` says why.

    Args:
        where: what lacks the file, such as "in this run".
        label: the file in messages; its name by default.
    """
    label = label or path.name
    if not path.is_file():
        absent[name] = f"There is no {path.name} {where}."
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        absent[name] = f"{label} cannot be read: {error}."
        return None
    if not isinstance(content, dict):
        absent[name] = f"{label} holds no JSON object."
        return None
    return content
