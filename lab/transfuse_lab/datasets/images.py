"""The pictures of a folder as arrays of one shape, with a named error for all that can be wrong."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from transfuse.errors import TransfuseError
from transfuse_pictures.files import Fit, image_size, read_image

HELD = 2**30  # bytes of decoded pixels held in memory; what does not fit is read again at each visit


@dataclass(frozen=True)
class PictureForm:
    """What pictures are made: channels 1 (grey) or 3 (colour), squares of ``side`` pixels, or as they are where that
    is None. fit: how one becomes a square."""

    side: int | None = None
    channels: int = 3
    fit: Fit = "stretch"

    def check(self, folder: Path) -> None:
        """Raises TransfuseError where images cannot be read in this form."""
        if self.channels not in (1, 3):
            raise TransfuseError(f"data folder {folder}: channels must be 1 or 3, not {self.channels!r}")
        if self.side is not None and not 1 <= self.side <= 4096:
            raise TransfuseError(f"data folder {folder}: size must be from 1 to 4096, not {self.side!r}")
        if self.side is None and self.fit != "stretch":
            raise TransfuseError(
                f"data folder {folder}: fit={self.fit} says how to make squares of a size: give one, as in size=32"
            )


class Pictures:
    """float32 images ``[channels, height, width]`` in [0, 1] by name, all of one shape.

    The first are decoded when it is made and held as bytes, up to ``HELD``; of the others the headers are read,
    and the pixels when they are asked for. Raises TransfuseError naming the file that is broken or of another shape.
    """

    def __init__(self, folder: Path, names: Sequence[str], form: PictureForm) -> None:
        self.folder, self.form = folder, form
        self._held: dict[str, np.ndarray] = {}
        self._shape: tuple[int, ...] | None = None
        room, shapes, first = HELD, Counter[tuple[int, ...]](), dict[tuple[int, ...], str]()
        for name in names:
            if room > 0:
                image = self._held[name] = self._read(name)
                shape, room = image.shape, room - image.nbytes
            else:
                height, width = image_size(folder / name)
                shape = (form.channels, form.side or height, form.side or width)
            shapes[shape] += 1
            first.setdefault(shape, name)
        if len(shapes) > 1:
            (usual, _), (odd, _), *_ = shapes.most_common()
            raise TransfuseError(
                f"data folder {folder}: {first[odd]} is {_size(odd)} pixels, others are {_size(usual)}; "
                f"give a size to resize all to one square: --data '{folder};size={min(usual[1:])}'"
            )
        self._shape = next(iter(shapes), None)

    def __getitem__(self, name: str) -> np.ndarray:
        image = self._held.get(name)
        if image is None:
            image = self._read(name)
            if image.shape != self._shape:
                raise TransfuseError(
                    f"{self.folder / name}: {_size(image.shape)} pixels are not what its header said, or said before; "
                    "leave the folder as it is while it is read"
                )
        return image.astype(np.float32) / 255

    def _read(self, name: str) -> np.ndarray:
        return read_image(self.folder / name, self.form.channels, self.form.side, self.form.fit)


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


def _size(shape: Sequence[int]) -> str:
    return f"{shape[2]} x {shape[1]}"
