"""The model at hand as a judge, unsteered; and several judges as one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from heartstrings.core.engine import Engine, GenerateRequest, Message, Prompt
from heartstrings.core.errors import InputError
from heartstrings.judges import asking, grading
from heartstrings.judges.base import Case, Judge, Judged, Rubric, check_cases
from heartstrings.judges.cache import JudgeCache


@dataclass(frozen=True, eq=False)
class EngineJudge:
    """Asks through `engine.generate` at temperature 0 and without steering.

    A model that judges its own kind may share its faults, and a small one may not be able to judge at all: calibrate.
    """

    engine: Engine
    name: str = ""
    """Default: the model's id."""
    cache: JudgeCache = field(default_factory=JudgeCache, repr=False)
    seed: int = 0
    """Shuffles the order of asking; recorded in the cache."""
    batch: int = 16
    max_new_tokens: int = 200

    def __post_init__(self) -> None:
        if self.batch < 1 or self.max_new_tokens < 1:
            raise InputError("a batch or max_new_tokens under 1", "1 or more")
        if not self.name:
            object.__setattr__(self, "name", self.engine.info.model_id)

    def judge(self, cases: Sequence[Case], rubric: Rubric) -> list[Judged]:
        """As in `Judge`; every batch is kept when it is done."""
        check_cases(cases)
        model = self.engine.info.model_id
        keys = self._keys(cases, rubric)
        done = grading.recalled(cases, rubric, self.name, self.cache, keys)
        missing = [row for row in grading.shuffled(len(cases), self.seed) if done[row] is None]
        if missing:
            self.cache.record_run(
                judge=self.name, model=model, rubric=rubric.name, rubric_hash=rubric.hash, seed=self.seed,
                cases=len(cases),
            )  # fmt: skip
        for start in range(0, len(missing), self.batch):
            rows = missing[start : start + self.batch]
            with ExitStack() as claims:
                for key in sorted({keys[row] for row in rows}):  # in one order, so that no two processes lock up
                    claims.enter_context(self.cache.claim(key))
                for _ in range(grading.ASKED_AT_MOST):
                    self._ask({keys[row]: cases[row] for row in rows}, rubric, model)
                for row in rows:
                    done[row] = grading.cached(cases[row], rubric, self.name, self.cache, keys[row])
        return [result for result in done if result is not None]

    def recall(self, cases: Sequence[Case], rubric: Rubric) -> list[Judged | None]:
        """As in `Judge`."""
        return grading.recalled(cases, rubric, self.name, self.cache, self._keys(cases, rubric))

    def _keys(self, cases: Sequence[Case], rubric: Rubric) -> list[str]:
        info = self.engine.info
        settings = {
            "weights": info.weights_hash, "template": info.template_hash, "dtype": info.dtype,
            "max_new_tokens": self.max_new_tokens,
        }  # fmt: skip
        model = info.model_id
        return [grading.key_of(case, rubric, judge=self.name, model=model, settings=settings) for case in cases]

    def _ask(self, cases: dict[str, Case], rubric: Rubric, model: str) -> None:
        """One more answer for each text that has no result yet."""
        questions = {
            key: asking.question(case, rubric, again=bool(self.cache.answers(key)))
            for key, case in cases.items()
            if grading.cached(case, rubric, self.name, self.cache, key) is None
        }
        requests = [
            GenerateRequest(self._prompt(text), max_new_tokens=self.max_new_tokens, temperature=0)
            for text in questions.values()
        ]
        if not requests:
            return
        for (key, text), answer in zip(questions.items(), self.engine.generate(requests), strict=True):
            self.cache.add(
                key, judge=self.name, model=model, rubric=rubric.name, question=text, raw=answer.text,
                finish=answer.finish,
            )  # fmt: skip

    def _prompt(self, text: str) -> Prompt:
        return f"{text}\n\n" if self.engine.info.template_hash is None else (Message("user", text),)


@dataclass(frozen=True, eq=False)
class Panel:
    """Several judges at once: the mean of the scores that could be had, and every vote kept."""

    judges: tuple[Judge, ...]

    def __post_init__(self) -> None:
        names = [judge.name for judge in self.judges]
        if len(names) < 2 or len(set(names)) < len(names):
            raise InputError(f"a panel of {names}", "two or more judges of different names")

    @property
    def name(self) -> str:
        return "panel of " + ", ".join(judge.name for judge in self.judges)

    def judge(self, cases: Sequence[Case], rubric: Rubric) -> list[Judged]:
        """As in `Judge`. A member that fails for good or runs out of its budget stops the panel."""
        votes = [judge.judge(cases, rubric) for judge in self.judges]
        return [self._together(case, tuple(of_case)) for case, *of_case in zip(cases, *votes, strict=True)]

    def recall(self, cases: Sequence[Case], rubric: Rubric) -> list[Judged | None]:
        """As in `Judge`; a case that one member has not judged is still to be asked."""
        rows = zip(cases, *(judge.recall(cases, rubric) for judge in self.judges), strict=True)
        return [None if None in of_case else self._together(case, tuple(of_case)) for case, *of_case in rows]

    def _together(self, case: Case, votes: tuple[Judged, ...]) -> Judged:
        read = [vote.scores for vote in votes if vote.scores is not None]
        raw = tuple(text for vote in votes for text in vote.raw)
        if not read:
            unreadable = any(vote.status == "unreadable" for vote in votes)
            note = "; ".join(f"{vote.judge}: {vote.note}" for vote in votes)
            return Judged(case.id, self.name, None, "unreadable" if unreadable else "no answer", raw, note, votes)
        scores = {name: sum(one[name] for one in read) / len(read) for name in read[0]}
        return Judged(case.id, self.name, scores, "read", raw, votes=votes)
