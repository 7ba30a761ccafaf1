"""Expressions rewritten: made smaller, query and key exchanged; and an order of keys in which slices are few.

A mask may be short in one orientation and long in the other: BAGEL with 16 generated images a document has up
to 17 key intervals a query, but one query interval a key. WorldVLA is long in both until its keys are sorted
by the flags that its rule names.
"""

from functools import singledispatch

import numpy as np

from transfuse.masks import expressions
from transfuse.masks.columns import Columns, as_array, column
from transfuse.masks.expressions import And, Constant, Delta, Expression, Flag, Not, Or, Same, Table


@singledispatch
def simplify(expression: Expression) -> Expression:
    """An equal rule, over any columns whatever, of no more atoms; an atom is as simple as can be."""
    return expression


@simplify.register
def _(expression: Not) -> Expression:
    return negated(simplify(expression.term))


@simplify.register
def _(expression: And | Or) -> Expression:
    kind = type(expression)
    neutral, absorbing = Constant(kind is And), Constant(kind is Or)
    kept: list[Expression] = []
    for term in map(simplify, expression.terms):
        for part in term.terms if isinstance(term, kind) else (term,):
            if part != neutral and part not in kept:
                kept.append(part)
    if absorbing in kept or any(negated(term) in kept for term in kept):
        return absorbing
    # a & (a | b) is a; a | (a & b) is a.
    other = Or if kind is And else And
    kept = [t for t in kept if not (isinstance(t, other) and any(part in kept for part in t.terms))]
    return expressions.joined(kind, *kept) if kept else neutral


def negated(expression: Expression) -> Expression:
    """What the expression forbids, without a `Not` where an atom or the term of one says it."""
    match expression:
        case Not(term):
            return term
        case Constant(value):
            return Constant(not value)
        case Delta(column, None, int(hi), key):
            return Delta(column, hi + 1, None, key)
        case Delta(column, int(lo), None, key):
            return Delta(column, None, lo - 1, key)
    return Not(expression)


@singledispatch
def transposed(expression: Expression) -> Expression:
    """The rule with query and key exchanged; what says the same of both is as it was."""
    return expression


@transposed.register
def _(expression: Flag) -> Expression:
    return Flag("k" if expression.side == "q" else "q", expression.column)


@transposed.register
def _(expression: Delta) -> Expression:
    lo, hi = (None if bound is None else -bound for bound in (expression.hi, expression.lo))
    return Delta(expression.key, lo, hi, expression.column)


@transposed.register
def _(expression: Table) -> Expression:
    return Table(expression.column, tuple(zip(*expression.rows, strict=True)))


@transposed.register
def _(expression: Not) -> Expression:
    return Not(transposed(expression.term))


@transposed.register
def _(expression: And | Or) -> Expression:
    return type(expression)(tuple(map(transposed, expression.terms)))


def key_order(expression: Expression, keys: Columns) -> np.ndarray:
    """The keys' positions sorted by the key flags named, within the groups of the first conjunct `same(…)`."""
    length = len(as_array(next(iter(keys.values()))))
    flags = dict.fromkeys(
        a.column for a in expressions.atoms(expression) if isinstance(a, Flag) and a.side == "k"
    )
    by = [column(expression, name, keys, "keys") != 0 for name in flags]
    terms = expression.terms if isinstance(expression, And) else (expression,)
    groups = [term.column for term in terms if isinstance(term, Same)]
    if groups:
        values = column(expression, groups[0], keys, "keys")
        _, first, which = np.unique(values, return_index=True, return_inverse=True)
        by.append(first[which])
    return np.lexsort(by) if by else np.arange(length)
