"""Free text of a chat model on plain subjects: its coherence under steering, and its tone."""

from __future__ import annotations

from dataclasses import dataclass

from heartstrings.behaviours.base import Scenario
from heartstrings.behaviours.forms import JudgedText
from heartstrings.behaviours.items import check_number, texts
from heartstrings.behaviours.writing.emotion_text import text_emotion
from heartstrings.core.engine import Message
from heartstrings.organisms.grammar import Draws

_STREAM = 41


@dataclass(frozen=True)
class Essays(JudgedText):
    """40 subjects, each a cluster, in four wordings. The outcome is the tone of the emotion words, 0.5 neutral."""

    max_new_tokens: int = 120

    name = "essays"
    role = "writing"
    outcome_name = "tone of the text (0 dark, 1 bright)"
    neutral = "Plain subjects have few emotion words: about 0.5 where there are any, and many texts have none."
    rubric = "emotion"
    decides = False
    """The lexicon measures the tone; a judge's valence and arousal are details."""

    def scenarios(self, *, n: int, seed: int) -> tuple[Scenario, ...]:
        """Every subject once before any is repeated, then in another wording."""
        subjects, forms = texts("essays.toml")["subjects"], texts("essays.toml")["forms"]
        check_number(n, len(subjects) * len(forms), self.name)
        order = Draws([seed, _STREAM]).order(list(range(len(subjects))))
        scenarios = []
        for number in range(n):
            subject = order[number % len(order)]
            form = (subject + number // len(order)) % len(forms)
            prompt = (Message("user", forms[form].format(subjects[subject])),)
            scenarios.append(self.scenario(f"{subject:02d}-{form}", prompt, cluster=f"{subject:02d}"))
        return tuple(scenarios)

    def outcome(self, text: str) -> float | None:
        """The mean valence of the rated emotion words, from 0 to 1; None without any."""
        valence = text_emotion(text).valence
        return None if valence is None else (1 + valence) / 2
