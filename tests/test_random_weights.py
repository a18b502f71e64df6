"""Random weights of every family that recipes are meant for, from stories to verdict: it runs, and it is no finding."""

from __future__ import annotations

from pathlib import Path

import pytest

import models
from heartstrings import console, organisms, pipeline
from heartstrings.atlas import AtlasSettings
from heartstrings.corpus import write_stories

FAMILIES = ("gemma4", "apertus", "llama", "qwen2", "qwen3_5", "gpt_neox")


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_random_weights_are_never_a_finding(family: str, tmp_path: Path) -> None:
    """Their states carry word counts, from which valence can be read; but they do not answer what they are asked."""
    model = models.folder(tmp_path / "model", family)
    write_stories(organisms.stories(per_emotion=3), tmp_path / "stories.jsonl")
    (tmp_path / "neutral.txt").write_text("\n".join(organisms.neutral(n=40).texts), encoding="utf-8")
    plan = pipeline.plans_for(
        [str(model)], "quick", directions=("desperate",), layers=(1, 2), doses=(-0.2, 0.0, 0.2),
        controls={"general": 20, "span": 20, "shuffled": 0},
        samples={"select": 3, "effect": 10, "matched": 6, "capability": 8, "harm": 8, "writing": 2},
    )[str(model)]  # fmt: skip
    texts = AtlasSettings(stories=str(tmp_path / "stories.jsonl"), neutral=str(tmp_path / "neutral.txt"))
    done = pipeline.run_model(plan, tmp_path / "run", texts, progress=console.bars(True))
    (card,) = done.verdict.answers
    assert card.answer in ("not encoded", "inconclusive")
    assert card.range is None
    assert card.answer == "not encoded" or "answers to the questions of choice are valid" in card.sentence
    assert done.report.is_file()
