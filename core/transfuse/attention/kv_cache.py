"""Keys and values kept between decoding steps: each stream owns a contiguous stretch of slots.

The life of a step: `slots` names the next positions of some streams; `label` says their columns; every layer
`write`s its keys and values there and attends over `keys`, `values` with `columns` as key columns. Writing
the same slots again overwrites, as each denoising step does; `commit` keeps the first n and frees the rest.

Every column is `NONE` at a slot that was never labelled, and `doc` at every free one, so a mask that is used
with a cache must demand `same(doc)`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfuse.errors import TransfuseError
from transfuse.masks import NONE


class KVCache:
    """K and V of all layers, [kv_heads, streams · capacity, head_dim] each, written in place, no gradients.

    Stream s owns slots [s · capacity, (s + 1) · capacity); the first `length[s]` of them are committed.
    """

    def __init__(
        self,
        layers: int,
        kv_heads: int,
        head_dim: int,
        streams: int,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (layers, 2, kv_heads, streams * capacity, head_dim)
        self._store = torch.zeros(shape, dtype=dtype, device=device)
        self.streams, self.capacity = streams, capacity
        self.length: Int[np.ndarray, "streams"] = np.zeros(streams, np.int64)
        self._columns: dict[str, np.ndarray] = {"doc": np.full(streams * capacity, NONE, np.int64)}

    @property
    def columns(self) -> Mapping[str, Int[np.ndarray, "slots"]]:
        """The columns of all slots, for `key_columns`; live, so plan after labelling."""
        return self._columns

    def slots(
        self, streams: Sequence[int] | np.ndarray, n: int | Sequence[int] | np.ndarray
    ) -> Int[np.ndarray, "total"]:
        """Slots of the next n positions (one number, or one a stream) of each stream, in the streams' order.

        Raises TransfuseError naming a stream that has no room left.
        """
        ids = self._known(streams)
        counts = np.broadcast_to(np.asarray(n, np.int64), ids.shape)
        full = np.flatnonzero(self.length[ids] + counts > self.capacity)
        if full.size:
            s = int(ids[full[0]])
            raise TransfuseError(
                f"cache: stream {s} holds {int(self.length[s])} of {self.capacity} positions and has no room "
                f"for {int(counts[full[0]])} more; make the cache with a larger capacity"
            )
        first = ids * self.capacity + self.length[ids]
        offset = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(first, counts) + offset

    def label(self, slots: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
        """Say what lies in the slots: one value a slot for each column named."""
        for name, values in columns.items():
            if name not in self._columns:
                self._columns[name] = np.full(self.streams * self.capacity, NONE, np.int64)
            self._columns[name][slots] = values

    def write(
        self, layer: int, slots: np.ndarray, k: Float[Tensor, "Hk n d"], v: Float[Tensor, "Hk n d"]
    ) -> None:
        """Put keys and values into the slots of one layer, over whatever was there."""
        where = torch.from_numpy(slots).to(self._store.device)
        with torch.no_grad():
            self._store[layer, 0].index_copy_(1, where, k.detach().to(self._store.dtype))
            self._store[layer, 1].index_copy_(1, where, v.detach().to(self._store.dtype))

    def commit(self, streams: Sequence[int] | np.ndarray, n: int | Sequence[int] | np.ndarray) -> None:
        """Keep the next n positions of each stream; slots beyond them are free again (n = 0 discards)."""
        ids = self._known(streams)
        lengths = self.length[ids] + np.asarray(n, np.int64)
        if (lengths > self.capacity).any():
            raise TransfuseError(f"cache: commit of more than the capacity of {self.capacity} positions")
        self.length[ids] = lengths
        self._free(ids)

    def keys(self, layer: int) -> Float[Tensor, "Hk slots d"]:
        """The keys of one layer: a view, never a copy."""
        return self._store[layer, 0]

    def values(self, layer: int) -> Float[Tensor, "Hk slots d"]:
        """The values of one layer: a view, never a copy."""
        return self._store[layer, 1]

    def _free(self, ids: np.ndarray) -> None:
        doc = self._columns["doc"].reshape(self.streams, self.capacity)
        beyond = np.arange(self.capacity) >= self.length[ids, None]
        doc[ids] = np.where(beyond, NONE, doc[ids])

    def _known(self, streams: Sequence[int] | np.ndarray) -> np.ndarray:
        ids = np.asarray(streams, np.int64).reshape(-1)
        if ids.size and (ids.min() < 0 or ids.max() >= self.streams):
            raise TransfuseError(f"cache: streams are 0…{self.streams - 1}, not {ids.tolist()}")
        if np.unique(ids).size != ids.size:
            raise TransfuseError(f"cache: a stream is named twice: {ids.tolist()}")
        return ids
