"""A writer behind any OpenAI-compatible endpoint: many calls at once, patience with a bad server."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

from heartstrings.core.errors import InputError, MissingExtra, ModelError
from heartstrings.corpus.writers import Answer, Answers, Call, Failure

try:
    import httpx
except ImportError:  # said when an endpoint is asked for; this module is also imported beside local writers
    httpx = None  # type: ignore[assignment]

Finished = queue.SimpleQueue[tuple[Call, Answer | Failure, Callable[[], object]] | BaseException | None]
"""A call, its answer, and what to call when the answer has been taken; an error; None at the end."""
RETRIED = frozenset({408, 409, 425, 429})
"""Statuses worth another try, beside every 5xx."""


@dataclass(frozen=True)
class EndpointWriter:
    """Chat completions from `base_url`, which usually ends in `/v1`.

    The API key is read from the environment when calls are made; it is never kept, logged or written.
    """

    base_url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key. May be unset for a server without keys."""
    concurrency: int = 8
    timeout: float = 180.0
    """Seconds for one answer."""
    tries: int = 6
    """HTTP requests for one call before it is given up for this run."""
    backoff: float = 1.0
    """Seconds before the second request; doubled every time, up to 60, and varied by half."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of every request, e.g. to turn a thinking mode off. Part of every call's key."""

    def __post_init__(self) -> None:
        if httpx is None:
            raise MissingExtra("Writing stories through an endpoint", "endpoint")
        if not self.base_url.startswith(("http://", "https://")):
            raise InputError(f"endpoint {self.base_url!r}", "a URL like http://localhost:8000/v1")
        if not self.model:
            raise InputError("no model named for the endpoint", "a model that the endpoint serves")
        if self.concurrency < 1 or self.tries < 1 or self.timeout <= 0 or self.backoff < 0:
            raise InputError("concurrency, tries or timeout under 1, or a negative backoff", "positive numbers")

    @property
    def author(self) -> str:
        return self.model

    @property
    def settings(self) -> Mapping[str, object]:
        return {"body": dict(self.body)}

    def answers(self, calls: Iterable[Call]) -> Answers:
        """As in `Writer`. Gives up with ModelError when the server refuses a call for good (4xx), or when
        `2 * concurrency` calls in a row fail, each after all its tries."""
        waiting = iter(calls)
        first = next(waiting, None)
        if first is None:
            return
        waiting = chain([first], waiting)
        # The event loop has a thread of its own: this also works where a loop runs already (notebooks).
        finished: Finished = queue.SimpleQueue()
        stop = threading.Event()

        def work() -> None:
            try:
                asyncio.run(self._serve(waiting, finished, stop))
            except BaseException as error:
                finished.put(error)
            finally:
                finished.put(None)

        thread = threading.Thread(target=work, name="heartstrings-endpoint", daemon=True)
        thread.start()
        failed = 0
        try:
            while (item := finished.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                call, answer, go_on = item
                yield call, answer
                go_on()
                failed = failed + 1 if isinstance(answer, Failure) else 0
                if isinstance(answer, Failure) and failed >= 2 * self.concurrency:
                    raise ModelError(
                        f"{failed} calls in a row failed at {self.base_url}; the last: {answer.reason}",
                        "a server that answers",
                        "Start it and run the same command again: finished calls are kept",
                    )
        finally:
            stop.set()
            thread.join()

    async def _serve(
        self,
        waiting: Iterator[Call],
        finished: Finished,
        stop: threading.Event,
    ) -> None:
        key = os.environ.get(self.key_variable, "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Limits(max_connections=self.concurrency)

        loop = asyncio.get_running_loop()

        async def work(client: httpx.AsyncClient) -> None:
            for call in waiting:
                answer = await self._complete(client, call, key)
                # The next call is made when this answer is on the disk, so that a kill at any moment costs at
                # most the calls under way.
                recorded = asyncio.Event()
                finished.put((call, answer, partial(loop.call_soon_threadsafe, recorded.set)))
                await recorded.wait()

        async def watch(workers: list[asyncio.Task[None]]) -> None:
            while not stop.is_set():
                await asyncio.sleep(0.05)
            for worker in workers:
                worker.cancel()

        async with httpx.AsyncClient(headers=headers, timeout=self.timeout, limits=limits) as client:
            workers = [asyncio.create_task(work(client)) for _ in range(self.concurrency)]
            watcher = asyncio.create_task(watch(workers))
            done = await asyncio.gather(*workers, return_exceptions=True)
            watcher.cancel()
        for outcome in done:
            if isinstance(outcome, Exception):
                raise outcome

    async def _complete(self, client: httpx.AsyncClient, call: Call, key: str) -> Answer | Failure:
        request = {
            "model": self.model,
            "messages": [{"role": role, "content": content} for role, content in call.messages],
            "seed": call.seed,
            "temperature": call.temperature,
            "top_p": call.top_p,
            "max_tokens": call.max_new_tokens,
            **self.body,
        }
        vary = random.Random(call.seed)
        reason, told = "", 0.0
        for attempt in range(self.tries):
            if attempt:
                wait = min(60.0, self.backoff * 2 ** (attempt - 1))
                await asyncio.sleep(max(wait * vary.uniform(0.5, 1.0), told))
            told = 0.0
            try:
                response = await client.post(f"{self.base_url.rstrip('/')}/chat/completions", json=request)
            except httpx.TimeoutException:
                reason = f"no answer within {self.timeout:g} s"
                continue
            except httpx.TransportError as error:
                reason = _without(key, f"{type(error).__name__}: {error}")
                continue
            if response.status_code in RETRIED or response.status_code >= 500:
                reason = f"HTTP {response.status_code}"
                told = _seconds(response.headers.get("retry-after"))
                continue
            if response.status_code == 400 and "content_filter" in response.text:
                return Answer("", "refused")  # some hosts refuse with an error instead of an answer
            if response.status_code != 200:
                said = _without(key, " ".join(response.text.split()))[:200]
                raise ModelError(
                    f"{self.base_url} refused the call: HTTP {response.status_code} {said}",
                    "a served model and, if the server wants one, a valid key",
                    f"Check the model name {self.model!r} and the variable {self.key_variable}",
                )
            try:
                return _answer(response.content)
            except ValueError as error:
                reason = str(error)
        return Failure(f"{reason} ({self.tries} tries)")


def _without(key: str, text: str) -> str:
    """The text with the API key blotted out, should a server or library repeat it."""
    return text.replace(key, "***") if key else text


def _answer(content: bytes) -> Answer:
    """The first choice of a chat completion. Raises ValueError for anything of another shape."""
    try:
        choice = json.loads(content)["choices"][0]
        message = choice["message"]
        text, finish = message.get("content"), choice.get("finish_reason")
        refusal = message.get("refusal")
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ValueError("the answer is no chat completion") from None
    if isinstance(text, list):  # content in parts
        text = "".join(part.get("text", "") for part in text if isinstance(part, dict))
    if text is not None and not isinstance(text, str):
        raise ValueError("the answer's content is no text")
    if refusal or finish == "content_filter":
        return Answer(text or "", "refused")
    return Answer(text or "", "length" if finish == "length" else "stop")


def _seconds(header: str | None) -> float:
    """A Retry-After in seconds, at most a minute; 0 for a date or nothing."""
    try:
        return min(60.0, max(0.0, float(header or 0)))
    except ValueError:
        return 0.0
