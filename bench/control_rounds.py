"""How many samples do controls in rounds save, and does an answer change? On finished runs whose ledgers have them all.

    python bench/control_rounds.py RUN [RUN ...] [--round 16]

RUN is a folder of `heartstrings run` in which all controls were asked at once. The verdict is made again as if they had
been asked in rounds. Prints Markdown: samples with and without rounds, and the answers that differ.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

from heartstrings.behaviours.suites import suite_of
from heartstrings.experiment.ledger import CONTROL_KINDS, Sample, SampleLedger
from heartstrings.experiment.plan import Plan
from heartstrings.verdict import Open
from heartstrings.verdict.control_rounds import families
from heartstrings.verdict.tables import Table
from heartstrings.workflows.run import ATLAS, read_encoding, weigh


def asked(plan: Plan, rows: list[Sample], still_open: Open) -> int:
    """Samples that a run in rounds takes of these."""
    suite = suite_of(plan)
    number: dict[str, int] = defaultdict(int)
    for family in families(plan, Table(rows), suite):
        most = max(count for _, count in family.plan.controls)
        for name in plan.family(family.members[0]):
            number[name] = max(number[name], most)
    costs = max(number.values())  # the distance from the unsteered model, of every control that is asked
    reached = {kind: still_open.reached(kind) for kind in ("mixture", "other") if getattr(plan.claims, kind)}
    reached["stripped"] = reached.get("mixture", False)
    found = 0
    for row in rows:
        cell = row.cell
        if cell.kind in CONTROL_KINDS:
            found += int(cell.direction.partition("/")[2].partition(":")[0]) < number.get(cell.behaviour, costs)
        else:
            found += reached.get(cell.kind, True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--round", type=int, default=16)
    given = parser.parse_args()
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])
    for folder in given.runs:
        with SampleLedger.read(folder / "ledger.sqlite") as ledger:
            before, rows = ledger.plan, ledger.samples()
            plan = before.model_copy(update={"control_round": given.round})
            encoding = read_encoding(before.vectors or folder / ATLAS)
            answers = [[card.answer for card in weigh(one, ledger, encoding).answers] for one in (before, plan)]
            total = totals[plan.model]
            fewer = asked(plan, rows, Open(plan, suite_of(plan), ledger))
        changed = sum(one != other for one, other in zip(*answers, strict=True))
        for at, value in enumerate((1, len(rows), fewer, len(answers[0]), changed)):
            total[at] += value
    print(
        "| model | runs | samples | in rounds | share | answers | changed |", "|---|---|---|---|---|---|---|", sep="\n"
    )
    for model, (n, whole, fewer, n_answers, changed) in totals.items():
        print(f"| {model} | {n} | {whole:,} | {fewer:,} | {fewer / whole:.0%} | {n_answers} | {changed} |")


if __name__ == "__main__":
    main()
