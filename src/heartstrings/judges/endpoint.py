"""A judge behind an OpenAI-compatible endpoint: several requests at once, and a budget over all of them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from heartstrings.core.checks import check_fields
from heartstrings.core.endpoint import Client, Completion, Endpoint, NoAnswer, Rejected, Stopped, TryAgain
from heartstrings.core.errors import InputError
from heartstrings.judges._grading import Grading
from heartstrings.judges.base import Case, Judged, OverBudget, Rubric
from heartstrings.judges.cache import JudgeCache

OF_ONE_CASE = frozenset({400, 413, 422})
"""Statuses that may be due to one text (too long, filtered): that case has no answer, the others go on."""
MOST_BYTES = 1_000_000
"""A longer answer is no judgement and is not read to its end."""
_TEMPLATE_TOKENS = 64
"""Tokens that a chat template may add to one message, in the estimate of the most a call can cost."""


@dataclass(frozen=True)
class Budget:
    """Caps on everything that one judge does with one cache, earlier runs included. None: no cap."""

    calls: Annotated[int | None, Field(ge=0)] = None
    """HTTP requests, including those that failed."""
    money: Annotated[float | int | None, Field(ge=0)] = None
    """In the unit of the prices."""
    price_in: Annotated[float | int, Field(ge=0)] = 0
    """Per million tokens of questions."""
    price_out: Annotated[float | int, Field(ge=0)] = 0
    """Per million tokens of answers."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.money is not None and not self.price_in + self.price_out:
            raise InputError("a cap in money without prices", "price_in and price_out per million tokens")

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """Money for this many tokens."""
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6


@dataclass(frozen=True, eq=False)
class EndpointJudge(Endpoint):
    """Asks by chat completions at temperature 0. `body` is part of what the cache goes by."""

    name: str = ""
    """Default: the model."""
    cache: JudgeCache = field(default_factory=JudgeCache, repr=False)
    """Default: in memory. Give one on the disk to survive a kill."""
    budget: Budget = Budget()
    seed: int = 0
    """Shuffles the order of asking; recorded in the cache."""
    max_tokens: Annotated[int, Field(ge=1)] = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.name:
            object.__setattr__(self, "name", self.model)

    def judge(self, cases: Sequence[Case], rubric: Rubric) -> list[Judged]:
        """As in `Judge`. Raises ModelError when the server refuses for good (401, 403, 404, ...), or when
        `2 * concurrency` requests in a row have no answer after all their tries."""
        grading = self._grading(cases, rubric)
        if missing := grading.missing(self.seed):
            _Run(self, grading).work(missing)
        return [result for result in grading.results() if result is not None]

    def recall(self, cases: Sequence[Case], rubric: Rubric) -> list[Judged | None]:
        """As in `Judge`."""
        return self._grading(cases, rubric).results()

    def _grading(self, cases: Sequence[Case], rubric: Rubric) -> Grading:
        settings = {"max_tokens": self.max_tokens, "body": dict(self.body)}
        return Grading(cases, rubric, self.cache, judge=self.name, model=self.model, settings=settings)


class _Run:
    """One call of `judge`: the requests of several threads within one budget."""

    def __init__(self, judge: EndpointJudge, grading: Grading) -> None:
        self.judge, self.grading = judge, grading
        self.stop = threading.Event()
        self.client = Client(judge, self.stop, most_bytes=MOST_BYTES)
        self.over_budget = False
        self.under_way = 0
        """Requests that are booked and not settled."""
        self.changed = threading.Condition()

    def work(self, rows: Sequence[int]) -> None:
        with self.client, ThreadPoolExecutor(self.judge.concurrency) as threads:
            try:
                for done in as_completed([threads.submit(self._one, row) for row in rows]):
                    done.result()
            except BaseException:  # also an interrupt: requests under way are finished, no other goes out
                self.stop.set()
                raise
        if self.over_budget:
            spent = self.judge.cache.spent(self.judge.name, self.judge.model)
            results = self.grading.results()
            raise OverBudget(
                self.judge.name, f"{spent.calls} calls, {spent.money:.6g} money", results.count(None), len(results)
            )

    def _one(self, row: int) -> None:
        """Ask until there is a result, an answer can't be had, or the run stops."""
        grading = self.grading
        if self.stop.is_set():
            return
        with self.judge.cache.claim(grading.keys[row], self.stop), suppress(Stopped):
            try:
                while grading.result(row) is None:
                    question = grading.question(row)
                    said = self.client.retried(lambda question=question: self._once(question))  # type: ignore[misc]
                    grading.keep(row, question, said.text, said.finish)
            except NoAnswer as error:
                grading.unanswered[row] = str(error)
            except BaseException:  # no other thread sends a further request
                self.stop.set()
                raise

    def _once(self, question: str) -> Completion:
        """One request, booked before it goes out at the most it can cost, and settled after it."""
        judge = self.judge
        # A token is a byte or more.
        most = judge.budget.cost(len(question.encode("utf-8", "replace")) + _TEMPLATE_TOKENS, judge.max_tokens)
        call, cost = self._book(most), most
        try:
            said = self.client.once([("user", question)], temperature=0, max_tokens=judge.max_tokens)
            if said.used is not None:
                cost = judge.budget.cost(*said.used)
            return said
        except TryAgain as error:
            if error.status is not None:
                cost = 0.0
            raise
        except Rejected as error:
            cost = 0.0
            if error.status in OF_ONE_CASE:
                raise NoAnswer(f"HTTP {error.status} {error.said}") from None
            raise
        finally:
            self._settle(call, cost, most)

    def _book(self, most: float) -> int:
        """The number of a call within the budget. Waits for requests under way, which may cost less than was booked.

        Raises:
            Stopped: the budget is spent, or the run stops.
        """
        judge = self.judge
        with self.changed:
            while not self.stop.is_set():
                call = judge.cache.book(
                    judge.name, judge.model, cost=most, calls=judge.budget.calls, money=judge.budget.money
                )
                if call is not None:
                    self.under_way += 1
                    return call
                if not self.under_way:
                    self.over_budget = True
                    self.stop.set()
                    break
                self.changed.wait(0.5)
        raise Stopped

    def _settle(self, call: int, cost: float, most: float) -> None:
        try:
            # Where the cost is not known, the booking of the most it can cost stays.
            if cost != most or not most:
                self.judge.cache.settle(call, cost)
        finally:
            with self.changed:
                self.under_way -= 1
                self.changed.notify_all()
