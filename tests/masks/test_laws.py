"""The laws of boolean algebra by name, and what holds of masks over packed documents."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transfuse import masks
from transfuse.masks import Mask
from transfuse.testing import strategies

LAWS: dict[str, Callable[[Mask, Mask, Mask], tuple[Mask, Mask]]] = {
    "commutative and": lambda a, b, c: (a & b, b & a),
    "commutative or": lambda a, b, c: (a | b, b | a),
    "associative and": lambda a, b, c: (a & (b & c), (a & b) & c),
    "associative or": lambda a, b, c: (a | (b | c), (a | b) | c),
    "distributive and": lambda a, b, c: (a & (b | c), (a & b) | (a & c)),
    "distributive or": lambda a, b, c: (a | (b & c), (a | b) & (a | c)),
    "absorption and": lambda a, b, c: (a & (a | b), a),
    "absorption or": lambda a, b, c: (a | (a & b), a),
    "idempotence and": lambda a, b, c: (a & a, a),
    "idempotence or": lambda a, b, c: (a | a, a),
    "identity and": lambda a, b, c: (a & masks.full, a),
    "identity or": lambda a, b, c: (a | masks.none, a),
    "annihilation and": lambda a, b, c: (a & masks.none, masks.none),
    "annihilation or": lambda a, b, c: (a | masks.full, masks.full),
    "complement and": lambda a, b, c: (a & ~a, masks.none),
    "complement or": lambda a, b, c: (a | ~a, masks.full),
    "double negation": lambda a, b, c: (~~a, a),
    "de morgan and": lambda a, b, c: (~(a & b), ~a | ~b),
    "de morgan or": lambda a, b, c: (~(a | b), ~a & ~b),
    "where": lambda a, b, c: (masks.where(a, b, c), (a & b) | (~a & c)),
    "where by cases": lambda a, b, c: (masks.where(a, b, c) & a, a & b),
    "le is not the other way lt": lambda a, b, c: (masks.le("a"), ~masks.transposed(masks.lt("a"))),
    "same is le both ways, but none": lambda a, b, c: (
        masks.same("a"),
        masks.le("a") & masks.transposed(masks.le("a")) & masks.same("a"),
    ),
    "delta is its two bounds": lambda a, b, c: (
        masks.delta("a", -1, 2, "b"),
        masks.delta("a", lo=-1, key="b") & masks.delta("a", hi=2, key="b"),
    ),
}


@pytest.mark.parametrize("law", LAWS)
@settings(max_examples=min(25, settings.default.max_examples))
@given(
    a=strategies.masks(max_leaves=4),
    b=strategies.masks(max_leaves=3),
    c=strategies.masks(max_leaves=3),
    columns=strategies.columns(max_size=10),
)
def test_law(law: str, a: Mask, b: Mask, c: Mask, columns: dict) -> None:
    left, right = LAWS[law](a, b, c)
    assert (left.allowed(columns) == right.allowed(columns)).all()
    assert masks.equivalent(left, right, columns)


@given(strategies.masks(), strategies.masks(), strategies.columns())
def test_equivalent_is_equality_of_the_dense_masks(a: Mask, b: Mask, columns: dict) -> None:
    assert masks.equivalent(a, b, columns) == (a.allowed(columns) == b.allowed(columns)).all()


RULES = [
    masks.parse(text)
    for text in (
        "same(doc) & le(idx)",
        "same(doc) & (le(idx) | same(span))",
        "same(doc) & (le(idx) | same(span)) & (~k.noised | same(span))",
        "same(doc) & (q.image & delta(block, hi=1) | le(pos))",
        "same(doc) & ~(q.noised & k.noised & ~same(block))",
    )
]


@given(strategies.layouts(), st.integers(0, 3))
def test_packing_law_a_documents_block_is_the_mask_of_the_document_alone(row: list, filler: int) -> None:
    columns = strategies.packed(row, filler)
    for rule in RULES:
        allowed = rule.allowed(columns)
        assert masks.separate(rule, columns)
        assert not (allowed & (columns["doc"][:, None] != columns["doc"][None, :])).any()
        assert not allowed[len(allowed) - filler :].any(), "filler sees nothing"
        assert not allowed[:, len(allowed) - filler :].any(), "filler is seen by nothing"
        at = 0
        for document in row:
            alone = rule.allowed(strategies.packed([document]))
            assert (allowed[at : at + document.size, at : at + document.size] == alone).all()
            at += document.size


@given(strategies.layouts(), st.randoms(use_true_random=False))
def test_permuting_documents_permutes_the_mask(row: list, random: object) -> None:
    order = list(range(len(row)))
    random.shuffle(order)  # type: ignore[attr-defined]
    columns, permuted = strategies.packed(row), strategies.packed([row[i] for i in order])
    starts = np.cumsum([0, *(document.size for document in row)])
    moved = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in order])
    for rule in RULES:
        assert (rule.allowed(permuted) == rule.allowed(columns)[np.ix_(moved, moved)]).all()


def test_a_mask_without_same_doc_crosses_documents() -> None:
    assert not masks.separate(masks.le("idx"), {"doc": [0, 1], "idx": [0, 1]})


def test_cacheability_of_bagel_bd3lm_and_transfusion() -> None:
    bagel = strategies.packed([strategies.Layout(((2, False, False), (4, True, True), (4, True, False)))])
    transfusion, bagels = RULES[1], RULES[2]
    bd3lm = masks.parse(
        "(k.noised & q.noised & same(block)) | (~k.noised & q.noised & lt(block)) | "
        "(~k.noised & ~q.noised & le(block))"
    )
    assert masks.cacheable(bagels, bagel)
    assert masks.cacheable(bd3lm, {"noised": [1] * 4 + [0] * 4, "block": [0, 0, 1, 1] * 2})
    assert not masks.cacheable(transfusion, bagel)
    clean = {**bagel, "noised": np.zeros_like(bagel["noised"])}
    assert masks.cacheable(transfusion, clean), "with clean images, as in decoding"


def test_equivalent_can_say_no() -> None:
    assert not masks.equivalent(masks.le("idx"), masks.lt("idx"), {"idx": [0]})
