"""The pictures of a folder as arrays of one shape, with a named error for all that can be wrong."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import Literal, overload

import numpy as np
from transfuse.errors import TransfuseError
from transfuse_pictures.files import Fit, Size, image_size, read_image

from transfuse_lab.datasets.picture_size import size_for

Side = int | Literal["own"] | None
HELD = 2**30  # bytes of decoded pixels held in memory; what does not fit is read again at each visit


@dataclass(frozen=True)
class PictureForm:
    """What pictures are made: channels 1 (grey) or 3 (colour), and of one size.

    side: squares of so many pixels; ``own``: as they are, all of one size; None: as `picture_size.size_for` has it for
    their median height and width. fit: how a picture becomes one of another size.
    """

    side: Side = None
    channels: int = 3
    fit: Fit = "stretch"

    def check(self, folder: Path) -> None:
        """Raises TransfuseError where images cannot be read in this form."""
        if self.channels not in (1, 3):
            raise TransfuseError(f"data folder {folder}: channels must be 1 or 3, not {self.channels!r}")
        if isinstance(self.side, int) and not 1 <= self.side <= 4096:
            raise TransfuseError(f"data folder {folder}: size must be from 1 to 4096, not {self.side!r}")
        if self.side == "own" and self.fit != "stretch":
            raise TransfuseError(
                f"data folder {folder}: fit={self.fit} says how images change their size, and size=own that they keep "
                f"it: leave one of them out"
            )

    def size(self, sizes: Mapping[str, Size], folder: Path) -> Size:
        """Height and width of all pictures, of which these are the names, heights and widths.

        Raises TransfuseError naming one that is unlike the others where they keep their own.
        """
        if isinstance(self.side, int):
            return self.side, self.side
        counts = Counter(sizes.values())
        if self.side is None:
            heights, widths = zip(*sizes.values(), strict=True)
            return size_for(median_low(heights), median_low(widths))
        if len(counts) > 1:
            (usual, _), (odd, _), *_ = counts.most_common()
            name = next(name for name, size in sizes.items() if size == odd)
            raise TransfuseError(
                f"data folder {folder}: {name} is {by(odd)} pixels, others are {by(usual)}; leave size=own out, or "
                f"give a size to resize all to one square: --data '{folder};size=32'"
            )
        return next(iter(counts))


class Pictures:
    """float32 images ``[channels, height, width]`` in [0, 1] by name, all of one shape.

    Their headers are read when it is made, and the first are decoded and held as bytes, up to ``HELD``; the others'
    pixels are read when they are asked for. Raises TransfuseError naming the file that is broken.

    shape: of all of them. note: what is done to their sizes, in words; empty: nothing, or what was asked for.
    """

    def __init__(self, folder: Path, names: Sequence[str], form: PictureForm) -> None:
        self.folder, self.form = folder, form
        self._sizes = {name: image_size(folder / name) for name in names}
        self._size = form.size(self._sizes, folder) if names else (0, 0)
        self.shape = (form.channels, *self._size)
        self.note = _note(self._sizes.values(), self._size) if form.side is None and names else ""
        self._held: dict[str, np.ndarray] = {}
        room = HELD
        for name in names:
            if room <= 0:
                break
            self._held[name] = self._read(name)
            room -= self._held[name].nbytes

    def __getitem__(self, name: str) -> np.ndarray:
        image = self._held.get(name)
        if image is None:
            image = self._read(name)
        return image.astype(np.float32) / 255

    def outline(self) -> np.ndarray:
        """Of the shape and type of every picture, and no pixels."""
        return np.broadcast_to(np.float32(0), self.shape)

    def _read(self, name: str) -> np.ndarray:
        size = None if self._sizes[name] == self._size else self._size
        image = read_image(self.folder / name, self.form.channels, size, self.form.fit)
        if image.shape != self.shape:
            raise TransfuseError(
                f"{self.folder / name}: {by(image.shape[1:])} pixels are not what its header said, or said before; "
                "leave the folder as it is while it is read"
            )
        return image


class PicturesInOrder(Sequence[np.ndarray]):
    """Pictures by number, each decoded when it is asked for; ``next`` gives one after the other.

    What a data set promises of its raw data is an iterator; this can be gone through more than once, so that who
    trains on it need not hold it all.
    """

    def __init__(self, pictures: Pictures, names: Sequence[str]) -> None:
        self._pictures, self._names, self._at = pictures, names, 0

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> list[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(index, slice):
            return [self._pictures[name] for name in self._names[index]]
        return self._pictures[self._names[index]]

    def __next__(self) -> np.ndarray:
        if self._at >= len(self):
            raise StopIteration
        self._at += 1
        return self[self._at - 1]


def _note(sizes: Iterable[Size], made: Size) -> str:
    """``; pictures of 512 x 512 pixels are made 128 x 128 (another size: ;size=256)``"""
    found = sorted(set(sizes), key=lambda size: (size[0] * size[1], size))
    if found == [made]:
        return ""
    of = (
        f"{by(found[0])} pixels"
        if len(found) == 1
        else f"{len(found)} sizes, {by(found[0])} to {by(found[-1])},"
    )
    return f"; pictures of {of} are made {by(made)} (other squares: ;size=64 behind the folder; as they are: ;size=own)"


def by(size: Sequence[int]) -> str:
    """Height and width as people say them: width first."""
    return f"{size[1]} x {size[0]}"
