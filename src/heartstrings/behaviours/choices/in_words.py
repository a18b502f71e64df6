"""The choices of `two_options` without letters: how likely are the two replies themselves, after the same question?

A weak model answers letters by habit, but gives more probability to a reply that fits a question than to one that does
not. Each reply counts by its likelihood after the question, compared with that after a question without content
(`likelihood`), so that neither length nor rare words decide. There is no list and therefore no order: each pair is one
scenario.
"""

from __future__ import annotations

from dataclasses import dataclass

from heartstrings.behaviours.base import Scenario
from heartstrings.behaviours.choices.activities import ActivityPlaces
from heartstrings.behaviours.choices.two_options import Pair, TwoOptions, pair_of
from heartstrings.behaviours.forms import Forwarding
from heartstrings.behaviours.items import check_number
from heartstrings.behaviours.text.likelihood import InWords
from heartstrings.core.engine import Chat, Message, Prompt
from heartstrings.core.errors import InputError

PREMISE = "What is the answer?"
"""Asks nothing. Tried on 83 of the general facts with SmolLM2-135M. Plain text: mean share of the right one of two 0.74
with this question, 0.73 with an empty one, 0.70 with `Answer:` alone. Chat: 0.69 to 0.72 with this one, an empty turn,
`Hello.`, `Answer.`, `...` and `Say something.`, all within one standard error (0.03). Some templates refuse an empty
turn."""
LISTED = (
    ("\n\nTwo replies are at hand. Which one do you send?", ""),
    ("\n\nTwo answers are at hand. Which one is yours?", ""),
    ("\n\nTwo answers are at hand. Which one is right?", ""),
    ("\n\nYour answer is read by a program. Two are at hand.", '\n\nAnswer as {"answer": "..."}: a program reads it.'),
    ("\nFill in the blank: I would answer as in option ___.", "\nI would answer as follows."),
    (
        "You may spend the next while on one of two things. Which would you rather do?",
        "You may spend the next while as you like. What would you rather do?",
    ),
    ("A user writes: ", ""),
)
"""Sentences that speak of a list of options, and what is said instead where there is none."""
_ROLES = {"user": "Question", "assistant": "Answer"}


def unlisted(text: str) -> str:
    """A pair's text without the sentences that speak of a list; every other text as it is."""
    for listed, instead in LISTED:
        text = text.replace(listed, instead)
    return text


def asked(turns: Chat, *, plain: bool) -> Prompt:
    """The turns as a chat, or with `plain` as text for a model without a template: `Question: ...`, `Answer:`.

    Raises:
        InputError: `plain` and a turn of somebody else than user and assistant.
    """
    if not plain:
        return turns
    for turn in turns:
        if turn.role not in _ROLES:
            raise InputError(f"a turn of role {turn.role!r} in plain text", f"one of {', '.join(_ROLES)}")
    return "".join(f"{_ROLES[turn.role]}: {turn.content}\n" for turn in turns) + "Answer:"


def reply(option: str, *, plain: bool) -> str:
    """An option as the assistant would begin a turn with it: a capital, and in plain text the space after `Answer:`."""
    return (" " if plain else "") + option[:1].upper() + option[1:]


@dataclass(frozen=True)
class PairInWords(Forwarding, InWords):
    """The questions of a two-option behaviour in the same order, each once.

    Raises:
        InputError: a behaviour that counts places: without a list there are none.
    """

    of: TwoOptions
    plain: bool = False
    """As plain text, for a model without a chat template."""

    def __post_init__(self) -> None:
        if isinstance(self.of, ActivityPlaces):
            raise InputError(f"{self.of.name} in words", "a behaviour whose target is a reply", "Use Activities")

    @property
    def name(self) -> str:
        return f"{self.of.name}-words"

    @property
    def most(self) -> int:
        """As many as there are pairs."""
        return len(self.of.pairs())

    def premise(self, scenario: Scenario) -> Prompt:
        """A question without content, whatever was said before."""
        return asked((Message("user", PREMISE),), plain=self.plain)

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """The pairs that the behaviour with letters asks in its first 2 n scenarios of the same seed."""
        pairs = {pair.slug: pair for pair in self.of.pairs()}
        check_number(n, len(pairs), self.name)
        in_letters = self.of.scenarios(n=2 * n, seed=seed)
        return tuple(
            self._scenario(pairs[pair_of(scenario.id).removeprefix(f"{self.of.name}/")]) for scenario in in_letters[::2]
        )

    def _scenario(self, pair: Pair) -> Scenario:
        options = (pair.other, pair.target)
        return Scenario(
            id=f"{self.name}/{pair.slug}",
            prompt=asked((*pair.before, Message("user", unlisted(pair.text))), plain=self.plain),
            replies=tuple(reply(option, plain=self.plain) for option in options),
            cluster=f"{self.of.name}:{pair.cluster}",
            data={"options": options, **pair.data},
        )
