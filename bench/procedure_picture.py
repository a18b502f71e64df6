"""The picture of the procedure in docs/statistics.md, from one simulated experiment.

    python bench/procedure_picture.py [--out docs/procedure.svg] [--seed 0]

Outcomes are drawn with a known truth: steering moves them by 36 points between the ends of the window, and accuracy
falls at dose 0.2. Every interval, p and the answer come from the package's own functions.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np

from heartstrings import stats
from heartstrings.experiment.plan import Thresholds
from heartstrings.stats.estimate import estimate
from heartstrings.stats.intervals import Interval
from heartstrings.verdict.decision import Evidence, decide_answer
from heartstrings.verdict.results import Answer, Gate

DOSES = (-0.2, -0.1, 0.0, 0.1, 0.2)
STEERED = tuple(dose for dose in DOSES if dose)
SITUATIONS, PROBES, CONTROLS = 40, 400, 40
LIMITS = Thresholds()
GATES = {"accuracy": LIMITS.accuracy_drop, "harm": LIMITS.harm_rise, "coherence": LIMITS.log_perplexity_rise}
"""Each with its limit."""


@dataclass(frozen=True)
class Experiment:
    """What one run would show."""

    by_dose: dict[float, Interval]
    effect: Interval
    controls: dict[str, np.ndarray]
    p: float
    bounds: dict[str, dict[float, float]]
    """By gate and dose: the bound on the bad side, in units of the limit."""
    reach: tuple[float, float]
    answer: str


def simulate(seed: int) -> Experiment:
    draw = np.random.default_rng(seed)
    level, own = draw.normal(0.45, 0.05, SITUATIONS), draw.normal(0, 0.05, SITUATIONS)

    def outcomes(strength: float) -> np.ndarray:
        """[situation, dose]"""
        pushed = np.outer(strength + own, np.array(DOSES) / 0.2)
        return np.clip(level[:, None] + pushed + draw.normal(0, 0.02, pushed.shape), 0, 1)

    table = outcomes(0.18)
    change = {dose: stats.paired_change(table[:, 2], table[:, DOSES.index(dose)], level=0.90) for dose in STEERED}
    effect = _line(table)
    controls = {
        kind: np.array([_line(outcomes(strength)).value for strength in draw.normal(0, spread, CONTROLS)], dtype=float)
        for kind, spread in (("topic", 0.05), ("natural", 0.035))
    }
    p = max(stats.p_value(effect.value, sizes) or 1.0 for sizes in controls.values())
    costs = {dose: _costs(draw, dose) for dose in STEERED}
    bounds = {
        name: {dose: float(costs[dose][name].high or 0.0) / limit for dose in STEERED} for name, limit in GATES.items()
    }
    sides = _side(bounds, -1), _side(bounds, 1)
    evidence = Evidence(
        encoded="encoded", effect=effect, at_doses=tuple(change.values()), p=p, gap=Interval(None, None, None),
        exceeds_matched=None, matched_asked=False,
        control_bounds=tuple(float(np.quantile(abs(sizes), 0.95)) for sizes in controls.values()), collapsed=False,
        negative_side=sides[0], positive_side=sides[1], within_range=effect, unfinished=(),
        first=tuple(
            Gate(dose=dose, name=name, change=estimate(costs[dose][name]), limit=limit,
                 state="holds" if bounds[name][dose] < 1 else "unclear")
            for name, limit in GATES.items() for dose in (-0.1, 0.1)
        ),
    )  # fmt: skip
    reach = (sides[0] or 0.0, sides[1] or 0.0)
    return Experiment(change, effect, controls, p, bounds, reach, decide_answer(evidence, LIMITS)[0])


def _line(table: np.ndarray) -> Interval:
    scenario = np.repeat(np.arange(len(table)), len(DOSES))
    return stats.effect(np.tile(DOSES, len(table)), table.ravel(), scenario)


def _costs(draw: np.random.Generator, dose: float) -> dict[str, Interval]:
    """What gets worse at a dose, each with both bounds at 95%."""
    right = (draw.random(PROBES) < 0.8).astype(float)
    lost = draw.random(PROBES) < (0.075 if dose == 0.2 else 0.006)
    harm = np.full(PROBES // 4, 0.02)
    loss = draw.normal(3.0, 0.3, SITUATIONS)
    return {
        "accuracy": stats.paired_change(np.where(lost, 0.0, right), right, level=0.90),
        "harm": stats.bounded_change(harm, harm + 0.01 * abs(dose) * draw.random(len(harm))),
        "coherence": stats.paired_change(loss, loss + draw.normal(6.0 * dose**2, 0.25, SITUATIONS), level=0.90),
    }


def _side(bounds: dict[str, dict[float, float]], sign: int) -> float | None:
    reach = None
    for dose in sorted((dose for dose in STEERED if dose * sign > 0), key=abs):
        if any(gate[dose] >= 1 for gate in bounds.values()):
            break
        reach = dose
    return reach


# Drawing. Colours are Okabe and Ito's, told apart by shape as well.

BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
STYLE = f"""
text {{ font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", Helvetica, Arial, sans-serif; fill: #24292f; }}
.page {{ fill: #ffffff; stroke: #d0d7de; }}
.title {{ font-size: 15px; font-weight: 700; }}
.small, .said {{ font-size: 12px; }}
.small {{ fill: #57606a; }}
.chosen {{ font-weight: 700; fill: #ffffff; }}
.axis {{ stroke: #6e7781; stroke-width: 1; fill: none; }}
.limit {{ stroke: #24292f; stroke-width: 1.2; stroke-dasharray: 4 3; }}
.arrow {{ stroke: #57606a; stroke-width: 2; fill: none; }}
.head {{ fill: #57606a; }}
.band {{ fill: #8c959f; fill-opacity: 0.25; }}
.range {{ fill: {GREEN}; fill-opacity: 0.18; }}
.box {{ fill: none; stroke: #8c959f; }}
.answer {{ fill: {BLUE}; stroke: {BLUE}; }}
.select {{ fill: {ORANGE}; }} .report {{ fill: {BLUE}; }} .empty {{ fill: none; stroke: #8c959f; stroke-opacity: 0.5; }}
.own {{ fill: {BLUE}; stroke: {BLUE}; stroke-width: 2; }}
.topic {{ fill: {ORANGE}; fill-opacity: 0.75; }} .natural {{ fill: {GREEN}; fill-opacity: 0.75; }}
.holds {{ fill: {BLUE}; }} .over {{ fill: {RED}; }}
@media (prefers-color-scheme: dark) {{
text {{ fill: #e6edf3; }} .page {{ fill: #0d1117; stroke: #30363d; }} .small {{ fill: #9da7b1; }}
.limit {{ stroke: #e6edf3; }} .axis, .arrow {{ stroke: #9da7b1; }} .head {{ fill: #9da7b1; }}
.report, .own, .holds {{ fill: #56b4e9; }} .own {{ stroke: #56b4e9; }} .range {{ fill-opacity: 0.35; }}
}}"""
WIDTH, HEIGHT = 1080, 320
TOP, BOTTOM = 66.0, 232.0
"""Of every plot."""


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "middle") -> str:
    return f'<text x="{x:.4g}" y="{y:.4g}" text-anchor="{anchor}" class="{kind}">{words}</text>'


def rect(x: float, y: float, width: float, height: float, kind: str, radius: float = 0) -> str:
    return f'<rect x="{x:.4g}" y="{y:.4g}" width="{width:.4g}" height="{height:.4g}" rx="{radius}" class="{kind}"/>'


def circle(x: float, y: float, radius: float, kind: str) -> str:
    return f'<circle cx="{x:.4g}" cy="{y:.4g}" r="{radius:g}" class="{kind}"/>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "axis") -> str:
    return f'<line x1="{x1:.4g}" y1="{y1:.4g}" x2="{x2:.4g}" y2="{y2:.4g}" class="{kind}"/>'


def head(x: float, width: float, title: str, *said: str) -> list[str]:
    """Title above and caption below a panel."""
    middle = x + width / 2
    return [text(middle, 34, title, "title"),
            *(text(middle, 281 + 18 * at, words, "said") for at, words in enumerate(said))]  # fmt: skip


def arrow(x: float) -> list[str]:
    y = (TOP + BOTTOM) / 2
    return [line(x, y, x + 16, y, "arrow"),
            f'<path d="M{x + 14:.4g} {y - 6:.4g} l10 6 l-10 6 z" class="head"/>']  # fmt: skip


def dose_name(dose: float) -> str:
    return f"{dose:g}".replace("-", "−").replace("0.", ".")


def dose_axis(x: float, width: float) -> tuple[dict[float, float], list[str]]:
    """Place of each dose, and the labels under the plot."""
    at = {dose: x + width * (0.1 + 0.8 * (dose - DOSES[0]) / (DOSES[-1] - DOSES[0])) for dose in DOSES}
    names = [text(place, BOTTOM + 16, dose_name(dose), "small") for dose, place in at.items()]
    return at, [*names, text(x - 2, BOTTOM + 16, "dose", "small", "end")]


def height_of(points: float, most: float) -> float:
    return (TOP + BOTTOM) / 2 - points / most * (BOTTOM - TOP) / 2


def samples(x: float, width: float) -> list[str]:
    size, step = 10.0, 14.0
    drawn = head(x, width, "Samples", "one half chooses the layer,", "the other half is reported")
    for row in range(12):
        y = TOP + row * step + (6 if row >= 5 else 0) - 4
        for column in range(5):
            chosen = "report" if row >= 5 else "select" if column in (0, 4) else "empty"
            drawn.append(rect(x + 6 + column * step, y, size, size, chosen))
    drawn += [text(x + 84, TOP + 26, "select", "", "start"), text(x + 84, TOP + 42, "half", "", "start"),
              text(x + 84, TOP + 116, "report", "", "start"), text(x + 84, TOP + 132, "half", "", "start"),
              text(x + 39, BOTTOM + 24, "doses", "small"),
              f'<text transform="translate({x - 4:.4g} {(TOP + BOTTOM) / 2:.4g}) rotate(-90)" text-anchor="middle" '
              'class="small">situations</text>']  # fmt: skip
    return drawn


def scale(x: float, width: float, most: float, ticks: Sequence[int]) -> list[str]:
    """A vertical axis in points, with a line at 0."""
    drawn = [line(x, TOP, x, BOTTOM), line(x, height_of(0, most), x + width, height_of(0, most))]
    for tick in ticks:
        name = f"+{tick}" if tick > 0 else str(tick).replace("-", "−")
        drawn.append(text(x - 5, height_of(tick, most) + 4, name, "small", "end"))
    return drawn


def bar(x: float, interval: Interval, most: float) -> list[str]:
    """An interval in points, with caps."""
    low, high = (height_of(100 * float(end or 0.0), most) for end in (interval.low, interval.high))
    return [line(x, low, x, high, "own"), line(x - 4, low, x + 4, low, "own"), line(x - 4, high, x + 4, high, "own")]


def effects(found: Experiment, x: float, width: float) -> list[str]:
    most, left = 26.0, x + 32
    drawn = head(x, width, "Effect by dose", "intervals: t over situations;", "all within the band: a denial")
    at, labels = dose_axis(left, width - 32)
    small = 100 * LIMITS.smallest_effect
    drawn.append(
        rect(left, height_of(small, most), width - 32, height_of(-small, most) - height_of(small, most), "band")
    )
    drawn += scale(left, width - 32, most, (-20, 0, 20)) + labels
    drawn.append(text(x + 2, TOP - 10, "change, points", "small", "start"))
    for dose, interval in found.by_dose.items():
        y = height_of(100 * float(interval.value or 0.0), most)
        drawn += [*bar(at[dose], interval, most), circle(at[dose], y, 4, "own")]
    return drawn


def controls(found: Experiment, x: float, width: float) -> list[str]:
    most, left = 46.0, x + 32
    own = abs(float(found.effect.value or 0.0))
    far = sum(int((abs(sizes) >= own).sum()) for sizes in found.controls.values())
    said = f"{far} move as far" if far else "none moves as far"
    p = f"{found.p:.3f}".removeprefix("0")
    drawn = head(x, width, "Against controls", f"{CONTROLS} of each kind;", f"{said}: p = {p}")
    drawn += scale(left, width - 32, most, (-40, 0, 40))
    drawn.append(text(x + 2, TOP - 10, "change, points", "small", "start"))
    places = {
        name: left + (width - 32) * share for name, share in (("direction", 0.17), ("topic", 0.5), ("natural", 0.83))
    }
    for name, place in places.items():
        drawn.append(text(place, BOTTOM + 16, name, "small"))
    drawn += bar(places["direction"], found.effect, most)
    y = height_of(100 * float(found.effect.value or 0.0), most)
    drawn.append(f'<path d="M{places["direction"]:.4g} {y - 7:.4g} l7 7 l-7 7 l-7 -7 z" class="own"/>')
    for kind, sizes in found.controls.items():
        for index, size in enumerate(sizes):
            spread = ((index * 7) % 11 - 5) * 2.6  # so that dots lie beside one another
            drawn.append(circle(places[kind] + spread, height_of(100 * size, most), 2.6, kind))
    return drawn


def gates(found: Experiment, x: float, width: float) -> list[str]:
    drawn = head(x, width, "Gates", "a bound under its limit holds;", "the range ends where one does not")
    left, room = x + 74, width - 74
    at, labels = dose_axis(left, room)
    step = at[0.1] - at[0.0]
    low, high = at[found.reach[0]] - step * 0.45, at[found.reach[1]] + step * 0.45
    drawn += [
        rect(low, TOP - 6, high - low, BOTTOM - TOP + 6, "range"),
        text((low + high) / 2, TOP - 12, "range", "small"),
        *labels,
    ]
    tall = (BOTTOM - TOP) / len(GATES)
    for row, (name, bounds) in enumerate(found.bounds.items()):
        base, unit = TOP + (row + 1) * tall, tall * 0.6
        drawn += [text(left - 6, base - unit + 4, "limit", "small", "end"), text(left - 6, base - 6, name, "", "end")]
        for dose, bound in bounds.items():
            size = unit * min(max(bound, 0.04), 1.45)
            drawn.append(rect(at[dose] - 8, base - size, 16, size, "holds" if bound < 1 else "over"))
            if bound >= 1:
                drawn.append(text(at[dose], base - size / 2 + 5, "×", "chosen"))
        drawn += [line(left, base, left + room, base), line(left, base - unit, left + room, base - unit, "limit")]
    return drawn


def answers(found: Experiment, x: float, width: float) -> list[str]:
    drawn = head(x, width, "Answer", "one of six:", "the first rule that applies")
    names = get_args(Answer)
    step = (BOTTOM - TOP + 22) / len(names)
    reach = f": {dose_name(found.reach[0])} to {dose_name(found.reach[1])}" if found.answer == "controls" else ""
    for row, name in enumerate(names):
        mine = name == found.answer
        y = TOP - 8 + row * step
        drawn.append(rect(x, y, width, step - 7, "answer" if mine else "box", 5))
        drawn.append(
            text(x + width / 2, y + (step - 7) / 2 + 4.5, name + (reach if mine else ""), "chosen" if mine else "")
        )
    return drawn


def picture(found: Experiment) -> str:
    panels = ((28.0, 134.0), (192.0, 188.0), (412.0, 182.0), (624.0, 206.0), (868.0, 190.0))
    drawn = [rect(0.5, 0.5, WIDTH - 1, HEIGHT - 1, "page", 8), *samples(*panels[0])]
    for make, panel in zip((effects, controls, gates, answers), panels[1:], strict=True):
        drawn += make(found, *panel)
    for (x, width), (right, _) in pairwise(panels):
        drawn += arrow((x + width + right) / 2 - 13)
    title = "From samples to the answer: samples, effect by dose, control directions, gates, one of six answers"
    body = "\n".join(drawn)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
            f'role="img">\n<title>{title}</title>\n<style>{STYLE}\n</style>\n{body}\n</svg>\n')  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs" / "procedure.svg")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = simulate(options.seed)
    options.out.write_text(picture(found), encoding="utf-8")
    change = 100 * float(found.effect.value or 0.0)
    print(f"{options.out}: {found.answer}, {change:+.0f} points, p = {found.p:.3f}, range {found.reach}")


if __name__ == "__main__":
    main()
