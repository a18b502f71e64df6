"""The files of a run's folder that the report of a verdict is made from. Missing ones are listed with the reason."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from heartstrings.engines.hf.named import short_name
from heartstrings.report._optional import read_object
from heartstrings.verdict.results import AnswerCard, Verdict


@dataclass(frozen=True)
class VerdictFiles:
    """One run as read from disk. What is None comes with its reason in `absent`."""

    folder: Path
    verdict: Verdict
    plan: Mapping[str, Any] | None
    geometry: str | None
    """The atlas's finding in one sentence."""
    atlas: Path
    """Folder of the atlas or bundle that the vectors come from; it may be gone."""
    absent: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The model as a title: no long paths, and the folder's name where no answer names one."""
        model = self.verdict.answers[0].model if self.verdict.answers else str((self.plan or {}).get("model") or "")
        if not model:
            return self.folder.resolve().name
        return short_name(model)

    @property
    def window(self) -> float | None:
        """Half width of the slope window; None where the plan is not known."""
        value = (self.plan or {}).get("slope_within")
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None

    @property
    def atlas_report(self) -> str | None:
        """Path of the atlas's own report, relative to the folder; None where there is none."""
        report = self.atlas / "report.html"
        if not report.is_file():
            return None
        return quote(Path(os.path.relpath(report.resolve(), self.folder.resolve())).as_posix())

    def title(self, card: AnswerCard) -> str:
        """The direction, with the behaviour and the site and layer where these are needed to tell answers apart."""
        parts = [card.direction]
        if len({other.behaviour for other in self.verdict.answers}) > 1:
            parts.append(card.behaviour)
        same = [
            other
            for other in self.verdict.answers
            if (other.direction, other.behaviour) == (card.direction, card.behaviour)
        ]
        if len(same) > 1:
            parts.append(f"{card.site} {card.layer}")
        return ", ".join(parts)


def read_verdict(folder: str | Path) -> VerdictFiles:
    """Read a run's folder; only `verdict.json` must be there.

    Raises:
        InputError: no such folder, no `verdict.json`, or one that is damaged or of another schema.
    """
    folder = Path(folder)
    verdict = Verdict.load(folder / "verdict.json")
    absent: dict[str, str] = {}
    plan = read_object(folder / "plan.json", "plan", absent, where="in this run")
    if plan is not None:
        plan = _plan(plan, verdict, absent)
    vectors = (plan or {}).get("vectors")
    atlas = Path(vectors) if isinstance(vectors, str) else folder / "atlas"
    file = atlas / "geometry.json"
    geometry = read_object(file, "geometry", absent, where="with these vectors", label=f"{atlas.name}/{file.name}")
    sentence = geometry.get("sentence") if geometry else None
    return VerdictFiles(folder, verdict, plan, sentence if isinstance(sentence, str) else None, atlas, absent)


def _plan(content: dict[str, Any], verdict: Verdict, absent: dict[str, str]) -> dict[str, Any] | None:
    """The plan's fields, if it is the plan of this verdict."""
    plan = content.get("plan")
    if not isinstance(plan, dict):
        absent["plan"] = "plan.json holds no plan."
        return None
    if content.get("hash") != verdict.plan_hash:
        absent["plan"] = "plan.json is not the plan of this verdict: the hashes differ."
        return None
    return plan
