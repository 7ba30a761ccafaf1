"""A recipe reads its own roles: other items are left out, counted and said; documents of nothing else are skipped."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transfuse.checkpoints import RunFolder
from transfuse.datasets import DataSet, Restriction, restrict
from transfuse.documents import Document
from transfuse.errors import TransfuseError
from transfuse.model.build import build
from transfuse.training.trainer import Trainer

OTHER = {"text": "image", "image": "text"}
MIXED = {0: ("text",), 1: ("image",), 2: ("text", "image")}


def mixed(document: Document) -> Document:
    """One document in three has a caption alone, one an image alone."""
    roles = MIXED[document.id % 3]
    return replace(document, items=tuple(item for item in document.items if item.modality in roles))


def roles(document: Document) -> tuple[str, ...]:
    return tuple(item.modality for item in document.items)


def read(data: DataSet, split: str) -> list[Document]:
    return [data.document(split, index) for index in range(data.size(split))]


def test_where_a_recipe_has_all_roles_it_reads_the_documents_as_they_are(shapes: Callable) -> None:
    data = shapes()
    part = restrict(data, ["text", "image", "sound"])
    for split in ("train", "tune", "test"):
        assert part.size(split) == data.size(split)
        for index in range(data.size(split)):
            ours, theirs = (d.document(split, index, np.random.default_rng(index)) for d in (part, data))
            assert (ours.id, ours.source, roles(ours)) == (theirs.id, theirs.source, roles(theirs))
            assert [item.droppable for item in ours.items] == [item.droppable for item in theirs.items]
    assert (part.left_out(), part.lacks()) == ("", ["sound"])
    assert part.identity() == data.identity()


@pytest.mark.parametrize("role", OTHER)
def test_documents_keep_their_order_and_their_names_and_lose_the_other_items(
    role: str, shapes: Callable
) -> None:
    data = shapes(train=24, change=mixed)
    part = restrict(data, [role])
    kept = [d for d in read(data, "train") if role in roles(d)]
    assert len(kept) == 16
    assert [(d.id, d.source, roles(d)) for d in read(part, "train")] == [
        (d.id, d.source, (role,)) for d in kept
    ]
    assert len(list(part.raw("train", role))) == 16
    other = OTHER[role]
    assert (
        part.left_out()
        == f"16 items of role {other} left out, and 8 documents of nothing else; the recipe has {role}"
    )
    with pytest.raises(TransfuseError, match="no document 16, the split holds 16"):
        part.document("train", 16)


def test_a_visit_of_which_nothing_is_left_is_read_in_its_plain_form(shapes: Callable) -> None:
    class Sometimes(shapes):
        """Every visit shows the image alone."""

        def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
            plain = super().document(split, index)
            return plain if rng is None else replace(plain, items=plain.items[1:])

    part = restrict(Sometimes(), ["text"])
    assert roles(part.document("train", 3, np.random.default_rng(0))) == ("text",)


def test_a_restriction_is_made_once(shapes: Callable) -> None:
    part = restrict(shapes(), ["text"])
    assert restrict(part, {"text"}) is part
    assert isinstance(restrict(part, {"image"}), Restriction)


def test_nothing_to_train_on_names_both_sets_of_roles(shapes: Callable, small_recipe: Callable) -> None:
    fault = r"'shapes': no training document has an item of the recipe's roles \(music, words\); theirs are image, text"
    with pytest.raises(TransfuseError, match=fault):
        restrict(shapes(), ["words", "music"]).size("train")


def test_a_role_of_which_the_data_have_none_is_named(small_recipe: Callable, shapes: Callable) -> None:
    def captions(document: Document) -> Document:
        return replace(document, items=tuple(i for i in document.items if i.modality == "text"))

    with pytest.raises(
        TransfuseError, match=r"no training document has an item of role 'image'; .*image=null"
    ):
        build(small_recipe(), shapes(change=captions), report=lambda line: None)


@pytest.mark.parametrize("role", OTHER)
@pytest.mark.parametrize("name", ["transfusion", "chameleon"])
def test_a_recipe_of_one_role_trains_on_documents_of_which_some_have_none(
    name: str, role: str, small_recipe: Callable, shapes: Callable
) -> None:
    data, said = shapes(change=mixed), []
    recipe = small_recipe(name, without=OTHER[role])
    trainer = Trainer(recipe, build(recipe, data, report=said.append), data)
    assert [line for line in said if "left out" in line] == [f"{name} on shapes: {trainer.data.left_out()}"]
    while not trainer.done:
        measured = trainer.step()
        assert f"loss_{role}" in measured
    assert trainer.progress.documents > trainer.data.size("train") == 16


@pytest.mark.parametrize("role", OTHER)
def test_a_stop_in_the_stream_of_a_part_changes_no_bit(
    role: str, small_recipe: Callable, shapes: Callable, fitted: Callable, tmp_path: Path
) -> None:
    data, recipe = shapes(change=mixed), small_recipe("transfusion", "train.steps=6", without=OTHER[role])
    whole, first, second = (Trainer(recipe, fitted(recipe, data), data) for _ in range(3))
    run = RunFolder(tmp_path)
    run.write_description(recipe, first.model)
    for _ in range(3):
        assert whole.step() == first.step()
    first.save(run)
    second.resume(run.checkpoint)
    run.checkpoint.load_weights(second.model)
    for _ in range(3):
        ours, theirs = next(second.rows), next(whole.rows)
        assert ours.sources == theirs.sources
        assert ours.arrivals == theirs.arrivals
        for a, b in ((ours.tokens, theirs.tokens), (ours.targets, theirs.targets)):
            np.testing.assert_array_equal(a, b)


def test_items_left_out_change_nothing_of_those_that_are_left(
    small_recipe: Callable, shapes: Callable, fitted: Callable
) -> None:
    """Captions of captioned images are captions: the same rows, the same losses, the same weights."""

    def captions(document: Document) -> Document:
        return replace(document, items=tuple(i for i in document.items if i.modality == "text"))

    recipe = small_recipe("transfusion", "train.drop=0", without="image")
    whole = shapes(reversed_share=0.0)
    one, two = (Trainer(recipe, fitted(recipe, d), d) for d in (whole, shapes(change=captions)))
    while not one.done:
        assert one.step() == two.step()
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_what_is_wrong_with_an_item_is_told_by_its_number_in_the_whole_document(
    small_recipe: Callable, shapes: Callable
) -> None:
    def flat(document: Document) -> Document:
        text, image = document.items
        data = image.data[0] if document.id == 5 else image.data
        return replace(document, items=(text, replace(image, data=data)))

    with pytest.raises(TransfuseError, match=r"^shapes train 5: item 1 \(image\): an image must have 3 axes"):
        build(small_recipe(without="text"), shapes(change=flat), report=lambda line: None)
