"""Keys and values kept between decoding steps, and attention to them: each stream owns a row of slots.

The life of a step: `plan` says which streams take how many more positions, and what columns these have; each
layer's `attend` writes their keys and values there and attends to all that a stream holds; running a plan again
overwrites the same slots, as each denoising step does; `commit` keeps what was written. Every stream sees itself
alone, whatever the mask says of other documents.

Letters: a block is S consecutive streams that take n positions each; T positions in all; H query heads, G key-value
heads of width d.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from transfuse.errors import TransfuseError
from transfuse.masks import Mask
from transfuse.masks.dense import evaluate

VECTOR = 16
"""Keys are taken by whole vectors of so many: what a query sees is added up alike, however much others hold."""


class _Block(NamedTuple):
    """Streams, positions of each, and what these see: of the first ``keys`` slots those that ``bias`` leaves."""

    first: int
    streams: int
    n: int
    keys: int
    bias: Float[Tensor, "S 1 n keys"] | None  # None: all
    seeing: Bool[Tensor, "S n 1"] | None  # which see anything; None: all do


class CachePlan(NamedTuple):
    """Where the T positions of some blocks go, in their order, and what they see; shared by all layers."""

    slots: Int[Tensor, " T"]
    blocks: list[_Block]


class KVCache:
    """K and V of all layers, [streams, capacity, G, d] each, written in place, no gradients.

    The first ``length[s]`` slots of stream s are committed. ``columns``: those that the mask reads of keys.
    """

    def __init__(
        self, mask: Mask, layers: int, kv_heads: int, head_dim: int, streams: int, capacity: int,
        dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        self.mask, self._of_queries, self.capacity = mask, mask.query_columns, capacity
        wide = _padded(capacity)
        # A masked value is multiplied by 0, so what was never written has to be a number.
        self._store = torch.zeros(layers, 2, streams, wide, kv_heads, head_dim, dtype=dtype, device=device)
        self._rows = [layer.view(2, -1, kv_heads * head_dim).unbind() for layer in self._store]
        self._views: dict[tuple[int, ...], list[tuple[Tensor, ...]]] = {}
        self.length: Int[np.ndarray, " streams"] = np.zeros(streams, np.int64)
        self.columns = {name: np.zeros((streams, wide), np.int64) for name in mask.key_columns}

    def slots(self, streams: np.ndarray, places: np.ndarray) -> Int[Tensor, " T"]:
        """Where T positions are written, each of a stream at a place; `write` takes them in this order."""
        return torch.from_numpy(streams * self._store.shape[3] + places).to(self._store.device)

    def write(self, layer: int, slots: Tensor, k: Float[Tensor, "G T d"], v: Float[Tensor, "G T d"]) -> None:
        """Put keys and values into the slots of one layer, over whatever was there."""
        for rows, new in zip(self._rows[layer], (k, v), strict=True):
            rows.index_copy_(0, slots, new.transpose(0, 1).flatten(1))

    def label(self, streams: np.ndarray, places: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
        """Say what lies at places of streams: one value each for every column that the mask reads of keys."""
        for name, kept in self.columns.items():
            kept[streams, places] = _own(name, places, columns)

    def plan(self, blocks: Sequence[tuple[int, int, int]], columns: Mapping[str, np.ndarray]) -> CachePlan:
        """The next positions of blocks (first stream, S, n), which are labelled with their columns ``[T]``.

        ``doc`` and ``idx`` are the cache's own. Raises TransfuseError naming a stream that has no room left.
        """
        slots, planned, at = [], [], 0
        for first, S, n in blocks:
            length, stream = self.length[first : first + S, None], np.arange(first, first + S)[:, None]
            longest = int(length.max())
            if longest + n > self.capacity:
                raise TransfuseError(
                    f"cache: stream {first + int(length.argmax())} holds {longest} of {self.capacity} positions and "
                    f"has no room for {n} more; make the cache with a larger capacity"
                )
            place = length + np.arange(n)
            own = {name: values[at : at + place.size] for name, values in columns.items()}
            self.label(stream, place, own)
            slots.append((np.repeat(stream, n), place.ravel()))
            # The rule is evaluated with streams as the last axis: [n, 1, S] against [keys, S].
            keys = _padded(longest + n)
            q = {name: _own(name, place, own).T for name in self._of_queries}
            k = {name: values[first : first + S, :keys].T for name, values in self.columns.items()}
            written = np.arange(keys)[None, :, None] < length[:, 0] + n
            allowed = (evaluate(self.mask.expression, q, k) & written).transpose(2, 0, 1)
            planned.append(_Block(first, S, n, keys, *self._bias(allowed)))
            at += place.size
        return CachePlan(self.slots(*map(np.concatenate, zip(*slots, strict=True))), planned)

    def _bias(self, allowed: Bool[np.ndarray, "S n keys"]) -> tuple[Tensor | None, Tensor | None]:
        if allowed.all():
            return None, None
        if (allowed == allowed[:, :1]).all():
            allowed = allowed[:, :1]
        some = allowed.any(axis=2, keepdims=True)
        bias = torch.from_numpy(np.where(allowed | ~some, np.float32(0), np.float32(-np.inf))[:, None])
        return bias.to(self._store), None if some.all() else torch.from_numpy(some).to(self._store.device)

    def attend(
        self, layer: int, plan: CachePlan, q: Float[Tensor, "H T d"], k: Tensor, v: Tensor
    ) -> Float[Tensor, "H T d"]:
        """Write k and v [G, T, d], then softmax(q kᵀ / √d) v over what each query sees; 0 where that is nothing."""
        self.write(layer, plan.slots, k, v)
        G, shared, d, at, outs = len(k), len(q) // len(k), q.shape[2], 0, []
        for first, S, n, keys, bias, seeing in plan.blocks:
            # Queries that share a key-value head are further queries of it.
            x = q.narrow(1, at, S * n).reshape(G, shared, S, n, d).permute(2, 0, 1, 3, 4).reshape(S, G, -1, d)
            if bias is not None and bias.shape[2] > 1:
                bias = bias.repeat(1, 1, shared, 1)
            held_k, held_v = self._held(first, S, keys)[layer]
            x = F.scaled_dot_product_attention(x, held_k, held_v, bias)
            x = x.view(S, G, shared, n, d).permute(1, 2, 0, 3, 4)
            outs.append((x if seeing is None else x * seeing).reshape(len(q), S * n, d))
            at += S * n
        return outs[0] if len(outs) == 1 else torch.cat(outs, dim=1)

    def _held(self, *which: int) -> list[tuple[Tensor, ...]]:
        """Views of what some streams hold in each layer, by the first of them, their number, and keys."""
        if which not in self._views:
            first, S, keys = which
            held = self._store[:, :, first : first + S, :keys].transpose(3, 4)
            self._views[which] = [layer.unbind() for layer in held]
        return self._views[which]

    def commit(self, plan: CachePlan) -> None:
        """Keep what was written last at a plan's positions."""
        for block in plan.blocks:
            self.length[block.first : block.first + block.streams] += block.n

    def swap(self, a: Sequence[int], b: Sequence[int]) -> None:
        """Exchange streams: what each of ``a`` held is then in its partner of ``b``."""
        there, back = [*a, *b], [*b, *a]
        self._store[:, :, there] = self._store[:, :, back]
        for each in (self.length, *self.columns.values()):
            each[there] = each[back]


def _padded(keys: int) -> int:
    return -(-keys // VECTOR) * VECTOR


def _own(name: str, places: np.ndarray, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """A column of positions of streams; a stream is one document, and counts its own positions."""
    if name == "doc":
        return np.zeros_like(places)
    return places if name == "idx" else columns[name].reshape(places.shape)
