"""The effect against the divergence from the unsteered model: the direction among its controls."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from heartstrings.report import _palette as palette
from heartstrings.report._dose import bars, scaled
from heartstrings.report._kinds import KINDS
from heartstrings.report._numbers import general, points, signed
from heartstrings.report._page import Plot
from heartstrings.report._style import across, axis, dots, figure, log_axis, plot_text
from heartstrings.verdict.pushes import power_of_kl
from heartstrings.verdict.results import AnswerCard, Push


def distance_plot(name: str, card: AnswerCard) -> Plot | None:
    """A scatter plot; None where the divergence is not known for the direction, or for any of its controls."""
    shown = placed(card)
    if not shown or shown[0][0].kind != "direction" or len(shown) < 2:
        return None
    (own, own_kl, own_change), *controls = shown
    low, high = min(kl for _, kl, _ in shown) / 1.25, max(kl for _, kl, _ in shown) * 1.25
    traces = _curves(own_kl, own_change, power_of_kl(card.shape), low, high)
    for kind in dict.fromkeys(push.kind for push, _, _ in controls):
        mine = [control for control in controls if control[0].kind == kind]
        traces.append(
            dots(
                [kl for _, kl, _ in mine],
                [change for _, _, change in mine],
                [
                    plot_text(f"{push.name}: {signed(change)} points at {general(kl, 2)} nats")
                    for push, kl, change in mine
                ],
                {"size": 7, "color": KINDS[kind].colour, "opacity": 0.75, "symbol": KINDS[kind].symbol},
                name=f"{KINDS[kind].short} ({len(mine)})",
            )
        )
    told = scaled(card.told)
    traces.append(
        dots(
            [own_kl],
            [own_change],
            [plot_text(f"{own.name}: {points(card.told)} points at {general(own_kl, 2)} nats")],
            {"size": 14, "color": palette.VALENCE[0], "symbol": "star"},
            error_y=bars([told], palette.VALENCE[0]),
            name=plot_text(own.name[:24]),
            legendrank=1,
        )
    )
    # The axis is symmetric around 0, so that both dotted lines are visible.
    reach = 1.12 * max(1.0, *(abs(change) for _, _, change in shown), abs(told.low or 0.0), abs(told.high or 0.0))
    plot = figure(
        traces,
        x=log_axis("divergence from the unsteered model, nats a token", low, high),
        y=axis(f"change, points{card.told_where}", range=[-reach, reach], nticks=7),
        shapes=[across(0.0, palette.NULL[0])],
        hovermode="closest",
        narrow={"xaxis.title.text": "divergence, nats a token"},
    )
    return Plot(name, (("", plot),), height=380, narrow_height=400)


def placed(card: AnswerCard) -> list[tuple[Push, float, float]]:
    """Every push with its divergence in nats and its change in points. Those that lack one of the two are left out."""
    return [
        (push, float(f"{push.kl:.4g}"), round(100.0 * push.change, 2))
        for push in card.pushes
        if push.kl is not None and push.change is not None and push.kl > 0
    ]


def _curves(kl: float, change: float, power: float, low: float, high: float) -> list[go.Scatter]:
    """The change of the direction itself, extrapolated to other divergences, and the same with the other sign."""
    x = np.geomspace(low, high, 25)
    y = abs(change) * (x / kl) ** power
    line = {"color": palette.VALENCE[0], "width": 1.5, "dash": "dot"}
    return [
        go.Scatter(
            x=[float(f"{value:.4g}") for value in x],
            y=[round(sign * float(value), 2) for value in y],
            mode="lines",
            line=line,
            hoverinfo="skip",
            legendgroup="equal",
            showlegend=sign > 0,
            legendrank=2,
            name="same ratio",
        )
        for sign in (1, -1)
    ]
