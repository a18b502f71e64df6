"""Dose-response curves: the direction with its interval, the range of the controls, and prompts as a baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from heartstrings.report import _palette as palette
from heartstrings.report._kinds import KINDS
from heartstrings.report._numbers import dose, known, points, share
from heartstrings.report._page import Plot
from heartstrings.report._style import (
    across,
    axis,
    band,
    dots,
    error_bars,
    figure,
    key,
    line,
    plot_text,
    upright,
    wrapped,
)
from heartstrings.stats.estimate import Estimate
from heartstrings.verdict.results import AnswerCard, DosePoint

DOSE = "dose (fraction of the mean residual norm)"
DOSE_SHORT = "dose (fraction of mean norm)"
DIVERGENCE = "divergence from the unsteered model"
"""How the name of this quantity begins."""
PERCENT = {"tickformat": ".0%", "range": [-0.03, 1.03], "tickvals": [0, 0.25, 0.5, 0.75, 1.0]}


def scaled(estimate: Estimate, times: float = 100.0) -> Estimate:
    """The same estimate in a unit `times` smaller: points, for fractions."""
    return estimate.times(times)


def bars(estimates: Iterable[Estimate], colour: str) -> dict[str, Any]:
    return error_bars([(estimate.value, estimate.low, estimate.high) for estimate in estimates], colour)


def shaded(card: AnswerCard) -> list[dict[str, Any]]:
    """The operating range behind a plot."""
    if card.range is None:
        return []
    return [upright(*card.range, type="rect", layer="below", fillcolor=palette.GREEN_BAND[0], line={"width": 0})]


def divergence(card: AnswerCard) -> dict[float, float]:
    """Nats a token from the unsteered model on neutral prose, by dose; empty where it was not measured."""
    curves = [curve for curve in card.costs if curve.outcome_name.startswith(DIVERGENCE)]
    return {p.dose: p.estimate.value for curve in curves[:1] for p in curve.points if p.estimate.value is not None}


def dose_ticks(doses: Sequence[float], *, most: int = 9, below: Mapping[float, float] | None = None) -> dict[str, Any]:
    """Ticks at tested doses, far enough apart to be read. 0 is taken first, then the largest doses.

    Args:
        below: a second number under each dose, e.g. its divergence.
    """
    width = max(doses) - min(doses) or 1.0
    kept: list[float] = []
    for value in (0.0, *sorted(doses, key=lambda tick: (-abs(tick), tick))):
        if value in doses and all(abs(value - other) >= width / most for other in kept):
            kept.append(value)
    kept.sort()
    second = {value: f"<br>{below[value]:.2g}" if below and value in below else "" for value in kept}
    return {"tickmode": "array", "tickvals": kept, "ticktext": [dose(value) + second[value] for value in kept]}


def _dose_axes(
    doses: Sequence[float], end: float | None, *, below: Mapping[float, float] | None = None
) -> dict[str, Any]:
    """Arguments of `figure`: the axis of doses, at least up to `end`, and its changes on a small screen."""
    air = (max(doses) - min(doses) or 1.0) * 0.04
    reach = [min(doses) - air, max(doses) + air if end is None else max(end, max(doses) + air)]
    narrow = {f"xaxis.{name}": value for name, value in dose_ticks(doses, most=6, below=below).items()}
    return {
        "x": axis(DOSE, range=reach, **dose_ticks(doses, below=below)),
        "narrow": {"xaxis.title.text": DOSE_SHORT, **narrow},
    }


def dose_plot(name: str, card: AnswerCard, *, window: float | None, plain: bool = False) -> Plot | None:
    """One answer's curve over all doses, and over the slope window alone; None where nothing was measured.

    Args:
        window: half width of the slope window; None: not known.
        plain: for small multiples: without buttons.
    """
    measured = [point for point in card.curve.points if known(point.estimate.value)]
    if not measured:
        return None
    views = [("all doses", _plot(card, measured))]
    inside = [point for point in measured if window is not None and abs(point.dose) <= window]
    if not plain and 1 < len(inside) < len(measured):
        views.append(("slope window", _plot(card, inside)))
    if card.curve.band and not plain:
        views.append(("change", _change(card)))
    return Plot(name, tuple(views), height=410, narrow_height=430)


def _plot(card: AnswerCard, shown: Sequence[DosePoint]) -> go.Figure:
    traces: list[Any] = []
    for group in card.controls:
        around = [point for point in group.envelope if known(point.estimate.value)]
        kind = KINDS[group.kind]
        if around:
            traces += band(
                [p.dose for p in around],
                [p.estimate.low for p in around],
                [p.estimate.high for p in around],
                kind.band,
                edge={"color": kind.colour, "width": 1, "dash": kind.dash},
                name=f"{kind.short} ({len(group.slopes)})",
                legendgroup=group.kind,
            )
    colour, doses = palette.VALENCE[0], [point.dose for point in shown]
    hover = [
        plot_text(f"dose {dose(p.dose)}: {share(p.estimate)}, n = {p.n}")
        + (f"<br>{p.missing} without a grade" if p.missing else "")
        for p in shown
    ]
    # The longest entry sets the width of every column of the legend.
    name = card.direction if len(card.direction) <= 24 else card.direction[:23] + "…"
    traces.append(
        line(
            doses,
            [point.estimate.value for point in shown],
            plot_text(name),
            colour,
            hover,
            width=2.4,
            size=7,
            error_y=bars([point.estimate for point in shown], colour),
            legendrank=1,
        )
    )
    high, width = max(doses), max(doses) - min(doses) or 1.0
    shapes, end = shaded(card), None
    asked = [baseline for baseline in card.prompting if known(baseline.outcome.value)]
    if asked:
        border = high + width * 0.04
        end = border + width * 0.045 * (len(asked) + 0.5)
        shapes.append(upright(border, border, line={"color": palette.RULE[0], "width": 1}))
    alone = len({baseline.emotion for baseline in asked}) == 1
    for number, baseline in enumerate(asked, start=1):
        marker = {"size": 9, "color": palette.INK[0], "symbol": palette.MARKERS[number % len(palette.MARKERS)]}
        traces.append(
            dots(
                [high + width * (0.04 + 0.045 * number)],
                [baseline.outcome.value],
                [plot_text(f"asked for {baseline.emotion} ({baseline.form}): {share(baseline.outcome)}")],
                marker,
                error_y=bars([baseline.outcome], palette.INK[0]),
                name=plot_text(f"asked, {baseline.form}" if alone else f"asked, {baseline.emotion}, {baseline.form}"),
            )
        )
    if card.range is not None:
        traces.append(key("usable range", palette.GREEN_BAND[0], line={"width": 1, "color": palette.RULE[0]}))
    return figure(
        traces,
        y=axis(wrapped(card.curve.outcome_name), **PERCENT),
        shapes=shapes,
        hovermode="closest",
        **_dose_axes(doses, end, below=divergence(card)),
    )


def _change(card: AnswerCard) -> go.Figure:
    """Changes against the unsteered model: intervals of each dose by itself, and the band of all together."""
    own = palette.VALENCE[0]
    measured = [point for point in card.curve.change if known(point.estimate.value)]
    around = {point.dose: scaled(point.estimate) for point in card.curve.band if known(point.estimate.low)}
    if around:
        around[0.0] = Estimate(value=0.0, low=0.0, high=0.0)  # the unsteered model, against itself
    edges = sorted(around.items())
    changes = [scaled(point.estimate) for point in measured]
    traces = [
        *band(
            [value for value, _ in edges],
            [estimate.low for _, estimate in edges],
            [estimate.high for _, estimate in edges],
            palette.VALENCE_BAND[0],
            edge={"width": 0, "color": own},
            name="band of 95%, all doses together",
            legendgroup="band",
        ),
        line(
            [point.dose for point in measured],
            [change.value for change in changes],
            "intervals of 95%, each dose by itself",
            own,
            [plot_text(f"dose {dose(point.dose)}: {points(point.estimate)} points") for point in measured],
            size=7,
            error_y=bars(changes, own),
        ),
    ]
    return figure(
        traces,
        y=axis(wrapped(f"change of the {card.curve.outcome_name}, points"), nticks=7),
        shapes=[*shaded(card), across(0.0, palette.NULL[0])],
        hovermode="closest",
        **_dose_axes(sorted({0.0, *(point.dose for point in measured)}), None),
    )
