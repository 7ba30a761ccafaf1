"""How many allowed pairs lie in each block of queries × keys: what block-sparse kernels start from."""

from dataclasses import dataclass

import numpy as np
from transfuse.masks.normal_form.bands import Ints, expand
from transfuse.masks.normal_form.slices import Slices


@dataclass(frozen=True, eq=False)
class BlockCounts:
    """The blocks that hold any pair, in order of (query block, key block), and how many each holds."""

    query: Ints
    key: Ints
    pairs: Ints


def block_counts(slices: Slices, queries: int, keys: int) -> BlockCounts:
    """Pairs a block, for blocks of `queries` × `keys` positions; work in blocks touched, not in pairs."""
    owner, row = expand(slices.q0 // queries, -(-slices.q1 // queries))
    q0 = np.maximum(slices.q0[owner], row * queries)
    n = np.minimum(slices.q1[owner], (row + 1) * queries) - q0
    ahead = q0 - slices.q0[owner]
    slope_lo, slope_hi = slices.slope_lo[owner], slices.slope_hi[owner]
    lo, hi = slices.lo[owner] + slope_lo * ahead, slices.hi[owner] + slope_hi * ahead
    piece, column = expand(lo // keys, -(-(hi + slope_hi * (n - 1)) // keys))
    lo, hi, slope_lo, slope_hi, n = (part[piece] for part in (lo, hi, slope_lo, slope_hi, n))
    left, right = column * keys, (column + 1) * keys
    pairs = (
        _below(hi, slope_hi, n, right)
        - _below(lo, slope_lo, n, right)
        - _below(hi, slope_hi, n, left)
        + _below(lo, slope_lo, n, left)
    )
    width = -(-slices.keys // keys) + 1
    place = row[piece] * width + column
    order = np.argsort(place, kind="stable")
    place, pairs = place[order], pairs[order]
    first = np.flatnonzero(np.concatenate([[True], place[1:] != place[:-1]])[: len(place)])
    query, key = np.divmod(place[first], width)
    return BlockCounts(query, key, np.add.reduceat(pairs, first))


def _below(bound: Ints, slope: Ints, n: Ints, limit: Ints) -> Ints:
    """Σ over i < n of min(bound + slope·i, limit)."""
    inside = np.clip(limit - bound, 0, n)  # rows whose gliding bound is still below the limit
    glide = inside * bound + inside * (inside - 1) // 2 + (n - inside) * limit
    return np.where(slope > 0, glide, n * np.minimum(bound, limit))
