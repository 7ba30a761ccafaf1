"""Pictures back to scenes, by least squares: in each cell every shape, size, jitter, blur and colour is tried."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from jaxtyping import Float

from transfuse_scenes.world import (
    BACKGROUND,
    CELLS,
    COLOURS,
    JITTERS,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    coverage,
    render,
    window,
)

BLURS = (0.0, 0.5, 0.8, 1.1)
"""Standard deviations, in pixels: what codecs smooth is read as well."""
LEGIBLE = 0.12
"""Root mean square difference of a picture from its scene's rendering, beyond which it is not read."""
AT_ONCE = 64  # pictures


@dataclass(frozen=True)
class Reading:
    """What a picture shows. rms: how far the picture is from the rendering of that scene."""

    scene: Scene
    rms: float

    def legible(self, limit: float = LEGIBLE) -> bool:
        return self.rms <= limit


def parse(pictures: Float[np.ndarray, "n 3 32 32"], blurs: Sequence[float] = BLURS) -> list[Reading]:
    """The scene nearest to each picture, cell by cell. Of what is not finite nothing is legible."""
    return [
        reading
        for start in range(0, len(pictures), AT_ONCE)
        for reading in _parse(np.asarray(pictures[start : start + AT_ONCE], np.float64), tuple(blurs))
    ]


def _parse(pictures: np.ndarray, blurs: tuple[float, ...]) -> Iterator[Reading]:
    finite = np.isfinite(pictures.sum((1, 2, 3)))
    seen = np.where(finite[:, None, None, None], pictures, 0.0)
    colours = np.array(list(COLOURS.values())) - BACKGROUND
    scenes: list[list[Thing]] = [[] for _ in pictures]
    for cell in range(CELLS):
        rows, columns = window(cell)
        things, templates = _bank(cell, blurs)
        pixels = seen[:, :, rows, columns].reshape(len(seen), 3, -1) - BACKGROUND
        # |pixels - colour * template|^2 - |pixels|^2: below 0 where something is nearer than the empty cell.
        agreement = np.einsum("cx,nxk->nck", colours, pixels @ templates.T)
        weight = (colours**2).sum(1)[:, None] * (templates**2).sum(1)[None]
        cost = (weight - 2 * agreement).reshape(len(seen), -1)
        best = cost.argmin(1)
        for number in np.flatnonzero(cost[np.arange(len(seen)), best] < 0):
            colour, template = divmod(int(best[number]), len(things))
            shape, size, down, across = things[template]
            scenes[number].append(Thing(cell, shape, list(COLOURS)[colour], size, down, across))
    for scene, picture, whole in zip(scenes, seen, finite, strict=True):
        rms = float(np.sqrt(((picture - render(tuple(scene))) ** 2).mean())) if whole else np.inf
        yield Reading(tuple(scene), rms)


@cache
def _bank(cell: int, blurs: tuple[float, ...]) -> tuple[list[tuple[str, str, int, int]], np.ndarray]:
    """Shape, size and jitter of each template, and its coverage of the cell's window."""
    from scipy.ndimage import gaussian_filter

    rows, columns = window(cell)
    things, templates = [], []
    for blur, shape, size, down, across in product(blurs, SHAPES, SIZES, JITTERS, JITTERS):
        seen = coverage(shape, size, cell, down, across)
        templates.append((gaussian_filter(seen, blur) if blur else seen)[rows, columns].ravel())
        things.append((shape, size, down, across))
    return things, np.stack(templates)
