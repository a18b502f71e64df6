"""Free text of a chat model on plain subjects: whether what it writes holds together under steering, and its tone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from heartstrings.behaviours.base import Answer, Grade, Scenario
from heartstrings.behaviours.organism.stories import Stories
from heartstrings.behaviours.reading import completion
from heartstrings.behaviours.writing.emotion_text import text_emotion
from heartstrings.core.engine import Message, Score
from heartstrings.core.errors import InputError
from heartstrings.judges.base import Case
from heartstrings.organisms.grammar import Draws

_STREAM = 41
_FORMS = (
    "Explain {} to a newcomer in one paragraph.",
    "Write a few sentences about {}.",
    "A friend asks about {}. What do you tell them?",
    "Write the opening of an article about {}.",
)
_SUBJECTS = (
    "how bread is made",
    "what a bicycle's gears are for",
    "choosing a tent",
    "how tides come about",
    "keeping houseplants in winter",
    "what a librarian does all day",
    "reading a weather map",
    "repairing a wooden chair",
    "how a suspension bridge carries its load",
    "learning to play the recorder",
    "planning a small kitchen",
    "why leaves change their colour",
    "how a town's water is cleaned",
    "sorting old photographs",
    "how a sewing machine makes a stitch",
    "reading a bus timetable",
    "how cheese gets its rind",
    "laying out a vegetable bed",
    "what a surveyor measures",
    "how a lock on a canal lifts a boat",
    "packing for a week in the mountains",
    "how paper is recycled",
    "telling common trees apart by their bark",
    "how a piano is tuned",
    "choosing shoes for long walks",
    "how a thermostat keeps a room at one temperature",
    "what a proofreader looks for",
    "why the moon has phases",
    "cleaning a camera lens",
    "how salt is won from sea water",
    "writing an index for a book",
    "how a lift knows where to stop",
    "keeping bread fresh for longer",
    "what a beekeeper does in spring",
    "how glass bottles are made",
    "arranging a bookshelf",
    "how a pendulum clock keeps time",
    "drawing a floor plan to scale",
    "how vaccines are stored and carried",
    "getting to know a spreadsheet",
)


@dataclass(frozen=True)
class Essays(Stories):
    """40 subjects, each a cluster, in four wordings. The outcome is the tone of the emotion words, 0.5 neutral."""

    max_new_tokens: int = 120

    @property
    def name(self) -> str:
        return "essays"

    @property
    def neutral(self) -> str:
        return "Plain subjects have few emotion words: about 0.5 where there are any, and many texts have none."

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """Every subject once before any comes again, then in another wording.

        Raises:
            InputError: more than there are, or fewer than 0.
        """
        if not 0 <= n <= len(_SUBJECTS) * len(_FORMS):
            raise InputError(f"{n} scenarios of essays", f"0 to {len(_SUBJECTS) * len(_FORMS)}", "Ask for fewer")
        order = Draws([seed, _STREAM]).order(list(range(len(_SUBJECTS))))
        found = []
        for number in range(n):
            subject = order[number % len(order)]
            form = (subject + number // len(order)) % len(_FORMS)
            text = _FORMS[form].format(_SUBJECTS[subject])
            found.append(
                Scenario(f"essays/{subject:02d}-{form}", (Message("user", text),), cluster=f"essays:{subject:02d}")
            )
        return tuple(found)

    @property
    def rubric(self) -> str:
        return "emotion"

    @property
    def decides(self) -> bool:
        """Tone is measured by the lexicon; a judge's valence and arousal stand beside it."""
        return False

    def case(
        self, scenario: Scenario, outcome: float | None, text: str | None, detail: Mapping[str, float]
    ) -> Case | None:
        """Every text long enough to be one."""
        return None if text is None or detail.get("n_words", 0) < self.least_words else Case("", _asked(scenario), text)

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """As of stories; the tone is the mean valence of the rated emotion words, None without any."""
        grade = super().grade(scenario, answer, follow_up)
        valence = text_emotion(completion(answer).text).valence
        return Grade(None if valence is None else (1 + valence) / 2, grade.valid, grade.text, grade.detail)


def _asked(scenario: Scenario) -> str:
    return scenario.prompt if isinstance(scenario.prompt, str) else scenario.prompt[0].content
