"""A finished array's chunks, read where they lie: each is compared with its checksum, and the latest are kept."""

from collections import OrderedDict
from collections.abc import Sequence
from math import ceil
from threading import Lock
from typing import Any

import numpy as np
from transfuse.plugin import RecordError, TransfuseError

from transfuse_adapters.store.arrays import Array, checksums, compressor, index_of
from transfuse_adapters.store.places import Place

LARGEST_CHUNK = 2**26  # bytes that are decoded for a chunk, whatever a manifest says
CACHE = 192 * 2**20  # bytes of chunks that a store keeps
AT_ONCE = 256  # chunks that are read by one call


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
            self._fill(number, [found])
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
        read in place; those that follow each other in a shard by one call."""
        made = np.empty((stop - start, *self.columns), self.dtype)
        run: list[tuple[int, np.ndarray]] = []
        for number in range(start // self._rows, ceil(stop / self._rows)):
            first = number * self._rows
            inside = made[max(first - start, 0) : first + self._rows - start]
            if (found := self.cache.get((id(self), number))) is not None:
                at = max(start - first, 0)
                inside[:] = found[at : at + len(inside)]
                continue
            if run and (number != run[-1][0] + 1 or number % self.array.shard == 0 or len(run) == AT_ONCE):
                self._fill_run(run, start)
                run = []
            run.append((number, inside))
        if run:
            self._fill_run(run, start)
        return made

    def _fill_run(self, run: Sequence[tuple[int, np.ndarray]], start: int) -> None:
        """Of chunks that follow each other in a shard what stands in rows from ``start`` on."""
        shape = (self._rows, *self.columns)
        chunks = [inside if len(inside) == self._rows else np.empty(shape, self.dtype) for _, inside in run]
        self._fill(run[0][0], chunks)
        for (number, inside), chunk in zip(run, chunks, strict=True):
            if chunk is not inside:
                at = max(start - number * self._rows, 0)
                inside[:] = chunk[at : at + len(inside)]

    def _fill(self, first: int, chunks: Sequence[np.ndarray]) -> None:
        """Chunks from ``first`` on, all of one shard, by one call."""
        shard, last = first // self.array.shard, first + len(chunks)
        if shard not in self._looked_at:
            self._look_at(shard)
        plain = [chunk.reshape(-1).view(np.uint8) for chunk in chunks]
        sizes, sums = self._sizes[first:last].tolist(), self._sums[first:last].tolist()
        data: list[Any] = [np.empty(size - 4, np.uint8) for size in sizes] if self.array.zstd else plain
        tails = np.empty(len(chunks), "<u4")
        ends = tails.view(np.uint8).data
        views = [view for i, each in enumerate(data) for view in (memoryview(each), ends[4 * i : 4 * i + 4])]
        name = f"{self.name}/{self.array.shard_name(shard)}"
        whole = self.place.read_into(name, int(self._offsets[first]), *views) == sum(sizes)
        for number, body, tail, sum_, values in zip(
            range(first, last), data, tails.tolist(), sums, plain, strict=True
        ):
            if not whole or tail != sum_ or self._value(body) != sum_:
                raise RecordError(
                    f"store {self.place}: {name} was changed since it was written (chunk {number})"
                )
            if self.array.zstd:
                # A frame that is shorter than it should be leaves nothing of the memory's past.
                values.fill(0)
                try:
                    self._decode(body, values)  # into what was made for it: no frame makes it larger
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
