"""Verdicts on several models side by side: the answers as a table, small multiples of dose and response."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from heartstrings.core.errors import InputError
from heartstrings.report.comparison import ORGANISMS
from heartstrings.report.dose import dose_figure
from heartstrings.report.markup import Child, Html, el, join, table
from heartstrings.report.page import Figure, Section, assemble, missing, write
from heartstrings.report.single import KNOWN_TRUTH
from heartstrings.report.verdict_files import VerdictFiles, read_verdict
from heartstrings.report.verdict_page import answers_table, verdict_footer
from heartstrings.report.words import count


def render_overview(folders: Sequence[str | Path], out: str | Path) -> Path:
    """Write one HTML file that sets the verdicts of several runs side by side, and return its path.

    Raises:
        InputError: no folder given, or one whose `verdict.json` cannot be read.
    """
    if not folders:
        raise InputError("no verdicts to show side by side", "at least one folder written by `heartstrings run`")
    out = Path(out)
    return write(out, page([read_verdict(folder) for folder in folders], out))


def page(runs: Sequence[VerdictFiles], out: Path) -> str:
    """The document as text; `out` is where it will stand, for the links to the single reports."""
    labels = _labels(runs)
    organisms = any(files.verdict.organism for files in runs)
    links = [_link(files, label, out) for files, label in zip(runs, labels, strict=True)]
    rows = [(link, files, card) for link, files in zip(links, runs, strict=True) for card in files.verdict.answers]
    header = join(
        el("p", "Does steering control behaviour?", class_="kicker"),
        el("h1", ", ".join(labels) if len(", ".join(labels)) < 60 else f"{len(labels)} models side by side"),
        answers_table(rows, truths=KNOWN_TRUTH if organisms else None),
        el("div", el("p", ORGANISMS), class_="notice", role="note") if organisms else None,
        *(
            missing(f"{label}: no answer.", "Its verdict holds none.")
            for files, label in zip(runs, labels, strict=True)
            if not files.verdict.answers
        ),
    )
    sections = [_dose(runs, labels), _sentences(runs, labels), _plans(runs, labels)]
    return assemble(title="Verdicts side by side", header=header, sections=sections, footer=verdict_footer())


def _labels(runs: Sequence[VerdictFiles]) -> list[str]:
    """Model names, made different by folder where two are the same."""
    names = [files.name for files in runs]
    labels = [
        name if names.count(name) == 1 else f"{name} ({files.folder.name})"
        for name, files in zip(names, runs, strict=True)
    ]
    return [label if labels.count(label) == 1 else f"{label} {place}" for place, label in enumerate(labels, start=1)]


def _link(files: VerdictFiles, label: str, out: Path) -> Child:
    report = files.folder / "report.html"
    # The overview itself may stand where a single report would.
    if not report.is_file() or report.resolve() == out.resolve():
        return label
    relative = os.path.relpath(report.resolve(), out.resolve().parent)
    return el("a", label, href=Path(relative).as_posix().replace("%", "%25").replace("#", "%23").replace("?", "%3F"))


def _dose(runs: Sequence[VerdictFiles], labels: Sequence[str]) -> Section:
    parts: list[Child] = []
    figures: list[Figure] = []
    for number, (files, label) in enumerate(zip(runs, labels, strict=True)):
        blocks: list[Html] = []
        for place, card in enumerate(files.verdict.answers):
            title = f"{label}: {files.title(card)}, {card.answer}"
            made = dose_figure(f"run-{number}-{place}", title, card, window=files.window, plain=True)
            if made is None:
                blocks.append(missing(f"{title}: no curve.", "No dose of it carries a graded answer."))
            else:
                figures.append(made)
                blocks.append(made.html())
        parts.append(el("div", blocks, class_="grid"))
    return Section("dose", "Dose and response", join(parts), tuple(figures))


def _sentences(runs: Sequence[VerdictFiles], labels: Sequence[str]) -> Section:
    items: list[Html] = []
    for files, label in zip(runs, labels, strict=True):
        items += [
            el("li", el("strong", f"{label}, {files.title(card)}"), ": ", card.sentence)
            for card in files.verdict.answers
        ]
        items.append(el("li", el("strong", f"{label}, power"), ": ", files.verdict.power))
        items += [el("li", el("strong", label), ": ", note) for note in files.verdict.notes]
        items += [
            el("li", el("strong", f"{label}, {files.title(card)}"), ": missing: ", gap)
            for card in files.verdict.answers
            for gap in card.missing
        ]
    return Section("sentences", "The answers in words", el("ul", items, class_="sentences"))


def _plans(runs: Sequence[VerdictFiles], labels: Sequence[str]) -> Section:
    rows: list[list[Child]] = [
        [
            label,
            el("code", files.verdict.plan_hash),
            str(files.verdict.seed),
            count(sum(card.samples for card in files.verdict.answers)),
        ]
        for files, label in zip(runs, labels, strict=True)
    ]
    head = ["Model", "Plan hash (SHA-256)", "Seed", "Samples, answers added up"]
    return Section("plans", "The plans", table("What was frozen before the first sample.", head, rows, numeric=(2, 3)))
