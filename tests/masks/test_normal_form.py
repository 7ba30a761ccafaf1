"""The normal form against the predicate on all pairs: random expressions over the widest columns."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from transfuse import masks
from transfuse.masks import Mask, Slices
from transfuse.testing import strategies


def painted(slices: Slices) -> np.ndarray:
    """How often each pair lies in a slice: the slow, obvious reading of the definition."""
    count = np.zeros((slices.queries, slices.keys), int)
    for q0, q1, lo, hi, a, b in zip(
        slices.q0, slices.q1, slices.lo, slices.hi, slices.slope_lo, slices.slope_hi, strict=True
    ):
        for i in range(q1 - q0):
            assert lo + a * i < hi + b * i, "a slice is nowhere empty"
            count[q0 + i, lo + a * i : hi + b * i] += 1
    return count


@given(strategies.masks(), strategies.columns())
def test_square(mask: Mask, columns: dict) -> None:
    allowed = mask.allowed(columns)
    slices = mask.slices(columns)
    assert (painted(slices) == allowed).all()
    assert slices.pairs() == allowed.sum()


@given(strategies.masks(), strategies.columns(), strategies.columns())
def test_rectangular(mask: Mask, queries: dict, keys: dict) -> None:
    assert (painted(mask.slices(queries, keys)) == mask.allowed(queries, keys)).all()


@given(strategies.masks(), strategies.columns())
def test_intervals_are_sorted_disjoint_and_apart(mask: Mask, columns: dict) -> None:
    allowed = mask.allowed(columns)
    intervals = mask.intervals(columns)
    assert len(intervals) == len(allowed)
    for row, found in zip(allowed, intervals, strict=True):
        edge = np.flatnonzero(np.diff(np.concatenate([[0], row, [0]])))
        assert found == list(zip(edge[::2].tolist(), edge[1::2].tolist(), strict=True))


@given(strategies.layouts(), st.integers(0, 3))
def test_published_masks_over_packed_documents(row: list, filler: int) -> None:
    columns = strategies.packed(row, filler)
    for text in (
        "same(doc) & le(idx)",
        "same(doc) & (le(idx) | same(span))",
        "same(doc) & (le(idx) | same(span)) & (~k.noised | same(span))",
        "same(doc) & (le(pos) | same(pos))",
        "same(doc) & ((k.noised & q.noised & same(block)) | (~k.noised & q.noised & lt(block)) | "
        "(~k.noised & ~q.noised & le(block)))",
        "same(doc) & le(idx) & ~(q.image & k.image & ~same(span))",
        "same(doc) & le(idx) & (k.text | delta(block, hi=1))",
    ):
        mask = masks.parse(text)
        assert (painted(mask.slices(columns)) == mask.allowed(columns)).all(), text
