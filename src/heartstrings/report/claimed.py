"""Claims in the report: what each direction's effect exceeds, weakest first, and where the order ends."""

from __future__ import annotations

from heartstrings.report.markup import Child, el, join, table
from heartstrings.report.page import Section
from heartstrings.report.verdict_files import VerdictFiles
from heartstrings.report.verdict_words import points
from heartstrings.report.words import p_value
from heartstrings.verdict.results import Claim

SAYS = {
    "any push": "more than isotropic directions: not just any push",
    "natural text": "more than directions along which text varies anyway",
    "mixtures of emotions": "more than random mixtures of other emotions",
    "other emotions": "more than the emotions of other families",
    "beyond valence and arousal": "without its valence and arousal parts, still more than natural directions",
}


def claims_section(files: VerdictFiles) -> Section | None:
    """A table of the claims of every answer; None where no direction was compared with anything."""
    rows: list[list[Child]] = [
        [
            files.title(card), SAYS[claim.name], claim.state, _rank(claim), p_value(claim.p),
            "" if claim.effect is None else points(claim.effect),
        ]
        for card in files.verdict.answers for claim in card.claims
    ]  # fmt: skip
    if not rows:
        return None
    body = join(
        el(
            "p",
            "Each claim has its own p, corrected over the declared behaviours and over directions. They are tested in "
            "this order, each only where all before it are shown; after the first that is not, p is told and nothing "
            "is claimed.",
        ),
        table(
            "Rank 1: nothing it is compared with moves the outcome as far. Where signs are declared, controls and "
            "mixtures count in both of their directions. Change: of the direction without valence and arousal, in "
            "points, with its 95% interval.",
            ["Direction", "It moves the outcome", "State", "Rank", "p", "Change"],
            rows,
            numeric=(3, 4, 5),
        ),
    )  # fmt: skip
    return Section("claims", "What the effect exceeds", body)


def _rank(claim: Claim) -> str:
    return "" if claim.rank is None else f"{claim.rank} of {claim.compared + 1}"
