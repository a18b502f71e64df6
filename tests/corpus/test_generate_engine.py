"""Stories by a local model, through the real engine on a tiny random model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import models
from heartstrings.core.engine import Completion, GenerateRequest, Message
from heartstrings.core.errors import InputError
from heartstrings.corpus._writers import EngineWriter
from heartstrings.corpus.generate import StoryPlan, generate_neutral, generate_stories

PLAN = StoryPlan(emotions=("calm", "sad"), topics=("rain",), stories=1, per_call=1, words=20, retries=0)


@dataclass
class Counting:
    """The engine itself, with a count of what it was asked."""

    engine: Any
    asked: list[GenerateRequest] = field(default_factory=list)

    @property
    def info(self) -> Any:
        return self.engine.info

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Completion]:
        self.asked.extend(requests)
        return self.engine.generate(requests)


@pytest.mark.slow
def test_a_local_model_writes_what_its_engine_generates(tmp_path: Path) -> None:
    engine = Counting(models.engine("llama"))
    writer = EngineWriter(engine, batch=1)
    for _ in range(2):
        # A random model writes no usable prose, and none is made up for it.
        with pytest.raises(InputError, match="0 emotions"):
            generate_stories(PLAN, writer, tmp_path)
    assert len(engine.asked) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calls.jsonl"]
    lines = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()][1:]
    assert [line["author"] for line in lines] == [engine.info.model_id] * 2
    request = engine.asked[1]
    (message,) = request.prompt
    assert isinstance(message, Message)
    assert (message.role, "sad" in message.content, "rain" in message.content) == ("user", True, True)
    (alone,) = engine.engine.generate([request])
    assert lines[1]["text"] == alone.text
    assert lines[1]["finish"] == ("length" if alone.finish == "length" else "stop")
    with pytest.raises(InputError, match="no usable neutral"):
        generate_neutral(PLAN, writer, tmp_path, per_topic=1)
    assert len(engine.asked) == 3
