"""What all judges that write have in common: the key of a text, the order of asking, the result from raw answers."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence

from heartstrings.judges import asking
from heartstrings.judges.base import Case, Judged, Rubric
from heartstrings.judges.cache import JudgeCache

ASKED_AT_MOST = 2
"""Answers that are had from a judge about one text before it counts as unreadable."""


def key_of(case: Case, rubric: Rubric, *, judge: str, model: str, settings: Mapping[str, object]) -> str:
    """SHA-256 of all that decides an answer; the case's id is none of it."""
    parts = [judge, model, json.dumps(settings, sort_keys=True, default=str), rubric.hash, case.asked, case.answered]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def shuffled(n: int, seed: int) -> list[int]:
    """Rows 0 to n - 1 in the order in which they are asked."""
    rows = list(range(n))
    random.Random(seed).shuffle(rows)
    return rows


def from_answers(case: Case, rubric: Rubric, judge: str, raw: Sequence[str]) -> Judged | None:
    """The result, once one answer could be read or the last one came; None if the judge is still to be asked."""
    for answer in raw:
        if (scores := asking.read(answer, rubric)) is not None:
            return Judged(case.id, judge, scores, "read", tuple(raw))
    if len(raw) >= ASKED_AT_MOST:
        return Judged(case.id, judge, None, "unreadable", tuple(raw), note=f"{len(raw)} replies, none in the form")
    return None


def cached(case: Case, rubric: Rubric, judge: str, cache: JudgeCache, key: str) -> Judged | None:
    """`from_answers` with what the cache has."""
    return from_answers(case, rubric, judge, cache.answers(key))


def recalled(
    cases: Sequence[Case], rubric: Rubric, judge: str, cache: JudgeCache, keys: Sequence[str]
) -> list[Judged | None]:
    """`cached` for each."""
    return [cached(case, rubric, judge, cache, key) for case, key in zip(cases, keys, strict=True)]
