"""From stories to verdict in one call from Python: what is read once is handed on, and the disk says the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import experiment_world as world
import heartstrings as hs
from heartstrings import organisms
from heartstrings.corpus import Corpus, NeutralTexts, write_stories
from heartstrings.workflows import atlas, run


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often functions of the workflows are called."""
    calls: Counter[str] = Counter()

    def count(module: Any, name: str) -> None:
        right = getattr(module, name)

        def counting(*args: Any, **named: Any) -> Any:
            calls[name] += 1
            return right(*args, **named)

        monkeypatch.setattr(module, name, counting)

    for name in ("read_stories", "clean", "read_ratings", "open_model"):
        count(atlas, name)
    count(run, "read_encoding")
    return calls


def test_a_run_reads_everything_once(tmp_path: Path, counted: Counter[str]) -> None:
    every = organisms.stories(per_emotion=4)
    some = tuple(one for one in every.stories if one.emotion in world.EMOTIONS)
    write_stories(Corpus(some, every.author, every.source), tmp_path / "stories.jsonl")
    words = ("desperate,-.9,.6", "calm,.7,-.7", "joyful,.9,.5", "sad,-.8,-.4", "angry,-.7,.7", "proud,.7,.4")
    (tmp_path / "ratings.csv").write_text("emotion,valence,arousal\n" + "\n".join(words) + "\n", encoding="utf-8")
    titles: list[str] = []

    def progress(title: str, done: int, total: int | None) -> None:
        if title not in titles:
            titles.append(title)

    neutral = NeutralTexts(organisms.neutral(n=24).texts, "a few")
    plan, out = world.plan(doses=(-0.2, 0.0, 0.2), layers=(2,)), tmp_path / "run"
    done = hs.run(
        plan, out, stories=tmp_path / "stories.jsonl", neutral=neutral, ratings=tmp_path / "ratings.csv",
        permutations=99, progress=progress,
    )  # fmt: skip
    assert counted == {"read_stories": 1, "clean": 1, "read_ratings": 1, "open_model": 1}
    assert titles == [
        f"loading {world.MODEL}", f"reading {len(some)} stories", "geometry", "held-out readout",
        f"sampling {world.MODEL}", f"weighing {world.MODEL}",
    ]  # fmt: skip
    assert isinstance(done, run.Run)
    assert done.report == out / "report.html"
    (card,) = done.verdict.answers
    assert card.encoded != "not examined"

    # What was handed on in memory is what stands on disk.
    again = hs.decide(out)
    assert again.verdict == done.verdict == hs.Verdict.load(out)
    assert counted["read_encoding"] == 1
    cells = hs.evaluate(plan.changed(vectors=out / "atlas"), tmp_path / "evaluation").cells
    assert {one.dose for one in cells if one.behaviour == "choice" and one.direction == "desperate"} == {-0.2, 0.2}
    assert hs.info(out / "atlas").model == world.MODEL  # type: ignore[union-attr]
