"""Slices read as their definition says, pair by pair: slow, obvious, and strict about what a slice may be."""

import numpy as np
from transfuse.masks import Slices


def painted(slices: Slices) -> np.ndarray:
    """How many slices hold each pair, int [Tq, Tk]; asserts that none is anywhere empty, and one of one query level."""
    count = np.zeros((slices.queries, slices.keys), int)
    arrays = (slices.q0, slices.q1, slices.lo, slices.hi, slices.slope_lo, slices.slope_hi)
    for q0, q1, lo, hi, a, b in zip(*(array.tolist() for array in arrays), strict=True):
        assert q0 < q1
        assert q1 - q0 > 1 or a == b == 0, "a slice of one query is level"
        for i in range(q1 - q0):
            assert 0 <= lo + a * i < hi + b * i <= slices.keys, "a slice is nowhere empty"
            count[q0 + i, lo + a * i : hi + b * i] += 1
    return count
