"""A document's order for one visit, and the hash that tells contents apart."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from transfuse import TransfuseError
from transfuse.datasets import DataSet, checked_index, content_hash, in_either_order, restrict
from transfuse.documents import Document, Item

PLAIN = Document((Item("text", "seven", droppable=True), Item("image", np.zeros((1, 2, 2), np.float32))), 4)


class Listed(DataSet):
    """The documents it is handed, all in ``train``."""

    name = "listed"

    def __init__(self, *documents: Document) -> None:
        self.documents = documents

    def size(self, split: str) -> int:
        return len(self.documents) if split == "train" else 0

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        return self.documents[checked_index(self.name, split, index, self.size(split))]

    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "content": content_hash(self)}


def test_without_a_generator_the_order_stands() -> None:
    assert in_either_order(PLAIN, 1.0, None) is PLAIN


def test_reversed_the_caption_follows_and_is_no_prompt() -> None:
    turned = in_either_order(PLAIN, 1.0, np.random.default_rng(0))
    assert [(item.modality, item.droppable) for item in turned.items] == [("image", False), ("text", False)]
    assert turned.id == 4


def test_a_share_of_zero_never_reverses() -> None:
    rng = np.random.default_rng(0)
    assert all(in_either_order(PLAIN, 0.0, rng) is PLAIN for _ in range(100))


def changed(**change: Any) -> Document:
    caption, image = PLAIN.items
    return replace(PLAIN, items=(replace(caption, **change), image))


@pytest.mark.parametrize(
    "other",
    [
        changed(data="sevem"),
        changed(droppable=False),
        changed(loss=False),
        changed(noised=False),
        changed(modality="caption"),
        replace(PLAIN, id=5),
        replace(PLAIN, items=PLAIN.items[:1]),
        replace(PLAIN, items=(PLAIN.items[0], Item("image", np.zeros((1, 4, 1), np.float32)))),
        replace(PLAIN, items=(PLAIN.items[0], Item("image", np.zeros((1, 2, 2), np.int32)))),
        replace(PLAIN, items=(PLAIN.items[0], Item("image", np.eye(2, dtype=np.float32)[None]))),
    ],
)
def test_any_change_of_the_content_changes_the_hash(other: Document) -> None:
    assert content_hash(Listed(PLAIN)) == content_hash(Listed(replace(PLAIN)))
    assert content_hash(Listed(PLAIN)) != content_hash(Listed(other))


def test_the_share_read_in_reverse_is_part_of_the_hash() -> None:
    turning = Listed(PLAIN)
    turning.reversed_share = 0.5
    assert content_hash(turning) != content_hash(Listed(PLAIN))


@pytest.mark.parametrize("raw", [None, 3, [1, 2], np.array(["a"]), np.array([None])])
def test_data_that_cannot_be_hashed_is_named(raw: Any) -> None:
    with pytest.raises(TransfuseError, match="my doc: an item holds"):
        content_hash(Listed(Document((Item("text", raw),), source="my doc")))


def test_raw_yields_one_modality_in_order() -> None:
    data = Listed(PLAIN, changed(data="eight"))
    assert list(data.raw("train", "text")) == ["seven", "eight"]
    assert len(list(data.raw("train", "image"))) == 2


class Long(Listed):
    """Of which the first three documents stand for all."""

    def excerpt(self, split: str) -> int:
        return min(3, self.size(split))


def test_of_an_excerpt_a_recipe_has_what_it_reads() -> None:
    roles = ("text", "other", "text", "text", "other", "text")
    data = Long(*(Document((Item(role, "a"),), number) for number, role in enumerate(roles)))
    assert (restrict(data, ["text"]).size("train"), restrict(data, ["text"]).excerpt("train")) == (4, 2)
    assert restrict(Listed(*data.documents), ["text"]).excerpt("train") == 4
