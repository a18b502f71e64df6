"""Files that are complete or absent: written beside their place, flushed to disk, then renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from heartstrings.core.errors import HeartstringsError, InputError


def cache_folder() -> Path:
    """The folder for copies: $HEARTSTRINGS_CACHE, else `heartstrings` in the user's cache folder."""
    own = os.environ.get("HEARTSTRINGS_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "heartstrings"


def cannot_write(path: Path, error: OSError) -> HeartstringsError:
    """The error for a failed write, with what to do about it."""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        fix = "Free some space and run the same command again, or choose another place with --out"
        return InputError(f"the disk is full: {path} could not be written", "room for the file", fix)
    return InputError(f"cannot write {path}: {reason}", "a folder that may be written to", "Choose another place")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old content, the new content or no file, but no partial content.

    Raises:
        InputError: the file cannot be written, e.g. because the disk is full.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        flush_to_disk(partial, content)
        os.replace(partial, path)
        flush_folder(path.parent)
    except BaseException as error:  # also an interrupt, which must leave no partial file
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(path, error) from None
        raise


def write_text(path: Path, content: str) -> None:
    """`write_bytes` for UTF-8 text; makes the folder if it is missing."""
    make_folder(path.parent)
    write_bytes(path, content.encode("utf-8"))


def flush_to_disk(path: Path, content: bytes) -> None:
    """Write and fsync one file."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Make renames in a folder survive a power failure, where the system can do that."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return  # Windows cannot open folders, but journals renames
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Create a folder with its parents.

    Raises:
        InputError: it cannot be made, e.g. because a file is in its place.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from None


def remove_folder(path: Path) -> None:
    """Remove a folder and its content, if it exists."""
    shutil.rmtree(path, ignore_errors=True)


def tensor_bytes(tensors: Mapping[str, np.ndarray], kind: str) -> bytes:
    """Arrays as a safetensors file; the same arrays give the same bytes.

    `kind` is the only metadata entry: with several, safetensors writes them in no fixed order.
    """
    from safetensors.numpy import save

    return bytes(save({name: np.ascontiguousarray(array) for name, array in tensors.items()}, {"kind": kind}))


def sha256_of(path: Path) -> str:
    """`sha256:...` of a file, read in pieces."""
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def sha256(content: bytes) -> str:
    """`sha256:...` of bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Create a folder and lock it for this process; the lock ends with the process.

    An empty folder is removed again at the end, and its parent too if that is new.

    Raises:
        InputError: another process holds it, or it cannot be made.
    """
    path = folder / "lock"
    handle = None
    created = not folder.parent.exists()
    try:
        while handle is None:
            make_folder(folder)
            try:
                handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            except FileNotFoundError:
                continue  # the previous owner has just removed the folder
            if not _try_lock(handle):
                owner = os.read(handle, 32).decode("ascii", "replace").strip() or "unknown"
                os.close(handle)
                raise InputError(
                    f"another process (number {owner}) is writing to {folder.parent}",
                    "one process at a time",
                    "Wait for it to end, or choose another --out",
                )
            # Locked, but this may be a file that the previous owner has removed since.
            if not path.exists() or os.stat(path).st_ino != os.fstat(handle).st_ino:
                os.close(handle)
                handle = None
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
    except OSError as error:
        raise cannot_write(path, error) from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()
        if created:
            with contextlib.suppress(OSError):
                folder.parent.rmdir()


def _try_lock(handle: int) -> bool:
    """An exclusive lock without waiting."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
