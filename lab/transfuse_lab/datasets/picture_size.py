"""The size that pictures are made where nobody says one: not over 128 pixels, and in squares of a power of two."""

from math import log2

from transfuse_pictures.files import Size

LARGEST = 128
"""Pixels of the longer side."""
FEWEST, SQUARES, MOST = 16, 64, 256
"""Into how many squares a picture can be divided: at least, preferably, at most."""


def size_for(height: int, width: int) -> Size:
    """The height and width nearest to a picture's that models can take.

    What is over `LARGEST` is made smaller, with the sides' ratio kept. Codecs and patchers halve a picture some times,
    so that what is left are squares of a power of two: a size that divides into 16 to 256 of them is kept, of another
    each side is rounded to whole squares, of the power of two that makes about 64.

    >>> size_for(512, 512), size_for(28, 28), size_for(70, 100), size_for(480, 640)
    ((128, 128), (28, 28), (72, 96), (96, 128))
    """
    shrunk = min(1.0, LARGEST / max(height, width))
    height, width = max(1, round(height * shrunk)), max(1, round(width * shrunk))
    sides = [2**i for i in range(LARGEST.bit_length())]
    if any(
        not (height % side or width % side) and FEWEST <= height * width / side**2 <= MOST for side in sides
    ):
        return height, width
    side = 2 ** max(0, round(log2(height * width / SQUARES) / 2))
    return max(1, round(height / side)) * side, max(1, round(width / side)) * side
