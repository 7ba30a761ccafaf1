"""Files are replaced whole, so that a reader sees the old text or the new one; and read up to a cap."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transfuse.errors import TransfuseError

CAP = 64 << 20
"""Bytes of a file that are read, unless a reader says otherwise."""
CURE = "restore it, or train again with another --out"


@contextmanager
def writing(path: Path, what: str = "") -> Iterator[None]:
    """Entered around what writes there: the system's refusal, such as a full disk, becomes one line.

    what: said behind it: what is kept, and how much room it needs.
    """
    try:
        yield
    except OSError as error:
        fault = error.strerror or error
        raise TransfuseError(
            f"{path} cannot be written ({fault}){what}: make room there, allow it, or name another place"
        ) from error


def write_text(path: Path, text: str) -> None:
    """The same as `write_bytes` of text in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Put the bytes on the disk beside the file, then in its place in one step. Raises TransfuseError."""
    kept = "; what was there is kept" if path.exists() else ""
    with writing(path, f"; it has {len(data):,} bytes{kept}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        replace(partial, path)


def replace(partial: Path, path: Path) -> None:
    """Put a file or folder that is on the disk already in its place, in one step that is on the disk too."""
    os.replace(partial, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk. Nothing where systems open no folders (Windows)."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """The same for JSON. Keys keep their order: that of a recipe's modalities numbers the ``mod`` column."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum(value: Any) -> str:
    """SHA-256 of a JSON value, in hex, however it is written."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_checked(path: Path, value: Mapping[str, Any]) -> None:
    """JSON that carries a checksum of itself, under ``sha256``: one flipped bit is found by `read_checked`."""
    value = json.loads(json.dumps(value))
    write_json(path, {**value, "sha256": checksum(value)})


def read_bytes(path: Path, what: str, cap: int = CAP) -> bytes:
    """All of a file. Raises TransfuseError naming it where it is missing, no file, or has more than ``cap`` bytes.

    what: what a folder without the file has none of: ``run``.
    """
    try:
        with path.open("rb") as file:
            data = file.read(cap + 1)
    except FileNotFoundError:
        raise TransfuseError(f"{path} is missing: {path.parent} holds no {what}") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a zero in it
        fault = getattr(error, "strerror", None) or error
        raise TransfuseError(f"{path} cannot be read ({fault}): it should be a file of a {what}") from None
    if len(data) > cap:
        raise TransfuseError(f"{path}: more than {cap >> 20} MiB of a {what} are not read")
    return data


def read_text(path: Path, what: str, cap: int = CAP, cure: str = "save it as UTF-8") -> str:
    """The same as text: UTF-8, whatever the locale, with or without a byte order mark."""
    try:
        return read_bytes(path, what, cap).decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise TransfuseError(f"{path}: is not UTF-8 text (byte {error.start}): {cure}") from None


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError, also for a key that stands twice in an object."""
    return json.loads(text, object_pairs_hook=_each_key_once)


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(made := dict(pairs)) < len(keys):
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r:.80} stands twice")
    return made


def read_json(path: Path, what: str, cap: int = CAP, cure: str = CURE) -> Any:
    """The value of a JSON file. Raises TransfuseError as `read_text`, and with the cure where it is damaged."""
    text = read_text(path, what, cap, cure)
    try:
        return parse_json(text)
    except (ValueError, RecursionError) as error:
        raise TransfuseError(f"{path} is damaged ({error}): {cure}") from None


def read_mapping(path: Path, what: str, *keys: str, cap: int = CAP, cure: str = CURE) -> dict[str, Any]:
    """The same, where it is a mapping with these keys."""
    value = read_json(path, what, cap, cure)
    if not isinstance(value, dict):
        raise TransfuseError(f"{path} is damaged (it should hold a mapping): {cure}")
    for key in keys:
        if key not in value:
            raise TransfuseError(f"{path} is damaged (it has no {key!r}): {cure}")
    return value


def read_checked(path: Path, what: str, *keys: str, cap: int = CAP, cure: str = CURE) -> dict[str, Any]:
    """What `write_checked` wrote, without its checksum. Raises TransfuseError where a byte of it is another."""
    value = read_mapping(path, what, "sha256", *keys, cap=cap, cure=cure)
    if value.pop("sha256") != checksum(value):
        raise TransfuseError(f"{path} is damaged (its checksum is another): {cure}")
    return value
