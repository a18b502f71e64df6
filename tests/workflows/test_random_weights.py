"""Random weights of every family that recipes are meant for, from stories to verdict: every suite, and no finding."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import models
import sandboxes
from heartstrings import organisms
from heartstrings.behaviours import suites
from heartstrings.behaviours.roles import Suite
from heartstrings.cli import _console as console
from heartstrings.corpus import write_stories
from heartstrings.experiment.ledger import SampleLedger
from heartstrings.experiment.plan import Plan
from heartstrings.workflows import run as pipeline
from heartstrings.workflows.atlas import AtlasSettings

FAMILIES = ("gemma4", "apertus", "llama", "qwen2", "qwen3_5", "gpt_neox")
AGENTS = ("gemma4", "gpt_neox")
"""Families that are asked the dialogues here too, tools in a template and in words without one. Other forms of template
are in test_tool_calls.py."""
DIALOGUES = ("blackmail", "reward-hacking")
CHOICES = ("activities-anchored", "pushback", "praise", "harshness", "over-refusal")
WORDS = tuple(one.name for one in suites.text().effects)
"""Next words, tone and vignettes: any model answers them, so only known answers and controls keep a finding away."""
SHORT = "short"
VOCABULARY = 2000


def short() -> Suite:
    """`standard` with texts of a few tokens: random weights say nothing with more."""

    def cut(ones: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(replace(one, max_new_tokens=6) if hasattr(one, "max_new_tokens") else one for one in ones)

    whole = suites.standard()
    return replace(
        whole, name=SHORT, effects=cut(whole.effects), capability=cut(whole.capability), matched=cut(whole.matched),
        writing=cut(whole.writing), judged=(),
    )  # fmt: skip


def settings(folder: Path, family: str, effects: tuple[str, ...], *, controls: int = 32) -> tuple[Plan, AtlasSettings]:
    # Prompts of half as many tokens: those of the dialogues are long.
    model = models.folder(folder / "model", family, vocabulary=VOCABULARY)
    write_stories(organisms.stories(per_emotion=3), folder / "stories.jsonl")
    (folder / "neutral.txt").write_text("\n".join(organisms.neutral(n=40).texts), encoding="utf-8")
    plan = pipeline.plans_for(
        [str(model)], "quick", suite=SHORT, effects=effects, directions=("desperate",), layers=(1,),
        doses=(-0.1, 0.0, 0.1), fit_doses=True, prompting=False,
        controls={"general": controls, "span": 0, "shuffled": 0},
        samples={"select": 2, "effect": 2, "matched": 2, "capability": 4, "harm": 4, "writing": 2, "dialogue": 2,
                 "check": 8, "cost": 2},
    )[str(model)]  # fmt: skip
    return plan, atlas(folder)


def atlas(folder: Path) -> AtlasSettings:
    # Few permutations: the answers do not hang on the atlas's p here.
    return AtlasSettings(stories=str(folder / "stories.jsonl"), neutral=str(folder / "neutral.txt"), permutations=200)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(suites.SUITES, SHORT, short)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_random_weights_are_never_a_finding(family: str, tmp_path: Path) -> None:
    """Their states carry word counts, from which valence can be read; but they do not answer what they are asked."""
    sandboxes.needed()
    effects = (*CHOICES, *WORDS)
    plan, texts = settings(tmp_path, family, effects)
    done = pipeline.run_model(plan, tmp_path / "run", texts, progress=console.bars(True))
    asked = checked(done, tmp_path / "run", plan)
    assert set(effects) == {one.name for one in short().effects if one.ask != "dialogue"}
    if family in AGENTS:  # without controls, which take minutes and change nothing where nothing is answered
        plan, texts = settings(tmp_path, family, DIALOGUES, controls=0)
        agents = plan.changed(vectors=tmp_path / "run" / pipeline.ATLAS)
        asked |= checked(
            pipeline.run_model(agents, tmp_path / "agents", texts, progress=console.bars(True)),
            tmp_path / "agents",
            agents,
        )
    understood = [card.behaviour for card in done.verdict.answers if all(check.holds for check in card.checks)]
    understood += DIALOGUES if family in AGENTS else ()  # these have no questions with a known answer
    # Matched questions are asked of effects that the model understands.
    matched = {one.name for effect in understood for one in short().matched_of(effect)}
    others = {one.name for one in short().all if one.role != "matched" and (family in AGENTS or one.ask != "dialogue")}
    assert asked == others | matched


def checked(done: pipeline.Run, folder: Path, plan: Plan) -> set[str]:
    """Nothing is found. Returns the behaviours that were asked."""
    assert [card.behaviour for card in done.verdict.answers] == list(plan.effects)
    with SampleLedger.read(folder / pipeline.LEDGER) as ledger:
        asked = {sample.cell.behaviour for sample in ledger.samples()}
    for card in done.verdict.answers:
        assert card.answer in ("not encoded", "inconclusive")
        assert card.range is None
        said = (f"answers to the questions of {card.behaviour} are valid", f"the options of {card.behaviour} apart")
        assert card.answer == "not encoded" or card.behaviour in WORDS or any(words in card.sentence for words in said)
    assert done.report.is_file()
    assert done.verdict.doses is not None
    assert done.verdict.doses.within
    return asked


KILLED = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
import test_random_weights as here
from heartstrings.cli import console
from heartstrings.workflows import run as pipeline
from heartstrings.behaviours import suites
from heartstrings.experiment.plan_files import load_plan
suites.SUITES[here.SHORT] = here.short
folder = Path({folder!r})
pipeline.run_model(load_plan(folder / "plan.toml"), folder / {out!r}, here.atlas(folder), progress=console.bars(True))
"""


@pytest.mark.slow
def test_a_killed_run_of_every_suite_goes_on_and_comes_out_the_same(tmp_path: Path) -> None:
    from heartstrings.experiment.plan_files import write_plan

    sandboxes.needed()
    plan, _ = settings(tmp_path, "llama", ("pushback", "reward-hacking"), controls=0)
    write_plan(tmp_path / "plan.toml", plan)
    path = [str(Path(__file__).parents[0]), str(Path(__file__).parents[1])]
    whole, code = (KILLED.format(path=path, folder=str(tmp_path), out=out) for out in ("whole", "run"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # A process of its own too: in one that had run other tests, some log-likelihoods had another eighth digit.
    subprocess.run([sys.executable, "-c", whole], env=environment, check=True)
    ledger = tmp_path / "run" / pipeline.LEDGER
    kills, total = 0, _rows(tmp_path / "whole" / pipeline.LEDGER)
    # Most samples come at once, at the end: kill well before.
    for share in (0.2, 0.35):
        process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
        while process.poll() is None and _rows(ledger) < share * total:
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills == 2
    before = _rows(ledger)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert before < _rows(ledger)
    with SampleLedger.read(ledger) as one, SampleLedger.read(tmp_path / "whole" / pipeline.LEDGER) as other:
        assert one.samples() == other.samples()


def _rows(ledger: Path) -> int:
    if not ledger.is_file():
        return 0
    try:
        with SampleLedger.read(ledger) as found:
            return found.count()
    except Exception:  # not yet made whole
        return 0
