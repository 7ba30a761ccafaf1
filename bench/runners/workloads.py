"""The documents that bench/peer.py trains on: text as bytes and pictures of latents of width 4.

A picture of n positions is an array ``[4, 1, n]`` in [0, 1]: four channels, a position each. What is counted is data
positions: bytes of text and positions of pictures, neither markers nor padding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from transfuse.datasets import DataSet
from transfuse.documents import Document, Item
from transfuse_lab.datasets.digits import Digits

WIDTH = 4  # of a latent
COUNT = 1500  # documents of a workload
LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz     "))


@dataclass(frozen=True)
class Workload(DataSet):
    """``COUNT`` documents, the same in every run.

    budget: positions of one of our rows. about: what a document is, for the page. draw: the document of a number.
    """

    name: str
    budget: int
    about: str
    draw: Callable[[int], tuple[Item, ...]]

    def size(self, split: str) -> int:
        return COUNT if split == "train" else 1

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        return _document(self, index)

    def identity(self) -> dict[str, Any]:
        return {"name": self.name}

    @property
    def has_text(self) -> bool:
        return any(item.modality == "text" for item in self.document("train", 0).items)


@cache
def _document(workload: Workload, index: int) -> Document:
    return Document(workload.draw(index), index, f"{workload.name} {index}")


def data_positions(document: Document) -> int:
    """Bytes of text and positions of pictures."""
    return sum(len(i.data) if i.modality == "text" else i.data[0].size for i in document.items)


def letters(rng: np.random.Generator, count: int) -> str:
    return "".join(LETTERS[rng.integers(len(LETTERS), size=count)])


def noise(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.random((WIDTH, 1, count), np.float32)


@cache
def _digits() -> Digits:
    return Digits()


def digit(index: int) -> tuple[Item, ...]:
    """A real digit of 8×8 pixels as 16 positions, a square of 2×2 each, behind its name."""
    caption, image = _digits().document("train", index % _digits().size("train")).items
    squares = image.data.reshape(4, 2, 4, 2).transpose(1, 3, 0, 2).reshape(WIDTH, 1, 16)
    return caption, Item("image", squares)


def several_digits(index: int) -> tuple[Item, ...]:
    rng = np.random.default_rng(index)
    return tuple(item for one in rng.integers(COUNT, size=rng.integers(1, 5)) for item in digit(int(one)))


def ragged(index: int) -> tuple[Item, ...]:
    rng = np.random.default_rng(index)
    text, image = rng.integers(4, 201), rng.integers(4, 257)
    return Item("text", letters(rng, text)), Item("image", noise(rng, image))


def equal(index: int) -> tuple[Item, ...]:
    rng = np.random.default_rng(index)
    return Item("text", letters(rng, 60)), Item("image", noise(rng, 64))


def alone(index: int) -> tuple[Item, ...]:
    return (Item("image", noise(np.random.default_rng(index), 64)),)


WORKLOADS = {
    one.name: one
    for one in (
        Workload("digits", 768, "a name and a digit of 16 positions, rows of 768", digit),
        Workload("digits_many", 768, "one to four digits, each behind its name, rows of 768", several_digits),
        Workload("ragged", 4096, "text of 4-200, a picture of 4-256, rows of 4,096", ragged),
        Workload("equal", 4096, "text of 60, a picture of 64, rows of 4,096: 32 documents of 128", equal),
        Workload("image_only", 4096, "a picture of 64, rows of 4,096", alone),
    )
}
