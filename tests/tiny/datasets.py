"""A data set in memory: small captioned images, distinct, in any sizes, and spoilt as a test asks."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from transfuse.datasets import SPLITS, DataSet, content_hash, in_either_order
from transfuse.documents import Document, Item


class Shapes(DataSet):
    """Images of which one half is bright, captioned with which; small, distinct and endless in number.

    sides: image sizes, taken in turn. change: what tests spoil documents with, ``change(document)``.
    """

    name = "shapes"
    splits = SPLITS
    words = ("up", "down", "left", "right")

    def __init__(
        self,
        train: int = 24,
        test: int = 8,
        sides: Sequence[int] = (8,),
        channels: int = 1,
        reversed_share: float = 0.2,
        change: Callable[[Document], Document] = lambda document: document,
    ) -> None:
        self.sizes = {"train": train, "test": test, "tune": 4}
        self.sides, self.channels, self.reversed_share, self.change = sides, channels, reversed_share, change

    def size(self, split: str) -> int:
        return self.sizes[split]

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        before = {"train": 0, "test": self.sizes["train"], "tune": self.sizes["train"] + self.sizes["test"]}
        number = index + before[split]
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
