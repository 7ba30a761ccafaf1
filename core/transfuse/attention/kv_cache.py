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
    seeing: Bool[Tensor, "S n 1"] | None


@dataclass(frozen=True, eq=False)
class CachePlan:
    """Where T positions of some blocks go, in their order, and what each block sees; shared by all layers."""

    slots: Int[Tensor, " 2*G*T"]
    seen: tuple[_Seen, ...]


class KVCache:
    """K and V of all layers, [streams, G, capacity, d] each, written in place, no gradients.

    The first ``length[s]`` slots of stream s are committed. ``columns``: those that the mask reads of keys.
    """

    def __init__(
        self,
        mask: Mask,
        layers: int,
        kv_heads: int,
        head_dim: int,
        streams: int,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.mask, self._of_queries, self._of_keys = mask, mask.query_columns, mask.key_columns
        self.capacity, wide = capacity, _padded(capacity)
        # A masked value is multiplied by 0, so what was never written has to be a number.
        self._store = torch.zeros(layers, 2, streams, kv_heads, wide, head_dim, dtype=dtype, device=device)
        self._rows = [layer.view(-1, head_dim) for layer in self._store]
        self._offset = (
            np.arange(2)[:, None] * streams * kv_heads + np.arange(kv_heads)
        ) * wide  # of K, V and head
        self._views: dict[tuple[int, int, int], list[tuple[Tensor, Tensor]]] = {}
        self.length: Int[np.ndarray, " streams"] = np.zeros(streams, np.int64)
        self.columns = {name: np.zeros((streams, wide), np.int64) for name in self._of_keys}

    def slots(self, streams: np.ndarray, places: np.ndarray) -> Int[Tensor, " 2*G*T"]:
        """Where T positions are written, each of a stream at a place; `write` takes them in this order."""
        G, wide = self._store.shape[3:5]
        slots = self._offset[..., None] + streams * (G * wide) + places
        return torch.from_numpy(slots.ravel()).to(self._store.device)

    def write(
        self, layer: int, slots: Int[Tensor, " 2*G*T"], k: Float[Tensor, "G T d"], v: Float[Tensor, "G T d"]
    ) -> None:
        """Put keys and values into the slots of one layer, over whatever was there."""
        self._rows[layer].index_copy_(0, slots, torch.stack((k, v)).view(-1, k.shape[2]))

    def label(self, streams: np.ndarray, places: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
        """Say what lies at places of streams: one value each for every column that the mask reads of keys."""
        for name, kept in self.columns.items():
            kept[streams, places] = self._own(name, places, columns)

    def _own(self, name: str, places: np.ndarray, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """A column of positions; a stream is one document, and counts its own positions."""
        if name == "doc":
            return np.zeros_like(places)
        return places if name == "idx" else columns[name].reshape(places.shape)

    def plan(self, blocks: Sequence[Block], columns: Mapping[str, np.ndarray]) -> CachePlan:
        """The next positions of some blocks of streams, which are labelled with their columns ``[T]``.

        ``doc`` and ``idx`` are the cache's own. Raises TransfuseError naming a stream that has no room left.
        """
        streams, places, seen, at = [], [], [], 0
        for b in blocks:
            rows = slice(b.first, b.first + b.streams)
            length = self.length[rows, None]
            longest = int(length.max())
            if longest + b.n > self.capacity:
                raise TransfuseError(
                    f"cache: stream {b.first + int(length.argmax())} holds {longest} of {self.capacity} positions and "
                    f"has no room for {b.n} more; make the cache with a larger capacity"
                )
            place = length + np.arange(b.n)
            stream = np.arange(b.first, b.first + b.streams)[:, None]
            here = slice(at, at := at + place.size)
            own = {name: values[here] for name, values in columns.items()}
            self.label(stream, place, own)
            # The rule is evaluated with streams as the last axis: [n, 1, S] against [keys, S].
            keys = _padded(longest + b.n)
            q = {name: self._own(name, place, own).T for name in self._of_queries}
            k = {name: self.columns[name][rows, :keys].T for name in self._of_keys}
            written = np.arange(keys)[:, None] < length[:, 0] + b.n
            allowed = evaluate(self.mask.expression, q, k) & written[None]
            seen.append(self._seen(b, keys, allowed.transpose(2, 0, 1)))
            streams.append(np.broadcast_to(stream, place.shape).ravel())
            places.append(place.ravel())
        return CachePlan(self.slots(np.concatenate(streams), np.concatenate(places)), tuple(seen))

    def _seen(self, block: Block, keys: int, allowed: Bool[np.ndarray, "S n keys"]) -> _Seen:
        if allowed.all():
            return _Seen(block, keys, None, None)
        if allowed.shape[1] > 1 and (allowed == allowed[:, :1]).all():
            allowed = allowed[:, :1]
        some = allowed.any(axis=2, keepdims=True)
        bias = np.where(allowed | ~some, np.float32(0), np.float32(-np.inf))[:, None]
        tensor, device = torch.from_numpy(bias).to(self._store), self._store.device
        return _Seen(block, keys, tensor, None if some.all() else torch.from_numpy(some).to(device))

    def attend(
        self, layer: int, plan: CachePlan, q: Float[Tensor, "H T d"], k: Tensor, v: Tensor
    ) -> Float[Tensor, "H T d"]:
        """Write k and v [G, T, d], then softmax(q kᵀ / √d) v over what each query sees; 0 where that is nothing."""
        self.write(layer, plan.slots, k, v)
        H, G, width, at, outs = len(q), len(k), q.shape[2], 0, []
        for seen in plan.seen:
            S, n, bias = seen.block.streams, seen.block.n, seen.bias
            keys, values = self._held(seen.block.first, S, seen.keys)[layer]
            # Queries that share a key-value head are further queries of it.
            x = q.narrow(1, at, S * n).reshape(G, H // G, S, n, width).permute(2, 0, 1, 3, 4)
            if bias is not None and bias.shape[2] > 1:
                bias = bias.repeat(1, 1, H // G, 1)
            x = F.scaled_dot_product_attention(x.reshape(S, G, H // G * n, width), keys, values, bias)
            x = x.view(S, G, H // G, n, width).permute(1, 2, 0, 3, 4)
            x = x if seen.seeing is None else x * seen.seeing
            outs.append(x.reshape(H, S * n, width))
            at += S * n
        return outs[0] if len(outs) == 1 else torch.cat(outs, dim=1)

    def _held(self, first: int, streams: int, keys: int) -> list[tuple[Tensor, Tensor]]:
        """Views of what some streams hold in each layer."""
        which = first, streams, keys
        if which not in self._views:
            held = self._store[:, :, first : first + streams, :, :keys]
            self._views[which] = [(layer[0], layer[1]) for layer in held]
        return self._views[which]

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


def _padded(keys: int) -> int:
    """Keys are taken by whole vectors: so what a query sees is added up alike, however much more others hold."""
    return -(-keys // 16) * 16
