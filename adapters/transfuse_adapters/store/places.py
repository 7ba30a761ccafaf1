"""Where a store's files lie: a folder, or whatever fsspec reaches; whole files are put, pieces of them read.

A name is a relative path with ``/``. What is put is there in one step: a reader sees all of a file, or none of it.
"""

import os
import re
import shutil
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from threading import get_ident

from transfuse.files import replace, writing
from transfuse.plugin import TransfuseError

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*){0,7}")
VIEWS = 1024  # that a system fills by one call
PARTIAL = ".partial"  # ending of what is being written, or was when a writer was killed


class Place(ABC):
    """A folder of files. All that reads raises TransfuseError naming the file, also for a name that leads out."""

    @abstractmethod
    def put(self, name: str, data: bytes | bytearray) -> None:
        """Write a file, whole and in one step, over what was there."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Its bytes; None where there is no such file."""

    @abstractmethod
    def read_into(self, name: str, offset: int, *views: memoryview) -> int:
        """Fill ``views``, one after another, from a place in the file; how many bytes there were."""

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """All files that are whole, sorted by name, and their bytes; none where there is no such place."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Delete a file, or all below a folder; nothing where there is none."""

    def read(self, name: str, cap: int) -> bytes:
        """All of a file of at most ``cap`` bytes."""
        size = self.size(name)
        if size is None:
            raise TransfuseError(f"store {self}: {name} is gone")
        if size > cap:
            raise TransfuseError(
                f"store {self}: {name} has {size:,} bytes, more than the {cap:,} that are read"
            )
        data = bytearray(size)
        if self.read_into(name, 0, memoryview(data)) != size:
            raise TransfuseError(f"store {self}: {name} was cut while it was read")
        return bytes(data)

    def checked(self, name: str) -> str:
        if not NAME.fullmatch(name):
            raise TransfuseError(f"store {self}: {name!r:.80} leads out of the store")
        return name


class Folder(Place):
    """On a disk of this machine, or mounted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: dict[str, str] = {}

    def __str__(self) -> str:
        return str(self.path)

    def put(self, name: str, data: bytes | bytearray) -> None:
        file = self._file(name)
        with writing(file, f"; it has {len(data):,} bytes"):
            file.parent.mkdir(parents=True, exist_ok=True)
            # Writers of different parts put the same plan and manifest, each by a file of its own.
            partial = file.with_name(f"{file.name}.{os.getpid()}-{get_ident()}{PARTIAL}")
            with partial.open("wb") as opened:
                opened.write(data)
                opened.flush()
                os.fsync(opened.fileno())
            replace(partial, file)

    def size(self, name: str) -> int | None:
        file = self._file(name)
        try:
            return file.stat().st_size if file.is_file() else None
        except OSError:
            return None

    def read_into(self, name: str, offset: int, *views: memoryview) -> int:
        try:
            with open(self._files.get(name) or self._known(name), "rb", buffering=0) as file:
                at_once = hasattr(os, "preadv") and len(views) <= VIEWS
                if at_once and (found := os.preadv(file.fileno(), views, offset)) == sum(map(len, views)):
                    return found
                file.seek(offset)
                return sum(file.readinto(view) or 0 for view in views)
        except FileNotFoundError:
            raise TransfuseError(f"store {self}: {name} is gone") from None
        except OSError as error:
            raise TransfuseError(
                f"store {self}: {name} cannot be read ({error.strerror or error})"
            ) from error

    def sizes(self) -> dict[str, int]:
        found = {}
        for file in self.path.rglob("*"):
            with suppress(FileNotFoundError):  # another writer's, which is in its place now
                if file.suffix != PARTIAL and file.is_file():
                    found[file.relative_to(self.path).as_posix()] = file.stat().st_size
        return dict(sorted(found.items()))

    def remove(self, name: str) -> None:
        file = self._file(name)
        with writing(file):
            if file.is_dir():
                shutil.rmtree(file)
            else:
                file.unlink(missing_ok=True)

    def _known(self, name: str) -> str:
        """A name that was looked at once."""
        return self._files.setdefault(name, str(self._file(name)))

    def _file(self, name: str) -> Path:
        """Links inside a store may lead anywhere in it, and nowhere else."""
        file = self.path / self.checked(name)
        if not file.resolve().is_relative_to(self.path.resolve()):
            raise TransfuseError(f"store {self}: {name!r:.80} leads out of the store")
        return file


class Remote(Place):
    """Behind an address that fsspec knows, such as ``s3://bucket/pets.zarr`` or ``memory://pets.zarr``."""

    def __init__(self, address: str) -> None:
        try:
            import fsspec
        except ImportError as error:
            raise TransfuseError(
                f"store {address}: an address needs fsspec: pip install 'transfuse[zarr]'"
            ) from error
        self.address = address.rstrip("/")
        try:
            self._files, self._root = fsspec.core.url_to_fs(self.address)
        except (ImportError, ValueError) as error:
            raise TransfuseError(f"store {address}: fsspec does not reach it ({error})") from error

    def __str__(self) -> str:
        return self.address

    def put(self, name: str, data: bytes | bytearray) -> None:
        with writing(Path(f"{self}/{name}")):
            self._files.pipe_file(self._path(name), bytes(data))

    def size(self, name: str) -> int | None:
        try:
            found = self._files.info(self._path(name))
        except FileNotFoundError:
            return None
        return found["size"] if found["type"] == "file" else None

    def read_into(self, name: str, offset: int, *views: memoryview) -> int:
        try:
            data = self._files.cat_file(self._path(name), offset, offset + sum(map(len, views)))
        except FileNotFoundError:
            raise TransfuseError(f"store {self}: {name} is gone") from None
        except OSError as error:
            raise TransfuseError(f"store {self}: {name} cannot be read ({error})") from error
        start = 0
        for view in views:
            part = data[start : start + len(view)]
            view[: len(part)] = part
            start += len(part)
        return start

    def sizes(self) -> dict[str, int]:
        root = self._root.strip("/") + "/"
        found = self._files.find(self._root, detail=True)
        return {path.strip("/").removeprefix(root): found[path]["size"] for path in sorted(found)}

    def remove(self, name: str) -> None:
        if self._files.exists(self._path(name)):
            self._files.rm(self._path(name), recursive=True)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{self.checked(name)}"


def is_address(text: str | Path) -> bool:
    """Whether it is an address, not a path."""
    return "://" in str(text)


def place_of(text: str | Path) -> Place:
    """The place that a path or an address means."""
    text = str(text)
    if text.startswith("file://"):
        return Folder(Path(text.removeprefix("file://")))
    return Remote(text) if is_address(text) else Folder(Path(text))
