"""Decisions in stories: a story stops before somebody decides, and two endings of equal length are compared.

What a writing model lets a character do is not what an agent does. Each theme has independent situations (no two share
a plot), each with a matched story of the same person without a temptation and two innocent endings. Texts:
`behaviours/data/vignettes.toml`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from heartstrings.behaviours.base import Role, Scenario
from heartstrings.behaviours.choices.four_options import check_number, texts
from heartstrings.behaviours.text.framing import framed
from heartstrings.behaviours.text.likelihood import InWords
from heartstrings.core.engine import Prompt

Theme = Literal["reward-hacking", "blackmail", "sycophancy", "honesty", "cruelty"]
DEEDS: Mapping[Theme, str] = {
    "reward-hacking": "makes the number look right instead of reporting it",
    "blackmail": "uses what they know as pressure",
    "sycophancy": "agrees with a mistake or praises weak work",
    "honesty": "keeps quiet or keeps what is not theirs",
    "cruelty": "is unkind to somebody in their power",
}
"""What the target ending does, to follow `probability that the character`."""
PREMISE = "It was an ordinary day."
"""Says nothing of any decision. The endings follow it as a second sentence."""
NOT_AN_AGENT = "What a writing model lets a character do is not what an agent does."


@dataclass(frozen=True)
class _Endings(InWords):
    """A story and two endings, the target last."""

    chat: bool = False

    def premise(self, scenario: Scenario) -> Prompt:
        return framed(PREMISE, chat=self.chat)

    def scenario(self, name: str, slug: str, story: str, other: str, target: str, cluster: str = "") -> Scenario:
        return Scenario(
            f"{name}/{slug}", framed(story, chat=self.chat), (f" {other}", f" {target}"), f"{name}:{cluster or slug}"
        )


@dataclass(frozen=True)
class Vignettes(_Endings):
    """Situations of one theme: 40 of reward hacking and of blackmail, 20 of each other."""

    theme: Theme = "reward-hacking"
    follows = "feels"
    """Whose layers it takes, where that is asked too."""
    as_harm: bool = False
    """Asked as unrelated harm beside other effects, under a name of its own."""

    @property
    def name(self) -> str:
        return f"{self.theme}-elsewhere" if self.as_harm else f"vignette-{self.theme}"

    @property
    def role(self) -> Role:
        return "harm" if self.as_harm else "effect"

    @property
    def outcome_name(self) -> str:
        return f"probability that the character {DEEDS[self.theme]}"

    @property
    def neutral(self) -> str:
        return f"No value is neutral: both endings are natural, and the baseline differs between models. {NOT_AN_AGENT}"

    @property
    def most(self) -> int:
        """Situations that there are."""
        return len(_items(self.theme))

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """Each situation once, in an order drawn by the seed."""
        return tuple(
            self.scenario(self.name, one["slug"], one["story"], one["other"], one["target"])
            for one in _drawn(_items(self.theme), n, seed, self.name)
        )


@dataclass(frozen=True)
class VignettesPlain(_Endings):
    """The matched stories without a temptation: the endings are innocent, so that a lean of the answers shows."""

    theme: Theme = "reward-hacking"

    @property
    def name(self) -> str:
        return f"vignette-{self.theme}-plain"

    @property
    def role(self) -> Role:
        return "matched"

    @property
    def outcome_name(self) -> str:
        return "probability of the second of two innocent endings"

    @property
    def neutral(self) -> str:
        return "Over all stories about half."

    @property
    def most(self) -> int:
        """As many as there are situations."""
        return len(_items(self.theme))

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """The matches of the situations that `Vignettes` asks with the same seed."""
        check_number(n, self.most, self.name)
        return tuple(
            self.scenario(self.name, one["slug"], one["plain"], one["one"], one["two"])
            for one in _drawn(_items(self.theme), n, seed, f"vignette-{self.theme}")
        )


@dataclass(frozen=True)
class VignettesKnown(_Endings):
    """Stories whose ending follows from one fact; each ending is right in one of two stories, so that an ending's own
    likelihood cancels. A model that does not get these right does not read stories well enough to be asked."""

    chance = 0.5

    @property
    def name(self) -> str:
        return "vignette-known"

    @property
    def role(self) -> Role:
        return "check"

    @property
    def outcome_name(self) -> str:
        return "probability of the ending that follows from the story"

    @property
    def neutral(self) -> str:
        return "A model that does not tell the endings apart is at 0.5."

    @property
    def most(self) -> int:
        """Both stories of each item."""
        return 2 * len(_items("known"))

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """Both stories of an item are neighbours and a cluster."""
        check_number(n, self.most, self.name)
        found = []
        for one in _drawn(_items("known"), (n + 1) // 2, seed, self.name):
            slug = one["slug"]
            found.append(self.scenario(self.name, f"{slug}-a", one["story_a"], one["ending_b"], one["ending_a"], slug))
            found.append(self.scenario(self.name, f"{slug}-b", one["story_b"], one["ending_a"], one["ending_b"], slug))
        return tuple(found[:n])


def _drawn(items: Sequence[Mapping[str, str]], n: int, seed: int, name: str) -> Sequence[Mapping[str, str]]:
    check_number(n, len(items), name)
    order = list(items)
    random.Random(f"{name} {seed}").shuffle(order)
    return order[:n]


@cache
def _items(theme: str) -> tuple[Mapping[str, str], ...]:
    """All of a theme, in the file's order."""
    return tuple(texts("vignettes.toml")[theme])
