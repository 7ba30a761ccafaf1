"""Pictures side by side in one, and a picture written to a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transfuse.errors import TransfuseError

from transfuse_lab.datasets.images import picture

GAP = 4  # pixels between images, and around them


def grid(images: Sequence[np.ndarray], across: int | None = None, zoom: int | None = None) -> Any:
    """Images ``[channels, h, w]`` in [0, 1] in rows of ``across``, or of nearly equal number, as a Pillow image.

    zoom: each pixel becomes a square of so many; by default small images are enlarged to about 64.
    """
    across = across or int(np.ceil(np.sqrt(len(images))))
    height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
    zoom = zoom or max(1, 64 // height)
    down = -(-len(images) // across)
    sheet = np.ones((3, down * (height * zoom + GAP) + GAP, across * (width * zoom + GAP) + GAP), np.float32)
    for i, image in enumerate(images):
        y, x = (
            GAP + (n * (side * zoom + GAP))
            for n, side in zip(divmod(i, across), (height, width), strict=True)
        )
        big = image.repeat(zoom, axis=1).repeat(zoom, axis=2)
        sheet[:, y : y + big.shape[1], x : x + big.shape[2]] = big
    return picture(sheet)


def save_image(image: Any, out: Path, option: str = "--out") -> None:
    """Write a Pillow image. Raises TransfuseError, naming the option, where its name or place is none for one."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        image.save(out)
    except (ValueError, OSError) as error:
        raise TransfuseError(
            f"{option} {out}: cannot be written ({error}); use a name such as grid.png"
        ) from None
