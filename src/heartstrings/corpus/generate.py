"""Have stories and neutral dialogues written: emotions x topics, crossed, resumable after every call.

A run leaves in its folder: `calls.jsonl` (every finished call; none is made twice), `stories.jsonl` (the stories that
the filters kept), `dropped.jsonl` (the others, with reasons) and `stories.json` (author, hashes, counts).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from heartstrings.core.checks import check_fields
from heartstrings.core.errors import InputError, ModelError
from heartstrings.corpus._ledger import Ledger
from heartstrings.corpus._prompts import Messages, neutral_prompt, parse, perspective, prompt_hash, story_prompt
from heartstrings.corpus._writers import Answer, Call, Failure, Writer
from heartstrings.corpus.filters import NearDuplicates, broken_off, clean, plain_words
from heartstrings.corpus.lexicon import emotions as own_emotions
from heartstrings.corpus.readers import json_lines, write_atomically, write_stories
from heartstrings.corpus.shipped import topics as own_topics
from heartstrings.corpus.stories import Corpus, Dropped, NeutralTexts, Story

Progress = Callable[[int, int], None]
Entry = Mapping[str, Any]
"""A finished call as the ledger keeps it."""
FAULTS = ("empty answer", "refused answer", "unreadable answer")


@dataclass(frozen=True)
class StoryPlan:
    """What is to be written. Every emotion gets every topic, so that topic is not confounded with emotion.

    Raises:
        InputError: a number out of range; fewer than two emotions, no topic, one of them twice or empty; an emotion
            with capitals or double spaces.
    """

    emotions: tuple[str, ...] = field(default_factory=own_emotions)
    topics: tuple[str, ...] = field(default_factory=own_topics)
    stories: Annotated[int, Field(ge=1)] = 4
    """Stories for each emotion and topic."""
    per_call: Annotated[int, Field(ge=1)] = 4
    """Stories asked for in one call."""
    words: Annotated[int, Field(ge=20)] = 130
    """Target length of a story. At the default, most tokens come after the 50th."""
    temperature: Annotated[float, Field(ge=0, le=5)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    seed: int = 0
    retries: Annotated[int, Field(ge=0)] = 2
    """Further calls, with other seeds, after an empty, refused or unreadable answer."""
    max_calls: Annotated[int | None, Field(ge=1)] = None
    """Budget of calls for this run. Another run can make the rest."""
    min_words: int = 40

    def __post_init__(self) -> None:
        check_fields(self)
        for kind, words, least in (("emotions", self.emotions, 2), ("topics", self.topics, 1)):
            if len(words) < least or len({*words}) < len(words) or not all(word.strip() for word in words):
                raise InputError(f"{len(words)} {kind} to write about", f"{least} or more, none twice and none empty")
        for word in self.emotions:
            if word != " ".join(word.lower().split()):
                raise InputError(f"the emotion {word!r}", "lower case and single spaces, as stories are read back")


@dataclass(frozen=True)
class Cell:
    """What one call asks for, and again after an unusable answer: emotion, topic, and which part of their stories."""

    kind: Literal["story", "neutral"]
    emotion: str
    topic: str
    part: int
    n: int
    messages: Messages


@dataclass
class _Asked:
    """What came of the calls of one run."""

    answers: dict[Cell, Entry] = field(default_factory=dict)
    """The last entry of the ledger for every cell that has one."""
    faults: Counter[str] = field(default_factory=Counter)
    """Answers that gave no text, by kind, over all attempts."""
    failures: list[str] = field(default_factory=list)
    """Why calls of this run had no answer."""
    unasked: int = 0
    """Cells that still need a call."""
    settled: int = 0
    """Cells that need no further call."""

    def take(self, cell: Cell, entry: Entry, *, last: bool) -> None:
        self.answers[cell] = entry
        usable = entry["verdict"] == "ok"
        if not usable:
            self.faults[f"{entry['verdict']} answer"] += 1
        self.settled += usable or last

    def pieces(self, cell: Cell) -> list[tuple[int, str, bool]]:
        """(1-based number, text, whether its end is missing) of the pieces that a cell got."""
        entry = self.answers.get(cell)
        if entry is None or entry["verdict"] != "ok":
            return []
        pieces = parse(entry["text"], n=cell.n)[0]
        # At its token limit an answer may also stop at a full stop.
        return [(number, text, entry["finish"] == "length" and number == pieces[-1][0]) for number, text in pieces]


def generate_stories(plan: StoryPlan, writer: Writer, out: str | Path, progress: Progress | None = None) -> Corpus:
    """Have the stories of a plan written, and filter them. Run it again to continue after an interruption.

    Args:
        out: a folder; the first lines of this module say what it will hold.
        progress: called with (calls settled, calls planned) at the start and after every call.

    Raises:
        ModelError: the writer cannot be reached, or some calls had no answer. What came is kept; run it again.
        InputError: nothing usable was written, or the folder belongs to something else.
    """
    out = Path(out)
    cells = [
        _story_cell(plan, emotion, topic, part, n)
        for topic in plan.topics  # the outer loop: a run cut short by its budget is still crossed
        for part, n in enumerate(_parts(plan.stories, plan.per_call))
        for emotion in plan.emotions
    ]
    asked = _ask(cells, plan, writer, out / "calls.jsonl", progress)
    stories: list[Story] = []
    dropped: list[Dropped] = []
    counts = Counter({**dict.fromkeys((*FAULTS, "calls without stories", "stories missing"), 0), **asked.faults})
    for cell in cells:
        pieces = asked.pieces(cell)
        if cell in asked.answers:
            counts["calls without stories"] += not pieces
            counts["stories missing"] += cell.n - len(pieces)
        for number, text, cut in pieces:
            person = perspective(cell.part * plan.per_call + number - 1)
            story = Story(cell.emotion, cell.topic, text, writer.author, person)
            if cut:
                dropped.append(Dropped(story, "cut off", "the answer stopped at its token limit"))
            else:
                stories.append(story)
    left = f"stopped by the budget of calls: {asked.unasked} of {len(cells)} calls are still to be made"
    raw = Corpus(
        tuple(stories),
        author=writer.author,
        source="generated",
        prompt_hash=prompt_hash("story", n=plan.per_call, words=plan.words),
        filtered={"cut off": len(dropped)},
        dropped=tuple(dropped),
        notes=(left,) if asked.unasked else (),
    )
    corpus = clean(raw, min_words=plan.min_words)
    if len(corpus.emotions) < 2:
        raise InputError(
            f"{writer.author} wrote usable stories for {len(corpus.emotions)} emotions: {dict(counts)}, "
            f"filters {dict(corpus.filtered)}",
            "stories for two or more emotions",
            f"Read {out / 'calls.jsonl'}; a base model or a very small one cannot follow the prompt",
        )
    _write_run(out, corpus, plan, writer, counts)
    return corpus


def generate_neutral(
    plan: StoryPlan, writer: Writer, out: str | Path, progress: Progress | None = None, *, per_topic: int = 2
) -> NeutralTexts:
    """Have neutral dialogues written on the plan's topics, `per_topic` each, into `out/neutral.jsonl`.

    They are resumable and filtered (too short, broken off, duplicates) like the stories. Errors are the same.
    """
    out = Path(out)
    cells = [
        Cell("neutral", "", topic, part, n, neutral_prompt(topic, n=n, words=plan.words))
        for topic in plan.topics
        for part, n in enumerate(_parts(per_topic, plan.per_call))
    ]
    asked = _ask(cells, plan, writer, out / "neutral_calls.jsonl", progress)
    rows: list[dict[str, str]] = []
    dropped = Counter({"too short": 0, "cut off": 0, "near duplicate": 0})
    near = NearDuplicates()
    for cell in cells:
        for _, text, cut in asked.pieces(cell):
            words = plain_words(text)
            reason = "cut off" if cut else _neutral_fault(text, words, plan.min_words, near)
            if reason:
                dropped[reason] += 1
                continue
            near.add(words)
            rows.append({"topic": cell.topic, "text": text, "author": writer.author})
    if not rows:
        problem = f"{writer.author} wrote no usable neutral dialogue: {dict(asked.faults)}"
        raise InputError(problem, "at least one", f"Read {out / 'neutral_calls.jsonl'}")
    neutral = NeutralTexts(tuple(row["text"] for row in rows), source=f"generated by {writer.author}")
    record = {
        "schema": 1,
        "author": writer.author,
        "content_hash": neutral.hash,
        "texts": len(neutral),
        "prompt_hash": prompt_hash("neutral", n=plan.per_call, words=plan.words),
        "filtered": dict(dropped),
        "answers": {**dict.fromkeys(FAULTS, 0), **asked.faults},
        "calls still to be made": asked.unasked,
        "temperature": plan.temperature,
        "seed": plan.seed,
    }
    write_atomically(out / "neutral.jsonl", json_lines(rows))
    write_atomically(out / "neutral.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return neutral


def call_key(call: Call, writer: Writer) -> str:
    """SHA-256 (hexadecimal) of what makes two calls the same: prompt, seed, model and settings."""
    content = [
        call.messages,
        call.seed,
        call.temperature,
        call.top_p,
        call.max_new_tokens,
        writer.author,
        dict(writer.settings),
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _ask(cells: Sequence[Cell], plan: StoryPlan, writer: Writer, path: Path, progress: Progress | None) -> _Asked:
    """Rounds of calls: all cells first, then those without a usable answer again, with another seed."""
    asked = _Asked()
    report = progress or (lambda done, total: None)
    budget = plan.max_calls if plan.max_calls is not None else len(cells) * (plan.retries + 1)
    open_cells = list(cells)
    with Ledger(path) as ledger:
        for attempt in range(plan.retries + 1):
            last = attempt == plan.retries
            missing: list[tuple[Call, str, Cell]] = []
            for cell in open_cells:
                call = _call(cell, plan, attempt)
                key = call_key(call, writer)
                if key in ledger.entries:
                    asked.take(cell, ledger.entries[key], last=last)
                else:
                    missing.append((call, key, cell))
            report(asked.settled, len(cells))
            waiting = {call: (key, cell) for call, key, cell in missing[:budget]}
            asked.unasked += len(missing) - len(waiting)
            budget -= len(waiting)
            with closing(writer.answers(iter(waiting))) as answered:
                for call, answer in answered:
                    key, cell = waiting[call]
                    if isinstance(answer, Failure):
                        asked.failures.append(answer.reason)
                        continue
                    entry = _entry(cell, call, attempt, answer, writer.author)
                    ledger.add(key, entry)
                    asked.take(cell, entry, last=last)
                    report(asked.settled, len(cells))
            # A call without an answer keeps its seed, and the next run makes it again.
            answered_now = [cell for cell in open_cells if asked.answers.get(cell, {}).get("attempt") == attempt]
            open_cells = [cell for cell in answered_now if asked.answers[cell]["verdict"] != "ok"]
    if asked.failures:
        raise ModelError(
            f"{len(asked.failures)} calls had no answer; the last: {asked.failures[-1]}",
            "an answer to every call",
            f"Run the same command again: the {len(asked.answers)} finished calls in {path.parent} are kept",
        )
    return asked


def _entry(cell: Cell, call: Call, attempt: int, answer: Answer, author: str) -> Entry:
    pieces, verdict = parse(answer.text, n=cell.n)
    if answer.finish == "refused" and not pieces:
        verdict = "refused"
    return {
        "kind": cell.kind,
        "emotion": cell.emotion,
        "topic": cell.topic,
        "part": cell.part,
        "attempt": attempt,
        "seed": call.seed,
        "temperature": call.temperature,
        "top_p": call.top_p,
        "author": author,
        "finish": answer.finish,
        "verdict": verdict,
        "text": answer.text,
    }


def _story_cell(plan: StoryPlan, emotion: str, topic: str, part: int, n: int) -> Cell:
    prompt = story_prompt(emotion, topic, n=n, words=plan.words, start=part * plan.per_call)
    return Cell("story", emotion, topic, part, n, prompt)


def _call(cell: Cell, plan: StoryPlan, attempt: int) -> Call:
    named = json.dumps([plan.seed, cell.kind, cell.emotion, cell.topic, cell.part, attempt])
    seed = int.from_bytes(hashlib.sha256(named.encode()).digest()[:4], "big") >> 1  # 31 bits: fits every server
    # Two tokens a word are enough for other languages and tokenizers too.
    return Call(cell.messages, seed, plan.temperature, plan.top_p, cell.n * plan.words * 2 + 100)


def _parts(total: int, size: int) -> Iterator[int]:
    while total > 0:
        yield min(size, total)
        total -= size


def _neutral_fault(text: str, words: list[str], min_words: int, near: NearDuplicates) -> str:
    if len(words) < min_words:
        return "too short"
    if broken_off(text):
        return "cut off"
    return "near duplicate" if near.find(words) is not None else ""


def _write_run(out: Path, corpus: Corpus, plan: StoryPlan, writer: Writer, counts: Mapping[str, int]) -> None:
    dropped = (
        {
            "reason": row.reason,
            "evidence": row.evidence,
            "emotion": row.story.emotion,
            "topic": row.story.topic,
            "text": row.story.text,
        }
        for row in corpus.dropped
    )
    settings = {name: value for name, value in asdict(plan).items() if name != "max_calls"}
    manifest = {
        "schema": 1,
        "author": corpus.author,
        "content_hash": corpus.hash,
        "prompt_hash": corpus.prompt_hash,
        "stories": len(corpus),
        "filtered": dict(corpus.filtered),
        "answers": dict(counts),
        "notes": list(corpus.notes),
        "writer": dict(writer.settings),
        "plan": settings | {"emotions": len(plan.emotions), "topics": len(plan.topics)},
    }
    write_atomically(out / "dropped.jsonl", json_lines(dropped))
    write_stories(corpus, out / "stories.jsonl")
    write_atomically(out / "stories.json", json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
