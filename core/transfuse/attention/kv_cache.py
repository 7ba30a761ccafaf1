"""Keys and values kept between decoding steps, and attention to them: each stream owns a row of slots.

The life of a step: `plan` says which streams take how many more positions, and what columns these have; each
layer's `attend` writes their keys and values there and attends to all that a stream holds; running a plan again
overwrites the same slots, as each denoising step does; `commit` keeps what was written. Every stream sees itself
alone, whatever the mask says of other documents.

Letters: a block has S streams of n positions each; T positions in all; H query heads, G key-value heads of width d.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from transfuse.errors import TransfuseError
from transfuse.masks import Mask
from transfuse.masks.dense import evaluate


@dataclass(frozen=True)
class Block:
    """n more positions of each of the streams ``first … first + streams - 1``."""

    first: int
    streams: int
    n: int


@dataclass(frozen=True, eq=False)
class _Seen:
    """What a block's queries see: of the first ``keys`` slots those that ``bias`` leaves, all if it is None.

    seeing: which queries see anything; None: all do.
    """

    block: Block
    keys: int
    bias: Float[Tensor, "S 1 n keys"] | None
    seeing: Bool[Tensor, "S n"] | None


@dataclass(frozen=True, eq=False)
class CachePlan:
    """Where T positions of some blocks go, in their order, and what each block sees; shared by all layers."""

    slots: Int[Tensor, " T*G"]
    seen: tuple[_Seen, ...]


class KVCache:
    """K and V of all layers, [streams, G, capacity, d] each, written in place, no gradients.

    The first ``length[s]`` slots of stream s are committed. ``columns``: those that the mask reads of keys.
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
        shape = (layers, 2, streams, kv_heads, capacity, head_dim)
        self._store = torch.zeros(shape, dtype=dtype, device=device)  # a masked value is multiplied by 0
        self._layers = [(layer[0], layer[1]) for layer in self._store]
        self.capacity, self.heads = capacity, torch.arange(kv_heads, device=device)
        self.length: Int[np.ndarray, " streams"] = np.zeros(streams, np.int64)
        self.columns: dict[str, np.ndarray] = {}

    def slots(self, streams: np.ndarray, places: np.ndarray) -> Int[Tensor, " T*G"]:
        """Where T positions are written, each of a stream at a place; `write` takes them in this order."""
        row, place = (torch.from_numpy(x).to(self._store.device) for x in (streams, places))
        return ((row[:, None] * len(self.heads) + self.heads) * self.capacity + place[:, None]).flatten()

    def write(
        self, layer: int, slots: Int[Tensor, " T*G"], k: Float[Tensor, "G T d"], v: Float[Tensor, "G T d"]
    ) -> None:
        """Put keys and values into the slots of one layer, over whatever was there."""
        for store, new in zip(self._layers[layer], (k, v), strict=True):
            rows = new.detach().transpose(0, 1).reshape(-1, new.shape[2])
            store.view(-1, new.shape[2]).index_copy_(0, slots, rows.to(store.dtype))

    def label(self, streams: np.ndarray, places: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
        """Say what lies at places of streams: one value each for every column named."""
        for name, values in columns.items():
            if name not in self.columns:
                self.columns[name] = np.zeros((len(self.length), self.capacity), np.int64)
            self.columns[name][streams, places] = values

    def plan(self, mask: Mask, blocks: Sequence[Block], columns: Mapping[str, np.ndarray]) -> CachePlan:
        """The next positions of some blocks of streams, which are labelled with their columns ``[T]``.

        ``doc`` and ``idx`` are the cache's own: a stream is one document. Raises TransfuseError naming a stream
        that has no room left.
        """
        streams, places, seen, at = [], [], [], 0
        for b in blocks:
            rows = slice(b.first, b.first + b.streams)
            length = self.length[rows, None]
            keys = int(length.max(initial=0)) + b.n
            if keys > self.capacity:
                raise TransfuseError(
                    f"cache: stream {b.first + int(length.argmax())} holds {keys - b.n} of {self.capacity} positions "
                    f"and has no room for {b.n} more; make the cache with a larger capacity"
                )
            place = length + np.arange(b.n)
            stream = np.broadcast_to(np.arange(b.first, b.first + b.streams)[:, None], place.shape)
            part = slice(at, at := at + place.size)
            own = {name: columns[name][part].reshape(place.shape) for name in mask.columns - {"doc", "idx"}}
            own |= {"doc": np.zeros_like(place), "idx": place}
            self.label(stream, place, {name: own[name] for name in mask.key_columns})
            # The rule is evaluated with the streams as the last axis: [n, 1, S] against [keys, S].
            q = {name: own[name].T for name in mask.query_columns}
            k = {name: self.columns[name][rows, :keys].T for name in mask.key_columns}
            written = np.arange(keys)[None, :, None] < length[:, 0] + b.n
            seen.append(self._seen(b, keys, (evaluate(mask.expression, q, k) & written).transpose(2, 0, 1)))
            streams.append(stream.ravel())
            places.append(place.ravel())
        return CachePlan(self.slots(np.concatenate(streams), np.concatenate(places)), tuple(seen))

    def _seen(self, block: Block, keys: int, allowed: Bool[np.ndarray, "S n keys"]) -> _Seen:
        if allowed.all():
            return _Seen(block, keys, None, None)
        some = allowed.any(axis=2)
        if (allowed == allowed[:, :1]).all():
            allowed = allowed[:, :1]
        hidden = torch.from_numpy(~(allowed | ~allowed.any(axis=2, keepdims=True))[:, None])
        like = self._store
        bias = torch.zeros(hidden.shape, dtype=like.dtype).masked_fill_(hidden, -torch.inf).to(like.device)
        return _Seen(block, keys, bias, None if some.all() else torch.from_numpy(some).to(like.device))

    def attend(
        self, layer: int, plan: CachePlan, q: Float[Tensor, "H T d"], k: Tensor, v: Tensor
    ) -> Float[Tensor, "H T d"]:
        """Write k and v [G, T, d], then softmax(q kᵀ / √d) v over what each query sees; 0 where that is nothing."""
        self.write(layer, plan.slots, k, v)
        keys, values = self._layers[layer]
        outs, at, groups = [], 0, (len(keys[0]), len(q) // len(keys[0]))
        for seen in plan.seen:
            b, bias = seen.block, seen.bias
            rows, size = slice(b.first, b.first + b.streams), b.streams * b.n
            # Queries that share a key-value head are further queries of it: [S, G, H/G·n, d].
            x = q.narrow(1, at, size).unflatten(1, (b.streams, b.n)).unflatten(0, groups)
            x = x.permute(2, 0, 1, 3, 4).flatten(2, 3)
            if bias is not None and bias.shape[2] > 1:
                bias = bias.repeat(1, 1, groups[1], 1)
            x = F.scaled_dot_product_attention(x, keys[rows, :, : seen.keys], values[rows, :, : seen.keys], bias)
            x = x.unflatten(2, (groups[1], b.n)).permute(1, 2, 0, 3, 4).flatten(0, 1)
            outs.append((x if seen.seeing is None else x * seen.seeing[..., None]).flatten(1, 2))
            at += size
        return outs[0] if len(outs) == 1 else torch.cat(outs, dim=1)

    def commit(self, blocks: Sequence[Block]) -> None:
        """Keep what was written last at the blocks' next positions."""
        for b in blocks:
            self.length[b.first : b.first + b.streams] += b.n

    def swap(self, a: Sequence[int], b: Sequence[int]) -> None:
        """Exchange streams: what each of ``a`` held is then in its partner of ``b``."""
        there, back = [*a, *b], [*b, *a]
        self._store[:, :, there] = self._store[:, :, back]
        for each in (self.length, *self.columns.values()):
            each[there] = each[back]
