"""The ledger: one row a sample in SQLite, whole after any crash, and what judges said of it.

First what the rows are (cells, samples, judgements) and the tables that hold them, then the file.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, get_args

from heartstrings.core.errors import InputError, MissingExtra
from heartstrings.core.storage import cannot_write, locked, make_folder
from heartstrings.core.types import Frozen
from heartstrings.core.version import __version__
from heartstrings.experiment.plan import Plan, differences

SCHEMA_VERSION = 2
APPLICATION_ID = 0x48535452
"""`HSTR`, in the file's header: tells a ledger from other SQLite files."""

ControlKind = Literal["general", "span", "topic", "natural", "shuffled"]
CONTROL_KINDS: tuple[ControlKind, ...] = get_args(ControlKind)
NATURAL_KINDS: tuple[ControlKind, ...] = ("topic", "natural")
"""Gaussian mixtures of how natural text varies. Reversed, they have the same law, as a declared sign needs."""
ClaimKind = Literal["mixture", "other", "stripped"]
CLAIM_KINDS: tuple[ClaimKind, ...] = get_args(ClaimKind)
"""What further claims compare a direction with, beside its controls."""
Kind = Literal["baseline", "direction", ControlKind, ClaimKind, "prompting"]
Phase = Literal["select", "test"]


class Cell(Frozen):
    """What one sample was taken under."""

    phase: Phase
    behaviour: str
    kind: Kind
    """`baseline`: unsteered, `dose` 0, `layer` -1, `direction` empty."""
    direction: str
    """An expression of the plan; for a control `general/7`, `span/7` or `shuffled/7:EXPRESSION`; for a claim
    `mixture/7`, `other/EMOTION` or `stripped/EXPRESSION`; for prompting `instruct:EMOTION` or `first-person:EMOTION`
    (then `layer` -1, `dose` 0)."""
    layer: int
    dose: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One row: a cell, a scenario, a repeat, and what came of it. Not a model of pydantic: a ledger holds 100,000 of
    them and more, and its tables check the types."""

    cell: Cell
    scenario: str
    group: str
    repeat: int
    outcome: float | None
    valid: float | None
    text: str | None
    detail: dict[str, float]

    @property
    def key(self) -> Key:
        return (self.cell, self.scenario, self.repeat)


Key = tuple[Cell, str, int]
"""Cell, scenario, repeat: what makes a sample one."""


class Judgement(Frozen):
    """What a judge said of one sample."""

    cell: Cell
    scenario: str
    repeat: int
    judge: str
    rubric: str
    """Its name and the first figures of its hash."""
    status: Literal["read", "unreadable", "no answer"]
    outcome: float | None
    """By the rubric; None where the text fell apart, or there is no score."""
    valid: float | None
    """None: the judgement adds its scores and decides nothing."""
    scores: dict[str, float]
    """By scale; details `judge_SCALE` of the sample."""


_JUDGEMENTS = """
CREATE TABLE judgements (
    phase TEXT NOT NULL, behaviour TEXT NOT NULL, kind TEXT NOT NULL, direction TEXT NOT NULL,
    layer INTEGER NOT NULL, dose REAL NOT NULL, scenario TEXT NOT NULL, repeat INTEGER NOT NULL,
    judge TEXT NOT NULL, rubric TEXT NOT NULL, status TEXT NOT NULL, outcome REAL, valid REAL,
    scores TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (phase, behaviour, kind, direction, layer, dose, scenario, repeat)
) STRICT, WITHOUT ROWID;
"""
CREATE = (
    """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE samples (
    phase TEXT NOT NULL, behaviour TEXT NOT NULL, kind TEXT NOT NULL, direction TEXT NOT NULL,
    layer INTEGER NOT NULL, dose REAL NOT NULL, scenario TEXT NOT NULL, repeat INTEGER NOT NULL,
    cluster TEXT NOT NULL, outcome REAL, valid REAL, text TEXT, detail TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (phase, behaviour, kind, direction, layer, dose, scenario, repeat)
) STRICT, WITHOUT ROWID;
"""
    + _JUDGEMENTS
)
KEY = ("phase", "behaviour", "kind", "direction", "layer", "dose", "scenario", "repeat")
COLUMNS = (*KEY, "cluster", "outcome", "valid", "text", "detail")
SAID = (*KEY, "judge", "rubric", "status", "outcome", "valid", "scores")


def _from_0(db: sqlite3.Connection) -> None:
    """Version 0 had no `detail`."""
    db.execute("ALTER TABLE samples ADD COLUMN detail TEXT NOT NULL DEFAULT '{}'")


def _from_1(db: sqlite3.Connection) -> None:
    """Version 1 had no judgements."""
    db.execute(_JUDGEMENTS)


MIGRATIONS: Mapping[int, Callable[[sqlite3.Connection], None]] = {0: _from_0, 1: _from_1}
"""How a file of each older version becomes one of the next."""


class SampleLedger:
    """The samples of one plan, in one SQLite file. One process writes at a time; any number may read.

    A batch of samples is there or not, also after kill -9. A power cut may cost the last batches, never the file.

    Args:
        path: made where it is missing, with its folder.
        plan: whose samples these are; a ledger of another plan is refused.
    Raises:
        InputError: another process is writing, another plan, no ledger of ours, of a newer version, or damaged.
    """

    def __init__(self, path: str | Path, plan: Plan) -> None:
        self.path = Path(path)
        self.plan = plan
        self.readonly = False
        with ExitStack() as stack:
            make_folder(self.path.parent)
            # An advisory lock beside the file: SQLite's own would also keep readers out, or let a second writer wait.
            stack.enter_context(locked(self.path.with_name(f".{self.path.name}.writer")))
            self._db = _connect(str(self.path), self.path)
            stack.callback(self._db.close)
            with self._guarded():
                self._open(plan)
            self._stack = stack.pop_all()

    @classmethod
    def read(cls, path: str | Path) -> SampleLedger:
        """Open a ledger for reading, while another process may be writing; `.plan` is its own.

        Raises:
            InputError: no such file, no ledger of ours, of a newer version, or damaged.
        """
        ledger = cls.__new__(cls)
        ledger.path, ledger.readonly = Path(path), True
        if not ledger.path.is_file():
            raise InputError(f"no ledger {path}", "the ledger of a run", "Check the path, or run the plan first")
        with ExitStack() as stack:
            ledger._db = _connect_to_read(ledger.path)
            stack.callback(lambda: ledger._db.close())
            with ledger._guarded():
                version = ledger._version()
                if version < SCHEMA_VERSION:  # in memory: a reader leaves the file alone
                    memory = sqlite3.connect(":memory:", isolation_level=None)
                    ledger._db.backup(memory)
                    ledger._db.close()
                    ledger._db = memory
                    ledger._migrate(version)
                ledger.plan = Plan(**json.loads(ledger.fact("plan") or "{}"))
            ledger._stack = stack.pop_all()
        return ledger

    def __enter__(self) -> SampleLedger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        self._stack.close()

    def add(self, samples: Iterable[Sample]) -> None:
        """Record samples: all of them or, after an error or a crash, none.

        Raises:
            InputError: one of them is there already, the ledger was opened to read, or the disk is full.
        """
        self._refuse_if_readonly()
        rows = (_row(sample) for sample in samples)
        marks = ", ".join("?" * len(COLUMNS))
        with self._guarded(), self._transaction():
            try:
                self._db.executemany(f"INSERT INTO samples ({', '.join(COLUMNS)}) VALUES ({marks})", rows)
            except sqlite3.IntegrityError as error:
                raise InputError(f"a sample that {self.path} already has ({error})", "each sample once") from None

    def judge(self, judgements: Iterable[Judgement]) -> None:
        """Record what judges said of samples, in one transaction. A later judgement of a sample replaces the earlier.

        Raises:
            InputError: the ledger was opened to read, or the disk is full.
        """
        self._refuse_if_readonly()
        rows = [
            (
                *_key(judgement.cell, judgement.scenario, judgement.repeat),
                judgement.judge,
                judgement.rubric,
                judgement.status,
                judgement.outcome,
                judgement.valid,
                json.dumps(judgement.scores, sort_keys=True, allow_nan=False),
            )
            for judgement in judgements
        ]
        marks = ", ".join("?" * len(SAID))
        with self._guarded(), self._transaction():
            self._db.executemany(f"INSERT OR REPLACE INTO judgements ({', '.join(SAID)}) VALUES ({marks})", rows)

    def judgements(self, *, behaviour: str | None = None) -> dict[Key, Judgement]:
        """What was said last, by sample."""
        by_key = {}
        for row in self._select(SAID, {"behaviour": behaviour}, table="judgements"):
            cell = _cell(row)
            judge, rubric, status, outcome, valid, scores = row[8:]
            by_key[cell, row[6], row[7]] = Judgement(
                cell=cell,
                scenario=row[6],
                repeat=row[7],
                judge=judge,
                rubric=rubric,
                status=status,
                outcome=outcome,
                valid=valid,
                scores=json.loads(scores),
            )
        return by_key

    def count(self) -> int:
        """Samples recorded."""
        with self._guarded():
            return int(self._db.execute("SELECT count(*) FROM samples").fetchone()[0])

    def samples(
        self,
        *,
        phase: Phase | None = None,
        behaviour: str | None = None,
        kind: Kind | None = None,
        direction: str | None = None,
        layer: int | None = None,
    ) -> list[Sample]:
        """The samples of some cells, in order of phase, behaviour, kind, direction, layer, dose, scenario, repeat.

        What a judge has said stands in for an outcome that the rules left open, and adds its scores to the details.
        """
        wanted = {"phase": phase, "behaviour": behaviour, "kind": kind, "direction": direction, "layer": layer}
        cells: dict[tuple[Any, ...], Cell] = {}
        samples = []
        said = {row[:8]: row[10:] for row in self._select(SAID, wanted, table="judgements")}
        for row in self._select(COLUMNS, wanted):
            cell = cells.get(row[:6]) or cells.setdefault(row[:6], _cell(row))
            cluster, outcome, valid, text, detail = row[8:]
            if row[:8] in said:
                outcome, valid, detail = _with_judgement(outcome, valid, detail, *said[row[:8]])
            numbers = {} if detail == "{}" else json.loads(detail)
            samples.append(Sample(cell, row[6], cluster, row[7], outcome, valid, text, numbers))
        return samples

    def keys(self, *, phase: Phase | None = None, behaviour: str | None = None) -> set[Key]:
        """What is done."""
        cells: dict[tuple[Any, ...], Cell] = {}
        rows = self._select(KEY, {"phase": phase, "behaviour": behaviour})
        return {(cells.get(row[:6]) or cells.setdefault(row[:6], _cell(row)), row[6], row[7]) for row in rows}

    def fact(self, name: str) -> str | None:
        """Something recorded about the whole run, e.g. `plan_hash`; None where it was not."""
        with self._guarded():
            row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def bind(self, name: str, value: str, what: str) -> None:
        """Record something that must stay the same over the run; the first time it is taken as given.

        Raises:
            InputError: it was another one before.
        """
        self._refuse_if_readonly()
        there = self.fact(name)
        if there is None:
            with self._guarded(), self._transaction():
                self._db.execute("INSERT INTO meta VALUES (?, ?)", (name, value))
        elif there != value:
            raise InputError(
                f"{self.path} was begun with {what} of fingerprint {there[:16]}, and now it is {value[:16]}",
                f"the same {what}",
                "Changed ones are a new run: choose another --out",
            )

    def export_parquet(self, path: str | Path) -> Path:
        """Write all samples as one Parquet table, in the order of `samples`; details are columns `detail_NAME`.

        Raises:
            MissingExtra: pyarrow is not installed; InputError: the file cannot be written.
        """
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise MissingExtra("writing Parquet", "parquet") from None
        path = Path(path)
        rows = [_row(sample) for sample in self.samples()]
        columns = dict(zip(COLUMNS, zip(*rows, strict=True), strict=False))
        types = {"layer": pa.int64(), "repeat": pa.int64()} | dict.fromkeys(("dose", "outcome", "valid"), pa.float64())
        details = [json.loads(text) for text in columns.pop("detail", ())]
        arrays = {
            ("group" if name == "cluster" else name): pa.array(columns.get(name, ()), types.get(name, pa.string()))
            for name in COLUMNS[:-1]
        }
        for name in sorted({name for detail in details for name in detail}):
            arrays[f"detail_{name}"] = pa.array([detail.get(name) for detail in details], pa.float64())
        facts = {name: self.fact(name) or "" for name in ("schema_version", "plan_hash", "plan", "package_version")}
        make_folder(path.parent)
        partial = path.with_name(f".{path.name}.partial")
        try:
            pq.write_table(pa.table(arrays, metadata=facts), partial)
            os.replace(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise cannot_write(path, error) from None
        return path

    def _select(
        self, columns: tuple[str, ...], wanted: Mapping[str, Any], *, table: str = "samples"
    ) -> list[tuple[Any, ...]]:
        given = {name: value for name, value in wanted.items() if value is not None}
        where = " WHERE " + " AND ".join(f"{name} = ?" for name in given) if given else ""
        order = f" ORDER BY {', '.join(KEY)}"
        with self._guarded():
            cursor = self._db.execute(f"SELECT {', '.join(columns)} FROM {table}{where}{order}", tuple(given.values()))
            return cursor.fetchall()

    def _open(self, plan: Plan) -> None:
        if not self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            self._db.execute("PRAGMA journal_mode = WAL")
            with self._transaction():
                self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                for statement in CREATE.split(";")[:-1]:
                    self._db.execute(statement)
                facts = {
                    "schema_version": str(SCHEMA_VERSION),
                    "plan_hash": plan.hash,
                    "plan": plan.model_dump_json(),
                    "package_version": __version__,
                }
                self._db.executemany("INSERT INTO meta VALUES (?, ?)", list(facts.items()))
        version = self._version()
        self._db.execute("PRAGMA journal_mode = WAL")
        # A commit survives kill -9; only a power cut can take the last ones back, whole.
        self._db.execute("PRAGMA synchronous = NORMAL")
        if version < SCHEMA_VERSION:
            self._migrate(version)
        if self.fact("plan_hash") != plan.hash:
            self._refuse_other_plan(plan)

    def _refuse_other_plan(self, plan: Plan) -> None:
        there = Plan(**json.loads(self.fact("plan") or "{}"))
        raise InputError(
            f"{self.path} holds samples of another plan: {differences(there, plan)}",
            "the plan that this ledger was begun with",
            "A changed plan is a new run: choose another --out, or put the fields back",
        )

    def _version(self) -> int:
        """Schema version of the file, once it is known to be ours."""
        ours = self._db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
        version = self.fact("schema_version") if ours else None
        if version is None or not version.isdigit():
            raise InputError(f"{self.path} is no ledger of samples", "a file that a run wrote", "Choose another --out")
        if int(version) > SCHEMA_VERSION:
            raise InputError(
                f"{self.path} is a ledger of version {version}", f"version {SCHEMA_VERSION}", "Update heartstrings"
            )
        return int(version)

    def _migrate(self, version: int) -> None:
        """All steps in one transaction: after a crash the file is of the old version or of the new."""
        with self._transaction():
            for step in range(version, SCHEMA_VERSION):
                MIGRATIONS[step](self._db)
            self._db.execute("UPDATE meta SET value = ? WHERE name = 'schema_version'", (str(SCHEMA_VERSION),))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """SQLite's errors as ours."""
        try:
            yield
        except sqlite3.OperationalError as error:
            name = getattr(error, "sqlite_errorname", "")
            if name == "SQLITE_FULL":
                fix = "Free some space and run the same command again: finished samples are kept"
                raise InputError(f"the disk is full: {self.path} could not be written", "room", fix) from None
            if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise InputError(f"another program holds {self.path}", "one writer at a time", "Close it") from None
            raise InputError(
                f"cannot use the ledger {self.path}: {error}",
                "a readable, writable file",
                "Choose another --out, or check its permissions",
            ) from None
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"{self.path} is damaged or no ledger: {error}",
                "a file that a run wrote",
                "Choose another --out; samples cannot be told from damage",
            ) from None

    def _refuse_if_readonly(self) -> None:
        if self.readonly:
            raise InputError(f"{self.path} was opened to read", "a ledger opened with its plan")


def _connect(target: str, path: Path, *, uri: bool = False) -> sqlite3.Connection:
    try:
        return sqlite3.connect(target, isolation_level=None, uri=uri, timeout=5.0)
    except sqlite3.Error as error:
        raise InputError(f"cannot open {path}: {error}", "a ledger", "Check the path and its permissions") from None


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """Where the folder cannot be written, SQLite cannot share memory with a writer; then nobody else writes either."""
    plain = path.absolute().as_uri() + "?mode=ro"
    db = _connect(plain, path, uri=True)
    try:
        db.execute("SELECT 1 FROM sqlite_schema").fetchall()
    except sqlite3.OperationalError:
        db.close()
        return _connect(plain + "&immutable=1", path, uri=True)
    except sqlite3.DatabaseError:
        pass  # no database at all: the first look at its version says so
    return db


def _key(cell: Cell, scenario: str, repeat: int) -> tuple[Any, ...]:
    return (cell.phase, cell.behaviour, cell.kind, cell.direction, cell.layer, cell.dose, scenario, repeat)


def _row(sample: Sample) -> tuple[Any, ...]:
    detail = json.dumps(sample.detail, sort_keys=True, allow_nan=False)  # floats as written by repr: exact
    key = _key(sample.cell, sample.scenario, sample.repeat)
    return (*key, sample.group, sample.outcome, sample.valid, sample.text, detail)


def _with_judgement(
    outcome: float | None,
    valid: float | None,
    detail: str,
    status: str,
    judged: float | None,
    held: float | None,
    scores: str,
) -> tuple[float | None, float | None, str]:
    """A rule's outcome is never overwritten; an answer that the judge could not grade stays missing."""
    more = {f"judge_{name}": value for name, value in json.loads(scores).items()}
    merged = json.dumps(json.loads(detail) | more | {"judged": float(status == "read")}, sort_keys=True)
    if outcome is None and status == "read" and held is not None:
        return judged, held, merged
    return outcome, valid, merged


def _cell(row: tuple[Any, ...]) -> Cell:
    phase, behaviour, kind, direction, layer, dose = row[:6]
    return Cell(phase=phase, behaviour=behaviour, kind=kind, direction=direction, layer=layer, dose=dose)
