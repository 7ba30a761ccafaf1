"""How hard Hypothesis tries; and what tests of whole models share: a tiny data set, small recipes, models fit to it."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, settings
from transfuse.config.recipe import Recipe
from transfuse.datasets import DataSet, content_hash, in_either_order
from transfuse.documents import Document, Item
from transfuse.model.build import build_modalities, build_model, fit_modalities
from transfuse.model.model import Model
from transfuse.registry import Registry
from transfuse.registry.files import packaged_file
from transfuse.registry.plugins import Plugins

# The same examples every run, and no clock: torch's first calls are slow. $EXAMPLES asks for so many, unshrunk.
asked = os.environ.get("EXAMPLES")
settings.register_profile(
    "transfuse",
    deadline=None,
    derandomize=True,
    max_examples=int(asked or 100),
    phases=(Phase.explicit, Phase.generate) if asked else tuple(Phase),
)
settings.load_profile("transfuse")

SMALL = (
    "model.dim=32", "model.layers=2", "model.heads=2", "train.steps=4", "train.budget=160", "text.vocab=280",
    "image.codec.width=8", "image.codec.steps=10", "image.codec.batch=8",
)  # fmt: skip
PIXELS = (*SMALL[:6], "image.codec=pixel", "image.patcher.patch=2", "image.sampler.evaluations=4")


class Shapes(DataSet):
    """Images of which one half is bright, captioned with which; small, distinct and endless in number.

    sides: image sizes, taken in turn. change: what tests spoil documents with, ``change(document)``.
    """

    name = "shapes"
    words = ("up", "down", "left", "right")

    def __init__(
        self,
        train: int = 24,
        heldout: int = 8,
        sides: Sequence[int] = (8,),
        channels: int = 1,
        reversed_share: float = 0.2,
        change: Callable[[Document], Document] = lambda document: document,
    ) -> None:
        self.sizes = {"train": train, "heldout": heldout}
        self.sides, self.channels, self.reversed_share, self.change = sides, channels, reversed_share, change

    def size(self, split: str) -> int:
        return self.sizes[split]

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        number = index + (split == "heldout") * self.sizes["train"]
        side = self.sides[number % len(self.sides)]
        image = np.random.default_rng(number).uniform(0, 0.2, (self.channels, side, side)).astype(np.float32)
        half = side // 2
        places = ((slice(0, half), slice(None)), (slice(half, None), slice(None)),
                  (slice(None), slice(0, half)), (slice(None), slice(half, None)))  # fmt: skip
        image[:, *places[number // len(self.sides) % 4]] += 0.8
        caption = Item("text", self.words[number // len(self.sides) % 4], droppable=True)
        plain = Document((caption, Item("image", image)), number, f"shapes {split} {index}")
        return in_either_order(self.change(plain), self.reversed_share, rng)

    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "content": content_hash(self), "licence": "none"}


@pytest.fixture(scope="session")
def shapes() -> type[Shapes]:
    return Shapes


@pytest.fixture(scope="session")
def installed() -> Plugins:
    """The plugins that come with transfuse."""
    return Plugins.load()


@pytest.fixture(scope="session")
def small_recipe(installed: Plugins) -> Callable[..., Recipe]:
    """``small_recipe("chameleon", "train.rows=2")``: a recipe of the packaged registry, made tiny.

    ``transfusion`` runs on pixels in patches of 2 unless ``pixels=False``.
    """
    registry = Registry.load(installed, [packaged_file()])

    def make(name: str = "transfusion", *overrides: str, pixels: bool = True) -> Recipe:
        base = PIXELS if pixels and name == "transfusion" else SMALL
        if any(text.startswith("train.flops=") for text in overrides):
            base = tuple(text for text in base if not text.startswith("train.steps="))
        if name == "chameleon":
            base = (*base, "image.codec.codes=16")
        return registry.recipe(name, [*base, *overrides])

    return make


@pytest.fixture(scope="session")
def fitted(installed: Plugins) -> Callable[..., Model]:
    """``fitted(recipe, data)``: the recipe's untrained model, its codecs fit to the data."""

    def make(recipe: Recipe, data: DataSet, effort: float = 1.0) -> Model:
        modalities = fit_modalities(build_modalities(recipe), data, 0, lambda line: None, effort)
        return build_model(recipe, modalities, installed)

    return make
