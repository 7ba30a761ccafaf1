"""Pictures as arrays: read from a file, with a named error for all that can be wrong; and back, as bytes of one."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from transfuse.errors import TransfuseError

LARGEST_IMAGE = 4096 * 4096  # pixels, checked on the header, before anything is decoded

FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".jpf", ".jpx"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
"""The formats that are read, as Pillow calls them, and how names of their files end. The content says which it is."""
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)

Fit = Literal["stretch", "crop", "pad"]
"""How a picture becomes one of a size: its sides are scaled each by itself, or it is scaled as it is and what is too
long is cut off evenly, or what is missing is white."""
Size = tuple[int, int]
"""Height and width in pixels."""

TURNED = (5, 6, 7, 8)  # EXIF orientations under which width and height change places
ORIENTATION = 0x0112


def read_image(path: Path, channels: int, size: Size | None = None, fit: Fit = "stretch") -> np.ndarray:
    """The image as uint8 ``[channels, height, width]``, of that size if one is asked for.

    channels: 1 (grey) or 3 (RGB); whatever is transparent is laid on white. A photograph is turned as
    its EXIF orientation says. Of several frames or pages the first is read. Raises TransfuseError naming
    the file where it is of none of the ``FORMATS``, broken, truncated, or has more than 4096 x 4096 pixels.
    """
    return decode_image(path, str(path), channels, size, fit)


def decode_image(
    file: Path | BinaryIO, place: str, channels: int, size: Size | None = None, fit: Fit = "stretch"
) -> np.ndarray:
    """The same of a file or an open stream; errors name it as ``place``."""
    from PIL import Image, ImageOps

    with _opened(file, place) as opened:
        image = _eight_bit(ImageOps.exif_transpose(opened))
        if size is not None and image.size != (made := (size[1], size[0])):  # Pillow says the width first
            smooth = Image.Resampling.LANCZOS
            if fit == "crop":
                image = ImageOps.fit(image, made, smooth)
            elif fit == "pad":
                image = ImageOps.pad(image, made, smooth, color="white")
            else:
                image = image.resize(made, smooth)
        image = image.convert("L" if channels == 1 else "RGB")
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def image_size(path: Path) -> Size:
    """Height and width of what `read_image` reads of a file, from its header alone; raises as it does."""
    with _opened(path, str(path)) as opened:
        # Pillow turns a TIFF's size itself. It looks for a PNG's orientation behind its pixels, and would decode them.
        told = opened.format != "TIFF" and (opened.format != "PNG" or "exif" in opened.info)
        turned = told and opened.getexif().get(ORIENTATION) in TURNED
        return (opened.width, opened.height) if turned else (opened.height, opened.width)


@contextmanager
def _opened(file: Path | BinaryIO, place: str) -> Iterator[Any]:
    """A picture of a known format and no more pixels than allowed; any fault within is a TransfuseError."""
    from PIL import Image

    with warnings.catch_warnings():
        # Our own cap is lower than the size at which Pillow warns.
        warnings.simplefilter("ignore")
        try:
            with Image.open(file, formats=tuple(FORMATS)) as opened:
                if opened.width * opened.height > LARGEST_IMAGE:
                    raise TransfuseError(
                        f"{place}: {opened.width} x {opened.height} pixels, more than {LARGEST_IMAGE}: make it smaller"
                    )
                yield opened
        except TransfuseError:
            raise
        except OSError as error:
            if error.errno is None:  # Pillow's own
                raise _unreadable(place, error) from error
            raise TransfuseError(
                f"{place}: cannot be read ({error.strerror}): allow it, or name a file that is there"
            ) from error
        except Exception as error:  # Pillow raises OSError, ValueError, SyntaxError, struct.error, ...
            raise _unreadable(place, error) from error


def _unreadable(place: str, error: Exception) -> TransfuseError:
    return TransfuseError(
        f"{place}: not a readable image ({', '.join(FORMATS)}): {str(error)[:200]}; save it as one of these"
    )


def _eight_bit(image):
    """RGB or grey, eight bits a channel, without transparency."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("its pixels are fractions of no known range; save it with 8 or 16 bits a channel")
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
