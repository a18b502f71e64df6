"""Judges of free text: their own report, and the answers that only a judge could grade."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from heartstrings.behaviours.base import Judged
from heartstrings.behaviours.suites import every_behaviour
from heartstrings.experiment.judging import JudgeReport, read_report
from heartstrings.report.verdict_files import VerdictFiles

State = Literal["unreadable", "unfinished", "none", "refused", "asked"]


@dataclass(frozen=True)
class Judging:
    """`ungraded`: behaviour, direction, answers without a grade, answers."""

    state: State
    report: JudgeReport | None = None
    ungraded: tuple[tuple[str, str, int, int], ...] = ()


def judging(files: VerdictFiles) -> Judging | None:
    """What is known about the judges; None where no judge was planned and rules graded every answer."""
    planned = bool((files.plan or {}).get("judges"))
    try:
        report = read_report(files.folder)
    except (ValidationError, OSError):
        return Judging("unreadable")
    if report is not None:
        return Judging("asked" if report.refused is None else "refused", report)
    ungraded = tuple(_ungraded(files))
    return Judging("unfinished" if planned else "none", None, ungraded) if planned or ungraded else None


def _ungraded(files: VerdictFiles) -> list[tuple[str, str, int, int]]:
    """Answers without a grade, for behaviours that a judge grades."""
    outcomes = {
        name: behaviour.outcome_name
        for name, behaviour in every_behaviour().items()
        if isinstance(behaviour, Judged) and behaviour.decides
    }
    ungraded = []
    for card in files.verdict.answers:
        for curve in (card.curve, *card.costs):
            lost, graded = (sum(getattr(point, name) for point in curve.points) for name in ("missing", "n"))
            if lost and outcomes.get(curve.behaviour) == curve.outcome_name:
                ungraded.append((curve.behaviour, files.title(card), lost, lost + graded))
    return ungraded
