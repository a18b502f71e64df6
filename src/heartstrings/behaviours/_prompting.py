"""Emotion in words: the baseline that steering is compared with."""

from __future__ import annotations

from typing import Literal

from heartstrings.core.engine import Message, Prompt
from heartstrings.core.errors import InputError

Form = Literal["instruct", "first-person"]


def prompted(prompt: Prompt, form: Form, emotion: str) -> Prompt:
    """The prompt with an emotion before it: as an instruction (`instruct`), or as the user's own (`first-person`).

    In a chat it is added to the first turn of the user, because not every template has a system role. The organisms
    were trained with `You are EMOTION.`

    Raises:
        InputError: an unknown form, an empty emotion, or a chat without a turn of the user.
    """
    if not emotion.strip():
        raise InputError("an empty emotion", "a word such as `calm`")
    said = {
        "instruct": f"Answer as somebody who is {emotion}. You are {emotion}.",
        "first-person": f"I feel {emotion}.",
    }
    if form not in said:
        raise InputError(f"a form of prompting {form!r}", f"one of {', '.join(said)}")
    if isinstance(prompt, str):
        return f"{said[form]} {prompt}"
    at = next((row for row, message in enumerate(prompt) if message.role == "user"), None)
    if at is None:
        raise InputError("a chat without a user's turn", "one at least, to put the emotion in")
    return (*prompt[:at], Message("user", f"{said[form]} {prompt[at].content}"), *prompt[at + 1 :])
