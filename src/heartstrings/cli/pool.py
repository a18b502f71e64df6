"""The verb of the pools: thousands of controls on a finished run, of which those drawn are steered along."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heartstrings import report, verdict, workflows
from heartstrings.cli import console
from heartstrings.cli.flags import Config, Device, Json

if TYPE_CHECKING:
    from heartstrings.verdict.pool_results import PoolReport
    from heartstrings.verdict.results import AnswerCard


def pool(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    size: Annotated[int, typer.Option("--size", help="Controls of each kind that are screened.")] = 1000,
    draws: Annotated[int, typer.Option("--draws", help="Of each kind, behaviour and direction; drawn ones run.")] = 120,
    device: Device = None,
    json: Json = False,
    config: Config = None,
) -> int:
    """Compare a finished run's directions with many more controls: a gradient screens them, some are drawn and run.

    Of declared behaviours that are answered by scored options. It changes no answer. Resumable at any moment.
    """
    found, page = workflows.run_pool(folder, size=size, draws=draws, device=device, progress=console.bars(json))
    cards = {(card.behaviour, card.direction): card for card in report.read_verdict(folder).verdict.answers}
    if json:
        value = found.model_dump(mode="json")
        for one in value["tests"]:
            card = cards[one["behaviour"], one["direction"]]
            one["run"] = {"p_uncorrected": card.p_uncorrected, "p": card.p}
        console.emit_json(value | {"file": str(folder / verdict.FILE), "report": str(page)})
        return 0
    _tell(found, cards)
    console.out.print(str(page), highlight=False)
    return 0


def _tell(found: PoolReport, cards: dict[tuple[str, str], AnswerCard]) -> None:
    rows = []
    for one in found.tests:
        card = cards[one.behaviour, one.direction]
        steered = ", ".join(f"{kind.kind} {kind.controls}" for kind in one.kinds)
        screens = ", ".join(f"{kind.kind} {report.number(kind.correlation)}" for kind in one.kinds)
        pairs = (card.p_uncorrected, card.p), (one.p, one.p_corrected)
        rows.append(
            [one.behaviour, one.direction, *(report.p_value(p) for pair in pairs for p in pair), steered, screens]
        )  # fmt: skip
    console.show(
        f"Against {found.size:,} controls of each kind, {found.draws} draws from each",
        ["behaviour", "direction", "p of the run", "corrected", "p from the pool", "corrected", "controls run",
         "screen's r"],
        rows,
        caption="p: the largest over kinds; corrected over declared behaviours and directions (Holm in the pool); r: "
        "of the screen with the change of the controls run",
    )  # fmt: skip
    for left in found.left_out:
        console.say(f"Left out: {left.behaviour}, {left.direction}: {left.reason}.")
    tests = len(found.tests) + len(found.left_out)
    least = max((kind.smallest_p for one in found.tests for kind in one.kinds), default=0.0)
    if least * tests >= found.alpha:
        console.warn(
            f"with these draws some direction's p is {least:.2g} at best, and times {tests} tests that is not under "
            f"{found.alpha:g}"
        )
    console.say(
        f"This changes no answer: the verdict rests on the run's own controls. {found.samples:,} samples; "
        f"this call took {found.seconds:,.0f} seconds, {found.screen_seconds:,.0f} of them for the screen."
    )
