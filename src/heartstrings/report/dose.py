"""Dose-response curves: the direction with its interval, the controls' envelope, asking in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from heartstrings.report import palette
from heartstrings.report.page import Figure
from heartstrings.report.style import axis, figure, plot_text, wrapped
from heartstrings.report.verdict_words import DOSE, DOSE_SHORT, KINDS, dose, finite, interval, scaled, share
from heartstrings.stats.estimate import Estimate
from heartstrings.verdict.results import AnswerCard, DosePoint

BANDS = {
    "general": (palette.NULL, palette.NULL_BAND, "dot"),
    "span": (palette.PURPLE, palette.PURPLE_BAND, "dash"),
    "topic": (palette.GREEN, palette.GREEN_BAND, "longdash"),
    "natural": (palette.AROUSAL, palette.AROUSAL_BAND, "dashdot"),
    "shuffled": (palette.AROUSAL, palette.AROUSAL_BAND, "dashdot"),
}
DIVERGENCE = "divergence from the unsteered model"
"""How the name of that quantity begins."""
SHORT = {"general": "random", "span": "span", "topic": "topics", "natural": "natural", "shuffled": "shuffled"}
PERCENT = {"tickformat": ".0%", "range": [-0.03, 1.03], "tickvals": [0, 0.25, 0.5, 0.75, 1.0]}


def known_points(points: Sequence[DosePoint]) -> list[DosePoint]:
    return [point for point in points if finite(point.estimate.value)]


def bars(estimates: Sequence[Estimate], colour: str) -> dict[str, Any]:
    """Error bars; a point without an interval has none."""
    up = [(e.high or 0.0) - (e.value or 0.0) if finite(e.high) else 0.0 for e in estimates]
    down = [(e.value or 0.0) - (e.low or 0.0) if finite(e.low) else 0.0 for e in estimates]
    return {
        "type": "data", "symmetric": False, "array": up, "arrayminus": down,
        "color": colour, "thickness": 1.4, "width": 3,
    }  # fmt: skip


def shaded(card: AnswerCard) -> list[dict[str, Any]]:
    """The operating range behind a plot."""
    if card.range is None:
        return []
    low, high = card.range
    place = {"type": "rect", "yref": "paper", "y0": 0, "y1": 1, "x0": low, "x1": high, "layer": "below"}
    return [place | {"fillcolor": palette.GREEN_BAND[0], "line": {"width": 0}}]


def key(name: str, colour: str) -> go.Scatter:
    """A legend entry for a shape; a shape has none of its own."""
    mark = {"symbol": "square", "size": 12, "color": colour, "line": {"width": 1, "color": palette.RULE[0]}}
    return go.Scatter(x=[None], y=[None], mode="markers", marker=mark, name=name)


def divergence(card: AnswerCard) -> dict[float, float]:
    """Nats a token from the unsteered model on neutral prose, by dose; empty where it was not measured."""
    found = [curve for curve in card.costs if curve.outcome_name.startswith(DIVERGENCE)]
    return {p.dose: p.estimate.value for curve in found[:1] for p in curve.points if p.estimate.value is not None}


def dose_ticks(doses: Sequence[float], *, most: int = 9, below: Mapping[float, float] | None = None) -> dict[str, Any]:
    """Ticks at tested doses, far enough apart to be read: 0 first, then from the outside in.

    Args:
        below: a second number under each dose, e.g. its divergence.
    """
    if not doses:
        return {}
    width = max(doses) - min(doses) or 1.0
    kept: list[float] = []
    for value in (0.0, *sorted(doses, key=lambda each: (-abs(each), each))):
        if value in doses and all(abs(value - other) >= width / most for other in kept):
            kept.append(value)
    kept.sort()
    second = {value: f"<br>{below[value]:.2g}" if below and value in below else "" for value in kept}
    return {"tickmode": "array", "tickvals": kept, "ticktext": [dose(value) + second[value] for value in kept]}


def dose_figure(name: str, title: str, card: AnswerCard, *, window: float | None, plain: bool = False) -> Figure | None:
    """One answer's curve over all doses, and over the slope window alone; None where nothing was measured.

    Args:
        window: half width of the slope window; None: not known.
        plain: for small multiples: without buttons, controls' kinds as they are.
    """
    points = known_points(card.curve.points)
    if not points:
        return None
    views = [("all doses", _plot(card, points, None))]
    if window is not None and not plain and any(abs(point.dose) > window for point in points):
        inside = [point for point in points if abs(point.dose) <= window]
        if len(inside) > 1:
            views.append(("slope window", _plot(card, inside, window)))
    if card.curve.band and not plain:
        views.append(("change", _change(card)))
    caption = [f"The {card.curve.outcome_name} by dose along {card.direction}, with 95% intervals. "]
    if any(group.envelope for group in card.controls):
        caption.append("Bands: from the lowest to the highest control direction of each kind, which were tested in ")
        caption.append("the slope window only. ")
    if card.prompting:
        caption.append("Right of the line: the unsteered model, asked for the emotion in words. ")
    if divergence(card):
        caption.append("Under each dose: the divergence from the unsteered model on neutral prose, in nats a token. ")
    if card.curve.band and not plain:
        caption.append('Button "change": against the unsteered model, with a band that holds at all doses together. ')
    if card.range is not None:
        caption.append(f"Green: the doses that keep every limit, {dose(card.range[0])} to {dose(card.range[1])}.")
    ends = f"{share(points[0].estimate)} at dose {dose(points[0].dose)}, {share(points[-1].estimate)} at "
    alt = f"Curve of the {card.curve.outcome_name} by dose along {card.direction}: {ends}{dose(points[-1].dose)}."
    return Figure(name, title, tuple(views), "".join(caption), alt, height=410, narrow_height=430)


def _plot(card: AnswerCard, points: Sequence[DosePoint], window: float | None) -> go.Figure:
    traces: list[Any] = []
    for group in card.controls:
        around = known_points(group.envelope)
        if not around:
            continue
        colour, band, dash = BANDS[group.kind]
        line = {"color": colour[0], "width": 1, "dash": dash}
        shared: dict[str, Any] = {"x": [p.dose for p in around], "mode": "lines", "line": line, "hoverinfo": "skip"}
        shared["legendgroup"] = group.kind
        traces += [
            go.Scatter(y=[p.estimate.high for p in around], showlegend=False, **shared),
            go.Scatter(
                y=[p.estimate.low for p in around], fill="tonexty", fillcolor=band[0],
                name=f"{SHORT[group.kind]} ({len(group.slopes)})", **shared,
            ),
        ]  # fmt: skip
    colour_ = palette.VALENCE[0]
    traces.append(
        go.Scatter(
            x=[point.dose for point in points],
            y=[point.estimate.value for point in points],
            error_y=bars([point.estimate for point in points], colour_),
            mode="lines+markers",
            name=plot_text(_short(card.direction)),
            legendrank=1,
            line={"color": colour_, "width": 2.4},
            marker={"size": 7, "color": colour_},
            hovertext=[
                plot_text(f"dose {dose(p.dose)}: {share(p.estimate)}, n = {p.n}")
                + (f"<br>{p.missing} without a grade" if p.missing else "")
                for p in points
            ],
            hoverinfo="text",
        )
    )
    doses = [point.dose for point in points]
    low, high = min(doses), max(doses)
    width = high - low or 1.0
    shapes = shaded(card)
    asked = [one for one in card.prompting if finite(one.outcome.value)]
    alone = len({one.emotion for one in asked}) == 1
    end = high + width * 0.04
    if asked:
        shapes.append(
            {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": end, "x1": end,
             "line": {"color": palette.RULE[0], "width": 1}}
        )  # fmt: skip
    for number, one in enumerate(asked):
        colour_ = palette.INK[0]
        traces.append(
            go.Scatter(
                x=[end + width * 0.045 * (number + 1)],
                y=[one.outcome.value],
                error_y=bars([one.outcome], colour_),
                mode="markers",
                name=plot_text(f"asked, {one.form}" if alone else f"asked, {one.emotion}, {one.form}"),
                marker={"size": 9, "color": colour_, "symbol": palette.MARKERS[(number + 1) % len(palette.MARKERS)]},
                hovertext=[plot_text(f"asked for {one.emotion} ({one.form}): {share(one.outcome)}")],
                hoverinfo="text",
            )
        )
    if asked:
        end += width * 0.045 * (len(asked) + 0.5)
    if card.range is not None:
        traces.append(key("usable range", palette.GREEN_BAND[0]))
    reach = [low - width * 0.04, max(end, high + width * 0.04)]
    return figure(
        traces,
        x=axis(DOSE, range=reach, **dose_ticks(doses, below=divergence(card))),
        y=axis(wrapped(card.curve.outcome_name), **PERCENT),
        shapes=shapes,
        hovermode="closest",
        narrow={"xaxis.title.text": DOSE_SHORT, **_narrow_ticks(doses, divergence(card))},
    )


def _change(card: AnswerCard) -> go.Figure:
    """Changes against the unsteered model: intervals of each dose by itself, and the band of all together."""
    own, band = palette.VALENCE[0], palette.VALENCE_BAND[0]
    each = [(point.dose, scaled(point.estimate, 100.0)) for point in known_points(card.curve.change)]
    around = [(p.dose, scaled(p.estimate, 100.0)) for p in card.curve.band if finite(p.estimate.low)]
    zero = Estimate(value=0.0, low=0.0, high=0.0)  # the unsteered model, against itself
    around = sorted([*around, *([(0.0, zero)] if around else [])], key=lambda pair: pair[0])
    edge: dict[str, Any] = {"x": [d for d, _ in around], "mode": "lines", "line": {"width": 0, "color": own}}
    edge |= {"hoverinfo": "skip", "legendgroup": "band"}
    doses = sorted({0.0, *(d for d, _ in each)})
    width = doses[-1] - doses[0] or 1.0
    traces = [
        go.Scatter(y=[e.high for _, e in around], showlegend=False, **edge),
        go.Scatter(
            y=[e.low for _, e in around], fill="tonexty", fillcolor=band, name="band of 95%, all doses together", **edge
        ),
        go.Scatter(
            x=[d for d, _ in each], y=[e.value for _, e in each], error_y=bars([e for _, e in each], own),
            mode="lines+markers", name="intervals of 95%, each dose by itself",
            line={"color": own, "width": 2}, marker={"size": 7, "color": own},
            hovertext=[plot_text(f"dose {dose(d)}: {interval(e)} points") for d, e in each], hoverinfo="text",
        ),
    ]  # fmt: skip
    line = {"color": palette.NULL[0], "width": 1}
    across = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 0, "layer": "below", "line": line}
    return figure(
        traces,
        x=axis(DOSE, range=[doses[0] - width * 0.04, doses[-1] + width * 0.04], **dose_ticks(doses)),
        y=axis(wrapped(f"change of the {card.curve.outcome_name}, points"), nticks=7),
        shapes=[*shaded(card), across],
        hovermode="closest",
        narrow={"xaxis.title.text": DOSE_SHORT, **_narrow_ticks(doses, {})},
    )


def _short(text: str) -> str:
    """A name for the legend, whose columns are as wide as its longest entry."""
    return text if len(text) <= 24 else text[:23] + "…"


def _narrow_ticks(doses: Sequence[float], below: Mapping[float, float]) -> dict[str, Any]:
    ticks = dose_ticks(doses, most=6, below=below)
    return {f"xaxis.{name}": value for name, value in ticks.items()}


def kinds_in_words(card: AnswerCard) -> str:
    return "; ".join(f"{len(group.slopes)} {KINDS[group.kind]}" for group in card.controls)
