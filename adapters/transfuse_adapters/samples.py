"""Samples of texts, pictures and numbers that others wrote, as raw data and documents; sizes are capped."""

from io import BytesIO

import numpy as np
from transfuse.plugin import Document, Item, in_either_order

LONGEST_TEXT = 100_000  # characters
LARGEST = 64 * 2**20  # bytes of one value
REVERSED_SHARE = 0.2  # of a document's visits, in which its items come in the other order


def text(value: str) -> str:
    """Raises ValueError for one that is too long."""
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"a text of {len(value):,} characters, more than {LONGEST_TEXT:,}")
    return value


def picture(body: bytes, place: str, channels: int, side: int | None) -> np.ndarray:
    """An encoded picture as float32 ``[channels, height, width]`` in [0, 1], resized to a square of ``side`` if given.

    Raises TransfuseError naming ``place`` where it is none.
    """
    from transfuse_pictures.files import decode_image

    size = None if side is None else (side, side)
    return decode_image(BytesIO(body), place, channels, size).astype(np.float32) / 255


def document(items: list[Item], number: int, source: str, rng: np.random.Generator | None) -> Document:
    """The items in order, or in the other; a text that comes first is a prompt that guidance may leave out."""
    if len(items) > 1 and isinstance(items[0].data, str):
        items[0] = Item(items[0].modality, items[0].data, droppable=True)
    return in_either_order(Document(tuple(items), number, source), REVERSED_SHARE, rng)
