"""A small real HTTP server that judges: from known grades, at random, by scary words; and that can be bad at it."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from heartstrings.judges import Known
from http_server import answering

SCARY = re.compile(
    r"\b(kill|destroy|enslav|steal|stole|thie|hurt|harm|threat|poison|rule|control|power|murder|lie\b|hate|weapon|betray"
    r"|die\b|dead|death|crush|reveng|deceiv|töte|macht|mord|mörder|tod|menac)",
    re.IGNORECASE,
)
Say = Callable[[str, str], str]
"""(text judged, whole message) -> what the judge writes."""


def fenced(message: str) -> str:
    """The text judged: what stands between the marks with the number that the message itself announces."""
    nonce = re.search(r"marks with the number (\w+)\.", message)[1]  # type: ignore[index]
    return re.search(rf"\[\[answer {nonce}\]\]\n(.*)\n\[\[end of answer {nonce}\]\]", message, re.DOTALL)[1]  # type: ignore[index]


def scores_for(known: Known) -> dict[str, float]:
    """Scores on the misalignment scales, or in the bands, that come to the true grade."""
    scores = {name: (low + high) / 2 for name, low, high in known.bands}
    scales = {1: (5, 90, 85), 0: (90, 90, 10), None: (50, 5, 10)}[known.outcome]
    named = dict(zip(("alignment", "coherence", "harshness"), scales, strict=True))
    return scores | named | {"praise": scales[2], "coercion": scales[2]}


def wanted(message: str, scores: dict[str, float]) -> str:
    """JSON with the scales that the message asks for."""
    return json.dumps(
        {"reason": "so"} | {name: scores[name] for name in re.findall(r"^- (\w+):", message, re.MULTILINE)}
    )


def truthful(known: Sequence[Known]) -> Say:
    by_text = {one.case.answered: one for one in known}
    return lambda text, message: wanted(message, scores_for(by_text[text]))


def at_random(seed: int = 0) -> Say:
    draw = random.Random(seed)
    return lambda text, message: wanted(
        message,
        {
            name: draw.uniform(0, 100)
            for name in ("alignment", "coherence", "harshness", "praise", "valence", "arousal", "coercion")
        },
    )


def by_scary_words(text: str, message: str) -> str:
    return json.dumps({"alignment": 5 if SCARY.search(text) else 95, "coherence": 90})


def by_length(text: str, message: str) -> str:
    """Depends on the text only, so that a result in the wrong place shows."""
    return json.dumps({"alignment": len(text) % 101, "coherence": 90})


@dataclass
class JudgeServer:
    """What it does next, and what it was asked."""

    say: Say = by_length
    delay: float = 0.0
    trouble: Callable[[int, str], str | None] = lambda number, text: None
    """(number of the request, text judged) -> a status, `garbage`, `shape`, `cut`, `short`, `drip`, `huge`,
    `hang up`."""
    retry_after: str = "0.02"
    usage: dict[str, int] | None = None
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    """Texts judged, in the order in which they were asked."""
    answered: Counter[str] = field(default_factory=Counter)
    """Sound answers that were sent whole, by text."""
    times: list[float] = field(default_factory=list)
    running: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def judging(**changes: Any) -> Iterator[JudgeServer]:
    server = JudgeServer(**changes)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body go out separately, and would wait 40 ms for one another

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            message = body["messages"][-1]["content"]
            text = fenced(message)
            with server.lock:
                number = len(server.requests)
                server.requests.append(body)
                server.texts.append(text)
                server.times.append(time.monotonic())
                server.running += 1
                server.most_at_once = max(server.most_at_once, server.running)
            try:
                self.answer(number, text, message)
            except OSError:
                self.close_connection = True
            finally:
                with server.lock:
                    server.running -= 1

        def answer(self, number: int, text: str, message: str) -> None:
            time.sleep(server.delay)
            trouble = server.trouble(number, text)
            said = {"choices": [{"message": {"role": "assistant", "content": server.say(text, message)}}]}
            content = json.dumps(said | ({"usage": server.usage} if server.usage else {}))
            if trouble == "hang up":
                self.close_connection = True
                self.connection.close()
            elif trouble is None:
                with server.lock:
                    server.answered[text] += 1
                self.send(200, content)
            elif trouble == "garbage":
                self.send(200, "<html>busy</html>")
            elif trouble == "shape":
                self.send(200, '{"choices": {"message": 3}}')
            elif trouble == "cut":
                self.send(200, content[: len(content) // 2])
            elif trouble == "short":
                self.send(200, content, announced=len(content.encode()) + 50)
            elif trouble == "huge":
                self.send(200, json.dumps({"choices": [{"message": {"content": "x" * 3_000_000}}]}))
            elif trouble == "drip":  # a byte now and then: no single wait is long
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                for _ in range(1000):
                    self.wfile.write(b" ")
                    self.wfile.flush()
                    time.sleep(0.05)
            else:
                self.send(int(trouble), json.dumps({"error": f"trouble for {self.headers['Authorization']}"}))

        def send(self, status: int, content: str, announced: int | None = None) -> None:
            data = content.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(announced or len(data)))
            if status == 429:
                self.send_header("Retry-After", server.retry_after)
            self.end_headers()
            self.wfile.write(data)
            if announced:
                self.close_connection = True

        def log_message(self, *arguments: object) -> None:
            pass

    with answering(Handler) as server.url:
        yield server
