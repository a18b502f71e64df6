"""What the command line prints of experiments: a table, a sentence for each answer, the path of the report last."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heartstrings import experiment, report, verdict, workflows
from heartstrings.cli import _console as console
from heartstrings.cli._summary import ORGANISM_NOTE, Given
from heartstrings.engines.hf.named import short_name

if TYPE_CHECKING:
    from heartstrings.stats.estimate import Estimate
    from heartstrings.verdict.pool_results import PoolReport
    from heartstrings.verdict.results import AnswerCard, Verdict
    from heartstrings.workflows.commands import Evaluation, Planned
    from heartstrings.workflows.run import Run, Runs
    from heartstrings.workflows.side_by_side import SideBySide

COLUMNS = ["model, direction", "block", "answer", "dose range", "effect, points", "p", "samples"]


def runs(finished: Run | Runs, given: Given, json: bool) -> None:
    """The answers of one model or several."""
    several = list(finished.runs.values()) if isinstance(finished, workflows.Runs) else [finished]
    verdicts([(run.verdict, run.folder) for run in several], finished.report, json=json)


def verdicts(with_folders: Sequence[tuple[Verdict, Path]], page: Path, *, json: bool) -> None:
    """The answers of one model or several, with the folder that each verdict was written to."""
    if json:
        console.emit_json(as_object(with_folders, page))
        return
    cards = [card for verdict, _ in with_folders for card in verdict.answers]
    first = with_folders[0][0]
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
    for decision, folder in with_folders:
        if decision.doses:
            console.say(
                f"{folder.name}: {decision.doses.sentence}" if len(with_folders) > 1 else decision.doses.sentence
            )
    for _, folder in with_folders:
        precision = workflows.recorded(folder / workflows.ATLAS / "vectors")
        if precision is not None:
            console.say(f"{folder.name}: {precision.sentence}" if len(with_folders) > 1 else precision.sentence)
    console.say(first.power)
    for note in dict.fromkeys(note for decision, _ in with_folders for note in decision.notes):
        console.warn(note)
    for note in dict.fromkeys(note for card in cards for note in card.missing):
        console.warn(note)
    if any(verdict.organism for verdict, _ in with_folders):
        console.say(ORGANISM_NOTE)
    console.out.print(str(page), highlight=False)


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


def as_object(with_folders: Sequence[tuple[Verdict, Path]], page: Path) -> dict[str, Any]:
    """For machines: every answer without its curves, and where the whole is."""
    heavy = {"controls", "curve", "costs", "gates", "reliability", "layers", "prompting", "preferences", "texts"}
    return {
        "answers": [
            jsonlib.loads(card.model_dump_json(exclude=heavy))
            for verdict, _ in with_folders
            for card in verdict.answers
        ],
        "doses": [verdict.doses and verdict.doses.sentence for verdict, _ in with_folders],
        "verdicts": [str(folder / "verdict.json") for _, folder in with_folders],
        "report": str(page),
    }


def planned(proposal: Planned, given: Given, json: bool) -> None:
    """What a plan would cost and could find, before its first sample."""
    plan, estimate, written = proposal.plan, proposal.estimate, given["out"]
    if json:
        value = {"plan": plan.model_dump(mode="json"), "hash": plan.hash, "estimate": estimate.model_dump(mode="json")}
        console.emit_json(value | {"file": str(written) if written else None})
        return
    facts = {
        name: f"{value:,}" if isinstance(value, int) else value
        for name, value in estimate.model_dump(mode="json").items()
        if name not in ("power", "seconds", "seconds_error", "idle_seconds", "gpu_hours", "notes")
    }
    seconds, hours = estimate.seconds, estimate.gpu_hours
    facts["time on this machine"] = None if seconds is None else _time(seconds, estimate.seconds_error)
    if estimate.idle_seconds is not None:
        facts["time if it were idle"] = _time(estimate.idle_seconds, None)
    facts["GPU-hours, at most"] = None if hours is None else f"{hours:.2g}"
    console.show_facts(f"Plan for {plan.model}, {plan.hash[:12]}", facts)
    console.say(estimate.power)
    for note in estimate.notes:
        console.say(f"Note: {note}.")
    if written is not None:
        console.out.print(str(written), highlight=False)


def _time(seconds: float, error: float | None) -> str:
    """`about 1:05:20`, with the sampling error of the estimate (two standard errors) where it is known."""
    about = f"about {timedelta(seconds=round(seconds))}"
    return f"{about} (within {2 * error / seconds:.0%})" if error and seconds else about


def _row(card: AnswerCard) -> list[str]:
    return [
        f"{short_name(card.model).removeprefix('organism:')}, {card.direction}",
        str(card.layer),
        card.answer,
        "–" if card.range is None else f"{card.range[0]:g} to {card.range[1]:g}",
        points(card.told) + card.told_where,
        _p(card.p),
        f"{card.samples:,}",
    ]


def _p(p: float | None) -> str:
    """`.042`, `< .001`, `1`."""
    if p is None:
        return "–"
    return "< .001" if p < 0.0005 else f"{p:.3f}".lstrip("0") if p < 0.9995 else "1"


def points(value: Estimate) -> str:
    """A fraction with its interval, in percentage points: `+75 [+72, +78]`; with a decimal where all are under 10."""
    ends = [100 * end for end in (value.value, value.low, value.high) if end is not None]
    if value.value is None:
        return "–"
    digits = 1 if max(map(abs, ends)) < 10 else 0
    shown = [f"{end:+.{digits}f}" for end in ends]
    return shown[0] if len(shown) < 3 else f"{shown[0]} [{shown[1]}, {shown[2]}]"


def _controls(cards: Sequence[AnswerCard]) -> str:
    numbers = sorted({sum(len(group.slopes) for group in card.controls) for card in cards})
    return " or ".join(str(number) for number in numbers)


def evaluation(made: Evaluation, given: Given, json: bool) -> None:
    """The mean outcome of every cell that is no control, with its interval."""
    cells = made.cells
    if json:
        console.emit_json({"cells": [asdict(cell) for cell in cells], "ledger": str(made.ledger)})
        return
    rows = [
        [
            f"{cell.behaviour}, {cell.direction or 'unsteered'}",
            "–" if cell.layer < 0 else str(cell.layer),
            f"{cell.dose:+g}",
            rate(cell.mean, cell.low, cell.high),
            rate(cell.valid),
            str(cell.n),
        ]
        for cell in cells
    ]
    columns = ["behaviour, direction", "block", "dose", "mean outcome, %", "valid, %", "samples"]
    console.show("Outcomes by dose", columns, rows, caption="95% intervals over scenarios")
    least = experiment.Thresholds().least_valid
    silent = [cell.behaviour for cell in cells if not cell.direction and cell.valid is not None and cell.valid < least]
    if silent:
        console.warn(
            f"unsteered, under {100 * least:.0f}% of the answers to {', '.join(silent)} are valid: the model does not "
            "answer these questions, and its outcomes say nothing"
        )
    console.out.print(str(made.ledger), highlight=False)


def rate(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """A fraction in percent: `43 [39, 47]`."""
    if value is None:
        return "–"
    middle = f"{100 * value:.0f}"
    return middle if low is None or high is None else f"{middle} [{100 * low:.0f}, {100 * high:.0f}]"


def texts(steered: SideBySide, given: Given, json: bool) -> None:
    """Completions of one prompt at several doses."""
    for note in steered.notes:
        console.warn(note)
    if json:
        console.emit_json(asdict(steered))
        return
    console.say(steered.steering)
    rows = [
        [f"{text.dose:+g}", text.text.strip() + ("" if text.finish != "length" else " …")] for text in steered.texts
    ]
    console.show(steered.prompt, ["dose", "text"], rows, left=True)


def logs(paths: Sequence[Path], given: Given, json: bool) -> None:
    """Where the logs for `inspect view` are."""
    if json:
        console.emit_json({"logs": [str(path) for path in paths]})
        return
    console.say(f"{len(paths)} logs. Look at them with: inspect view --log-dir {given['out']}")
    console.out.print(str(given["out"]), highlight=False)


def pool(pooled: PoolReport, given: Given, json: bool) -> None:
    """p of each direction against its pool, beside that of the run."""
    folder = given["folder"]
    cards = {(card.behaviour, card.direction): card for card in report.read_verdict(folder).verdict.answers}
    if json:
        value = pooled.model_dump(mode="json")
        for test in value["tests"]:
            card = cards[test["behaviour"], test["direction"]]
            test["run"] = {"p_uncorrected": card.p_uncorrected, "p": card.p}
        files = {"file": str(folder / verdict.FILE), "report": str(folder / "report.html")}
        console.emit_json(value | files)
        return
    _pool_table(pooled, cards)
    for left in pooled.left_out:
        console.say(f"Left out: {left.behaviour}, {left.direction}: {left.reason}.")
    tests = len(pooled.tests) + len(pooled.left_out)
    least = max((kind.smallest_p for test in pooled.tests for kind in test.kinds), default=0.0)
    if least * tests >= pooled.alpha:
        console.warn(
            f"with these draws the smallest p that some direction can have is {least:.2g}; times {tests} tests that is "
            f"not under {pooled.alpha:g}"
        )
    console.say(
        f"This changes no answer: the verdict rests on the run's own controls. {pooled.samples:,} samples; "
        f"this call took {pooled.seconds:,.0f} seconds, {pooled.screen_seconds:,.0f} of them for the screen."
    )
    console.out.print(str(folder / "report.html"), highlight=False)


def _pool_table(pooled: PoolReport, cards: Mapping[tuple[str, str], AnswerCard]) -> None:
    rows = []
    for test in pooled.tests:
        card = cards[test.behaviour, test.direction]
        steered = ", ".join(f"{kind.kind} {kind.controls}" for kind in test.kinds)
        screens = ", ".join(f"{kind.kind} {report.number(kind.correlation)}" for kind in test.kinds)
        ps = [report.p_value(p) for p in (card.p_uncorrected, card.p, test.p, test.p_corrected)]
        rows.append([test.behaviour, test.direction, *ps, steered, screens])
    console.show(
        f"Against {pooled.size:,} controls of each kind, {pooled.draws} draws from each",
        [
            "behaviour",
            "direction",
            "p of the run",
            "corrected",
            "p from the pool",
            "corrected",
            "controls run",
            "screen's r",
        ],
        rows,
        caption="p: the largest over kinds; corrected over declared behaviours and directions (Holm in the pool); r: "
        "of the screen with the change of the controls run",
    )
