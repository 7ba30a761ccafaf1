"""A data set from a folder of captioned images that a user brings."""

import hashlib
from collections import Counter
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
from transfuse_lab.data.picture import read_image

HELDOUT_SHARE = 0.1
LARGEST_FOLDER = 4 * 2**30  # bytes of decoded pixels held in memory


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
        if channels not in (1, 3):
            raise TransfuseError(f"data folder {path}: channels must be 1 or 3, not {channels!r}")
        if side is not None and not 1 <= side <= 4096:
            raise TransfuseError(f"data folder {path}: size must be from 1 to 4096, not {side!r}")
        folder = Path(path)
        self.name = folder.resolve().name
        self._channels = channels
        files = _with_splits(captioned_files(folder))
        self._images = _read_images(folder, sorted({file.image for file in files}), side, channels)
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

    All lines of one image share a split. Where chance holds out nothing, the image with the lowest hash
    is held out, if another is left.
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
    free = sorted({file.image for file in files} - said.keys(), key=_chance)
    chosen = {image: "heldout" if _chance(image) < HELDOUT_SHARE else "train" for image in free}
    splits = {image: split for image, (split, _) in said.items()} | chosen
    if "heldout" not in splits.values() and free and len(splits) > 1:
        splits[free[0]] = "heldout"
    return [replace(file, split=splits[file.image]) for file in files]


def _chance(image: str) -> float:
    """A number in [0, 1) fixed by the image's name."""
    return int.from_bytes(hashlib.sha256(image.encode()).digest()[:8], "big") / 2**64


def _read_images(folder: Path, names: list[str], side: int | None, channels: int) -> dict[str, np.ndarray]:
    """uint8 images ``[channels, height, width]`` by name, all of one shape."""
    images: dict[str, np.ndarray] = {}
    held = 0
    for name in names:
        images[name] = read_image(folder / name, channels, side)
        held += images[name].nbytes
        if held > LARGEST_FOLDER:
            raise TransfuseError(
                f"data folder {folder}: its images need more than {LARGEST_FOLDER} bytes; give a smaller size"
            )
    shapes = Counter(image.shape for image in images.values())
    if len(shapes) > 1:
        (usual, _), *_ = shapes.most_common()
        odd = next(name for name, image in images.items() if image.shape != usual)
        raise TransfuseError(
            f"data folder {folder}: {odd} is {_size(images[odd])} pixels, others are "
            f"{usual[2]} x {usual[1]}; give a size to resize all to one square: --data '{folder};size=32'"
        )
    return images


def _size(image: np.ndarray) -> str:
    return f"{image.shape[2]} x {image.shape[1]}"
