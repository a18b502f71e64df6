"""Compares several ways to the same numbers: in interleaved rounds, each result checked against the first way's.

The ways take turns in each round, in a random order, so that other load on the machine hits all of them alike. A ratio
is taken within a round; the figures are the median and the range over the rounds. A way whose result differs from the
first way's by more than its tolerance stops the run.
"""

from __future__ import annotations

import gc
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Run = Callable[[], Any]


class WrongNumbers(Exception):
    """A way gave other numbers than the first way, so its time means nothing."""


class LeftOut(Exception):
    """A way was left out at the user's wish."""


@dataclass(frozen=True)
class Way:
    """One way to do the work of a case."""

    name: str
    prepare: Callable[[], Run]
    """Does what is not timed (imports, copies of the model) and returns what is. An ImportError is reported as "not
    installed", LeftOut as "left out"."""
    error: Callable[[Any, Any], float] | None = None
    """Largest relative difference of this way's result from the first way's; None: nothing to compare."""
    tolerance: float | None = None
    """What `error` may be at most; None: it is reported, whatever it is."""
    dtype: str = "float32"
    units: int | None = None
    """Where a way does a part of the work only: how many units. None: all of the case's."""
    note: str = ""


@dataclass(frozen=True)
class Case:
    """Some work, and the ways to do it. The first way is the reference."""

    bench: str
    model: str
    ways: tuple[Way, ...]
    unit: str | None = None
    """What a rate counts, e.g. `tokens`; None: only seconds are reported."""
    units: int = 1
    work: dict[str, Any] = field(default_factory=dict)
    """The size of the work, in words and numbers."""
    flops: float | None = None
    """Floating-point operations that the work needs, for the share of the machine's rate of matrix products."""
    flops_counted: str = ""
    memory: bool = True
    """Whether the peak memory of each way is measured, in a process of its own."""
    flat: float | None = None
    """Where all ways should take the same time: by which share they may differ. Reported, never enforced."""


@dataclass(frozen=True)
class Spread:
    """Median and range over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Taken:
    """The time of one call."""

    wall: float
    processor: float
    """Of all threads of this process: on a busy machine a better measure than `wall`, with one thread."""


def relative(result: np.ndarray, reference: np.ndarray) -> float:
    """Largest absolute difference over the largest absolute value. Not finite or of another shape: infinite."""
    if result.shape != reference.shape or not np.isfinite(result).all():
        return float("inf")
    return float(np.abs(result - reference).max() / np.abs(reference).max())


def prepared(ways: Sequence[Way]) -> tuple[dict[str, Run], dict[str, dict[str, str]]]:
    """What can be timed, and the status of the others with the reason."""
    runs, missing = {}, {}
    for way in ways:
        try:
            runs[way.name] = way.prepare()
        except ImportError as error:
            missing[way.name] = {"status": "not installed", "why": str(error)}
        except LeftOut as error:
            missing[way.name] = {"status": "left out", "why": str(error)}
    return runs, missing


def check(case: Case, way: Way, result: Any, reference: Any) -> float | None:
    """The relative difference of a result from the reference.

    Raises:
        WrongNumbers: over the way's tolerance.
    """
    if way.error is None:
        return None
    error = way.error(result, reference)
    if way.tolerance is not None and not error <= way.tolerance:
        raise WrongNumbers(
            f"{case.bench}, {case.model}: the numbers of {way.name} differ from those of {case.ways[0].name} by "
            f"{error:.1e}; expected {way.tolerance:.0e} at most. Correct this way, or leave it out of the comparison"
        )
    return error


def compare(
    case: Case, *, rounds: int, seed: int = 0, gauge: Callable[[], dict[str, float]] | None = None
) -> dict[str, Any]:
    """Time all ways of a case.

    Args:
        rounds: timed rounds, after one in which each way warms up.
        gauge: measures the machine's rate of matrix products by dtype, in floating-point operations a second. It takes
            its turn in every round as the ways do.
    Returns:
        The case as JSON values; its schema is in `schema.py`.
    Raises:
        WrongNumbers: a way gave other numbers than the first one, in any round.
    """
    runs, missing = prepared(case.ways)
    times: dict[str, list[Taken]] = {name: [] for name in runs}
    errors: dict[str, list[float]] = {name: [] for name in runs}
    machine: list[dict[str, float]] = []
    ways = {way.name: way for way in case.ways if way.name in runs}
    first = case.ways[0].name
    draw = random.Random(seed)
    reference = None
    for number in range(rounds + 1):
        order = list(runs)
        if number:
            draw.shuffle(order)
            machine.append(gauge() if gauge else {})
        for name in order:  # unshuffled in the first round, so the reference comes first
            gc.collect()
            taken, result = timed(runs[name])
            if number == 0 and name == first:
                reference = result
            error = check(case, ways[name], result, reference)
            if number:
                times[name].append(taken)
            if error is not None:
                errors[name].append(error)
            print(
                f"  {case.bench} {case.model}: round {number}, {name}: {taken.wall:.2f} s", file=sys.stderr, flush=True
            )
    return _as_json(case, missing, times, errors, machine)


def timed(run: Run) -> tuple[Taken, Any]:
    """Wall seconds and processor seconds of a call, and its result; on CUDA until the device is done."""
    began, processor = time.perf_counter(), time.process_time()
    result = run()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()
    return Taken(time.perf_counter() - began, time.process_time() - processor), result


def _as_json(
    case: Case,
    missing: dict[str, dict[str, str]],
    times: dict[str, list[Taken]],
    errors: dict[str, list[float]],
    machine: list[dict[str, float]],
) -> dict[str, Any]:
    def units(way: Way) -> int:
        return case.units if way.units is None else way.units

    own = [taken.wall / units(case.ways[0]) for taken in times[case.ways[0].name]]
    entries = []
    for way in case.ways:
        entry: dict[str, Any] = {"name": way.name, "dtype": way.dtype, "note": way.note, "tolerance": way.tolerance}
        if way.name in missing:
            entries.append(entry | missing[way.name])
            continue
        taken = [each.wall / units(way) for each in times[way.name]]
        shares = [
            case.flops / case.units / each / now[way.dtype]
            for each, now in zip(taken, machine, strict=True) if case.flops and way.dtype in now
        ]  # fmt: skip
        entries.append(
            entry
            | {
                "status": "measured",
                "seconds": [each.wall for each in times[way.name]],
                "processor_seconds": [each.processor for each in times[way.name]],
                "units": units(way),
                "rate": vars(Spread.of([1 / each for each in taken])) if case.unit else None,
                "time_over_first": vars(Spread.of([each / mine for each, mine in zip(taken, own, strict=True)])),
                "share_of_matmul": vars(Spread.of(shares)) if shares else None,
                "error": max(errors[way.name], default=None),
                "peak_bytes": None,
            }
        )
    found: dict[str, Any] = {
        "bench": case.bench,
        "model": case.model,
        "work": case.work,
        "unit": case.unit,
        "units": case.units,
        "flops": case.flops,
        "flops_counted": case.flops_counted,
        "matmul": {name: vars(Spread.of([now[name] for now in machine])) for name in (machine[0] if machine else {})},
        "ways": entries,
    }
    if case.flat is not None:
        ratios = [entry["time_over_first"]["median"] for entry in entries if entry["status"] == "measured"]
        found["flat"] = {"within": case.flat, "largest": max(ratios), "holds": max(ratios) <= 1 + case.flat}
    return found
