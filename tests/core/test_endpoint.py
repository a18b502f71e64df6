"""The HTTP client against a real server that is busy, slow, gone, wrong or elsewhere: no key in any error or log."""

from __future__ import annotations

import json
import logging
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import Field

from heartstrings.core.checks import check_fields
from heartstrings.core.endpoint import Client, Completion, Endpoint, NoAnswer, Rejected, Stopped, check_url
from heartstrings.core.errors import InputError, ModelError
from http_server import answering

pytest.importorskip("httpx")
pytest.importorskip("tenacity")

KEY = "sk-s3cret-0123"
SOUND = json.dumps({
    "choices": [{"message": {"content": "Fine."}, "finish_reason": "length"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
})  # fmt: skip


@dataclass
class Said:
    """One response of the server; status 0 drops the connection, -1 never answers."""

    status: int = 200
    body: str = SOUND
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Server:
    responses: list[Said]
    """Given in turn; after the last, a sound answer."""
    url: str = ""
    times: list[float] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


@contextmanager
def serving(*responses: Said) -> Iterator[Server]:
    server, closing = Server(list(responses)), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            said = server.responses[len(server.times)] if len(server.times) < len(server.responses) else Said()
            server.bodies.append(body)
            server.requests.append(json.loads(body))
            server.keys.append(self.headers["Authorization"])
            server.times.append(time.monotonic())
            if said.status <= 0:
                self.close_connection = True
                if said.status < 0:
                    closing.wait(20)
                return
            content = said.body.replace("KEY", self.headers["Authorization"] or "").encode()
            self.send_response(said.status)
            for name, value in ({"Content-Length": str(len(content))} | said.headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST

        def log_message(self, *arguments: object) -> None:
            pass

    with answering(Handler) as server.url:
        try:
            yield server
        finally:
            closing.set()


@pytest.fixture(autouse=True)
def key_stays_secret(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Around every test: the key is in the environment and in no log line of any library."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    yield
    assert "s3cret" not in caplog.text


def ask(server: Server, stop: threading.Event | None = None, **changes: Any) -> Completion:
    endpoint = Endpoint(server.url, "m", **{"backoff": 0.01, "timeout": 5, **changes})
    assert "s3cret" not in repr(endpoint)
    with Client(endpoint, stop or threading.Event()) as client:
        return client.retried(lambda: client.once([("user", "How?")], temperature=0))


def shown(error: BaseException) -> str:
    """All that a traceback shows of an error."""
    text = "".join(traceback.format_exception(error))
    assert "s3cret" not in text
    return text


def test_a_request_and_its_answer() -> None:
    with serving() as server:
        assert ask(server, body={"top_k": 1}) == Completion("Fine.", "length", used=(3, 2))
    assert server.requests == [
        {"model": "m", "messages": [{"role": "user", "content": "How?"}], "temperature": 0, "top_k": 1}
    ]
    assert server.keys == [f"Bearer {KEY}"]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("kind", ["seconds", "date"])
def test_a_busy_server_is_asked_again_when_it_says(status: int, kind: str) -> None:
    told = "0.4" if kind == "seconds" else formatdate(time.time() + 2, usegmt=True)  # a date is in whole seconds
    with serving(Said(status, "busy KEY", {"Retry-After": told})) as server:
        assert ask(server).text == "Fine."
    assert server.times[1] - server.times[0] >= (0.4 if kind == "seconds" else 0.9)


def test_the_wait_doubles_and_a_strange_retry_after_is_ignored() -> None:
    with serving(*(Said(500, headers={"Retry-After": told}) for told in ("nan", "soon", "-5"))) as server:
        assert ask(server, backoff=0.1).text == "Fine."
    gaps = [after - before for before, after in zip(server.times, server.times[1:], strict=False)]
    assert all(gap >= least for gap, least in zip(gaps, (0.05, 0.1, 0.2), strict=True))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Said(0), "RemoteProtocolError|ReadError"),
        (Said(-1), "no answer within 0.3 s"),
        (Said(200, "<html>KEY</html>"), "no chat completion"),
        (Said(200, '{"choices": []}'), "no chat completion"),
        (Said(200, '{"choices": [{"message": {"content": 3}}]}'), "no text"),
        (Said(200, SOUND[:20]), "no chat completion"),
        (Said(200, "[" * 100_000), "no chat completion"),
        (Said(500, "KEY"), "HTTP 500"),
        (Said(408, "KEY"), "HTTP 408"),
    ],
)  # fmt: skip
def test_what_may_pass_is_repeated_and_then_given_up(bad: Said, reason: str) -> None:
    with serving(bad) as server:
        assert ask(server, timeout=0.3).text == "Fine."
        assert len(server.times) == 2
    with serving(bad, bad, bad) as server:
        start = time.monotonic()
        with pytest.raises(NoAnswer, match=rf"({reason}).* \(2 tries\)") as caught:
            ask(server, timeout=0.3, tries=2)
        assert time.monotonic() - start < 5
        assert len(server.times) == 2
        shown(caught.value)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_is_not_repeated(status: int) -> None:
    with serving(Said(status, '{"error": "no good:  KEY"}')) as server:
        with pytest.raises(Rejected, match=rf"HTTP {status} .*no good: Bearer \*\*\*.*OPENAI_API_KEY") as caught:
            ask(server)
        assert len(server.times) == 1
        assert (caught.value.status, caught.value.body) == (status, '{"error": "no good:  Bearer ***"}')
        shown(caught.value)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_named_and_not_followed(status: int) -> None:
    with serving() as other:
        place = f"{other.url}/chat/completions?{KEY}"
        with serving(Said(status, "", {"Location": place})) as server:
            with pytest.raises(
                Rejected, match=rf"HTTP {status} redirect to {other.url}.*no redirect, since none is followed"
            ) as caught:
                ask(server)
            assert len(server.times) == 1
        shown(caught.value)
        assert other.requests == []


def test_a_server_that_is_not_there() -> None:
    with serving() as server:
        pass
    with pytest.raises(NoAnswer, match="ConnectError"):
        ask(server, tries=2)


def test_a_server_that_answers_nothing_counts_as_gone() -> None:
    with serving(*[Said(500)] * 9) as server:
        endpoint = Endpoint(server.url, "m", tries=1, concurrency=2)
        with Client(endpoint, threading.Event()) as client:
            for _ in range(3):
                with pytest.raises(NoAnswer):
                    client.retried(lambda: client.once([("user", "a")]))
            with pytest.raises(ModelError, match=rf"4 requests in a row had no answer from {server.url}"):
                client.retried(lambda: client.once([("user", "a")]))
    with serving(Said(500), Said(500), Said(), Said(500), Said(500)) as server:  # an answer in between
        endpoint = Endpoint(server.url, "m", tries=1, concurrency=2)
        with Client(endpoint, threading.Event()) as client:
            said = []
            for _ in range(6):
                try:
                    said.append(client.retried(lambda: client.once([("user", "a")])).text)
                except NoAnswer:
                    said.append("")
    assert said == ["", "", "Fine.", "", "", "Fine."]


def test_stop_ends_a_wait_and_nothing_goes_out_after_it() -> None:
    stop = threading.Event()
    with serving(Said(503, headers={"Retry-After": "60"})) as server:
        threading.Timer(0.3, stop.set).start()
        start = time.monotonic()
        with pytest.raises(Stopped):
            ask(server, stop)
        assert time.monotonic() - start < 5
        with pytest.raises(Stopped):
            ask(server, stop)
        assert len(server.times) == 1


def test_an_answer_without_end_is_given_up() -> None:
    with serving(Said(200, "x" * 50_000)) as server:
        endpoint = Endpoint(server.url, "m", tries=1)
        with Client(endpoint, threading.Event(), most_bytes=1000) as client, pytest.raises(NoAnswer, match="1000 byte"):
            client.retried(lambda: client.once([("user", "a")]))


def test_half_of_a_surrogate_pair_becomes_its_json_escape_on_either_way() -> None:
    back = json.dumps({"choices": [{"message": {"content": "ü \udc00"}}]})
    with serving(Said(200, back)) as server, Client(Endpoint(server.url, "m"), threading.Event()) as client:
        said = client.once([("user", "é \ud800")])
    assert said.text == "ü \\udc00"  # which any file can hold
    assert '"é \\ud800"'.encode() in server.bodies[0]
    assert server.requests[0]["messages"][0]["content"] == "é \ud800"


@pytest.mark.parametrize("key", [f"{KEY}\n", f" {KEY}", f"{KEY}é", f"{KEY}\r\nX: y"])
def test_a_key_that_cannot_be_sent_is_refused_unseen(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with serving() as server, pytest.raises(InputError, match="OPENAI_API_KEY cannot be sent") as caught:
        ask(server)
    shown(caught.value)
    assert server.times == []


@pytest.mark.parametrize(
    "url",
    [f"https://{KEY}@host/v1", f"https://me:{KEY}@host/v1", f"https://host/v1?key={KEY}", f"https://host/v1#{KEY}",
     f"http://{KEY}@", f"ftp://{KEY}@host"],
)  # fmt: skip
def test_a_password_in_the_url_is_refused_unseen(url: str) -> None:
    with pytest.raises(InputError) as caught:
        Endpoint(url, "m")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "localhost:80", "http://", "http://[1", "file:///etc"])
def test_a_url_that_is_no_endpoint(url: str) -> None:
    with pytest.raises(InputError, match="a URL like"):
        check_url(url)


@pytest.mark.parametrize(
    "changes",
    [{"model": ""}, {"tries": 0}, {"timeout": 0}, {"timeout": float("nan")}, {"concurrency": 0}, {"backoff": -1}],
)
def test_settings_out_of_range(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=rf"Endpoint\.{next(iter(changes))} is"):
        Endpoint(**{"base_url": "http://localhost/v1", "model": "m", **changes})


def test_fields_are_checked_where_their_annotation_says() -> None:
    @dataclass(frozen=True)
    class Sizes:
        width: Annotated[int, Field(ge=1)] = 1
        depth: int = 0

    check_fields(Sizes(3, -1))
    with pytest.raises(InputError, match=r"Sizes\.width is 0\. Expected greater than or equal to 1"):
        check_fields(Sizes(0))
    counted = Sizes(np.int64(3))  # type: ignore[arg-type]
    check_fields(counted)
    assert type(counted.width) is int
    for wrong in (np.int64(0), np.float64(3), np.bool_(True), "3"):
        with pytest.raises(InputError, match=r"Sizes\.width is"):
            check_fields(Sizes(wrong))  # type: ignore[arg-type]
