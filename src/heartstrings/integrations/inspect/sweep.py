"""A dose sweep over Inspect tasks: one Inspect model for each dose, and one engine for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heartstrings.core.errors import InputError, MissingExtra
from heartstrings.stats.intervals import mean_interval

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog
    from inspect_ai.model import Model

    from heartstrings.stats.intervals import Interval


@dataclass(frozen=True)
class DoseScore:
    """One score of one task at one dose."""

    task: str
    dose: float
    score: str
    """`SCORER` or, for scores with parts, `SCORER/PART`; empty where no sample has any."""
    mean: Interval
    """Over samples, epochs of one averaged first; 95%."""
    errors: int
    """Samples that ended in an error, and have no score."""


def models(model: str, *, vectors: Path | str, direction: str, doses: Sequence[float | int], **how: Any) -> list[Model]:
    """One Inspect model for each dose, for `inspect_ai.eval(task, model=models(...))`.

    Args:
        how: `layer`, `operation`, `positions`, `variant`, `plan` (a hash, for the metadata), `revision`, `dtype`,
            `device`.
    Raises:
        InputError: no dose, or one named twice; whatever the steering cannot be made from. MissingExtra: Inspect is not
            installed.
    """
    get_model = inspect_module("inspect_ai.model").get_model
    if not doses or len(set(doses)) < len(doses):
        raise InputError(f"doses {', '.join(f'{dose:g}' for dose in doses) or '(none)'}", "some, each once")
    place = str(Path(vectors).resolve())
    return [
        get_model(f"heartstrings/{model}", memoize=False, vectors=place, direction=direction, dose=float(dose), **how)
        for dose in sorted(doses)
    ]


def sweep(
    tasks: Any,
    model: str,
    *,
    vectors: Path | str,
    direction: str,
    doses: Sequence[float | int],
    log_dir: Path | str,
    how: dict[str, Any] | None = None,
    **options: Any,
) -> list[EvalLog]:
    """Run tasks at every dose, all doses at once, and return the logs in order of dose.

    Args:
        tasks: what `inspect_ai.eval` takes.
        log_dir: the logs, for `inspect view`.
        how: of the steering, as for `models`.
        options: further arguments of `inspect_ai.eval`, e.g. `limit`, `epochs`, `max_tokens`.
    """
    evaluate = inspect_module("inspect_ai").eval
    steered = models(model, vectors=vectors, direction=direction, doses=doses, **(how or {}))
    # All doses run at the same time, so that their requests are batched together.
    logs: list[EvalLog] = evaluate(
        tasks, model=steered, log_dir=str(log_dir), max_tasks=len(steered), **{"display": "none", **options}
    )
    return sorted(logs, key=lambda log: float((log.eval.model_args or {}).get("dose", 0.0)))


def doses_of(logs: Sequence[EvalLog]) -> list[DoseScore]:
    """Every score by task and dose, with its interval. Scores that are no numbers are graded as Inspect does
    (C is 1, P is 0.5, I and N are 0)."""
    value_to_float = inspect_module("inspect_ai.scorer").value_to_float()
    rows = []
    for log in logs:
        dose = float((log.eval.model_args or {}).get("dose", 0.0))
        values: dict[str, list[tuple[str, float]]] = {}
        errors = 0
        for sample in log.samples or ():
            errors += sample.error is not None
            for name, score in (sample.scores or {}).items():
                parts = score.value if isinstance(score.value, dict) else {"": score.value}
                for part, value in parts.items():
                    if value is not None:
                        label = f"{name}/{part}" if part else name
                        values.setdefault(label, []).append((str(sample.id), value_to_float(value)))
        for label, scored in (values or {"": []}).items():
            mean = mean_interval([value for _, value in scored], [sample for sample, _ in scored])
            rows.append(DoseScore(log.eval.task, dose, label, mean, errors))
    return rows


def inspect_module(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtra("Inspect", "inspect") from None
