"""Planned looks: a run may be judged and then continued, as often as its plan states beforehand.

Whoever looks at the answer and samples more if it disappoints finds effects that do not exist: five looks, at 32 to 512
scenarios, raise false alarms from 3% to 12%. So a plan states its looks (`looks`, scenarios at each later
one), and each of them has an equal part of alpha (Bonferroni: valid however the looks depend on one another).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from heartstrings.core.errors import InputError
from heartstrings.core.storage import write_text
from heartstrings.experiment.plan import Plan

FILE = "look.json"
"""In a run's folder: which look it is at. Not there: the first."""
VERDICT = "verdict.json"


def look_of(folder: Path, plan: Plan) -> Plan:
    """The plan at the look that a run's folder is at.

    Raises:
        InputError: a look.json that is none, or of a look that the plan does not have.
    """
    path = folder / FILE
    if not path.is_file():
        return plan
    try:
        number = json.loads(path.read_text(encoding="utf-8"))["look"]
    except (ValueError, KeyError, TypeError, OSError) as problem:
        raise InputError(f"{path} cannot be read ({problem!r})", "what a run wrote", "Choose another --out") from None
    if type(number) is not int or not 1 <= number <= len(plan.looks) + 1:
        raise InputError(f"{path} is at look {number!r}", f"1 to {len(plan.looks) + 1}", "Choose another --out")
    return plan.at_look(number - 1)


def next_look(folder: Path, plan: Plan) -> Plan:
    """Go to the next planned look: keep the verdict of this one as `verdict-lookN.json`.

    Raises:
        InputError: no verdict yet, or no look left.
    """
    now = look_of(folder, plan)
    number, planned = now.look + 1, len(plan.looks) + 1
    if not (folder / VERDICT).is_file():
        raise InputError(
            f"{folder} has no verdict of look {number} yet",
            "a finished look, before the next one",
            "Run the same command without --continue",
        )
    if number >= planned:
        what = "one look" if planned == 1 else f"{planned} looks, and all are taken"
        raise InputError(
            f"the plan of {folder} has {what}",
            "a look that was planned before the first sample: more samples after an answer raise false alarms",
            "Begin a new run with planned looks (--looks 80,160) in another --out",
        )
    shutil.copyfile(folder / VERDICT, folder / f"verdict-look{number}.json")
    write_text(folder / FILE, json.dumps({"look": number + 1}) + "\n")
    return plan.at_look(number)


def told(plan: Plan) -> tuple[str, ...]:
    """What a verdict says of its look; nothing where the plan has one."""
    if not plan.looks:
        return ()
    sizes = (plan.samples.effect, *plan.looks)
    number, planned = plan.look + 1, len(sizes)
    earlier = (
        f" Earlier answers: {', '.join(f'verdict-look{at}.json' for at in range(1, number))}." if plan.look else ""
    )
    return (
        f"Look {number} of {planned} ({sizes[plan.look]} scenarios): alpha {plan.thresholds.alpha:g} is spent in equal "
        f"parts, so that p must be under {plan.spent.thresholds.alpha:.3g} at each.{earlier}",
    )
