"""Stories and neutral texts from files and from dataset ids. Every error names the file and the line.

Row layouts, which may be mixed:
    {"emotion", "topic", "text", ["author"], ["perspective"]}     one story a line (our own, and evb)
    {"emotion", "topic", "stories": [...], ["author"]}            several stories a line
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from heartstrings.core.errors import InputError, MissingExtra
from heartstrings.corpus.stories import Corpus, NeutralTexts, Story, author_of

STORY_KEYS = frozenset({"emotion", "topic", "text", "stories", "author", "perspective"})
DATASET_ID = re.compile(r"(?P<name>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w./-]+))?")
ROW_SHAPE = 'a row like {"emotion": ..., "topic": ..., "text": ...} or {"emotion", "topic", "stories": [...]}'


def read_stories(source: str | Path, *, revision: str | None = None, author: str | None = None) -> Corpus:
    """Stories from a JSONL file, a dataset folder, or a Hugging Face dataset id (`owner/name[@revision]`).

    Emotion words are lower-cased and their spaces made single; texts are not changed, here or later. `author` is the
    author of every row that names none; without it the file's name is used, and `notes` says so.

    Raises:
        InputError: no such file, not UTF-8, not JSON, a row of another shape (with file and 1-based line), no story at
            all, or a single emotion, from which no contrast can be made.
        MissingExtra: a dataset id without the `hub` extra.
    """
    path = Path(source)
    if path.is_file():
        if revision is not None:
            raise InputError(
                f"revision {revision} was given for the file {path}",
                "a revision only with a dataset id",
                "Leave the revision out",
            )
        corpus = _corpus(_parse_lines(path), name=path.stem, source=path.name, author=author)
        return _with_manifest(corpus, path.with_suffix(".json"))
    if path.is_dir():
        return _corpus(_hub_rows(str(path), None), name=path.name, source=path.name, author=author)
    matched = DATASET_ID.fullmatch(str(source))
    if matched is None or str(source).endswith((".jsonl", ".json", ".csv", ".txt")):
        raise InputError(f"no file {source}", "a JSONL file, or a dataset id like owner/name", "Check the path")
    name, pinned = matched["name"], matched["revision"]
    if pinned and revision and pinned != revision:
        raise InputError(f"two revisions for {name}: {pinned} and {revision}", "one", "Give it once")
    revision = revision or pinned
    named = f"{name}@{revision}" if revision else name
    corpus = _corpus(_hub_rows(name, revision), name=name, source=named, author=author, strict=False)
    if revision is None:
        note = f"{name} was read without a revision; it may change under the same name"
        corpus = replace(corpus, notes=(*corpus.notes, note))
    return corpus


def write_stories(corpus: Corpus, path: str | Path) -> None:
    """Write one story a line. The file appears whole or not at all."""
    rows = (
        {"emotion": story.emotion, "topic": story.topic, "text": story.text, "author": story.author}
        | ({} if story.perspective is None else {"perspective": story.perspective})
        for story in corpus.stories
    )
    write_atomically(Path(path), json_lines(rows))


def json_lines(rows: Iterable[Mapping[str, object]]) -> str:
    """JSONL: one row a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_neutral(source: str | Path) -> NeutralTexts:
    """Neutral texts: a `.txt` file with a text a line, or a `.jsonl` file whose rows have a `text`.

    Blank lines are skipped; keys other than `text` are ignored.

    Raises:
        InputError: no such file, not UTF-8, not JSON, a row without text (line named), or no text at all.
    """
    path = Path(source)
    if not path.is_file():
        raise InputError(f"no file {source}", "a .txt file with a text a line, or a .jsonl file", "Check the path")
    if path.suffix in {".jsonl", ".json"}:
        texts = tuple(_text_field(row, "text", place) for place, row in _parse_lines(path))
    else:
        texts = tuple(line.strip() for _, line in _lines(path))
    if not texts:
        raise InputError(f"{path} holds no text", "at least one neutral text")
    return NeutralTexts(texts, source=path.name)


def write_atomically(path: Path, content: str) -> None:
    """`heartstrings.core.storage.write_text`, imported when needed: it imports numpy, which reading does not need."""
    from heartstrings.core.storage import write_text

    write_text(path, content)


def _corpus(
    rows: Iterable[tuple[str, Any]], *, name: str, source: str, author: str | None, strict: bool = True
) -> Corpus:
    stories: list[Story] = []
    unnamed = 0
    ignored: set[str] = set()
    for place, row in rows:
        if not isinstance(row, dict):
            raise InputError(f"{place}: a {type(row).__name__}", ROW_SHAPE)
        unknown = set(row) - STORY_KEYS
        if unknown and strict:
            raise InputError(
                f"{place}: unknown key {', '.join(map(repr, sorted(unknown)))}",
                f"only {', '.join(sorted(STORY_KEYS))}",
                "Rename or remove it",
            )
        ignored |= unknown
        unnamed += row.get("author") is None
        stories.extend(_stories_of(row, place, author or name))
    if not stories:
        raise InputError(f"{source} holds no story", ROW_SHAPE)
    emotions = {story.emotion for story in stories}
    if len(emotions) == 1:
        raise InputError(
            f"{source} holds a single emotion, {emotions.pop()!r}",
            "two or more",
            "Add another emotion: a vector is a contrast between emotions",
        )
    notes = []
    if unnamed and author is None:
        notes.append(f"author not given for {unnamed} of the rows; named {name!r} after the source")
    if ignored:
        notes.append(f"columns ignored: {', '.join(sorted(ignored))}")
    return Corpus(tuple(stories), author_of(stories), source, notes=tuple(notes))


def _with_manifest(corpus: Corpus, path: Path) -> Corpus:
    """Add prompt hash and filter counts from the record of the run that wrote these stories, if there is one."""
    try:
        manifest = json.loads(path.read_bytes())
        if manifest["content_hash"] != corpus.hash:
            return corpus
        prompt, filtered, notes = manifest["prompt_hash"], manifest["filtered"], manifest["notes"]
    except (OSError, ValueError, LookupError, TypeError):
        return corpus
    return replace(corpus, prompt_hash=prompt, filtered=filtered, notes=(*corpus.notes, *notes))


def _stories_of(row: Mapping[str, Any], place: str, author: str) -> Iterator[Story]:
    if ("text" in row) == ("stories" in row):
        problem = "both `text` and `stories`" if "text" in row else "neither `text` nor `stories`"
        raise InputError(f"{place}: {problem}", ROW_SHAPE)
    emotion = " ".join(_text_field(row, "emotion", place).lower().split())
    topic = _text_field(row, "topic", place).strip()
    named = {key: _text_field(row, key, place).strip() for key in ("author", "perspective") if row.get(key) is not None}
    author, perspective = named.get("author", author), named.get("perspective")
    if "text" in row:
        yield Story(emotion, topic, _text_field(row, "text", place), author, perspective)
        return
    texts = row["stories"]
    if not isinstance(texts, list) or not texts:
        raise InputError(f"{place}: `stories` is {_shown(texts)}", "a list of one or more texts")
    for number, text in enumerate(texts, start=1):
        yield Story(emotion, topic, _checked(text, f"story {number}", place), author, perspective)


def _text_field(row: Any, key: str, place: str) -> str:
    if not isinstance(row, Mapping):
        raise InputError(f"{place}: a {type(row).__name__}", f"an object with a {key!r}")
    if key not in row:
        raise InputError(f"{place}: no key {key!r}", f"one beside {', '.join(sorted(map(repr, row))) or 'nothing'}")
    return _checked(row[key], repr(key), place)


def _checked(value: Any, what: str, place: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{place}: {what} is {_shown(value)}", "a text that is not empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        # JSON can spell half of a surrogate pair, which no tokenizer and no UTF-8 file can hold.
        raise InputError(f"{place}: {what} holds a lone surrogate", "text that is valid Unicode") from None
    return value


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= 40 else text[:37] + "..."


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """(place, line) of every line that is not blank; place is `file:line`, 1-based."""
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                place = f"{path}:{number}"
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise InputError(
                        f"{place}: byte {error.start + 1} is not UTF-8", "UTF-8 text", "Convert the file to UTF-8"
                    ) from None
                if line.strip():
                    yield place, line
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", "a readable file") from None


def _parse_lines(path: Path) -> Iterator[tuple[str, Any]]:
    for place, line in _lines(path):
        try:
            yield place, json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{place}: not JSON ({error.msg} at column {error.colno})", "one JSON object a line"
            ) from None
        except RecursionError:
            raise InputError(f"{place}: not JSON (nested too deeply)", "one JSON object a line") from None


def _hub_rows(name: str, revision: str | None) -> Iterator[tuple[str, Any]]:
    """Rows of a dataset, through `datasets`, which also reads its own cache when there is no network."""
    try:
        import datasets
    except ImportError:
        raise MissingExtra(f"Reading the dataset {name}", "hub") from None
    try:
        splits = datasets.load_dataset(name, revision=revision)
    except Exception as error:  # the library raises a dozen kinds, network errors of three packages among them
        reason = (str(error).strip().splitlines() or ["-"])[0][:200]
        raise InputError(
            f"the dataset {name} could not be read ({type(error).__name__}: {reason})",
            "a public dataset, or one in the local cache",
            "Check the name, the revision and the network, or download its rows and give the JSONL file",
        ) from None
    if len(splits) > 1 and "train" not in splits:
        raise InputError(f"the dataset {name} has the splits {', '.join(splits)}", "one split, or one called train")
    split = "train" if "train" in splits else next(iter(splits))
    for number, row in enumerate(splits[split], start=1):
        # Columns that a row lacks come back as None.
        yield f"{name}, row {number}", {key: value for key, value in row.items() if value is not None}
