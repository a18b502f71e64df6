"""What steering costs: capability, harm, coherence and tone by dose, with the limits that define the range."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go

from heartstrings.report import _palette as palette
from heartstrings.report._dose import DIVERGENCE, DOSE_SHORT, bars, dose_ticks, scaled, shaded
from heartstrings.report._kinds import KINDS
from heartstrings.report._numbers import dose, interval, known
from heartstrings.report._page import Plot
from heartstrings.report._style import across, axis, band, figure, line, plot_text
from heartstrings.stats.estimate import Estimate
from heartstrings.verdict.results import AnswerCard, ControlCost, Curve

SYMBOLS = {"holds": "circle", "fails": "x", "unclear": "circle-open", "missing": "circle-open", None: "circle"}
RISES_ARE_BAD = ("harm", "perplexity", "log-loss")
"""How the names of gates begin whose quantity must not rise; the quantity of every other gate must not fall."""
QUANTITIES = {
    "valid": ("valid answers", "Valid answers"),
    "perplexity": ("log-perplexity", "Log-perplexity"),
    "repetition": ("share of distinct 2-grams", "Distinct 2-grams"),
    "endings": ("share of texts that end properly", "Ends properly"),
    "script": ("share of letters in the script", "Same script"),
    "log-loss": ("log-loss of", "Log-loss"),
}
"""First word of a gate's name -> how the name of its curve's quantity begins, and a title."""
IN_NATS = ("log-perplexity", "log-loss", DIVERGENCE)
"""How the names of quantities begin that are in nats a token; all others are shares."""


@dataclass(frozen=True)
class Point:
    """A change against the unsteered model at one dose."""

    dose: float
    change: Estimate
    state: str | None = None
    n: int | None = None


@dataclass(frozen=True)
class Panel:
    """One small plot: a quantity with its limit, or one that has no limit."""

    title: str
    points: tuple[Point, ...]
    limit: float | None
    rising: bool
    nats: bool
    controls: tuple[ControlCost, ...] = ()
    """The same quantity for the control directions."""

    @property
    def times(self) -> float:
        return 1.0 if self.nats else 100.0

    @property
    def unit(self) -> str:
        return "nats a token" if self.nats else "points"

    @property
    def edge(self) -> float | None:
        """The limit on the plot's axis."""
        return None if self.limit is None else self.times * (self.limit if self.rising else -self.limit)


def panels(card: AnswerCard) -> list[Panel]:
    """Every gate first, then the quantities without a gate. Panels without a number are left out."""
    candidates, used = [], set()
    for name in dict.fromkeys(gate.name for gate in card.gates):
        gates = [gate for gate in card.gates if gate.name == name]
        number = next((place for place, curve in enumerate(card.costs) if _is_of(curve, name)), None)
        curve = None if number is None else card.costs[number]
        used.add(number)
        counts = {} if curve is None else {point.dose: point.n for point in curve.change}
        points = tuple(
            Point(gate.dose, gate.change, gate.state, counts.get(gate.dose))
            for gate in gates
            if known(gate.change.value)
        )
        rising = name.startswith(RISES_ARE_BAD)
        candidates.append(Panel(_title(name, curve), points, gates[0].limit, rising, gates[0].in_nats))
    for number, curve in enumerate(card.costs):
        if number in used:
            continue
        points = tuple(
            Point(point.dose, point.estimate, None, point.n) for point in curve.change if known(point.estimate.value)
        )
        nats = curve.outcome_name.startswith(IN_NATS)
        around = card.control_costs if curve.outcome_name.startswith(DIVERGENCE) else ()
        candidates.append(Panel(_named_curve(curve), points, None, rising=False, nats=nats, controls=around))
    return [panel for panel in candidates if panel.points]


def _is_of(curve: Curve, name: str) -> bool:
    """Whether the gate of this name limits this curve."""
    first, _, behaviour = name.partition(": ")
    if behaviour and curve.behaviour != behaviour:
        return False
    if first in QUANTITIES:
        return curve.outcome_name.startswith(QUANTITIES[first][0])
    # The gate `accuracy` is for all capability questions together: it belongs to no single curve.
    return bool(behaviour) and not any(curve.outcome_name.startswith(start) for start, _ in QUANTITIES.values())


def _title(name: str, curve: Curve | None) -> str:
    first, _, behaviour = name.partition(": ")
    if first in QUANTITIES:
        return QUANTITIES[first][1] + (f" ({behaviour})" if behaviour else "")
    if curve is not None:
        return _named_curve(curve)
    return "Accuracy, all questions" if name == "accuracy" else name[:1].upper() + name[1:]


def _named_curve(curve: Curve) -> str:
    text = curve.outcome_name[:1].upper() + curve.outcome_name[1:]
    return text if curve.behaviour in text else f"{text} ({curve.behaviour})"


def cost_plots(place: int, card: AnswerCard) -> list[tuple[Panel, Plot]]:
    """Small multiples for one answer."""
    return [
        (panel, Plot(f"cost-{place}-{number}", (("", _plot(card, panel)),), 230, 250, classes="small"))
        for number, panel in enumerate(panels(card))
    ]


def _plot(card: AnswerCard, panel: Panel) -> go.Figure:
    edge, unit = panel.edge, panel.unit
    doses = sorted({0.0, *(point.dose for point in panel.points)})
    estimates = [scaled(point.change, panel.times) for point in panel.points]
    values = [
        value for estimate in estimates for value in (estimate.value, estimate.low, estimate.high) if value is not None
    ]
    values += [0.0] + ([] if edge is None else [edge * 1.4])
    values += [p.estimate.high for kind in panel.controls for p in kind.points if p.estimate.high is not None]
    low, high = min(values), max(values)
    air, span = (high - low or 1.0) * 0.07, (doses[-1] - doses[0] or 1.0) * 0.05
    shapes = [*shaded(card), across(0.0, palette.NULL[0])]
    if edge is not None:
        shapes.append(across(edge, palette.AROUSAL[0], width=1.5, dash="dash", layer="above"))
    traces = []
    for group in panel.controls:
        kind = KINDS[group.kind]
        traces += band(
            [p.dose for p in group.points],
            [p.estimate.low for p in group.points],
            [p.estimate.high for p in group.points],
            kind.band,
            edge={"color": kind.colour, "width": 1, "dash": kind.dash},
        )
    colour = palette.VALENCE[0]
    hover = [
        plot_text(f"dose {dose(point.dose)}: {interval(estimate)} {unit}")
        + (f", n = {point.n}" if point.n is not None else "")
        + (f"<br>{point.state}" if point.state else "")
        for point, estimate in zip(panel.points, estimates, strict=True)
    ]
    marker = {
        "size": 7,
        "color": [palette.AROUSAL[0] if point.state == "fails" else colour for point in panel.points],
        "symbol": [SYMBOLS[point.state] for point in panel.points],
    }
    x, y = [point.dose for point in panel.points], [estimate.value for estimate in estimates]
    traces.append(line(x, y, None, colour, hover, width=1.6, marker=marker, error_y=bars(estimates, colour)))
    return figure(
        traces,
        x=axis(DOSE_SHORT, range=[doses[0] - span, doses[-1] + span], **dose_ticks(doses, most=6)),
        y=axis(f"change, {unit}", range=[low - air, high + air], nticks=6),
        shapes=shapes,
        showlegend=False,
        margin={"l": 8, "r": 10, "t": 10, "b": 8},
        hovermode="closest",
    )
