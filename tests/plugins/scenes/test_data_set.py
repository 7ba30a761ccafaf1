"""The data set of scenes: endless, a pure function of numbers, exact in its mixture, and clean of what is held out."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transfuse.datasets import ENDLESS, restrict
from transfuse.documents import Document
from transfuse.errors import TransfuseError
from transfuse_scenes import edits
from transfuse_scenes.data_set import BLOCK, HELD_OUT, NUMBERED, Scenes
from transfuse_scenes.grammar import PRESETS, UNSEEN, couples_apart, read
from transfuse_scenes.parser import parse
from transfuse_scenes.scenes import fits
from transfuse_scenes.settings import ScenesSettings
from transfuse_scenes.world import Pair, Scene

NUMBERS = st.integers(0, ENDLESS - 1)


def scenes(**given) -> Scenes:
    return Scenes(ScenesSettings(**given))


def shown(document: Document) -> list[Scene]:
    return [reading.scene for item in document.items if not isinstance(item.data, str)
            for reading in parse(item.data[None])]  # fmt: skip


def same(one: Document, two: Document) -> bool:
    return (one.id, one.source) == (two.id, two.source) and all(
        a.modality == b.modality and np.array_equal(a.data, b.data)
        for a, b in zip(one.items, two.items, strict=True)
    )


@given(index=NUMBERS)
def test_a_document_is_a_function_of_its_number(index: int) -> None:
    document = scenes().document("train", index)
    assert same(document, scenes().document("train", index))
    assert document.id == index
    assert scenes().document_roles("train", index) == [item.modality for item in document.items]


@given(index=NUMBERS, preset=st.sampled_from(sorted(PRESETS)))
def test_a_picture_shows_what_its_caption_says(index: int, preset: str) -> None:
    document = scenes(preset=preset, edits=0, captions=0).document("train", index)
    text, image = document.items
    description = read(text.data)
    assert description is not None
    (reading,) = parse(image.data[None])
    assert fits(description, reading.scene)


@given(index=NUMBERS)
def test_an_edit_does_what_it_says_and_nothing_else(index: int) -> None:
    before, instruction, after = scenes(edits=BLOCK, captions=0).document("train", index).items
    edit = edits.read(instruction.data)
    assert edit is not None
    assert str(edit) == instruction.data
    one, two = (parse(item.data[None])[0].scene for item in (before, after))
    assert edits.done(edit, one, two) == (True, True)
    assert edits.done(edit, one, one) == (False, True), "a copy is no edit, and keeps all else"


def test_the_mixture_is_exact_in_every_block() -> None:
    data = scenes(edits=4, captions=6)
    for start in (0, 40, BLOCK * 10**9):
        kinds = Counter(tuple(data.document_roles("train", start + i)) for i in range(BLOCK))
        assert kinds == {("text", "image"): 10, ("image", "text", "image"): 4, ("text",): 6}


def named(document: Document) -> set[frozenset[Pair]]:
    """Each group of pairs that stand together in the document, in words or pictures."""
    together: set[frozenset[Pair]] = {frozenset(thing.pair for thing in scene) for scene in shown(document)}
    for item in document.items:
        if isinstance(item.data, str):
            if (description := read(item.data)) is not None:
                together.add(frozenset(description.pairs))
            elif (edit := edits.read(item.data)) is not None:
                together |= {frozenset([edit.pair]), frozenset([edit.target])}
    return together


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_nothing_held_out_leaks_into_training(preset: str) -> None:
    data = scenes(preset=preset)
    for index in range(1500):
        for pairs in named(data.document("train", index)):
            assert not pairs & UNSEEN
            assert not any(frozenset(couple) in couples_apart() for couple in combinations(pairs, 2))


@pytest.mark.parametrize("held", ["unseen_pairs", "unseen_couples"])
def test_every_held_out_document_of_a_level_has_what_training_lacks(held: str) -> None:
    data = scenes()
    for index in range(100):
        (pairs,) = {frozenset(read(item.data).pairs) for item in data.document(held, index).items
                    if isinstance(item.data, str)}  # type: ignore[union-attr]  # fmt: skip
        apart = any(frozenset(couple) in couples_apart() for couple in combinations(pairs, 2))
        assert bool(pairs & UNSEEN) if held == "unseen_pairs" else apart and not pairs & UNSEEN


def test_ids_are_of_one_document_each() -> None:
    ids = [scenes().document(split, i).id for split in HELD_OUT for i in range(HELD_OUT[split])]
    assert len(set(ids)) == len(ids)
    assert min(ids) >= NUMBERED > ENDLESS - 1


def test_a_part_of_it_is_endless_too_and_reads_the_same_documents() -> None:
    data = scenes()
    pictures, words = restrict(data, {"image"}), restrict(data, {"text"})
    assert pictures.size("train") == words.size("train") == ENDLESS
    assert pictures.excerpt("train") == data.excerpt("train") * 15 // 20
    kept = [i for i in range(2 * BLOCK) if "image" in data.document_roles("train", i)]
    assert [pictures.document("train", i).source for i in range(30)] == [f"scenes train {i}" for i in kept]
    assert pictures.document("train", 15 * 10**6).source == f"scenes train {20 * 10**6}"
    with pytest.raises(TransfuseError, match="no training document has an item"):
        restrict(data, {"audio"}).size("train")


def test_what_is_more_than_a_block_is_refused() -> None:
    with pytest.raises(Exception, match="more than 20 of 20"):
        scenes(edits=15, captions=6)


def test_identity_tells_worlds_apart() -> None:
    some = [scenes(), scenes(preset="easy"), scenes(edits=2), scenes(captions=4)]
    assert len({one.identity()["content"] for one in some}) == len(some)
    assert scenes().identity() == scenes().identity()


def test_shuffled_captions_tell_nothing_of_training_and_all_of_what_is_held_out() -> None:
    data = scenes(shuffled=True, edits=0)
    for split, least, most in (("train", 0, 0.1), ("test", 1, 1)):
        documents = [data.document(split, i) for i in range(120)]
        pairs = [document.items for document in documents if len(document.items) == 2]
        fitting = [
            fits(description, parse(picture.data[None])[0].scene)
            for text, picture in pairs
            if (description := read(text.data)) is not None
        ]
        assert least <= np.mean(fitting) <= most, split
    assert scenes().identity()["content"] != scenes(shuffled=True).identity()["content"]
