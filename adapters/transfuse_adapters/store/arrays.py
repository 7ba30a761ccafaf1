"""Arrays in zarr version 3, in shards: written a shard at a time, read a chunk at a time, every chunk by its checksum.

As the specification has it (zarr-specs.readthedocs.io, core 3.0 and sharding-indexed), so that any zarr reader opens
them. A chunk is its values, by zstd level 1 or as they are, and a crc32c. zarr answers zeros for a chunk that is gone,
and its checksums move with a shard that changes places with another; so a part's manifest has every chunk's checksum,
and here a chunk is compared with that.
"""

import json
from collections import OrderedDict
from collections.abc import Sequence
from math import ceil, prod
from threading import Lock
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator
from transfuse.plugin import RecordError, TransfuseError

from transfuse_adapters.store.places import Place

CHUNK = 2**19  # bytes of values
CHUNKS_A_SHARD = 256
LARGEST_CHUNK = 2**26  # bytes that are decoded for a chunk, whatever a manifest says
CACHE = 192 * 2**20  # bytes of chunks that a store keeps
NO_CHUNK = 2**64 - 1
DTYPES = r"^(bool|u?int(8|16|32|64)|float(16|32|64))$"


class Array(BaseModel):
    """A finished array, as a part's manifest has it.

    shape: rows first. chunk: rows of a chunk; shard: chunks of a shard. zstd: whether chunks are compressed.
    sums, sizes: of each chunk, in hex: the crc32c, and how many bytes it has on the disk, checksum included.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    shape: tuple[int, ...] = Field(min_length=1, max_length=2)
    dtype: str = Field(pattern=DTYPES)
    chunk: int = Field(ge=1)
    shard: int = Field(ge=1, le=2**16)
    zstd: bool
    sums: str
    sizes: str = ""

    @field_validator("shape")
    @classmethod
    def _sides(cls, shape: tuple[int, ...]) -> tuple[int, ...]:
        if not all(0 <= side < 2**62 for side in shape) or prod(shape[1:]) > 2**16:
            raise ValueError(f"no array has the shape {shape}")
        return shape

    @property
    def row(self) -> int:
        """Bytes of a row."""
        return np.dtype(self.dtype).itemsize * prod(self.shape[1:])

    @property
    def chunks(self) -> int:
        return ceil(self.shape[0] / self.chunk)

    def shard_name(self, number: int) -> str:
        return "/".join(["c", str(number), *["0"] * (len(self.shape) - 1)])

    def numbers(self, field: str) -> np.ndarray:
        """``sums`` or ``sizes``, uint32, one a chunk. Raises ValueError where there are not so many."""
        found = np.frombuffer(bytes.fromhex(getattr(self, field)), "<u4")
        if len(found) != self.chunks:
            raise ValueError(f"{field} of {len(found)} chunks, and there are {self.chunks}")
        return found

    def metadata(self) -> bytes:
        """What its ``zarr.json`` holds."""
        one = np.dtype(self.dtype).itemsize == 1
        values = {"name": "bytes"} if one else {"name": "bytes", "configuration": {"endian": "little"}}
        little = {"name": "bytes", "configuration": {"endian": "little"}}
        crc = {"name": "crc32c"}
        zstd = [{"name": "zstd", "configuration": {"level": 1, "checksum": False}}] * self.zstd
        inner = {
            "chunk_shape": [self.chunk, *self.shape[1:]],
            "codecs": [values, *zstd, crc],
            "index_codecs": [little, crc],
            "index_location": "end",
        }
        shard = [self.chunk * self.shard, *self.shape[1:]]
        told = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": self.dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shard}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": False if self.dtype == "bool" else 0.0 if self.dtype.startswith("f") else 0,
            "codecs": [{"name": "sharding_indexed", "configuration": inner}],
            "attributes": {},
        }
        return json.dumps(told, indent=1).encode()


def checksums() -> Any:
    """google_crc32c, or the sentence that says how to get it."""
    try:
        import google_crc32c
    except ImportError as error:
        raise TransfuseError("stores need zarr: pip install 'transfuse[zarr]'") from error
    return google_crc32c


def compressor() -> Any:
    """zstd level 1 of numcodecs, or the sentence that says how to get it."""
    try:
        from numcodecs.zstd import Zstd
    except ImportError as error:
        raise TransfuseError("stores need zarr: pip install 'transfuse[zarr]'") from error
    return Zstd(1)


class ArrayWriter:
    """Rows are appended; a shard is written as soon as it is full, so no more than one is held.

    chunk_bytes: of values. An array of less than a shard has no chunk larger than itself.
    """

    def __init__(
        self, place: Place, name: str, dtype: str, columns: tuple[int, ...] = (), zstd: bool = True
    ) -> None:
        self.place, self.name, self.dtype, self.columns, self.zstd = (
            place,
            name,
            np.dtype(dtype),
            columns,
            zstd,
        )
        row = self.dtype.itemsize * prod(columns)
        self.chunk, self.shard = max(1, CHUNK // max(1, row)), CHUNKS_A_SHARD
        self.length = self._written = self._waiting = 0
        self._pending: list[np.ndarray] = []
        self._sums: list[int] = []
        self._sizes: list[int] = []
        self._value, self._codec = checksums().value, compressor()

    def append(self, values: np.ndarray) -> None:
        """Rows ``[n, *columns]``."""
        self._pending.append(values)
        self.length += len(values)
        self._waiting += len(values)
        if self._waiting >= self.chunk * self.shard:
            self._flush()

    def close(self) -> Array:
        """What is left is written, and the metadata."""
        if not self._written:
            self.chunk = max(1, min(self.chunk, self._waiting))
            self.shard = max(1, min(self.shard, ceil(self._waiting / self.chunk)))
        self._flush(last=True)
        made = Array(
            shape=(self.length, *self.columns),
            dtype=self.dtype.name,
            chunk=self.chunk,
            shard=self.shard,
            zstd=self.zstd,
            sums=np.array(self._sums, "<u4").tobytes().hex(),
            sizes=np.array(self._sizes, "<u4").tobytes().hex() if self.zstd else "",
        )
        self.put(f"{self.name}/zarr.json", made.metadata())
        return made

    def put(self, name: str, data: bytes | bytearray) -> None:
        """Where its files go; a subclass may look at them."""
        self.place.put(name, data)

    def _flush(self, last: bool = False) -> None:
        rows = np.concatenate(self._pending) if self._pending else np.empty((0, *self.columns), self.dtype)
        rows = np.ascontiguousarray(rows, self.dtype.newbyteorder("<"))
        shard, start = self.chunk * self.shard, 0
        while len(rows) - start >= shard or (last and start < len(rows)):
            self._put(rows[start : start + shard])
            start += shard
        rest = rows[start:].copy()
        self._pending, self._waiting = [rest], len(rest)

    def _put(self, rows: np.ndarray) -> None:
        body, offsets, sizes = bytearray(), list[int](), list[int]()
        for number in range(ceil(len(rows) / self.chunk)):
            values = rows[number * self.chunk : (number + 1) * self.chunk]
            if len(values) < self.chunk:  # chunks are whole, whatever the array's length
                values = np.concatenate(
                    [values, np.zeros((self.chunk - len(values), *self.columns), rows.dtype)]
                )
            data = bytes(self._codec.encode(values)) if self.zstd else values.tobytes()
            sum = self._value(data)
            offsets.append(len(body))
            sizes.append(len(data) + 4)
            body += data + sum.to_bytes(4, "little")
            self._sums.append(sum)
        self._sizes += sizes
        body += index_of(offsets, sizes, self.shard)
        name = "/".join(["c", str(self._written), *["0"] * len(self.columns)])
        self.put(f"{self.name}/{name}", body)
        self._written += 1


class Cache:
    """The chunks that were read last, of all arrays of a store, up to so many bytes."""

    def __init__(self, most: int = CACHE) -> None:
        self.most, self.held, self._lock = most, 0, Lock()
        self._chunks: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()

    def get(self, key: tuple[int, int]) -> np.ndarray | None:
        with self._lock:
            found = self._chunks.get(key)
            if found is not None:
                self._chunks.move_to_end(key)
            return found

    def keep(self, key: tuple[int, int], chunk: np.ndarray) -> None:
        with self._lock:
            if key in self._chunks:
                return
            self._chunks[key] = chunk
            self.held += chunk.nbytes
            while self.held > self.most and len(self._chunks) > 1:
                self.held -= self._chunks.popitem(last=False)[1].nbytes


class ArrayReader:
    """Rows of a finished array, by number. Raises RecordError naming the shard's file where a chunk of it is not what
    was written, and TransfuseError where the manifest contradicts itself."""

    def __init__(self, place: Place, name: str, array: Array, cache: Cache) -> None:
        self.place, self.name, self.array, self.cache = place, name, array, cache
        self.dtype, self.columns = np.dtype(array.dtype), array.shape[1:]
        self.length, self._rows = array.shape[0], array.chunk
        bytes_ = array.chunk * array.row
        if bytes_ > LARGEST_CHUNK or array.chunk * array.shard > 2**62:
            raise TransfuseError(f"store {place}: {name} has chunks of {bytes_:,} bytes, too large to open")
        try:
            self._sums = array.numbers("sums")
            sizes = (
                array.numbers("sizes").astype(np.int64) if array.zstd else np.full(array.chunks, bytes_ + 4)
            )
        except ValueError as error:
            raise TransfuseError(
                f"store {place}: the manifest has no checksums of {name}: {error}"
            ) from error
        if sizes.size and not 4 < sizes.min() <= sizes.max() <= LARGEST_CHUNK + LARGEST_CHUNK // 64 + 1024:
            raise TransfuseError(
                f"store {place}: {name} has chunks of {sizes.max():,} bytes, too large to open"
            )
        self._sizes, self._looked_at = sizes, set[int]()
        starts = np.cumsum(sizes) - sizes
        self._offsets = starts - np.repeat(starts[:: array.shard], array.shard)[: len(starts)]
        self._value, self._decode = checksums().value, compressor().decode

    def chunk(self, number: int) -> np.ndarray:
        """Chunk ``number``, from the cache or read and checked; not to be written to."""
        key = (id(self), number)
        if (found := self.cache.get(key)) is None:
            found = np.empty((self._rows, *self.columns), self.dtype)
            self._fill(number, found)
            self.cache.keep(key, found)
        return found

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows from ``start`` to ``stop``; a view of a chunk that is not to be written to, where one holds them all."""
        if not 0 <= start <= stop <= self.length:
            raise RecordError(f"store {self.place}: {self.name} has no rows {start:,} to {stop:,}")
        if start == stop:
            return np.empty((0, *self.columns), self.dtype)
        first, at = divmod(start, self._rows)
        if stop - start <= self._rows - at:
            return self.chunk(first)[at : at + stop - start]
        return self.copied(start, stop)

    def copied(self, start: int, stop: int) -> np.ndarray:
        """The same, copied out. Chunks that are not in the cache do not go there, and those that lie in it whole are
        read in place."""
        made = np.empty((stop - start, *self.columns), self.dtype)
        for number in range(start // self._rows, ceil(stop / self._rows)):
            first = number * self._rows
            inside = made[max(first - start, 0) : first + self._rows - start]
            found = self.cache.get((id(self), number))
            if found is None and len(inside) == self._rows:
                self._fill(number, inside)
                continue
            if found is None:
                found = np.empty((self._rows, *self.columns), self.dtype)
                self._fill(number, found)
            at = max(start - first, 0)
            inside[:] = found[at : at + len(inside)]
        return made

    def _fill(self, number: int, values: np.ndarray) -> None:
        shard = number // self.array.shard
        if shard not in self._looked_at:
            self._look_at(shard)
        size, tail = int(self._sizes[number]) - 4, bytearray(4)
        plain = values.reshape(-1).view(np.uint8)
        data: Any = np.empty(size, np.uint8) if self.array.zstd else plain
        name, sum = f"{self.name}/{self.array.shard_name(shard)}", int(self._sums[number])
        found = self.place.read_into(name, int(self._offsets[number]), memoryview(data), memoryview(tail))
        if found != size + 4 or self._value(data) != sum or int.from_bytes(tail, "little") != sum:
            raise RecordError(f"store {self.place}: {name} was changed since it was written (chunk {number})")
        if self.array.zstd:
            plain.fill(0)  # a frame that is shorter than it should be leaves nothing of the memory's past
            try:
                self._decode(data, plain)  # into what was made for it: no frame makes it larger
            except Exception as error:
                raise RecordError(
                    f"store {self.place}: {name} cannot be read (chunk {number}: {error})"
                ) from error

    def _look_at(self, shard: int) -> None:
        """Once: whether a shard's index, which zarr reads and which is known here from the manifest, is as it was."""
        some = slice(shard * self.array.shard, (shard + 1) * self.array.shard)
        told = index_of(self._offsets[some], self._sizes[some], self.array.shard)
        end = int(self._offsets[some][-1] + self._sizes[some][-1])
        found, name = bytearray(len(told)), f"{self.name}/{self.array.shard_name(shard)}"
        if self.place.read_into(name, end, memoryview(found)) != len(told) or found != told:
            raise RecordError(f"store {self.place}: {name} was changed since it was written (its index)")
        self._looked_at.add(shard)


def index_of(offsets: Sequence[int] | np.ndarray, sizes: Sequence[int] | np.ndarray, most: int) -> bytes:
    """The index of a shard of at most so many chunks, and its checksum."""
    index = np.full((most, 2), NO_CHUNK, "<u8")
    index[: len(sizes)] = np.stack([offsets, sizes], axis=1)
    told = index.tobytes()
    return told + checksums().value(told).to_bytes(4, "little")
