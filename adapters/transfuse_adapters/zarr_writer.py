"""Packs a data set into a zarr store (`zarr_store` says how it is laid out)."""

from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from transfuse.files import digest
from transfuse.plugin import DataSet, Item, TransfuseError, content_hash

from transfuse_adapters.zarr_store import (
    DROPPABLE,
    LOSS,
    MANIFEST,
    MOST_SIDES,
    NOISED,
    Manifest,
    StoredModality,
    import_zarr,
    read_manifest,
    write_manifest,
)

CHUNK = 2**20  # bytes before compression
CHUNKS_A_SHARD = 128
MARK = {"transfuse": "store"}  # on the root, so that only our own unfinished stores are replaced


def write_store(data: DataSet, path: str | Path) -> Manifest:
    """Packs every document of all splits, in plain form, and returns the manifest, written last.

    Memory: one shard (128 MiB) a modality, and the tables. An unfinished store at ``path`` is replaced;
    a finished one, or anything else there, is an error. One writer at a time.
    Raises TransfuseError naming document and item where data is neither text nor a numeric array, or
    where one modality holds two kinds of it.
    """
    zarr = import_zarr()
    path = Path(path)
    _make_room(path)
    tables = _tables(data)
    root = zarr.open_group(str(path), mode="w", zarr_format=3, attributes=MARK)
    for name, table in (("first_item", tables.first), ("ids", tables.ids), ("items", tables.items)):
        _create(root, name, np.array(table, dtype=np.int64).reshape(tables.shape(name)))
    for number, modality in enumerate(tables.modalities):
        _Filler(root, modality, tables.lengths[number]).fill(data)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    names = {file.relative_to(path).as_posix(): file for file in files}
    manifest = Manifest(
        name=data.name,
        splits={split: data.size(split) for split in data.splits},
        reversed_share=data.reversed_share,
        modalities=tuple(tables.modalities),
        content=content_hash(data),
        origin=data.identity(),
        files={name: file.stat().st_size for name, file in names.items() if file.name != "zarr.json"},
        hashes={name: digest(file) for name, file in names.items()},
    )
    write_manifest(path, manifest)
    return read_manifest(path)


def _make_room(path: Path) -> None:
    if (path / MANIFEST).exists():
        raise TransfuseError(
            f"store {path}: a finished store is there already; remove it or take another name"
        )
    if path.exists() and (not path.is_dir() or any(path.iterdir())) and not _unfinished(path):
        raise TransfuseError(f"store {path}: something that is no store is there; take another name")
    path.parent.mkdir(parents=True, exist_ok=True)


def _unfinished(path: Path) -> bool:
    """Whether a writer of ours was stopped here before the manifest."""
    try:
        group = import_zarr().open_group(str(path), mode="r", zarr_format=3)
    except Exception:
        return False
    return dict(group.attrs) == MARK


@dataclass
class _Tables:
    """Everything but the data itself, grown document by document."""

    first: list[int] = field(default_factory=lambda: [0])
    ids: list[int] = field(default_factory=list)
    items: list[list[int]] = field(default_factory=list)
    modalities: list[StoredModality] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    def shape(self, name: str) -> tuple[int, ...]:
        return (-1, 4 + MOST_SIDES) if name == "items" else (-1,)

    def add(self, item: Item, source: str) -> None:
        values, stored = _values(item, source)
        number = next((n for n, known in enumerate(self.modalities) if known.name == stored.name), None)
        if number is None:
            number = len(self.modalities)
            self.modalities.append(stored)
            self.lengths.append(0)
        if self.modalities[number] != stored:
            was = self.modalities[number]
            raise TransfuseError(
                f"{source}: {stored.name} holds {stored.kind} {stored.dtype} here "
                f"but {was.kind} {was.dtype} before; a store keeps one type a modality"
            )
        if values.ndim > MOST_SIDES:
            raise TransfuseError(
                f"{source}: {item.modality} has {values.ndim} dimensions, at most {MOST_SIDES}"
            )
        flags = LOSS * item.loss | NOISED * item.noised | DROPPABLE * item.droppable
        sides = [*values.shape, *[0] * (MOST_SIDES - values.ndim)]
        self.items.append([number, flags, self.lengths[number], values.ndim, *sides])
        self.lengths[number] += values.size


def _tables(data: DataSet) -> _Tables:
    tables = _Tables()
    for split in data.splits:
        for index in range(data.size(split)):
            document = data.document(split, index)
            for place, item in enumerate(document.items):
                tables.add(item, f"{document.source}, item {place}")
            tables.first.append(len(tables.items))
            tables.ids.append(document.id)
    return tables


def _values(item: Item, source: str) -> tuple[np.ndarray, StoredModality]:
    """The item's data as an array, and the type it is stored as."""
    try:
        if isinstance(item.data, str):
            array = np.frombuffer(item.data.encode("utf-8"), dtype=np.uint8)
            return array, StoredModality(name=item.modality, kind="text", dtype="uint8")
        array = np.asarray(item.data)
        return array, StoredModality(name=item.modality, kind="array", dtype=array.dtype.name)
    except ValueError as error:
        raise TransfuseError(
            f"{source}: {item.modality!r:.80} holds {type(item.data).__name__}, "
            "which a store cannot keep: it keeps text and numeric arrays"
        ) from error


def _create(root: Any, name: str, data: np.ndarray | None = None, length: int = 0, dtype: str = "") -> Any:
    """An array of the layout, filled with ``data`` or made empty with ``length`` values."""
    from zarr.codecs import Crc32cCodec, ZstdCodec

    shape = (length,) if data is None else data.shape
    kind = np.dtype(dtype) if data is None else data.dtype
    rows = max(1, min(shape[0], CHUNK // (kind.itemsize * max(1, int(np.prod(shape[1:]))))))
    shard = rows * max(1, min(CHUNKS_A_SHARD, ceil(shape[0] / rows)))
    array = root.create_array(
        name,
        shape=shape,
        dtype=kind,
        chunks=(rows, *shape[1:]),
        shards=(shard, *shape[1:]),
        compressors=[ZstdCodec(level=1), Crc32cCodec()],
        fill_value=0,
    )
    if data is not None and data.size:
        array[...] = data
    return array


class _Filler:
    """Writes one modality's data in whole shards, in the order of the item table."""

    def __init__(self, root: Any, modality: StoredModality, length: int) -> None:
        self.modality = modality
        self.array = _create(root, f"data_{modality.name}", length=length, dtype=modality.dtype)
        self.pending: list[np.ndarray] = []
        self.waiting, self.written = 0, 0

    def fill(self, data: DataSet) -> None:
        for split in data.splits:
            for index in range(data.size(split)):
                document = data.document(split, index)
                for item in document.items:
                    if item.modality == self.modality.name:
                        self._add(_values(item, document.source)[0].reshape(-1))
        self._write(self.waiting)

    def _add(self, values: np.ndarray) -> None:
        self.pending.append(values)
        self.waiting += len(values)
        shard = self.array.shards[0]
        if self.waiting >= shard:
            self._write(self.waiting // shard * shard)

    def _write(self, count: int) -> None:
        if not self.pending:
            return
        flat = np.concatenate(self.pending)
        if count:
            self.array[self.written : self.written + count] = flat[:count]
        self.pending, self.written = [flat[count:]], self.written + count
        self.waiting = len(self.pending[0])
