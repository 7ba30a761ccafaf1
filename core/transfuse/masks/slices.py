"""The normal form: ranges of queries, each with a key interval whose two bounds are level or step by one."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


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

    def intervals(self) -> Intervals:
        """The view per query."""
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
