"""A data set from a folder of captioned images that a user brings."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from transfuse.datasets import in_either_order
from transfuse.documents import Document, Item
from transfuse.errors import TransfuseError
from transfuse_pictures.files import Fit

from transfuse_lab.datasets.captions import CaptionedFile, captions_of
from transfuse_lab.datasets.file_names import in_text
from transfuse_lab.datasets.found_files import Links
from transfuse_lab.datasets.images import PictureForm, Pictures, PicturesInOrder, Side
from transfuse_lab.datasets.listed import ListedDataSet, choose_splits


class Folder(ListedDataSet[CaptionedFile]):
    """The images of a folder with their captions; images are float32 ``[channels, height, width]``, all of one size.

    path: the folder; the captions' formats are in ``transfuse_lab.datasets.captions``.
    side: every image is resized to this square; ``own``: images are taken as they are; None: they are made of one
    size that models can take (`transfuse_lab.datasets.picture_size`).
    channels: 1 for grey, 3 for colour. fit: how an image becomes one of another size.
    links: whether links that lead out of the folder are followed.
    classes: an image's caption is the name of the folder it lies in.

    An image whose split is not given gets one by a hash of its file name, one in ten ``test``, one in twenty
    ``tune``, so that adding images moves none. 80 % of visits read the caption first, 20 % the image.
    Raises TransfuseError naming file and line for anything wrong in the folder, when it is opened.
    """

    reversed_share = 0.2

    def __init__(
        self,
        path: str | Path,
        side: Side = None,
        channels: int = 3,
        fit: Fit = "stretch",
        links: Links = "inside",
        classes: bool = False,
    ) -> None:
        folder, form = Path(path), PictureForm(side, channels, fit)
        form.check(folder)
        captions = captions_of(folder, links, classes)
        files = _with_splits(captions.files)
        self._images = Pictures(folder, sorted({file.image for file in files}), form)
        self._account = captions.account + self._images.note
        empty = f"data folder {folder}: no image is left to train on, all are held out"
        super().__init__(in_text(folder.resolve().name), files, empty)

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        image = self._images[self.entry(split, index)[1].image]
        return in_either_order(self._with(image, split, index), self.reversed_share, rng)

    def outline(self, split: str, index: int, roles: Collection[str]) -> Document:
        return (
            self._with(self._images.outline(), split, index)
            if "image" in roles
            else self.document(split, index)
        )

    def _with(self, image: np.ndarray, split: str, index: int) -> Document:
        number, file = self.entry(split, index)
        items = (Item("text", file.caption, droppable=True), Item("image", image))
        return Document(items, number, f"{self.name} {split} {index} ({file.image})")

    def document_roles(self, split: str, index: int) -> list[str]:
        return ["text", "image"]

    def raw(self, split: str, modality: str) -> Iterator[Any]:
        files = [self.entry(split, index)[1] for index in range(self.size(split))]
        if modality == "image":
            return PicturesInOrder(self._images, [file.image for file in files])
        return iter([file.caption for file in files] if modality == "text" else [])

    def account(self) -> str:
        return self._account


def _with_splits(files: Sequence[CaptionedFile]) -> list[CaptionedFile]:
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
