"""Where each position of a picture lies: columns that masks may name and that may turn rotary axes (``model.rope``)."""

from collections.abc import Mapping, Sequence

import numpy as np
from transfuse.plugin import NONE, Column

PLACES: Mapping[str, Column] = {"row": Column.ID, "column": Column.ID}
"""What a modality of pictures declares as its columns."""


def places(sides: Sequence[int]) -> dict[str, np.ndarray]:
    """The row and column of each position, in row-major order, and none of the markers before and behind them.

    sides: of the grid of positions. Nothing where it has not two.
    """
    if len(sides) != len(PLACES):
        return {}
    return {
        name: np.concatenate([[NONE], axis.ravel(), [NONE]])
        for name, axis in zip(PLACES, np.indices(sides), strict=True)
    }
