"""What steering costs: capability, harm, coherence and tone by dose, with the limits that make the range."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go

from heartstrings.report import palette
from heartstrings.report.dose import BANDS, DIVERGENCE, bars, dose_ticks, shaded
from heartstrings.report.markup import Child, Html, el, join, table
from heartstrings.report.page import Figure, Section, missing
from heartstrings.report.style import axis, figure, plot_text
from heartstrings.report.verdict_files import VerdictFiles
from heartstrings.report.verdict_words import DOSE_SHORT, dose, finite, interval, scaled, signed
from heartstrings.report.words import NOTHING
from heartstrings.stats.estimate import Estimate
from heartstrings.verdict.results import AnswerCard, ControlCost, Curve, Gate

STATES = {"holds": ("✓", "holds"), "fails": ("×", "fails"), "unclear": ("?", "unclear")}
SYMBOLS = {"holds": "circle", "fails": "x", "unclear": "circle-open"}
RISES_ARE_BAD = ("harm", "perplexity", "log-loss")
"""Gates whose change must not rise; of the others it must not fall."""
QUANTITIES = {
    "valid": ("valid answers", "Valid answers"),
    "perplexity": ("log-perplexity", "Log-perplexity"),
    "repetition": ("share of distinct 2-grams", "Distinct 2-grams"),
    "endings": ("share of texts that end properly", "Ends properly"),
    "script": ("share of letters in the script", "Same script"),
    "log-loss": ("log-loss of", "Log-loss"),
}
"""By the first word of a gate's name: how its curve's quantity begins, and a title."""
IN_NATS = ("log-perplexity", "log-loss", DIVERGENCE)
"""How the quantities begin that are nats a token and no share."""


@dataclass(frozen=True)
class Point:
    """A change against the unsteered model at one dose."""

    dose: float
    change: Estimate
    state: str | None = None
    n: int | None = None


@dataclass(frozen=True)
class Panel:
    """One small plot: what is held against a limit, or a quantity that has none."""

    title: str
    points: tuple[Point, ...]
    limit: float | None
    rising: bool
    nats: bool
    controls: tuple[ControlCost, ...] = ()
    """The same of the control directions."""

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


def costs_section(files: VerdictFiles) -> Section:
    """Small multiples for each direction, and the table of the limits dose by dose."""
    parts: list[Child] = [
        el(
            "p",
            "Change against the unsteered model, paired by scenario, with 95% intervals. The dashed line is the limit; "
            "the range ends before the first dose whose interval reaches it. A cross: all of the interval is beyond; a "
            "ring: the interval reaches the limit, or it is too soon to tell. Green: the range, where there is one.",
        )
    ]
    figures: list[Figure] = []
    for place, card in enumerate(files.verdict.answers):
        parts.append(el("h3", files.title(card), f" (layer {card.layer})" if card.layer >= 0 else ""))
        made = [_figure(f"cost-{place}-{number}", card, panel) for number, panel in enumerate(panels(card))]
        figures += made
        if made:
            parts.append(el("div", [one.html() for one in made], class_="trio"))
        else:
            parts.append(missing("No costs.", "No capability, harm or written text was measured along this direction."))
        parts.append(_limits(card))
    if not files.verdict.answers:
        parts = [missing("No costs.", "This verdict holds no answer.")]
    return Section("costs", "What it costs, and where the range ends", join(parts), tuple(figures))


def panels(card: AnswerCard) -> list[Panel]:
    """Every gate first, then the quantities that no gate is held against; what has no number is left out."""
    found, used = [], set()
    for name in dict.fromkeys(gate.name for gate in card.gates):
        gates = [gate for gate in card.gates if gate.name == name]
        number = next((place for place, curve in enumerate(card.costs) if _is_of(curve, name)), None)
        curve = None if number is None else card.costs[number]
        used.add(number)
        counts = {} if curve is None else {point.dose: point.n for point in curve.change}
        points = tuple(
            Point(gate.dose, gate.change, gate.state, counts.get(gate.dose))
            for gate in gates
            if finite(gate.change.value)
        )
        found.append(
            Panel(
                _title(name, curve), points, gates[0].limit, name.startswith(RISES_ARE_BAD),
                gates[0].in_nats,
            )
        )  # fmt: skip
    for number, curve in enumerate(card.costs):
        if number in used:
            continue
        points = tuple(Point(one.dose, one.estimate, None, one.n) for one in curve.change if finite(one.estimate.value))
        nats = curve.outcome_name.startswith(IN_NATS)
        around = card.control_costs if curve.outcome_name.startswith(DIVERGENCE) else ()
        found.append(Panel(_named_curve(curve), points, None, rising=False, nats=nats, controls=around))
    return [panel for panel in found if panel.points]


def _is_of(curve: Curve, name: str) -> bool:
    """Whether a gate is held against this curve."""
    first, _, behaviour = name.partition(": ")
    if behaviour and curve.behaviour != behaviour:
        return False
    if first in QUANTITIES:
        return curve.outcome_name.startswith(QUANTITIES[first][0])
    # One gate holds all of capability together: no single curve is its own.
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


def _figure(name: str, card: AnswerCard, panel: Panel) -> Figure:
    points, edge, unit, times = panel.points, panel.edge, panel.unit, panel.times
    doses = sorted({0.0, *(point.dose for point in points)})
    estimates = [scaled(point.change, times) for point in points]
    values = [value for one in estimates for value in (one.value, one.low, one.high) if value is not None]
    values += [0.0] + ([] if edge is None else [edge * 1.4])
    values += [p.estimate.high for kind in panel.controls for p in kind.points if p.estimate.high is not None]
    low, high = min(values), max(values)
    air = (high - low or 1.0) * 0.07
    across = {"type": "line", "xref": "paper", "x0": 0, "x1": 1}
    zero = across | {"y0": 0, "y1": 0, "layer": "below", "line": {"color": palette.NULL[0], "width": 1}}
    shapes = [*shaded(card), zero]
    if edge is not None:
        dashed = {"color": palette.AROUSAL[0], "width": 1.5, "dash": "dash"}
        shapes.append(across | {"y0": edge, "y1": edge, "line": dashed})
    span = doses[-1] - doses[0] or 1.0
    plot = figure(
        [*_around(panel), _line(panel, estimates)],
        x=axis(DOSE_SHORT, range=[doses[0] - span * 0.05, doses[-1] + span * 0.05], **dose_ticks(doses, most=6)),
        y=axis(f"change, {unit}", range=[low - air, high + air], nticks=6),
        shapes=shapes,
        showlegend=False,
        margin={"l": 8, "r": 10, "t": 10, "b": 8},
        hovermode="closest",
    )
    limited = "no limit of its own" if edge is None else f"limit {signed(edge)} {unit}"
    said = "; ".join(
        f"dose {dose(point.dose)}: {interval(one)}" + (f", {point.state}" if point.state else "")
        for point, one in zip(points, estimates, strict=True)
    )
    alt = f"{panel.title} by dose along {card.direction}, change in {unit}, {limited}. {said}."
    caption = "No limit of its own: for information."
    if panel.controls:
        caption += " Bands: from the lowest to the highest control direction of each kind."
    if edge is not None:
        caption = f"Limit: a {'rise' if panel.rising else 'drop'} of {signed(abs(edge)).lstrip('+')} {unit}."
    return Figure(name, panel.title, (("", plot),), caption, alt, 230, 250, classes="small")


def _around(panel: Panel) -> list[go.Scatter]:
    """Bands from the lowest to the highest control of each kind."""
    traces = []
    for kind in panel.controls:
        colour, band, dash = BANDS[kind.kind]
        line = {"color": colour[0], "width": 1, "dash": dash}
        x = [point.dose for point in kind.points]
        traces += [
            go.Scatter(x=x, y=[p.estimate.high for p in kind.points], mode="lines", line=line, hoverinfo="skip"),
            go.Scatter(
                x=x, y=[p.estimate.low for p in kind.points], mode="lines", line=line, hoverinfo="skip",
                fill="tonexty", fillcolor=band[0],
            ),
        ]  # fmt: skip
    return traces


def _line(panel: Panel, estimates: list[Estimate]) -> go.Scatter:
    colour = palette.VALENCE[0]
    return go.Scatter(
        x=[point.dose for point in panel.points],
        y=[one.value for one in estimates],
        error_y=bars(estimates, colour),
        mode="lines+markers",
        line={"color": colour, "width": 1.6},
        marker={
            "size": 7,
            "color": [palette.AROUSAL[0] if point.state == "fails" else colour for point in panel.points],
            "symbol": [SYMBOLS.get(point.state or "holds", "circle-open") for point in panel.points],
        },
        hovertext=[
            plot_text(f"dose {dose(point.dose)}: {interval(one)} {panel.unit}")
            + (f", n = {point.n}" if point.n is not None else "")
            + (f"<br>{point.state}" if point.state else "")
            for point, one in zip(panel.points, estimates, strict=True)
        ],
        hoverinfo="text",
    )


def _limits(card: AnswerCard) -> Html:
    """Every limit at every dose, in words: what the range rests on."""
    if not card.gates:
        return missing("No limits.", "No condition on the range was measured along this direction.")
    doses = sorted({gate.dose for gate in card.gates})
    names = list(dict.fromkeys(gate.name for gate in card.gates))
    found = {(gate.name, gate.dose): gate for gate in card.gates}
    rows = [
        [_named(name, next(gate.limit for gate in card.gates if gate.name == name))]
        + [_state(found.get((name, value))) for value in doses]
        for name in names
    ]
    return el(
        "details",
        el("summary", f"The limits dose by dose: {card.direction}"),
        table(
            "Change with its 95% interval, in points (perplexity, log-loss: nats a token). ✓ the bad side is within "
            "its limit; × all of it is beyond; ? the interval holds the limit, or it is too soon to tell.",
            ["Limit on", *(dose(value) for value in doses)],
            rows,
            class_="wide",
        ),
    )


def _named(name: str, limit: float) -> str:
    shown = f"{limit:g} nats" if name.startswith(("perplexity", "log-loss")) else f"{100 * limit:g} points"
    return f"{name}, {shown}"


def _state(gate: Gate | None) -> Child:
    if gate is None or gate.state == "missing":
        return el("span", NOTHING, " missing", class_="soft")
    sign, words = STATES[gate.state]
    detail = el("small", interval(gate.change, 1.0 if gate.in_nats else 100.0))
    return el("span", el("span", sign, aria_hidden="true"), f" {words}", el("br"), detail, class_=f"gate {gate.state}")
