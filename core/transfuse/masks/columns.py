"""Reads a mask's columns from whatever holds them into int64 arrays of one length, or says what is wrong."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from transfuse.errors import TransfuseError, did_you_mean
from transfuse.masks.expressions import Expression, Table, atoms, reads
from transfuse.masks.text import show

Columns = Mapping[str, Any]
"""Column names to integer or boolean sequences, numpy arrays or torch tensors, all of one length."""

NONE = -1
"""The value that means "none" in columns of ids: `same` and tables never match it."""

NONE = -1
"""The value that means "none" in every id column."""

LARGEST = 2**40
"""Column values stay below this in size, so that sums and products of a few of them fit an int64."""

Arrays = dict[str, np.ndarray]


def read(expression: Expression, queries: Columns, keys: Columns | None) -> tuple[Arrays, Arrays, int, int]:
    """The columns `expression` needs of queries and keys as int64, and the two lengths Tq and Tk.

    Raises TransfuseError for a missing, ragged, non-integer or too large column, and for a value outside the
    table that reads it.
    """
    of_queries, of_keys = reads(expression)
    if keys is not None:
        q, rows = _side(expression, of_queries, queries, "queries")
        k, cols = _side(expression, of_keys, keys, "keys")
    else:
        q, rows = _side(expression, of_queries | of_keys, queries, "positions")
        k, cols = q, rows
    for atom in atoms(expression):
        if isinstance(atom, Table):
            _within(atom.column, q[atom.column], len(atom.rows), "query")
            _within(atom.column, k[atom.column], len(atom.rows[0]), "key")
    return q, k, rows, cols


def _side(expression: Expression, names: Iterable[str], columns: Columns, what: str) -> tuple[Arrays, int]:
    arrays = {name: column(expression, name, columns, what) for name in sorted(names)}
    if not arrays:
        if not len(columns):
            what = f"the {what} have no columns, so their number is unknown"
            raise TransfuseError(f"mask {show(expression)}: {what}")
        return {}, len(next(iter(columns.values())))
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise TransfuseError(f"mask {show(expression)}: columns of the {what} differ in length: {lengths}")
    return arrays, next(iter(lengths.values()))


def column(expression: Expression, name: str, columns: Columns, what: str) -> np.ndarray:
    """One column as int64 [T]; TransfuseError if it is missing or is not a row of integers or booleans."""
    if name not in columns:
        raise TransfuseError(
            f"mask {show(expression)}: the {what} have no column {name!r} ({did_you_mean(name, columns)}; "
            f"they have: {', '.join(sorted(columns)) or 'none'})"
        )
    array = as_array(columns[name])
    if array.ndim != 1:
        raise TransfuseError(f"mask {show(expression)}: column {name!r} has {array.ndim} axes, not 1")
    if array.dtype.kind not in "iub" and array.size:
        what = f"{array.dtype}, not integers or booleans"
        raise TransfuseError(f"mask {show(expression)}: column {name!r} holds {what}")
    array = np.asarray(array, np.int64)
    if array.size and (array.max() >= LARGEST or array.min() <= -LARGEST):
        raise TransfuseError(f"mask {show(expression)}: column {name!r} holds values of 2^40 or more in size")
    return array


def as_array(values: Any) -> np.ndarray:
    """Any sequence, array or torch tensor (on any device) as a numpy array."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values)


def _within(name: str, array: np.ndarray, size: int, side: str) -> None:
    outside = np.flatnonzero((array < NONE) | (array >= size))
    if outside.size:
        at = int(outside[0])
        raise TransfuseError(
            f"table({name}): the value {int(array[at])} of column {name!r} at {side} {at} is outside the "
            f"table's 0…{size - 1} (−1 means none)"
        )
