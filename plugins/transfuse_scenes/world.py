"""What there is in a scene: shapes, colours, sizes and cells, and how it is drawn: 32×32 pixels, exactly."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float

SIDE = 32  # pixels of a picture
SUPERSAMPLED = 4  # points along a pixel's side at which a shape is in or out
BACKGROUND = 0.9
SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = {
    "red": (0.86, 0.12, 0.12), "green": (0.10, 0.62, 0.20), "blue": (0.12, 0.25, 0.85), "yellow": (0.95, 0.85, 0.10),
    "purple": (0.55, 0.15, 0.65), "cyan": (0.15, 0.80, 0.85), "orange": (0.98, 0.52, 0.08), "black": (0.08, 0.08, 0.08),
}  # fmt: skip
SIZES = {"small": 3.0, "large": 4.5}  # half extent, pixels
CENTRES = (5.5, 16.0, 26.5)  # of the cells, pixels, down and across
CELLS = 9  # three rows of three
JITTERS = (-1, 0, 1)  # pixels off the centre of a cell, down and across; no caption tells them
WINDOW = 12  # pixels of the square around a cell in which everything lies that stands in it

Pair = tuple[str, str]
"""Colour and shape."""
PAIRS: tuple[Pair, ...] = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)


@dataclass(frozen=True, order=True)
class Thing:
    """A shape in a cell. cell: 0 … 8, row by row. down, across: pixels off the cell's centre."""

    cell: int
    shape: str
    colour: str
    size: str
    down: int = 0
    across: int = 0

    @property
    def pair(self) -> Pair:
        return self.colour, self.shape

    @property
    def told(self) -> tuple[int, str, str, str]:
        """All of it that a caption can tell: jitter is left out."""
        return self.cell, self.shape, self.colour, self.size


Scene = tuple[Thing, ...]
"""Things in order of their cells, one a cell at most."""


def render(scene: Scene) -> Float[np.ndarray, "3 32 32"]:
    """The picture of a scene, float32 in [0, 1]; where neighbours touch, the later cell covers the earlier."""
    picture = np.full((3, SIDE, SIDE), BACKGROUND)
    for thing in sorted(scene):
        seen = coverage(thing.shape, thing.size, thing.cell, thing.down, thing.across)
        colour = np.array(COLOURS[thing.colour])[:, None, None]
        picture = picture * (1 - seen) + colour * seen
    return picture.astype(np.float32)


@cache
def coverage(shape: str, size: str, cell: int, down: int, across: int) -> Float[np.ndarray, "32 32"]:
    """The share of each pixel that the thing covers."""
    row, column = divmod(cell, 3)
    at = (np.arange(SIDE * SUPERSAMPLED) + 0.5) / SUPERSAMPLED
    y, x = at[:, None] - CENTRES[row] - down, at[None, :] - CENTRES[column] - across
    inside = _inside(shape, y, x, SIZES[size])
    return inside.reshape(SIDE, SUPERSAMPLED, SIDE, SUPERSAMPLED).mean((1, 3))


def _inside(shape: str, y: np.ndarray, x: np.ndarray, half: float) -> np.ndarray:
    if shape == "circle":
        return x * x + y * y <= half * half
    if shape == "square":
        return np.maximum(abs(x), abs(y)) <= 0.89 * half
    if shape == "triangle":  # on its base; as wide as high, nearly
        return (y <= 0.86 * half) & (y >= -half) & (abs(x) <= 1.08 / 1.86 * (y + half))
    narrow = 0.36 * half
    return ((abs(x) <= narrow) & (abs(y) <= half)) | ((abs(y) <= narrow) & (abs(x) <= half))


def window(cell: int) -> tuple[slice, slice]:
    """Rows and columns of the picture around a cell."""
    row, column = divmod(cell, 3)
    starts = (max(0, int(CENTRES[i] - WINDOW // 2)) for i in (row, column))
    rows, columns = (slice(start, start + WINDOW) for start in starts)
    return rows, columns
