"""Where tiles lie: blocks of queries, the pieces of slices in each, and the keys that each sees.

All of it is numpy over slices, so that it costs time in their number and not in positions.
"""

from dataclasses import dataclass

import numpy as np
from transfuse.masks import Slices
from transfuse.masks.normal_form.bands import expand

Ints = np.ndarray

MANY = 2**32
"""Weight that keeps two depths apart in one running sum."""


@dataclass(frozen=True, eq=False)
class Cuts:
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
class Seen:
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


def blocks(slices: Slices, block: int, whole: bool) -> tuple[Ints, Ints]:
    """Start and end of each block of queries: cut where the keys seen change altogether, or near `block`.

    What lies between two changes and is no longer than two blocks stays whole: it is gathered, if it sees itself.
    """
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
    count = np.where(size > 2 * block, (size + block // 2) // block, 1)
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


def pieces(slices: Slices, start: Ints, end: Ints) -> Cuts:
    """Each slice cut at the blocks' edges."""
    owner, tile = expand(np.searchsorted(end, slices.q0, "right"), np.searchsorted(start, slices.q1, "left"))
    order = np.argsort(tile, kind="stable")
    owner, tile = owner[order], tile[order]
    q0 = np.maximum(slices.q0[owner], start[tile])
    q1 = np.minimum(slices.q1[owner], end[tile])
    ahead = q0 - slices.q0[owner]
    slope_lo, slope_hi = slices.slope_lo[owner], slices.slope_hi[owner]
    return Cuts(
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


def seen(tiles: Cuts, keys: int) -> Seen:
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
    return Seen(range_tile, start, end, offset, base[1:] - base[:-1], partial0, partial1, shift)


def _place(tile: Ints, key: Ints, keys: int) -> Ints:
    """One number for a key of a tile, in order of tile, then key."""
    return tile * (keys + 1) + key
