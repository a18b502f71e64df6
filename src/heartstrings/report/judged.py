"""Judges of free text: were they to be believed, what could they not grade, and where."""

from __future__ import annotations

from pydantic import ValidationError

from heartstrings.judging import FILE, JudgeReport, read_report
from heartstrings.report.markup import Child, Html, el, join, table
from heartstrings.report.page import Section, missing
from heartstrings.report.verdict_files import VerdictFiles
from heartstrings.report.verdict_words import points, share
from heartstrings.report.words import number


def judged_section(files: VerdictFiles) -> Section | None:
    """How each judge did on texts of known grades, and the share of the run's texts it could grade by condition; None
    where the plan has no judge."""
    if not (files.plan or {}).get("judges"):
        return None
    title = "Judges"
    try:
        report = read_report(files.folder)
    except ValidationError:
        return Section("judges", title, missing("No record of the judges.", f"{FILE} cannot be read."))
    if report is None:
        why = f"{FILE} is not there: the stage of judges is not finished. The same command goes on."
        return Section("judges", title, missing("No record of the judges.", why))
    body = join(
        el(
            "p",
            f"What no rule could grade was read by {report.judge}, without knowing the condition. {report.texts:,} "
            f"different texts of {report.samples:,} samples were judged; {report.unreadable:,} samples have an answer "
            f"that could not be read, {report.unanswered:,} none. These are missing, not 0. What each judge wrote is "
            "in judges.sqlite.",
        ),
        _tried(report),
        _conditions(report),
    )
    return Section("judges", title, body)


def _tried(report: JudgeReport) -> Html:
    rows: list[list[Child]] = []
    for one in report.tried:
        bias = "; ".join(f"{name}: {points(value)}" for name, value in one.bias.items()) or "–"
        between = "; ".join(f"{name}: {number(value)}" for name, value in one.between.items()) or "–"
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
        ["Behaviour", "Condition", "Texts", "Graded"],
        [[one.behaviour, one.condition, f"{one.n:,}", share(one.graded)] for one in report.conditions],
        numeric=(2, 3),
    )
