"""Documents as rows of a part's tables, and back.

    first_item       int64 [documents + 1]: where each document's items begin in the table of items
    ids              int64 [documents]
    items            int64 [items, 8]: number among the part's stored kinds, flags, start, rank, up to four sides
    data_ROLE        raw items end to end: UTF-8 bytes for text, else the arrays' own type
    encoded_ROLE     what the role's codec gave, end to end

A part's training documents come first, then those held out.
"""

import hashlib
from collections.abc import Collection, Mapping
from math import prod
from typing import Any

import numpy as np
from transfuse.plugin import Document, Item, RecordError, TransfuseError

from transfuse_adapters.store.arrays import Array, ArrayWriter
from transfuse_adapters.store.chunks import ArrayReader, Cache
from transfuse_adapters.store.encoding import Kept, StoredItem
from transfuse_adapters.store.manifests import Part, Stored
from transfuse_adapters.store.places import Place

TABLES = {"first_item": (), "ids": (), "items": (8,)}
MOST_SIDES = 4
LOSS, NOISED, DROPPABLE = 1, 2, 4
SMALLER = ("uint8", "uint16", "uint32")
INT64 = range(-(2**63), 2**63)


class DocumentsHash:
    """SHA-256 over documents as they are stored, in order: ids, flags, types, shapes and values."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def document(self, id: int) -> None:
        self._hash.update(f"\0document {id}".encode())

    def item(self, stored: Stored, flags: int, values: np.ndarray) -> None:
        self._hash.update(f"\0{stored.name} {stored.kind} {stored.dtype} {flags} {values.shape}\0".encode())
        self._hash.update(np.ascontiguousarray(values).data if values.size else b"")

    @property
    def hex(self) -> str:
        return self._hash.hexdigest()


class PartWriter:
    """Documents of one part, handed over in order; ``writer`` makes an array's files."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._tables = {name: writer(name, "int64", columns) for name, columns in TABLES.items()}
        self._data: list[ArrayWriter] = []
        self.stored: list[Stored] = []
        self._tables["first_item"].append(np.zeros(1, np.int64))
        self._items = 0
        self._hash = DocumentsHash()

    def add(self, document: Document) -> None:
        """Raises TransfuseError naming document and item where an item cannot be kept."""
        if not isinstance(document.id, int | np.integer) or document.id not in INT64:
            raise TransfuseError(
                f"{document.source}: its id {document.id!r:.40} must be a whole number of 64 bits"
            )
        self._hash.document(document.id)
        rows = [self._add(item, f"{document.source}, item {i}") for i, item in enumerate(document.items)]
        self._items += len(rows)
        self._tables["items"].append(np.array(rows, np.int64).reshape(-1, 4 + MOST_SIDES))
        self._tables["first_item"].append(np.array([self._items]))
        self._tables["ids"].append(np.array([document.id], np.int64))

    def close(self) -> tuple[dict[str, Array], str]:
        """The arrays by name, and a hash of the documents."""
        data = {stored.array: writer for stored, writer in zip(self.stored, self._data, strict=True)}
        return {name: w.close() for name, w in (self._tables | data).items()}, self._hash.hex

    def _add(self, item: Item, source: str) -> list[int]:
        values, stored = _values(item, source)
        number = next((n for n, known in enumerate(self.stored) if known.array == stored.array), None)
        if number is None:
            number = len(self.stored)
            self.stored.append(stored)
            plain = stored.kind == "encoded"
            self._data.append(self._writer(stored.array, stored.dtype, (), not plain))
        if (was := self.stored[number]) != stored:
            raise TransfuseError(
                f"{source}: {stored.name} holds {stored.kind} {stored.payload or stored.dtype} here but {was.kind} "
                f"{was.payload or was.dtype} before; a part of a store keeps one type a role"
            )
        if values.ndim > MOST_SIDES:
            raise TransfuseError(
                f"{source}: {item.modality} has {values.ndim} dimensions, at most {MOST_SIDES}"
            )
        flags = LOSS * item.loss | NOISED * item.noised | DROPPABLE * item.droppable
        writer = self._data[number]
        row = [number, flags, writer.length, values.ndim, *values.shape, *[0] * (MOST_SIDES - values.ndim)]
        if values.size:
            writer.append(values.reshape(-1))
        self._hash.item(stored, flags, values)
        return row


def _values(item: Item, source: str) -> tuple[np.ndarray, Stored]:
    """The item's data as an array, and how it is kept."""
    try:
        if isinstance(item.data, str):
            array = np.frombuffer(item.data.encode("utf-8"), dtype=np.uint8)
            return array, Stored(name=item.modality, kind="text", dtype="uint8")
        if isinstance(item.data, Kept):
            array, dtype = item.data.array, item.data.array.dtype.name
            smaller = next(
                (d for d in SMALLER if item.data.codes and item.data.codes <= np.iinfo(d).max + 1), dtype
            )
            of = dtype if smaller != dtype else ""
            return array.astype(smaller), Stored(
                name=item.modality, kind="encoded", dtype=smaller, payload=of
            )
        array = np.asarray(item.data)
        return array, Stored(name=item.modality, kind="array", dtype=array.dtype.name)
    except ValueError as error:
        raise TransfuseError(
            f"{source}: {item.modality!r:.80} holds {type(item.data).__name__}, "
            "which a store cannot keep: it keeps text and numeric arrays"
        ) from error


class PartReader:
    """The documents of a finished part. Raises as `ArrayReader`, and RecordError where its tables contradict each
    other; TransfuseError where its manifest lists other arrays than it has to.

    codecs: by role, the hash of the codec that encoded it.
    """

    def __init__(
        self, place: Place, folder: str, part: Part, cache: Cache, codecs: Mapping[str, str]
    ) -> None:
        self.part, self.folder, self.store, self.codecs = part, folder, str(place), codecs
        documents = sum(part.splits.values())
        wrong = f"store {place}: {folder} is none:"
        wanted = {name: ("int64", columns) for name, columns in TABLES.items()}
        wanted |= {stored.array: (stored.dtype, ()) for stored in part.stored}
        if len(wanted) != len(TABLES) + len(part.stored) or wanted.keys() != part.arrays.keys():
            raise TransfuseError(f"{wrong} its arrays are {', '.join(sorted(part.arrays))[:200]}")
        for name, (dtype, columns) in wanted.items():
            array = part.arrays[name]
            if array.dtype != dtype or array.shape[1:] != columns:
                raise TransfuseError(f"{wrong} {name} is {array.dtype} {array.shape}")
            if name in ("first_item", "ids") and array.shape[0] != documents + (name == "first_item"):
                raise TransfuseError(f"{wrong} its tables are not of {documents:,} documents")
        readers = {name: ArrayReader(place, f"{folder}/{name}", a, cache) for name, a in part.arrays.items()}
        self.first, self.ids, self.items = (readers[name] for name in TABLES)
        self.data = [readers[stored.array] for stored in part.stored]

    def items_of(self, row: int) -> np.ndarray:
        """The rows of the table of items that document ``row`` has: ``[items, 8]``."""
        first, last = self.first.rows(row, row + 2).tolist()
        if not 0 <= first <= last <= self.items.length:
            raise RecordError(f"store {self.store}: {self.folder}/first_item does not walk through items")
        return self.items.rows(first, last)

    def document(self, row: int, source: str, add: int, outlines: Collection[str] = ()) -> Document:
        """Document ``row``; of the arrays of roles in ``outlines`` only shape and type are true. add: to its id."""
        items = tuple(self._item(entry, outlines) for entry in self.items_of(row).tolist())
        return Document(items, int(self.ids.rows(row, row + 1)[0]) + add, source)

    def content(self) -> str:
        """The hash of all documents, read again."""
        found = DocumentsHash()
        for row in range(sum(self.part.splits.values())):
            found.document(int(self.ids.rows(row, row + 1)[0]))
            for number, flags, start, rank, *sides in self.items_of(row).tolist():
                stored, shape = self._stored(number), tuple(sides[:rank])
                found.item(stored, flags, self.data[number].rows(start, start + prod(shape)).reshape(shape))
        return found.hex

    def roles(self, row: int) -> list[str]:
        return [self._stored(entry[0]).name for entry in self.items_of(row).tolist()]

    def _stored(self, number: int) -> Stored:
        if not 0 <= number < len(self.part.stored):
            raise RecordError(
                f"store {self.store}: {self.folder}/items names a kind {number} that is not there"
            )
        return self.part.stored[number]

    def _item(self, entry: list[int], outlines: Collection[str]) -> Item:
        number, flags, start, rank, *sides = entry
        stored, data = self._stored(number), self.data[number]
        shape = tuple(sides[:rank]) if 0 <= rank <= MOST_SIDES else (-1,)
        if min(shape, default=0) < 0 or start < 0 or start + prod(shape) > data.length:
            raise RecordError(
                f"store {self.store}: {self.folder}/items: an item of {stored.name} lies outside its data"
            )
        if stored.kind != "text" and stored.name in outlines:
            values = np.broadcast_to(np.zeros((), stored.dtype), shape)
        else:
            values = data.rows(start, start + prod(shape))
        raw: Any = values
        if stored.kind == "text":
            raw = self._text(values)
        elif stored.name not in outlines:
            raw = values.reshape(shape).copy()
        if stored.kind == "encoded":
            raw = StoredItem(raw, stored.payload, stored.name, self.codecs.get(stored.name, ""), self.store)
        return Item(stored.name, raw, bool(flags & LOSS), bool(flags & NOISED), bool(flags & DROPPABLE))

    def _text(self, values: np.ndarray) -> str:
        try:
            return values.tobytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise RecordError(
                f"store {self.store}: {self.folder}/data: an item is not UTF-8 text: {error}"
            ) from error
