"""What the command line prints of a screen: the strongest predictions, and how well they agree with steering."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from heartstrings import report
from heartstrings.cli import _console as console
from heartstrings.cli._summary import ORGANISM_NOTE, Given
from heartstrings.experiment.screen_results import DESCRIPTIVE, FILE

if TYPE_CHECKING:
    from heartstrings.experiment.screen_results import Screen, Top

SHOWN = 3
"""Emotions of each behaviour in the table."""


def screen(screened: Screen, given: Given, json: bool) -> None:
    """The strongest predictions of each behaviour, and how well some of them agree with steering."""
    page = given["out"] / "screen.html"
    if json:
        tops = [_object(top) for behaviour in screened.behaviours for top in screened.strongest(behaviour.name)]
        facts = screened.model_dump(
            mode="json", include={"model", "dose", "layers", "controls", "cost", "notes", "left_out"}
        )
        checks = {
            behaviour.name: [fidelity.model_dump() for fidelity in behaviour.fidelity]
            for behaviour in screened.behaviours
        }
        files = {"file": str(given["out"] / FILE), "report": str(page)}
        console.emit_json(facts | {"strongest": tops, "fidelity": checks} | files)
        return
    larger = f"; last columns: how many of {screened.controls:,} controls of each kind are as large at their own layer"
    console.show(
        "Where could steering matter? First-order predictions",
        ["behaviour", "emotion", "layer", "predicted points", *screened.kinds],
        [
            _row(behaviour.name if not at else "", top)
            for behaviour in screened.behaviours
            for at, top in enumerate(screened.strongest(behaviour.name)[:SHOWN])
        ],
        caption=f"from dose -{screened.dose:g} to +{screened.dose:g}, 95% over situations, at the layer with the "
        f"largest prediction{larger if screened.kinds else ''}",
    )
    if screened.checked_doses:
        _fidelity(screened)
    for left in screened.left_out:
        console.say(f"Left out: {left.behaviour}: {left.reason}.")
    for note in screened.notes:
        console.warn(note)
    console.say(_cost(screened))
    console.say(DESCRIPTIVE)
    if screened.model.startswith("organism:"):
        console.say(ORGANISM_NOTE)
    console.out.print(str(page), highlight=False)


def _row(behaviour: str, top: Top) -> list[str]:
    ends = "" if top.low is None or top.high is None else f" [{top.low:+.2f}, {top.high:+.2f}]"
    return [
        behaviour,
        top.emotion,
        str(top.layer),
        f"{top.predicted:+.2f}{ends}",
        *(f"{count:,}" for count in top.larger.values()),
    ]


def _fidelity(screened: Screen) -> None:
    rows = []
    for behaviour in screened.behaviours:
        for at, fidelity in enumerate(behaviour.fidelity):
            ends = (
                ""
                if fidelity.rank_low is None
                else f" [{report.number(fidelity.rank_low)}, {report.number(fidelity.rank_high)}]"
            )
            rows.append(
                [
                    behaviour.name if not at else "",
                    f"{fidelity.dose:g}",
                    str(fidelity.cells),
                    f"{report.number(fidelity.rank)}{ends}",
                    report.number(fidelity.slope),
                ]
            )
    console.show(
        "Do the predictions hold? Some cells steered",
        ["behaviour", "dose, ±", "cells", "rank correlation", "slope"],
        rows,
        caption="predicted and exact changes on the same scenarios; 95% bootstrap over cells; slope under 1: "
        "predictions are too large",
    )


def _cost(screened: Screen) -> str:
    cost = screened.cost
    own = f"{cost.requests:,} requests, {cost.gradient_seconds + cost.predict_seconds:,.0f} seconds."
    if cost.exhaustive_seconds is None or cost.times_cheaper is None:
        return own
    return (
        f"{own} Steering along all that was predicted would take "
        f"{timedelta(seconds=round(cost.exhaustive_seconds))} at the pace of the check: "
        f"{cost.times_cheaper:,.0f} times as long."
    )


def _object(top: Top) -> dict[str, object]:
    return {
        "behaviour": top.behaviour,
        "emotion": top.emotion,
        "layer": top.layer,
        "predicted": top.predicted,
        "low": top.low,
        "high": top.high,
        "larger": dict(top.larger),
    }
