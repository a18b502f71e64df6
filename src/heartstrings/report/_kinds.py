"""Kinds of control direction: their names in the report, and their look in plots."""

from __future__ import annotations

from dataclasses import dataclass

from heartstrings.report import _palette as palette


@dataclass(frozen=True)
class Kind:
    """`words` for a sentence, `name` for the head of a column, `short` for a legend."""

    words: str
    name: str
    short: str
    colour: str
    band: str
    dash: str
    symbol: str


KINDS: dict[str, Kind] = {
    "general": Kind("random", "random", "random", palette.NULL[0], palette.NULL_BAND[0], "dot", "circle"),
    "span": Kind("random, within the emotions' span", "within the span", "span",
                 palette.PURPLE[0], palette.PURPLE_BAND[0], "dash", "square"),
    "topic": Kind("mixtures of story topics", "story topics", "topics",
                  palette.GREEN[0], palette.GREEN_BAND[0], "longdash", "diamond"),
    "natural": Kind("variation of neutral text", "natural text", "natural text",
                    palette.AROUSAL[0], palette.AROUSAL_BAND[0], "dashdot", "triangle-up"),
    "shuffled": Kind("shuffled story labels", "shuffled labels", "shuffled",
                     palette.AROUSAL[0], palette.AROUSAL_BAND[0], "dashdot", "x"),
}  # fmt: skip
