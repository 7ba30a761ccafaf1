"""Anybody's mask as booleans [T, T]: a rule, an array, a function of columns, a mask_mod, a padding mask."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from transfuse.errors import TransfuseError, did_you_mean
from transfuse.masks import Columns, Mask, parse
from transfuse.masks.columns import as_array

AnyMask = Mask | str | np.ndarray | torch.Tensor | Callable[..., Any]
FORMS = "a [T, T] array (true: sees; or 0 and -inf, to be added), a [T] array, a mask_mod, or a rule"


def as_dense(mask: AnyMask, columns: Columns, name: str = "the mask") -> np.ndarray:
    """bool [T, T]: which query (row) sees which key, whatever form the mask has.

    mask: a `Mask` or its text; an array; or a function. A function's parameters are names of columns, or ``columns``
    for all of them, and it returns an array, a rule, or a mask_mod of FlexAttention, ``f(b, h, q_idx, kv_idx)``; one
    of four parameters that are no columns is a mask_mod itself. Arrays are [T, T], with any axes of 1 before, of
    booleans, of 0 and 1, or of floats to be added (0: sees); or a padding mask [T]: true or 1 for keys that all may
    see, or numbers of documents from 1 on, 0 for padding. Raises TransfuseError where it is none of them.
    """
    length = len(next(iter(columns.values())))
    if isinstance(mask, str):
        mask = parse(mask)
    if isinstance(mask, Mask):
        return mask.allowed(columns)
    if not callable(mask):
        return _array(mask, length, name)
    parameters = list(inspect.signature(mask).parameters)
    if len(parameters) == 4 and not {*parameters} & {*columns, "columns"}:
        return _mask_mod(mask, length, name)
    tensors = {key: torch.as_tensor(as_array(values)) for key, values in columns.items()}
    known = {**tensors, "columns": tensors}
    for parameter in parameters:
        if parameter not in known:
            hint = did_you_mean(parameter, columns)
            raise TransfuseError(f"{name} has a parameter {parameter!r}, which is no column here; {hint}")
    found = _called(name, mask, *(known[parameter] for parameter in parameters))
    if isinstance(found, Mask | str) or callable(found):
        return as_dense(found, columns, name)
    return _array(found, length, name)


def _mask_mod(mask_mod: Callable[..., Any], length: int, name: str) -> np.ndarray:
    at = torch.arange(length)
    found = _called(name, mask_mod, torch.tensor(0), torch.tensor(0), at[:, None], at[None])
    return _array(torch.as_tensor(found).expand(length, length), length, name)


def _called(name: str, function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except Exception as error:
        text = f"{name} raised {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise TransfuseError(f"{text}; a mask returns {FORMS}") from error


def _array(found: Any, length: int, name: str) -> np.ndarray:
    array = as_array(found)
    shape = array.shape
    while array.ndim > 1 and array.shape[0] == 1 and array.ndim != 2:
        array = array[0]
    if array.shape == (1, length) and length > 1:
        array = array[0]
    if array.shape == (length,) and array.dtype.kind in "biu":
        seen = array.astype(np.int64)
        together = (
            (seen[:, None] == seen[None]) if seen.max(initial=0) > 1 else np.ones((length, length), bool)
        )
        return together & (seen[None] > 0)
    if array.shape != (length, length) or array.dtype.kind not in "biuf":
        raise TransfuseError(
            f"{name} gave {list(shape)} of {array.dtype} for {length} positions; a mask is {FORMS}"
        )
    if array.dtype.kind == "f" and not np.isin(array, (0.0, 1.0)).all():
        return array > -1e3  # to be added to scores
    if array.dtype.kind == "f" and not array.any():
        return np.ones((length, length), bool)
    return array.astype(bool)
