"""Pools of controls in the report: p from many more controls than the run has, beside its own."""

from __future__ import annotations

from heartstrings.core.errors import InputError
from heartstrings.report.markup import Child, Html, el, join, table
from heartstrings.report.page import Section, missing
from heartstrings.report.verdict_files import VerdictFiles
from heartstrings.report.verdict_words import KINDS
from heartstrings.report.words import count, number, p_value, percent
from heartstrings.verdict.pool_results import FILE, PoolReport, read_pool

TITLE = "Against a pool of controls"


def pooled_section(files: VerdictFiles) -> Section | None:
    """p from `heartstrings pool` beside the run's, and what it rests on; None where that was not run."""
    try:
        found = read_pool(files.folder)
    except InputError as problem:
        return Section("pool", TITLE, missing("No pool is shown.", f"{problem.found}."))
    if found is None:
        return None
    if found.plan_hash != files.verdict.plan_hash:
        return Section("pool", TITLE, missing("No pool is shown.", f"{FILE} is of another plan."))
    return Section("pool", TITLE, _body(files, found))


def _body(files: VerdictFiles, found: PoolReport) -> Html:
    cards = {(card.behaviour, card.direction): card for card in files.verdict.answers}
    ps: list[list[Child]] = []
    rests: list[list[Child]] = []
    for one in found.tests:
        card = cards.get((one.behaviour, one.direction))
        own = (None, None) if card is None else (card.p_uncorrected, card.p)
        ps.append([one.direction, one.behaviour, *map(p_value, (*own, one.p, one.p_corrected))])
        rests += [
            [
                one.direction, one.behaviour, KINDS.get(kind.kind, kind.kind), count(kind.controls), count(kind.larger),
                p_value(kind.p), "top" if kind.top else "rest", percent(kind.share), percent(kind.rho),
                number(kind.correlation), number(kind.size_correlation),
            ]
            for kind in one.kinds
        ]  # fmt: skip
    left = [el("li", el("strong", f"{one.direction}, {one.behaviour}"), f": {one.reason}.") for one in found.left_out]
    later = files.verdict.look != found.look
    return join(
        el(
            "p",
            f"{count(found.size)} controls of each kind were screened by the gradient of the outcome; {found.draws} "
            "draws, most of them from the top of the screen, say which were steered along, and each counts by how much "
            "more often an even draw would have taken it. This changes no answer above: those rest on the run's own "
            "controls. It is a second test of the same directions: which of the two counts is to be said beforehand.",
        ),
        el("p", f"The pools are of look {found.look}, the answers of look {files.verdict.look}.") if later else None,
        table(
            "p of the contrast told: of the run, and from the pool, the larger over kinds. Corrected: over declared "
            "behaviours and directions.",
            ["Direction", "Behaviour", "p of the run", "Corrected", "p from the pool", "Corrected (Holm)"],
            ps,
            numeric=(2, 3, 4, 5),
        ),
        table(
            "What each p rests on. As large: controls that move the behaviour at least as much. Own: where the screen "
            "puts the direction. Top: its part of the pool and of the draws. Screen: correlation with the change of "
            "the controls steered along, and that of sizes (ranks).",
            ["Direction", "Behaviour", "Controls", "Steered along", "As large", "p", "Own", "Top, of the pool",
             "Of the draws", "Screen", "Of sizes"],
            rests,
            numeric=(3, 4, 5, 7, 8, 9, 10),
        ),
        el("ul", left, class_="sentences") if left else None,
    )  # fmt: skip
