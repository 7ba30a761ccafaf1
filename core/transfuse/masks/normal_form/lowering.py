"""From an expression and columns to slices, in time that grows with their structure and not with all pairs.

`lower(expression, columns, window)` cuts a window of pairs down to those the expression allows. A conjunction
hands each result on as the next term's window, narrow terms first, so that `same(doc)` confines what the others
expand to.
"""

from functools import reduce, singledispatch

import numpy as np

from transfuse.masks.columns import NONE, Columns, read
from transfuse.masks.expressions import And, Constant, Delta, Expression, Flag, Not, Or, Same, Table
from transfuse.masks.normal_form import bands
from transfuse.masks.normal_form.bands import Bands, Ints
from transfuse.masks.normal_form.slices import Slices, coalesce
from transfuse.masks.normal_form.structure import Column, Rising, Structure
from transfuse.masks.transforms import negated


def slices(expression: Expression, queries: Columns, keys: Columns | None = None) -> Slices:
    """The allowed pairs as disjoint slices, found from the structure of the expression and of the columns."""
    q, k, rows, cols = read(expression, queries, keys)
    return coalesce(lower(expression, Structure(q, k), bands.everything(rows, cols)), rows)


@singledispatch
def lower(expression: Expression, columns: Structure, window: Bands) -> Bands:
    """The pairs of `window` that the expression allows."""
    raise TypeError(f"no expression of a mask: {expression!r}")


@lower.register
def _(expression: Constant, columns: Structure, window: Bands) -> Bands:
    return window if expression.value else _nothing(window)


@lower.register
def _(expression: And, columns: Structure, window: Bands) -> Bands:
    for term in sorted(expression.terms, key=_width):
        if not len(window.seg):
            break
        window = lower(term, columns, window)
    return window


@lower.register
def _(expression: Or, columns: Structure, window: Bands) -> Bands:
    """A term about queries alone settles whole segments; only the rest asks the other terms."""
    result, terms = _nothing(window), sorted(expression.terms, key=_width)
    for i, term in enumerate(terms):
        match term:
            case Flag("q", name):
                settled, window = _split(columns.q[name], window)
            case Not(Flag("q", name)):
                window, settled = _split(columns.q[name], window)
            case _:
                return reduce(bands.union, [lower(other, columns, window) for other in terms[i:]], result)
        result = bands.union(result, settled)
    return result


@lower.register
def _(expression: Not, columns: Structure, window: Bands) -> Bands:
    """The window without the term, the negation pushed down to where it costs least."""
    term = expression.term
    if isinstance(term, Flag):
        return _flag(term, False, columns, window)
    if isinstance(term, And | Or):
        other = Or if isinstance(term, And) else And
        return lower(other(tuple(map(Not, term.terms))), columns, window)
    opposite = negated(term)
    if isinstance(opposite, Not) and opposite.term is term:
        return bands.difference(window, lower(term, columns, window))
    return lower(opposite, columns, window)


@lower.register
def _(expression: Flag, columns: Structure, window: Bands) -> Bands:
    return _flag(expression, True, columns, window)


def _flag(flag: Flag, wanted: bool, columns: Structure, window: Bands) -> Bands:
    if flag.side == "q":
        return _split(columns.q[flag.column], window)[0 if wanted else 1]
    column = columns.k[flag.column]
    start, end = column.flagged if wanted else column.unflagged
    seg, which, run = _touched(window, start, end)
    return bands.intersection(window, _level(window, seg[which], start[run], end[run]))


def _split(flag: Column, window: Bands) -> tuple[Bands, Bands]:
    """The window's segments of queries that have the flag, and of those that have not."""
    window = bands.refine(window, np.concatenate(flag.flagged))
    holds = flag.values[window.cuts[window.seg]] != 0
    return window.take(holds), window.take(~holds)


@lower.register
def _(expression: Same, columns: Structure, window: Bands) -> Bands:
    """By value where the column is made of runs, else as a difference of 0."""
    query, key = columns.q[expression.column], columns.k[expression.column]
    if len(key.level_breaks) > 2 * len(key.rising_ids.ids) + 8 and (
        len(query.level_breaks) > 2 * len(query.affine_breaks) + 8
    ):
        return _glide(query, key.rising_ids, 0, 0, window)
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


@lower.register
def _(expression: Delta, columns: Structure, window: Bands) -> Bands:
    query, key = columns.q[expression.column], columns.k[expression.key]
    return _glide(query, key.rising, expression.lo, expression.hi, window)


def _glide(query: Column, rising: Rising, lo: int | None, hi: int | None, window: Bands) -> Bands:
    """lo ≤ query − key ≤ hi: in each rising stretch of keys the values in [query − hi, query − lo]."""
    if lo is not None and hi is not None and lo > hi:
        return _nothing(window)
    window = bands.refine(window, query.affine_breaks)

    def measured(window: Bands) -> tuple[Ints, ...]:
        """The window's segments, their queries' first and last value, and the stretches each can reach."""
        seg, which, stretch = _touched(window, rising.start, rising.end)
        at, steps = window.cuts[seg], window.steps[seg]
        return seg, steps, query.values[at], query.values[at + steps], which, stretch

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


@lower.register
def _(expression: Table, columns: Structure, window: Bands) -> Bands:
    query, key = columns.q[expression.column], columns.k[expression.column]
    window = bands.refine(window, query.level_breaks)
    start, end, value = key.runs
    seg, which, run = _touched(window, start, end)
    asked = query.values[window.cuts[seg[which]]]
    rows = np.array(expression.rows, bool)
    kept = rows[asked, value[run]] & (asked != NONE) & (value[run] != NONE)
    return bands.intersection(window, _level(window, seg[which[kept]], start[run[kept]], end[run[kept]]))


def _nothing(window: Bands) -> Bands:
    return window.take(np.zeros(0, np.int64))


def _level(window: Bands, seg: Ints, start: Ints, end: Ints) -> Bands:
    """Intervals that stay where they are, in the window's segments."""
    flat = np.zeros(len(seg), np.int64)
    return Bands(window.cuts, seg, start, end, flat, flat, window.keys)


def _touched(window: Bands, start: Ints, end: Ints) -> tuple[Ints, Ints, Ints]:
    """The segments of `_reach`, and which of them can touch which of the runs of keys [start, end)."""
    seg, low, high = _reach(window)
    return seg, *bands.expand(np.searchsorted(end, low, "right"), np.searchsorted(start, high, "left"))


def _reach(window: Bands) -> tuple[Ints, Ints, Ints]:
    """Per segment that has any interval: the segment, and the keys [low, high) its intervals ever touch."""
    first = np.flatnonzero(np.concatenate([[True], window.seg[1:] != window.seg[:-1]])[: len(window.seg)])
    last = np.concatenate([first[1:], [len(window.seg)]])[: len(first)] - 1
    seg = window.seg[first]
    return seg, window.lo[first], window.hi[last] + window.slope_hi[last] * window.steps[seg]


def _width(expression: Expression) -> int:
    """How much a conjunct leaves, narrowest first: its order among the terms of `&` changes cost alone."""
    match expression:
        case Constant() | Flag("q") | Not(Flag("q")):
            return 0
        case Delta(_, lo, hi):
            return 3 if lo is None or hi is None else 2
        case And(terms):
            return min(map(_width, terms)) + 1
    return {Same: 1, Table: 4, Flag: 5, Or: 6, Not: 7}[type(expression)]
