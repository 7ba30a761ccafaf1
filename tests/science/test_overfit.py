"""Known answer 8 (`make science-check`): each arm learns sixteen documents by heart, and not what is dealt anew."""

import numpy as np
import pytest
from transfuse.datasets import DataSet, in_either_order
from transfuse.documents import Document, Item
from transfuse.generation.decoding import generate
from transfuse.model.build import build
from transfuse.model.model import Model
from transfuse.registry import Registry
from transfuse.training import Trainer
from transfuse_scenes.data_set import Scenes
from transfuse_scenes.settings import ScenesSettings

pytestmark = pytest.mark.slow

COUNT = 16
STEPS = {"transfusion": 800, "chameleon": 300}
SETTINGS = {
    "transfusion": (
        "train.budget=640",
        "image.codec=blocks",
        "image.patcher.patch=2",
        "image.objective.target=x0",
    ),
    "chameleon": ("train.budget=1400", "image.codec={name: block-codes, codes: 256}", "image.temperature=0"),
}
"""A row holds all sixteen, or nearly."""


class Sixteen(DataSet):
    """The first pairs of scenes whose captions differ, in either order as often.

    dealt: each caption with any of the pictures, anew at each visit, so that neither tells the other.
    """

    name = "sixteen"
    splits = ("train", "tune", "test")

    def __init__(self, dealt: bool = False) -> None:
        self.scenes, self.dealt = Scenes(ScenesSettings(edits=0, captions=0)), dealt
        first = {self.scenes.document("train", i).items[0].data: i for i in reversed(range(2 * COUNT))}
        self.numbers = sorted(first.values())[:COUNT]

    def size(self, split: str) -> int:
        return COUNT

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        text, image = self.scenes.document("train", self.numbers[index]).items
        if self.dealt and rng is not None:
            _, image = self.scenes.document("train", self.numbers[rng.integers(COUNT)]).items
        return in_either_order(Document((text, image), index, f"sixteen {index}"), 0.5, rng)

    def identity(self) -> dict:
        return {"name": self.name}


def trained(arm: str, data: Sixteen) -> Model:
    """On all sixteen in every step, or nearly."""
    small = ("model.dim=64", "model.layers=3", "model.heads=4", "image.guidance.scale=1", "train.drop=0")
    length = ("train.flops=null", f"train.steps={STEPS[arm]}", "train.weight_decay=0", "train.lr=4e-3")
    recipe = Registry.open().recipe(arm, (*small, *length, *SETTINGS[arm]))
    trainer = Trainer(recipe, build(recipe, data), data)
    while not trainer.done:
        trainer.step()
    return trainer.model


def known(model: Model, data: Sixteen) -> tuple[float, float]:
    """Shares of the sixteen: whose picture, drawn for its caption, is nearer to its own than to any other; and whose
    caption is told of its picture letter by letter."""
    texts, images = zip(*(data.document("train", i).items for i in range(COUNT)), strict=True)
    drawn = generate(model, [Document((text,)) for text in texts], want="image", seed=1)
    made = np.stack([document.items[-1].data for document in drawn])
    real = np.stack([image.data for image in images])
    nearest = np.square(made[:, None] - real[None]).mean((2, 3, 4)).argmin(1)
    shown = [Document((Item("image", image.data, noised=False),)) for image in images]
    told = [document.items[-1].data for document in generate(model, shown, want="text", tokens=64)]
    return (
        float(np.mean(nearest == np.arange(COUNT))),
        float(np.mean([said == text.data for said, text in zip(told, texts, strict=True)])),
    )


@pytest.mark.parametrize("arm", STEPS)
def test_sixteen_documents_are_learnt_by_heart(arm: str) -> None:
    pictures, captions = known(trained(arm, Sixteen()), Sixteen())
    assert min(pictures, captions) >= 15 / 16


@pytest.mark.parametrize("arm", STEPS)
def test_what_is_dealt_anew_is_not(arm: str) -> None:
    pictures, captions = known(trained(arm, Sixteen(dealt=True)), Sixteen())
    assert max(pictures, captions) < 0.5
