"""The pictures of a folder as arrays of one shape, with a named error for all that can be wrong."""

from collections import Counter
from pathlib import Path

import numpy as np
from transfuse.errors import TransfuseError
from transfuse_pictures.files import read_image

LARGEST_FOLDER = 4 * 2**30  # bytes of decoded pixels held in memory


def check_form(folder: Path, side: int | None, channels: int) -> None:
    """Raises TransfuseError where images cannot be read in this form."""
    if channels not in (1, 3):
        raise TransfuseError(f"data folder {folder}: channels must be 1 or 3, not {channels!r}")
    if side is not None and not 1 <= side <= 4096:
        raise TransfuseError(f"data folder {folder}: size must be from 1 to 4096, not {side!r}")


def read_images(folder: Path, names: list[str], side: int | None, channels: int) -> dict[str, np.ndarray]:
    """uint8 images ``[channels, height, width]`` by name, all of one shape, resized if ``side`` says so."""
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
