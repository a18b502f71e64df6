"""Texts side by side at each dose, the least coherent one marked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from heartstrings.verdict.results import AnswerCard, TextSample


@dataclass(frozen=True)
class Cell:
    """Texts of one dose. `named`: show their scenarios. `above`: the text is already in the row of this scenario."""

    texts: Sequence[TextSample]
    named: bool = False
    above: str | None = None


@dataclass(frozen=True)
class Row:
    """One scenario at every dose, or other texts under a title."""

    title: str
    cells: Sequence[Cell]
    scenario: bool = True
    prompt: str = ""
    moves_most: bool = False


@dataclass(frozen=True)
class Writings:
    """A table with one row for each scenario and one column for each dose."""

    doses: Sequence[float]
    rows: Sequence[Row]


def writings(card: AnswerCard) -> Writings:
    """The table of one direction's texts.

    Each scenario that was kept at every dose has a row. The least coherent text of a dose may be from any scenario:
    such texts are in a row of their own.
    """
    doses = sorted({text.dose for text in card.texts})
    counts = Counter(text.scenario for text in card.texts)
    shared = [name for name, times in counts.items() if times == len(doses)] or [
        name for name, times in counts.items() if times > 1 or len(doses) == 1
    ]
    rows = []
    for name in shared:
        of = [text for text in card.texts if text.scenario == name]
        prompt = next((text.prompt for text in of if text.prompt), "")
        cells = [Cell([text for text in of if text.dose == value]) for value in doses]
        rows.append(Row(name, cells, prompt=prompt, moves_most=any(text.clearest for text in of)))
    worst = [[text for text in card.texts if text.worst and text.dose == value] for value in doses]
    if any(text.scenario not in shared for texts in worst for text in texts):
        cells = [
            Cell(texts, named=True, above=next((text.scenario for text in texts if text.scenario in shared), None))
            for texts in worst
        ]
        rows.append(Row("least coherent at this dose", cells))
    others = [text for text in card.texts if text.scenario not in shared and not text.worst]
    if others:
        cells = [Cell([text for text in others if text.dose == value], named=True) for value in doses]
        rows.append(Row("others", cells, scenario=False))
    return Writings(doses, rows)
