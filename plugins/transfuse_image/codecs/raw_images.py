"""What an image must be before a codec takes it."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from transfuse.plugin import RawError, Report, TransfuseError

HELD = 2 * 2**30  # bytes of float32 images that an autoencoder is trained on


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


def check_images(raws: Iterable[Any]) -> int:
    """The channels of a codec's training images. Raises RawError for one that is none, or has other channels."""
    channels = None
    for _, image in _checked(raws):
        channels = image.shape[0]
    if channels is None:
        raise TransfuseError("there are no images to train the codec on")
    return channels


def training_images(raws: Iterable[Any], report: Report) -> list[np.ndarray]:
    """An autoencoder's training images: all, or as many as ``HELD`` bytes hold, evenly taken, which is reported.

    Raises RawError for the first that is none, or of another shape than the first.
    """
    images: list[np.ndarray] = []
    held, step, count = 0, 1, 0
    for number, image in _checked(raws):
        count += 1
        if images and image.shape != images[0].shape:
            raise RawError(
                number,
                f"its shape is {image.shape}, and the first image's {images[0].shape}: an autoencoder is "
                f"trained on images of one shape; resize them",
            )
        if number % step == 0:
            images.append(image)
            held += image.nbytes
        if held > HELD and len(images) > 1:
            images, step = images[::2], step * 2
            held = sum(image.nbytes for image in images)
    if len(images) < count:
        report(f"trained on {len(images):,} of {count:,} images, one in {step}: all have over {HELD:,} bytes")
    return images


def _checked(raws: Iterable[Any]) -> Iterator[tuple[int, np.ndarray]]:
    """Images with their numbers. Raises RawError for one that is none, or has other channels than the first."""
    channels = None
    for number, raw in enumerate(raws):
        try:
            image = check_image(raw, channels)
        except TransfuseError as error:
            raise RawError(number, str(error)) from error
        channels = image.shape[0]
        yield number, image
