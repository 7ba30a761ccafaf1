"""What a mask must not do in training: show a token to its predictor, or documents of a row to each other."""

from collections.abc import Mapping

import numpy as np

from transfuse.errors import TransfuseError
from transfuse.masks import Mask, separate
from transfuse.sequences.rows import Row


def check_leak(mask: Mask, row: Row) -> None:
    """Refuse a mask under which a position sees the very token it is to predict, at once or over layers.

    Raises TransfuseError naming the first such position: the loss would fall to 0 and mean nothing.
    """
    targets = np.flatnonzero(row.targets >= 0)
    intervals = mask.intervals(row.columns)
    for source, start, stop in zip(row.sources, row.bounds, row.bounds[1:], strict=False):
        own = [int(i) for i in targets[(targets >= start) & (targets < stop)]]
        for i in own:
            if any(first <= i + 1 < last for first, last in intervals[i]):
                raise _leak(mask, source, i - start, "sees")
        if stop - start <= CLOSURE:
            through = _through(mask, {name: column[start:stop] for name, column in row.columns.items()})
            for i in own:
                if through[i - start, i + 1 - start]:
                    raise _leak(mask, source, i - start, "sees, through position after position,")


def check_separate(mask: Mask, row: Row) -> None:
    """Raises TransfuseError where documents of the row see each other: which are packed together is chance."""
    if not separate(mask, {name: column[: row.used] for name, column in row.columns.items()}):
        raise TransfuseError(
            f"mask {mask}: documents that are packed into one row see each other; write mask: same(doc) & ({mask}), or "
            f"say crossing: true in the recipe if they shall"
        )


CLOSURE = 2048
"""Documents of more positions are checked for direct leaks only: the closure takes their cube."""


def _through(mask: Mask, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which position sees which over any number of layers: the closure of the mask."""
    seen = mask.allowed(columns).astype(np.float32)
    while True:
        further = np.minimum(seen + seen @ seen, 1)
        if (further == seen).all():
            return seen > 0
        seen = further


def _leak(mask: Mask, source: str, i: int, how: str) -> TransfuseError:
    return TransfuseError(
        f"mask {mask}: {source}: position {i} {how} position {i + 1}, the token it is to predict; "
        f"next-token modalities need a causal mask among their own positions"
    )
