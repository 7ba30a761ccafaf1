"""Small masks of every kind of slice, all their views checked exhaustively: quick, and they kill what chance misses."""

import re
from unittest.mock import patch

import numpy as np
import pytest
from transfuse import masks
from transfuse.errors import TransfuseError
from transfuse.masks import Mask, Slices
from transfuse.masks.columns import column
from transfuse.masks.normal_form import lowering, structure
from transfuse.masks.normal_form.blocks import block_counts
from transfuse.testing import strategies

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


def painted(slices: Slices) -> np.ndarray:
    count = np.zeros((slices.queries, slices.keys), int)
    for q0, q1, lo, hi, a, b in zip(
        slices.q0, slices.q1, slices.lo, slices.hi, slices.slope_lo, slices.slope_hi, strict=True
    ):
        assert q0 < q1
        assert q1 - q0 > 1 or a == b == 0, "a slice of one query is level"
        for i in range(q1 - q0):
            assert 0 <= lo + a * i < hi + b * i <= slices.keys
            count[q0 + i, lo + a * i : hi + b * i] += 1
    return count


@pytest.mark.parametrize("text", RULES)
def test_every_view_of_every_part(text: str) -> None:
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
def test_same_of_values_that_run_on(text: str) -> None:
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
    for terms, kind in ((both, masks.And), (either, masks.Or)):
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


def test_what_a_column_looks_like() -> None:
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


def test_key_order_sorts_by_flags_within_groups() -> None:
    keys = {"doc": [5, 5, 5, 2, 2, 2], "x": [1, 0, 3, 0, 1, 0], "y": [0, 1, 0, 0, 0, 0]}
    order = lambda text: masks.key_order(masks.parse(text), keys).tolist()  # noqa: E731
    assert order("same(doc) & k.x") == [1, 0, 2, 3, 5, 4]
    assert order("k.x") == [1, 3, 5, 0, 2, 4]
    assert order("q.x & le(y)") == [0, 1, 2, 3, 4, 5]
    assert order("same(doc) | k.x") == [1, 3, 5, 0, 2, 4]
    assert order("same(doc)") == [0, 1, 2, 3, 4, 5]
    assert order("k.x & k.y") == [3, 5, 0, 2, 4, 1]
    with pytest.raises(TransfuseError, match=re.escape("mask same(doc) & k.z: the keys have no column 'z'")):
        order("same(doc) & k.z")
    with pytest.raises(TransfuseError, match=re.escape("mask same(d) & k.x: the keys have no column 'd'")):
        order("same(d) & k.x")


def test_intervals_are_a_sequence() -> None:
    intervals = masks.parse("le(idx)").intervals({"idx": [0, 1, 2]})
    assert intervals[-3] == intervals[0] == [(0, 1)]
    assert intervals[2] == intervals[-1] == [(0, 3)]
    for wrong in (3, -4):
        with pytest.raises(IndexError, match=f"query {wrong} of 3"):
            intervals[wrong]


def test_nesting_ends_at_sixty() -> None:
    for text, brackets in (
        ("({}", ")"),
        ("~{}", ""),
        ("where(q.b, {}, q.a", ")"),
        ("where(q.a, q.b, {}", ")"),
    ):
        for deep in (60, 61):
            whole = "q.a"
            for _ in range(deep):
                whole = text.format(whole) + brackets
            if deep == 60:
                assert masks.parse(whole).columns <= {"a", "b"}
            else:
                with pytest.raises(TransfuseError, match="nested more than 60 deep"):
                    masks.parse(whole)


def test_where_nested_in_its_flag_is_refused_before_it_explodes() -> None:
    with pytest.raises(TransfuseError, match="more than 1000 atoms"):
        masks.parse("where(" * 50 + "q.a" + ", q.a, q.b)" * 50)
    assert masks.parse("where(" * 5 + "q.a" + ", q.a, q.b)" * 5).columns == {"a", "b"}


def test_the_limits_of_where() -> None:
    for deep in (59, 60):
        whole = f"where({'(' * deep}q.a{')' * deep}, q.b, q.c)"
        if deep == 59:
            assert masks.parse(whole).columns == {"a", "b", "c"}
        else:
            with pytest.raises(TransfuseError, match="nested more than 60 deep"):
                masks.parse(whole)
    for atoms in (998, 999):
        whole = f"full & where({' | '.join(['q.a'] * atoms)}, q.b, q.c)"
        if atoms == 998:
            assert masks.parse(whole).columns == {"a", "b", "c"}
        else:
            with pytest.raises(
                TransfuseError, match=r"^mask, column 8: where stands for more than 1000 atoms"
            ):
                masks.parse(whole)


def test_a_fault_inside_a_call_is_placed_once() -> None:
    with pytest.raises(TransfuseError) as caught:
        masks.parse("full & delta(a, lo=x)")
    assert str(caught.value).count("mask, column") == 1
    assert str(caught.value).startswith("mask, column 20: expected an integer")
    with pytest.raises(
        TransfuseError, match=r"^mask, column 8: expected an atom \(same, le, lt, .*\), not '\)'"
    ):
        masks.parse("full & )")


def test_words_in_faults() -> None:
    for text, said in (
        ("delta(a, loo=1)", "did you mean 'lo'"),
        ("delta(a, hii=1)", "did you mean 'hi'"),
        ("delta(a, keyy=b)", "did you mean 'key'"),
        ("delta(a, zzz=b)", "known: hi, key, lo"),
        ("zzzzz(a)", "known: delta, full, k, le, lt, none, q, same, table, where"),
    ):
        with pytest.raises(TransfuseError, match=said):
            masks.parse(text)
    with pytest.raises(TransfuseError, match=r"below 2\^40, not -12345678901234"):
        masks.parse("delta(a, lo=-12345678901234)")
    assert masks.parse("delta(a, lo=-1234567890)") == masks.delta("a", lo=-1234567890)
    with pytest.raises(
        TransfuseError, match=r"^a mask is neither true nor false: combine .* not and, or, not$"
    ):
        bool(masks.full)
    for bound in (2**40, -(2**40)):
        with pytest.raises(TransfuseError, match="below 2"):
            masks.delta("a", lo=bound)
        with pytest.raises(TransfuseError, match=r"2\^40 or more"):
            masks.same("a").allowed({"a": [bound]})
        inside = bound - (1 if bound > 0 else -1)
        assert masks.delta("a", hi=inside).columns == {"a"}
        assert masks.same("a").draw({"a": [inside, 0]}) == ["#.", ".#"]


@pytest.mark.parametrize(
    ("text", "sides", "said"),
    [
        ("same(dco)", [{"doc": [0], "span": [1]}],
         "the positions have no column 'dco' (did you mean 'doc'?; they have: doc, span)"),
        ("q.b", [{"a": [0]}, {"b": [1]}], "the queries have no column 'b' (known: a; they have: a)"),
        ("k.b", [{"b": [0]}, {"a": [1]}], "the keys have no column 'b' (known: a; they have: a)"),
        ("k.b", [{}], "the positions have no column 'b' (none is known; they have: none)"),
        ("full", [{"b": [0]}, {}], "the keys have no columns, so their number is unknown"),
        ("full", [{}, {"b": [0]}], "the queries have no columns, so their number is unknown"),
        ("q.b & q.c", [{"b": [0], "c": []}, {"a": [0]}],
         "columns of the queries differ in length: {'b': 1, 'c': 0}"),
        ("k.b & k.c", [{"a": [0]}, {"b": [0], "c": []}],
         "columns of the keys differ in length: {'b': 1, 'c': 0}"),
        ("k.b & k.c", [{"b": [0], "c": []}], "columns of the positions differ in length: {'b': 1, 'c': 0}"),
        ("k.x", [{"x": [0.5]}], "column 'x' holds float64, not integers or booleans"),
        ("k.x", [{"x": [[1]]}], "column 'x' has 2 axes, not 1"),
        ("k.x", [{"x": [2**40]}], "column 'x' holds values of 2^40 or more in size"),
    ],
)  # fmt: skip
def test_a_fault_in_columns_is_one_sentence(text: str, sides: list[dict], said: str) -> None:
    with pytest.raises(TransfuseError) as caught:
        masks.parse(text).allowed(*sides)
    assert str(caught.value) == f"mask {text}: {said}"


@pytest.mark.parametrize(
    ("queries", "keys", "value", "at", "last"),
    [([0, 1], [0], 1, "query 1", 0), ([0], [1, -1, 2], 2, "key 2", 1), ([-2, -3], [0], -2, "query 0", 0)],
)
def test_a_value_outside_a_table_is_placed(queries: list, keys: list, value: int, at: str, last: int) -> None:
    with pytest.raises(TransfuseError) as caught:
        masks.table("s", [[1, 1]]).allowed({"s": queries}, {"s": keys})
    what = f"the value {value} of column 's' at {at} is outside the table's 0…{last} (−1 means none)"
    assert str(caught.value) == f"table(s): {what}"


class Elsewhere:
    """What a tensor on another device can do."""

    def __init__(self, values: list[int]) -> None:
        self.values = values

    def detach(self) -> "Elsewhere":
        return self

    def cpu(self) -> "Elsewhere":
        return self

    def numpy(self) -> np.ndarray:
        return np.array(self.values)


def test_columns_of_any_kind_of_integer_or_none_at_all() -> None:
    for values in ([1, 2], np.array([1, 2], np.uint8), np.array([True, True]), (1, 2)):
        assert masks.k.x.draw({"x": values}) == ["##", "##"]
    assert masks.k.x.draw({"x": Elsewhere([1, 0])}) == ["#.", "#."]
    small = column(masks.k.x.expression, "x", {"x": np.array([200], np.uint8)}, "keys")
    assert (small.tolist(), small.dtype) == ([200], np.int64)
    assert masks.same("x").draw({"x": [True, False]}) == ["#.", ".#"]
    assert masks.same("x").draw({"x": []}) == []
    assert masks.le("x").intervals({"x": np.zeros(0)}).ptr.tolist() == [0]
    assert masks.full.pairs({"a": [0, 0], "b": [0, 0]}, {"c": [0, 0, 0]}) == 6
