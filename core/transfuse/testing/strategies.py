"""Hypothesis strategies: columns, layouts, rows, documents and mask expressions; registries. To test your own with.

>>> from hypothesis import given
>>> from transfuse.testing import strategies
>>> @given(strategies.masks(), strategies.columns())
... def test_pairs_count_what_dense_allows(mask, columns):
...     assert mask.pairs(columns) == mask.allowed(columns).sum()
>>> test_pairs_count_what_dense_allows()
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from transfuse import masks as algebra
from transfuse.documents import Item

NAMES = ("a", "b", "c")
"""The columns that random masks read and random columns hold."""
TABLE = 3
"""Random tables have this many values; the column "t" that they read stays within."""


@st.composite
def column(draw: st.DrawFn, size: int, low: int = -1, high: int = 6) -> np.ndarray:
    """One column [size] of int64 in low…high: arbitrary, or pieces that are constant or step up or down."""
    if draw(st.booleans()):
        return np.array(draw(st.lists(st.integers(low, high), min_size=size, max_size=size)), np.int64)
    pieces: list[int] = []
    while len(pieces) < size:
        start, length, step = draw(st.tuples(st.integers(low, high), st.integers(1, 8), st.integers(-1, 1)))
        pieces += [min(max(start + step * i, low), high) for i in range(length)]
    return np.array(pieces[:size], np.int64)


@st.composite
def columns(
    draw: st.DrawFn, size: int | None = None, max_size: int = 14, names: Sequence[str] = NAMES
) -> dict[str, np.ndarray]:
    """Random columns of one length, wider than any packer makes: unordered ids, gaps, negative values.

    Also "t", which fits random tables, and "idx", which counts.
    """
    length = draw(st.integers(0, max_size)) if size is None else size
    made = {name: draw(column(length)) for name in names}
    return {**made, "t": draw(column(length, high=TABLE - 1)), "idx": np.arange(length)}


@st.composite
def atoms(draw: st.DrawFn, names: Sequence[str] = NAMES) -> algebra.Mask:
    """One atom of any kind over the named columns, "idx" and "t"."""
    kind = draw(st.sampled_from(["same", "le", "lt", "delta", "q", "k", "table", "constant"]))
    name, other = draw(st.sampled_from([*names, "idx"])), draw(st.sampled_from([*names, "idx"]))
    if kind == "delta":
        lo, hi = draw(st.tuples(st.none() | st.integers(-4, 4), st.none() | st.integers(-4, 4)))
        return algebra.delta(name, lo, hi, other) if lo is not None or hi is not None else algebra.same(name)
    if kind in ("q", "k"):
        return getattr(algebra.q if kind == "q" else algebra.k, name)
    if kind == "table":
        row = st.lists(st.integers(0, 1), min_size=TABLE, max_size=TABLE)
        return algebra.table("t", draw(st.lists(row, min_size=TABLE, max_size=TABLE)))
    if kind == "constant":
        return draw(st.sampled_from([algebra.full, algebra.none]))
    return {"same": algebra.same, "le": algebra.le, "lt": algebra.lt}[kind](name)


def masks(names: Sequence[str] = NAMES, max_leaves: int = 8) -> st.SearchStrategy[algebra.Mask]:
    """Random expressions of up to `max_leaves` atoms under `& | ~` and where."""

    def grow(inner: st.SearchStrategy[algebra.Mask]) -> st.SearchStrategy[algebra.Mask]:
        return st.one_of(
            st.tuples(inner, inner).map(lambda pair: pair[0] & pair[1]),
            st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1]),
            inner.map(lambda mask: ~mask),
            st.tuples(inner, inner, inner).map(lambda three: algebra.where(*three)),
        )

    return st.recursive(atoms(names), grow, max_leaves=max_leaves)


@dataclass(frozen=True)
class Layout:
    """A document as its spans: (positions, is an image, is noised), in order."""

    spans: tuple[tuple[int, bool, bool], ...]

    @property
    def size(self) -> int:
        return sum(n for n, _, _ in self.spans)


@st.composite
def documents(draw: st.DrawFn, max_spans: int = 4, max_span: int = 5) -> Layout:
    """One document: one to `max_spans` spans of text, of a clean image or of a noised one."""
    span = st.tuples(st.integers(1, max_span), st.booleans(), st.booleans())
    spans = draw(st.lists(span, min_size=1, max_size=max_spans))
    return Layout(tuple((n, image, image and noised) for n, image, noised in spans))


def layouts(max_documents: int = 4) -> st.SearchStrategy[list[Layout]]:
    """A row: a few documents end to end."""
    return st.lists(documents(), min_size=1, max_size=max_documents)


def packed(row: Sequence[Layout], filler: int = 0) -> dict[str, np.ndarray]:
    """The columns of documents laid end to end, as a packer writes them.

    `doc`, `idx` (row-wide), `pos` (per document), `span` (of images, unique in the row), `block` (the
    document's spans counted), the flags `image`, `text`, `noised`; then `filler` positions with doc = −1.
    """
    made: dict[str, list[int]] = {
        name: [] for name in ("doc", "pos", "span", "block", "image", "text", "noised")
    }
    unique = 0
    for doc, layout in enumerate(row):
        made["pos"] += range(layout.size)
        for block, (n, image, noised) in enumerate(layout.spans):
            made["doc"] += [doc] * n
            made["span"] += [unique if image else -1] * n
            made["block"] += [block] * n
            made["image"] += [int(image)] * n
            made["text"] += [int(not image)] * n
            made["noised"] += [int(noised)] * n
            unique += image
    ids = ("doc", "pos", "span", "block")
    arrays = {
        name: np.array([*values, *[-1 if name in ids else 0] * filler], np.int64)
        for name, values in made.items()
    }
    return {**arrays, "idx": np.arange(len(arrays["doc"]))}


@st.composite
def rows(draw: st.DrawFn, max_documents: int = 4, max_filler: int = 3) -> dict[str, np.ndarray]:
    """The columns of a packed row: a few documents end to end, then filler."""
    return packed(draw(layouts(max_documents)), draw(st.integers(0, max_filler)))


def items(max_size: int = 6) -> st.SearchStrategy[Item]:
    """Items of `transfuse.testing.modalities`: texts of the letters a to h, and blobs of up to `max_size` numbers.

    Blobs need a layout with ``Blob(sizes=range(1, max_size + 1))``.
    """
    letters = st.text("abcdefgh", min_size=1, max_size=max_size)
    numbers = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=max_size)
    droppable = st.booleans()
    return st.one_of(
        st.builds(Item, st.just("letters"), letters, droppable=droppable),
        st.builds(Item, st.just("blob"), numbers, noised=st.booleans(), droppable=droppable),
    )


def items_of(max_items: int = 3, max_size: int = 6) -> st.SearchStrategy[tuple[Item, ...]]:
    """A document's items."""
    return st.lists(items(max_size), min_size=1, max_size=max_items).map(tuple)


@st.composite
def registries(draw: st.DrawFn, max_recipes: int = 3) -> dict[str, Any]:
    """What a registry file or the hook ``transfuse_registry`` says: masks, modalities, and recipes of them.

    Every one resolves with the built-in plugins; recipes may extend each other.
    """
    rule = masks(("doc", "idx", "span"), max_leaves=4).filter(lambda mask: "t" not in mask.columns)
    rules = draw(st.lists(rule, min_size=1, max_size=3))
    made: dict[str, Any] = {
        "masks": {f"mask_{i}": str(rule) for i, rule in enumerate(rules)},
        "modalities": {"words": {"kind": "text", "vocab": draw(st.integers(256, 400))}},
        "recipes": {},
    }
    for i in range(draw(st.integers(1, max_recipes))):
        summary, steps = draw(st.text("abc ", max_size=9)), draw(st.integers(1, 9))
        recipe: dict[str, Any] = {"summary": summary, "train": {"steps": steps}}
        base = draw(st.none() | st.sampled_from(sorted(made["recipes"]))) if made["recipes"] else None
        if base is not None:
            recipe["extends"] = base
        else:
            mask = draw(st.sampled_from([*made["masks"], "causal", "same(doc) & le(idx)"]))
            recipe |= {"modalities": {"text": "words"}, "mask": mask, "loss": {"text": draw(st.floats(0, 9))}}
        made["recipes"][f"recipe_{i}"] = recipe
    return made
