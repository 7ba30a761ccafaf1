"""Tiles as three tensors, which is all that a custom operator can take: made once a batch, shared by all layers."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transfuse.attention.backend import Request

from transfuse_tiles.entry import CHUNK, Entry
from transfuse_tiles.gathered import lists as gathered_lists
from transfuse_tiles.tiling import Batch, Singles, Tiling

KEPT = 64
"""Chunks of weights that one layer may keep between forward and backward; the rest is computed again."""


@dataclass(frozen=True, eq=False)
class TilesPlan:
    """Tiles to run one by one, and batches of small ones.

    `table` int64 [batches, fields of `Entry`] on the CPU holds shapes and offsets into `index` (int64) and
    `bias` (float32), which live on the request's device. `kept` is how many weights are kept, in chunks. `rows` is
    how many rows the gathered block has, where it holds all positions and is kept for the backward pass; else 0.
    """

    table: Tensor
    index: Tensor
    bias: Tensor
    kept: int
    rows: int


def lower(tiles: Tiling, request: Request, keep: int = KEPT) -> TilesPlan:
    """Tiles as a plan that keeps at most `keep` chunks of weights a layer."""
    space = _Space(CHUNK // request.heads, keep if request.requires_grad else 0)
    lists, biases = _Lists(np.int64), _Lists(np.float32)
    lists.put(*gathered_lists(tiles.gathered, request.heads, request.kv_heads))
    rows = np.cumsum([0, *(batch.B * batch.n for batch in tiles.gathered)]).tolist()
    gathered = [
        _gathered(batch, row, biases, space) for batch, row in zip(tiles.gathered, rows, strict=False)
    ]
    alone = _entries(tiles.singles, lists, biases, space)
    batched = [_entry(batch, lists, biases, space, request.requires_grad) for batch in tiles.batches]
    parts = [np.array(part, np.int64).reshape(-1, len(Entry._fields)) for part in (gathered, alone, batched)]
    index, bias = (torch.from_numpy(part.joined()).to(request.device) for part in (lists, biases))
    kept = (space.used - 1) * CHUNK + space.at * request.heads if space.used else 0
    whole = request.requires_grad and sum(entry.own for entry in gathered) == request.queries
    return TilesPlan(torch.from_numpy(np.concatenate(parts)), index, bias, kept, rows[-1] if whole else 0)


class _Lists:
    """Arrays one after the other, each known by its offset."""

    def __init__(self, dtype: type) -> None:
        self.dtype, self.parts, self.size = dtype, [], 0

    def put(self, *arrays: np.ndarray | list[int]) -> int:
        at = self.size
        for array in arrays:
            self.parts.append(np.asarray(array, self.dtype).reshape(-1))
            self.size += self.parts[-1].size
        return at

    def joined(self) -> np.ndarray:
        return (
            self.parts[0] if len(self.parts) == 1 else np.concatenate([*self.parts, np.zeros(0, self.dtype)])
        )


class _Space:
    """Hands out room for weights, chunk after chunk."""

    def __init__(self, room: int, chunks: int) -> None:
        self.room, self.chunks = room, chunks
        self.used, self.at = 0, room

    def place(self, size: int) -> tuple[int, int]:
        """Chunk and offset for `size` weights a head; (−1, 0) if there is no room."""
        if size > self.room or (self.at + size > self.room and self.used == self.chunks):
            return -1, 0
        if self.at + size > self.room:
            self.used, self.at = self.used + 1, 0
        self.at += size
        return self.used - 1, self.at - size


def _entries(tiles: Singles, lists: _Lists, biases: _Lists, space: _Space) -> np.ndarray:
    """The rows of the table for tiles that run alone."""
    at, bias = lists.put(tiles.keys), biases.put(tiles.bias)
    table = np.full((len(tiles.n), len(Entry._fields)), -1, np.int64)
    facts = {
        "B": 1,
        "n": tiles.n,
        "m": tiles.m,
        "query": tiles.query,
        "key": tiles.key,
        "keys": np.where(tiles.key < 0, tiles.keys_at + at, -1),
        "own": tiles.n,
        "p0": tiles.p0,
        "p1": tiles.p1,
        "bias": np.where(tiles.p0 < tiles.p1, tiles.bias_at + bias, -1),
        "shared": 1,
        "gathered": 0,
    }
    for name, values in facts.items():
        table[:, Entry._fields.index(name)] = values
    table[:, -2:] = np.array([space.place(size) for size in (tiles.n * tiles.m).tolist()]).reshape(-1, 2)
    return table


def _gathered(batch: Batch, row: int, biases: _Lists, space: _Space) -> Entry:
    """The row of the table for documents whose rows begin at ``row`` of the gathered block."""
    B, n = batch.B, batch.n
    own = B * n if batch.real_rows is None else int(batch.real_rows.sum())
    shared = batch.bias is not None and len(batch.bias) == 1
    bias = -1 if batch.bias is None else biases.put(batch.bias)
    return Entry(
        B, n, n, row, -1, -1, -1, own, -1, -1, 0, n, bias, int(shared), 1, *space.place(B * n * n)
    )  # fmt: skip


def _entry(batch: Batch, lists: _Lists, biases: _Lists, space: _Space, gradients: bool) -> Entry:
    """The row of the table for a batch of small tiles."""
    own, real = batch.B * batch.n, -1
    if batch.real_rows is not None and batch.queries is not None:
        places = np.flatnonzero(batch.real_rows)
        own, real = len(places), lists.put(places, batch.queries.reshape(-1)[places])
    scattered = batch.keys is not None and batch.B > 1
    return Entry(
        batch.B,
        batch.n,
        batch.m,
        batch.query,
        batch.key,
        -1 if batch.queries is None else lists.put(batch.queries),
        -1 if batch.keys is None else lists.put(batch.keys),
        own,
        real,
        _rounds(batch, lists) if scattered and gradients else -1,
        *batch.partial,
        -1 if batch.bias is None else biases.put(batch.bias),
        int(batch.bias is not None and len(batch.bias) == 1),
        0,
        *space.place(batch.B * batch.n * batch.m),
    )


def _rounds(batch: Batch, lists: _Lists) -> int:
    """Key gradients of a batch are added in rounds in which no key comes twice."""
    assert batch.keys is not None
    flat = batch.keys.reshape(-1)
    places = np.arange(len(flat)) if batch.real_columns is None else np.flatnonzero(batch.real_columns)
    order = places[np.argsort(flat[places], kind="stable")]
    key = flat[order]
    new = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    nth = np.arange(len(key)) - np.repeat(new, np.diff(np.concatenate([new, [len(key)]])))
    count = int(nth.max()) + 1
    parts: list[np.ndarray | list[int]] = [[count]]
    for turn in range(count):
        now = nth == turn
        parts += [[int(now.sum())], order[now], key[now]]
    return lists.put(*parts)
