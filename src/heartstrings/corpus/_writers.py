"""Writers of stories: a call, its answer, and a model that is loaded here (`endpoint.py` has one behind a URL)."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from heartstrings.corpus._prompts import Messages

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
    """What a writer wrote. `length`: it stopped at `max_new_tokens`, so the end is missing."""

    text: str
    finish: Finish = "stop"


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer after all tries. Nothing is recorded, and the next run makes the call again."""

    reason: str


Answers = Generator[tuple[Call, Answer | Failure], None, None]


@runtime_checkable
class Writer(Protocol):
    """Completes chats, in any order, several at a time."""

    @property
    def author(self) -> str:
        """The model's name, as stories and results name it."""
        ...

    @property
    def settings(self) -> Mapping[str, object]:
        """Everything else that decides the answers, without secrets. It is part of every call's key."""
        ...

    def answers(self, calls: Iterable[Call]) -> Answers:
        """Every call with its answer, in the order in which answers come. Takes a call only when it can be made.

        Raises:
            HeartstringsError: no call can succeed (unknown model, wrong key). Earlier answers are not lost.
        """
        ...


@dataclass(frozen=True)
class EngineWriter:
    """Writes with a model that is loaded here, through its engine's `generate`.

    System text and task are one user message, since several chat templates have no system role.
    """

    engine: Engine
    batch: int = 16

    @property
    def author(self) -> str:
        return self.engine.info.model_id

    @property
    def settings(self) -> Mapping[str, object]:
        info = self.engine.info
        # Not the batch: every request has its own seed, so a run may continue with another batch size.
        return {"weights": info.weights_hash, "template": info.template_hash, "dtype": info.dtype}

    def answers(self, calls: Iterable[Call]) -> Answers:
        """As in `Writer`."""
        from heartstrings.core.engine import GenerateRequest, Message  # imports numpy, which readers don't need

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
