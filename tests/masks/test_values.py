"""Masks as values: equal, hashable, picklable, printable; each atom as a picture a person checks by eye."""

import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from transfuse import masks
from transfuse.errors import TransfuseError
from transfuse.masks import Mask
from transfuse.testing import strategies


@given(strategies.masks(max_leaves=12))
def test_text_and_pickle_come_back(mask: Mask) -> None:
    assert masks.parse(str(mask)) == mask
    assert eval(repr(mask), {"masks": masks}) == mask
    assert pickle.loads(pickle.dumps(mask)) == mask
    assert hash(masks.parse(str(mask))) == hash(mask)


def test_text_of_every_form() -> None:
    for text in (
        "full",
        "none",
        "same(doc)",
        "le(idx)",
        "lt(idx)",
        "delta(frame, hi=1)",
        "delta(frame, lo=0, hi=3)",
        "delta(frame0, lo=-1, key=frame)",
        "delta(frame0, lo=0, key=frame)",
        "delta(frame, lo=2)",
        "q.text",
        "~k.noised",
        "table(seg, [[1, 0], [1, 1]])",
        "~(le(idx) & q.a) | k.b & (k.c | q.d)",
        "~~q.a",
    ):
        assert str(masks.parse(text)) == text
    assert str(masks.parse("where(q.text, le(idx), full)")) == "q.text & le(idx) | ~q.text & full"
    assert masks.parse(" le ( idx ) ") == masks.le("idx")
    assert masks.parse("delta(a,lo=+2)") == masks.delta("a", lo=2)


def test_masks_combine_with_masks_only() -> None:
    for other in (True, "full", None):
        with pytest.raises(TypeError):
            masks.full & other  # type: ignore[operator]
        with pytest.raises(TypeError):
            masks.full | other  # type: ignore[operator]


def test_flags_are_what_any_name_says_but_pythons_own() -> None:
    assert masks.k.image == Mask(masks.Flag("k", "image")) == masks.parse("k.image")
    assert not hasattr(masks.q, "__wrapped__")
    with pytest.raises(AttributeError, match="__wrapped__"):
        masks.q.__wrapped__  # noqa: B018


def test_precedence_is_not_and_or() -> None:
    a, b, c = masks.q.a, masks.q.b, masks.q.c
    assert masks.parse("q.a | q.b & q.c") == a | (b & c)
    assert masks.parse("~q.a & q.b") == (~a) & b
    assert masks.parse("(q.a | q.b) & q.c") == (a | b) & c


def test_structure_equality_and_columns() -> None:
    assert masks.le("a") != masks.lt("a")
    assert masks.le("a") == masks.delta("a", lo=0)
    rule = masks.parse("same(doc) & delta(a, hi=1, key=b) & q.c & k.d & table(t, [[1]])")
    assert rule.columns == {"doc", "a", "b", "c", "d", "t"}
    assert rule.query_columns == {"doc", "a", "c", "t"}
    assert rule.key_columns == {"doc", "b", "d", "t"}
    with pytest.raises(AttributeError):
        masks.same("doc").column = "x"  # type: ignore[attr-defined]
    with pytest.raises(TransfuseError, match=r"with & \| ~, not"):
        bool(masks.full and masks.none)


@pytest.mark.parametrize(
    ("text", "columns", "picture"),
    [
        ("same(a)", {"a": [0, 0, -1, 1]}, ["##..", "##..", "....", "...#"]),
        ("le(a)", {"a": [2, 0, -1]}, ["###", ".##", "..#"]),
        ("lt(a)", {"a": [2, 0, -1]}, [".##", "..#", "..."]),
        ("delta(a, lo=1, hi=2)", {"a": [0, 1, 2, 3]}, ["....", "#...", "##..", ".##."]),
        ("delta(a, hi=0)", {"a": [0, 1, 2]}, ["###", ".##", "..#"]),
        ("delta(a, lo=-1, key=b)", {"a": [0, 1], "b": [1, 2]}, ["#.", "##"]),
        ("q.a", {"a": [0, 1, -1]}, ["...", "###", "###"]),
        ("k.a", {"a": [0, 1, -1]}, [".##", ".##", ".##"]),
        ("table(a, [[0, 1], [0, 0]])", {"a": [0, 1, -1]}, [".#.", "...", "..."]),
        ("full", {"a": [0, 0]}, ["##", "##"]),
        ("none", {"a": [0, 0]}, ["..", ".."]),
    ],
)
def test_atom_by_eye(text: str, columns: dict, picture: list[str]) -> None:
    mask = masks.parse(text)
    assert mask.draw(columns) == picture
    assert mask.pairs(columns) == "".join(picture).count("#")


def test_transfusion_by_eye() -> None:
    rule = masks.parse("same(doc) & (le(idx) | same(span))")
    columns = {"doc": [0, 0, 0, 0, 1, -1], "span": [-1, 0, 0, -1, -1, -1], "idx": range(6)}
    assert rule.draw(columns) == ["#.....", "###...", "###...", "####..", "....#.", "......"]
    assert rule.intervals(columns)[1] == [(0, 3)]
    assert rule.intervals(columns)[-1] == []
    assert len(rule.slices(columns)) == 4
    with pytest.raises(IndexError):
        rule.intervals(columns)[6]


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
    ("text", "message"),
    [
        ("sme(doc)", "column 1: unknown atom 'sme': did you mean 'same'"),
        ("same(doc) & lee(idx)", "column 13: unknown atom 'lee': did you mean 'le'"),
        ("same(doc", "column 9: expected ')', not 'the end'"),
        ("same doc", "column 6: expected '('"),
        ("same(1)", "column 6: expected a column's name, not '1'"),
        ("same(doc) le(idx)", "column 11: expected & or | or the end"),
        ("", "column 1: expected an atom"),
        ("q", "column 2: expected '.'"),
        ("delta(a)", "needs lo=, hi= or both"),
        ("delta(a, low=1)", "column 10: delta takes lo=, hi= and key=, not 'low': did you mean 'lo'"),
        ("delta(a, lo=1, lo=2)", "column 16: lo is given twice"),
        ("delta(a, lo=x)", "column 13: expected an integer"),
        ("delta(a, lo=1234567890123456)", "expected an integer of at most 14 digits"),
        ("table(a, [])", "non-empty"),
        ("table(a, [[1, 0], [1]])", "one length"),
        ("table(a, [[2]])", "0 or 1"),
        ("table(a, [[1] [0]])", "column 15: expected ','"),
        ("__import__(os)", "column 1: unknown atom '__import__'"),
        ("same(doc); le(idx)", "column 10: ';' is no part of a mask"),
        ("same(doc).x", "column 10: expected & or |"),
        ("(" * 200 + "full", "nested more than 60 deep"),
        ("~" * 5000 + "full", "nested more than 60 deep"),
        ("where(q.a, full)", "column 16: expected ','"),
    ],
)
def test_wrong_text_is_an_error_at_its_column(text: str, message: str) -> None:
    with pytest.raises(TransfuseError, match=re.escape(message)):
        masks.parse(text)


def test_a_fault_points_at_its_place() -> None:
    with pytest.raises(TransfuseError) as caught:
        masks.parse("same(doc) & lee(idx)")
    assert str(caught.value) == (
        "mask, column 13: unknown atom 'lee': did you mean 'le'?\n  same(doc) & lee(idx)\n              ^"
    )
    with pytest.raises(TransfuseError) as caught:
        masks.parse("le(idx) &  $")
    assert str(caught.value) == "mask, column 12: '$' is no part of a mask\n  le(idx) &  $\n             ^"
    with pytest.raises(TransfuseError) as caught:
        masks.parse("full & table(a, [[2]])")
    assert str(caught.value).startswith("mask, column 8: table(a): cells are 0 or 1\n  full & table")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: masks.same("a b"), "named by letters"),
        (lambda: masks.same(3), "named by letters"),  # type: ignore[arg-type]
        (lambda: masks.delta("a"), "for no condition write full"),
        (lambda: masks.delta("a", lo=0.5), "not 0.5"),  # type: ignore[arg-type]
        (lambda: masks.delta("a", lo=2**41), "below 2.40"),
        (lambda: masks.table("a", [["x"]]), "lists of 0 and 1"),  # type: ignore[list-item]
        (lambda: masks.table("a", 3), "lists of 0 and 1"),  # type: ignore[arg-type]
        (lambda: masks.parse(3), "a string, not int"),  # type: ignore[arg-type]
        (lambda: masks.Flag("x", "a"), "'q' or 'k'"),
    ],
)
def test_wrong_arguments_are_errors(make: object, message: str) -> None:
    with pytest.raises(TransfuseError, match=message):
        make()  # type: ignore[operator]


def test_importing_masks_imports_no_torch() -> None:
    code = "import sys; from transfuse import masks; masks.le('a').pairs({'a': [1]});"
    code += "print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
