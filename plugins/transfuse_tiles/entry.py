"""A batch of tiles as numbers: a row of the plan's table, and where its weights are kept.

Letters: H query heads, Hk key heads, T positions; a batch has B tiles of n queries and m keys; `groups` = H / Hk.
"""

from typing import NamedTuple

import torch
from torch import Tensor

CHUNK = 2**20
"""Weights are kept in chunks of this many. Larger blocks of memory come fresh from the system at every step,
and touching their pages for the first time costs as much as computing what lies in them."""


class Entry(NamedTuple):
    """One batch of tiles: a row of the plan's table. An offset of −1 says that there is no such list."""

    B: int
    n: int
    m: int
    query: int
    key: int
    """First query and key, where the batch's are consecutive, else −1."""
    queries: int
    """Offset of the queries of all rows [B·n]; −1 if consecutive."""
    keys: int
    """Offset of the keys of all columns [B·m]; −1 if consecutive."""
    own: int
    """How many rows are not padding."""
    real: int
    """Offset of the rows that are not padding: their places in [B·n], then their queries; −1 if all are."""
    rounds: int
    """Offset of the scatter of key gradients: the number of rounds, then of each count, places, keys. −1 if
    the keys are consecutive or one tile's, which comes to no key twice."""
    p0: int
    p1: int
    bias: int
    """Offset of the bias [shared ? 1 : B, n, p1 − p0]."""
    shared: int
    gathered: int
    """1 for documents that see only themselves: their queries, which are also their keys, lie in the gathered block
    from row ``query`` on (`transfuse_tiles.gathered`). Else 0."""
    chunk: int
    """In which chunk the weights are kept, or −1; and from where, times the number of heads."""
    at: int


def entries(table: Tensor) -> list[Entry]:
    return [Entry._make(row) for row in table.tolist()]


def chunks(q: Tensor, kept: int) -> list[Tensor]:
    """Room for ``kept`` weights of one layer, in chunks of which the last is no larger than it has to be."""
    wide = torch.promote_types(q.dtype, torch.float32)
    return [q.new_empty(min(CHUNK, kept - at), dtype=wide) for at in range(0, kept, CHUNK)]


def room(weights: list[Tensor], entry: Entry, heads: int, groups: int) -> Tensor:
    """Where a batch's weights are kept, as [Hk·B, groups·n, m]."""
    shape = (heads * entry.B // groups, groups * entry.n, entry.m)
    return weights[entry.chunk].as_strided(shape, (shape[1] * shape[2], shape[2], 1), heads * entry.at)


def answer(x: Tensor) -> Tensor:
    """Room for [H, T, d], in which a position's heads lie side by side, as the layers around attention have them."""
    return x.new_empty(x.shape[1], x.shape[0], x.shape[2]).transpose(0, 1)
