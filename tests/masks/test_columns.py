"""Columns of any integer kind are read alike; one that is missing, ragged or of another kind is named."""

import numpy as np
import pytest
import torch
from transfuse import masks
from transfuse.errors import TransfuseError


def test_columns_may_be_lists_arrays_tensors_and_booleans() -> None:
    rule = masks.parse("same(a) & k.b")
    forms = [
        {"a": [0, 0], "b": [True, False]},
        {"a": np.array([0, 0], np.int8), "b": np.array([True, False])},
        {"a": torch.tensor([0, 0]), "b": torch.tensor([True, False])},
        {"a": (0, 0), "b": torch.tensor([1, 0], dtype=torch.int32)},
    ]
    for columns in forms:
        assert rule.draw(columns) == ["#.", "#."]
        assert rule.dense(columns).dtype == torch.bool
        assert rule.dense(columns).shape == (2, 2)


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


def test_columns_may_be_narrow_unsigned_on_a_device_or_empty() -> None:
    for values in ([1, 2], np.array([1, 2], np.uint8), np.array([True, True]), (1, 2)):
        assert masks.k.x.draw({"x": values}) == ["##", "##"]
    assert masks.k.x.draw({"x": Elsewhere([1, 0])}) == ["#.", "#."]
    bytes_ = {"x": np.array([1, 200, 200], np.uint8)}
    assert masks.delta("x", hi=-1).draw(bytes_) == [".##", "...", "..."], "1 − 200 is below 0"
    assert masks.table("x", [[0, 1], [1, 0]]).draw({"x": np.array([0, 1], np.uint8)}) == [".#", "#."]
    assert len(masks.same("x").slices(bytes_)) == 2
    assert masks.same("x").draw({"x": [True, False]}) == ["#.", ".#"]
    assert masks.same("x").draw({"x": []}) == []
    assert masks.le("x").intervals({"x": np.zeros(0)}).ptr.tolist() == [0]
    assert masks.full.pairs({"a": [0, 0], "b": [0, 0]}, {"c": [0, 0, 0]}) == 6


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        (
            "same(dco)",
            {"doc": [0], "span": [1]},
            "no column 'dco' .did you mean 'doc'.; they have: doc, span",
        ),
        ("same(doc) & k.x", {"doc": [0, 1], "x": [1]}, "differ in length"),
        ("same(doc)", {"doc": [0.5]}, "float64, not integers"),
        ("same(doc)", {"doc": [[0]]}, "2 axes"),
        ("same(doc)", {"doc": [2**50]}, "2.40"),
        ("full", {}, "number is unknown"),
        ("table(s, [[1]])", {"s": [0, 1]}, "the value 1 of column 's' at query 1 is outside the table's 0…0"),
        ("table(s, [[1]])", {"s": [-2]}, "the value -2 of column 's' at query 0"),
    ],
)
def test_wrong_columns_are_named(text: str, columns: dict, message: str) -> None:
    for use in (masks.parse(text).allowed, masks.parse(text).slices):
        with pytest.raises(TransfuseError, match=message):
            use(columns)


def test_a_rectangular_mask_names_the_side() -> None:
    with pytest.raises(TransfuseError, match="the keys have no column 'b'"):
        masks.k.b.allowed({"b": [1]}, {"a": [1]})
    with pytest.raises(TransfuseError, match="at key 1"):
        masks.table("s", [[1]]).allowed({"s": [0]}, {"s": [0, 1]})
    assert masks.k.b.draw({"a": [1, 1]}, {"b": [1, 0]}) == ["#.", "#."]


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


@pytest.mark.parametrize("bound", [2**40, -(2**40)])
def test_values_and_bounds_stay_below_two_to_the_forty(bound: int) -> None:
    inside = bound - (1 if bound > 0 else -1)
    assert masks.delta("a", hi=inside) == masks.parse(f"delta(a, hi={inside})")
    assert masks.same("a").draw({"a": [inside, 0]}) == ["#.", ".#"]
    for beyond in (lambda: masks.delta("a", lo=bound), lambda: masks.parse(f"delta(a, lo={bound})")):
        with pytest.raises(TransfuseError, match=rf"below 2\^40, not {bound}"):
            beyond()
    with pytest.raises(TransfuseError, match=r"2\^40 or more"):
        masks.same("a").allowed({"a": [bound]})
