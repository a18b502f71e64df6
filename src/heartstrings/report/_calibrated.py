"""Is the comparison with controls fair? Observed p-values of controls, tested as directions, against expected ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heartstrings.report import _palette as palette
from heartstrings.report._kinds import KINDS
from heartstrings.report._numbers import p_value
from heartstrings.report._page import Plot
from heartstrings.report._style import band, dots, figure, log_axis, plot_text
from heartstrings.report.verdict_files import VerdictFiles
from heartstrings.stats.bands import shared_null_band


@dataclass(frozen=True)
class Calibrated:
    """Observed against expected p.

    Args:
        tested, controls: how many p-values and controls the band is of.
        small: by kind of controls tested as directions: how many have p of .05 or less, and how many there are.
        directions: the tested directions that have a p.
    """

    plot: Plot
    tested: int
    controls: int
    small: list[tuple[str, int, int]]
    directions: int


def calibrated(files: VerdictFiles) -> Calibrated | None:
    """Observed against expected p; None where the run does not have two natural kinds of controls."""
    if not files.verdict.calibration:
        return None
    groups: dict[tuple[str, str], list[float]] = {}
    for calibration in files.verdict.calibration:
        groups.setdefault((calibration.kind, calibration.against), []).extend(calibration.ps)
    tested, controls = min((len(calibration.ps), calibration.controls) for calibration in files.verdict.calibration)
    lower, upper = (np.pad(edge, 1, mode="edge") for edge in shared_null_band(tested, controls))
    own = sorted(
        (card.p_uncorrected, files.title(card)) for card in files.verdict.answers if card.p_uncorrected is not None
    )
    places = [round((at + 1) / (len(own) + 1), 5) for at in range(len(own))]
    largest = max(len(ps) for ps in groups.values())
    low = min([p for ps in groups.values() for p in ps] + [p for p, _ in own] + [1 / (largest + 1), *places]) / 1.3
    ranks = [low, *(round(float(rank), 5) for rank in np.arange(1, tested + 1) / (tested + 1)), 1.05]
    traces = band(
        ranks,
        lower.round(5).tolist(),
        upper.round(5).tolist(),
        palette.NULL_BAND[0],
        edge={"width": 0, "color": palette.NULL[0]},
        name="95% by chance",
        legendgroup="band",
    )
    small = []
    for (kind, against), ps in groups.items():
        look, x, y = KINDS[kind], *_ranked(ps)
        traces.append(
            dots(
                x,
                y,
                [f"{100 * share:.0f}% have p {p:.3f} or less" for share, p in zip(x, y, strict=True)],
                {"size": 8, "color": look.colour, "symbol": look.symbol, "opacity": 0.85},
                name=f"{look.short} against {KINDS[against].short} ({len(ps)})",
            )
        )
        small.append((look.short, sum(p <= 0.05 for p in ps), len(ps)))
    traces.append(
        dots(
            places,
            [round(p, 5) for p, _ in own],
            [plot_text(f"{title}: p = {p_value(p)}") for p, title in own],
            {"size": 11, "color": palette.VALENCE[0], "symbol": "star"},
            name=f"tested directions ({len(own)})",
        )
    )
    diagonal = {
        "type": "line",
        "x0": low,
        "x1": 1,
        "y0": low,
        "y1": 1,
        "layer": "below",
        "line": {"color": palette.INK[0], "width": 1, "dash": "dash"},
    }
    plot = figure(
        traces,
        x=log_axis("p expected by chance (rank / (number + 1))", low, 1.05),
        y=log_axis("p observed, uncorrected", low, 1.05),
        shapes=[diagonal],
        hovermode="closest",
        narrow={"xaxis.title.text": "p expected by chance"},
    )
    return Calibrated(Plot("calibration-p", (("", plot),), 520, 430), tested, controls, small, len(own))


def _ranked(ps: list[float]) -> tuple[list[float], list[float]]:
    """Expected and observed p: one point for each distinct p, at the last of its ranks."""
    values, counts = np.unique(ps, return_counts=True)
    expected = np.cumsum(counts) / (len(ps) + 1)
    return expected.round(5).tolist(), values.round(5).tolist()
