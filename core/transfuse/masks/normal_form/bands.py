"""Sets of (query, key) pairs as bands: the query axis in segments, each with sorted key intervals that glide.

Within a segment every interval bound is level (slope 0) or steps by one a query (slope 1), and no two
bounds cross; so union, intersection and difference are one sorted sweep over the bounds at the segments'
starts. Everything costs time in the number of segments and intervals, never in pairs of positions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Ints = np.ndarray


@dataclass(frozen=True, eq=False)
class Bands:
    """Segment s is the queries [cuts[s], cuts[s+1]); interval n lies in segment `seg[n]`, its bounds at the
    segment's first query are [lo, hi) and step by `slope_lo`, `slope_hi` (0 or 1) per query.

    Intervals are sorted by (seg, lo), disjoint, within [0, keys), and nowhere lo > hi; one may be empty at a
    segment's first query (it opens there) or last (it closes there).
    """

    cuts: Ints
    seg: Ints
    lo: Ints
    hi: Ints
    slope_lo: Ints
    slope_hi: Ints
    keys: int

    @property
    def steps(self) -> Ints:
        """Per segment: queries less one, so that a bound at the last query is lo + slope·steps."""
        return self.cuts[1:] - self.cuts[:-1] - 1

    def take(self, which: Ints) -> "Bands":
        """Only the intervals named by a boolean or sorted index array."""
        seg, lo, hi = self.seg[which], self.lo[which], self.hi[which]
        return Bands(self.cuts, seg, lo, hi, self.slope_lo[which], self.slope_hi[which], self.keys)


def everything(queries: int, keys: int) -> Bands:
    """All pairs: one segment, one interval."""
    some = int(queries > 0 and keys > 0)
    zero = np.zeros(some, np.int64)
    return Bands(np.array([0, queries]), zero, zero, zero + keys, zero, zero, keys)


def refine(bands: Bands, cuts: Ints) -> Bands:
    """The same pairs with segments also cut before the queries `cuts` (in any order, repeats allowed)."""
    if not len(cuts):
        return bands
    merged = np.concatenate([bands.cuts, cuts])
    merged.sort()
    merged = merged[np.concatenate([[True], merged[1:] != merged[:-1]])]
    if len(merged) == len(bands.cuts):
        return bands
    first = np.searchsorted(merged, bands.cuts)  # new index of each old cut
    owner, offset = expand(first[bands.seg], first[bands.seg + 1])
    shift = merged[offset] - bands.cuts[bands.seg[owner]]
    lo = bands.lo[owner] + bands.slope_lo[owner] * shift
    hi = bands.hi[owner] + bands.slope_hi[owner] * shift
    order = np.argsort(offset, kind="stable")  # owners rise within a segment, so lo does
    slopes = bands.slope_lo[owner[order]], bands.slope_hi[owner[order]]
    return Bands(merged, offset[order], lo[order], hi[order], *slopes, bands.keys)


def expand(start: Ints, end: Ints) -> tuple[Ints, Ints]:
    """All (i, j) with start[i] ≤ j < end[i], as two flat arrays in order of i, then j."""
    count = np.maximum(end - start, 0)
    owner = np.repeat(np.arange(len(count)), count)
    before = np.cumsum(count) - count
    return owner, np.arange(len(owner)) + (start - before)[owner]


def union(a: Bands, b: Bands) -> Bands:
    """Pairs in a or b."""
    if not len(a.seg):
        return b
    if not len(b.seg):
        return a
    return _sweep(a, b, 1, lambda depth: depth > 0)


def intersection(a: Bands, b: Bands) -> Bands:
    """Pairs in a and b."""
    if not len(a.seg) or not len(b.seg):
        return a.take(np.zeros(0, np.int64))
    return _sweep(a, b, 1, lambda depth: depth == 2)


def difference(a: Bands, b: Bands) -> Bands:
    """Pairs in a, not in b."""
    if not len(a.seg) or not len(b.seg):
        return a
    return _sweep(a, b, 2, lambda depth: depth == 1)


def _sweep(a: Bands, b: Bands, weight: int, inside: Callable[[Ints], Ints]) -> Bands:
    """Pairs where `inside(depth)` holds; depth counts 1 where a covers and `weight` where b covers."""
    if a.cuts is not b.cuts:
        a, b = refine(a, b.cuts), refine(b, a.cuts)
    crossing = _crossings(a, b)
    if len(crossing):
        a, b = refine(a, crossing), refine(b, crossing)
    span = a.keys + 1
    code = np.concatenate(
        [
            ((part.seg * span + value) << 1) + slope
            for part in (a, b)
            for value, slope in ((part.lo, part.slope_lo), (part.hi, part.slope_hi))
        ]
    )
    sizes = [len(a.seg)] * 2 + [len(b.seg)] * 2
    step = np.repeat(np.array([1, -1, weight, -weight]), sizes)
    order = np.argsort(code, kind="stable")
    code, depth = code[order], np.cumsum(step[order])
    last = np.concatenate([code[1:] != code[:-1], [True]])  # the depth after all bounds at one place
    code, within = code[last], inside(depth[last])
    changed = np.concatenate([within[:1], within[1:] != within[:-1]])
    bounds = code[changed]
    start, end = bounds[::2], bounds[1::2]
    seg, lo = np.divmod(start >> 1, span)
    return Bands(a.cuts, seg, lo, (end >> 1) - seg * span, start & 1, end & 1, a.keys)


def _crossings(a: Bands, b: Bands) -> Ints:
    """The queries at which a gliding bound of one meets a level bound of the other, with queries after it."""
    found = []
    for one, other in ((a, b), (b, a)):
        glide_seg, glide = _bounds(one, 1)
        if not len(glide):
            continue
        level_seg, level = _bounds(other, 0)
        # A glide passes, strictly, the levels in (glide, glide + steps); it passes none in a segment of two.
        span = a.keys + 1
        places = level_seg * span + level
        places.sort()
        top = np.minimum(glide + one.steps[glide_seg], span)
        which, at = expand(
            np.searchsorted(places, glide_seg * span + glide, "right"),
            np.searchsorted(places, glide_seg * span + top, "left"),
        )
        found.append(one.cuts[glide_seg[which]] + places[at] - glide_seg[which] * span - glide[which])
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _bounds(bands: Bands, slope: int) -> tuple[Ints, Ints]:
    """Segment and value of all bounds of one slope."""
    low, high = bands.slope_lo == slope, bands.slope_hi == slope
    values = np.concatenate([bands.lo[low], bands.hi[high]])
    return np.concatenate([bands.seg[low], bands.seg[high]]), values
