"""Small masks of every kind of slice, all their views checked exhaustively: quick, and they kill what chance misses."""

from unittest.mock import patch

import numpy as np
import pytest
from transfuse import masks
from transfuse.masks import Mask
from transfuse.masks.normal_form import lowering, structure
from transfuse.testing import strategies
from transfuse_adapters.block_counts import block_counts

from tests.masks.painting import painted

N = 9


LAYOUT = [
    strategies.Layout(((1, False, False), (3, True, True), (2, True, False))),
    strategies.Layout(((2, False, False), (1, True, True))),
]


COLUMNS = {
    **strategies.packed(LAYOUT),
    "down": np.arange(N)[::-1].copy(),
    "gaps": np.array([0, 1, 2, 5, 6, 6, 6, 9, 10]),
    "t": np.array([-1, 0, 0, 1, 2, 2, 0, 1, -1]),
    "late": np.arange(N) + 3,
}


RULES = [
    "full",
    "none",
    "le(idx)",
    "lt(idx)",
    "delta(idx, hi=0)",
    "delta(idx, hi=-1)",
    "delta(idx, lo=-2, hi=1)",
    "delta(idx, lo=1, hi=3)",
    "delta(idx, lo=-4, hi=-2)",
    "delta(idx, lo=2, hi=1)",
    "~delta(idx, lo=-1, hi=2)",
    "le(idx) & ~delta(gaps, lo=0, hi=2)",
    "delta(late, lo=1, hi=5, key=idx)",
    "delta(idx, lo=-1, key=gaps)",
    "delta(gaps, lo=0, hi=2, key=idx)",
    "delta(gaps, lo=0, hi=1)",
    "le(down)",
    "delta(down, lo=-1, hi=1)",
    "delta(idx, lo=0, hi=1, key=down)",
    "le(gaps) & ~le(down)",
    "same(doc)",
    "same(idx)",
    "same(gaps)",
    "same(doc) & le(idx)",
    "same(doc) & (le(idx) | same(span))",
    "same(doc) & (le(idx) | same(span)) & (~k.noised | same(span))",
    "le(pos) & same(doc)",
    "table(t, [[1, 0, 1], [0, 1, 1], [1, 0, 0]])",
    "~table(t, [[1, 0, 1], [0, 1, 1], [1, 0, 0]]) & le(idx)",
    "delta(idx, lo=0, hi=3) & delta(idx, lo=2, key=gaps)",
    "le(idx) & k.image | q.noised & ~same(span)",
    "~(le(idx) & (q.text | k.noised))",
    "q.image | ~q.text & k.text",
    "~q.text & ~k.text | delta(idx, lo=-1, hi=0)",
]


@pytest.mark.parametrize("text", RULES)
def test_every_view_of_every_part_is_the_oracles(text: str) -> None:
    mask = masks.parse(text)
    allowed = mask.allowed(COLUMNS)
    slices = mask.slices(COLUMNS)
    assert (painted(slices) == allowed).all()
    assert (painted(slices.transposed()) == allowed.T).all()
    assert (painted(mask.slices(COLUMNS, by="key")) == allowed).all()
    for a in range(N + 1):
        for b in range(a, N + 1):
            c, d = ((0, N), (2, 7), (a, b))[(a + b) % 3]
            part = slices.restricted((a, b), (c, d))
            assert (part.queries, part.keys) == (b - a, d - c)
            assert (painted(part) == allowed[a:b, c:d]).all()
    assert not len(slices.restricted((2, 7), (3, 3)))
    keys = {name: values[2:8] for name, values in COLUMNS.items()}
    assert (painted(mask.slices(COLUMNS, keys)) == allowed[:, 2:8]).all()
    assert (painted(mask.slices(keys, COLUMNS, by="key")) == allowed[2:8]).all()
    assert (mask.dense(COLUMNS, keys).numpy() == allowed[:, 2:8]).all()
    for seen, row in zip(mask.intervals(COLUMNS, keys), allowed[:, 2:8], strict=True):
        assert [j for start, end in seen for j in range(start, end)] == np.flatnonzero(row).tolist()
    assert mask.pairs(COLUMNS, keys) == allowed[:, 2:8].sum()
    assert mask.pairs(keys, COLUMNS) == allowed[2:8].sum()
    assert len(mask.key_intervals(COLUMNS, keys)) == 6
    nothing = {name: values[:0] for name, values in COLUMNS.items()}
    for sides in ((nothing, COLUMNS), (COLUMNS, nothing), (nothing, nothing)):
        assert painted(mask.slices(*sides)).shape == mask.allowed(*sides).shape
    for n, m in ((2, 3), (4, 2), (9, 9), (1, 1)):
        padded = np.zeros((-(-N // n) * n, -(-N // m) * m), int)
        padded[:N, :N] = allowed
        counts = block_counts(slices, n, m)
        made = np.zeros((len(padded) // n, padded.shape[1] // m), int)
        made[counts.query, counts.key] = counts.pairs
        assert (made == padded.reshape(len(made), n, -1, m).sum((1, 3))).all()
        assert (counts.pairs > 0).all()
        assert counts.pairs.dtype == np.int64
        assert counts.query.shape == counts.key.shape == counts.pairs.shape == (len(counts.pairs),)


@pytest.mark.parametrize("text", ["same(a)", "same(a) & le(idx)", "~same(a)", "same(a) | same(b)", "same(c)"])
def test_slices_of_same_over_values_that_run_on(text: str) -> None:
    up, gap = np.arange(13), np.array([-1, -1, 3])
    columns = {
        "a": np.concatenate([up, gap, up, up[::-1], up[2:] - 4]),
        "b": np.concatenate([up, up, np.full(12, 4), up + 20, [20, -1]]),
        "c": np.repeat(np.arange(27), 2)[:53],
        "idx": np.arange(53),
    }
    mask = masks.parse(text)
    allowed = mask.allowed(columns)
    assert (painted(mask.slices(columns)) == allowed).all()
    keys = {name: values[5:40] for name, values in columns.items()}
    assert (painted(mask.slices(columns, keys)) == allowed[:, 5:40]).all()
    assert (painted(mask.slices(keys, columns)) == allowed[5:40]).all()


def test_the_narrowest_term_is_asked_first() -> None:
    both = [
        "q.image", "same(doc)", "delta(idx, lo=0, hi=9)", "le(idx)",
        "table(t, [[1, 1, 1], [1, 1, 1], [1, 1, 1]])", "k.image", "k.text | k.noised", "~same(idx)",
    ]  # fmt: skip
    either = ["same(doc)", "same(span) & k.noised", "le(idx)"]
    negated = ["~q.image", "same(doc)", "k.image", "~k.text"]
    for terms, kind in ((both, masks.And), (negated, masks.And), (either, masks.Or)):
        mask = Mask(kind(tuple(masks.parse(text).expression for text in reversed(terms))))
        with patch.object(lowering, "lower", wraps=lowering.lower) as lower:
            mask.slices(COLUMNS)
        asked = [str(Mask(call.args[0])) for call in lower.call_args_list]
        assert [text for text in asked if text in terms] == terms


def lines(mask: Mask, columns: dict) -> list[tuple[int, ...]]:
    s = mask.slices(columns)
    return list(zip(*(a.tolist() for a in (s.q0, s.q1, s.lo, s.hi, s.slope_lo, s.slope_hi)), strict=True))


def test_slices_are_as_few_as_they_can_be() -> None:
    assert lines(masks.parse("le(idx)"), COLUMNS) == [(0, 9, 0, 1, 0, 1)]
    assert lines(masks.full, COLUMNS) == [(0, 9, 0, 9, 0, 0)]
    assert lines(masks.parse("same(doc)"), COLUMNS) == [(0, 6, 0, 6, 0, 0), (6, 9, 6, 9, 0, 0)]
    assert lines(masks.parse("delta(idx, hi=0)"), COLUMNS) == [(0, 9, 0, 9, 1, 0)]
    assert lines(masks.parse("same(doc) & (le(idx) | same(span))"), COLUMNS) == [
        (0, 1, 0, 1, 0, 0),
        (1, 4, 0, 4, 0, 0),
        (4, 6, 0, 6, 0, 0),
        (6, 9, 6, 7, 0, 1),
    ]
    assert len(masks.parse("delta(idx, lo=-2, hi=1)").slices(COLUMNS)) <= 3


def test_a_column_is_runs_and_rising_stretches() -> None:
    def listed(*arrays: np.ndarray) -> list[list[int]]:
        return [array.tolist() for array in arrays]

    seen = structure.Column(np.array([3, 3, 4, 5, 5, 9, 10, -1, -1, 0]))
    assert listed(seen.level_breaks, seen.affine_breaks) == [[2, 3, 5, 6, 7, 9], [2, 3, 5, 7, 9]]
    assert listed(*seen.runs) == [[0, 2, 3, 5, 6, 7, 9], [2, 3, 5, 6, 7, 9, 10], [3, 4, 5, 9, 10, -1, 0]]
    values, rank, start, end = listed(*seen.runs_by_value)
    assert (values, rank) == ([0, 3, 4, 5, 9, 10], [0, 1, 2, 3, 4, 5])
    assert (start, end) == ([9, 0, 2, 3, 5, 6], [10, 2, 3, 5, 6, 7])
    assert listed(*seen.flagged, *seen.unflagged) == [[0], [9], [9], [10]]
    assert listed(seen.rising.start, seen.rising.end) == [[0, 7], [7, 10]]
    assert listed(seen.rising_ids.start, seen.rising_ids.end) == [[0, 9], [7, 10]]
    assert seen.runs[0].dtype == seen.rising.start.dtype == np.int64
    ends = structure.Column(np.array([1, 2, 2, 4, 5]))
    assert ends.affine_breaks.tolist() == [1, 3], "a constant run keeps its first position"
    empty = structure.Column(np.zeros(0, np.int64))
    for arrays in (
        empty.runs,
        empty.runs_by_value,
        empty.flagged,
        (empty.rising.start, empty.rising_ids.end),
    ):
        assert [(array.tolist(), array.dtype) for array in arrays] == [([], np.int64)] * len(arrays)
