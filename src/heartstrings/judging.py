"""The stage of judges: texts that no rule could grade, asked of a judge after sampling, blind, and recorded.

A judge is first tried on texts of known grades and refused if it gets them wrong, before it sees any text of the run.
What it says stands in the ledger beside the samples; raw answers are in the judges' cache. Killed at any moment, the
same call goes on: a text that was answered is not asked again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from heartstrings.behaviours.base import Judged, Scenario
from heartstrings.cells import CONTROL_KINDS
from heartstrings.judges.base import Case, Judge, OverBudget, Rubric
from heartstrings.judges.base import Judged as Said
from heartstrings.judges.calibration import Calibration, calibrate, check, known_cases
from heartstrings.judges.rubrics import rubric
from heartstrings.ledger import Judgement, Key, Sample, SampleLedger
from heartstrings.sizes import searched, tested
from heartstrings.stats.intervals import Interval, wilson
from heartstrings.storage import write_text
from heartstrings.types import Frozen
from heartstrings.verdict.results import Estimate
from heartstrings.verdict.tables import estimate

if TYPE_CHECKING:
    from heartstrings.behaviours.suites import Suite
    from heartstrings.plan import Plan

FILE = "judges.json"
BATCH = 64
"""Texts between two records."""
BIASES = (("dark-words", "plain"), ("soft-words", "plain"), ("other-language", "english"))
"""Sorts of known texts on which a judge should err alike: those that go by words do not."""


class Tried(Frozen):
    """How a judge did on the texts of known grades of one rubric."""

    rubric: str
    judge: str
    n: int
    accuracy: Estimate
    sensitivity: Estimate
    specificity: Estimate
    kappa: float | None
    """Cohen's, against the true grades."""
    between: dict[str, float | None]
    """Cohen's kappa between each two members of a panel."""
    bias: dict[str, Estimate]
    """Difference of error rates between two sorts of texts, as `dark-words - plain`."""
    unreadable: int
    unanswered: int


class Condition(Frozen):
    """Texts of one behaviour under one sort of condition."""

    behaviour: str
    condition: str
    """`unsteered`, `dose < 0`, `dose > 0`, `controls` or `prompting`."""
    n: int
    graded: Estimate
    """Share of the texts shown to the judge that it could grade: no condition should lose more than another."""


class JudgeReport(Frozen):
    """What the judges did in a run."""

    judge: str
    tried: tuple[Tried, ...]
    conditions: tuple[Condition, ...]
    texts: int
    """Different texts that were judged."""
    samples: int
    """Samples that have a judgement."""
    unreadable: int
    unanswered: int


def judge_samples(
    plan: Plan,
    ledger: SampleLedger,
    suite: Suite,
    judge: Judge,
    *,
    progress: Callable[[int, int], None] | None = None,
    known: Callable[[str], Sequence[object]] = known_cases,
) -> JudgeReport:
    """Judge every text of the run that needs it and has no readable judgement yet.

    Args:
        ledger: opened with the plan, to write.
        progress: called with (texts done, texts in all).
        known: texts of known grades for a rubric's name.
    Raises:
        InputError: the judge got too many of the known texts wrong; no text of the run was asked. OverBudget: with how
            many texts are left; what was judged is kept. HeartstringsError: the judge cannot be used.
    """
    behaviours = [one for one in suite.all if isinstance(one, Judged)]
    tried = {}
    for name in dict.fromkeys(one.rubric for one in behaviours):
        tried[name] = check(calibrate(judge, known(name), rubric(name)))  # type: ignore[arg-type]
    work = [(one, rubric(one.rubric), _waiting(plan, ledger, suite, one)) for one in behaviours]
    total, done = sum(len(cases) for _, _, cases in work), 0
    for behaviour, asked, cases in work:
        for batch in _batches(list(cases), BATCH):
            try:
                said = judge.judge(batch, asked)
            except OverBudget as spent:
                left = total - done - len(batch) + spent.left
                raise OverBudget(judge.name, spent.found.partition("(")[2].partition(")")[0], left, total) from None
            ledger.judge(
                _judgement(behaviour, sample, one, asked)
                for case, one in zip(batch, said, strict=True)
                for sample in cases[case]
            )
            done += len(batch)
            if progress is not None:
                progress(done, total)
    return _report(plan, ledger, suite, judge, behaviours, list(tried.values()))


def write_report(folder: str | Path, report: JudgeReport) -> Path:
    """`judges.json` in the folder of a run."""
    path = Path(folder) / FILE
    write_text(path, report.model_dump_json(indent=1) + "\n")
    return path


def read_report(folder: str | Path) -> JudgeReport | None:
    """The report of a run's judges; None where there were none."""
    path = Path(folder) / FILE
    return JudgeReport.model_validate_json(path.read_bytes()) if path.is_file() else None


def _waiting(plan: Plan, ledger: SampleLedger, suite: Suite, behaviour: Judged) -> dict[Case, list[Sample]]:
    """Texts without a readable judgement, each once, with the samples that have it."""
    settled = {key for key, one in ledger.judgements(behaviour=behaviour.name).items() if one.status != "no answer"}
    waiting: dict[Case, list[Sample]] = {}
    for sample, case in _shown(plan, ledger, suite, behaviour):
        if _key(sample) not in settled:
            waiting.setdefault(case, []).append(sample)
    return waiting


def _shown(plan: Plan, ledger: SampleLedger, suite: Suite, behaviour: Judged) -> Iterator[tuple[Sample, Case]]:
    """Every sample that has something for a judge, and what that is. The id of a case is a hash of its text."""
    n = tested(plan, behaviour)
    if behaviour.name in plan.effects:
        n += searched(plan, suite, behaviour)
    scenarios: dict[str, Scenario] = {one.id: one for one in behaviour.scenarios(n=n, seed=plan.seed)}
    judgements = ledger.judgements(behaviour=behaviour.name)
    for sample in ledger.samples(behaviour=behaviour.name):
        if sample.scenario not in scenarios:
            continue
        # What a judge has decided is no rule's grade.
        own = None if behaviour.decides and _key(sample) in judgements else sample.outcome
        case: Case | None = behaviour.case(scenarios[sample.scenario], own, sample.text, sample.detail)
        if case is not None:
            content = hashlib.sha256(f"{case.asked}\0{case.answered}".encode("utf-8", "backslashreplace")).hexdigest()
            yield sample, Case(content, case.asked, case.answered)


def _judgement(behaviour: Judged, sample: Sample, said: Said, asked: Rubric) -> Judgement:
    return Judgement(
        cell=sample.cell, scenario=sample.scenario, repeat=sample.repeat, judge=said.judge,
        rubric=f"{asked.name}/{asked.hash[:12]}", status=said.status,
        outcome=asked.outcome(said.scores) if behaviour.decides else None,
        valid=asked.valid(said.scores) if behaviour.decides else None,
        scores={name: float(value) for name, value in (said.scores or {}).items()},
    )  # fmt: skip


def _report(
    plan: Plan, ledger: SampleLedger, suite: Suite, judge: Judge, behaviours: Sequence[Judged],
    tried: Sequence[Calibration],
) -> JudgeReport:  # fmt: skip
    conditions: list[Condition] = []
    texts: set[str] = set()
    statuses: list[str] = []
    for behaviour in behaviours:
        judgements = ledger.judgements(behaviour=behaviour.name)
        read: dict[str, list[bool]] = {}
        for sample, case in _shown(plan, ledger, suite, behaviour):
            said = judgements.get(_key(sample))
            if said is None:
                continue
            texts.add(case.id)
            statuses.append(said.status)
            read.setdefault(_condition(sample), []).append(said.status == "read")
        conditions += [
            Condition(
                behaviour=behaviour.name, condition=name, n=len(rows), graded=estimate(wilson(sum(rows), len(rows)))
            )
            for name, rows in sorted(read.items())
        ]
    return JudgeReport(
        judge=judge.name, tried=tuple(_tried(one) for one in tried), conditions=tuple(conditions), texts=len(texts),
        samples=len(statuses), unreadable=statuses.count("unreadable"), unanswered=statuses.count("no answer"),
    )  # fmt: skip


def _tried(found: Calibration) -> Tried:
    bias: dict[str, Interval] = {}
    for a, b in BIASES:
        groups = [known.groups for known in found.known]
        if any(a in one and b not in one for one in groups) and any(b in one and a not in one for one in groups):
            bias[f"{a} - {b}"] = found.bias(a, b)
    return Tried(
        rubric=found.rubric.name, judge=found.judge, n=found.n, accuracy=estimate(found.accuracy),
        sensitivity=estimate(found.sensitivity), specificity=estimate(found.specificity), kappa=found.kappa,
        between={f"{a} and {b}": value for (a, b), value in found.between.items()},
        bias={name: estimate(value) for name, value in bias.items()}, unreadable=found.unreadable,
        unanswered=found.unanswered,
    )  # fmt: skip


def _condition(sample: Sample) -> str:
    kind, dose = sample.cell.kind, sample.cell.dose
    if kind in CONTROL_KINDS:
        return "controls"
    if kind == "prompting":
        return "prompting"
    return "unsteered" if dose == 0 else "dose > 0" if dose > 0 else "dose < 0"


def _key(sample: Sample) -> Key:
    return (sample.cell, sample.scenario, sample.repeat)


def _batches(cases: list[Case], size: int) -> Iterator[list[Case]]:
    rest = iter(cases)
    while batch := list(islice(rest, size)):
        yield batch
