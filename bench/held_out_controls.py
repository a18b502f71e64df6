"""How often do control directions pass for a direction that controls? Forty of each kind, tested as directions are.

    python bench/held_out_controls.py RUN --out held_out [--behaviour feels]

RUN is a finished folder of `heartstrings run`. The same experiment is asked again with twice as many controls of each
kind; a control is drawn by its number, so the first half are those of RUN. Each of the other half then takes the place
of the tested direction, with its own search for a layer, and the verdict compares it with the first half. A control
passes if the corrected p is under alpha and the interval of its effect excludes zero: what an answer of `controls`
needs before the gates, which could only take answers away. At most alpha of them should.

Prints Markdown and writes `passed.json`. Stopped at any moment, the same command goes on.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from heartstrings.behaviours.suites import suite_of
from heartstrings.cli._console import bars
from heartstrings.experiment.ledger import CONTROL_KINDS, Sample, SampleLedger
from heartstrings.experiment.plan import Plan
from heartstrings.experiment.run import run_experiment
from heartstrings.stats.intervals import wilson
from heartstrings.verdict import decide
from heartstrings.verdict.results import AnswerCard
from heartstrings.workflows.atlas import open_model
from heartstrings.workflows.run import ATLAS, prepare


class Rows(NamedTuple):
    """A ledger as far as the verdict needs one."""

    rows: list[Sample]

    def samples(self) -> list[Sample]:
        return self.rows


def number(control: str) -> int:
    """`topic/41` is 41."""
    return int(control.partition("/")[2].partition(":")[0])


def in_place(rows: list[Sample], plan: Plan, kind: str, held_out: int, kept: int) -> list[Sample]:
    """The rows of an experiment in which this control is the direction, beside the controls under `kept`."""
    found = []
    for row in rows:
        cell = row.cell
        if cell.kind == kind and number(cell.direction) == held_out:
            cell = cell.model_copy(update={"kind": "direction", "direction": plan.directions[0]})
            found.append(replace(row, cell=cell))
        elif cell.kind == "baseline" or (cell.kind in CONTROL_KINDS and number(cell.direction) < kept):
            found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("held_out"))
    parser.add_argument("--behaviour", default="feels", help="with commas; tone takes the layers of feels: feels,tone")
    args = parser.parse_args()
    with SampleLedger.read(args.run / "ledger.sqlite") as ledger:
        was, there = ledger.plan, list(ledger.samples())
    kinds = {kind: count for kind, count in was.controls if count}
    none, tested = dict.fromkeys(CONTROL_KINDS, 0), was.directions[:1]
    more = was.changed(
        effects=tuple(args.behaviour.split(",")), directions=tested, prompting=False,
        raises=[one for one in was.raises if one in tested], lowers=[one for one in was.lowers if one in tested],
        doses=tuple(sorted({*was.window, *was.small_doses, 0.0})),
        controls={**none, **{kind: 2 * n for kind, n in kinds.items()}},
        claims={"mixture": 0, "other": 0, "stripped": False},
        vectors=str((args.run / ATLAS).resolve()),
    )  # fmt: skip
    suite = replace(suite_of(more), capability=(), harm=(), matched=(), writing=(), cost=())
    engine = open_model(more.model, revision=more.revision, dtype=more.dtype, device=None)
    args.out.mkdir(parents=True, exist_ok=True)
    ready = prepare(more, engine, args.out)
    with SampleLedger(args.out / "ledger.sqlite", more) as ledger, bars(quiet=False) as progress:
        if not ledger.count():  # half of them are those of the run
            asked = {*more.effects, *(check.name for effect in more.effects for check in suite.checks_of(effect))}
            same = ("baseline", *CONTROL_KINDS)
            ledger.add(row for row in there if row.cell.behaviour in asked and row.cell.kind in same)
        run_experiment(more, engine, ready.directions, ledger, suite=suite, progress=partial(progress, "sampling"))
        rows = list(ledger.samples())

    once = more.changed(controls={**none, **kinds})
    passed: dict[str, list[dict[str, object]]] = {}
    print("\n| held out | passed | share (95%) | largest effect | p, in order |")
    print("|---|---|---|---|---|")
    for kind, count in kinds.items():
        found: dict[str, list[tuple[int, AnswerCard]]] = {name: [] for name in more.effects}
        for held_out in range(count, 2 * count):
            verdict = decide(
                once, Rows(in_place(rows, once, kind, held_out, count)), suite, model=more.model, encoded="encoded"
            )
            for card in verdict.answers:
                found[card.behaviour].append((held_out, card))
        for name, cards in found.items():
            passed[f"{name}, {kind}"] = [
                {"control": f"{kind}/{one}", "effect": card.effect.value, "p": card.p, "passes": passes(card, once)}
                for one, card in cards
            ]
            n = sum(passes(card, once) for _, card in cards)
            share = wilson(n, count)
            largest = max(abs(card.effect.value or 0.0) for _, card in cards)
            ps = ", ".join(f"{p:.2f}" for p in sorted(card.p for _, card in cards if card.p is not None)[:5])
            of_all = f"{n / count:.1%} ({share.low:.1%} to {share.high:.1%})"
            print(f"| `{name}`: {count} {kind} | {n} | {of_all} | {100 * largest:.0f} points | {ps}, ... |")
    (args.out / "passed.json").write_text(json.dumps(passed, indent=1) + "\n", encoding="utf-8")


def passes(card: AnswerCard, plan: Plan) -> bool:
    """All that `controls` needs before the gates."""
    p, effect = card.p, card.effect
    if p is None or effect.low is None or effect.high is None:
        return False
    return bool(p < plan.thresholds.alpha and (effect.low > 0 or effect.high < 0))


if __name__ == "__main__":
    main()
