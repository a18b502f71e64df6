"""Options shown in the prompt under letters, and answered by a letter."""

from __future__ import annotations

from collections.abc import Sequence

from heartstrings.core.engine import Chat, Message


def lettered(question: str, options: Sequence[str], ask: str, opening: str, *, before: Chat = ()) -> Chat:
    """The turns before, the question with its options as `A. ...`, and the opening of the model's own turn.

    Args:
        ask: the sentence after the options, which says how to answer.
        opening: the words before the letter.
    """
    listed = "\n".join(f"{letter}. {option}" for letter, option in zip("ABCD", options, strict=False))
    return (*before, Message("user", f"{question}\n\n{listed}\n\n{ask}"), Message("assistant", opening))
