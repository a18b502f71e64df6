"""The stage of judges: texts that no rule could grade, asked of a judge after sampling, blind, and recorded.

A judge is first tried on texts of known grades and refused if it gets them wrong, before it sees any text of the run.
What it says stands in the ledger beside the samples; raw answers are in the judges' cache. Killed at any moment, the
same call goes on: a text that was answered is not asked again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from heartstrings.behaviours.base import Judged, Scenario
from heartstrings.core.errors import HeartstringsError, InputError, ModelError
from heartstrings.core.storage import write_text
from heartstrings.core.types import Frozen
from heartstrings.experiment.cells import every_scenario
from heartstrings.experiment.ledger import CLAIM_KINDS, CONTROL_KINDS, Judgement, Sample, SampleLedger
from heartstrings.judges.base import Case, Judge, OverBudget, Rubric
from heartstrings.judges.base import Judged as Said
from heartstrings.judges.calibration import Calibration, Known, calibrate, check, known_cases
from heartstrings.judges.endpoint import EndpointJudge
from heartstrings.judges.local import Panel
from heartstrings.judges.rubrics import rubric
from heartstrings.stats.estimate import Estimate, estimate
from heartstrings.stats.intervals import Interval, wilson

if TYPE_CHECKING:
    from heartstrings.behaviours.roles import Suite
    from heartstrings.experiment.plan import Plan

FILE = "judges.json"
BATCH = 64
"""Texts between two records."""
UNSTEERED = "unsteered"
BIASES = (("dark-words", "plain"), ("soft-words", "plain"), ("other-language", "english"))
"""Sorts of known texts on which a judge should err alike: those that go by words do not."""


class Refused(InputError):
    """A judge that got too many of the known texts wrong.

    Args:
        report: how it did on each rubric, up to the one it failed on.
    """

    def __init__(self, why: InputError, report: JudgeReport) -> None:
        self.report = report
        super().__init__(why.found, why.expected, why.fix)


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
    change: Estimate | None = None
    """That share minus the one of unsteered texts; None for these themselves, and where there are none."""


class Spending(Frozen):
    """What one judge behind an endpoint has cost so far, trials and earlier runs included."""

    judge: str
    calls: int
    money: float
    """In the unit of the prices; 0 without prices."""


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
    spent: tuple[Spending, ...] = ()
    """Of each judge behind an endpoint."""
    refused: str | None = None
    """Why it was not asked, where it got too many of the known texts wrong."""


def try_judge(
    plan: Plan, suite: Suite, judge: Judge, *, known: Callable[[str], Sequence[Known]] = known_cases
) -> tuple[Calibration, ...]:
    """Try a judge on every rubric that a plan may need, before hours of sampling. What it says here is in its cache, so
    that `judge_samples` does not ask it again.

    Raises:
        Refused: it got too many of the known texts wrong. HeartstringsError: it cannot be used.
    """
    asked = [behaviour for behaviour in suite.all if behaviour.role != "effect" or behaviour.name in plan.effects]
    return _try(judge, (behaviour for behaviour in asked if isinstance(behaviour, Judged)), known)


def judge_samples(
    plan: Plan,
    ledger: SampleLedger,
    suite: Suite,
    judge: Judge,
    *,
    progress: Callable[[int, int], None] | None = None,
    known: Callable[[str], Sequence[Known]] = known_cases,
) -> JudgeReport:
    """Judge every text of the run that needs it and has no readable judgement yet.

    Only what is reported is judged: layers are chosen by what the rules could grade, so that a judge cannot change the
    choice after the samples were taken.

    Args:
        ledger: opened with the plan, to write.
        progress: called with (texts done, texts in all).
        known: texts of known grades for a rubric's name.
    Raises:
        Refused: the judge got too many of the known texts wrong; no text of the run was asked. OverBudget: with how
            many texts are left; what was judged is recorded. HeartstringsError: the judge cannot be used.
    """
    behaviours = [
        behaviour
        for behaviour in suite.all
        if isinstance(behaviour, Judged) and any(True for _ in _shown(plan, ledger, suite, behaviour))
    ]
    tried = _try(judge, behaviours, known)
    work = [(behaviour, rubric(behaviour.rubric), _waiting(plan, ledger, suite, behaviour)) for behaviour in behaviours]
    total, done = sum(len(cases) for _, _, cases in work), 0
    for behaviour, asked, cases in work:
        mixed = _mixed(cases, plan.seed)
        for start in range(0, len(mixed), BATCH):
            batch = mixed[start : start + BATCH]
            failed: HeartstringsError | None = None
            try:
                said: Sequence[Said | None] = judge.judge(batch, asked)
            except HeartstringsError as error:  # what it did before it failed is recorded too
                failed, said = error, judge.recall(batch, asked)
            ledger.judge(
                _judgement(behaviour, sample, answer, asked)
                for case, answer in zip(batch, said, strict=True)
                if answer is not None
                for sample in cases[case]
            )
            done += sum(answer is not None for answer in said)
            if progress is not None:
                progress(done, total)
            if isinstance(failed, OverBudget):
                raise OverBudget(judge.name, failed.spent, total - done, total) from None
            if isinstance(failed, ModelError):
                raise ModelError(
                    f"{failed.found}; {total - done} of {total} texts are left", failed.expected, failed.fix
                ) from None
            if failed is not None:
                raise failed
    return _report(plan, ledger, suite, judge, behaviours, tried)


def write_report(folder: str | Path, report: JudgeReport) -> Path:
    """`judges.json` in the folder of a run."""
    path = Path(folder) / FILE
    write_text(path, report.model_dump_json(indent=1) + "\n")
    return path


def read_report(folder: str | Path) -> JudgeReport | None:
    """The report of a run's judges; None where there were none."""
    path = Path(folder) / FILE
    return JudgeReport.model_validate_json(path.read_bytes()) if path.is_file() else None


def _try(
    judge: Judge, behaviours: Iterable[Judged], known: Callable[[str], Sequence[Known]]
) -> tuple[Calibration, ...]:
    done: list[Calibration] = []
    for name in dict.fromkeys(behaviour.rubric for behaviour in behaviours):
        done.append(calibrate(judge, known(name), rubric(name)))
        try:
            check(done[-1])
        except InputError as error:
            raise Refused(
                error,
                JudgeReport(
                    judge=judge.name,
                    tried=tuple(_tried(calibration) for calibration in done),
                    conditions=(),
                    texts=0,
                    samples=0,
                    unreadable=0,
                    unanswered=0,
                    spent=_spent(judge),
                    refused=error.found,
                ),
            ) from None
    return tuple(done)


def _waiting(plan: Plan, ledger: SampleLedger, suite: Suite, behaviour: Judged) -> dict[Case, list[Sample]]:
    """Texts that no judge has answered on by this rubric, each once, with the samples that have it."""
    judgements, asked = ledger.judgements(behaviour=behaviour.name), _rubric(rubric(behaviour.rubric))
    settled = {
        key for key, judgement in judgements.items() if judgement.status != "no answer" and judgement.rubric == asked
    }
    waiting: dict[Case, list[Sample]] = {}
    for sample, case in _shown(plan, ledger, suite, behaviour):
        if sample.key not in settled:
            waiting.setdefault(case, []).append(sample)
    return waiting


def _shown(plan: Plan, ledger: SampleLedger, suite: Suite, behaviour: Judged) -> Iterator[tuple[Sample, Case]]:
    """Every reported sample that has something for a judge, and what that is. A case's id is a hash of its text."""
    samples = ledger.samples(phase="test", behaviour=behaviour.name)
    if not samples:
        return
    scenarios: dict[str, Scenario] = {scenario.id: scenario for scenario in every_scenario(plan, suite, behaviour)}
    judgements = ledger.judgements(behaviour=behaviour.name)
    for sample in samples:
        if sample.scenario not in scenarios:
            raise InputError(
                f"the ledger has scenario {sample.scenario}, which {behaviour.name} does not have",
                "a ledger of this version's scenarios",
                "Judge with the version of heartstrings that sampled it",
            )
        # What a judge has decided is no rule's grade.
        own = None if behaviour.decides and sample.key in judgements else sample.outcome
        case: Case | None = behaviour.case(scenarios[sample.scenario], own, sample.text, sample.detail)
        if case is not None:
            content = hashlib.sha256(f"{case.asked}\0{case.answered}".encode("utf-8", "backslashreplace")).hexdigest()
            yield sample, Case(content, case.asked, case.answered)


def _judgement(behaviour: Judged, sample: Sample, said: Said, asked: Rubric) -> Judgement:
    return Judgement(
        cell=sample.cell,
        scenario=sample.scenario,
        repeat=sample.repeat,
        judge=said.judge,
        rubric=_rubric(asked),
        status=said.status,
        outcome=asked.outcome(said.scores) if behaviour.decides else None,
        valid=asked.valid(said.scores) if behaviour.decides else None,
        scores={name: float(value) for name, value in (said.scores or {}).items()},
    )


def _report(
    plan: Plan,
    ledger: SampleLedger,
    suite: Suite,
    judge: Judge,
    behaviours: Sequence[Judged],
    tried: Sequence[Calibration],
) -> JudgeReport:
    conditions: list[Condition] = []
    texts: set[str] = set()
    statuses: list[str] = []
    for behaviour in behaviours:
        judgements = ledger.judgements(behaviour=behaviour.name)
        read: dict[str, list[bool]] = {}
        for sample, case in _shown(plan, ledger, suite, behaviour):
            said = judgements.get(sample.key)
            if said is None:
                continue
            texts.add(case.id)
            statuses.append(said.status)
            read.setdefault(_condition(sample), []).append(said.status == "read")
        conditions += [
            Condition(
                behaviour=behaviour.name,
                condition=name,
                n=len(rows),
                graded=estimate(wilson(sum(rows), len(rows))),
                change=None if name == UNSTEERED else _change(rows, read.get(UNSTEERED, [])),
            )
            for name, rows in sorted(read.items())
        ]
    return JudgeReport(
        judge=judge.name,
        tried=tuple(_tried(calibration) for calibration in tried),
        conditions=tuple(conditions),
        texts=len(texts),
        samples=len(statuses),
        unreadable=statuses.count("unreadable"),
        unanswered=statuses.count("no answer"),
        spent=_spent(judge),
    )


def _spent(judge: Judge) -> tuple[Spending, ...]:
    members = judge.judges if isinstance(judge, Panel) else (judge,)
    spending = []
    for member in members:
        if isinstance(member, EndpointJudge):
            spent = member.cache.spent(member.name, member.model)
            spending.append(Spending(judge=member.name, calls=spent.calls, money=spent.money))
    return tuple(spending)


def _change(rows: Sequence[bool], unsteered: Sequence[bool]) -> Estimate | None:
    """Difference of two shares; hybrid score interval (Newcombe 1998, Stat. Med. 17:873-890, method 10)."""
    from statsmodels.stats.proportion import confint_proportions_2indep

    if not rows or not unsteered:
        return None
    low, high = confint_proportions_2indep(
        sum(rows), len(rows), sum(unsteered), len(unsteered), method="newcomb", compare="diff"
    )
    value = sum(rows) / len(rows) - sum(unsteered) / len(unsteered)
    return Estimate(value=value, low=float(low), high=float(high))


def _tried(calibration: Calibration) -> Tried:
    bias: dict[str, Interval] = {}
    for a, b in BIASES:
        groups = [known.groups for known in calibration.known]
        if any(a in sorts and b not in sorts for sorts in groups) and any(
            b in sorts and a not in sorts for sorts in groups
        ):
            bias[f"{a} - {b}"] = calibration.bias(a, b)
    return Tried(
        rubric=calibration.rubric.name,
        judge=calibration.judge,
        n=calibration.n,
        accuracy=estimate(calibration.accuracy),
        sensitivity=estimate(calibration.sensitivity),
        specificity=estimate(calibration.specificity),
        kappa=calibration.kappa,
        between={f"{a} and {b}": value for (a, b), value in calibration.between.items()},
        bias={name: estimate(value) for name, value in bias.items()},
        unreadable=calibration.unreadable,
        unanswered=calibration.unanswered,
    )


def _condition(sample: Sample) -> str:
    kind, dose = sample.cell.kind, sample.cell.dose
    if kind in (*CONTROL_KINDS, *CLAIM_KINDS):
        return "controls"
    if kind == "prompting":
        return "prompting"
    return UNSTEERED if dose == 0 else "dose > 0" if dose > 0 else "dose < 0"


def _rubric(asked: Rubric) -> str:
    """As the ledger names it: another wording is another rubric."""
    return f"{asked.name}/{asked.hash[:12]}"


def _mixed(cases: Iterable[Case], seed: int) -> list[Case]:
    """In an order that has nothing to do with conditions, so that no condition loses more texts when a budget ends or a
    server changes. The same every time."""
    return sorted(cases, key=lambda case: hashlib.sha256(f"{seed} {case.id}".encode()).digest())
