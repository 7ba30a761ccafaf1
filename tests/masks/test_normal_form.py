"""The normal form against all pairs: random expressions over the widest columns, packed documents, intervals, parts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transfuse import masks
from transfuse.masks import Mask
from transfuse.testing import strategies

from tests.masks.painting import painted


@given(strategies.masks(), strategies.columns())
def test_slices_hold_each_allowed_pair_once(mask: Mask, columns: dict) -> None:
    allowed = mask.allowed(columns)
    slices = mask.slices(columns)
    assert (painted(slices) == allowed).all()
    assert slices.pairs() == allowed.sum()


@given(strategies.masks(), strategies.columns(), strategies.columns())
def test_slices_of_a_rectangular_mask_hold_each_allowed_pair_once(
    mask: Mask, queries: dict, keys: dict
) -> None:
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
def test_slices_of_published_masks_over_packed_documents(row: list, filler: int) -> None:
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


@given(strategies.masks(), strategies.columns(), st.data())
def test_restriction_to_ranges_is_slices_again(mask: Mask, columns: dict, data: st.DataObject) -> None:
    size = len(columns["idx"])
    (a, b), (c, d) = (
        sorted(data.draw(st.tuples(st.integers(0, size), st.integers(0, size)))) for _ in range(2)
    )
    part = mask.slices(columns).restricted((a, b), (c, d))
    assert (painted(part) == mask.allowed(columns)[a:b, c:d]).all()
    cut = [{name: values[s] for name, values in columns.items()} for s in (slice(a, b), slice(c, d))]
    assert (mask.allowed(*cut) == mask.allowed(columns)[a:b, c:d]).all(), "rectangular is a part of square"


def test_intervals_are_a_sequence() -> None:
    intervals = masks.parse("le(idx)").intervals({"idx": [0, 1, 2]})
    assert intervals[-3] == intervals[0] == [(0, 1)]
    assert intervals[2] == intervals[-1] == [(0, 3)]
    for wrong in (3, -4):
        with pytest.raises(IndexError, match=f"query {wrong} of 3"):
            intervals[wrong]
