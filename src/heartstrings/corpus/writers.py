"""Who writes: a call, its answer, and the model at hand. The endpoint is in `endpoint.py`."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from heartstrings.corpus.prompts import Messages

if TYPE_CHECKING:
    from heartstrings.core.engine import Engine

Finish = Literal["stop", "length", "refused"]


@dataclass(frozen=True, slots=True)
class Call:
    """One chat to be completed."""

    messages: Messages
    seed: int
    temperature: float
    top_p: float
    max_new_tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `length`: stopped at `max_new_tokens`, so the end is missing."""

    text: str
    finish: Finish = "stop"


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer, although it was asked for several times. Nothing is recorded; the next run asks again."""

    reason: str


Answers = Generator[tuple[Call, Answer | Failure], None, None]


@runtime_checkable
class Writer(Protocol):
    """Completes chats, in any order, several at a time."""

    @property
    def author(self) -> str:
        """The model's name, as stories and results will carry it."""
        ...

    @property
    def settings(self) -> Mapping[str, object]:
        """What else decides the answers, without secrets; part of every call's key."""
        ...

    def answers(self, calls: Iterable[Call]) -> Answers:
        """Every call with its answer, as answers come in. Takes from `calls` only what it can work on.

        Raises:
            HeartstringsError: no call can succeed (unknown model, wrong key); nothing is lost.
        """
        ...


@dataclass(frozen=True)
class EngineWriter:
    """The model under study, or another local one, through any engine's `generate`.

    System text and task go in as one user turn, since several chat templates know no system role.
    """

    engine: Engine
    batch: int = 16

    @property
    def author(self) -> str:
        return self.engine.info.model_id

    @property
    def settings(self) -> Mapping[str, object]:
        info = self.engine.info
        # The batch is left out: every request has its own seed, so a run may go on with another batch.
        return {"weights": info.weights_hash, "template": info.template_hash, "dtype": info.dtype}

    def answers(self, calls: Iterable[Call]) -> Answers:
        # Stories come before engines; only the shape of a request is taken from there, when one is made.
        from heartstrings.core.engine import GenerateRequest, Message

        waiting = iter(calls)
        while batch := list(islice(waiting, self.batch)):
            requests = [
                GenerateRequest(
                    prompt=(Message("user", "\n\n".join(content for _, content in call.messages)),),
                    max_new_tokens=call.max_new_tokens,
                    temperature=call.temperature,
                    top_p=call.top_p,
                    seed=call.seed,
                )
                for call in batch
            ]
            for call, completion in zip(batch, self.engine.generate(requests), strict=True):
                yield call, Answer(completion.text, "length" if completion.finish == "length" else "stop")
