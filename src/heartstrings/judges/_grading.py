"""What all judges that write have in common: the key of a text, the order of asking, the result from raw answers."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from heartstrings.core.errors import InputError
from heartstrings.judges import _asking as asking
from heartstrings.judges.base import Case, Judged, Rubric
from heartstrings.judges.cache import JudgeCache

ASKED_AT_MOST = 2
"""Answers of a judge about one text before the text counts as unreadable."""


class Grading:
    """The cases of one call of a judge, and what its cache has about them.

    Args:
        settings: what else decides an answer.
    Raises:
        InputError: two cases share an id.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        rubric: Rubric,
        cache: JudgeCache,
        *,
        judge: str,
        model: str,
        settings: Mapping[str, object],
    ) -> None:
        seen: set[str] = set()
        for case in cases:
            if case.id in seen:
                raise InputError(f"two cases with id {case.id!r}", "a different id for every case")
            seen.add(case.id)
        self.cases, self.rubric, self.cache, self.judge, self.model = cases, rubric, cache, judge, model
        self.keys = [key_of(case, rubric, judge=judge, model=model, settings=settings) for case in cases]
        self.unanswered: dict[int, str] = {}
        """Rows that had no answer in this call, and why."""

    def missing(self, seed: int) -> list[int]:
        """Rows without a result, in the order in which they are asked. The cache notes that order's seed."""
        rows = [row for row in shuffled(len(self.cases), seed) if self.result(row) is None]
        if rows:
            self.cache.record_run(
                judge=self.judge,
                model=self.model,
                rubric=self.rubric.name,
                rubric_hash=self.rubric.hash,
                seed=seed,
                cases=len(self.cases),
            )
        return rows

    def result(self, row: int) -> Judged | None:
        """From the raw answers so far; None if the judge is still to be asked.

        The first answer that can be read counts. After `ASKED_AT_MOST` answers without one the text is unreadable.
        """
        case, raw = self.cases[row], self.cache.answers(self.keys[row])
        for answer in raw:
            if (scores := asking.read(answer, self.rubric)) is not None:
                return Judged(case.id, self.judge, scores, "read", raw)
        if len(raw) >= ASKED_AT_MOST:
            note = f"{len(raw)} replies, none in the form"
            return Judged(case.id, self.judge, None, "unreadable", raw, note=note)
        if row in self.unanswered:
            return Judged(case.id, self.judge, None, "no answer", raw, note=self.unanswered[row])
        return None

    def results(self) -> list[Judged | None]:
        """`result` of every row."""
        return [self.result(row) for row in range(len(self.cases))]

    def question(self, row: int) -> str:
        """The message to the judge, with a reminder if an earlier reply could not be read."""
        return asking.question(self.cases[row], self.rubric, again=bool(self.cache.answers(self.keys[row])))

    def keep(self, row: int, question: str, raw: str, finish: str) -> None:
        """Record one answer."""
        self.cache.add(
            self.keys[row],
            judge=self.judge,
            model=self.model,
            rubric=self.rubric.name,
            question=question,
            raw=raw,
            finish=finish,
        )


def key_of(case: Case, rubric: Rubric, *, judge: str, model: str, settings: Mapping[str, Any]) -> str:
    """SHA-256 of everything that decides an answer. The case's id is not part of it."""
    parts = [judge, model, json.dumps(settings, sort_keys=True, default=str), rubric.hash, case.asked, case.answered]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def shuffled(n: int, seed: int) -> list[int]:
    """Rows 0 to n - 1 in the order in which they are asked."""
    rows = list(range(n))
    random.Random(seed).shuffle(rows)
    return rows
