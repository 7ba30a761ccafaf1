"""From an expression and columns to slices, in time that grows with their structure and not with all pairs.

`within(mask, window)` cuts a window of pairs down to those the mask allows. A conjunction hands each result
on as the next term's window, narrow terms first, so that `same(doc)` confines what the others expand to.
"""

from functools import reduce

import numpy as np

from transfuse.masks import bands
from transfuse.masks.algebra import And, Columns, Constant, Delta, Flag, Mask, Not, Or, Same, Table
from transfuse.masks.bands import Bands
from transfuse.masks.columns import Arrays, read
from transfuse.masks.slices import Slices, coalesce
from transfuse.masks.structure import Column, Ints


def slices(mask: Mask, queries: Columns, keys: Columns | None = None) -> Slices:
    """The allowed pairs as disjoint slices, found from the structure of the expression and of the columns."""
    q, k, rows, cols = read(mask, queries, keys)
    found = Normal(q, k).within(mask, bands.everything(rows, cols))
    return coalesce(found, rows)


class Normal:
    """The columns of one call with their structure, shared by all atoms that read them."""

    def __init__(self, q: Arrays, k: Arrays) -> None:
        seen: dict[int, Column] = {}
        self.q = {name: seen.setdefault(id(array), Column(array)) for name, array in q.items()}
        self.k = {name: seen.setdefault(id(array), Column(array)) for name, array in k.items()}

    def within(self, mask: Mask, window: Bands) -> Bands:
        """The pairs of `window` that `mask` allows."""
        if not len(window.seg):
            return window
        if isinstance(mask, Constant):
            return window if mask.value else _nothing(window)
        if isinstance(mask, And):
            return reduce(lambda part, term: self.within(term, part), sorted(mask.terms, key=_width), window)
        if isinstance(mask, Or):
            return self._either(sorted(mask.terms, key=_width), window)
        if isinstance(mask, Not):
            return self._except(mask.term, window)
        if isinstance(mask, Flag):
            return self._flag(mask, True, window)
        if isinstance(mask, Same):
            return self._same(mask.column, window)
        if isinstance(mask, Delta):
            return self._delta(mask, window)
        assert isinstance(mask, Table), type(mask)
        return self._table(mask, window)

    def _either(self, terms: list[Mask], window: Bands) -> Bands:
        """A term about queries alone settles whole segments; only the rest asks the other terms."""
        result = _nothing(window)
        for i, term in enumerate(terms):
            if _flag_of(term) != "q":
                parts = [self.within(other, window) for other in terms[i:]]
                return reduce(bands.union, parts, result)
            settled, window = self._split(term, window)
            result = bands.union(result, settled)
        return result

    def _except(self, term: Mask, window: Bands) -> Bands:
        """The window without `term`, the negation pushed down to where it costs least."""
        if isinstance(term, Constant):
            return self.within(Constant(not term.value), window)
        if isinstance(term, Not):
            return self.within(term.term, window)
        if isinstance(term, Flag):
            return self._flag(term, False, window)
        if isinstance(term, And):
            return self.within(Or(tuple(Not(part) for part in term.terms)), window)
        if isinstance(term, Or):
            return self.within(And(tuple(Not(part) for part in term.terms)), window)
        if isinstance(term, Delta) and (term.lo is None or term.hi is None):
            lo, hi = (term.hi + 1, None) if term.hi is not None else (None, (term.lo or 0) - 1)
            return self._delta(Delta(term.column, lo, hi, term.key), window)
        return bands.difference(window, self.within(term, window))

    def _split(self, term: Mask, window: Bands) -> tuple[Bands, Bands]:
        """The window's segments where a rule about queries alone holds, and where it does not."""
        flag = term.term if isinstance(term, Not) else term
        assert isinstance(flag, Flag)
        column = self.q[flag.column]
        window = bands.refine(window, np.concatenate(column.flagged))
        holds = (column.values[window.cuts[window.seg]] != 0) != isinstance(term, Not)
        return window.take(holds), window.take(~holds)

    def _flag(self, flag: Flag, wanted: bool, window: Bands) -> Bands:
        if flag.side == "q":
            return self._split(flag if wanted else Not(flag), window)[0]
        column = self.k[flag.column]
        start, end = column.flagged if wanted else column.unflagged
        seg, low, high = _reach(window)
        which, run = bands.expand(np.searchsorted(end, low, "right"), np.searchsorted(start, high, "left"))
        return bands.intersection(window, _level(window, seg[which], start[run], end[run]))

    def _same(self, name: str, window: Bands) -> Bands:
        """By value where the column is made of runs, else as a difference of 0."""
        query, key = self.q[name], self.k[name]
        if len(key.level_breaks) > 2 * len(key.rising_ids.ids) + 8 and (
            len(query.level_breaks) > 2 * len(query.affine_breaks) + 8
        ):
            return self._glide(query, key.rising_ids, 0, 0, window)
        window = bands.refine(window, query.level_breaks)
        values, rank, start, end = key.runs_by_value
        seg, low, high = _reach(window)
        if not len(values) or not len(seg):
            return _nothing(window)
        asked = query.values[window.cuts[seg]]
        group = np.minimum(np.searchsorted(values, asked), len(values) - 1)
        known = values[group] == asked
        span = window.keys + 1
        base = group * span
        which, run = bands.expand(
            np.searchsorted(rank * span + end, base + low, "right"),
            np.where(known, np.searchsorted(rank * span + start, base + high, "left"), 0),
        )
        return bands.intersection(window, _level(window, seg[which], start[run], end[run]))

    def _delta(self, mask: Delta, window: Bands) -> Bands:
        return self._glide(self.q[mask.column], self.k[mask.key].rising, mask.lo, mask.hi, window)

    def _glide(self, query: Column, rising, lo: int | None, hi: int | None, window: Bands) -> Bands:
        """lo ≤ query − key ≤ hi: in each rising stretch of keys the values in [query − hi, query − lo]."""
        if lo is not None and hi is not None and lo > hi:
            return _nothing(window)
        window = bands.refine(window, query.affine_breaks)

        def measured(window: Bands) -> tuple[np.ndarray, ...]:
            """The window's segments, their queries' first and last value, and the stretches each can reach."""
            seg, low, high = _reach(window)
            steps = window.steps[seg]
            first = query.values[window.cuts[seg]]
            last = query.values[window.cuts[seg] + steps]
            which, stretch = bands.expand(
                np.searchsorted(rising.end, low, "right"), np.searchsorted(rising.start, high, "left")
            )
            return seg, steps, first, last, which, stretch

        seg, steps, first, last, which, stretch = measured(window)
        moving = (first != last)[which]
        if moving.any():
            item, part = which[moving], stretch[moving]
            turns = []
            for shift in ([-hi] if hi is not None else []) + ([1 - lo] if lo is not None else []):
                owner, ahead = rising.turns(part, first[item] + shift, last[item] + shift)
                turns.append(window.cuts[seg[item[owner]]] + ahead)
            turn = np.concatenate(turns)
            if len(turn):
                window = bands.refine(window, turn)
                seg, steps, first, last, which, stretch = measured(window)
        first, last, pace = first[which], last[which], np.maximum(steps[which], 1)
        start = stop = rising.start[stretch]
        end = until = rising.end[stretch]
        if hi is not None:
            start, stop = rising.position(stretch, first - hi), rising.position(stretch, last - hi)
        if lo is not None:
            end, until = rising.position(stretch, first - lo + 1), rising.position(stretch, last - lo + 1)
        some = (start < end) | (stop < until)
        found = Bands(
            window.cuts, seg[which], start, end, (stop - start) // pace, (until - end) // pace, window.keys
        ).take(some)
        return bands.intersection(window, found)

    def _table(self, mask: Table, window: Bands) -> Bands:
        query, key = self.q[mask.column], self.k[mask.column]
        window = bands.refine(window, query.level_breaks)
        start, end, value = key.runs
        seg, low, high = _reach(window)
        which, run = bands.expand(np.searchsorted(end, low, "right"), np.searchsorted(start, high, "left"))
        asked = query.values[window.cuts[seg[which]]]
        rows = np.array(mask.rows, bool)
        kept = rows[asked, value[run]] & (asked != -1) & (value[run] != -1)
        return bands.intersection(window, _level(window, seg[which[kept]], start[run[kept]], end[run[kept]]))


def _nothing(window: Bands) -> Bands:
    return window.take(np.zeros(0, np.int64))


def _level(window: Bands, seg: Ints, start: Ints, end: Ints) -> Bands:
    """Intervals that stay where they are, in the window's segments."""
    flat = np.zeros(len(seg), np.int64)
    return Bands(window.cuts, seg, start, end, flat, flat, window.keys)


def _reach(window: Bands) -> tuple[Ints, Ints, Ints]:
    """Per segment that has any interval: the segment, and the keys [low, high) its intervals ever touch."""
    first = np.flatnonzero(np.concatenate([[True], window.seg[1:] != window.seg[:-1]])[: len(window.seg)])
    last = np.concatenate([first[1:], [len(window.seg)]])[: len(first)] - 1
    seg = window.seg[first]
    return seg, window.lo[first], window.hi[last] + window.slope_hi[last] * window.steps[seg]


def _flag_of(mask: Mask) -> str | None:
    """The side of a flag or of a negated flag, else None."""
    flag = mask.term if isinstance(mask, Not) else mask
    return flag.side if isinstance(flag, Flag) else None


def _width(mask: Mask) -> int:
    """How much a conjunct leaves, narrowest first: its order among the terms of `&` changes cost alone."""
    if isinstance(mask, Constant) or _flag_of(mask) == "q":
        return 0
    if isinstance(mask, Same):
        return 1
    if isinstance(mask, Delta):
        return 2 if mask.lo is not None and mask.hi is not None else 3
    if isinstance(mask, And):
        return min(map(_width, mask.terms)) + 1
    return {Table: 4, Flag: 5, Or: 6, Not: 7}[type(mask)]
