"""A packed store as a data set: documents by index, read where they lie, a chunk at a time, never whole in memory."""

from bisect import bisect_right
from collections.abc import Collection, Iterator
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from transfuse.plugin import DataSet, Document, TransfuseError, checked_index, checked_split, in_either_order

from transfuse_adapters.store.chunks import Cache
from transfuse_adapters.store.manifests import (
    MANIFEST,
    PLAN,
    Manifest,
    Part,
    PartEntry,
    Plan,
    checksum,
    folder_of,
    read,
)
from transfuse_adapters.store.places import Folder, Place, place_of
from transfuse_adapters.store.records import TABLES, PartReader

CURE = "restore it, or delete the store and pack it again"
CODECS = "codecs"  # the folder of those that a store was encoded with
BLOCK_BYTES, LARGEST_BLOCK = 4 * 2**20, 1024
EXCERPT = 100_000


class Store(DataSet):
    """The documents of a finished store; with ``partial``, of the finished parts of one that is not.

    block: so many consecutive documents are best read one soon after another (`transfuse.training.order`).
    codecs: by role, the hash of the codec that encoded the training documents; held-out ones are raw.
    Raises TransfuseError naming store and file where the store is unfinished, or a file is gone, cut, or not the
    manifest's; what is wrong inside a file is found when it is read, as RecordError.
    """

    def __init__(self, path: str | Path, partial: bool = False) -> None:
        place = place_of(path)
        manifest, parts = open_store(place, partial)
        self._place, self._manifest, self._cache = place, manifest, Cache()
        self.name, self.reversed_share, self.tasks = manifest.name, manifest.reversed_share, manifest.tasks
        self.codecs = dict(manifest.codecs)
        self._entries = manifest.entries
        self._copied: TemporaryDirectory[str] | None = None
        self._parts = [
            PartReader(place, entry.folder, part, self._cache, self.codecs)
            for entry, part in zip(manifest.entries, parts, strict=True)
        ]
        self.splits = tuple(manifest.splits)
        self._ends = {
            split: list(accumulate(entry.splits[split] for entry in manifest.entries))
            for split in self.splits
        }
        self.block = _block(parts)

    def size(self, split: str) -> int:
        ends = self._ends[checked_split(self.name, split, self.splits)]
        return ends[-1] if ends else 0

    def excerpt(self, split: str) -> int:
        """Of a store that is larger, its first 100,000 documents stand for all."""
        return min(self.size(split), EXCERPT)

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        return in_either_order(self.outline(split, index, ()), self.reversed_share, rng)

    def outline(self, split: str, index: int, roles: Collection[str]) -> Document:
        """Shapes and types are those of the table of items: no data are read."""
        number, row = self._find(split, index)
        source = f"{self.name} {split} {index}"
        return self._parts[number].document(row, source, self._entries[number].ids, roles)

    def document_roles(self, split: str, index: int) -> list[str]:
        number, row = self._find(split, index)
        return self._parts[number].roles(row)

    def identity(self) -> dict[str, Any]:
        told = {**self._manifest.origin, "name": self.name, "content": self._manifest.content, "store": True}
        return told | ({"codecs": self.codecs} if self.codecs else {})

    def codec_folder(self) -> Path | None:
        """A folder of the codecs that encoded it, copied from where it lies if that is far; None: it is raw."""
        if not self.codecs:
            return None
        if isinstance(self._place, Folder):
            return self._place.path / CODECS
        if self._copied is None:
            self._copied = TemporaryDirectory(prefix="transfuse-codecs-")
            for name, (size, _) in self._manifest.codec_files.items():
                (Path(self._copied.name) / name.removeprefix(f"{CODECS}/")).write_bytes(
                    self._place.read(name, size)
                )
        return Path(self._copied.name)

    def ids(self) -> np.ndarray:
        """The ids of all documents, part after part: int64."""
        parts = zip(self._entries, self._parts, strict=True)
        found = [part.ids.copied(0, part.ids.length) + entry.ids for entry, part in parts]
        return np.concatenate([np.empty(0, np.int64), *found])

    def faults(self) -> Iterator[str]:
        """All documents read again: which parts are not, bit for bit, what was packed."""
        for entry, part in zip(self._entries, self._parts, strict=True):
            try:
                if part.content() != part.part.content:
                    yield f"store {self._place}: {entry.folder}: the documents are not the ones that were packed"
            except TransfuseError as error:
                yield str(error)

    def verify(self) -> None:
        """Raises unless the documents are, bit for bit, those that were packed."""
        for fault in self.faults():
            raise TransfuseError(fault)

    def _find(self, split: str, index: int) -> tuple[int, int]:
        """The part that has a document, and its row there."""
        place = checked_index(self.name, split, index, self.size(split))
        number = bisect_right(self._ends[split], place)
        row = place - (self._ends[split][number - 1] if number else 0)
        before = self.splits[: self.splits.index(split)]
        return number, row + sum(self._entries[number].splits[other] for other in before)


def open_store(place: Place, partial: bool = False) -> tuple[Manifest, list[Part]]:
    """The manifests of a store and its parts, all files they list being there with their sizes."""
    if isinstance(place, Folder) and not place.path.is_dir():
        raise TransfuseError(f"store {place}: {'not a folder' if place.path.exists() else 'not there'}")
    sizes = place.sizes()
    if not sizes:
        raise TransfuseError(f"store {place}: nothing is there")
    if MANIFEST in sizes:
        manifest = read(place, MANIFEST, Manifest, CURE)
    elif partial and PLAN in sizes:
        manifest = _so_far(place, sizes)
    else:
        raise TransfuseError(
            f"store {place}: no {MANIFEST}, so it was never finished; pack it again, which goes on with it"
        )
    parts = []
    for entry in manifest.entries:
        part = read(place, f"{entry.folder}/{MANIFEST}", Part, CURE)
        alike = [*part.splits.items()] == [*entry.splits.items()] and [*entry.splits] == [*manifest.splits]
        if checksum(part) != entry.check or not alike:
            raise TransfuseError(
                f"store {place}: {entry.folder}/{MANIFEST} is not the one that belongs there: {CURE}"
            )
        _check_sizes(place, sizes, {f"{entry.folder}/{name}": size for name, (size, _) in part.files.items()})
        for name in TABLES:
            if f"{name}/zarr.json" not in part.files:
                raise TransfuseError(f"store {place}: {entry.folder} does not list {name}: {CURE}")
        parts.append(part)
    _check_sizes(place, sizes, {name: size for name, (size, _) in manifest.codec_files.items()})
    return manifest, parts


def _check_sizes(place: Place, sizes: dict[str, int], wanted: dict[str, int]) -> None:
    for name, size in wanted.items():
        if (found := sizes.get(place.checked(name))) is None:
            raise TransfuseError(f"store {place}: {name} is gone: {CURE}")
        if found != size:
            raise TransfuseError(
                f"store {place}: {name} has {found:,} bytes, it was written with {size:,}: {CURE}"
            )


def _so_far(place: Place, sizes: dict[str, int]) -> Manifest:
    """The manifest that a store would have if its finished parts were all."""
    plan = read(place, PLAN, Plan, CURE)
    folders = [
        folder_of(number) for number in range(plan.parts) if f"{folder_of(number)}/{MANIFEST}" in sizes
    ]
    parts = [read(place, f"{folder}/{MANIFEST}", Part, CURE) for folder in folders]
    return manifest_of(plan, folders, parts, {})


def manifest_of(
    plan: Plan,
    folders: list[str],
    parts: list[Part],
    codec_files: dict[str, tuple[int, str]],
    add: list[int] | None = None,
) -> Manifest:
    """The manifest of a store of these parts. add: to the ids of the documents of each."""
    from hashlib import sha256

    entries = [
        PartEntry(folder=folder, check=checksum(part), splits=part.splits, ids=ids)
        for folder, part, ids in zip(folders, parts, add or [0] * len(parts), strict=True)
    ]
    whole = len(parts) == plan.parts and not plan.codecs and isinstance(plan.origin.get("content"), str)
    told = "".join(part.content for part in parts)
    return Manifest(
        **plan.model_dump(exclude={"splits"}),
        splits={split: sum(part.splits[split] for part in parts) for split in plan.splits},
        content=plan.origin["content"] if whole else sha256(told.encode()).hexdigest(),
        entries=tuple(entries),
        codec_files=codec_files,
    )


def _block(parts: list[Part]) -> int:
    """How many documents have 4 MiB of data, and no more than 1,024."""
    data = sum(a.shape[0] * a.row for part in parts for name, a in part.arrays.items() if name not in TABLES)
    documents = sum(sum(part.splits.values()) for part in parts)
    return max(1, min(LARGEST_BLOCK, BLOCK_BYTES * documents // max(1, data)))
