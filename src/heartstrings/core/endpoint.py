"""The HTTP client of the package: chat completions from any OpenAI-compatible endpoint.

A request is repeated after a time-out, a broken connection, a status that says "later" (408, 409, 425, 429, 5xx) and
an answer that is no chat completion. The wait doubles each time, with jitter, and is never shorter than the server's
Retry-After. Redirects are not followed, so that texts and the API key go only to the address that was given.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import Field

from heartstrings.core.checks import check_fields
from heartstrings.core.errors import InputError, MissingExtra, ModelError

try:
    import httpx
    import tenacity
except ImportError:  # reported when an endpoint is made
    httpx = None  # type: ignore[assignment]

T = TypeVar("T")
RETRIED = frozenset({408, 409, 425, 429})
"""Statuses after which a request is repeated, besides every 5xx."""


class TryAgain(Exception):
    """One request failed and may succeed when it is repeated.

    Args:
        reason: what happened.
        status: the HTTP status, where the server sent one and so did no work; None after a time-out, a broken
            connection or an unusable answer, which may have been paid for.
        after: seconds that the server asks to wait.
    """

    def __init__(self, reason: str, status: int | None = None, after: float = 0.0) -> None:
        self.status, self.after = status, after
        super().__init__(reason)


class NoAnswer(Exception):
    """A request that failed in all its tries. Other requests may still succeed."""


class Stopped(Exception):
    """The client was told to stop before the request went out."""


class Rejected(ModelError):
    """The server refused a request with an HTTP status that a repetition would not change."""

    def __init__(self, endpoint: Endpoint, status: int, body: str, redirect: str) -> None:
        self.status, self.body = status, body
        self.said = f"redirect to {redirect}" if redirect else " ".join(body.split())[:200]
        super().__init__(
            f"{endpoint.base_url} refused the request: HTTP {status} {self.said}",
            "a served model, a valid key if the server needs one, and no redirect, since none is followed",
            f"Check the URL, the model name {endpoint.model!r} and the environment variable {endpoint.key_variable}",
        )


@dataclass(frozen=True, eq=False)
class Endpoint:
    """A model behind an OpenAI-compatible endpoint, and how patiently it is asked.

    The API key is read from the environment when requests are made. It is never written, logged or shown in an error.

    Raises:
        MissingExtra: httpx or tenacity is not installed.
        InputError: a URL that is not usable or holds a password, no model name, or a number out of range.
    """

    base_url: str
    """Without `/chat/completions`; usually ends in `/v1`."""
    model: Annotated[str, Field(min_length=1)]
    _: KW_ONLY
    key_variable: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key. It may be unset for a server without keys."""
    concurrency: Annotated[int, Field(ge=1)] = 8
    """Requests under way at the same time, at most."""
    timeout: Annotated[float, Field(gt=0)] = 60
    """Seconds for one answer, from the request to its last byte."""
    tries: Annotated[int, Field(ge=1)] = 6
    """HTTP requests for one answer, at most."""
    backoff: Annotated[float, Field(ge=0)] = 1
    """Seconds before the second request. The wait doubles each time, up to 60 s, and is multiplied by a random number
    from 0.5 to 1."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of every request, for example to turn a thinking mode off."""

    def __post_init__(self) -> None:
        if httpx is None:
            raise MissingExtra("A model behind an endpoint", "endpoint")
        check_url(self.base_url)
        check_fields(self)


@dataclass(frozen=True, slots=True)
class Completion:
    """The first choice of a chat completion."""

    text: str
    finish: str = "stop"
    """Why the text ends, in the server's word: `stop`, `length`, ..."""
    refused: bool = False
    """The server marks it as a refusal or as filtered."""
    used: tuple[int, int] | None = None
    """Tokens of the question and of the answer; None where the server does not say."""


class Client:
    """Connections to one endpoint, for any number of threads. Use it in a `with` statement.

    Args:
        stop: once it is set, waits end and no further request goes out.
        most_bytes: a longer answer is not read to its end and counts as unusable.
    Raises:
        InputError: the environment variable holds a key that cannot be sent.
    """

    def __init__(self, endpoint: Endpoint, stop: threading.Event, *, most_bytes: int = 16_000_000) -> None:
        self.endpoint, self.stop, self.most_bytes = endpoint, stop, most_bytes
        self._key = os.environ.get(endpoint.key_variable, "")
        # httpx would show such a key in its error.
        if not (self._key.isascii() and self._key.isprintable() and self._key == self._key.strip()):
            raise InputError(
                f"the key in the environment variable {endpoint.key_variable} cannot be sent",
                "printable ASCII characters without a space or a line break at either end",
                "Set the variable again",
            )
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        self._url = f"{endpoint.base_url.rstrip('/')}/chat/completions"
        limits = httpx.Limits(max_connections=endpoint.concurrency)
        self._http = httpx.Client(headers=headers, timeout=endpoint.timeout, limits=limits)
        self._failed = 0
        """Requests in a row that had no answer after all their tries."""
        self._counting = threading.Lock()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def once(self, messages: Sequence[tuple[str, str]], **options: Any) -> Completion:
        """One HTTP request.

        Args:
            messages: (role, content) pairs.
            options: fields of the request, such as `temperature`. The endpoint's `body` goes over them.
        Raises:
            TryAgain: it failed and may be repeated.
            Rejected: it failed for good.
        """
        endpoint = self.endpoint
        chat = [{"role": role, "content": content} for role, content in messages]
        request = {"model": endpoint.model, "messages": chat, **options, **endpoint.body}
        # Half of a surrogate pair has no UTF-8 form; here it becomes its own JSON escape.
        data = json.dumps(request, ensure_ascii=False).encode("utf-8", "backslashreplace")
        until = time.monotonic() + endpoint.timeout
        try:
            with self._http.stream("POST", self._url, content=data) as response:
                content = self._content(response, until)
        except httpx.TimeoutException:
            raise TryAgain(f"no answer within {endpoint.timeout:g} s") from None
        except httpx.HTTPError as error:
            raise TryAgain(self._without_key(f"{type(error).__name__}: {error}")) from None
        status = response.status_code
        if status in RETRIED or status >= 500:
            raise TryAgain(f"HTTP {status}", status, _seconds(response.headers.get("retry-after")))
        if status != 200:
            said = self._without_key(content.decode("utf-8", "replace"))
            redirect = response.headers["location"] if response.has_redirect_location else ""
            raise Rejected(endpoint, status, said, self._without_key(redirect)[:200])
        try:
            return _completion(content)
        except ValueError as error:
            raise TryAgain(str(error)) from None

    def retried(self, once: Callable[[], T]) -> T:
        """Call `once` until it returns, up to `tries` times. It may make one request and what belongs to it.

        Raises:
            NoAnswer: every try raised TryAgain, or one raised NoAnswer.
            ModelError: that happened `2 * concurrency` times in a row, so the server counts as gone.
            Stopped: `stop` is set.
        """

        def unless_stopped() -> T:
            if self.stop.is_set():
                raise Stopped
            return once()

        endpoint = self.endpoint
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(TryAgain),
            stop=tenacity.stop_after_attempt(endpoint.tries),
            wait=self._wait,
            sleep=tenacity.sleep_using_event(self.stop),
            reraise=True,
        )
        try:
            result = retrying(unless_stopped)
        except (TryAgain, NoAnswer) as error:
            failed = error if isinstance(error, NoAnswer) else NoAnswer(f"{error} ({endpoint.tries} tries)")
        else:
            with self._counting:
                self._failed = 0
            return result
        with self._counting:
            self._failed += 1
            if self._failed >= 2 * endpoint.concurrency:
                raise ModelError(
                    f"{self._failed} requests in a row had no answer from {endpoint.base_url}; the last: {failed}",
                    "a server that answers these requests",
                    "Remove the cause and go on with the same folder or cache: answers written there are kept",
                )
        raise failed

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        doubled = tenacity.wait_exponential(multiplier=self.endpoint.backoff, max=60)(state)
        return max(doubled * random.uniform(0.5, 1.0), error.after if isinstance(error, TryAgain) else 0.0)

    def _content(self, response: httpx.Response, until: float) -> bytes:
        """The body, read to its end, to `most_bytes` or to the end of the time."""
        content = bytearray()
        for piece in response.iter_bytes():
            content += piece
            if len(content) > self.most_bytes:
                raise TryAgain(f"an answer of more than {self.most_bytes} bytes")
            if time.monotonic() > until:  # httpx's own time limit starts again with every piece
                raise httpx.ReadTimeout("slow")
        return bytes(content)

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def is_url(url: str) -> bool:
    """Whether this is a web address with a host."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


def check_url(url: str) -> None:
    """Raises InputError unless this is the address of an endpoint, without a password: errors and records show it."""
    if not is_url(url):
        shown = repr(url) if "@" not in url else "with an @ in its URL"
        raise InputError(f"endpoint {shown}", "a URL like http://localhost:8000/v1")
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        place = "before" if "@" in parts.netloc else "after"
        raise InputError(
            f"an endpoint's URL with a name or key {place} {parts.hostname}",
            "a URL without any",
            "Put the key into an environment variable and give the name of the variable",
        )


def _completion(content: bytes) -> Completion:
    """Raises ValueError for anything that is no chat completion."""
    try:
        answer = json.loads(content)
        choice = answer["choices"][0]
        text, refusal = choice["message"].get("content"), choice["message"].get("refusal")
        finish = str(choice.get("finish_reason") or "stop")
        usage = answer.get("usage")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ValueError("the answer is no chat completion") from None
    if isinstance(text, list):  # content in parts
        text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
    if text is not None and not isinstance(text, str):
        raise ValueError("the answer's content is no text")
    counts = [usage.get(f"{kind}_tokens") for kind in ("prompt", "completion")] if isinstance(usage, dict) else []
    whole = [count for count in counts if type(count) is int and count >= 0]
    used = (whole[0], whole[1]) if len(whole) == 2 else None
    # JSON can spell half of a surrogate pair, which no UTF-8 file can hold.
    text = (text or "").encode("utf-8", "backslashreplace").decode()
    return Completion(text, finish, bool(refusal) or finish == "content_filter", used)


def _seconds(header: str | None) -> float:
    """A Retry-After, a number of seconds or a date, as seconds from now, at most 120; 0 for anything else."""
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
