"""A data set packed into one zarr store: documents as flat arrays with offsets, checksummed throughout.

Layout (format 1), all arrays with zstd level 1 and crc32c, in chunks of 1 MiB and shards of 128 MiB:

    manifest.json    written last: a store without it was not finished
    first_item       int64 [documents + 1]: where each document's items begin in the item table
    ids              int64 [documents]
    items            int64 [items, 8]: modality, flags, start, rank, and up to four sides of the shape
    data_<modality>  every item's values end to end: UTF-8 bytes for text, else the array's own type

Documents are in plain form, split after split. zarr answers zeros for a chunk that is gone, and its checksums
move with a shard that changes places with another, so the manifest lists every file with its size and hash.
"""

import hashlib
import json
from collections.abc import Collection
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from transfuse.files import digest, read_mapping, write_json
from transfuse.plugin import (
    DataSet,
    Document,
    Item,
    TransfuseError,
    checked_index,
    checked_split,
    content_hash,
    in_either_order,
)

MANIFEST = "manifest.json"
LARGEST_MANIFEST = 16 * 2**20  # bytes
LARGEST_STORE = 16 * 2**30  # bytes once decompressed, all of it held in memory
MOST_SIDES = 4
LOSS, NOISED, DROPPABLE = 1, 2, 4


class StoredModality(BaseModel):
    """How one modality's data is kept: strings as UTF-8 bytes, or arrays of one type."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(pattern=r"^[A-Za-z0-9_]{1,64}$")
    kind: Literal["text", "array"]
    dtype: str = Field(pattern=r"^(bool|u?int(8|16|32|64)|float(16|32|64))$")


class Manifest(BaseModel):
    """What a finished store holds.

    origin: the identity of the data set it was packed from; content: its ``content_hash``.
    files: every data file and its size; hashes: the SHA-256 of every file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal["transfuse store 1"] = "transfuse store 1"
    name: str
    splits: dict[str, Annotated[int, Field(ge=0)]]
    reversed_share: float = Field(ge=0, le=1)
    modalities: tuple[StoredModality, ...]
    content: str
    origin: dict[str, Any]
    files: dict[str, int]
    hashes: dict[str, str]

    def checked(self) -> dict[str, Any]:
        """What the manifest file holds: all fields, and a SHA-256 of their JSON."""
        fields = self.model_dump(mode="json")
        return fields | {"check": _sha256(json.dumps(fields).encode())}


class Store(DataSet):
    """The documents of a packed store, read whole into memory when it is opened.

    Raises TransfuseError naming store and file where the store is unfinished, a file is gone, cut or
    changed, or its tables contradict each other.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._manifest = read_manifest(self._path)
        self.name = self._manifest.name
        self.splits = tuple(self._manifest.splits)
        self.reversed_share = self._manifest.reversed_share
        arrays = _read_arrays(self._path, self._manifest)
        self._first, self._ids, self._items = arrays["first_item"], arrays["ids"], arrays["items"]
        self._data = [arrays[f"data_{modality.name}"] for modality in self._manifest.modalities]
        self._check_tables()

    def size(self, split: str) -> int:
        return self._manifest.splits[checked_split(self.name, split, self.splits)]

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        return in_either_order(self.outline(split, index, ()), self.reversed_share, rng)

    def outline(self, split: str, index: int, roles: Collection[str]) -> Document:
        """Shapes and types are those of the table of items: no data are read."""
        place = checked_index(self.name, split, index, self.size(split))
        row = place + sum(map(self.size, self.splits[: self.splits.index(split)]))
        items = tuple(self._item(number, roles) for number in range(self._first[row], self._first[row + 1]))
        return Document(items, int(self._ids[row]), f"{self._path.name} {split} {index}")

    def identity(self) -> dict[str, Any]:
        return {**self._manifest.origin, "name": self.name, "content": self._manifest.content, "store": True}

    def verify(self) -> None:
        """Raises unless the documents are, bit for bit, those that were packed."""
        if content_hash(self) != self._manifest.content:
            raise TransfuseError(f"store {self._path}: the documents are not the ones that were packed")

    def _item(self, number: int, outlines: Collection[str]) -> Item:
        modality, flags, start, rank, *sides = (int(value) for value in self._items[number])
        shape = tuple(sides[:rank])
        stored = self._manifest.modalities[modality]
        if stored.kind == "array" and stored.name in outlines:
            raw: Any = np.broadcast_to(np.zeros((), stored.dtype), shape)
        else:
            raw = self._read(number, stored.kind, self._data[modality][start : start + prod(shape)], shape)
        return Item(stored.name, raw, bool(flags & LOSS), bool(flags & NOISED), bool(flags & DROPPABLE))

    def _read(self, number: int, kind: str, values: np.ndarray, shape: tuple[int, ...]) -> Any:
        if kind == "array":
            return values.reshape(shape)
        try:
            return values.tobytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise TransfuseError(f"store {self._path}: item {number} is not UTF-8 text: {error}") from error

    def _check_tables(self) -> None:
        first, items, count = self._first, self._items, sum(self._manifest.splits.values())
        wrong = f"store {self._path}: its tables contradict each other:"
        if first.shape != (count + 1,) or self._ids.shape != (count,) or items.shape[1:] != (4 + MOST_SIDES,):
            raise TransfuseError(f"{wrong} they are not of {count} documents")
        if first[0] != 0 or first[-1] != len(items) or (np.diff(first) < 0).any():
            raise TransfuseError(f"{wrong} first_item does not walk through items")
        modality, start, rank, sides = items[:, 0], items[:, 2], items[:, 3], items[:, 4:]
        used = np.arange(MOST_SIDES) < rank[:, None]
        # In float64, so that a crafted table cannot wrap around.
        values = np.where(used, sides, 1).astype(np.float64).prod(axis=1)
        known = (modality >= 0) & (modality < len(self._data))
        lengths = np.array([len(data) for data in self._data] or [0])[np.where(known, modality, 0)]
        sane = known & (rank >= 0) & (rank <= MOST_SIDES) & (start >= 0) & ~(used & (sides < 0)).any(axis=1)
        bad = np.flatnonzero(~(sane & (start + values <= lengths)))
        if bad.size:
            raise TransfuseError(f"{wrong} item {bad[0]} lies outside its data")


def read_manifest(path: Path) -> Manifest:
    """The manifest of a finished store. Raises TransfuseError where there is none or it was changed."""
    if not path.is_dir():
        raise TransfuseError(f"store {path}: {'not a folder' if path.exists() else 'not there'}")
    file = path / MANIFEST
    if not file.is_file():
        raise TransfuseError(
            f"store {path}: no {MANIFEST}, so it was never finished; pack it again, which replaces it"
        )
    fields = read_mapping(
        file, "store", "check", cap=LARGEST_MANIFEST, cure="delete the store and pack it again"
    )
    try:
        manifest = Manifest.model_validate({key: fields[key] for key in fields if key != "check"})
    except ValidationError as error:
        raise TransfuseError(f"{file}: not a store's manifest: {str(error)[:300]}") from error
    if manifest.checked() != fields:
        raise TransfuseError(f"{file}: changed since it was written: its checksum does not fit")
    return manifest


def import_zarr() -> Any:
    """The zarr module, or the sentence that says how to get it."""
    try:
        import zarr
    except ImportError as error:
        raise TransfuseError("stores need zarr: pip install 'transfuse[zarr]'") from error
    return zarr


def _read_arrays(path: Path, manifest: Manifest) -> dict[str, np.ndarray]:
    zarr = import_zarr()
    for name, size in manifest.files.items():
        found = _file(path, name).stat().st_size
        if found != size:
            raise TransfuseError(f"store {path}: {name} has {found} bytes, it was written with {size}")
    for name, before in manifest.hashes.items():
        if digest(_file(path, name)) != before:
            raise TransfuseError(f"store {path}: {name} was changed since it was written")
    wanted = {"first_item": "int64", "ids": "int64", "items": "int64"} | {
        f"data_{modality.name}": modality.dtype for modality in manifest.modalities
    }
    arrays: dict[str, np.ndarray] = {}
    room = LARGEST_STORE
    for name, dtype in wanted.items():
        if f"{name}/zarr.json" not in manifest.hashes:
            raise TransfuseError(f"store {path}: the manifest does not list {name}")
        try:
            array = zarr.open_array(str(path), path=name, mode="r", zarr_format=3)
            room -= array.nbytes
            if room < 0:
                raise TransfuseError(f"store {path}: more than {LARGEST_STORE} bytes, too large to open")
            arrays[name] = np.asarray(array[...])
        except TransfuseError:
            raise
        except Exception as error:  # each codec raises its own kind
            raise TransfuseError(f"store {path}: {name} cannot be read: {str(error)[:300]}") from error
        if arrays[name].dtype != np.dtype(dtype):
            raise TransfuseError(f"store {path}: {name} is {arrays[name].dtype}, not {dtype}")
        arrays[name].flags.writeable = False
    return arrays


def _file(path: Path, name: str) -> Path:
    """A file the manifest lists, once it is known to be in the store."""
    file = path / name
    if not file.resolve().is_relative_to(path.resolve()):
        raise TransfuseError(f"store {path}: {name!r:.80} leads out of the store")
    if not file.is_file():
        raise TransfuseError(f"store {path}: {name} is gone")
    return file


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Puts the manifest in place in one step, after everything else is on the disk."""
    write_json(path / MANIFEST, manifest.checked())
