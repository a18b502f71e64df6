"""Room to move: whether an outcome can rise and fall from its baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence

from heartstrings.core.errors import InputError

FLOOR, CEILING = 0.05, 0.95


def room(outcomes: Sequence[float | int | None]) -> str | None:
    """Why an effect could not show at a baseline, in a sentence; None if it could.

    A mean under 0.05 is a floor, over 0.95 a ceiling; None among the outcomes is missing.

    Raises:
        InputError: an outcome that is NaN or outside [0, 1].
    """
    there = [float(value) for value in outcomes if value is not None]
    if any(not 0 <= value <= 1 for value in there):
        raise InputError("an outcome outside 0 to 1, or NaN", "numbers from 0 to 1; None where one is missing")
    if not there:
        return "no baseline outcome: nobody knows whether there is room to move"
    mean = math.fsum(there) / len(there)
    if mean < FLOOR:
        return f"floor: the baseline is {mean:.2f}, so a fall can hardly show"
    if mean > CEILING:
        return f"ceiling: the baseline is {mean:.2f}, so a rise can hardly show"
    return None
