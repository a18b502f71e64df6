"""Colours, each for a light and a dark page. The style sheet and the plots read the same table.

Figures are built with the light colours; on a dark page the script swaps each for its partner, so every
light colour here is a different string. Lines follow Okabe and Ito, the diverging scale is brown to teal:
both can be told apart with the common colour deficiencies, and no colour is the only sign of anything.
"""

from __future__ import annotations

PAPER = ("#fcfcfa", "#14171a")
RAISED = ("#f3f3ef", "#1d2125")
INK = ("#1c2024", "#e5e7e9")
SOFT = ("#565d66", "#a4abb3")
RULE = ("#dcdcd6", "#343a40")
GRID = ("#e7e7e2", "#2a2f35")
LINK = ("#005b8f", "#7cc4f0")

VALENCE = ("#0072b2", "#56b4e9")
AROUSAL = ("#bf4a05", "#f0904c")
GREEN = ("#00795a", "#2fc79b")
PURPLE = ("#8a4f86", "#d49ad0")
GREY = ("#6b727b", "#8d959e")
NULL = ("#8b8b86", "#7b828a")
VALENCE_BAND = ("rgba(0,114,178,0.16)", "rgba(86,180,233,0.20)")
AROUSAL_BAND = ("rgba(191,74,5,0.16)", "rgba(240,144,76,0.20)")
GREEN_BAND = ("rgba(0,121,90,0.11)", "rgba(47,199,155,0.13)")
PURPLE_BAND = ("rgba(138,79,134,0.13)", "rgba(212,154,208,0.16)")
NULL_BAND = ("rgba(120,120,116,0.14)", "rgba(150,156,164,0.16)")

NEGATIVE = ("#8c510a", "#e2a553")
NEGATIVE_HALF = ("#c69c62", "#9d8055")
MIDDLE = ("#cfcdc6", "#5b6067")
POSITIVE_HALF = ("#62aba3", "#4f9c92")
POSITIVE = ("#01665e", "#5fd3c2")
MIDDLE_FLAT = ("#f4f3ef", "#20252a")

DIVERGING_POINTS = [[0.0, NEGATIVE[0]], [0.5, MIDDLE[0]], [1.0, POSITIVE[0]]]
DIVERGING_FLAT = [
    [0.0, NEGATIVE[0]],
    [0.25, NEGATIVE_HALF[0]],
    [0.5, MIDDLE_FLAT[0]],
    [0.75, POSITIVE_HALF[0]],
    [1.0, POSITIVE[0]],
]
SEQUENTIAL = "Cividis"

ALL = {
    name.lower().replace("_", "-"): value
    for name, value in dict(globals()).items()
    if name.isupper() and isinstance(value, tuple)
}
SERIES = (VALENCE, AROUSAL, GREEN, PURPLE, NEGATIVE, GREY)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
MARKERS = ("circle", "diamond", "square", "triangle-up", "x")


def swap() -> dict[str, str]:
    """Light colour to dark colour, for the script."""
    return dict(ALL.values())


def css() -> str:
    """The same table as CSS variables. Print is always light: dark colours are for screens only."""
    light = "".join(f"--{name}:{value[0]};" for name, value in ALL.items())
    dark = "".join(f"--{name}:{value[1]};" for name, value in ALL.items())
    return f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
