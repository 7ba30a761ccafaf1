"""What is wrong in one document is named, with its item, and nothing is trained on it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse.training.trainer import Trainer


def spoilt(index: int, item: int, data: object) -> Callable[[Document], Document]:
    """Documents as they are, but for one item of one document."""

    def change(document: Document) -> Document:
        if document.id != index:
            return document
        items = list(document.items)
        items[item] = replace(items[item], data=data)
        return replace(document, items=tuple(items))

    return change


GOOD = np.full((1, 8, 8), 0.5, np.float32)
NAN, INF = GOOD.copy(), GOOD.copy()
NAN[0, 3, 4], INF[0, 0, 0] = np.nan, np.inf

IMAGES = {
    "nan": (NAN, "NaN or Inf"),
    "inf": (INF, "NaN or Inf"),
    "wide": (np.full((1, 8, 10), 0.5, np.float32), r"4x5|8x10|\(1, 8, 10\)"),
    "channels": (np.full((3, 8, 8), 0.5, np.float32), "3 channels|shape"),
    "rank": (np.full((8, 8), 0.5, np.float32), "3 axes"),
    "dtype": (np.full((1, 8, 8), 128, np.uint8), "uint8; divide by 255"),
    "object": (np.full((1, 8, 8), None), "floats"),
    "range": (np.full((1, 8, 8), 128.0, np.float32), r"\[0, 1\]"),
    "list": ([[0.5]], "numpy array"),
    "none": (None, "numpy array"),
    "empty": (np.zeros((1, 0, 8), np.float32), "empty|does not divide|shape|no pixels"),
}
TEXTS = {
    "outside": (np.array([3, 279, 280]), "id 280 is outside its vocabulary 0…279"),
    "below": (np.array([3, -1]), "id -1 is outside"),
    "floats": (np.array([1.0, 2.0]), "whole numbers, not float64"),
    "rank": (np.array([[1, 2]]), "in one row"),
    "nothing": ("", "it is empty"),
    "number": (7, "text must be a string, not int"),
    "none": (None, "text must be a string, not NoneType"),
    "half a pair": ("a\ud800b", "UTF-8"),
}


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", ["transfusion", "chameleon"])
@pytest.mark.parametrize(
    "spoil", [*(("image", k) for k in IMAGES), *(("text", k) for k in TEXTS)], ids="-".join
)
def test_what_is_wrong_is_named_with_its_item_before_the_step(
    small_recipe: Callable, fitted: Callable, shapes: Callable, spoil: tuple[str, str], name: str
) -> None:
    role, kind = spoil
    data, message = {"image": IMAGES, "text": TEXTS}[role][kind]
    recipe = small_recipe(name, "train.budget=600", "train.drop=0")
    item = {"text": 0, "image": 1}[role]
    model = fitted(recipe, shapes())
    trainer = Trainer(recipe, model, shapes(reversed_share=0.0, change=spoilt(17, item, data)))
    before = weights(model)
    place = rf"^shapes train 17: item {item} \({role}\): .*({message})"
    with pytest.raises(TransfuseError, match=place):
        trainer.step()
    assert trainer.progress.step == 0
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("recipe", [("transfusion", True), ("transfusion", False), ("chameleon", False)])
@pytest.mark.parametrize("kind", list(IMAGES))
def test_a_codec_names_the_document_too(
    small_recipe: Callable, fitted: Callable, shapes: Callable, kind: str, recipe: tuple[str, bool]
) -> None:
    """Codecs read all images before any document is laid out: there, too, the document is named."""
    data, message = IMAGES[kind]
    name, pixels = recipe
    if kind == "wide" and pixels:
        return  # pixels may have several sizes
    bad = shapes(reversed_share=0.0, change=spoilt(17, 1, data))
    resolved = small_recipe(name, "train.drop=0", "train.budget=600", pixels=pixels)
    with pytest.raises(TransfuseError, match=rf"^shapes train 17: item 1 \(image\): .*({message})"):
        Trainer(resolved, fitted(resolved, bad), bad).step()


def test_an_empty_document_is_named(small_recipe: Callable, fitted: Callable, shapes: Callable) -> None:
    def emptied(document: Document) -> Document:
        return replace(document, items=()) if document.id == 5 else document

    recipe = small_recipe("transfusion", "train.budget=600")
    trainer = Trainer(recipe, fitted(recipe, shapes()), shapes(reversed_share=0.0, change=emptied))
    with pytest.raises(TransfuseError, match=r"^shapes train 5: the document is empty"):
        trainer.step()


def test_an_unknown_modality_is_named_with_the_nearest(
    small_recipe: Callable, fitted: Callable, shapes: Callable
) -> None:
    model = fitted(small_recipe(), shapes())
    document = Document((Item("text", "up"), Item("imgae", GOOD)), source="mine")
    with pytest.raises(TransfuseError, match=r"^mine: item 1 \(imgae\): .*did you mean 'image'\?"):
        model.layout.sequence(document)


def test_an_image_longer_than_the_budget(small_recipe: Callable, fitted: Callable, shapes: Callable) -> None:
    recipe = small_recipe("transfusion", "train.budget=15")
    trainer = Trainer(recipe, fitted(recipe, shapes()), shapes())
    with pytest.raises(
        TransfuseError, match=r"^shapes train \d+: .*item [01].* alone has 18.* fit a row of 15"
    ):
        trainer.step()


@pytest.mark.parametrize("name", ["transfusion", "chameleon"])
def test_a_step_that_is_not_finite_changes_nothing(
    small_recipe: Callable, fitted: Callable, shapes: Callable, name: str
) -> None:
    """Finite data can still overflow in a model: then, too, no weight moves, and the step is named."""
    recipe = small_recipe(name, "train.skips=0")
    model = fitted(recipe, shapes())
    trainer = Trainer(recipe, model, shapes())
    trainer.step()
    with torch.no_grad():
        model.unembed.weight[5] = torch.inf
    before = weights(model)
    with pytest.raises(
        TransfuseError, match=r"^step 1: the loss of .*text.* is not finite, and no weight was"
    ):
        trainer.step()
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key
