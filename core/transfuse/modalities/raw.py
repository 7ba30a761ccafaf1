"""How raw data are written to files and read back: arrays and text, unless a modality has a way of its own."""

import math
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from transfuse.errors import TransfuseError
from transfuse.files import read_bytes, read_text, write_bytes

LARGEST = 256 << 20
"""Bytes of an array that are read from a file."""


class RawData:
    """What modalities and codecs share: the files of their raw data, and a place for a drawing of it.

    suffixes: of the files that it loads. Samples are written with the first; a string with ``.txt``, if that is
        among them. Where ``.txt`` is the first, raw data are text.
    round_trip_error: how far ``decode(encode(raw))`` may be from ``raw``, as a share of its spread.
    does_not: what `transfuse.testing` checks and it does not do, with the reason: ``{"round trip": "..."}``.
    """

    suffixes: tuple[str, ...] = (".npy", ".txt")
    round_trip_error: float = 1e-5
    does_not: Mapping[str, str] = {}

    def save(self, raw: Any, path: Path) -> None:
        """Write raw data in the form that the name of ``path`` ends in, one of ``suffixes``.

        Raises TransfuseError naming the file where these data have no such form, or it cannot be written.
        """
        write_bytes(path, _as_bytes(raw, path))

    def load(self, path: Path) -> Any:
        """What ``save`` wrote. Raises TransfuseError naming the file where it is missing, damaged or too large."""
        suffix = path.suffix.lower()
        if suffix == ".txt":
            return read_text(path, "text")
        if suffix == ".npy":
            return read_array(path)
        raise TransfuseError(f"{path}: give a file that ends in {' or '.join(self.suffixes)}")

    def draw(self, raw: Any) -> str | bytes | None:
        """A drawing for people, of a size that does not grow with the data: SVG as text, or a PNG as bytes.
        None: no way of its own; the command line draws arrays as lines and heat maps, and texts in words."""
        return None

    def suffix_for(self, raw: Any) -> str:
        """What the name of a file for these raw data ends in."""
        return ".txt" if isinstance(raw, str) and ".txt" in self.suffixes else self.suffixes[0]


def as_numbers(raw: Any) -> np.ndarray | None:
    """The array of booleans, integers or floats that this is, or that numpy makes of a list; None: it is none."""
    try:
        array = np.asarray(raw)
    except ValueError:  # lists of unequal length
        return None
    return array if array.dtype.kind in "biuf" else None


def _as_bytes(raw: Any, path: Path) -> bytes:
    suffix = path.suffix.lower()
    if isinstance(raw, str) and suffix == ".txt":
        try:
            # Readers take a byte order mark away: a text that begins with one gets another.
            return ("\ufeff" * raw.startswith("\ufeff") + raw).encode()
        except UnicodeEncodeError:
            raise TransfuseError(f"{path}: the text has half a surrogate pair, which UTF-8 has not") from None
    if suffix == ".npy" and (array := as_numbers(raw)) is not None:
        buffer = BytesIO()
        np.save(buffer, array, allow_pickle=False)
        return buffer.getvalue()
    raise TransfuseError(
        f"{path}: raw data of type {type(raw).__name__} are not written so; an array of numbers is written as "
        f".npy, a string as .txt, and for all else a modality has a save, load and draw of its own"
    )


def read_array(path: Path) -> np.ndarray:
    """The array of numbers in an ``.npy`` file; no pickle is read, and no more memory taken than the file has bytes.

    Raises TransfuseError naming the file where its header is none, or promises what the file does not hold.
    """
    file = BytesIO(read_bytes(path, "numeric array", LARGEST))
    try:
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = read[np.lib.format.read_magic(file)](file)
    except Exception as error:  # numpy raises what Python's tokenizer and parser do over damaged headers
        raise TransfuseError(f"{path}: is no .npy file of an array ({str(error)[:80]})") from None
    if dtype.kind not in "biuf":
        raise TransfuseError(f"{path}: holds {str(dtype)[:40]}, and only arrays of numbers are read")
    data = file.getbuffer()[file.tell() :]
    if any(size < 0 for size in shape) or len(data) != math.prod(shape) * dtype.itemsize:
        raise TransfuseError(
            f"{path}: is damaged: its header says {dtype} {str(shape)[:80]}, and {len(data)} bytes follow"
        )
    return np.frombuffer(bytearray(data), dtype).reshape(shape, order="F" if fortran else "C")
