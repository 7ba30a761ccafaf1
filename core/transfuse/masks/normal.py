"""From an expression and columns to slices."""

import numpy as np

from transfuse.masks.algebra import Columns, Mask
from transfuse.masks.predicate import allowed
from transfuse.masks.slices import Slices


def slices(mask: Mask, queries: Columns, keys: Columns | None = None) -> Slices:
    """The allowed pairs as disjoint slices."""
    seen = allowed(mask, queries, keys)
    edge = np.diff(np.pad(seen.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    q0, lo = np.nonzero(edge == 1)
    _, hi = np.nonzero(edge == -1)
    flat = np.zeros_like(q0)
    return Slices(q0, q0 + 1, lo, hi, flat, flat, *seen.shape)
