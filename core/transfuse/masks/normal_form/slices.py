"""The normal form: ranges of queries, each with a key interval whose two bounds are level or step by one."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from transfuse.masks.normal_form.bands import Bands


@dataclass(frozen=True, eq=False)
class Intervals:
    """Per query sorted, disjoint, non-touching half-open key intervals, as flat arrays.

    Query i's are `start[ptr[i]:ptr[i+1]]`, `end[…]`; `intervals[i]` gives them as a list of pairs.
    """

    ptr: np.ndarray
    start: np.ndarray
    end: np.ndarray

    def __len__(self) -> int:
        return len(self.ptr) - 1

    def __getitem__(self, i: int) -> list[tuple[int, int]]:
        if not -len(self) <= i < len(self):
            raise IndexError(f"query {i} of {len(self)}")
        part = slice(self.ptr[i % len(self)], self.ptr[i % len(self) + 1])
        return list(zip(self.start[part].tolist(), self.end[part].tolist(), strict=True))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return (self[i] for i in range(len(self)))


@dataclass(frozen=True, eq=False)
class Slices:
    """Slice s lets query i of [q0, q1) see keys [lo + slope_lo·(i−q0), hi + slope_hi·(i−q0)).

    Slices are disjoint: every allowed pair lies in exactly one. All arrays are int64 of one length.
    """

    q0: np.ndarray
    q1: np.ndarray
    lo: np.ndarray
    hi: np.ndarray
    slope_lo: np.ndarray
    slope_hi: np.ndarray
    queries: int
    keys: int

    def __len__(self) -> int:
        return len(self.q0)

    def pairs(self) -> int:
        """Allowed pairs: per slice an arithmetic series."""
        n = self.q1 - self.q0
        return int((n * (self.hi - self.lo) + (self.slope_hi - self.slope_lo) * (n * (n - 1) // 2)).sum())

    def transposed(self) -> "Slices":
        """The same pairs with queries and keys exchanged: slices again, at most three for one."""
        last = self.q1 - self.q0 - 1
        lo_end, hi_end = self.lo + self.slope_lo * last, self.hi + self.slope_hi * last
        # Rows of the transpose are keys j in [lo, hi_end). Such a key is seen from query max(0, j − hi + 1)
        # on where hi glides, and up to query min(last, j − lo) where lo does: two turns, at hi and at lo_end.
        turns = np.sort(np.stack([self.lo, lo_end, self.hi, hi_end]), axis=0)
        parts = []
        for a, b in pairwise(turns):
            late = self.slope_hi * (a >= self.hi)
            early = self.slope_lo * (a < lo_end)
            first = self.q0 + late * (a - self.hi + 1)
            stop = np.where(early > 0, self.q0 + a - self.lo + 1, self.q1)
            parts.append(np.stack([a, b, first, stop, late, early])[:, a < b])
        return join(Slices(*np.concatenate(parts, 1), queries=self.keys, keys=self.queries))

    def restricted(self, queries: tuple[int, int], keys: tuple[int, int]) -> "Slices":
        """The pairs of a range of queries and a range of keys, both counted from the ranges' starts."""
        return self._rows(*queries).transposed()._rows(*keys).transposed()

    def _rows(self, start: int, end: int) -> "Slices":
        """The pairs of queries [start, end), counted from start."""
        q0, q1 = np.maximum(self.q0, start), np.minimum(self.q1, end)
        some = q0 < q1
        ahead = (q0 - self.q0) * some
        lo, hi = self.lo + self.slope_lo * ahead, self.hi + self.slope_hi * ahead
        parts = (q0 - start, q1 - start, lo, hi, self.slope_lo, self.slope_hi)
        return Slices(*(part[some] for part in parts), queries=max(end - start, 0), keys=self.keys)

    def intervals(self) -> Intervals:
        """The view per query; of `transposed()` it is the view per key."""
        n = self.q1 - self.q0
        owner = np.repeat(np.arange(len(n)), n)
        step = np.arange(len(owner)) - np.repeat(np.cumsum(n) - n, n)
        query = self.q0[owner] + step
        start = self.lo[owner] + self.slope_lo[owner] * step
        end = self.hi[owner] + self.slope_hi[owner] * step
        order = np.lexsort((start, query))
        query, start, end = query[order], start[order], end[order]
        if len(query):
            joint = (query[1:] == query[:-1]) & (start[1:] == end[:-1])
            first = np.concatenate([[True], ~joint])
            last = np.concatenate([~joint, [True]])
            query, start, end = query[first], start[first], end[last]
        ptr = np.searchsorted(query, np.arange(self.queries + 1))
        return Intervals(ptr, start, end)


def coalesce(found: Bands, queries: int) -> Slices:
    """Bands as slices: trimmed to where they are not empty, and joined where one goes on as the next."""
    q0, q1 = found.cuts[found.seg], found.cuts[found.seg + 1]
    last = q1 - q0 - 1
    opens = (found.lo == found.hi).astype(np.int64)
    closes = (found.lo + found.slope_lo * last == found.hi + found.slope_hi * last).astype(np.int64)
    lo, hi = found.lo, found.hi + opens * found.slope_hi  # what opens has a level lower bound
    q0, q1 = q0 + opens, q1 - closes
    some = q0 < q1
    parts = (part[some] for part in (q0, q1, lo, hi, found.slope_lo, found.slope_hi))
    return join(Slices(*parts, queries=queries, keys=found.keys))


def join(parts: Slices) -> Slices:
    """The same pairs with each slice that continues another's two lines made one with it."""
    if not len(parts):
        return parts
    slope_lo, slope_hi = _adopt(parts)
    line_lo, line_hi = parts.lo - slope_lo * parts.q0, parts.hi - slope_hi * parts.q0
    order = np.lexsort((parts.q0, slope_hi, slope_lo, line_hi, line_lo))
    kin = [a[order] for a in (slope_hi, slope_lo, line_hi, line_lo)]
    q0, q1 = parts.q0[order], parts.q1[order]
    goes_on = q0[1:] == q1[:-1]
    for a in kin:
        goes_on &= a[1:] == a[:-1]
    first, last = np.concatenate([[True], ~goes_on]), np.concatenate([~goes_on, [True]])
    ends, head = q1[last], order[first]
    back = np.lexsort((parts.lo[head], parts.q0[head]))
    head, ends = head[back], ends[back]
    several = (ends - parts.q0[head] > 1).astype(np.int64)  # a slice of one query is level
    slopes = slope_lo[head] * several, slope_hi[head] * several
    return Slices(parts.q0[head], ends, parts.lo[head], parts.hi[head], *slopes, parts.queries, parts.keys)


def _adopt(parts: Slices) -> tuple[np.ndarray, np.ndarray]:
    """Slopes, where a slice of one query takes those of the slice that it continues, or else precedes."""
    slope_lo, slope_hi = parts.slope_lo.copy(), parts.slope_hi.copy()
    n = parts.q1 - parts.q0
    single = np.flatnonzero(n == 1)
    several = np.flatnonzero(n > 1)
    if not len(single) or not len(several):
        return slope_lo, slope_hi
    span = parts.keys + 2
    for at, lo, hi, wanted in (
        (parts.q1, parts.lo + slope_lo * n, parts.hi + slope_hi * n, parts.q0),
        (parts.q0, parts.lo - slope_lo, parts.hi - slope_hi, parts.q1),
    ):
        code = at[several] * span + lo[several] + 1
        order = np.argsort(code, kind="stable")
        ask = wanted[single] * span + parts.lo[single] + 1
        place = np.minimum(np.searchsorted(code[order], ask), len(order) - 1)
        found = several[order[place]]
        fits = (code[order[place]] == ask) & (hi[found] == parts.hi[single])
        slope_lo[single[fits]], slope_hi[single[fits]] = slope_lo[found[fits]], slope_hi[found[fits]]
        single = single[~fits]
    return slope_lo, slope_hi
