"""Organisms: four tiny models whose answer is known. Results on them say nothing about large models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from heartstrings.engines.hf.named import CHECKPOINTS, KINDS
from heartstrings.engines.hf.named import organism_path as path

if TYPE_CHECKING:
    from heartstrings.corpus import Corpus, NeutralTexts

__all__ = ["KINDS", "is_organism", "neutral", "path", "stories"]


def is_organism(model: str) -> bool:
    """Whether this is an organism, by name or, in a folder of another name, by its vocabulary. An organism knows only
    its small language, so the other behaviours cannot be asked of it."""
    if model.startswith("organism:"):
        return True
    theirs = Path(model) / "tokenizer.json"
    if not theirs.is_file():
        return False
    ours = [CHECKPOINTS / kind / "tokenizer.json" for kind in KINDS]
    return theirs.read_bytes() in [file.read_bytes() for file in ours if file.is_file()]


def stories(*, seed: int = 0, per_emotion: int = 12) -> Corpus:
    """The organisms' own stories: 171 emotions x the same 12 topics; see `generate.stories`."""
    from heartstrings.organisms.generate import stories as generated

    return generated(seed=seed, per_emotion=per_emotion)


def neutral(*, seed: int = 0, n: int = 200) -> NeutralTexts:
    """Paragraphs without emotion; see `generate.neutral`."""
    from heartstrings.organisms.generate import neutral as generated

    return generated(seed=seed, n=n)
