"""Two masks compared: where they differ, the fewest positions on which they do, as a picture."""

from typing import Any

import numpy as np

from transfuse.errors import TransfuseError
from transfuse.masks import Columns
from transfuse.masks.columns import as_array
from transfuse.testing.masks.functions import AnyMask, as_dense


def same_mask(mine: AnyMask, theirs: AnyMask, columns: Columns) -> None:
    """Raises AssertionError with a picture where two masks, in any form of `as_dense`, differ over these columns.

    The picture is of the fewest positions on which they still differ: positions are left out one by one as long as
    they do (``idx`` and ``pos`` are counted anew; an array, or a mask_mod that knows no columns, keeps its own
    answers on those that are left).

    >>> from transfuse.testing import same_mask
    >>> columns = {"doc": [0, 0, 0, 1, 1], "idx": [0, 1, 2, 3, 4]}
    >>> same_mask("same(doc) & le(idx)", lambda doc, idx: (doc[:, None] == doc) & (idx[:, None] >= idx), columns)
    >>> same_mask("same(doc) & le(idx)", lambda idx: idx[:, None] >= idx, columns)
    Traceback (most recent call last):
    AssertionError: the masks differ in 6 of 25 pairs; on the fewest positions that show it, in 1 of 4:
    position 4 sees position 2 by theirs and not by mine
           mine  theirs
        0  #.    #.
        1  .#    !#
    columns of these positions:
      doc  0 1
      idx  0 1
    """
    arrays = {name: as_array(values) for name, values in columns.items()}
    length = len(next(iter(arrays.values())))
    first, second = _both(mine, theirs, arrays)
    if (first == second).all():
        return
    kept = _fewest(mine, theirs, arrays, np.arange(length))
    a, b = _on(mine, arrays, kept), _on(theirs, arrays, kept)
    differ = np.argwhere(a != b)
    i, j = (int(x) for x in differ[0])
    sees, not_so = ("mine", "theirs") if a[i, j] else ("theirs", "mine")
    found = [
        f"the masks differ in {int((first != second).sum())} of {length * length} pairs; on the fewest positions that "
        f"show it, in {len(differ)} of {len(kept) ** 2}:",
        f"position {kept[i]} sees position {kept[j]} by {sees} and not by {not_so}",
        *picture(a, b),
        "columns of these positions:",
        *_listed(_part(arrays, kept)),
    ]
    raise AssertionError("\n".join(found))


def picture(mine: np.ndarray, theirs: np.ndarray) -> list[str]:
    """Two masks beside each other; ``!`` in the second where they differ by more, ``o`` by less."""
    n = len(mine)
    lines = ["       " + "mine".ljust(max(n, 4)) + "  theirs"]
    for i in range(n):
        one = "".join(".#"[int(seen)] for seen in mine[i])
        two = "".join(
            ".#o!"[int(b) if a == b else 2 + int(b)] for a, b in zip(mine[i], theirs[i], strict=True)
        )
        lines.append(f"{i:5d}  {one.ljust(max(n, 4))}  {two}")
    return lines


def _both(mine: AnyMask, theirs: AnyMask, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    return as_dense(mine, columns, "mine"), as_dense(theirs, columns, "theirs")


def _fewest(mine: AnyMask, theirs: AnyMask, columns: Columns, kept: np.ndarray) -> np.ndarray:
    """A subset of the positions on which they differ, of which none can be left out; large parts are tried first."""
    size = len(kept) // 2
    while size:
        start = 0
        while start < len(kept):
            fewer = np.delete(kept, slice(start, start + size))
            if len(fewer) and _differ(mine, theirs, columns, fewer):
                kept = fewer
            else:
                start += size
        size //= 2
    return kept


def _differ(mine: AnyMask, theirs: AnyMask, columns: Columns, kept: np.ndarray) -> bool:
    try:
        return bool((_on(mine, columns, kept) != _on(theirs, columns, kept)).any())
    except TransfuseError:
        return False


def _on(mask: AnyMask, columns: Columns, kept: np.ndarray) -> np.ndarray:
    """The mask on some of the positions: asked anew where it reads columns, else a part of its answer."""
    try:
        return as_dense(mask, _part(columns, kept))
    except TransfuseError:
        return as_dense(mask, columns)[np.ix_(kept, kept)]


def _part(columns: Any, kept: np.ndarray) -> dict[str, np.ndarray]:
    part = {name: np.asarray(values)[kept] for name, values in columns.items()}
    if "idx" in part and np.array_equal(columns["idx"], np.arange(len(columns["idx"]))):
        part["idx"] = np.arange(len(kept))
    return part


def _listed(columns: dict[str, np.ndarray]) -> list[str]:
    width = max(len(name) for name in columns)
    cell = max((len(str(v)) for values in columns.values() for v in values.tolist()), default=1)
    return [
        f"  {name.ljust(width)}  {' '.join(str(v).rjust(cell) for v in values.tolist())}"
        for name, values in sorted(columns.items())
    ]
