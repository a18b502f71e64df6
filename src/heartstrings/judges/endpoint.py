"""A judge behind any OpenAI-compatible endpoint: several calls at once, patience, a budget that holds."""

from __future__ import annotations

import json
import os
import queue
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

from heartstrings.core.errors import InputError, MissingExtra, ModelError
from heartstrings.judges import asking, grading
from heartstrings.judges.base import Case, Judged, OverBudget, Rubric, check_cases
from heartstrings.judges.cache import JudgeCache

try:
    import httpx
except ImportError:  # said when a judge is made
    httpx = None  # type: ignore[assignment]

RETRIED = frozenset({408, 409, 425, 429})
"""Statuses worth another try, beside every 5xx."""
OF_ONE_CASE = frozenset({400, 413, 422})
"""Statuses that may lie in one text (too long, filtered): that case has no answer, the others go on."""
MOST_BYTES = 1_000_000
"""A larger answer is no judgement and is not read to its end."""
_TEMPLATE_TOKENS = 64
"""Tokens that a chat template may add around one message, for the most a call can cost."""


@dataclass(frozen=True)
class Budget:
    """Caps over everything that one judge does with one cache, earlier runs included. None: no cap."""

    calls: int | None = None
    """HTTP requests, those that failed included."""
    money: float | int | None = None
    """In the unit of the prices."""
    price_in: float | int = 0
    """Per million tokens of questions."""
    price_out: float | int = 0
    """Per million tokens of answers."""

    def __post_init__(self) -> None:
        if min(self.price_in, self.price_out, self.calls or 0, self.money or 0) < 0:
            raise InputError("a negative price or cap", "numbers from 0 on")
        if self.money is not None and not self.price_in + self.price_out:
            raise InputError("a cap in money without prices", "price_in and price_out per million tokens")

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """Money for so many tokens."""
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6


@dataclass(frozen=True, eq=False)
class EndpointJudge:
    """Chat completions at temperature 0 from `base_url`, which usually ends in `/v1`.

    The API key is read from the environment when calls are made; it is never kept, logged or written.
    """

    base_url: str
    model: str
    name: str = ""
    """Default: the model."""
    cache: JudgeCache = field(default_factory=JudgeCache, repr=False)
    """Default: in memory. Give one on the disk to survive a kill."""
    budget: Budget = Budget()
    seed: int = 0
    """Shuffles the order of asking; recorded in the cache."""
    key_variable: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key. May be unset for a server without keys."""
    concurrency: int = 8
    timeout: float | int = 60
    """Seconds for one answer, from the request to its last byte."""
    tries: int = 6
    """HTTP requests for one answer before the case is left for another run."""
    backoff: float | int = 1
    """Seconds before the second request; doubled every time, up to 60, and varied by half."""
    max_tokens: int = 200
    body: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of every request, e.g. to turn a thinking mode off. Part of what the cache goes by."""

    def __post_init__(self) -> None:
        if httpx is None:
            raise MissingExtra("Judging through an endpoint", "endpoint")
        if not self.base_url.startswith(("http://", "https://")):
            raise InputError(f"endpoint {self.base_url!r}", "a URL like http://localhost:8000/v1")
        if not self.model:
            raise InputError("no model named for the endpoint", "a model that the endpoint serves")
        if min(self.concurrency, self.tries, self.max_tokens) < 1 or self.timeout <= 0 or self.backoff < 0:
            raise InputError("concurrency, tries, max_tokens or timeout too small, or a negative backoff")
        if not self.name:
            object.__setattr__(self, "name", self.model)

    def judge(self, cases: Sequence[Case], rubric: Rubric) -> list[Judged]:
        """As in `Judge`. Gives up with ModelError when the server refuses for good (401, 403, 404, ...), or when
        `2 * concurrency` cases in a row have no answer, each after all its tries."""
        check_cases(cases)
        keys = self._keys(cases, rubric)
        done = grading.recalled(cases, rubric, self.name, self.cache, keys)
        missing = [row for row in grading.shuffled(len(cases), self.seed) if done[row] is None]
        if missing:
            self.cache.record_run(
                judge=self.name, model=self.model, rubric=rubric.name, rubric_hash=rubric.hash, seed=self.seed,
                cases=len(cases),
            )  # fmt: skip
            _Run(self, rubric, cases, keys, done).work(missing)
        return [result for result in done if result is not None]

    def recall(self, cases: Sequence[Case], rubric: Rubric) -> list[Judged | None]:
        """As in `Judge`."""
        return grading.recalled(cases, rubric, self.name, self.cache, self._keys(cases, rubric))

    def _keys(self, cases: Sequence[Case], rubric: Rubric) -> list[str]:
        settings = {"max_tokens": self.max_tokens, "body": dict(self.body)}
        return [grading.key_of(case, rubric, judge=self.name, model=self.model, settings=settings) for case in cases]


class _Run:
    """One call of `judge`: threads that take rows from a queue."""

    def __init__(
        self, judge: EndpointJudge, rubric: Rubric, cases: Sequence[Case], keys: list[str], done: list[Judged | None]
    ) -> None:
        self.judge, self.rubric, self.cases, self.keys, self.done = judge, rubric, cases, keys, done
        self.stop = threading.Event()
        self.over = False
        self.error: BaseException | None = None
        self.failed = 0
        """Cases in a row without an answer."""
        self.under_way = 0
        self.changed = threading.Condition()
        self.rows: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.secret = os.environ.get(judge.key_variable, "")

    def work(self, missing: list[int]) -> None:
        judge = self.judge
        for row in missing:
            self.rows.put(row)
        headers = {"Authorization": f"Bearer {self.secret}"} if self.secret else {}
        with httpx.Client(headers=headers, timeout=judge.timeout) as client:
            names = range(min(judge.concurrency, len(missing)))
            threads = [threading.Thread(target=self._thread, args=(client,), daemon=True) for _ in names]
            try:
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            except BaseException:  # an interrupt: what is under way is finished, nothing new is begun
                self.stop.set()
                for thread in threads:
                    thread.join()
                raise
        if self.error is not None:
            raise self.error
        if self.over:
            spent = judge.cache.spent(judge.name, judge.model)
            left = sum(result is None for result in self.done)
            raise OverBudget(judge.name, f"{spent.calls} calls, {spent.money:.6g} money", left, len(self.done))

    def _thread(self, client: httpx.Client) -> None:
        try:
            while not self.stop.is_set():
                try:
                    row = self.rows.get_nowait()
                except queue.Empty:
                    return
                self._one(client, row)
        except BaseException as error:
            self.error = self.error or error
            self.stop.set()

    def _one(self, client: httpx.Client, row: int) -> None:
        """Ask until there is a result, an answer can't be had, or the run stops."""
        judge, case, key = self.judge, self.cases[row], self.keys[row]
        with judge.cache.claim(key, self.stop):
            while (result := grading.cached(case, self.rubric, judge.name, judge.cache, key)) is None:
                if self.stop.is_set():
                    return
                raw = judge.cache.answers(key)
                question = asking.question(case, self.rubric, again=bool(raw))
                text, finish, reason = self._answer(client, question)
                if text is None:
                    if not reason:  # stopped, or over the budget
                        return
                    result = Judged(case.id, judge.name, None, "no answer", raw, note=reason)
                    break
                judge.cache.add(
                    key, judge=judge.name, model=judge.model, rubric=self.rubric.name, question=question, raw=text,
                    finish=finish,
                )  # fmt: skip
        self.done[row] = result
        with self.changed:
            self.failed = self.failed + 1 if result.status == "no answer" else 0
            if self.failed >= 2 * judge.concurrency:
                raise ModelError(
                    f"{self.failed} cases in a row had no answer from {judge.base_url}; the last: {result.note}",
                    "a server that answers",
                    "Put it right and judge again with the same cache: what is judged is kept",
                )

    def _answer(self, client: httpx.Client, question: str) -> tuple[str | None, str, str]:
        """(text, how it ended, why there is none); no text and no reason: the run is stopping."""
        judge, reason, told = self.judge, "", 0.0
        request = {
            "model": judge.model, "messages": [{"role": "user", "content": question}], "temperature": 0,
            "max_tokens": judge.max_tokens, **judge.body,
        }  # fmt: skip
        # A token is a byte or more, so this is the most that a call can cost.
        most = judge.budget.cost(len(question.encode("utf-8", "replace")) + _TEMPLATE_TOKENS, judge.max_tokens)
        for attempt in range(judge.tries):
            if attempt:
                wait = min(60.0, judge.backoff * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)
                self.stop.wait(max(wait, told))
            call = None if self.stop.is_set() else self._book(most)
            if call is None:
                return None, "", ""
            told, cost = 0.0, most
            try:
                status, headers, content = self._post(client, request)
                if status in RETRIED or status >= 500:
                    reason, told, cost = f"HTTP {status}", _seconds(headers.get("retry-after")), 0.0
                    continue
                if status != 200:
                    cost = 0.0
                    said = self._without_key(" ".join(content.decode("utf-8", "replace").split()))[:200]
                    if status in OF_ONE_CASE:
                        return None, "", f"HTTP {status} {said}"
                    raise ModelError(
                        f"{judge.base_url} refused the call: HTTP {status} {said}",
                        "a served model and, if the server wants one, a valid key",
                        f"Check the model name {judge.model!r} and the variable {judge.key_variable}",
                    )
                text, finish, used = _completion(content)
                cost = most if used is None else judge.budget.cost(*used)
                return text, finish, ""
            except httpx.TimeoutException:
                reason = f"no answer within {judge.timeout:g} s"
            except httpx.HTTPError as error:
                reason = self._without_key(f"{type(error).__name__}: {error}")
            except ValueError as error:
                reason = str(error)
            finally:
                self._settle(call, cost, most)
        return None, "", f"{reason} ({judge.tries} tries)"

    def _post(self, client: httpx.Client, request: Mapping[str, Any]) -> tuple[int, Any, bytes]:
        """Status, headers and body, read to its end or to a limit. ValueError for a body without end."""
        until = time.monotonic() + self.judge.timeout
        content = bytearray()
        url = f"{self.judge.base_url.rstrip('/')}/chat/completions"
        with client.stream("POST", url, json=request) as response:
            for piece in response.iter_bytes():
                content += piece
                if len(content) > MOST_BYTES:
                    raise ValueError(f"an answer of more than {MOST_BYTES} bytes")
                if time.monotonic() > until:  # httpx's own timeout starts again with every byte
                    raise httpx.ReadTimeout("slow")
            return response.status_code, response.headers, bytes(content)

    def _book(self, most: float) -> int | None:
        """A call within the budget; waits for calls under way, since they may come out cheaper than booked."""
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
                    self.over = True
                    self.stop.set()
                    break
                self.changed.wait(0.5)
        return None

    def _settle(self, call: int, cost: float, most: float) -> None:
        try:
            # Nothing came, or not what it used: the booking of the most it can cost stays.
            if cost != most or not most:
                self.judge.cache.settle(call, cost)
        finally:
            with self.changed:
                self.under_way -= 1
                self.changed.notify_all()

    def _without_key(self, text: str) -> str:
        return text.replace(self.secret, "***") if self.secret else text


def _completion(content: bytes) -> tuple[str, str, tuple[int, int] | None]:
    """Text, how it ended and tokens used of a chat completion. ValueError for anything of another shape."""
    try:
        answer = json.loads(content)
        choice = answer["choices"][0]
        message = choice["message"]
        text = message.get("content")
        usage = answer.get("usage")
        finish = str(choice.get("finish_reason") or "stop")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ValueError("the answer is no chat completion") from None
    if isinstance(text, list):  # content in parts
        text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
    if text is not None and not isinstance(text, str):
        raise ValueError("the answer's content is no text")
    used = None
    if isinstance(usage, dict):
        counts = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
        whole = [count for count in counts if isinstance(count, int) and not isinstance(count, bool) and count >= 0]
        used = (whole[0], whole[1]) if len(whole) == 2 else None
    return text or "", finish, used


def _seconds(header: str | None) -> float:
    """A Retry-After as seconds from now, given as a number or a date, at most two minutes; 0 for anything else."""
    if not header:
        return 0.0
    try:
        told = float(header)
    except ValueError:
        try:
            told = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return min(120.0, max(0.0, told)) if told == told else 0.0
