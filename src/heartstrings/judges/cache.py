"""All raw answers of judges, by content, in one SQLite file: no text is graded twice.

The key is a hash of judge, model, settings, rubric and text, so a renamed case is the same case. Scores are not
stored: they are read from the raw answers each time. A call is booked at its highest possible cost before the request
goes out and corrected when the answer is there, so a process that is killed in between has booked too much and never
too little. Several processes may use the file at the same time. On POSIX systems each text has a lock, which the system
frees when its process ends, so that they also share the work.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from heartstrings.core.errors import InputError
from heartstrings.core.storage import make_folder

APPLICATION_ID = 0x48534A44
"""`HSJD`, in the file's header."""
SCHEMA_VERSION = 1
_CREATE = """
CREATE TABLE answers (key TEXT NOT NULL, try INTEGER NOT NULL, judge TEXT NOT NULL, model TEXT NOT NULL,
    rubric TEXT NOT NULL, question TEXT NOT NULL, raw TEXT NOT NULL, finish TEXT NOT NULL,
    PRIMARY KEY (key, try)) STRICT, WITHOUT ROWID;
CREATE TABLE calls (id INTEGER PRIMARY KEY, judge TEXT NOT NULL, model TEXT NOT NULL, cost REAL NOT NULL,
    settled INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE runs (id INTEGER PRIMARY KEY, judge TEXT NOT NULL, model TEXT NOT NULL, rubric TEXT NOT NULL,
    rubric_hash TEXT NOT NULL, seed INTEGER NOT NULL, cases INTEGER NOT NULL) STRICT;
"""


@dataclass(frozen=True)
class Spent:
    """What a judge has cost so far, according to this file."""

    calls: int
    money: float
    """In the unit of the prices. A call whose usage is not known counts with the most it can have cost."""


class JudgeCache:
    """Open the file (created if it is missing), or keep everything in memory if `path` is None.

    Raises:
        InputError: the file is not such a cache, of another version, damaged, or not writable.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else Path(path)
        self._lock = threading.RLock()
        self._held: set[str] = set()
        self._freed = threading.Condition()
        self._claims = None
        if self.path is not None:
            make_folder(self.path.parent)
        try:
            file = ":memory:" if self.path is None else self.path
            self._db = sqlite3.connect(file, timeout=60, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise InputError(f"cannot open {self.path}: {error}", "a writable folder") from None
        try:
            with self._guarded():
                self._open()
            if self.path is not None:
                self._claims = self.path.with_name(f".{self.path.name}.claims").open("a+b")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> JudgeCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        with self._lock:
            self._db.close()
            if self._claims is not None:
                self._claims.close()

    def answers(self, key: str) -> tuple[str, ...]:
        """Raw answers so far, in order."""
        with self._guarded():
            return tuple(
                raw for (raw,) in self._db.execute("SELECT raw FROM answers WHERE key = ? ORDER BY try", (key,))
            )

    def add(self, key: str, *, judge: str, model: str, rubric: str, question: str, raw: str, finish: str) -> None:
        """Record one more answer; returns once it is in the file."""
        # SQLite cannot store half of a surrogate pair.
        texts = [text.encode("utf-8", "backslashreplace").decode() for text in (question, raw)]
        with self._guarded():
            self._db.execute(
                "INSERT INTO answers SELECT ?, coalesce(max(try), 0) + 1, ?, ?, ?, ?, ?, ? FROM answers WHERE key = ?",
                (key, judge, model, rubric, *texts, finish, key),
            )

    def record_run(self, *, judge: str, model: str, rubric: str, rubric_hash: str, seed: int, cases: int) -> None:
        """Record that cases will be asked in an order shuffled by `seed`."""
        with self._guarded():
            self._db.execute(
                "INSERT INTO runs (judge, model, rubric, rubric_hash, seed, cases) VALUES (?, ?, ?, ?, ?, ?)",
                (judge, model, rubric, rubric_hash, seed, cases),
            )

    def spent(self, judge: str, model: str) -> Spent:
        """Calls and money of one judge over all runs on this file."""
        with self._guarded():
            calls, money = self._db.execute(
                "SELECT count(*), coalesce(sum(cost), 0.0) FROM calls WHERE judge = ? AND model = ?", (judge, model)
            ).fetchone()
        return Spent(int(calls), float(money))

    def book(
        self, judge: str, model: str, *, cost: float | int, calls: int | None, money: float | int | None
    ) -> int | None:
        """Book a call at the most it can cost. The call's number, or None if it would exceed `calls` or `money`."""
        with self._transaction():  # no other process can book between the sum and the row
            spent = self.spent(judge, model)
            too_many = calls is not None and spent.calls + 1 > calls
            # The sum of floats may be slightly too large where the cap is met exactly.
            too_much = money is not None and spent.money + cost > money * (1 + 1e-9)
            if too_many or too_much:
                return None
            return self._db.execute(
                "INSERT INTO calls (judge, model, cost) VALUES (?, ?, ?)", (judge, model, float(cost))
            ).lastrowid

    def settle(self, call: int, cost: float | int) -> None:
        """Correct a booking to what the call did cost."""
        with self._guarded():
            self._db.execute("UPDATE calls SET cost = ?, settled = 1 WHERE id = ?", (float(cost), call))

    @contextmanager
    def claim(self, key: str, stop: threading.Event | None = None) -> Iterator[None]:
        """Lock one text against other threads and processes. Waits while another one has it, or until `stop` is set."""
        with self._freed:
            while key in self._held:
                self._freed.wait(0.1)
                if stop is not None and stop.is_set():
                    break
            self._held.add(key)
        try:
            while not self._across(key, take=True) and not (stop is not None and stop.is_set()):
                time.sleep(0.05)
            yield
        finally:
            self._across(key, take=False)
            with self._freed:
                self._held.discard(key)
                self._freed.notify_all()

    def _across(self, key: str, *, take: bool) -> bool:
        """Lock or free one byte of the file of claims; True if that worked. The end of the process frees it too."""
        if self._claims is None or self._claims.closed:
            return True
        try:
            import fcntl

            how = fcntl.LOCK_EX | fcntl.LOCK_NB if take else fcntl.LOCK_UN
            fcntl.lockf(self._claims, how, 1, int(key[:13], 16))
        except ImportError:  # not POSIX: two processes may ask the same text, and both answers are kept
            return True
        except OSError:
            return False
        return True

    def _open(self) -> None:
        if self._is_empty():
            self._db.execute("PRAGMA journal_mode = WAL")
            with self._transaction():
                if self._is_empty():  # no other process was faster
                    for statement in _CREATE.split(";")[:-1]:
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        ours = self._db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if not ours or version != SCHEMA_VERSION:
            problem = f"{self.path} is no cache of judges of version {SCHEMA_VERSION}"
            raise InputError(problem, fix="Choose another file")
        self._db.execute("PRAGMA synchronous = NORMAL")  # survives kill -9; a power cut can lose the last answers

    def _is_empty(self) -> bool:
        return not self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing, and no other process writes in between."""
        with self._guarded(), self._db:  # which commits at the end, and rolls back after an error
            self._db.execute("BEGIN IMMEDIATE")
            yield

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """One thread at a time. Turns errors of SQLite into InputError."""
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise InputError(
                    f"the cache of judges {self.path or 'in memory'} failed: {error}",
                    "an undamaged file, with space on the disk",
                    "Free some space, or move a damaged file away",
                ) from None
