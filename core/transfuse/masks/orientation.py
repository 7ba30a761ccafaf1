"""Queries and keys exchanged, and keys put in an order in which a mask's slices are few.

A mask may be short in one orientation and long in the other: BAGEL with 16 generated images a document has up
to 17 key intervals a query, but one query interval a key. WorldVLA is long in both until its keys are sorted
by the flags that its rule names.
"""

import numpy as np

from transfuse.masks.algebra import And, Columns, Constant, Delta, Flag, Mask, Not, Or, Same, Table, atoms
from transfuse.masks.columns import as_array, column


def transposed(mask: Mask) -> Mask:
    """The rule with query and key exchanged: `transposed(m).allowed(k, q) == m.allowed(q, k).T`."""
    if isinstance(mask, Constant | Same):
        return mask
    if isinstance(mask, Flag):
        return Flag("k" if mask.side == "q" else "q", mask.column)
    if isinstance(mask, Delta):
        lo = None if mask.hi is None else -mask.hi
        hi = None if mask.lo is None else -mask.lo
        return Delta(mask.key, lo, hi, mask.column)
    if isinstance(mask, Table):
        return Table(mask.column, tuple(zip(*mask.rows, strict=True)))
    if isinstance(mask, Not):
        return Not(transposed(mask.term))
    assert isinstance(mask, And | Or), type(mask)
    return type(mask)(tuple(transposed(term) for term in mask.terms))


def key_order(mask: Mask, keys: Columns) -> np.ndarray:
    """A stable order of the keys by the key flags that `mask` names, within each group it is confined to.

    Returns positions: take every key column, K and V at them, and the mask of those is the same pairs with
    fewer slices. Groups are those of the first conjunct `same(column)`, in the order in which they begin.
    """
    length = len(as_array(next(iter(keys.values()))))
    flags = dict.fromkeys(atom.column for atom in atoms(mask) if isinstance(atom, Flag) and atom.side == "k")
    by = [column(mask, name, keys, "keys") != 0 for name in flags]
    terms = mask.terms if isinstance(mask, And) else (mask,)
    groups = [term.column for term in terms if isinstance(term, Same)]
    if groups:
        _, first, which = np.unique(
            column(mask, groups[0], keys, "keys"), return_index=True, return_inverse=True
        )
        by.append(first[which])
    return np.lexsort(by) if by else np.arange(length)
