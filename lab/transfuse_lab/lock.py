"""One writer a folder: who writes into it locks it, and a second one is told who that is.

The system lets go of a lock when its process ends, however it ends. ``.lock`` and ``.owner``, which says who
holds it, lie there meanwhile; what a killed process leaves of them bars nobody.
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from transfuse.errors import TransfuseError
from transfuse.files import write_text


def make_folder(folder: Path) -> None:
    """Raises TransfuseError where ``--out`` cannot be a folder: a file is in its place, or nothing may be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TransfuseError(f"--out {folder} cannot be a folder: {error.strerror}; give another") from None


@contextmanager
def locked(folder: Path, wait: float = 0.0) -> Iterator[None]:
    """The folder, made where it is not there, is this process's to write in.

    wait: seconds that another process may still hold it. Raises TransfuseError naming host and process of
    the one that does.
    """
    make_folder(folder)
    with _held(folder, folder, "", wait):
        yield


@contextmanager
def locked_beside(path: Path) -> Iterator[None]:
    """The same for what is written whole under a name that is not there yet; the lock lies beside it."""
    make_folder(path.parent)
    with _held(path, path.parent, path.name, 0.0):
        yield


@contextmanager
def _held(what: Path, folder: Path, name: str, wait: float) -> Iterator[None]:
    prefix = f".{name}" if name else ""
    lock, owner = FileLock(folder / f"{prefix}.lock"), folder / f"{prefix}.owner"
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        raise TransfuseError(
            f"{what} is being written by {_owner(owner)}: wait until it ends, stop it, or give another --out"
        ) from None
    except OSError as error:
        raise TransfuseError(f"{what} cannot be written: {error.strerror}; give another --out") from None
    try:
        write_text(owner, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        yield
    finally:
        owner.unlink(missing_ok=True)
        with suppress(OSError):  # Windows deletes no open file; elsewhere who waits for it sees that it went
            Path(lock.lock_file).unlink()
        lock.release()


def _owner(path: Path) -> str:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return f"process {int(told['pid'])} on {told['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # which has only just begun
