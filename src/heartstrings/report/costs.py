"""What steering costs: capability, harm, coherence and tone by dose, with the limits that make the range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from heartstrings.report import palette
from heartstrings.report.dose import bars, dose_ticks, known_points, shaded
from heartstrings.report.markup import Child, Html, el, join, table
from heartstrings.report.page import Figure, Section, missing
from heartstrings.report.style import axis, figure, plot_text
from heartstrings.report.verdict_files import VerdictFiles
from heartstrings.report.verdict_words import DOSE_SHORT, dose, interval, signed
from heartstrings.report.words import NOTHING
from heartstrings.verdict.results import AnswerCard, Curve, Gate

STATES = {
    "holds": ("✓", "holds"),
    "fails": ("×", "fails"),
    "unclear": ("?", "unclear"),
    "missing": (NOTHING, "missing"),
}
RISES_ARE_BAD = ("harm", "perplexity")
"""Gates whose change must not rise; of the others it must not fall."""


def costs_section(files: VerdictFiles) -> Section:
    """Small multiples for each direction, and the table of the limits dose by dose."""
    parts: list[Child] = [
        el(
            "p",
            "Change against the unsteered model, paired by scenario, with 95% intervals. The dashed line is the limit; "
            "the range ends before the first dose whose interval reaches it. Green: the range, where there is one.",
        )
    ]
    figures: list[Figure] = []
    for place, card in enumerate(files.verdict.answers):
        parts.append(el("h3", files.title(card), f" (layer {card.layer})" if card.layer >= 0 else ""))
        made = [
            found
            for number, curve in enumerate(card.costs)
            if (found := _figure(f"cost-{place}-{number}", card, curve)) is not None
        ]
        figures += made
        if made:
            parts.append(el("div", [one.html() for one in made], class_="trio"))
        else:
            parts.append(missing("No costs.", "No capability, harm or written text was measured along this direction."))
        parts.append(_limits(card))
    if not files.verdict.answers:
        parts = [missing("No costs.", "This verdict holds no answer.")]
    return Section("costs", "What it costs, and where the range ends", join(parts), tuple(figures))


def gates_of(card: AnswerCard, curve: Curve) -> tuple[Gate, ...]:
    """The gates that this curve is held against."""
    first = {
        "valid answers": f"valid: {curve.behaviour}",
        "share of distinct 2-grams": "repetition",
        "share of texts that end properly": "endings",
    }.get(curve.outcome_name)
    if curve.outcome_name.startswith("log-perplexity"):
        first = "perplexity"
    names = {first, f"{first}: {curve.behaviour}"} if first else {f"accuracy: {curve.behaviour}"}
    if first is None:
        names.add(f"harm: {curve.behaviour}")
    return tuple(gate for gate in card.gates if gate.name in names)


def _figure(name: str, card: AnswerCard, curve: Curve) -> Figure | None:
    points = known_points(curve.change)
    if not points:
        return None
    nats = curve.outcome_name.startswith("log-perplexity")
    times, unit = (1.0, "nats a token") if nats else (100.0, "points")
    gates = gates_of(card, curve)
    limit = gates[0].limit * times if gates else None
    rising = bool(gates) and gates[0].name.startswith(RISES_ARE_BAD)
    edge = None if limit is None else limit if rising else -limit
    title = _title(curve, gates)
    doses = [point.dose for point in points]
    values = [value * times for p in points for value in (p.estimate.value, p.estimate.low, p.estimate.high)
              if value is not None]  # fmt: skip
    values += [0.0] + ([] if edge is None else [edge * 1.4])
    low, high = min(values), max(values)
    air = (high - low or 1.0) * 0.07
    shapes = shaded(card)
    if edge is not None:
        shapes.append(
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": edge, "y1": edge,
             "line": {"color": palette.AROUSAL[0], "width": 1.5, "dash": "dash"}}
        )  # fmt: skip
    zero = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 0, "layer": "below"}
    shapes.append(zero | {"line": {"color": palette.NULL[0], "width": 1}})
    span = max(doses) - min(doses) or 1.0
    plot = figure(
        [_line(points, gates, times, unit)],
        x=axis(DOSE_SHORT, range=[min(doses) - span * 0.05, max(doses) + span * 0.05], **dose_ticks(doses, most=6)),
        y=axis(f"change, {unit}", range=[low - air, high + air], nticks=6),
        shapes=shapes,
        showlegend=False,
        margin={"l": 8, "r": 10, "t": 10, "b": 8},
        hovermode="closest",
    )
    states = ", ".join(f"{dose(gate.dose)} {gate.state}" for gate in gates)
    limited = "no limit is set" if edge is None else f"limit {signed(edge)} {unit}"
    first, last = points[0], points[-1]
    alt = (
        f"{title} by dose along {card.direction}, {limited}. {interval(first.estimate, times)} {unit} at dose "
        f"{dose(first.dose)}, {interval(last.estimate, times)} at {dose(last.dose)}. {states}"
    )
    return Figure(name, title, (("", plot),), _caption(edge, unit, rising), alt, 230, 250, classes="small")


def _caption(edge: float | None, unit: str, rising: bool) -> str:
    if edge is None:
        return "No limit is set: for information."
    return f"Limit: a {'rise' if rising else 'drop'} of {signed(abs(edge)).lstrip('+')} {unit}."


def _title(curve: Curve, gates: Sequence[Gate]) -> str:
    kind = gates[0].name.split(":")[0] if gates else ""
    if kind in ("perplexity", "repetition", "endings"):
        return {"perplexity": "Log-perplexity", "repetition": "Distinct 2-grams", "endings": "Ends properly"}[kind]
    text = curve.outcome_name[:1].upper() + curve.outcome_name[1:]
    return text if curve.behaviour in text else f"{text} ({curve.behaviour})"


def _line(points: Sequence[Any], gates: Sequence[Gate], times: float, unit: str) -> go.Scatter:
    states = {gate.dose: gate.state for gate in gates}
    look = {"holds": "circle", "fails": "x", "unclear": "circle-open", "missing": "circle-open"}
    colour = palette.VALENCE[0]
    estimates = [
        point.estimate.model_copy(
            update={
                end: None if (value := getattr(point.estimate, end)) is None else value * times
                for end in ("value", "low", "high")
            }
        )
        for point in points
    ]
    return go.Scatter(
        x=[point.dose for point in points],
        y=[one.value for one in estimates],
        error_y=bars(estimates, colour),
        mode="lines+markers",
        line={"color": colour, "width": 1.6},
        marker={
            "size": 7,
            "color": [palette.AROUSAL[0] if states.get(p.dose) == "fails" else colour for p in points],
            "symbol": [look[states.get(point.dose, "holds")] for point in points],
        },
        hovertext=[
            plot_text(f"dose {dose(p.dose)}: {interval(one)} {unit}, n = {p.n}")
            + (f"<br>{states[p.dose]}" if p.dose in states else "")
            for p, one in zip(points, estimates, strict=True)
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
            "Change with its 95% interval, in points (perplexity: nats a token). ✓ the bad side is within the limit; "
            "× all of it is beyond; ? the interval holds the limit, or cannot be computed.",
            ["Limit on", *(dose(value) for value in doses)],
            rows,
            class_="wide",
        ),
    )


def _named(name: str, limit: float) -> str:
    shown = f"{limit:g} nats" if name.startswith("perplexity") else f"{100 * limit:g} points"
    return f"{name}, {shown}"


def _state(gate: Gate | None) -> Child:
    if gate is None or gate.state == "missing":
        return el("span", NOTHING, " missing", class_="soft")
    sign, words = STATES[gate.state]
    times = 1.0 if gate.name.startswith("perplexity") else 100.0
    detail = el("small", interval(gate.change, times))
    return el("span", el("span", sign, aria_hidden="true"), f" {words}", el("br"), detail, class_=f"gate {gate.state}")
