"""The table of docs/results.md from a finished run: every question and direction, with the verdict's own sentence.

    python bench/results_table.py RUN

Prints Markdown. A test holds docs/results.md against the run in docs/gallery.
"""

from __future__ import annotations

import sys
from pathlib import Path

from heartstrings.verdict.results import Estimate, Verdict


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


def reasons(verdict: Verdict) -> str:
    """The sentence of every answer."""
    return "\n".join(f"- `{card.behaviour}`, {card.direction}: {card.sentence}" for card in verdict.answers)


def _points(effect: Estimate) -> str:
    if effect.value is None or effect.low is None or effect.high is None:
        return ""
    return f"{100 * effect.value:+.0f} [{100 * effect.low:+.0f}, {100 * effect.high:+.0f}]"


def main() -> None:
    verdict = Verdict.model_validate_json((Path(sys.argv[1]) / "verdict.json").read_bytes())
    print(table(verdict), "", reasons(verdict), sep="\n")


if __name__ == "__main__":
    main()
