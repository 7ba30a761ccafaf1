"""Expressions rewritten: simplified and transposed without a change of meaning; keys put in an order of few slices."""

import re

import numpy as np
import pytest
from hypothesis import given
from transfuse import masks
from transfuse.errors import TransfuseError
from transfuse.masks import Mask
from transfuse.masks.expressions import atoms
from transfuse.testing import strategies

from tests.masks.painting import painted


@given(strategies.masks(), strategies.columns())
def test_simplify_never_changes_the_meaning_nor_grows(mask: Mask, columns: dict) -> None:
    simple = masks.simplify(mask)
    assert (simple.allowed(columns) == mask.allowed(columns)).all() if simple.columns else True
    if not simple.columns:
        assert mask.pairs(columns) == (len(columns["idx"]) ** 2 if simple == masks.full else 0)
    assert len(atoms(simple.expression)) <= len(atoms(mask.expression))
    assert masks.simplify(simple) == simple


@pytest.mark.parametrize(
    ("text", "simple"),
    [
        ("same(doc) & full", "same(doc)"),
        ("same(doc) & none", "none"),
        ("same(doc) | full", "full"),
        ("~~le(idx)", "le(idx)"),
        ("~le(idx)", "delta(idx, hi=-1)"),
        ("~delta(idx, hi=-1)", "le(idx)"),
        ("le(idx) & (le(idx) | k.text)", "le(idx)"),
        ("le(idx) | (le(idx) & k.text)", "le(idx)"),
        ("k.text & ~k.text", "none"),
        ("k.text | ~k.text", "full"),
        ("~(full & none)", "full"),
        ("k.text & (q.text & k.text)", "k.text & q.text"),
        ("(k.a | none) & (full & k.a)", "k.a"),
        ("~full | ~none", "full"),
        ("~full", "none"),
        ("~none", "full"),
        ("le(idx) | none", "le(idx)"),
        ("k.a & (full & (q.b & k.c))", "k.a & q.b & k.c"),
        ("k.a | (none | (q.b | k.c))", "k.a | q.b | k.c"),
        ("~(k.a & k.b)", "~(k.a & k.b)"),
        ("~delta(a, lo=1, hi=2)", "~delta(a, lo=1, hi=2)"),
        ("(k.a | q.b) & (q.b | k.a)", "(k.a | q.b) & (q.b | k.a)"),
        ("~~(k.a & k.b) & k.a", "k.a & k.b"),
        ("none & full", "none"),
        ("full & full", "full"),
        ("none | none", "none"),
    ],
)
def test_simplify_by_example(text: str, simple: str) -> None:
    assert masks.simplify(masks.parse(text)) == masks.parse(simple)


@given(strategies.masks(), strategies.columns(), strategies.columns())
def test_the_transpose_swaps_queries_and_keys(mask: Mask, queries: dict, keys: dict) -> None:
    allowed = mask.allowed(queries, keys)
    assert (painted(mask.slices(queries, keys).transposed()) == allowed.T).all()
    assert (masks.transposed(mask).allowed(keys, queries) == allowed.T).all()
    assert (painted(mask.slices(queries, keys, by="key")) == allowed).all()
    assert masks.transposed(masks.transposed(mask)) == mask
    seen = np.zeros_like(allowed)
    for j, found in enumerate(mask.key_intervals(queries, keys)):
        for start, end in found:
            seen[start:end, j] = True
    assert (seen == allowed).all()


@given(strategies.masks(), strategies.columns())
def test_key_order_is_a_permutation_of_the_same_pairs(mask: Mask, columns: dict) -> None:
    order = masks.key_order(mask, columns)
    assert sorted(order.tolist()) == list(range(len(columns["idx"])))
    keys = {name: values[order] for name, values in columns.items()}
    assert (painted(mask.slices(columns, keys)) == mask.allowed(columns)[:, order]).all()


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


def bagel(images: int) -> dict:
    """Per image a noised and a clean copy of 4, with two positions of text between."""
    spans = tuple(s for _ in range(images) for s in ((2, False, False), (4, True, True), (4, True, False)))
    return strategies.packed([strategies.Layout(spans)])


def test_slices_are_linear_in_images_whatever_the_orientation() -> None:
    rule = masks.parse("same(doc) & (le(idx) | same(span)) & (~k.noised | same(span))")
    columns = bagel(32)
    order = masks.key_order(rule, columns)
    ordered = len(rule.slices(columns, {name: values[order] for name, values in columns.items()}))
    assert ordered <= 4 * 32
    assert len(rule.slices(columns, by="key")) <= 5 * 32
    assert len(rule.slices(columns)) <= 4 * 32
    assert max(map(len, rule.intervals(columns))) == 33
    assert max(map(len, rule.key_intervals(columns))) == 1


def test_sorted_keys_make_worldvla_slices_linear_in_chunks() -> None:
    chunks, n = 32, 5
    act = np.tile(np.repeat([0, 1], [3, n]), chunks)
    chunk = np.repeat(np.arange(chunks), 3 + n)
    columns = {"idx": np.arange(len(act)), "is_act": act, "act": np.where(act > 0, chunk, -1)}
    rule = masks.parse("le(idx) & ~(q.is_act & k.is_act & ~same(act))")
    order = masks.key_order(rule, columns)
    ordered = rule.slices(columns, {name: values[order] for name, values in columns.items()})
    assert len(ordered) <= 4 * chunks
    assert len(rule.slices(columns)) > 4 * len(ordered)


def test_an_unknown_orientation_is_named() -> None:
    with pytest.raises(TransfuseError, match="by='query' or by='key', not 'row'"):
        masks.full.slices({"a": [1]}, by="row")
