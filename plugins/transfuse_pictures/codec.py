"""What codecs of pictures share: raw data are float images in [0, 1], in files that others can open."""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from transfuse.files import write_bytes
from transfuse.plugin import Codec

from transfuse_pictures.files import image_bytes, is_image, read_image

BOUND = 0.999
"""The quantile of latents' sizes that samplers clip to: the largest of all is beyond all but a few, and clips none."""
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def bound_of(latents: Float[np.ndarray, "..."]) -> float:
    """The size that all latents but one in a thousand have at most; 1 where all are 0."""
    return float(np.quantile(np.abs(latents), BOUND)) or 1.0


class PictureCodec(Codec):
    """Raw data are float32 ``[image_channels, h, w]`` in [0, 1].

    image_channels: 1 (grey) or 3 (RGB), known once it is fit. Pictures of other channels are written as arrays.
    """

    suffixes = (*FORMATS, ".npy")
    image_channels: int

    def save(self, raw: np.ndarray, path: Path) -> None:
        if path.suffix.lower() not in FORMATS:
            super().save(raw, path)
            return
        write_bytes(path, image_bytes(raw, FORMATS[path.suffix.lower()]))

    def load(self, path: Path, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """The picture with the channels that the codec has; resized to the height and width of ``shape``.

        Any name that does not end in .npy may be one of the formats that are read: its content says.
        """
        if path.suffix.lower() == ".npy":
            return super().load(path)
        size = None if shape is None else (shape[1], shape[2])
        return read_image(path, self.image_channels, size).astype(np.float32) / 255

    def draw(self, raw: np.ndarray) -> str | bytes | None:
        return image_bytes(raw) if is_image(raw) else super().draw(raw)

    def suffix_for(self, raw: np.ndarray) -> str:
        return ".png" if is_image(raw) else ".npy"
