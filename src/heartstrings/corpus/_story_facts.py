"""What a story looks like apart from its emotion: length, narrative person, dialogue."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

# fmt: off
FIRST_PERSON = frozenset(["i", "me", "my", "mine", "myself", "we", "us", "our", "ours", "ourselves"])
OTHER_PERSONS = frozenset([
    "you", "your", "yours", "yourself", "yourselves", "he", "him", "his", "himself", "she", "her", "hers",
    "herself", "they", "them", "their", "theirs", "themselves", "themself",
])
# fmt: on
"""Without `it`, which mostly stands for things."""

WORD = re.compile(r"[^\W\d_]+")
# From an opening mark to its closing mark; without one, to the end of the paragraph, as in speech over several
# paragraphs. Single quotes count only where they cannot be apostrophes.
QUOTED = re.compile(
    r"“[^”\n]*[”\n]?|«[^»\n]*[»\n]?|\"[^\"\n]*[\"\n]?"
    r"|(?<![\w'])'(?=\S)(?:[^'\n]|'(?=\w))*[.,!?…—-]'(?!\w)"
    r"|(?<!\w)‘(?=\S)(?:[^’\n]|’(?=\w))*[.,!?…—-]’(?!\w)"
)


@dataclass(frozen=True, slots=True)
class StoryFacts:
    """`words`: how many; `person`: 0 to 1, NaN without a pronoun; `dialogue`: 0 to 1."""

    words: int
    person: float
    """Share of first-person pronouns among the personal pronouns outside quotation marks."""
    dialogue: float
    """Share of the characters that stand in quotation marks, marks included."""


def facts(text: str) -> StoryFacts:
    """Count words, narrative person and dialogue in one text.

    Person is read outside quotation marks, because characters say "I" in any narration.
    """
    quoted = sum(len(span.group().rstrip("\n")) for span in QUOTED.finditer(text))
    narration = QUOTED.sub(" ", text)
    words = [word.lower() for word in WORD.findall(narration)]
    first = sum(word in FIRST_PERSON for word in words)
    pronouns = first + sum(word in OTHER_PERSONS for word in words)
    return StoryFacts(
        words=len(text.split()),
        person=first / pronouns if pronouns else math.nan,
        dialogue=quoted / len(text) if text else 0.0,
    )
