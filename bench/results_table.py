"""The tables of docs/results.md from a finished run: every question and direction, its claims, and the verdict's own
sentence; with an earlier run, the answers of both.

    python bench/results_table.py RUN [EARLIER]

Prints Markdown. A test holds docs/results.md against the run in docs/gallery.
"""

from __future__ import annotations

import sys
from pathlib import Path

from heartstrings.stats.estimate import Estimate
from heartstrings.verdict.results import AnswerCard, Claim, Verdict


def table(verdict: Verdict) -> str:
    """A row an answer."""
    lines = [
        "| question | direction | block | answer | dose range | effect, points (95%) | p |",
        "|---|---|---|---|---|---|---|",
    ]
    for card in verdict.answers:
        reach = "" if card.range is None else f"{card.range[0]:g} to {card.range[1]:g}"
        p = "" if card.p is None else f"{card.p:.3f}"
        cells = (f"`{card.behaviour}`", card.direction, str(card.layer), card.answer, reach, _points(card.effect), p)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def claims(verdict: Verdict) -> str:
    """What each effect exceeds, a row an answer: the state of every claim, its rank and p."""
    names = list(dict.fromkeys(claim.name for card in verdict.answers for claim in card.claims))
    lines = [f"| | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for card in verdict.answers:
        told = {claim.name: _claim(claim) for claim in card.claims}
        if told:
            cells = (told.get(name, "") for name in names)
            lines.append(f"| `{card.behaviour}`, {card.direction} | {' | '.join(cells)} |")
    return "\n".join(lines)


def both(before: Verdict, after: Verdict) -> str:
    """The answers of an earlier run beside those of a later one, where both have one."""
    lines = ["| question | direction | before | after |", "|---|---|---|---|"]
    old = {(card.behaviour, card.direction): card for card in before.answers}
    for card in after.answers:
        was = old.get((card.behaviour, card.direction))
        if was is not None:
            lines.append(f"| `{card.behaviour}` | {card.direction} | {_short(was)} | {_short(card)} |")
    return "\n".join(lines)


def reasons(verdict: Verdict) -> str:
    """The sentence of every answer."""
    return "\n".join(f"- `{card.behaviour}`, {card.direction}: {card.sentence}" for card in verdict.answers)


def _points(effect: Estimate) -> str:
    if effect.value is None or effect.low is None or effect.high is None:
        return ""
    return f"{100 * effect.value:+.0f} [{100 * effect.low:+.0f}, {100 * effect.high:+.0f}]"


def _claim(claim: Claim) -> str:
    words = claim.state
    if claim.rank is not None:
        words += f": {claim.rank} of {claim.compared + 1}"
    if claim.p is not None:
        words += f", p {claim.p:.3f}"
    return words if claim.effect is None else f"{words}; left {_points(claim.effect)}"


def _short(card: AnswerCard) -> str:
    reach = "" if card.range is None else f" {card.range[0]:g} to {card.range[1]:g}"
    p = "" if card.p is None else f", p {card.p:.3f}"
    return f"{card.answer}{reach}: {_points(card.effect)}{p}"


def read(folder: Path) -> Verdict:
    """A run's verdict."""
    return Verdict.model_validate_json((folder / "verdict.json").read_bytes())


def main() -> None:
    verdict, *earlier = (read(Path(folder)) for folder in sys.argv[1:])
    print(table(verdict), "", claims(verdict), "", reasons(verdict), sep="\n")
    for one in earlier:
        print("", both(one, verdict), sep="\n")


if __name__ == "__main__":
    main()
