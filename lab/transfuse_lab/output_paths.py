"""Whether a command can write where it was told to: found out before anything is opened, trained or drawn."""

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from transfuse.errors import TransfuseError

SHEETS = (".png", ".svg")
"""Endings of the sheets of drawings that commands write."""
LONGEST_NAME = 255
"""Bytes of a file's name on every common file system."""


def check_file(option: str, path: Path, endings: Sequence[str] = SHEETS) -> None:
    """Raises TransfuseError, naming the option, where no such file can be written: by its ending or its place."""
    if path.suffix.lower() not in endings:
        raise TransfuseError(
            f"{option} {path}: cannot be written: give a name that ends in {', '.join(endings)}"
        )
    if fault := _fault(path.parent, path.name) or ("a folder is there" if path.is_dir() else None):
        raise TransfuseError(f"{option} {path}: cannot be written: {fault}; give another")


def check_folder(option: str, folder: Path) -> None:
    """Raises TransfuseError, naming the option, where this neither is a folder to write in nor can become one."""
    if fault := _fault(folder):
        raise TransfuseError(f"{option} {folder} cannot be a folder: {fault}; give another")


def check_room(option: str, folder: Path, size: int) -> None:
    """Raises TransfuseError, naming the option, where so many bytes more have no room in a folder, which may still have
    to be made."""
    place = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if (free := shutil.disk_usage(place).free) < size:
        raise TransfuseError(
            f"{option} {folder}: {in_bytes(size)} are needed there for what is trained and its checkpoints, and "
            f"{in_bytes(free)} are free: make room, or give a folder on another disk"
        )


def in_bytes(size: float) -> str:
    """How people say it.

    >>> in_bytes(999), in_bytes(1_234_000), in_bytes(5_600_000_000)
    ('999 bytes', '1.23 MB', '5.6 GB')
    """
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"


def _fault(folder: Path, name: str = "") -> str | None:
    """Why nothing of this name can be written in a folder that may still have to be made; nothing is made here."""
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in (*folder.parts, name)):
        return f"a name is longer than {LONGEST_NAME} bytes"
    for place in (folder, *folder.parents):
        try:
            found = place.stat()
        except (FileNotFoundError, NotADirectoryError):
            if place.is_symlink():
                return f"{place} is a link to nothing"
            continue
        except (OSError, ValueError) as error:  # a path too long, or with a zero in it
            return getattr(error, "strerror", None) or str(error)
        if not stat.S_ISDIR(found.st_mode):
            return f"{place} is a file"
        return None if os.access(place, os.W_OK | os.X_OK) else f"nothing may be written in {place}"
    return None
