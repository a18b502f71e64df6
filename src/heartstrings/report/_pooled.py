"""Pools of controls in the report: p from many more controls than the run has, beside its own."""

from __future__ import annotations

from dataclasses import dataclass

from heartstrings.core.errors import InputError
from heartstrings.report.verdict_files import VerdictFiles
from heartstrings.verdict.pool_results import FILE, PoolReport, PoolTest, read_pool


@dataclass(frozen=True)
class Pool:
    """The pools, with the run's own p (uncorrected, corrected) for each test; or the reason why none is shown."""

    report: PoolReport | None
    problem: str = ""
    tests: tuple[tuple[PoolTest, float | None, float | None], ...] = ()


def pool(files: VerdictFiles) -> Pool | None:
    """The pools of a run; None where `heartstrings pool` was not run."""
    try:
        report = read_pool(files.folder)
    except InputError as problem:
        return Pool(None, f"{problem.found}.")
    if report is None:
        return None
    if report.plan_hash != files.verdict.plan_hash:
        return Pool(None, f"{FILE} is of another plan.")
    own = {(card.behaviour, card.direction): (card.p_uncorrected, card.p) for card in files.verdict.answers}
    tests = tuple((test, *own.get((test.behaviour, test.direction), (None, None))) for test in report.tests)
    return Pool(report, "", tests)
