"""The mask on all pairs: a few broadcast comparisons. The oracle that every other form is tested against."""

import numpy as np

from transfuse.masks.algebra import And, Columns, Constant, Delta, Flag, Mask, Not, Same, Table
from transfuse.masks.columns import Arrays, read


def allowed(mask: Mask, queries: Columns, keys: Columns | None = None) -> np.ndarray:
    """bool [Tq, Tk]: may query i see key j?"""
    q, k, rows, cols = read(mask, queries, keys)
    return np.array(np.broadcast_to(predicate(mask, q, k), (rows, cols)))


def predicate(mask: Mask, q: Arrays, k: Arrays) -> np.ndarray:
    """The rule over arrays already read; broadcasts to [Tq, Tk]."""
    if isinstance(mask, Constant):
        return np.array([[mask.value]])
    if isinstance(mask, Same):
        left = q[mask.column][:, None]
        return (left == k[mask.column][None, :]) & (left != -1)
    if isinstance(mask, Delta):
        difference = q[mask.column][:, None] - k[mask.key][None, :]
        result = np.ones_like(difference, bool)
        if mask.lo is not None:
            result &= difference >= mask.lo
        if mask.hi is not None:
            result &= difference <= mask.hi
        return result
    if isinstance(mask, Flag):
        return (q[mask.column] != 0)[:, None] if mask.side == "q" else (k[mask.column] != 0)[None, :]
    if isinstance(mask, Table):
        left, right = q[mask.column][:, None], k[mask.column][None, :]
        return np.array(mask.rows, bool)[left, right] & (left != -1) & (right != -1)
    if isinstance(mask, Not):
        return ~predicate(mask.term, q, k)
    parts = [predicate(term, q, k) for term in mask.terms]  # type: ignore[attr-defined]
    result = parts[0]
    for part in parts[1:]:
        result = result & part if isinstance(mask, And) else result | part
    return result
