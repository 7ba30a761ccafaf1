"""A mask's pairs as tiles: blocks of queries, each with just the keys that it sees, small ones alike in one batch.

Letters: a tile has n queries and m keys; a batch has B tiles padded to one n and m; T of anything is never
squared. All of it is numpy over slices, so that planning a batch costs little beside one layer's attention.
"""

from dataclasses import dataclass

import numpy as np
from transfuse.masks import Slices
from transfuse.masks.normal_form.bands import expand

from transfuse_tiles.cuts import Cuts, Seen, blocks, pieces, seen

Ints = np.ndarray

BLOCK = 80
"""Queries a tile aims at: on CPUs smaller ones multiply slower, larger ones compute pairs nobody sees."""
SMALL = 64 * 64
"""Tiles of at most this many pairs are batched with others of their padded shape."""
BATCH = 2**16
"""Pairs that one batch of small tiles may have, so that its scores stay in a core's cache."""


@dataclass(frozen=True, eq=False)
class Singles:
    """Tiles that run alone, nothing padded: n consecutive queries from `query` on, m keys. One value a tile."""

    n: Ints
    m: Ints
    query: Ints
    key: Ints
    """The first key, if the tile's keys are consecutive; else −1."""
    keys_at: Ints
    """Where in `keys` its keys begin, if they are not consecutive."""
    keys: Ints
    p0: Ints
    p1: Ints
    """Outside the columns [p0, p1) all rows see all keys."""
    bias_at: Ints
    """Where in `bias` the tile's [n, p1 − p0] begin."""
    bias: Ints
    """float32: 0 where the row sees the key, else −∞."""


@dataclass(frozen=True, eq=False)
class Batch:
    """B tiles of n queries and m keys. Rows and columns beyond a tile's own repeat one of its own."""

    B: int
    n: int
    m: int
    query: int
    """The first query, if the rows of all tiles in turn are consecutive queries; else −1."""
    key: int
    """The first key, if the columns of all tiles in turn are consecutive keys; else −1."""
    queries: Ints | None
    """Query of each row [B, n]; None if consecutive."""
    keys: Ints | None
    """Key of each column [B, m]; None if consecutive."""
    real_rows: Ints | None
    """bool [B, n]: rows that are the tile's own; None if all are."""
    real_columns: Ints | None
    """bool [B, m]: columns that are the tile's own; None if all are."""
    partial: tuple[int, int]
    """Outside these columns all rows see all keys."""
    bias: Ints | None
    """float32 [B or 1, n, partial]: 0 where the row sees the key, else −∞. None if all rows see all keys."""


@dataclass(frozen=True, eq=False)
class Tiling:
    """All tiles of a mask; each query that sees a key is in exactly one."""

    singles: Singles
    batches: list[Batch]
    gathered: list[Batch]
    """Of tiles whose queries are their keys, ``queries`` of B and n, the bias of all columns."""


def tiling(
    slices: Slices, block: int = BLOCK, small: int = SMALL, whole: bool = False, own: bool = False
) -> Tiling:
    """The tiles of a mask, large ones alone and small ones in batches.

    With `whole`, queries that all see the same keys stay one tile whatever their number: right where the
    scores are never written out. `own`: the queries are the keys, so that documents may be gathered.
    """
    if not len(slices):
        nothing = np.zeros(0, np.int64)
        return Tiling(Singles(*[nothing] * 9, bias=nothing.astype(np.float32)), [], [])
    cuts = pieces(slices, *blocks(slices, block, whole))
    keys = seen(cuts, slices.keys)
    n, m = cuts.end - cuts.start, keys.count
    alone = _see_themselves(cuts, keys) & (n <= 2 * block) & own
    large = (n * m > small) & ~alone
    batches, gathered = (
        [_batch(cuts, keys, which, own) for which in _alike(n, m, np.flatnonzero(some), slices.keys)]
        for own, some in ((False, ~large & ~alone), (True, alone))
    )
    return Tiling(_singles(cuts, keys, np.flatnonzero(large)), batches, gathered)


def _see_themselves(cuts: Cuts, keys: Seen) -> Ints:
    """bool: the tiles whose keys are their queries."""
    found = np.zeros(len(cuts.start), bool)
    tile = keys.range_tile
    found[tile[(keys.start == cuts.start[tile]) & (keys.end == cuts.end[tile])]] = True
    return found & (keys.count == cuts.end - cuts.start)


def _alike(n: Ints, m: Ints, some: Ints, keys: int) -> list[Ints]:
    """Some tiles by their padded shape, as many together as a batch may have."""
    shape = _padded(n[some], 4) * (2 * keys + 64) + _padded(m[some], 16)
    order = np.argsort(shape, kind="stable")
    edges = np.flatnonzero(shape[order][1:] != shape[order][:-1]) + 1
    found = []
    for alike in np.split(some[order], edges) if len(some) else []:
        many = max(int(BATCH // (n * m)[alike].max()), 1)
        found += [alike[i : i + many] for i in range(0, len(alike), many)]
    return found


def _padded(size: Ints, least: int) -> Ints:
    """Sizes rounded up to a multiple of a quarter of their power of two, and of `least`; 1 stays 1."""
    power = 2 ** np.floor(np.log2(np.maximum(size, 1))).astype(np.int64)
    step = np.maximum(power // 4, least)
    return np.where(size == 1, 1, -(-size // step) * step)


def _singles(cuts: Cuts, keys: Seen, which: Ints) -> Singles:
    """These tiles as they are; each bias is painted piece by piece."""
    n, m = (cuts.end - cuts.start)[which], keys.count[which]
    r0, r1 = np.searchsorted(keys.range_tile, [which, which + 1])
    torn = r1 - r0 > 1
    _, part = expand(r0[torn], r1[torn])
    _, flat = expand(keys.start[part], keys.end[part])
    taken = m * torn
    p0, p1 = keys.partial0[which], keys.partial1[which]
    size = n * (p1 - p0)
    ends = np.cumsum(size)
    bias = np.full(int(ends[-1]) if len(ends) else 0, -np.inf, np.float32)
    _paint(bias, cuts, keys, which[size > 0], (ends - size)[size > 0])
    return Singles(
        n,
        m,
        cuts.start[which],
        np.where(torn, -1, keys.start[r0]),
        np.cumsum(taken) - taken,
        flat,
        p0,
        p1,
        ends - size,
        bias,
    )


LOWER = np.tri(2 * BLOCK, k=-1, dtype=bool)
"""Row i has columns j < i: what a bound that steps by one uncovers."""


def _paint(bias: Ints, cuts: Cuts, keys: Seen, which: Ints, at: Ints) -> None:
    """Write 0 where the pieces of these tiles let rows see columns of [n, p1 − p0] from `at` on in the bias."""
    owner, piece = expand(*np.searchsorted(cuts.piece_tile, [which, which + 1]))
    tile = which[owner]
    move = keys.shift[piece] - keys.partial0[tile]
    facts = (
        at[owner],
        (cuts.end - cuts.start)[tile],
        (keys.partial1 - keys.partial0)[tile],
        cuts.row0[piece],
        cuts.row1[piece],
        cuts.lo[piece] + move,
        cuts.hi[piece] + move,
        cuts.slope_lo[piece],
        cuts.slope_hi[piece],
    )
    for begin, n, wide, row0, row1, lo, hi, slope_lo, slope_hi in np.stack(facts, 1).tolist():
        rows = bias[begin : begin + n * wide].reshape(n, wide)[row0:row1]
        last, left = row1 - row0 - 1, max(lo, 0)
        if not slope_lo and hi >= left and last < len(LOWER):
            rows[:, left:hi] = 0
            if slope_hi:
                part = rows[:, hi : hi + last]
                np.copyto(part, 0, where=LOWER[: last + 1, : part.shape[1]])
            continue
        part = rows[:, left : max(hi + slope_hi * last, 0)]
        step = np.arange(last + 1)[:, None]
        column = np.arange(left, left + part.shape[1])
        sees = column < hi + slope_hi * step
        if slope_lo:
            sees &= column >= lo + step
        np.copyto(part, 0, where=sees)


def _batch(cuts: Cuts, keys: Seen, which: Ints, own: bool) -> Batch:
    """These tiles padded to one shape; padded columns are seen by no row of a tile's own.

    own: their queries are their keys, and the bias is of all columns.
    """
    B = len(which)
    own_n, own_m = (cuts.end - cuts.start)[which], keys.count[which]
    n, m = int(own_n.max()), int(own_m.max())
    row, column = np.arange(n), np.arange(m)
    real_rows = None if (own_n == n).all() else row < own_n[:, None]
    real_columns = None if (own_m == m).all() else column < own_m[:, None]
    queries = cuts.start[which, None] + np.minimum(row, own_n[:, None] - 1)
    slot = np.full(len(cuts.start), -1)
    slot[which] = np.arange(B)
    ranges = np.flatnonzero(slot[keys.range_tile] >= 0)
    key_of = keys.start[ranges[np.searchsorted(keys.range_tile[ranges], which)], None] + column
    if real_columns is not None or len(ranges) > B:
        owner, key = expand(keys.start[ranges], keys.end[ranges])
        owner = ranges[owner]
        key_of = np.repeat(key_of[:, :1], m, 1)
        key_of[slot[keys.range_tile[owner]], key - keys.start[owner] + keys.offset[owner]] = key
    query, key = (
        int(index[0, 0]) if real is None and (np.diff(index.reshape(-1)) == 1).all() else -1
        for index, real in ((queries, real_rows), (key_of, real_columns))
    )
    partial = keys.partial0[which] < keys.partial1[which]
    p0 = int(np.where(partial, keys.partial0[which], m).min())
    p1 = int(np.where(partial, keys.partial1[which], 0).max())
    if real_columns is not None:
        p0, p1 = min(p0, int(own_m.min())), m
    if own and p0 < p1:
        p0, p1 = 0, m
    bias = None
    if p0 < p1:
        sees = np.zeros((B, n, p1 - p0), bool)
        inside = np.flatnonzero(slot[cuts.piece_tile] >= 0)
        _mark(sees, cuts, inside, slot[cuts.piece_tile[inside]], keys.shift[inside] - p0)
        if real_rows is not None:
            sees[~real_rows] = True  # nobody reads these rows; seeing all, they stay finite
        if B > 1 and (sees == sees[:1]).all():
            sees = sees[:1]
        bias = np.where(sees, np.float32(0), np.float32(-np.inf))
    return Batch(
        B,
        n,
        m,
        query,
        key,
        queries if query < 0 else None,
        key_of if key < 0 else None,
        real_rows,
        real_columns,
        (p0, p1) if p0 < p1 else (0, 0),
        bias,
    )


def _mark(sees: Ints, cuts: Cuts, pieces: Ints, slot: Ints, shift: Ints) -> None:
    """Set what pieces let rows see in a batch's [B, n, columns]: each row's intervals, first ones first."""
    owner, row = expand(cuts.row0[pieces], cuts.row1[pieces])
    piece = pieces[owner]
    ahead = row - cuts.row0[piece]
    lo = cuts.lo[piece] + cuts.slope_lo[piece] * ahead + shift[owner]
    hi = cuts.hi[piece] + cuts.slope_hi[piece] * ahead + shift[owner]
    place = slot[owner] * sees.shape[1] + row
    order = np.argsort(place, kind="stable")
    place, lo, hi = place[order], lo[order], hi[order]
    flat = sees.reshape(-1, sees.shape[2])
    column = np.arange(sees.shape[2])
    new = np.flatnonzero(np.concatenate([[True], place[1:] != place[:-1]]))
    nth = np.arange(len(place)) - np.repeat(new, np.diff(np.concatenate([new, [len(place)]])))
    for turn in range(int(nth.max()) + 1):
        now = nth == turn
        flat[place[now]] |= (column >= lo[now, None]) & (column < hi[now, None])
