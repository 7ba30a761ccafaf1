"""Images as arrays: read from one file or all of a folder, with a named error for all that can be wrong; and back."""

import warnings
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from transfuse.errors import TransfuseError

LARGEST_IMAGE = 4096 * 4096  # pixels, checked on the header, before anything is decoded
LARGEST_FOLDER = 4 * 2**30  # bytes of decoded pixels held in memory


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


def picture(image: np.ndarray) -> Any:
    """A Pillow image of a float image ``[1 or 3, height, width]`` in [0, 1]: clipped, NaN is black."""
    from PIL import Image

    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise TransfuseError(f"picture: an image is [1 or 3, height, width], not {image.shape}")
    levels = (np.nan_to_num(image, nan=0.0).clip(0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0))


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
