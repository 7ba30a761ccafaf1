"""Inputs that are nearly right: texts with a piece cut, doubled or put there; JSON of which one value is another."""

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

WORDS = """
plugins disabled modalities masks recipes extends loss model train mask attention text image image_vq
kind name kl vq linear unet codec patcher objective sampler guidance scale dim layers heads steps flops
causal full none transfusion chameleon summary same(doc) le(idx) auto dense
"""
words = st.sampled_from(WORDS.split())
leaves = st.one_of(
    words,
    st.text(max_size=5),
    st.integers(),
    st.sampled_from([2**31, 2**63, 10**40, -1, 0]),
    st.floats(),
    st.booleans(),
    st.none(),
    st.lists(words | st.integers(), max_size=3),
)
trees = st.recursive(leaves, lambda inner: st.dictionaries(words, inner, max_size=4), max_leaves=25)


def near(
    *texts: str, parts: tuple[str, ...] = ("", ": ", "{", "]", "- ", "\n", "&a", "\t", "3", "'", '"')
) -> Any:
    """Texts in which up to three pieces are cut, doubled, or replaced by others."""

    @st.composite
    def changed(draw: st.DrawFn) -> str:
        text = draw(st.sampled_from(texts))
        for _ in range(draw(st.integers(1, 3))):
            start = draw(st.integers(0, len(text)))
            stop = draw(st.integers(start, min(len(text), start + 40)))
            piece = draw(st.sampled_from([*parts, text[start:stop] * 2]) | st.text(max_size=4))
            text = text[:start] + piece + text[stop:]
        return text

    return changed()


def altered(value: Any) -> Any:
    """JSON values of which one, at any depth, is another, is missing, or has company."""
    found = list(places_in(value))

    @st.composite
    def made(draw: st.DrawFn) -> Any:
        place = draw(st.sampled_from(found))
        return put(
            value, place, draw(trees), draw(st.sampled_from(["instead", "instead", "without", "beside"]))
        )

    return made()


def places_in(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value in a JSON value: the keys and numbers that lead to it."""
    yield place
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from places_in(inner, (*place, key))


def put(value: Any, place: tuple[Any, ...], new: Any, how: str) -> Any:
    """The value with another at a place; or without what stands there, or with a key more (``how``)."""
    if not place:
        return {**value, "beside": new} if how == "beside" and isinstance(value, dict) else new
    key, *rest = place
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    if not rest and how == "without":
        del copy[key]
    else:
        copy[key] = put(value[key], tuple(rest), new, how)
    return copy
