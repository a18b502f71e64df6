"""The effect against how far the model is moved: the direction among its controls at equal divergence."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from heartstrings.report import palette
from heartstrings.report.dose import BANDS, bars
from heartstrings.report.markup import el, join
from heartstrings.report.page import Figure, Section, missing
from heartstrings.report.style import axis, figure, log_axis, plot_text
from heartstrings.report.verdict_files import VerdictFiles
from heartstrings.report.verdict_words import KINDS, points, scaled, signed
from heartstrings.report.words import p_value
from heartstrings.verdict.pushes import power_of_kl
from heartstrings.verdict.results import AnswerCard, Push

SYMBOLS = {"general": "circle", "span": "square", "topic": "diamond", "natural": "triangle-up", "shuffled": "x"}
SHORT = {"general": "random", "span": "span", "topic": "topics", "natural": "natural text", "shuffled": "shuffled"}


def distance_section(files: VerdictFiles) -> Section:
    """One scatter an answer."""
    figures, without = [], []
    for place, card in enumerate(files.verdict.answers):
        made = _figure(f"distance-{place}", files.title(card), card)
        if made is None:
            without.append(files.title(card))
        else:
            figures.append(made)
    lacking = "The divergence on neutral prose was not measured for the direction and its controls"
    body = join(
        el(
            "p",
            "Directions of equal norm do not move a model equally far. Here each stands at its own distance from the "
            "unsteered model: the divergence (KL) of what it predicts on neutral prose, at the ends of the slope "
            "window. A small push moves the outcome in proportion to the dose and the divergence in proportion to its "
            "square, so directions are compared by their change for the same divergence. This describes; no answer "
            "rests on it.",
        )
        if figures
        else None,
        el("div", [one.html() for one in figures], class_="grid" if len(figures) > 1 else "solo") if figures else None,
        missing("No distances.", f"{lacking}: {', '.join(without)}.") if without else None,
        missing("No distances.", "This verdict holds no answer.") if not files.verdict.answers else None,
    )
    return Section("distance", "Effect against distance", body, tuple(figures))


def _figure(name: str, title: str, card: AnswerCard) -> Figure | None:
    shown = [(push, *here) for push in card.pushes if (here := _place(push))]
    if not shown or shown[0][0].kind != "direction" or len(shown) < 2:
        return None
    (own, own_kl, own_change), *controls = shown
    low, high = min(kl for _, kl, _ in shown) / 1.25, max(kl for _, kl, _ in shown) * 1.25
    traces = [*_curves(own_kl, own_change, power_of_kl(card.shape), low, high)]
    for kind in dict.fromkeys(push.kind for push, _, _ in controls):
        mine = [each for each in controls if each[0].kind == kind]
        traces.append(
            go.Scatter(
                x=[kl for _, kl, _ in mine], y=[change for _, _, change in mine], mode="markers",
                name=f"{SHORT[kind]} ({len(mine)})",
                marker={"size": 7, "color": BANDS[kind][0][0], "opacity": 0.75, "symbol": SYMBOLS[kind]},
                hovertext=[plot_text(f"{push.name}: {signed(change, 1)} points at {kl:.2g} nats")
                           for push, kl, change in mine],
                hoverinfo="text",
            )
        )  # fmt: skip
    told = scaled(card.told, 100.0)
    traces.append(
        go.Scatter(
            x=[own_kl], y=[own_change], error_y=bars([told], palette.VALENCE[0]), mode="markers",
            name=plot_text(own.name[:24]), legendrank=1,
            marker={"size": 14, "color": palette.VALENCE[0], "symbol": "star"},
            hovertext=[plot_text(f"{own.name}: {points(card.told)} points at {own_kl:.2g} nats")], hoverinfo="text",
        )
    )  # fmt: skip
    # As far up as down, so that both dotted lines are seen.
    reach = 1.12 * max(1.0, *(abs(change) for _, _, change in shown), abs(told.low or 0.0), abs(told.high or 0.0))
    zero = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 0, "layer": "below",
            "line": {"color": palette.NULL[0], "width": 1}}  # fmt: skip
    plot = figure(
        traces,
        x=log_axis("divergence from the unsteered model, nats a token", low, high),
        y=axis(f"change, points{card.told_where}", range=[-reach, reach], nticks=7),
        shapes=[zero],
        hovermode="closest",
        narrow={"xaxis.title.text": "divergence, nats a token"},
    )
    gone = sum(push.kl is None or push.change is None for push in card.pushes)
    caption = (
        f"A control beyond the dotted lines moves the outcome more than {own.name} does for the same divergence "
        f"(same ratio). At equal divergence p = {p_value(card.p_at_equal_kl)}, the largest over the kinds of controls"
        f"{f'; {gone} without a number count as larger' if gone else ''}."
    )
    kinds = "; ".join(
        f"{sum(push.kind == kind for push, _, _ in controls)} {KINDS[kind]}"
        for kind in dict.fromkeys(push.kind for push, _, _ in controls)
    )
    alt = (
        f"Scatter of the change of the {card.curve.outcome_name} against divergence: {own.name} "
        f"{signed(own_change, 1)} points at {own_kl:.2g} nats a token, among {kinds}."
    )
    return Figure(name, title, (("", plot),), caption, alt, height=380, narrow_height=400)


def _place(push: Push) -> tuple[float, float] | None:
    """Divergence and change in points; None where either is unknown, or where nothing was pushed."""
    if push.kl is None or push.change is None or push.kl <= 0:
        return None
    return float(f"{push.kl:.4g}"), round(100.0 * push.change, 2)


def _curves(kl: float, change: float, power: float, low: float, high: float) -> list[go.Scatter]:
    """What has the direction's change for its divergence, both ways."""
    x = np.geomspace(low, high, 25)
    y = abs(change) * (x / kl) ** power
    line = {"color": palette.VALENCE[0], "width": 1.5, "dash": "dot"}
    return [
        go.Scatter(
            x=[float(f"{value:.4g}") for value in x], y=[round(sign * float(value), 2) for value in y], mode="lines",
            line=line, hoverinfo="skip", legendgroup="equal", showlegend=sign > 0, legendrank=2,
            name="same ratio",
        )
        for sign in (1, -1)
    ]  # fmt: skip
