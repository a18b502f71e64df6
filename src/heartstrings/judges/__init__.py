"""Judges: models that score free text, blind, cached, on a budget, and only after they have been calibrated."""

from __future__ import annotations

from heartstrings.judges.base import Case, Cut, Judge, Judged, OverBudget, Rubric, Scale
from heartstrings.judges.cache import JudgeCache
from heartstrings.judges.calibration import Agreement, Calibration, Known, agreement, calibrate, check, known_cases
from heartstrings.judges.endpoint import Budget, EndpointJudge
from heartstrings.judges.local import EngineJudge, Panel
from heartstrings.judges.rubrics import RUBRICS, rubric

__all__ = [
    "RUBRICS", "Agreement", "Budget", "Calibration", "Case", "Cut", "EndpointJudge", "EngineJudge", "Judge",
    "JudgeCache", "Judged", "Known", "OverBudget", "Panel", "Rubric", "Scale", "agreement", "calibrate", "check",
    "known_cases", "rubric",
]  # fmt: skip
