"""Arrays in zarr version 3, in shards, written a shard at a time; `chunks` reads them, every chunk by its checksum.

As the specification has it (zarr-specs.readthedocs.io, core 3.0 and sharding-indexed), so that any zarr reader opens
them. A chunk is its values, by zstd level 1 or as they are, and a crc32c. zarr answers zeros for a chunk that is gone,
and its checksums move with a shard that changes places with another; so a part's manifest has every chunk's checksum,
and here a chunk is compared with that.
"""

import json
from collections.abc import Sequence
from math import ceil, prod
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator
from transfuse.plugin import TransfuseError

from transfuse_adapters.store.places import Place

CHUNK = 2**17  # bytes of values
CHUNKS_A_SHARD = 1024
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


def index_of(offsets: Sequence[int] | np.ndarray, sizes: Sequence[int] | np.ndarray, most: int) -> bytes:
    """The index of a shard of at most so many chunks, and its checksum."""
    index = np.full((most, 2), NO_CHUNK, "<u8")
    index[: len(sizes)] = np.stack([offsets, sizes], axis=1)
    told = index.tobytes()
    return told + checksums().value(told).to_bytes(4, "little")
