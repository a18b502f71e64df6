"""What the command line prints when there is a verdict: a table, a sentence an answer, the report's path last."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heartstrings import experiment
from heartstrings.cli import console
from heartstrings.cli.summary import ORGANISM_NOTE
from heartstrings.engines.hf.named import short_name

if TYPE_CHECKING:
    from heartstrings.experiment.dry_run import DryRun
    from heartstrings.experiment.plan import Plan
    from heartstrings.stats.estimate import Estimate
    from heartstrings.verdict.results import AnswerCard, Verdict
    from heartstrings.workflows.run import CellMean
    from heartstrings.workflows.side_by_side import SideBySide

COLUMNS = ["model, direction", "block", "answer", "dose range", "effect, points", "p", "samples"]


def verdicts(found: Sequence[tuple[Verdict, Path]], report: Path, *, json: bool) -> None:
    """The answers of one model or several, with the folder that each verdict was written to."""
    if json:
        console.emit_json(as_object(found, report))
        return
    cards = [card for verdict, _ in found for card in verdict.answers]
    first = found[0][0]
    for line in _three_lines(cards):
        console.say(line)
    effect = "effect: change of the outcome between the ends of the slope window, 95%"
    several = len({card.behaviour for card in cards}) > 1
    console.show(
        "Does steering control behaviour?",
        ["behaviour", *COLUMNS] if several else COLUMNS,
        [[card.behaviour, *_row(card)] if several else _row(card) for card in cards],
        caption=f"{effect}; p against {_controls(cards)} control directions, Holm-corrected over the plan",
    )
    for card in cards:
        console.say(f"{short_name(card.model)}: {card.sentence}")
    for verdict, folder in found:
        if verdict.doses:
            console.say(f"{folder.name}: {verdict.doses.sentence}" if len(found) > 1 else verdict.doses.sentence)
    console.say(first.power)
    for note in dict.fromkeys(note for verdict, _ in found for note in verdict.notes):
        console.warn(note)
    for note in dict.fromkeys(note for card in cards for note in card.missing):
        console.warn(note)
    if any(verdict.organism for verdict, _ in found):
        console.say(ORGANISM_NOTE)
    console.out.print(str(report), highlight=False)


def _three_lines(cards: Sequence[AnswerCard]) -> list[str]:
    """For each direction of `tone`: the opening that moves most, continued unsteered and at both ends of the slope
    window; nothing where there is none."""
    lines: list[str] = []
    for card in cards:
        window = [point.dose for point in (card.controls[0].envelope if card.controls else ())]
        shown = {text.dose: text for text in card.texts if text.clearest}
        doses = [dose for dose in (0.0, min(window, default=0.0), max(window, default=0.0)) if dose in shown]
        if card.behaviour != "tone" or len(set(doses)) < 3:
            continue
        opening = " ".join(shown[0.0].prompt.rsplit("\n", 1)[-1].split())
        lines.append(
            f"{short_name(card.model)}: the opening whose tone moves most along {card.direction}. {opening} ..."
        )
        for dose in doses:
            name = "unsteered" if dose == 0 else f"{card.direction} {dose:+g}"
            lines.append(f"{name:>16}  ... {' '.join(shown[dose].text.split())}")
    return lines


def as_object(found: Sequence[tuple[Verdict, Path]], report: Path) -> dict[str, Any]:
    """For machines: every answer without its curves, and where the whole is."""
    heavy = {"controls", "curve", "costs", "gates", "reliability", "layers", "prompting", "preferences", "texts"}
    return {
        "answers": [
            jsonlib.loads(card.model_dump_json(exclude=heavy)) for verdict, _ in found for card in verdict.answers
        ],
        "doses": [verdict.doses and verdict.doses.sentence for verdict, _ in found],
        "verdicts": [str(folder / "verdict.json") for _, folder in found],
        "report": str(report),
    }


def dry_run(plan: Plan, estimate: DryRun, *, written: Path | None, json: bool) -> None:
    """What a plan would cost and could find, before its first sample."""
    if json:
        value = {"plan": plan.model_dump(mode="json"), "hash": plan.hash, "estimate": estimate.model_dump(mode="json")}
        console.emit_json(value | {"file": str(written) if written else None})
        return
    facts = {
        name: f"{value:,}" if isinstance(value, int) else value
        for name, value in estimate.model_dump(mode="json").items()
        if name not in ("power", "seconds", "gpu_hours", "notes")
    }
    seconds, hours = estimate.seconds, estimate.gpu_hours
    facts["time on this machine"] = None if seconds is None else f"about {timedelta(seconds=round(seconds))}"
    facts["GPU-hours, at most"] = None if hours is None else f"{hours:.2g}"
    console.show_facts(f"Plan for {plan.model}, {plan.hash[:12]}", facts)
    console.say(estimate.power)
    for note in estimate.notes:
        console.say(f"Note: {note}.")
    if written is not None:
        console.out.print(str(written), highlight=False)


def _row(card: AnswerCard) -> list[str]:
    return [
        f"{short_name(card.model).removeprefix('organism:')}, {card.direction}",
        str(card.layer),
        card.answer,
        "–" if card.range is None else f"{card.range[0]:g} to {card.range[1]:g}",
        points(card.told) + card.told_where,
        "–" if card.p is None else f"{card.p:.3f}".lstrip("0") if card.p < 1 else "1",
        f"{card.samples:,}",
    ]


def points(value: Estimate) -> str:
    """A fraction with its interval, in percentage points: `+75 [+72, +78]`; with a decimal where all are under 10."""
    ends = [100 * one for one in (value.value, value.low, value.high) if one is not None]
    if value.value is None:
        return "–"
    digits = 1 if max(map(abs, ends)) < 10 else 0
    shown = [f"{one:+.{digits}f}" for one in ends]
    return shown[0] if len(shown) < 3 else f"{shown[0]} [{shown[1]}, {shown[2]}]"


def _controls(cards: Sequence[AnswerCard]) -> str:
    numbers = sorted({sum(len(group.slopes) for group in card.controls) for card in cards})
    return " or ".join(str(number) for number in numbers)


def cells(found: Sequence[CellMean], ledger: Path, *, json: bool) -> None:
    """The mean outcome of every cell that is no control, with its interval."""
    if json:
        console.emit_json({"cells": [asdict(one) for one in found], "ledger": str(ledger)})
        return
    rows = [
        [f"{one.behaviour}, {one.direction or 'unsteered'}", "–" if one.layer < 0 else str(one.layer), f"{one.dose:+g}",
         rate(one.mean, one.low, one.high), rate(one.valid), str(one.n)]
        for one in found
    ]  # fmt: skip
    columns = ["behaviour, direction", "block", "dose", "mean outcome, %", "valid, %", "samples"]
    console.show("Outcomes by dose", columns, rows, caption="95% intervals over scenarios")
    least = experiment.Thresholds().least_valid
    silent = [one.behaviour for one in found if not one.direction and one.valid is not None and one.valid < least]
    if silent:
        console.warn(
            f"unsteered, under {100 * least:.0f}% of the answers to {', '.join(silent)} are valid: the model does not "
            "answer these questions, and its outcomes say nothing"
        )
    console.out.print(str(ledger), highlight=False)


def rate(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """A fraction in percent: `43 [39, 47]`."""
    if value is None:
        return "–"
    middle = f"{100 * value:.0f}"
    return middle if low is None or high is None else f"{middle} [{100 * low:.0f}, {100 * high:.0f}]"


def texts(found: SideBySide, *, json: bool) -> None:
    """Completions of one prompt at several doses."""
    if json:
        console.emit_json(asdict(found))
        return
    console.say(found.steering)
    rows = [[f"{one.dose:+g}", one.text.strip() + ("" if one.finish != "length" else " …")] for one in found.texts]
    console.show(found.prompt, ["dose", "text"], rows, left=True)
