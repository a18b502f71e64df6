"""Judges of free text: were they to be believed, what could they not grade, and where; or why there are no grades."""

from __future__ import annotations

from pydantic import ValidationError

from heartstrings.behaviours.base import Judged
from heartstrings.behaviours.suites import every_behaviour
from heartstrings.experiment.judging import FILE, JudgeReport, read_report
from heartstrings.report.markup import Child, Html, el, join, table
from heartstrings.report.page import Section, missing
from heartstrings.report.verdict_files import VerdictFiles
from heartstrings.report.verdict_words import points, share
from heartstrings.report.words import NOTHING, count, number

TITLE = "Judges"


def judged_section(files: VerdictFiles) -> Section | None:
    """How each judge did on texts of known grades, what it cost, and the share of the run's texts it could grade by
    condition. Without a judge: the answers that none could grade; None where there are no such answers."""
    planned = bool((files.plan or {}).get("judges"))
    try:
        report = read_report(files.folder)
    except (ValidationError, OSError):
        return Section("judges", TITLE, missing("No record of the judges.", f"{FILE} cannot be read."))
    if report is None and planned:
        why = f"{FILE} is not there: the stage of judges is not finished. The same command goes on."
        return Section("judges", TITLE, join(missing("No record of the judges.", why), _open(files)))
    if report is None:
        left = _open(files)
        why = "The plan names no judge, and these texts are beyond rules. A run with --judge grades them."
        return None if left is None else Section("judges", TITLE, join(missing("No judge was asked.", why), left))
    if report.refused is not None:
        why = f"{report.refused[:1].upper()}{report.refused[1:]}. It was shown no text of this run."
        return Section("judges", TITLE, join(missing("The judge was refused.", why), _tried(report), _spent(report)))
    body = join(
        el(
            "p",
            f"What no rule could grade was read by {report.judge}, without knowing the condition. "
            f"{count(report.texts)} different texts of {count(report.samples)} samples were judged; "
            f"{count(report.unreadable)} samples have an answer that could not be read, {count(report.unanswered)} "
            "none. These are missing, not 0. What each judge wrote is in judges.sqlite.",
        ),
        _spent(report),
        _tried(report) if report.tried else missing("No judge was tried.", "The rules graded every text."),
        _conditions(report) if report.conditions else None,
    )
    return Section("judges", TITLE, body)


def _open(files: VerdictFiles) -> Html | None:
    """Answers without a grade of behaviours that a judge grades; none where the rules graded all."""
    names = {name for name, one in every_behaviour().items() if isinstance(one, Judged) and one.decides}
    outcomes = {name: one.outcome_name for name, one in every_behaviour().items() if name in names}
    rows: list[list[Child]] = []
    for card in files.verdict.answers:
        for curve in (card.curve, *card.costs):
            if outcomes.get(curve.behaviour) != curve.outcome_name:
                continue
            lost, graded = (sum(getattr(point, name) for point in curve.points) for name in ("missing", "n"))
            if lost:
                rows.append([curve.behaviour, files.title(card), count(lost), count(lost + graded)])
    if not rows:
        return None
    return table(
        "Answers without a grade, at all doses along a direction and unsteered. Those that fell apart are among them.",
        ["Behaviour", "Direction", "No grade", "Answers"],
        rows,
        numeric=(2, 3),
    )


def _spent(report: JudgeReport) -> Html | None:
    if not report.spent:
        return None
    parts = [
        f"{one.judge}: {count(one.calls)} calls" + (f", {one.money:.4g} in the unit of its prices" if one.money else "")
        for one in report.spent
    ]
    return el("p", el("strong", "Spent: "), "; ".join(parts), ". Trials and earlier runs in this folder are included.")


def _tried(report: JudgeReport) -> Html:
    rows: list[list[Child]] = []
    for one in report.tried:
        bias = "; ".join(f"{name}: {points(value)}" for name, value in one.bias.items()) or NOTHING
        between = "; ".join(f"{name}: {number(value)}" for name, value in one.between.items()) or NOTHING
        rows.append([
            one.rubric, str(one.n), share(one.accuracy), share(one.sensitivity), share(one.specificity),
            number(one.kappa), between, bias, f"{one.unreadable + one.unanswered}",
        ])  # fmt: skip
    head = [
        "Rubric", "Texts", "Accuracy", "Sensitivity", "Specificity", "Kappa", "Kappa between judges",
        "Error rate, points", "No score",
    ]  # fmt: skip
    return table(
        "On texts of known grades, before the run's. Kappa is Cohen's, against the true grades. Error rate: on one "
        "sort of texts minus that on another. Intervals are 95%.",
        head, rows, numeric=(1, 2, 3, 4, 5, 8),
    )  # fmt: skip


def _conditions(report: JudgeReport) -> Html:
    return table(
        "Share of the texts shown to the judge that it could grade, by condition. Where it loses more under steering "
        "than without, rates are of different texts.",
        ["Behaviour", "Condition", "Texts", "Graded", "Against unsteered, points"],
        [
            [one.behaviour, one.condition, count(one.n), share(one.graded),
             NOTHING if one.change is None else points(one.change)]
            for one in report.conditions
        ],
        numeric=(2, 3, 4),
    )  # fmt: skip
