"""Where the labels of a scatter plot go, so that all of them can be read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64


def place_labels(
    points: Float64[np.ndarray, "word 2"],
    words: Sequence[str],
    *,
    width: float,
    height: float,
    most: int,
    marker: float = 9.0,
    character: float = 6.7,
    line: float = 14.0,
) -> dict[int, str]:
    """Which points get a label, and on which side, so that no label covers another label or another point.

    Greedy: points far from the middle come first, because they show what the axes mean.

    Args:
        points: coordinates in any unit.
        width, height: size of the plotting area in pixels.
        most: never more labels than this.
        marker, character, line: pixels of a point, of a letter's width and of a line's height.

    Returns:
        index of the point -> plotly's `textposition`.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    # The axis range leaves a margin of 8% at each end, as the map does.
    pixels = ((points - low) / span * 0.84 + 0.08) * np.array([width, height])
    middle = np.median(pixels, axis=0)
    order = np.argsort(-np.linalg.norm((pixels - middle) / np.array([width, height]), axis=1), kind="stable")
    taken = np.column_stack([pixels - marker / 2, pixels + marker / 2])
    placed: list[np.ndarray] = []
    sides: dict[int, str] = {}
    for index in order:
        if len(sides) == most:
            break
        x, y = pixels[index]
        wide = character * len(words[index])
        boxes = {
            "top center": (x - wide / 2, y + marker / 2, x + wide / 2, y + marker / 2 + line),
            "bottom center": (x - wide / 2, y - marker / 2 - line, x + wide / 2, y - marker / 2),
            "middle right": (x + marker / 2 + 2, y - line / 2, x + marker / 2 + 2 + wide, y + line / 2),
            "middle left": (x - marker / 2 - 2 - wide, y - line / 2, x - marker / 2 - 2, y + line / 2),
        }
        others = np.delete(taken, index, axis=0)
        for side, box in boxes.items():
            inside = box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height
            if inside and not _overlaps(box, others) and not (placed and _overlaps(box, np.array(placed))):
                placed.append(np.array(box))
                sides[int(index)] = side
                break
    return sides


def _overlaps(box: tuple[float, float, float, float], others: np.ndarray) -> bool:
    left, bottom, right, top = box
    return bool(np.any((others[:, 0] < right) & (others[:, 2] > left) & (others[:, 1] < top) & (others[:, 3] > bottom)))
