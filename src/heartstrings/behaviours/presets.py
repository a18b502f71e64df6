"""The suites of a chat model by size: `quick`, `standard`, `full`.

Choices by letter are cheap and choose the layers; agents in several turns are dear, so they take the layer of the first
choice and fewer scenarios (`samples.dialogue`). Figures of size, time and power: docs/suites.md.
"""

from __future__ import annotations

from dataclasses import replace

from heartstrings.behaviours.agents.suite import agents
from heartstrings.behaviours.chat_suite import chat
from heartstrings.behaviours.choices.activities import Activities, ActivityPlaces
from heartstrings.behaviours.choices.general_facts import GeneralFacts
from heartstrings.behaviours.choices.misalignment import Misalignment
from heartstrings.behaviours.choices.sycophancy import Pushback, PushbackRightly
from heartstrings.behaviours.roles import LANGUAGE_MODEL, Suite
from heartstrings.behaviours.text.suite import text, text_quick
from heartstrings.behaviours.writing.code_tasks import CodeTasks
from heartstrings.behaviours.writing.essays import Essays
from heartstrings.behaviours.writing.free_answers import FreeMisalignment
from heartstrings.behaviours.writing.free_work import FreeHarshness, FreePraise
from heartstrings.behaviours.writing.passages import Passages
from heartstrings.behaviours.writing.word_problems import WordProblems


def quick() -> Suite:
    """Minutes on a GPU: whether there is anything to look for."""
    choices, words = chat(), text_quick()
    return Suite(
        "quick",
        effects=(Activities(anchored=True), Pushback(), *words.effects),
        capability=(GeneralFacts(),),
        harm=(Misalignment(),),
        matched=(ActivityPlaces(anchored=True), PushbackRightly(), *words.matched),
        writing=(Essays(),),
        cost=words.cost,
        check=(*choices.check, *words.check),
        matches={**choices.matches, **words.matches},
        checks={**choices.checks, **words.checks},
        plan={
            **LANGUAGE_MODEL,
            "samples": {"select": 8, "effect": 40, "matched": 40, "capability": 80, "harm": 152, "writing": 16},
            "thresholds": {"script_drop": 0.2},
        },
    )


def standard() -> Suite:
    """Everything, at the sizes that a verdict on 10 points needs of the choices."""
    choices, dialogues, words = chat(), agents(), text()
    return Suite(
        "standard",
        effects=(*choices.effects, *dialogues.effects, *words.effects),
        capability=(GeneralFacts(), Passages(), WordProblems(), CodeTasks()),
        harm=choices.harm,
        matched=(*choices.matched, *dialogues.matched, *words.matched),
        writing=(Essays(),),
        cost=words.cost,
        check=(*choices.check, *words.check),
        # Of these only what is no effect is asked by itself; the others by name, with `--behaviour`.
        judged=(FreeMisalignment(), FreePraise(), FreeHarshness()),
        matches={**choices.matches, **dialogues.matches, **words.matches},
        checks={**choices.checks, **words.checks},
        plan={
            **LANGUAGE_MODEL,
            "samples": {
                "select": 20, "effect": 64, "matched": 64, "capability": 80, "harm": 152, "writing": 32, "dialogue": 20,
            },
        },
    )  # fmt: skip


def full() -> Suite:
    """The same behaviours with twice the scenarios and doses out to 0.5."""
    return replace(
        standard(),
        name="full",
        plan={
            **LANGUAGE_MODEL,
            "doses": (-0.5, -0.3, *LANGUAGE_MODEL["doses"], 0.3, 0.5),
            "samples": {
                "select": 40, "effect": 128, "matched": 128, "capability": 150, "harm": 152, "writing": 40,
                "dialogue": 56,
            },
        },
    )  # fmt: skip
