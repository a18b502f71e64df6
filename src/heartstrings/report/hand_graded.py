"""Hand grades in the report: how far automatic grades agree with them, and the changes they correct."""

from __future__ import annotations

from heartstrings.report.markup import Child, el, join, table
from heartstrings.report.page import Section
from heartstrings.report.verdict_files import VerdictFiles
from heartstrings.report.verdict_words import interval, points, share
from heartstrings.report.words import count


def hand_graded_section(files: VerdictFiles) -> Section | None:
    """Confusion by side of dose and corrected changes; None where nothing was graded by hand."""
    found = [(card, one) for card in files.verdict.answers for one in card.hand_graded]
    if not found:
        return None
    changes: list[list[Child]] = [
        [
            files.title(card), one.behaviour, change.shape, points(change.uncorrected), points(change.corrected),
            f"{points(change.unclear_low)} to {points(change.unclear_high)}",
        ]
        for card, one in found for change in one.changes
    ]  # fmt: skip
    sides: list[list[Child]] = [
        [
            files.title(card), one.behaviour, side.side, count(side.n), count(side.both), count(side.hand_only),
            count(side.automatic_only), count(side.neither), f"{side.automatic_unclear}, {side.hand_unclear}",
            share(side.sensitivity), share(side.specificity), interval(side.kappa, digits=2),
        ]
        for card, one in found for side in one.agreements
    ]  # fmt: skip
    body = join(
        el(
            "p",
            "A person graded a random sample of the texts of each dose, without knowing dose or automatic grade. "
            "Corrected changes put the two together (PPI++); the answers above rest on automatic grades.",
        ),
        table(
            "Changes in points with 95% intervals. Unclear: every automatic grade that is missing taken as the change "
            "would be least, and as it would be largest.",
            ["Direction", "Behaviour", "Contrast", "Automatic", "Corrected by hand", "Unclear at worst"],
            changes,
            numeric=(3, 4, 5),
        )
        if changes
        else None,
        table(
            "Grades by hand and automatic ones, by side of dose. Sensitivity and specificity are of the automatic "
            "grade, kappa is Cohen's; intervals are 95%.",
            ["Direction", "Behaviour", "Texts", "Graded", "Both 1", "Hand 1 only", "Automatic 1 only", "Both 0",
             "Unclear: automatic, hand", "Sensitivity", "Specificity", "Kappa"],
            sides,
            numeric=tuple(range(3, 12)),
        ),
    )  # fmt: skip
    return Section("hand-grades", "Graded by hand", body)
