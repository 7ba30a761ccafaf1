"""Cuts a mask's slices into tiles: blocks of queries with the keys they see, small ones alike in one batch.

Letters: a tile has n queries and m keys; a batch has B tiles padded to one n and m; T of anything is never
squared. All of it is numpy over slices, so that planning a batch costs little beside one layer's attention.
"""

from dataclasses import dataclass

import numpy as np

from transfuse.masks import Slices
from transfuse.masks.bands import expand

Ints = np.ndarray

BLOCK = 80
"""Queries a tile aims at: on CPUs smaller ones multiply slower, larger ones compute pairs nobody sees."""
SMALL = 64 * 64
"""Tiles of at most this many pairs are batched with others of their padded shape."""
BATCH = 2**16
"""Pairs that one batch of small tiles may have, so that its scores stay in a core's cache."""
MANY = 2**32
"""Weight that keeps two depths apart in one running sum."""


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
class _Tiles:
    """All tiles: their queries [start, end), and the pieces of slices in them, in order of tile."""

    start: Ints
    end: Ints
    piece_tile: Ints
    row0: Ints
    row1: Ints
    lo: Ints
    hi: Ints
    slope_lo: Ints
    slope_hi: Ints


@dataclass(frozen=True, eq=False)
class _Keys:
    """What tiles see, as ranges of keys in order of tile."""

    range_tile: Ints
    start: Ints
    end: Ints
    offset: Ints
    """Where a range begins among its tile's keys."""
    count: Ints
    """Keys a tile."""
    partial0: Ints
    partial1: Ints
    """The hull of a tile's keys that some of its rows do not see, counted among its keys."""
    shift: Ints
    """What to add to a piece's keys to count among its tile's keys."""


def tiling(slices: Slices, block: int = BLOCK, small: int = SMALL, whole: bool = False) -> list[Batch]:
    """The tiles of a mask in batches; each query that sees a key is in exactly one tile.

    With `whole`, queries that all see the same keys stay one tile whatever their number: right where the
    scores are never written out.
    """
    if not len(slices):
        return []
    tiles = _pieces(slices, *_blocks(slices, block, whole))
    keys = _seen(tiles, slices.keys)
    n, m = tiles.end - tiles.start, keys.count
    large = n * m > small
    found = _large(tiles, keys, np.flatnonzero(large))
    some = np.flatnonzero(~large)
    if len(some):
        shape = _padded(n[some], 4) * (2 * slices.keys + 64) + _padded(m[some], 16)
        order = np.argsort(shape, kind="stable")
        edges = np.flatnonzero(shape[order][1:] != shape[order][:-1]) + 1
        for alike in np.split(some[order], edges):
            many = max(int(BATCH // (n * m)[alike].max()), 1)
            found += [_small(tiles, keys, alike[i : i + many]) for i in range(0, len(alike), many)]
    return found


def _place(tile: Ints, key: Ints, keys: int) -> Ints:
    return tile * (keys + 1) + key


def _padded(size: Ints, least: int) -> Ints:
    """Sizes rounded up to a multiple of a quarter of their power of two, and of `least`; 1 stays 1."""
    power = 2 ** np.floor(np.log2(np.maximum(size, 1))).astype(np.int64)
    step = np.maximum(power // 4, least)
    return np.where(size == 1, 1, -(-size // step) * step)


def _blocks(slices: Slices, block: int, whole: bool) -> tuple[Ints, Ints]:
    """Start and end of each block of queries: cut where the keys seen change altogether, or near `block`."""
    cuts = np.unique(np.concatenate([slices.q0, slices.q1]))
    owner, seg = expand(np.searchsorted(cuts, slices.q0), np.searchsorted(cuts, slices.q1))
    begin = cuts[seg] - slices.q0[owner]
    end = cuts[seg + 1] - 1 - slices.q0[owner]
    order = np.argsort(seg, kind="stable")
    seg = seg[order]
    head = np.flatnonzero(np.concatenate([[True], seg[1:] != seg[:-1]]))
    low = np.minimum.reduceat((slices.lo[owner] + slices.slope_lo[owner] * begin)[order], head)
    high = np.maximum.reduceat((slices.hi[owner] + slices.slope_hi[owner] * end)[order], head)
    seg = seg[head]
    q0, q1 = cuts[seg], cuts[seg + 1]
    apart = (q0[1:] != q1[:-1]) | (high[:-1] <= low[1:]) | (high[1:] <= low[:-1])
    first = np.concatenate([[True], apart])
    start, stop = q0[first], q1[np.concatenate([apart, [True]])]
    size = stop - start
    count = np.maximum((size + block // 2) // block, 1)
    if whole:
        glides = np.maximum.reduceat((slices.slope_lo | slices.slope_hi)[owner][order], head)
        alone = first & np.concatenate([apart, [True]]) & (glides == 0)
        count[alone[first]] = 1
    owner, step = expand(np.ones_like(count), count)
    ideal = start[owner] + size[owner] * step // count[owner]
    if len(ideal):
        right = np.minimum(np.searchsorted(cuts, ideal), len(cuts) - 1)
        left = np.maximum(right - 1, 0)
        near = np.where(cuts[right] - ideal <= ideal - cuts[left], cuts[right], cuts[left])
        ideal = np.where(np.abs(near - ideal) <= block // 3, near, ideal)
    # Ideal places are at least 2/3 block apart and move by at most 1/3, so they stay in order.
    starts = np.unique(np.concatenate([start, ideal]))
    ends = np.unique(np.concatenate([stop, ideal[step > 0]]))
    return starts, ends


def _pieces(slices: Slices, start: Ints, end: Ints) -> _Tiles:
    """Each slice cut at the blocks' edges."""
    owner, tile = expand(np.searchsorted(end, slices.q0, "right"), np.searchsorted(start, slices.q1, "left"))
    order = np.argsort(tile, kind="stable")
    owner, tile = owner[order], tile[order]
    q0 = np.maximum(slices.q0[owner], start[tile])
    q1 = np.minimum(slices.q1[owner], end[tile])
    ahead = q0 - slices.q0[owner]
    slope_lo, slope_hi = slices.slope_lo[owner], slices.slope_hi[owner]
    return _Tiles(
        start,
        end,
        tile,
        q0 - start[tile],
        q1 - start[tile],
        slices.lo[owner] + slope_lo * ahead,
        slices.hi[owner] + slope_hi * ahead,
        slope_lo,
        slope_hi,
    )


def _seen(tiles: _Tiles, keys: int) -> _Keys:
    """Per tile the union of the keys its rows see, and the hull of those that not all its rows see."""
    rows = tiles.row1 - tiles.row0
    last = rows - 1
    inner_lo = tiles.lo + tiles.slope_lo * last  # every row of the piece sees [inner_lo, hi)
    inner = np.flatnonzero(inner_lo < tiles.hi)
    tile = tiles.piece_tile
    code = np.concatenate(
        [
            _place(tile, tiles.lo, keys),
            _place(tile, tiles.hi + tiles.slope_hi * last, keys),
            _place(tile[inner], inner_lo[inner], keys),
            _place(tile[inner], tiles.hi[inner], keys),
        ]
    )
    ones = np.ones(len(tile), np.int64)
    weight = rows[inner] * MANY
    order = np.argsort(code, kind="stable")
    depth = np.cumsum(np.concatenate([ones, -ones, weight, -weight])[order])
    code = code[order]
    kept = np.concatenate([code[1:] != code[:-1], [True]])
    code, depth = code[kept], depth[kept]
    outer, full = depth % MANY > 0, depth // MANY
    edge = np.flatnonzero(outer != np.concatenate([[False], outer[:-1]]))
    opened, closed = code[edge[::2]], code[edge[1::2]]
    range_tile = opened // (keys + 1)
    start, end = opened - range_tile * (keys + 1), closed - range_tile * (keys + 1)
    before = np.cumsum(end - start) - (end - start)
    count_tiles = len(tiles.start)
    bounds = np.searchsorted(range_tile, np.arange(count_tiles + 1))
    total = np.concatenate([before, [before[-1] + end[-1] - start[-1]]])
    base = total[bounds]
    offset = before - base[range_tile]
    # Stretches [code[i], code[i+1]) that some row sees and some row does not.
    at = code // (keys + 1)
    some = np.flatnonzero(outer & (full < (tiles.end - tiles.start)[at]))
    stretch_tile = at[some]
    owner = np.searchsorted(opened, code[some], "right") - 1
    local = offset[owner] - start[owner] - stretch_tile * (keys + 1)
    from_, to = code[some] + local, code[some + 1] + local
    partial0, partial1 = np.zeros(count_tiles, np.int64), np.zeros(count_tiles, np.int64)
    if len(some):
        head = np.flatnonzero(np.concatenate([[True], stretch_tile[1:] != stretch_tile[:-1]]))
        tail = np.concatenate([head[1:], [len(some)]]) - 1
        partial0[stretch_tile[head]], partial1[stretch_tile[head]] = from_[head], to[tail]
    at = np.searchsorted(opened, _place(tile, tiles.lo, keys), "right") - 1
    shift = offset[at] - start[at]
    return _Keys(range_tile, start, end, offset, base[1:] - base[:-1], partial0, partial1, shift)


def _large(tiles: _Tiles, keys: _Keys, which: Ints) -> list[Batch]:
    """A batch for each of these tiles, nothing padded; each bias is painted piece by piece."""
    ranges = np.searchsorted(keys.range_tile, [which, which + 1])
    pieces = np.searchsorted(tiles.piece_tile, [which, which + 1])
    n, width = (tiles.end - tiles.start)[which], (keys.partial1 - keys.partial0)[which]
    ends = np.cumsum(n * width)
    biases = np.full(int(ends[-1]) if len(ends) else 0, -np.inf, np.float32)
    key = keys.start[ranges[0]]
    facts = (
        n,
        keys.count[which],
        tiles.start[which],
        key,
        keys.partial0[which],
        width,
        ends,
        *ranges,
        *pieces,
    )
    corners = np.stack([tiles.row0, tiles.row1, tiles.lo, tiles.hi, tiles.slope_lo, tiles.slope_hi], 1)
    corners[:, 2:4] += keys.shift[:, None]
    found = []
    for n, m, start, first, p0, wide, end, r0, r1, a, b in np.stack(facts, 1).tolist():
        bias = seen = None
        if r1 - r0 > 1:
            seen = np.concatenate([np.arange(keys.start[i], keys.end[i]) for i in range(r0, r1)])[None]
            first = -1
        if wide:
            bias = biases[end - n * wide : end].reshape(1, n, wide)
            for piece in corners[a:b].tolist():
                _paint(bias[0], p0, *piece)
        found.append(Batch(1, n, m, start, first, None, seen, None, None, (p0, p0 + wide), bias))
    return found


LOWER = np.tri(2 * BLOCK, k=-1, dtype=bool)
"""Row i has columns j < i: what a bound that steps by one uncovers."""


def _paint(bias: Ints, p0: int, row0: int, row1: int, lo: int, hi: int, slope_lo: int, slope_hi: int) -> None:
    """Write 0 where a piece lets rows see columns of a tile's bias [n, columns from p0 on]."""
    last = row1 - row0 - 1
    left, hi = max(lo - p0, 0), hi - p0
    if not slope_lo and hi >= left and last < len(LOWER):
        bias[row0:row1, left:hi] = 0
        if slope_hi:
            part = bias[row0:row1, hi : hi + last]
            np.copyto(part, 0, where=LOWER[: last + 1, : part.shape[1]])
        return
    part = bias[row0:row1, left : max(hi + slope_hi * last, 0)]
    step = np.arange(last + 1)[:, None]
    column = np.arange(left, left + part.shape[1])
    sees = column < hi + slope_hi * step
    if slope_lo:
        sees &= column >= lo - p0 + step
    np.copyto(part, 0, where=sees)


def _small(tiles: _Tiles, keys: _Keys, which: Ints) -> Batch:
    """These tiles padded to one shape; padded columns are seen by no row of a tile's own."""
    B = len(which)
    own_n, own_m = (tiles.end - tiles.start)[which], keys.count[which]
    n, m = int(own_n.max()), int(own_m.max())
    row, column = np.arange(n), np.arange(m)
    real_rows = None if (own_n == n).all() else row < own_n[:, None]
    real_columns = None if (own_m == m).all() else column < own_m[:, None]
    queries = tiles.start[which, None] + np.minimum(row, own_n[:, None] - 1)
    slot = np.full(len(tiles.start), -1)
    slot[which] = np.arange(B)
    ranges = np.flatnonzero(slot[keys.range_tile] >= 0)
    seen = keys.start[ranges[np.searchsorted(keys.range_tile[ranges], which)], None] + column
    if real_columns is not None or len(ranges) > B:
        owner, key = expand(keys.start[ranges], keys.end[ranges])
        owner = ranges[owner]
        seen = np.repeat(seen[:, :1], m, 1)
        seen[slot[keys.range_tile[owner]], key - keys.start[owner] + keys.offset[owner]] = key
    query, key = (
        int(index[0, 0]) if real is None and (np.diff(index.reshape(-1)) == 1).all() else -1
        for index, real in ((queries, real_rows), (seen, real_columns))
    )
    partial = keys.partial0[which] < keys.partial1[which]
    p0 = int(np.where(partial, keys.partial0[which], m).min())
    p1 = int(np.where(partial, keys.partial1[which], 0).max())
    if real_columns is not None:
        p0, p1 = min(p0, int(own_m.min())), m
    bias = None
    if p0 < p1:
        sees = np.zeros((B, n, p1 - p0), bool)
        pieces = np.flatnonzero(slot[tiles.piece_tile] >= 0)
        _mark(sees, tiles, pieces, slot[tiles.piece_tile[pieces]], keys.shift[pieces] - p0)
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
        seen if key < 0 else None,
        real_rows,
        real_columns,
        (p0, p1) if p0 < p1 else (0, 0),
        bias,
    )


def _mark(sees: Ints, tiles: _Tiles, pieces: Ints, slot: Ints, shift: Ints) -> None:
    """Set what pieces let rows see in a batch's [B, n, columns]: each row's intervals, first ones first."""
    owner, row = expand(tiles.row0[pieces], tiles.row1[pieces])
    piece = pieces[owner]
    ahead = row - tiles.row0[piece]
    lo = tiles.lo[piece] + tiles.slope_lo[piece] * ahead + shift[owner]
    hi = tiles.hi[piece] + tiles.slope_hi[piece] * ahead + shift[owner]
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
