"""A data set from a folder of captioned images that a user brings."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from transfuse.datasets import in_either_order
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError

from transfuse_lab.datasets.captions import CaptionedFile, captioned_files
from transfuse_lab.datasets.file_names import in_text
from transfuse_lab.datasets.images import check_form, read_images
from transfuse_lab.datasets.listed import ListedDataSet, choose_splits


class Folder(ListedDataSet[CaptionedFile]):
    """The images of a folder with their captions; images are float32 ``[channels, side, side]``.

    path: the folder; the captions' formats are in ``transfuse_lab.datasets.captions``.
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
        files = _with_splits(captioned_files(folder))
        self._images = read_images(folder, sorted({file.image for file in files}), side, channels)
        empty = f"data folder {folder}: no image is left to train on, all are held out"
        super().__init__(in_text(folder.resolve().name), files, empty)

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        number, file = self.entry(split, index)
        image = self._images[file.image].astype(np.float32) / 255
        items = (Item("text", file.caption, droppable=True), Item("image", image))
        plain = Document(items, number, f"{self.name} {split} {index} ({file.image})")
        return in_either_order(plain, self.reversed_share, rng)


def _with_splits(files: list[CaptionedFile]) -> list[CaptionedFile]:
    """Every file with a split: the one given, else by a hash of the image's name.

    All lines of one image share a split.
    """
    given: dict[str, tuple[str, str]] = {}
    for file in files:
        if file.split is not None:
            split, source = given.setdefault(file.image, (file.split, file.source))
            if split != file.split:
                raise TransfuseError(
                    f"{file.source}: {file.image} is {file.split} here but {split} in {source}; "
                    "one image belongs to one split"
                )
    splits = choose_splits({file.image: given.get(file.image, (None, ""))[0] for file in files})
    return [replace(file, split=splits[file.image]) for file in files]
