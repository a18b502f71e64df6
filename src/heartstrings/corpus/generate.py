"""Have stories and neutral dialogues written: emotions x topics, crossed, resumable at the single call.

A run leaves in its folder: `calls.jsonl` (every finished call, never asked again), `stories.jsonl` (what the
filters kept), `dropped.jsonl` (what they did not, and why) and `stories.json` (author, hashes, counts).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from heartstrings.core.errors import InputError, ModelError
from heartstrings.corpus.filters import NearDuplicates, broken_off, clean, plain_words
from heartstrings.corpus.ledger import Ledger
from heartstrings.corpus.lexicon import emotions as own_emotions
from heartstrings.corpus.prompts import Messages, neutral_prompt, parse, perspective, prompt_hash, story_prompt
from heartstrings.corpus.readers import write_atomically, write_stories
from heartstrings.corpus.stories import Corpus, Dropped, NeutralTexts, Story
from heartstrings.corpus.texts import topics as own_topics
from heartstrings.corpus.writers import Answer, Call, Failure, Writer

Progress = Callable[[int, int], None]
Kind = Literal["story", "neutral"]
FAULTS = ("empty answer", "refused answer", "unreadable answer")


@dataclass(frozen=True)
class StoryPlan:
    """What is to be written. Every emotion gets every topic, so that topic cannot stand in for emotion."""

    emotions: tuple[str, ...] = field(default_factory=own_emotions)
    topics: tuple[str, ...] = field(default_factory=own_topics)
    stories: int = 4
    """Stories for each emotion and topic."""
    per_call: int = 4
    """Stories asked for in one call."""
    words: int = 130
    """Target length of a story; enough that most tokens come after the 50th."""
    temperature: float = 1.0
    top_p: float = 0.95
    seed: int = 0
    retries: int = 2
    """Further calls, with other seeds, after an empty, refused or unreadable answer."""
    max_calls: int | None = None
    """Budget of calls for this run. What it leaves undone, another run can do."""
    min_words: int = 40

    def __post_init__(self) -> None:
        if len(set(self.emotions)) < 2 or len(set(self.emotions)) != len(self.emotions):
            raise InputError(f"{len(self.emotions)} emotions to write about", "two or more, none of them twice")
        if not self.topics or len(set(self.topics)) != len(self.topics):
            raise InputError(f"{len(self.topics)} topics to write on", "one or more, none of them twice")
        if not all(word.strip() for word in (*self.emotions, *self.topics)):
            raise InputError("an empty emotion or topic", "words")
        for word in self.emotions:
            if word != " ".join(word.lower().split()):
                raise InputError(f"the emotion {word!r}", "lower case and single spaces, as stories are read back")
        if self.stories < 1 or self.per_call < 1 or self.words < 20 or self.retries < 0:
            expected = "stories and per_call of 1 or more, words of 20 or more, retries of 0 or more"
            raise InputError("a plan that asks for too little", expected)
        if not 0 <= self.temperature <= 5 or not 0 < self.top_p <= 1:
            raise InputError(f"temperature {self.temperature:g}, top_p {self.top_p:g}", "0 to 5, and over 0 to 1")
        if self.max_calls is not None and self.max_calls < 1:
            raise InputError(f"a budget of {self.max_calls} calls", "1 or more")


@dataclass(frozen=True)
class Cell:
    """One thing to ask for, until it is answered: emotion, topic, and which part of their stories."""

    kind: Kind
    emotion: str
    topic: str
    part: int
    n: int
    messages: Messages


@dataclass(frozen=True)
class _Asked:
    answers: Mapping[Cell, Mapping[str, Any]]
    """The last entry of the ledger for every cell that has one."""
    faults: Counter[str]
    """Answers that gave no text, by kind, over all attempts."""
    failures: tuple[str, ...]
    """Calls without an answer in this run."""
    unasked: int
    """Cells that still need a call."""


def generate_stories(plan: StoryPlan, writer: Writer, out: str | Path, progress: Progress | None = None) -> Corpus:
    """Have the stories of a plan written, and filter them. Run it again to go on after an interruption.

    Args:
        out: a folder; see the module's first lines for what it will hold.
        progress: called with (calls settled, calls planned) at the start and after every call.

    Raises:
        ModelError: the writer is not there, or some calls had no answer: what came is kept, run it again.
        InputError: nothing usable was written, or the folder belongs to something else.
    """
    out = Path(out)
    cells = [
        _story_cell(plan, emotion, topic, part, n)
        for topic in plan.topics  # topics outside: a run cut short by its budget is still crossed
        for part, n in enumerate(_parts(plan.stories, plan.per_call))
        for emotion in plan.emotions
    ]
    with Ledger(out / "calls.jsonl") as ledger:
        asked = _ask(cells, plan, writer, ledger, progress)
    _stop_on_failures(asked, out)
    stories: list[Story] = []
    dropped: list[Dropped] = []
    counts = Counter({**dict.fromkeys((*FAULTS, "calls without stories", "stories missing"), 0), **asked.faults})
    for cell in cells:
        pieces, finish = _pieces(asked.answers.get(cell), cell.n)
        if cell in asked.answers:
            counts["calls without stories"] += not pieces
            counts["stories missing"] += cell.n - len(pieces)
        for number, text in pieces:
            person = perspective(cell.part * plan.per_call + number - 1)
            story = Story(cell.emotion, cell.topic, text, writer.author, person)
            if finish == "length" and number == pieces[-1][0]:
                # Its end is missing even where it happens to stop at a full stop.
                dropped.append(Dropped(story, "cut off", "the answer stopped at its token limit"))
            else:
                stories.append(story)
    notes = []
    if asked.unasked:
        notes.append(f"stopped by the budget of calls: {asked.unasked} of {len(cells)} calls are still to be made")
    raw = Corpus(
        tuple(stories),
        author=writer.author,
        source="generated",
        prompt_hash=prompt_hash("story", n=plan.per_call, words=plan.words),
        filtered={"cut off": len(dropped)},
        dropped=tuple(dropped),
        notes=tuple(notes),
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

    Resumable and filtered (too short, broken off, duplicates) like the stories; errors are the same.
    """
    out = Path(out)
    cells = [
        Cell("neutral", "", topic, part, n, neutral_prompt(topic, n=n, words=plan.words))
        for topic in plan.topics
        for part, n in enumerate(_parts(per_topic, plan.per_call))
    ]
    with Ledger(out / "neutral_calls.jsonl") as ledger:
        asked = _ask(cells, plan, writer, ledger, progress)
    _stop_on_failures(asked, out)
    rows: list[str] = []
    texts: list[str] = []
    dropped = Counter({"too short": 0, "cut off": 0, "near duplicate": 0})
    near = NearDuplicates()
    for cell in cells:
        pieces, finish = _pieces(asked.answers.get(cell), cell.n)
        for number, text in pieces:
            words = plain_words(text)
            reason = _neutral_fault(text, words, plan.min_words, near)
            if finish == "length" and number == pieces[-1][0]:
                reason = "cut off"
            if reason:
                dropped[reason] += 1
                continue
            near.add(words)
            texts.append(text)
            row = {"topic": cell.topic, "text": text, "author": writer.author}
            rows.append(json.dumps(row, ensure_ascii=False) + "\n")
    if not texts:
        found = f"{writer.author} wrote no usable neutral dialogue: {dict(asked.faults)}"
        raise InputError(found, "at least one", f"Read {out / 'neutral_calls.jsonl'}")
    neutral = NeutralTexts(tuple(texts), source=f"generated by {writer.author}")
    record = {
        "schema": 1, "author": writer.author, "content_hash": neutral.hash, "texts": len(neutral),
        "prompt_hash": prompt_hash("neutral", n=plan.per_call, words=plan.words),
        "filtered": dict(dropped), "answers": {**dict.fromkeys(FAULTS, 0), **asked.faults},
        "calls still to be made": asked.unasked, "temperature": plan.temperature, "seed": plan.seed,
    }  # fmt: skip
    write_atomically(out / "neutral.jsonl", "".join(rows))
    write_atomically(out / "neutral.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return neutral


def call_key(cell: Cell, plan: StoryPlan, writer: Writer, attempt: int) -> str:
    """What makes two calls the same: prompt, seed, model and settings. SHA-256, hexadecimal."""
    call = _call(cell, plan, attempt)
    content = [
        call.messages, call.seed, call.temperature, call.top_p, call.max_new_tokens,
        writer.author, dict(writer.settings),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _ask(cells: Sequence[Cell], plan: StoryPlan, writer: Writer, ledger: Ledger, progress: Progress | None) -> _Asked:
    """Rounds of calls: all cells first, then those without a usable answer again, with another seed."""
    answers: dict[Cell, Mapping[str, Any]] = {}
    faults: Counter[str] = Counter()
    failures: list[str] = []
    budget = plan.max_calls if plan.max_calls is not None else len(cells) * (plan.retries + 1)
    settled = unasked = 0
    open_cells = list(cells)
    for attempt in range(plan.retries + 1):
        keys = {call_key(cell, plan, writer, attempt): cell for cell in open_cells}
        usable: set[Cell] = set()

        def take(cell: Cell, entry: Mapping[str, Any], last: bool, usable: set[Cell] = usable) -> None:
            nonlocal settled
            answers[cell] = entry
            if entry["verdict"] == "ok":
                usable.add(cell)
            else:
                faults[f"{entry['verdict']} answer"] += 1
            settled += entry["verdict"] == "ok" or last

        last = attempt == plan.retries
        for key, cell in keys.items():
            if key in ledger.entries:
                take(cell, ledger.entries[key], last)
        if progress:
            progress(settled, len(cells))
        missing = [(key, cell) for key, cell in keys.items() if key not in ledger.entries]
        unasked += len(missing) - len(missing[:budget])
        waiting = {_call(cell, plan, attempt): (key, cell) for key, cell in missing[:budget]}
        budget -= len(waiting)
        with closing(writer.answers(iter(waiting))) as answered:
            for call, answer in answered:
                key, cell = waiting[call]
                if isinstance(answer, Failure):
                    failures.append(answer.reason)
                    continue
                entry = _entry(cell, call, attempt, answer, writer.author)
                ledger.add(key, entry)
                take(cell, entry, last)
                if progress:
                    progress(settled, len(cells))
        # A call without an answer keeps its seed and is made again in the next run.
        open_cells = [cell for cell in open_cells if cell in answers and cell not in usable
                      and answers[cell]["attempt"] == attempt]  # fmt: skip
    return _Asked(answers, faults, tuple(failures), unasked)


def _entry(cell: Cell, call: Call, attempt: int, answer: Answer, author: str) -> dict[str, Any]:
    """A finished call as the ledger keeps it."""
    pieces, verdict = parse(answer.text, n=cell.n)
    if answer.finish == "refused" and not pieces:
        verdict = "refused"
    return {
        "kind": cell.kind, "emotion": cell.emotion, "topic": cell.topic, "part": cell.part,
        "attempt": attempt, "seed": call.seed, "temperature": call.temperature, "top_p": call.top_p,
        "author": author, "finish": answer.finish, "verdict": verdict, "text": answer.text,
    }  # fmt: skip


def _story_cell(plan: StoryPlan, emotion: str, topic: str, part: int, n: int) -> Cell:
    prompt = story_prompt(emotion, topic, n=n, words=plan.words, start=part * plan.per_call)
    return Cell("story", emotion, topic, part, n, prompt)


def _call(cell: Cell, plan: StoryPlan, attempt: int) -> Call:
    named = json.dumps([plan.seed, cell.kind, cell.emotion, cell.topic, cell.part, attempt])
    seed = int.from_bytes(hashlib.sha256(named.encode()).digest()[:4], "big") >> 1  # 31 bits: fits every server
    # Two tokens a word leave room in languages and tokenizers other than English.
    return Call(cell.messages, seed, plan.temperature, plan.top_p, cell.n * plan.words * 2 + 100)


def _parts(total: int, size: int) -> Iterator[int]:
    while total > 0:
        yield min(size, total)
        total -= size


def _pieces(entry: Mapping[str, Any] | None, n: int) -> tuple[tuple[tuple[int, str], ...], str]:
    if entry is None or entry["verdict"] != "ok":
        return (), ""
    return parse(entry["text"], n=n)[0], entry["finish"]


def _neutral_fault(text: str, words: list[str], min_words: int, near: NearDuplicates) -> str:
    if len(words) < min_words:
        return "too short"
    if broken_off(text):
        return "cut off"
    return "near duplicate" if near.find(words) is not None else ""


def _stop_on_failures(asked: _Asked, out: Path) -> None:
    if asked.failures:
        raise ModelError(
            f"{len(asked.failures)} calls had no answer; the last: {asked.failures[-1]}",
            "an answer to every call",
            f"Run the same command again: the {len(asked.answers)} finished calls in {out} are kept",
        )


def _write_run(out: Path, corpus: Corpus, plan: StoryPlan, writer: Writer, counts: Mapping[str, int]) -> None:
    rows = [
        {
            "reason": row.reason, "evidence": row.evidence, "emotion": row.story.emotion,
            "topic": row.story.topic, "text": row.story.text,
        }
        for row in corpus.dropped
    ]  # fmt: skip
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
        "plan": {
            "emotions": len(plan.emotions), "topics": len(plan.topics), "stories": plan.stories,
            "per_call": plan.per_call, "words": plan.words, "temperature": plan.temperature,
            "top_p": plan.top_p, "seed": plan.seed, "retries": plan.retries, "min_words": plan.min_words,
        },
    }  # fmt: skip
    write_atomically(out / "dropped.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    write_stories(corpus, out / "stories.jsonl")
    write_atomically(out / "stories.json", json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
