"""The JSON file of a run of the bench."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

VERSION = 1


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SpreadJson(_Strict):
    """Over the timed rounds."""

    median: float
    low: float
    high: float


class WayJson(_Strict):
    """One way to do the work of a case."""

    name: str
    status: Literal["measured", "not installed", "left out"]
    dtype: str
    note: str
    tolerance: float | None
    why: str | None = None
    """Of a way that was not measured: the error of the import, or who left it out."""
    seconds: list[float] | None = None
    """Wall time of each round."""
    processor_seconds: list[float] | None = None
    """Of all threads of the process, each round."""
    units: int | None = None
    rate: SpreadJson | None = None
    """Units a second."""
    time_over_first: SpreadJson | None = None
    """Time a unit, divided by that of the first way in the same round. Over 1: slower than the first."""
    share_of_matmul: SpreadJson | None = None
    """Needed operations a second, divided by the machine's rate of matrix products in this dtype in the same round."""
    error: float | None = None
    """Largest relative difference of the result from the first way's, over all rounds."""
    peak_bytes: int | None = None
    """Memory above the loaded model, in a process of its own; None: not measured."""


class FlatJson(_Strict):
    within: float
    largest: float
    holds: bool


class CaseJson(_Strict):
    bench: str
    model: str
    work: dict[str, Any]
    unit: str | None
    units: int
    flops: float | None
    flops_counted: str
    matmul: dict[str, SpreadJson]
    """By dtype: floating-point operations a second of square products, measured once a round."""
    ways: list[WayJson]
    flat: FlatJson | None = None


class ResultsJson(_Strict):
    schema_version: Literal[1]
    command: str
    date: str
    quick: bool
    rounds: int
    seconds: float
    """Of the whole run."""
    machine: dict[str, Any]
    versions: dict[str, str]
    cases: list[CaseJson]


class GpuJson(ResultsJson):
    """What `bench.gpu` writes."""

    contrasts: dict[str, Any] | None
    """By dtype, against float32 on the CPU; None without SmolLM2."""
