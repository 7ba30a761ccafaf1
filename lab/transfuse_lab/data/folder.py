"""A data set from a folder of captioned images that a user brings."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path
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
from transfuse.errors import TransfuseError

from transfuse_lab.data.captions import CaptionedFile, captioned_files
from transfuse_lab.data.pictures import check_form, read_images
from transfuse_lab.data.splits import splits


class Folder(DataSet):
    """The images of a folder with their captions; images are float32 ``[channels, side, side]``.

    path: the folder; the captions' formats are in ``transfuse_lab.data.captions``.
    side: every image is resized to this square; None takes images as they are, all of one size.
    channels: 1 for grey, 3 for colour.

    An image whose split is not given is held out by a hash of its file name, one in ten, so that adding
    images moves none. 80 % of visits read the caption first, 20 % the image.
    Raises TransfuseError naming file and line for anything wrong in the folder, when it is opened.
    """

    reversed_share = 0.2

    def __init__(self, path: str | Path, side: int | None = None, channels: int = 3) -> None:
        folder = Path(path)
        check_form(folder, side, channels)
        self.name = folder.resolve().name
        files = _with_splits(captioned_files(folder))
        self._images = read_images(folder, sorted({file.image for file in files}), side, channels)
        # A file keeps its number, in the listing's order, as its document's id.
        self._splits = {
            split: [(number, file) for number, file in enumerate(files) if file.split == split]
            for split in SPLITS
        }
        if not self._splits["train"]:
            raise TransfuseError(f"data folder {folder}: no image is left to train on, all are held out")

    def size(self, split: str) -> int:
        return len(self._splits[checked_split(self.name, split)])

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        number, file = self._splits[split][checked_index(self.name, split, index, self.size(split))]
        image = self._images[file.image].astype(np.float32) / 255
        items = (Item("text", file.caption, droppable=True), Item("image", image))
        plain = Document(items, number, f"{self.name} {split} {index} ({file.image})")
        return in_either_order(plain, self.reversed_share, rng)

    def identity(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "train": self.size("train"),
            "heldout": self.size("heldout"),
            "content": self._hash,
            "licence": "as the folder's owner says",
        }

    @cached_property
    def _hash(self) -> str:
        return content_hash(self)


def _with_splits(files: list[CaptionedFile]) -> list[CaptionedFile]:
    """Every file with a split: the one given, else by a hash of the image's name.

    All lines of one image share a split.
    """
    said: dict[str, tuple[str, str]] = {}
    for file in files:
        if file.split is not None:
            split, origin = said.setdefault(file.image, (file.split, file.origin))
            if split != file.split:
                raise TransfuseError(
                    f"{file.origin}: {file.image} is {file.split} here but {split} in {origin}; "
                    "one image belongs to one split"
                )
    found = splits({file.image: said.get(file.image, (None, ""))[0] for file in files})
    return [replace(file, split=found[file.image]) for file in files]
