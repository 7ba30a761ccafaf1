"""What an image must be before a codec takes it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from transfuse.plugin import RawError, TransfuseError


def check_image(raw: Any, channels: int | None = None) -> np.ndarray:
    """A float image ``[c, h, w]`` in [0, 1], or an error that says what it is instead."""
    if not isinstance(raw, np.ndarray):
        raise TransfuseError(
            f"an image must be a numpy array [channels, height, width], not {type(raw).__name__}"
        )
    if raw.ndim != 3:
        raise TransfuseError(
            f"an image must have 3 axes [channels, height, width], not {raw.ndim}: shape {raw.shape}"
        )
    if raw.dtype.kind != "f":
        raise TransfuseError(f"an image must be of floats in [0, 1], not {raw.dtype}; divide by 255")
    if not raw.size:
        raise TransfuseError(f"the image is empty: shape {raw.shape}")
    if not np.isfinite(raw).all():
        raise TransfuseError("the image holds NaN or Inf; mend or drop the document")
    if channels is not None and raw.shape[0] != channels:
        raise TransfuseError(f"the image has {raw.shape[0]} channels, and the others have {channels}")
    if raw.min() < -1e-3 or raw.max() > 1 + 1e-3:
        raise TransfuseError(f"image values must lie in [0, 1], not [{raw.min():.3g}, {raw.max():.3g}]")
    return raw.astype(np.float32, copy=False)


def check_images(raws: Sequence[Any]) -> list[np.ndarray]:
    """All of a codec's training images. Raises RawError for one that is none, or has other channels."""
    images: list[np.ndarray] = []
    for number, raw in enumerate(raws):
        try:
            images.append(check_image(raw, images[0].shape[0] if images else None))
        except TransfuseError as error:
            raise RawError(number, str(error)) from error
    return images


def check_one_shape(images: Sequence[np.ndarray]) -> None:
    """Raises RawError for the first image whose shape is not that of the first."""
    for number, image in enumerate(images):
        if image.shape != images[0].shape:
            raise RawError(
                number,
                f"its shape is {image.shape}, and the first image's {images[0].shape}: an autoencoder is "
                f"trained on images of one shape; resize them",
            )
