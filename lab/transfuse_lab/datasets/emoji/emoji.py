"""The data set `emoji`: 3,786 emoji with their CLDR names, held out by composition."""

import json
import zipfile
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

from transfuse_lab.datasets.emoji.cache import cache_folder
from transfuse_lab.datasets.emoji.split import heldout

COUNT = 3786
SIZES = (32, 64)
LICENCE = (
    "pictures: Twemoji, copyright Twitter, Inc and other contributors, CC BY 4.0, as packaged in "
    "emoji-datasource-twitter (MIT); names: Unicode CLDR (Unicode-3.0), as packaged in emojibase-data (MIT)"
)
CURE = "run `transfuse data build emoji`"


def emoji_file(folder: Path | None = None) -> Path:
    """The built data set in a folder, the cache folder by default. The number grows with every new content."""
    return (folder or cache_folder()) / "emoji-1.npz"


class Emoji(DataSet):
    """Twemoji with their CLDR names. Images are float32 ``[3, size, size]`` in [0, 1], on white.

    size: 64, as drawn, or 32, where every pixel is the mean of 2 × 2.
    Captions are CLDR's English short names as CLDR writes them, all different. What is held out, and by
    which rule, is in ``transfuse_lab.datasets.emoji.split``. A document's ``id`` is the emoji's place among
    the sorted code points. 80 % of visits read the caption first (it may be dropped by guidance), 20 %
    the image first.
    Raises TransfuseError where the data set is not built, or its file is damaged.
    """

    name = "emoji"
    splits = SPLITS
    reversed_share = 0.2

    def __init__(self, size: int = 32, file: Path | None = None) -> None:
        if size not in SIZES:
            raise TransfuseError(f"data set emoji: size must be 32 or 64, not {size!r}")
        self._side = size
        self._codes, self._captions, self._images = read_built(file or emoji_file(), size)
        held = heldout(self._captions)
        self._numbers: dict[str, list[int]] = {split: [] for split in self.splits}
        for number in range(len(self._captions)):
            self._numbers[held.get(number, "train")].append(number)

    def size(self, split: str) -> int:
        return len(self._numbers[checked_split(self.name, split, self.splits)])

    def document(self, split: str, index: int, rng: np.random.Generator | None = None) -> Document:
        number = self._numbers[split][checked_index(self.name, split, index, self.size(split))]
        caption = Item("text", self._captions[number], droppable=True)
        image = Item("image", self._images[number].astype(np.float32) / 255)
        plain = Document((caption, image), number, f"emoji {split} {index} ({self._codes[number]})")
        return in_either_order(plain, self.reversed_share, rng)

    def identity(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "size": self._side,
            **{split: self.size(split) for split in self.splits},
            "content": self._hash,
            "licence": LICENCE,
        }

    @cached_property
    def _hash(self) -> str:
        return content_hash(self)


def read_built(path: Path, size: int) -> tuple[list[str], list[str], np.ndarray]:
    """Code points, captions and uint8 images ``[n, 3, size, size]`` of a built file."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            about, images = json.loads(arrays["about"].tobytes()), arrays[f"size{size}"]
        codes, captions = about["codes"], about["captions"]
    except FileNotFoundError as error:
        raise TransfuseError(f"data set emoji is not built ({path} is not there): {CURE}") from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise TransfuseError(f"data set emoji: {path} is damaged ({str(error)[:200]}): {CURE}") from error
    if not len(codes) == len(captions) == len(images) or images.shape[1:] != (3, size, size):
        raise TransfuseError(f"data set emoji: {path} does not hold together: {CURE}")
    return codes, captions, images
