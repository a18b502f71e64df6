"""Stories written by a model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated

from pydantic import Field

from heartstrings.core.endpoint import Client, Completion, Endpoint, NoAnswer, Rejected, Stopped
from heartstrings.corpus._writers import Answer, Answers, Call, Failure


@dataclass(frozen=True, eq=False)
class EndpointWriter(Endpoint):
    """Writes stories through chat completions, several at the same time."""

    timeout: Annotated[float, Field(gt=0)] = field(default=180, kw_only=True)
    """Seconds for one answer."""

    @property
    def author(self) -> str:
        return self.model

    @property
    def settings(self) -> Mapping[str, object]:
        return {"body": dict(self.body)}

    def answers(self, calls: Iterable[Call]) -> Answers:
        """As in `Writer`. Raises ModelError when the server refuses a call for good (4xx), or when
        `2 * concurrency` calls in a row have no answer after all their tries."""
        waiting, stop = iter(calls), threading.Event()
        finished: queue.SimpleQueue[tuple[Call, Answer | Failure | BaseException]] = queue.SimpleQueue()

        def work(call: Call) -> None:
            try:
                finished.put((call, _write(client, call)))
            except Stopped:
                pass  # the error that stopped the others is in the queue already, or nobody reads it any more
            except BaseException as error:
                finished.put((call, error))
                stop.set()

        def begin(n: int) -> int:
            started = 0
            for call in islice(waiting, n):
                # Daemons: an interrupt does not wait for a slow answer.
                threading.Thread(target=work, args=(call,), daemon=True).start()
                started += 1
            return started

        with Client(self, stop) as client:
            try:
                under_way = begin(self.concurrency)
                while under_way:
                    call, outcome = finished.get()
                    if isinstance(outcome, BaseException):
                        raise outcome
                    yield call, outcome
                    # The next call is made when this answer is on the disk, so that a kill costs at most the calls
                    # under way.
                    under_way += begin(1) - 1
            finally:
                stop.set()


def _write(client: Client, call: Call) -> Answer | Failure:
    def once() -> Completion:
        try:
            return client.once(
                call.messages,
                seed=call.seed,
                temperature=call.temperature,
                top_p=call.top_p,
                max_tokens=call.max_new_tokens,
            )
        except Rejected as error:
            if error.status == 400 and "content_filter" in error.body:
                return Completion("", refused=True)  # some hosts refuse with an error instead of an answer
            raise

    try:
        said = client.retried(once)
    except NoAnswer as error:
        return Failure(str(error))
    if said.refused:
        return Answer(said.text, "refused")
    return Answer(said.text, "length" if said.finish == "length" else "stop")
