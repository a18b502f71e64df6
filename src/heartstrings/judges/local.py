"""A model that is loaded here as a judge, unsteered; and a panel of several judges."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from heartstrings.core.checks import check_fields
from heartstrings.core.engine import Engine, GenerateRequest, Message, Prompt
from heartstrings.core.errors import InputError
from heartstrings.judges._grading import ASKED_AT_MOST, Grading
from heartstrings.judges.base import Case, Judge, Judged, Rubric
from heartstrings.judges.cache import JudgeCache


@dataclass(frozen=True, eq=False)
class EngineJudge:
    """Asks through `engine.generate` at temperature 0 and without steering.

    A model may have the faults that it should find in its own texts, and a small model may be unable to judge.
    Calibrate it first.
    """

    engine: Engine
    name: str = ""
    """Default: the model's id."""
    cache: JudgeCache = field(default_factory=JudgeCache, repr=False)
    seed: int = 0
    """Shuffles the order of asking; recorded in the cache."""
    batch: Annotated[int, Field(ge=1)] = 16
    max_new_tokens: Annotated[int, Field(ge=1)] = 200

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.name:
            object.__setattr__(self, "name", self.engine.info.model_id)

    def judge(self, cases: Sequence[Case], rubric: Rubric) -> list[Judged]:
        """As in `Judge`; every batch is kept when it is done."""
        grading = self._grading(cases, rubric)
        missing = grading.missing(self.seed)
        for start in range(0, len(missing), self.batch):
            rows = {grading.keys[row]: row for row in missing[start : start + self.batch]}  # equal texts once
            with ExitStack() as claims:
                for key in sorted(rows):  # in one order, so that two processes cannot wait for each other
                    claims.enter_context(self.cache.claim(key))
                for _ in range(ASKED_AT_MOST):
                    self._ask(grading, [row for row in rows.values() if grading.result(row) is None])
        return [result for result in grading.results() if result is not None]

    def recall(self, cases: Sequence[Case], rubric: Rubric) -> list[Judged | None]:
        """As in `Judge`."""
        return self._grading(cases, rubric).results()

    def _grading(self, cases: Sequence[Case], rubric: Rubric) -> Grading:
        info = self.engine.info
        settings = {
            "weights": info.weights_hash,
            "template": info.template_hash,
            "dtype": info.dtype,
            "max_new_tokens": self.max_new_tokens,
        }
        return Grading(cases, rubric, self.cache, judge=self.name, model=info.model_id, settings=settings)

    def _ask(self, grading: Grading, rows: Sequence[int]) -> None:
        """One more answer about each of these texts."""
        questions = [grading.question(row) for row in rows]
        requests = [
            GenerateRequest(self._prompt(text), max_new_tokens=self.max_new_tokens, temperature=0) for text in questions
        ]
        if not requests:
            return
        for row, text, answer in zip(rows, questions, self.engine.generate(requests), strict=True):
            grading.keep(row, text, answer.text, answer.finish)

    def _prompt(self, text: str) -> Prompt:
        return f"{text}\n\n" if self.engine.info.template_hash is None else (Message("user", text),)


@dataclass(frozen=True, eq=False)
class Panel:
    """Several judges: the mean of the scores that could be read, and every vote."""

    judges: tuple[Judge, ...]

    def __post_init__(self) -> None:
        names = [judge.name for judge in self.judges]
        if len(names) < 2 or len(set(names)) < len(names):
            raise InputError(f"a panel of {names}", "two or more judges of different names")

    @property
    def name(self) -> str:
        return "panel of " + ", ".join(judge.name for judge in self.judges)

    def judge(self, cases: Sequence[Case], rubric: Rubric) -> list[Judged]:
        """As in `Judge`. An error of one member stops the panel."""
        votes = [judge.judge(cases, rubric) for judge in self.judges]
        return [self._together(case, tuple(of_case)) for case, *of_case in zip(cases, *votes, strict=True)]

    def recall(self, cases: Sequence[Case], rubric: Rubric) -> list[Judged | None]:
        """As in `Judge`. None for a case that some member has not judged."""
        rows = zip(cases, *(judge.recall(cases, rubric) for judge in self.judges), strict=True)
        return [None if None in of_case else self._together(case, tuple(of_case)) for case, *of_case in rows]

    def _together(self, case: Case, votes: tuple[Judged, ...]) -> Judged:
        read = [vote.scores for vote in votes if vote.scores is not None]
        raw = tuple(text for vote in votes for text in vote.raw)
        if not read:
            unreadable = any(vote.status == "unreadable" for vote in votes)
            note = "; ".join(f"{vote.judge}: {vote.note}" for vote in votes)
            return Judged(case.id, self.name, None, "unreadable" if unreadable else "no answer", raw, note, votes)
        scores = {name: sum(vote_scores[name] for vote_scores in read) / len(read) for name in read[0]}
        return Judged(case.id, self.name, scores, "read", raw, votes=votes)
