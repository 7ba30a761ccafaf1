"""The mask on all pairs: a few broadcast comparisons. The oracle that every other form is tested against."""

from functools import reduce, singledispatch
from operator import and_, or_

import numpy as np

from transfuse.masks.columns import NONE, Arrays, Columns, read
from transfuse.masks.expressions import And, Constant, Delta, Expression, Flag, Not, Or, Same, Table


def allowed(expression: Expression, queries: Columns, keys: Columns | None = None) -> np.ndarray:
    """bool [Tq, Tk]: may query i see key j?"""
    q, k, rows, cols = read(expression, queries, keys)
    return np.array(np.broadcast_to(evaluate(expression, q, k), (rows, cols)))


@singledispatch
def evaluate(expression: Expression, q: Arrays, k: Arrays) -> np.ndarray:
    """The rule over arrays already read; broadcasts to [Tq, Tk]."""
    raise TypeError(f"no expression of a mask: {expression!r}")


@evaluate.register
def _(expression: Constant, q: Arrays, k: Arrays) -> np.ndarray:
    return np.array([[expression.value]])


@evaluate.register
def _(expression: Same, q: Arrays, k: Arrays) -> np.ndarray:
    left = q[expression.column][:, None]
    return (left == k[expression.column]) & (left != NONE)


@evaluate.register
def _(expression: Delta, q: Arrays, k: Arrays) -> np.ndarray:
    difference = q[expression.column][:, None] - k[expression.key]
    if expression.lo is None:
        return difference <= expression.hi
    low = difference >= expression.lo
    return low if expression.hi is None else low & (difference <= expression.hi)


@evaluate.register
def _(expression: Flag, q: Arrays, k: Arrays) -> np.ndarray:
    return q[expression.column][:, None] != 0 if expression.side == "q" else k[expression.column][None] != 0


@evaluate.register
def _(expression: Table, q: Arrays, k: Arrays) -> np.ndarray:
    left, right = q[expression.column][:, None], k[expression.column]
    return np.array(expression.rows, bool)[left, right] & (left != NONE) & (right != NONE)


@evaluate.register
def _(expression: Not, q: Arrays, k: Arrays) -> np.ndarray:
    return ~evaluate(expression.term, q, k)


@evaluate.register
def _(expression: And | Or, q: Arrays, k: Arrays) -> np.ndarray:
    parts = (evaluate(term, q, k) for term in expression.terms)
    return reduce(and_ if isinstance(expression, And) else or_, parts)
