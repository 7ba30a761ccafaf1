"""What is wrong with a document is said with the document, the item and the cure; nothing of it is laid out."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.modalities.modality import Column, Span
from transfuse.testing.modalities import Blob, Letters, document, layout

PLACE = "pairs 7: item 1"

BAD: Mapping[str, tuple[Item, str]] = {
    "unknown modality": (Item("leters", "a"), r"\(leters\): .*no modality 'leters'; did you mean 'letters'"),
    "id too large": (
        Item("letters", np.array([1, 8, 9])),
        r"\(letters\): id 8 is outside its vocabulary 0…7",
    ),
    "id negative": (Item("letters", np.array([1, -1])), r"id -1 is outside its vocabulary"),
    "ids as floats": (Item("letters", np.array([1.0])), "ids must be whole numbers, not float64"),
    "ids as booleans": (Item("letters", np.array([True])), "ids must be whole numbers, not bool"),
    "empty text": (Item("letters", ""), r"\(letters\): it is empty; leave the item out"),
    "empty image": (Item("blob", []), r"\(blob\): it is empty"),
    "NaN": (Item("blob", [1.0, float("nan")]), r"\(blob\): it holds NaN or Inf; mend or drop the document"),
    "infinite": (Item("blob", [1.0, float("inf")]), r"\(blob\): it holds NaN or Inf"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_item_is_named_with_its_document(what: str) -> None:
    item, message = BAD[what]
    given = document("a", item, source="pairs 7")
    for lay_out in (layout().sequence, layout().prompt):
        with pytest.raises(TransfuseError, match=re.escape(PLACE) + ".*" + message):
            lay_out(given)


def test_what_a_codec_says_is_kept_with_the_place() -> None:
    class Picky(Blob):
        def encode(self, raw: Any) -> np.ndarray:
            raise TransfuseError("3 axes, not 2")

    with pytest.raises(TransfuseError, match=r"^pairs 7: item 0 \(blob\): 3 axes, not 2$"):
        layout(Picky()).sequence(document([1.0], source="pairs 7"))


def test_an_empty_document_is_named() -> None:
    with pytest.raises(TransfuseError, match="pairs 7: the document is empty; give it at least one item"):
        layout().sequence(Document((), source="pairs 7"))


def test_items_must_be_a_tuple_of_items() -> None:
    for items in ([Item("letters", "a")], ("a",)):
        with pytest.raises(TransfuseError, match="pairs 7: items must be a tuple of Item"):
            Document(items, source="pairs 7")  # type: ignore[arg-type]


# -- what a plugin may do wrong


def test_a_column_that_is_not_declared_is_an_error() -> None:
    class Undeclared(Blob):
        def columns(self) -> dict[str, Column]:
            return {"frames": Column.ID}

    with pytest.raises(
        TransfuseError, match=r"'blob'.*'frame', which columns.. does not declare; did you mean 'frames'"
    ):
        layout(Undeclared(extra={"frame": Column.ID})).sequence(document([1.0]))


def test_a_column_of_the_wrong_length_is_an_error() -> None:
    class Short(Blob):
        def spans(self, item: Item, payload: np.ndarray) -> list[Span]:
            return [Span(payload, len(payload), "2", columns={"frame": np.zeros(2, np.int64)})]

    with pytest.raises(TransfuseError, match=r"'frame' has shape \(2,\), and its span has 4 positions"):
        layout(Short(extra={"frame": Column.ID})).sequence(document([1.0, 2.0]))


@pytest.mark.parametrize("name", ["doc", "pos", "letters", "tokens", "scored"])
def test_a_column_must_not_take_a_name_that_is_taken(name: str) -> None:
    with pytest.raises(TransfuseError, match=f"modality 'blob': column '{name}' is taken"):
        layout(Letters(), Blob(extra={name: Column.ID})).sequence(document("a"))


def test_two_modalities_may_share_a_column_that_means_the_same() -> None:
    shared = layout(Blob(extra={"frame": Column.ID}), Blob("film", extra={"frame": Column.ID}))
    assert shared.columns["frame"] == Column.ID
    with pytest.raises(TransfuseError, match="modality 'film': column 'frame' is taken"):
        _ = layout(Blob(extra={"frame": Column.ID}), Blob("film", extra={"frame": Column.FLAG})).columns
