"""Is the comparison with controls fair? p-values of controls tested as directions, against those that chance gives."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from heartstrings.report import palette
from heartstrings.report.distance import SHORT, SYMBOLS
from heartstrings.report.dose import BANDS
from heartstrings.report.markup import el, join
from heartstrings.report.page import Figure, Section, missing
from heartstrings.report.style import figure, log_axis, plot_text
from heartstrings.report.verdict_files import VerdictFiles
from heartstrings.report.words import p_value
from heartstrings.stats.bands import shared_null_band
from heartstrings.verdict.results import Calibration

TITLE = "Is the comparison fair?"


def calibration_section(files: VerdictFiles) -> Section:
    """Observed against expected p."""
    if not files.verdict.calibration:
        why = (
            "Controls of one natural kind (story topics, natural text) are tested as directions against the other; "
            "this run has not both."
        )
        return Section("calibration", TITLE, missing("No calibration.", why))
    plot = _figure(files)
    body = join(
        el(
            "p",
            "No control is made for an emotion. So each control of one natural kind was tested as if it were a "
            "direction, against the other kind: if the comparison is fair, a share p of them gets p or less.",
        ),
        el("div", plot.html(), class_="square"),
    )
    return Section("calibration", TITLE, body, (plot,))


def _figure(files: VerdictFiles) -> Figure:
    groups: dict[tuple[str, str], list[Calibration]] = {}
    for one in files.verdict.calibration:
        groups.setdefault((one.kind, one.against), []).append(one)
    tested, controls = min((len(one.ps), one.controls) for one in files.verdict.calibration)
    lower, upper = (np.pad(edge, 1, mode="edge") for edge in shared_null_band(tested, controls))
    own = sorted(
        (card.p_uncorrected, files.title(card)) for card in files.verdict.answers if card.p_uncorrected is not None
    )
    places = [round((at + 1) / (len(own) + 1), 5) for at in range(len(own))]
    many = max(sum(len(part.ps) for part in parts) for parts in groups.values())
    low = min(
        [p for one in files.verdict.calibration for p in one.ps] + [p for p, _ in own] + [1 / (many + 1), *places]
    )
    low /= 1.3
    ranks = [low, *(round(float(rank), 5) for rank in np.arange(1, tested + 1) / (tested + 1)), 1.05]
    edge = {"x": ranks, "mode": "lines", "line": {"width": 0, "color": palette.NULL[0]}, "hoverinfo": "skip"}
    traces = [
        go.Scatter(y=upper.round(5).tolist(), showlegend=False, legendgroup="band", **edge),
        go.Scatter(
            y=lower.round(5).tolist(), fill="tonexty", fillcolor=palette.NULL_BAND[0], legendgroup="band",
            name="95% by chance", **edge,
        ),
    ]  # fmt: skip
    said = []
    for (kind, against), parts in groups.items():
        x, y, n = _ranked([p for part in parts for p in part.ps])
        traces.append(
            go.Scatter(
                x=x, y=y, mode="markers", name=f"{SHORT[kind]} against {SHORT[against]} ({n})",
                marker={"size": 8, "color": BANDS[kind][0][0], "symbol": SYMBOLS[kind], "opacity": 0.85},
                hovertext=[f"{100 * share:.0f}% have p {p:.3f} or less" for share, p in zip(x, y, strict=True)],
                hoverinfo="text",
            )
        )  # fmt: skip
        under = sum(p <= 0.05 for part in parts for p in part.ps)
        said.append(f"{under} of {n} {SHORT[kind]} have p of .05 or less")
    traces.append(
        go.Scatter(
            x=places, y=[round(p, 5) for p, _ in own], mode="markers", name=f"tested directions ({len(own)})",
            marker={"size": 11, "color": palette.VALENCE[0], "symbol": "star"},
            hovertext=[plot_text(f"{title}: p = {p_value(p)}") for p, title in own], hoverinfo="text",
        )
    )  # fmt: skip
    diagonal = {"type": "line", "x0": low, "x1": 1, "y0": low, "y1": 1, "layer": "below",
                "line": {"color": palette.INK[0], "width": 1, "dash": "dash"}}  # fmt: skip
    plot = figure(
        traces,
        x=log_axis("p expected by chance (rank / (number + 1))", low, 1.05),
        y=log_axis("p observed, uncorrected", low, 1.05),
        shapes=[diagonal],
        hovermode="closest",
        narrow={"xaxis.title.text": "p expected by chance"},
    )
    caption = (
        "Controls should lie along the dashed line, within the band; below it the comparison finds effects where there "
        "are none. Stars below it are what steering adds. The band is that of one behaviour whose "
        f"{tested} p-values share {controls} controls; several behaviours share the controls too, so it is approximate."
    )
    alt = f"Quantiles of p-values, observed against expected. {'; '.join(said)}; {len(own)} tested directions."
    return Figure("calibration-p", "p-values, observed and expected", (("", plot),), caption, alt, 520, 430)


def _ranked(ps: list[float]) -> tuple[list[float], list[float], int]:
    """Expected and observed p, one point a distinct p (at the last of its ranks), and how many p there are."""
    ordered = np.sort(np.asarray(ps))
    values, counts = np.unique(ordered, return_counts=True)
    expected = np.cumsum(counts) / (len(ordered) + 1)
    return expected.round(5).tolist(), values.round(5).tolist(), len(ordered)
