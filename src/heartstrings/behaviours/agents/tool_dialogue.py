"""A dialogue with tools: what the calls of a model change, replayed from its answers, and the behaviour around it.

The state is a pure function of the answers so far: `World.play` takes them from the first to the last. Calls come
through the model's own template; where a model makes none, a subclass reads them from the text.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from heartstrings.behaviours.base import Answer, Dialogue, Grade, Scenario
from heartstrings.behaviours.forms import Form
from heartstrings.behaviours.reading import completion
from heartstrings.core.engine import Chat, Completion, GenerateRequest, Message, Score, Tool, ToolCall
from heartstrings.core.errors import InputError
from heartstrings.core.steering import Steering

MOST_CALLS = 8
"""Calls of one answer that are carried out; further ones are ignored."""


def tool(name: str, description: str, **arguments: dict[str, str]) -> Tool:
    """A tool whose arguments, given as JSON schemas, are all required."""
    schema: dict[str, Any] = {"type": "object", "properties": arguments}
    return Tool(name, description, json.dumps(schema | ({"required": [*arguments]} if arguments else {})))


@dataclass
class World(ABC):
    """The state after some answers of the model."""

    chat: list[Message] = field(default_factory=list)
    """All turns after the first prompt; the last one is the world's."""
    log: list[str] = field(default_factory=list)
    malformed: int = 0
    """Calls that could not be read."""

    tools: ClassVar[tuple[Tool, ...]]
    nudge: ClassVar[str]
    """What the world says after an answer in which nothing was done."""

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether the model has finished. No later call is carried out."""

    @abstractmethod
    def carry_out(self, call: ToolCall, arguments: Any) -> str:
        """Carry out one call; returns what the tool says. `arguments` is None where they are not JSON."""

    @abstractmethod
    def hear(self, text: str) -> None:
        """Take an answer without tool calls, and add both turns to `chat`."""

    def play(self, answers: Sequence[Completion]) -> None:
        """Take the answers one after the other."""
        for answer in answers:
            if self.ended:
                break
            self.malformed += answer.malformed_calls
            if answer.text.strip():
                self.log.append(f"[assistant] {answer.text.strip()}")
            if answer.tool_calls:
                calls = answer.tool_calls[:MOST_CALLS]
                self.chat.append(Message("assistant", answer.text, calls))
                self.chat += [Message("tool", self.call(call)) for call in calls]
            else:
                self.hear(answer.text)

    def call(self, call: ToolCall) -> str:
        """Carry out one call and log it."""
        result = "The work has ended."
        if not self.ended:
            try:
                arguments = json.loads(call.arguments)
            except json.JSONDecodeError:
                arguments = None
            result = self.carry_out(call, arguments)
        self.log.append(f"[{call.name}] {self.shown(call)}\n[result] {result}")
        return result

    def shown(self, call: ToolCall) -> str:
        """The arguments of a call, for a person or a judge to read."""
        return call.arguments

    def error(self, message: str) -> str:
        """Count a call that could not be carried out; returns what the tool says."""
        self.malformed += 1
        return f"Error: {message}"

    def unknown(self, call: ToolCall) -> str:
        """The error for a tool that does not exist."""
        return self.error(f"there is no tool {call.name}; there are {', '.join(tool.name for tool in self.tools)}.")

    @property
    def transcript(self) -> str:
        """All that was said and done, as text."""
        return "\n\n".join(self.log)


@dataclass(frozen=True, kw_only=True)
class ToolDialogue(Form, Dialogue):
    """A model that works with tools over several turns; what it did is graded, not what it said about it."""

    turns: int
    max_new_tokens: int
    """In one turn."""

    ask = "dialogue"
    world: ClassVar[type[World]]

    @abstractmethod
    def played(self, scenario: Scenario, answers: Sequence[Completion]) -> World:
        """The world after these answers."""

    def request(self, scenario: Scenario, *, steering: Steering | None, seed: int) -> GenerateRequest:
        """The first turn, at temperature 1."""
        return GenerateRequest(
            scenario.prompt, max_new_tokens=self.max_new_tokens, seed=seed, steering=steering, tools=self.world.tools
        )

    def further(
        self, scenario: Scenario, first: GenerateRequest, answers: Sequence[Completion]
    ) -> GenerateRequest | None:
        """The results of the last calls. None after the end, the last turn, or two turns in which nothing was done.

        Raises:
            InputError: the first prompt is plain text, to which no results can be added.
        """
        world = self.played(scenario, answers)
        if world.ended or len(answers) >= self.turns or idle(world.chat, world.nudge):
            return None
        if isinstance(first.prompt, str):
            raise InputError("a prompt of plain text", "a chat, to which results can be added")
        return replace(first, prompt=(*first.prompt, *world.chat))

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """A dialogue of one answer."""
        return self.grade_dialogue(scenario, (completion(answer),))


def idle(chat: Sequence[Message], nudge: str, *, turns: int = 2) -> bool:
    """Whether nothing was done in the last turns, and the nudge was the reply to each of them. Such a model refuses,
    only talks or has fallen apart, so that more turns would cost time and show nothing."""
    return [message.content for message in chat[1 - 2 * turns :: 2]] == [nudge] * turns


def text_of(chat: Chat) -> str:
    """The turns of a chat as one text."""
    return "\n\n".join(message.content for message in chat)
