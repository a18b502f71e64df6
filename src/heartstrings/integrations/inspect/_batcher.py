"""Requests that arrive one by one, answered together: samples and doses of a running evaluation share batches."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from heartstrings.core.engine import Completion, GenerateRequest

if TYPE_CHECKING:
    from heartstrings.core.engine import Engine

ROWS = 64
"""Requests in a batch, at most."""
QUIET = 0.05
"""After this many seconds without a new request a batch is run. Any generation takes longer."""


class Batcher:
    """One engine, one thread that runs it. A request's text does not depend on what else is in its batch.

    A batch that fails is asked again one request at a time, so that a bad request fails alone.
    """

    def __init__(self, engine: Engine, *, rows: int = ROWS, quiet: float = QUIET) -> None:
        self.engine = engine
        self.batches: list[int] = []
        """Sizes of the batches so far."""
        self._rows = rows
        self._quiet = quiet
        self._waiting: queue.SimpleQueue[tuple[GenerateRequest, Future[Completion]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="heartstrings-batcher", daemon=True).start()

    def ask(self, request: GenerateRequest) -> Future[Completion]:
        """The completion, when its batch is done."""
        future: Future[Completion] = Future()
        self._waiting.put((request, future))
        return future

    def _work(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < self._rows:
                try:
                    batch.append(self._waiting.get(timeout=self._quiet))
                except queue.Empty:
                    break
            live = [(request, future) for request, future in batch if future.set_running_or_notify_cancel()]
            if live:
                self.batches.append(len(live))
                self._run(live)

    def _run(self, batch: list[tuple[GenerateRequest, Future[Completion]]]) -> None:
        try:
            answers = self.engine.generate([request for request, _ in batch])
        except BaseException as error:  # passed on to every request that waits
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for pair in batch:
                self._run([pair])
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            future.set_result(answer)
