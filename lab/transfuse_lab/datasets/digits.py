"""The data set `digits`: 1,797 real handwritten digits of 8×8 pixels, each captioned with its name."""

import hashlib
from functools import cached_property
from typing import Any

import numpy as np
from transfuse.datasets import (
    SPLITS,
    DataSet,
    checked_index,
    checked_split,
    content_hash,
    in_either_order,
)
from transfuse.documents import Document, Item

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIZES = {"train": 1300, "tune": 200, "test": 297}
LICENCE = (
    "CC BY 4.0: Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI Machine "
    "Learning Repository, doi:10.24432/C50P49; as packaged in scikit-learn (BSD-3-Clause)"
)


def split_order(count: int = sum(SIZES.values())) -> list[int]:
    """The fixed shuffle behind the split: digit numbers sorted by a hash of the number.

    A hash, not a random generator, so that no library release can move the split.
    """
    return sorted(range(count), key=lambda number: hashlib.sha256(f"digits {number}".encode()).digest())


class Digits(DataSet):
    """scikit-learn's digits. Images are float32 ``[1, 8, 8]`` in [0, 1] (17 grey levels).

    The first 1,300 of ``split_order()`` are ``train``, the next 200 ``tune``, the other 297 ``test``. A document's
    ``id`` is the digit's number in scikit-learn. 80 % of visits read the caption first (it may be dropped by
    guidance), 20 % the image first.
    """

    name = "digits"
    splits = SPLITS
    reversed_share = 0.2

    def size(self, split: str) -> int:
        return SIZES[checked_split(self.name, split, self.splits)]

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        place = checked_index(self.name, split, index, self.size(split))
        before = self.splits[: self.splits.index(split)]
        number = self._order[place + sum(SIZES[other] for other in before)]
        images, labels = self._arrays
        caption = Item("text", NAMES[labels[number]], droppable=True)
        plain = Document((caption, Item("image", images[number])), number, f"digits {split} {index}")
        return in_either_order(plain, self.reversed_share, rng)

    def identity(self) -> dict[str, Any]:
        return {
            "name": self.name,
            **SIZES,
            "content": self._hash,
            "licence": LICENCE,
        }

    @cached_property
    def _order(self) -> list[int]:
        return split_order()

    @cached_property
    def _hash(self) -> str:
        return content_hash(self)

    @cached_property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        images = (np.asarray(pixels) / 16).astype(np.float32).reshape(-1, 1, 8, 8)
        images.flags.writeable = False
        return images, np.asarray(labels)
