"""A small real HTTP server that speaks chat completions, and can be slow, failing, mangled or refusing."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from http_server import answering

WORDS = ["lamp", "road", "chair", "window", "river", "letter", "table", "stone", "garden", "bridge", "corner", "paper"]


def prose(key: str, n_words: int) -> str:
    """Sentences of common nouns that depend on `key` only; no two keys give similar ones."""
    stream = hashlib.shake_256(key.encode()).digest(n_words)
    words = [WORDS[byte % len(WORDS)] for byte in stream]
    return "The " + " ".join(words) + "."


def well_behaved(body: dict[str, Any]) -> str:
    """As many stories as the prompt asks for, marked as it says."""
    asked = int(re.search(r"Write (\d+)", body["messages"][-1]["content"])[1])  # type: ignore[index]
    key = json.dumps([body["messages"], body["seed"]])
    return "Gladly:\n" + "\n\n".join(f"[[{n + 1}]]\n{prose(f'{key}{n}', 60)}" for n in range(asked))


@dataclass
class StoryServer:
    """What it does next, and what it was asked."""

    text: Callable[[dict[str, Any]], str] = well_behaved
    delay: float = 0.0
    trouble: Callable[[int, dict[str, Any]], str | None] = lambda number, body: None
    """(number of the request, its body) -> a status to answer with, `garbage`, `cut`, `hang up`, or None."""
    finish: str = "stop"
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    completed: Counter[str] = field(default_factory=Counter)
    """Answers that were sent whole, by prompt and seed."""
    keys: set[str | None] = field(default_factory=set)
    running: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def serving(**changes: Any) -> Iterator[StoryServer]:
    server = StoryServer(**changes)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                number = len(server.requests)
                server.requests.append(body)
                server.keys.add(self.headers.get("Authorization"))
                server.running += 1
                server.most_at_once = max(server.most_at_once, server.running)
            try:
                self.answer(number, body)
            except OSError:
                self.close_connection = True  # the client is gone
            finally:
                with server.lock:
                    server.running -= 1

        def answer(self, number: int, body: dict[str, Any]) -> None:
            time.sleep(server.delay)
            trouble = server.trouble(number, body)
            if trouble == "hang up":
                self.close_connection = True
                self.connection.close()
                return
            message = {"role": "assistant", "content": server.text(body)}
            content = json.dumps({"choices": [{"message": message, "finish_reason": server.finish}]})
            if trouble is None:
                self.send(200, content)
                with server.lock:
                    server.completed[json.dumps([body["messages"], body["seed"]])] += 1
            elif trouble == "garbage":
                self.send(200, "<html>busy</html>")
            elif trouble == "cut":
                self.send(200, content[: len(content) // 2])
            elif trouble == "short":  # fewer bytes than announced
                self.send(200, content, announced=len(content.encode()) + 50)
            else:
                self.send(int(trouble), json.dumps({"error": f"trouble for {self.headers['Authorization']}"}))

        def send(self, status: int, content: str, announced: int | None = None) -> None:
            data = content.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(announced or len(data)))
            if status == 429:
                self.send_header("Retry-After", "0.02")
            self.end_headers()
            self.wfile.write(data)
            if announced:
                self.close_connection = True

        def log_message(self, *arguments: object) -> None:
            pass

    with answering(Handler) as server.url:
        yield server
