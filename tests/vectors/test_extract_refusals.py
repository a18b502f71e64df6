"""What extraction refuses, each with one clear error that leaves nothing behind."""

from __future__ import annotations

import pytest

from heartstrings.core.errors import InputError, NumericalError
from heartstrings.core.types import Pooling
from heartstrings.corpus import Corpus, Story
from heartstrings.vectors.bundle import HEADER
from heartstrings.vectors.extraction import extract
from numpy_engine import NumpyEngine, corpus, neutral

LONG = corpus(words=100)
REFUSALS = {
    "no stories": ({"corpus": Corpus((), author="x", source="f.jsonl")}, InputError, "f.jsonl holds no story"),
    "one emotion": ({"corpus": corpus(emotions=["sad"])}, InputError, "one emotion, 'sad'"),
    "one story": ({"corpus": Corpus(corpus().stories[:1], author="x", source="f")}, InputError, "one emotion"),
    "all too short": (
        {"poolings": (Pooling(start=50),)},
        InputError,
        "too short for pooling from50 in 4 of 4 emotions: calm, joyful, sad, worn out.*smaller --offset",
    ),
    "one too short": (
        {"corpus": Corpus((*LONG.stories, Story("shy", "t", "a b", "x")), author="x", source="f")},
        InputError,
        "1 of 5 emotions: shy; the longest of 'shy' has 3 tokens",
    ),
    "a window too long": ({"poolings": (Pooling(rule="window", start=5, stop=80),)}, InputError, "least 80 tokens"),
    "neutral too short": ({"neutral": neutral(words=4)}, InputError, "0 of 9 neutral texts.*--no-neutral"),
    "two neutral": ({"neutral": neutral(2)}, InputError, "2 of 2 neutral texts"),
    "no such layer": ({"layers": (0, 3)}, InputError, r"layers \[0, 3\].*0 to 2"),
    "no layer": ({"layers": ()}, InputError, "layers"),
    "a layer twice": ({"layers": (1, 1)}, InputError, "layers"),
    "no pooling": ({"poolings": ()}, InputError, "poolings"),
    "a pooling twice": ({"poolings": (Pooling(start=5),) * 2}, InputError, "each once"),
    "offset over the cut": ({"max_tokens": 5}, InputError, "cut at 5"),
    "NaN": ({"engine": NumpyEngine(broken=3)}, NumericalError, r"text 3 \('.*layer 0"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_leave_nothing_behind(tmp_path, case):
    changes, error, message = REFUSALS[case]
    base = {"engine": NumpyEngine(), "corpus": corpus(), "neutral": neutral(), "poolings": (Pooling(start=5),)}
    with pytest.raises(error, match=message):
        extract(out=tmp_path / "o", **(base | changes))
    assert not list(tmp_path.rglob("*.json")) or case in ("neutral too short", "two neutral")
    assert not (tmp_path / "o" / HEADER).exists()
