"""Pictures as arrays: read from a file, with a named error for all that can be wrong; and back, as bytes of one."""

import warnings
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from transfuse.errors import TransfuseError

LARGEST_IMAGE = 4096 * 4096  # pixels, checked on the header, before anything is decoded


def read_image(path: Path, channels: int, side: int | None = None) -> np.ndarray:
    """The image as uint8 ``[channels, height, width]``; resized to ``[channels, side, side]`` if asked.

    channels: 1 (grey) or 3 (RGB); whatever is transparent is laid on white. A photograph is turned as
    its EXIF orientation says. Raises TransfuseError naming the file where it is neither PNG nor JPEG,
    broken, truncated, or has more than 4096 x 4096 pixels.
    """
    return decode_image(path, str(path), channels, side)


def decode_image(file: Path | BinaryIO, place: str, channels: int, side: int | None = None) -> np.ndarray:
    """The same of a file or an open stream; errors name it as ``place``."""
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        # Our own cap is lower than the size at which Pillow warns.
        warnings.simplefilter("ignore")
        try:
            with Image.open(file, formats=("PNG", "JPEG")) as opened:
                if opened.width * opened.height > LARGEST_IMAGE:
                    raise TransfuseError(
                        f"{place}: {opened.width} x {opened.height} pixels, more than {LARGEST_IMAGE}"
                    )
                image = ImageOps.exif_transpose(opened)
                image = _eight_bit(image)
                if side is not None and image.size != (side, side):
                    image = image.resize((side, side), Image.Resampling.LANCZOS)
                image = image.convert("L" if channels == 1 else "RGB")
        except TransfuseError:
            raise
        except Exception as error:  # Pillow raises OSError, ValueError, SyntaxError, struct.error, ...
            raise TransfuseError(f"{place}: not a readable PNG or JPEG image: {str(error)[:200]}") from error
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _eight_bit(image):
    """RGB or grey, eight bits a channel, without transparency."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip it
        return Image.fromarray((np.asarray(image, dtype=np.uint32) // 257).clip(0, 255).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        drawn = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert("RGB")
    return image if image.mode == "L" else image.convert("RGB")


def image_bytes(image: np.ndarray, format: str = "PNG") -> bytes:
    """A file, PNG or JPEG, of a float image ``[1 or 3, height, width]`` in [0, 1]: clipped, NaN is black.

    Raises TransfuseError where it is none.
    """
    from PIL import Image

    levels, buffer = _levels(image), BytesIO()
    Image.fromarray(levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0)).save(buffer, format)
    return buffer.getvalue()


def rgb_levels(image: np.ndarray) -> np.ndarray:
    """A float image ``[1 or 3, height, width]`` in [0, 1] as uint8 ``[3, height, width]``: the levels that a file of
    it has, grey three times. Raises TransfuseError where it is none."""
    levels = _levels(image)
    return np.repeat(levels, 3, axis=0) if len(levels) == 1 else levels


def _levels(image: np.ndarray) -> np.ndarray:
    if not is_image(image):
        shape = getattr(image, "shape", type(image).__name__)
        raise TransfuseError(f"picture: an image is an array [1 or 3, height, width], not {shape}")
    return (np.nan_to_num(image, nan=0.0).clip(0, 1) * 255).round().astype(np.uint8)


def is_image(raw: Any) -> bool:
    """Whether it is an array that can be shown as a picture: ``[1 or 3, height, width]``, no side 0."""
    return isinstance(raw, np.ndarray) and raw.ndim == 3 and raw.shape[0] in (1, 3) and raw.size > 0
