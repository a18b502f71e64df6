"""The record of finished calls, one line each, on disk before the call counts: no finished call is made again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from heartstrings.core.errors import InputError

SCHEMA = 1


class Ledger:
    """An append-only JSONL file of finished calls, by key. It survives kill -9 at any byte.

    Opening it drops an incomplete last line (a write that did not finish). Damage anywhere else raises InputError,
    since no interruption causes it. One process at a time can open it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, Mapping[str, Any]] = {}
        self.torn = 0
        """1 when the last line was incomplete and has been dropped."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}", "a writable folder") from None
        try:
            self._lock()
            self._load()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, key: str, entry: Mapping[str, Any]) -> None:
        """Record a finished call; returns once it is on the disk."""
        self._append({"key": key, **entry})
        self.entries[key] = entry

    def _append(self, row: Mapping[str, Any]) -> None:
        line = json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
        start = self._file.seek(0, os.SEEK_END)
        try:
            while line:
                line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            # A full disk may hold half of the line; earlier lines stay valid.
            os.truncate(self.path, start)
            fix = "Make room and run the same command again: finished calls are kept"
            raise InputError(f"cannot write {self.path}: {error.strerror}", "free space", fix) from None

    def _load(self) -> None:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        lines = content[:whole].splitlines()
        if whole < len(content):
            self.torn = 1
            os.truncate(self.path, whole)
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
            except ValueError:
                if number == len(lines):  # a machine that lost power can leave a last line of zeros
                    self.torn = 1
                    os.truncate(self.path, whole - len(line) - 1)
                    break
                raise InputError(
                    f"{self.path}:{number} is damaged",
                    "a JSON line of a finished call",
                    "Delete that line; its call will be made again",
                ) from None
            if number == 1:
                if row.get("ledger") != SCHEMA:
                    raise InputError(f"{self.path} is no ledger of schema {SCHEMA}", fix="Choose another folder")
                continue
            self.entries[row.pop("key")] = row
        if self._file.seek(0, os.SEEK_END) == 0:
            self._append({"ledger": SCHEMA})

    def _lock(self) -> None:
        try:
            import fcntl

            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # not POSIX: no advisory locks
            return
        except OSError:
            raise InputError(
                f"{self.path} is in use by another process",
                "one run in a folder",
                "Wait for it to end, or choose another folder",
            ) from None
