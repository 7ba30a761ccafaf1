"""Masks as text: every form prints and parses back; what is wrong is said with its column and the likely word."""

import pickle
import re

import pytest
from hypothesis import given
from transfuse import masks
from transfuse.errors import TransfuseError
from transfuse.masks import Mask
from transfuse.testing import strategies


@given(strategies.masks(max_leaves=12))
def test_text_repr_and_pickle_give_the_mask_back(mask: Mask) -> None:
    assert masks.parse(str(mask)) == mask
    assert eval(repr(mask), {"masks": masks}) == mask
    assert pickle.loads(pickle.dumps(mask)) == mask
    assert hash(masks.parse(str(mask))) == hash(mask)


def test_every_form_prints_as_it_was_written() -> None:
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
    a, b, c = masks.q.a & masks.k.b, masks.le("idx") | masks.same("doc"), ~masks.k.c & masks.full
    for flag, first, second in ((a, b, c), (b, c, a), (c, a, b)):
        text = f"where({flag}, {first}, {second})"
        assert masks.parse(text) == masks.where(flag, first, second)
    assert masks.parse(" le ( idx ) ") == masks.le("idx")
    assert masks.parse("delta(a,lo=+2)") == masks.delta("a", lo=2)
    assert masks.parse("delta(a, lo=-1234567890)") == masks.delta("a", lo=-1234567890)


def test_not_binds_before_and_and_and_before_or() -> None:
    a, b, c = masks.q.a, masks.q.b, masks.q.c
    assert masks.parse("q.a | q.b & q.c") == a | (b & c)
    assert masks.parse("~q.a & q.b") == (~a) & b
    assert masks.parse("(q.a | q.b) & q.c") == (a | b) & c


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
        (
            "delta(a, lo=-12345678901234)",
            "column 1: delta(a): a bound is an integer below 2^40, not -12345678901234",
        ),
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


def test_a_fault_inside_a_call_is_placed_once() -> None:
    with pytest.raises(TransfuseError) as caught:
        masks.parse("full & delta(a, lo=x)")
    assert str(caught.value).count("mask, column") == 1
    assert str(caught.value).startswith("mask, column 20: expected an integer")
    with pytest.raises(
        TransfuseError, match=r"^mask, column 8: expected an atom \(same, le, lt, .*\), not '\)'"
    ):
        masks.parse("full & )")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("delta(a, loo=1)", "did you mean 'lo'"),
        ("delta(a, hii=1)", "did you mean 'hi'"),
        ("delta(a, keyy=b)", "did you mean 'key'"),
        ("delta(a, zzz=b)", "known: hi, key, lo"),
        ("zzzzz(a)", "known: delta, full, k, le, lt, none, q, same, table, where"),
    ],
)
def test_a_fault_suggests_the_nearest_word_or_all(text: str, said: str) -> None:
    with pytest.raises(TransfuseError, match=said):
        masks.parse(text)


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


def test_where_ends_at_sixty_deep_and_a_thousand_atoms() -> None:
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
