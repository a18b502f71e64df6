"""A run's samples as Inspect logs, one a cell, that open in its viewer. Logs and ledger refer to each other by id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heartstrings.behaviours.base import Scenario
from heartstrings.behaviours.suites import suite_of
from heartstrings.core.errors import InputError
from heartstrings.core.storage import make_folder, write_text
from heartstrings.experiment.cells import every_scenario
from heartstrings.experiment.ledger import Cell, Kind, Sample, SampleLedger
from heartstrings.experiment.plan import Plan
from heartstrings.integrations.inspect.sweep import inspect_module
from heartstrings.stats.intervals import Interval, mean_interval

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalSample
    from inspect_ai.scorer import Score

FILE = "inspect.json"
"""Beside the ledger: which log holds which cell."""
SHOWN: tuple[Kind, ...] = ("baseline", "direction", "prompting")


def write_logs(folder: str | Path, log_dir: str | Path, *, controls: bool = False) -> list[Path]:
    """Write every reported cell of a run as an Inspect log, and `inspect.json` in the run's folder.

    A log's metadata has the plan's hash and the cell, each sample's the key of its row; `inspect.json` has each log's
    `eval_id` and file. Missing outcomes are unscored. Written again, a log has the same id.

    Args:
        folder: of a run or an evaluation, finished or not.
        log_dir: made where it is missing.
        controls: the control directions too (many).
    Raises:
        InputError: no ledger there, or nothing in it. MissingExtra: Inspect is not installed.
    """
    log = inspect_module("inspect_ai.log")
    folder, log_dir = Path(folder), Path(log_dir)
    make_folder(log_dir)
    written: list[Path] = []
    index = []
    with SampleLedger.read(folder / "ledger.sqlite") as ledger:
        plan = ledger.plan
        cells: dict[Cell, list[Sample]] = {}
        for row in ledger.samples(phase="test"):
            if controls or row.cell.kind in SHOWN:
                cells.setdefault(row.cell, []).append(row)
    scenarios = _scenarios(plan)
    for number, (cell, rows) in enumerate(cells.items()):
        made = _log(plan, cell, rows, scenarios)
        path = log_dir / f"{number:05d}_{cell.behaviour}.eval"
        log.write_eval_log(made, str(path))
        written.append(path)
        index.append({"eval_id": made.eval.eval_id, "log": str(path.resolve()), "cell": cell.model_dump(mode="json")})
    if not written:
        raise InputError(f"no reported samples in {folder}", "a run that has begun to report", "Let it go on")
    write_text(folder / FILE, json.dumps({"plan": plan.hash, "logs": index}, indent=1, ensure_ascii=False) + "\n")
    return written


def _scenarios(plan: Plan) -> dict[tuple[str, str], Scenario]:
    suite = suite_of(plan)
    scenarios: dict[tuple[str, str], Scenario] = {}
    for behaviour in suite.all:
        if behaviour.role == "effect" and behaviour.name not in plan.effects:
            continue
        scenarios |= {(behaviour.name, scenario.id): scenario for scenario in every_scenario(plan, suite, behaviour)}
    return scenarios


def _log(plan: Plan, cell: Cell, rows: Sequence[Sample], scenarios: dict[tuple[str, str], Scenario]) -> EvalLog:
    from datetime import UTC, datetime

    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalResults, EvalSpec

    ids = [_id(row) for row in rows]
    spec = EvalSpec(
        # The same cell of the same plan is the same log, however often it is written.
        eval_id=_short(plan.hash, cell.model_dump_json()),
        run_id=_short(plan.hash),
        task_id=_short(plan.hash, cell.behaviour),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        task=cell.behaviour,
        task_version=0,
        dataset=EvalDataset(name=cell.behaviour, samples=len(ids), sample_ids=list(dict.fromkeys(ids))),
        model=f"heartstrings/{plan.model}",
        config=EvalConfig(epochs=plan.samples.repeats),
        metadata={"plan": plan.hash, "suite": plan.suite, "seed": plan.seed, **cell.model_dump(mode="json")},
        tags=[cell.kind, *([f"{cell.direction} {cell.dose:+g}"] if cell.direction else [])],
    )
    return EvalLog(
        status="success",
        eval=spec,
        samples=[_sample(plan, row, scenarios.get((cell.behaviour, row.scenario))) for row in rows],
        results=EvalResults(total_samples=len(rows), completed_samples=len(rows), scores=_scores(rows)),
    )


def _sample(plan: Plan, row: Sample, scenario: Scenario | None) -> EvalSample:
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ModelOutput

    key = {**row.cell.model_dump(mode="json"), "scenario": row.scenario, "repeat": row.repeat}
    outcome, valid = _score(row.outcome, row), _score(row.valid, row)
    return EvalSample(
        id=_id(row),
        epoch=row.repeat + 1,
        input=_asked(scenario),
        target="",
        output=ModelOutput.from_content(f"heartstrings/{plan.model}", row.text or ""),
        scores={"outcome": outcome, "valid": valid},
        metadata={"plan": plan.hash, "sample": key, "cluster": row.group},
    )


def _score(value: float | None, row: Sample) -> Score:
    from inspect_ai.scorer import Score

    detail = dict(row.detail)
    return Score.unscored(reason="missing", metadata=detail) if value is None else Score(value=value, metadata=detail)


def _scores(rows: Sequence[Sample]) -> list[Any]:
    from inspect_ai.log import EvalMetric, EvalScore

    scores = []
    for name in ("outcome", "valid"):
        values = [getattr(row, name) for row in rows]
        mean = mean_interval(values, [row.group for row in rows])  # as in the verdict: situations have equal weights
        metrics = {key: EvalMetric(name=key, value=value) for key, value in _numbers(mean).items()}
        scores.append(
            EvalScore(
                name=name, scorer=name, scored_samples=mean.n, unscored_samples=len(rows) - mean.n, metrics=metrics
            )
        )
    return scores


def _numbers(mean: Interval) -> dict[str, float]:
    named = {"mean": mean.value, "low (95%)": mean.low, "high (95%)": mean.high}
    return {name: value for name, value in named.items() if value is not None}


def _asked(scenario: Scenario | None) -> str:
    if scenario is None:
        return ""
    if isinstance(scenario.prompt, str):
        return scenario.prompt
    return "\n\n".join(f"{message.role}: {message.content}" for message in scenario.prompt)


def _id(row: Sample) -> str:
    return row.scenario.replace("/", "-")


def _short(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:22]
