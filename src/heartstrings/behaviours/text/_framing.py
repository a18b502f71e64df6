"""Plain text as it is, or the same text as the beginning of a chat model's own turn."""

from __future__ import annotations

from heartstrings.behaviours.base import Scenario
from heartstrings.core.engine import Message, Prompt

TASK = "Continue this text. Write nothing but the text."


def framed(text: str, *, chat: bool) -> Prompt:
    """What a base model goes on from, or a chat whose last turn is begun with that text."""
    return (Message("user", TASK), Message("assistant", text)) if chat else text


def written(scenario: Scenario) -> str:
    """The text of a scenario without what is around it in a chat."""
    return scenario.prompt if isinstance(scenario.prompt, str) else scenario.prompt[-1].content
