"""Prompt by prompt: does steering move most of them the same way?"""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from heartstrings.report import palette
from heartstrings.report.markup import Child, el, join
from heartstrings.report.page import Figure, Section, missing
from heartstrings.report.style import axis, figure
from heartstrings.report.verdict_files import VerdictFiles
from heartstrings.report.verdict_words import finite, share
from heartstrings.report.words import number
from heartstrings.verdict.results import AnswerCard

PER = 0.1
"""Slopes are shown in points for this much of a dose: 100 * PER times the change per unit of dose."""


def reliability_section(files: VerdictFiles) -> Section:
    """A histogram for each direction, and the share of prompts that move against it."""
    parts: list[Child] = [
        el(
            "p",
            "An average can hide prompts that move the other way. Each bar counts prompts by their own slope within "
            "the slope window, in points for 0.1 of dose.",
        )
    ]
    figures: list[Figure] = []
    blocks: list[Child] = []
    for place, card in enumerate(files.verdict.answers):
        found = card.reliability
        if found is None or not any(finite(slope) for slope in found.slopes):
            blocks.append(missing(f"{files.title(card)}: no slopes by prompt.", "Too few samples carry a grade."))
            continue
        made = _figure(f"reliability-{place}", files.title(card), card, found.slopes)
        figures.append(made)
        coherence = found.story_coherence
        blocks.append(
            el(
                "div",
                made.html(),
                el(
                    "p",
                    el("strong", share(found.against)),
                    " of prompts move against the mean. Coherence of the stories' activation differences: ",
                    number(coherence) if finite(coherence) else "not known",
                    ".",
                    class_="note",
                ),
            )
        )
    if not files.verdict.answers:
        blocks.append(missing("No slopes by prompt.", "This verdict holds no answer."))
    parts.append(el("div", blocks, class_="grid"))
    return Section("reliability", "Prompt by prompt", join(parts), tuple(figures))


def _figure(name: str, title: str, card: AnswerCard, slopes: tuple[float, ...]) -> Figure:
    values = np.asarray([100 * PER * slope for slope in slopes if finite(slope)])
    largest = float(np.abs(values).max()) or 1.0
    # An edge at 0, so that no bar mixes the two ways.
    step = largest / 10
    mean = float(values.mean())
    left = float(np.floor(values.min() / step) * step) if values.min() < 0 else 0.0
    histogram = go.Histogram(
        x=np.round(values, 4).tolist(),
        xbins={"start": min(left, 0.0), "end": largest * 1.05, "size": step},
        autobinx=False,
        marker={"color": palette.VALENCE[0], "line": {"color": palette.PAPER[0], "width": 1}},
        hovertemplate="%{x}: %{y} prompts<extra></extra>",
    )
    line = {"type": "line", "yref": "paper", "y0": 0, "y1": 1}
    plot = figure(
        [histogram],
        x=axis("slope, points for 0.1 of dose", nticks=9),
        y=axis("prompts", rangemode="tozero", nticks=6, tickformat="d"),
        shapes=[
            line | {"x0": 0, "x1": 0, "line": {"color": palette.INK[0], "width": 1.5}},
            line | {"x0": mean, "x1": mean, "line": {"color": palette.AROUSAL[0], "width": 2, "dash": "dash"}},
        ],
        showlegend=False,
        bargap=0,
        margin={"l": 8, "r": 14, "t": 10, "b": 8},
    )
    return Figure(
        name,
        title,
        (("", plot),),
        f"{len(values)} prompts. Solid line: no change; dashed: their mean.",
        f"Histogram of {len(values)} prompts' slopes along {card.direction}, mean {mean:.2f} points for 0.1 of dose.",
        260,
        260,
        classes="small",
    )
